"""The poems that ship: counts, forms, splits and script, and what the builder makes of a broken entry."""

import re
from collections import Counter
from pathlib import Path

import pytest
from pyarrow import parquet

from aigc_helpers.files import sha256_of
from aigc_helpers.pretrain.datasets import poems

FOLDER = Path(__file__).resolve().parents[1] / "data" / "poems"
COUNTS = {"tang": 49_866, "song": 40_000, "ci": 7_013}
PUNCTUATION = re.compile("[，。？！；：、\n]")
# The four tunes of the adapters: how many poems at least, in which form, in what share at least.
TUNES = {
    "浣溪沙": (740, "7-7-7-7-7-7", 0.97),
    "菩萨蛮": (570, "7-7-5-5-5-5-5-5", 0.99),
    "西江月": (465, "6-6-7-6-6-6-7-6", 0.97),
    "鹧鸪天": (620, "7-7-7-7-3-3-7-7-7", 0.98),
}
# The commonest characters whose simplified form differs, as they would stand in a poem that was not converted.
TRADITIONAL = set(
    "風來無時雲為萬歸處長見門東塵華聲鳥馬詩說語誰還過遠飛開間關陰陽難頭題願顏馮魚鳳鴻鶴麗黃齊龍樹樂歡歲歷氣漢淚滿漁濕煙燈爭獨畫盡盤禮稱穀窮筆紅純"
    "紙細終結絕經綠線緣縣總織繡罷羅義聖聞聽腸與興舊葉蓮蘭蟲裏裡覺親觀許詞試話該詳誇請論識讀變讓豈貧財貴買賢質贈趙輕輪轉農進遊運遙遲適選邊鄉釣銀錢"
    "鐵鏡鐘閉閑閣陳陸際隨雖雙離雞電靈靜頂順領顧餘館驚髮鬢鴛鴦鷗麥點黨齒龜國學書會對當將專尋導層嶺師帶帳幾庫廟廣張彈從復徑惱愛態慮應懷戰戲執掃採搖"
    "擁據擇擊攜數斷暫曆條棲楊業極榮樓機檢權殘殺決況淺淨渾滅濁瀟災爐爾狀猶獸獻環産異療發皺監盧眾睏矯碩確祿禍種積穩競筍節範籬絲繞纔羣聯職肅脫舉艱莊"
    "葦蒼蓋薦虛蝦術衛補裝"
)


@pytest.fixture(scope="module")
def tables():
    return {source: parquet.read_table(FOLDER / f"{source}.parquet").to_pydict() for source in COUNTS}


def column(tables, name):
    return [value for table in tables.values() for value in table[name]]


def test_counts_and_columns(tables):
    assert {source: len(table["id"]) for source, table in tables.items()} == COUNTS
    assert all(tuple(table) == poems.COLUMNS for table in tables.values())
    ids = column(tables, "id")
    assert len(set(ids)) == len(ids)
    assert all(column(tables, "author")) and all(column(tables, "form"))
    assert set(tables["tang"]["dynasty"]) == {"唐"}
    assert set(tables["song"]["dynasty"]) == set(tables["ci"]["dynasty"]) == {"宋"}


def test_files_stay_within_their_share_of_data():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.parquet")) <= 9 * 2**20


def test_card_names_each_file_with_its_hash():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for source in COUNTS:
        assert f"| `{source}.parquet` | {COUNTS[source]:,} " in card
        assert sha256_of(FOLDER / f"{source}.parquet") in card
    assert poems.PACKAGE_SHA256 in card and "MIT" in card


@pytest.mark.parametrize("tune", TUNES)
def test_tunes_keep_their_form(tables, tune):
    least, form, share = TUNES[tune]
    lengths = Counter(
        length for name, length in zip(tables["ci"]["form"], tables["ci"]["line_lengths"], strict=True) if name == tune
    )
    assert lengths.total() >= least
    assert lengths[form] >= share * lengths.total()


def test_line_lengths_are_those_of_the_text(tables):
    # Every fifth will do: a fault in the rule would show in all of them.
    for text, lengths in list(zip(column(tables, "text"), column(tables, "line_lengths"), strict=True))[::5]:
        assert lengths == "-".join(str(len(line) - line.count("、") - 1) for line in text.split("\n"))


