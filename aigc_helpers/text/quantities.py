"""The things of the translation grammar, with the Chinese measure word that each demands: 三杯茶, 三本书, 三匹马."""

from __future__ import annotations

from typing import NamedTuple


class Noun(NamedTuple):
    """An English noun in both numbers, and its Chinese with the measure word in front."""

    singular: str
    plural: str
    chinese: str


def _nouns(text: str) -> list[Noun]:
    """Read ``book books 本书``, one noun after another."""
    words = text.split()
    return [Noun(*words[start : start + 3]) for start in range(0, len(words), 3)]


def _stuffs(text: str) -> list[Noun]:
    """Read ``tea 茶``, one after another: what is measured has no other number."""
    words = text.split()
    return [Noun(words[start], words[start], words[start + 1]) for start in range(0, len(words), 2)]


TIME_SPANS = _nouns(
    "minute minutes 分钟 hour hours 个小时 day days 天 week weeks 个星期 month months 个月 year years 年"
)

COUNTED = _nouns(
    "person people 个人 student students 个学生 friend friends 个朋友 apple apples 个苹果 orange oranges 个橙子 "
    "egg eggs 个鸡蛋 city cities 个城市 book books 本书 magazine magazines 本杂志 dictionary dictionaries 本词典 "
    "cat cats 只猫 bird birds 只鸟 sheep sheep 只羊 dog dogs 条狗 fish fish 条鱼 river rivers 条河 road roads 条路 "
    "skirt skirts 条裙子 horse horses 匹马 cow cows 头牛 car cars 辆汽车 bicycle bicycles 辆自行车 train trains 列火车 "
    "ship ships 艘船 aeroplane aeroplanes 架飞机 table tables 张桌子 map maps 张地图 ticket tickets 张票 "
    "chair chairs 把椅子 umbrella umbrellas 把雨伞 key keys 把钥匙 shirt shirts 件衬衫 coat coats 件大衣 "
    "letter letters 封信 flower flowers 朵花 tree trees 棵树 mountain mountains 座山 bridge bridges 座桥 "
    "computer computers 台电脑 television televisions 台电视 phone phones 部手机 film films 部电影 pen pens 支笔 "
    "room rooms 间房间 hat hats 顶帽子 hospital hospitals 家医院 shop shops 家商店 poem poems 首诗 song songs 首歌"
)

MEASURED = [
    (Noun("cup", "cups", "杯"), _stuffs("tea 茶 coffee 咖啡 milk 牛奶 water 水 juice 果汁")),
    (Noun("bottle", "bottles", "瓶"), _stuffs("water 水 beer 啤酒 wine 葡萄酒 juice 果汁 milk 牛奶 vinegar 醋")),
    (Noun("bowl", "bowls", "碗"), _stuffs("rice 米饭 soup 汤 noodles 面条 porridge 粥")),
    (Noun("box", "boxes", "盒"), _stuffs("chocolate 巧克力 tea 茶 sweets 糖果 medicine 药")),
    (Noun("bag", "bags", "袋"), _stuffs("rice 大米 flour 面粉 sugar 糖 salt 盐 potatoes 土豆")),
    (Noun("piece", "pieces", "块"), _stuffs("cake 蛋糕 chocolate 巧克力 bread 面包 meat 肉 cloth 布")),
    (Noun("kilogram", "kilograms", "公斤"), _stuffs("apples 苹果 rice 大米 meat 肉 sugar 糖 potatoes 土豆 fish 鱼")),
    (Noun("pair", "pairs", "双"), _stuffs("shoes 鞋 socks 袜子 chopsticks 筷子 gloves 手套")),
    (Noun("sheet", "sheets", "张"), _stuffs("paper 纸")),
]