def test_regular_marks_shi_of_five_or_seven_characters_and_nothing_else(tables):
    for source in ("tang", "song"):
        table = tables[source]
        for form, lengths, regular in zip(table["form"], table["line_lengths"], table["regular"], strict=True):
            numbers = lengths.split("-")
            alike = len(set(numbers)) == 1
            assert regular == (alike and numbers[0] in "57" and len(numbers) % 2 == 0)
            assert (form == "五言") == (alike and numbers[0] == "5")
            assert (form == "七言") == (alike and numbers[0] == "7")
    assert sum(tables["tang"]["regular"]) >= 45_000
    assert sum(tables["song"]["regular"]) >= 36_000


def test_no_poem_twice_and_none_in_two_splits(tables):
    seen = Counter(re.sub(PUNCTUATION, "", text) for text in column(tables, "text"))
    assert [text for text, times in seen.items() if times > 1] == []
    shares = Counter(column(tables, "split"))
    assert shares.keys() == {"train", "validation", "test"}
    assert shares["train"] == pytest.approx(0.9 * shares.total(), rel=0.01)
    assert shares["validation"] == pytest.approx(0.05 * shares.total(), rel=0.05)
    assert shares["test"] == pytest.approx(0.05 * shares.total(), rel=0.05)


def test_poems_with_the_same_first_line_share_a_split(tables):
    first_lines = [re.sub(PUNCTUATION, "", text.split("\n", 1)[0]) for text in column(tables, "text")]
    pairs = set(zip(first_lines, column(tables, "split"), strict=True))
    assert len(pairs) == len(set(first_lines))
    assert len(pairs) < len(first_lines)  # some lines do open several poems


def test_every_tune_has_all_three_splits(tables):
    seen = Counter(zip(tables["ci"]["form"], tables["ci"]["split"], strict=True))
    for tune in set(tables["ci"]["form"]):
        assert seen[tune, "train"] >= 100 and seen[tune, "validation"] >= 4 and seen[tune, "test"] >= 4, tune


def test_characters_are_simplified(tables):
    everything = "".join(column(tables, "text") + column(tables, "title") + column(tables, "author"))
    assert TRADITIONAL & set(everything) == set()
    # The simplified standard of 1980 holds all but rare characters; an unconverted poem would fall far short.
    text = "".join(column(tables, "text"))
    inside = text.encode("gb2312", "ignore").decode("gb2312")
    assert len(inside) > 0.994 * len(text)


def test_texts_hold_verse_and_nothing_else(tables):
    line = f"[{poems._HAN}、]+[，。？！；：]"
    poem = re.compile(f"{line}(\n{line})*")
    assert [text for text in column(tables, "text") if not poem.fullmatch(text)] == []


def test_split_column_is_what_the_rule_says(tables):
    texts, splits = tables["ci"]["text"], tables["ci"]["split"]
    assert [poems.split_of(text) for text in texts] == splits


def test_a_poem_of_a_well_known_hand_is_there(tables):
    place = tables["ci"]["text"].index(
        "一曲新词酒一杯。\n去年天气旧亭台。\n夕阳西下几时回。\n无可奈何花落去，\n似曾相识燕归来。\n小园香径独徘徊。"
    )
    assert (tables["ci"]["author"][place], tables["ci"]["form"][place]) == ("晏殊", "浣溪沙")


@pytest.mark.parametrize(
    ("paragraphs", "fault"),
    [
        (["空。"], "no text"),
        ([], "no text"),
        (["白日依山□，黄河入海流。", "欲穷千里目，更上一层楼。"], "unreadable"),
        (["白日依山\ue829，黄河入海流。", "欲穷千里目，更上一层楼。"], "unreadable"),
        (["白日依山け，黄河入海流。", "欲穷千里目，更上一层楼。"], "unreadable"),
        (["白日依山盡（一作「近」），黄河入海流。", "欲穷千里目，更上一层楼。"], "brackets"),
        (["白日依山尽，，黄河入海流。", "欲穷千里目，更上一层楼。"], "punctuation"),
        (["白日依山尽，黄河入海流。", "欲穷千里目，更上一层楼"], "punctuation"),
        (["白日依山尽，黄河入海流。"], "fragment"),
        (["白日依山尽黄河入海流欲穷千里目，更上一层楼。", "白日依山尽，黄河入海流。"], "more than twelve"),
    ],
)
def test_what_does_not_parse_is_named(paragraphs, fault):
    lines, reason = poems.verse_lines(paragraphs)
    assert lines == [] and fault in reason


def test_what_parses_is_split_into_lines():
    lines, reason = poems.verse_lines(["白日依山尽，黄河入海流。", "欲穷、千里目，更上一层楼。"])
    assert (lines, reason) == (["白日依山尽，", "黄河入海流。", "欲穷、千里目，", "更上一层楼。"], "")
