# %% [markdown] lang="en"
# # 01 · What AIGC is
#
# {{badge}}
#
# **What you will be able to do:** say what "generating" means, and tell it from looking things up; train a GAN, a
# language model and a diffusion model on the same 96 pictures, each in seconds, and see how each one fails; say where
# a LoRA sits in them; put together a whole AIGC system in miniature; and ask the right questions about licences,
# watermarks, bias and copyright, with a measurement for each.
#
# | | both profiles |
# |---|---|
# | time | under 3 minutes on two CPU cores |
# | memory | 0.8 GB |
# | download | none once the workbook is set up |
#
# AIGC stands for *AI-generated content*: texts, pictures, sound made by a model. You need Python, and chapter 00.
# Words set as links are explained in the [glossary](GLOSSARY.md#generator).

# %% [markdown] lang="zh"
# # 01 · 什么是 AIGC
#
# {{badge}}
#
# **学完本章，你能够：** 说清“生成”是什么意思，它和“查表”有何不同；用同样的 96 张图分别训练一个 GAN、一个语言模型、
# 一个扩散模型，每个只要几秒，并亲眼看到它们各自怎么失败；说出 LoRA 装在哪里；搭出一个完整的微型 AIGC 系统；
# 面对许可证、水印、偏见和版权，能提出对的问题，并且各做一次测量。
#
# | | 两种配置相同 |
# |---|---|
# | 时间 | 两个 CPU 核心不到 3 分钟 |
# | 内存 | 0.8 GB |
# | 下载 | 装好本书之后不再需要 |
#
# AIGC 指 *AI-generated content*，即由模型生成的内容：文字、图片、声音。需要会 Python，并读过第 00 章。
# 带链接的词在[术语表](../GLOSSARY.md#generator)里有解释。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · Drawing from a distribution, not looking up
#
# Our world is small enough to be known in full: black-and-white pictures of 6 × 6 pixels with one of eight shapes of
# 3 × 3 at any place. A picture is *valid* if it is one of these, and there are exactly 128. A model is shown 96 of
# them; 32 are kept from it.

# %% [markdown] lang="zh"
# ## 1 · 从分布中抽取，而不是查表
#
# 我们的世界小到可以一览无余：6 × 6 像素的黑白图，里面有八种 3 × 3 形状之一，放在任意位置。属于这一类的图叫*合格*，
# 总共恰好 128 张。给模型看其中 96 张，另外 32 张藏起来。

# %% tags=["nbval-check-output"]
import torch

from aigc_helpers.notebook import expect, expect_close, expect_equal

side, tile = 6, 3
shapes = {
    "ring": "###/#.#/###", "plus": ".#./###/.#.", "cross": "#.#/.#./#.#",
    "T": "###/.#./.#.", "L": "#../#../###", "U": "#.#/#.#/###",
    "Z": "##./.#./.##", "H": "#.#/###/#.#",
}  # fmt: skip
print(*shapes["plus"].split("/"), sep="\n")


# %%
def from_rows(rows):
    return torch.tensor([[mark == "#" for mark in row] for row in rows]).float()


def everywhere(shape):
    places = [(y, x) for y in range(side - tile + 1) for x in range(side - tile + 1)]
    pictures = torch.zeros(len(places), side, side)
    for picture, (y, x) in zip(pictures, places, strict=True):
        picture[y : y + tile, x : x + tile] = from_rows(shape.split("/"))
    return pictures


# %% tags=["nbval-check-output"]
members = torch.cat([everywhere(shape) for shape in shapes.values()])
kinds = [kind for kind in shapes for _ in everywhere(shapes[kind])]
shuffled = torch.randperm(len(members), generator=torch.Generator().manual_seed(0))
seen, hidden = members[shuffled[:96]], members[shuffled[96:]]
print(f"{len(members)} valid pictures among 2^{side * side} = {2 ** (side * side):,}")
expect_equal((len(seen), len(hidden)), (96, 32), "shown and hidden")

# %%
from aigc_helpers.figures import show_pictures


def show_drawn(pictures, names, alt_en, alt_zh):
    framed = {}
    for name, one in zip(names, pictures, strict=True):
        one = torch.nn.functional.pad(1 - one.clamp(0, 1), (1, 1, 1, 1), value=0.7)
        framed[name] = one[:, :, None].expand(-1, -1, 3)
    show_pictures(framed, alt_en, alt_zh, columns=8)


alt_en, alt_zh = "The eight shapes, one picture each.", "八种形状，各一张图。"
show_drawn(members[5::16], list(shapes), alt_en, alt_zh)

# %% [markdown] lang="en"
# Now a judge. For what a model has drawn it counts the share of valid pictures, with a 95 %
# [confidence interval](GLOSSARY.md#confidence-interval); how many of the 8 kinds and of the 128 pictures occur; and
# the share of pictures that are valid *and* were never shown. A pixel counts as black if it is darker than 0.5.
#
# **Predict:** the cheapest "generator" picks one of the 96 shown pictures at random. What will the judge say of it?

# %% [markdown] lang="zh"
# 再来一个裁判。对模型画出的图，它统计：合格的比例，附 95 % [置信区间](../GLOSSARY.md#confidence-interval)；
# 8 种形状出现了几种，128 张图出现了几张；以及合格*而且*从没给模型看过的比例。像素深于 0.5 算黑。
#
# **先猜一猜：** 最省事的“生成器”，就是从看过的 96 张里随便挑一张。裁判会怎么评？

# %%
from aigc_helpers.metrics import wilson_interval


def key(picture):
    return tuple((torch.as_tensor(picture) > 0.5).flatten().int().tolist())


kind_of = {key(picture): kind for picture, kind in zip(members, kinds, strict=True)}
shown = {key(picture) for picture in seen}


# %%
def judge(pictures):
    keys = [key(picture) for picture in pictures]
    valid = [one for one in keys if one in kind_of]
    new = sum(one not in shown for one in valid)
    return {
        "valid": wilson_interval(len(valid), len(keys)),
        "kinds": len({kind_of[one] for one in valid}),
        "pictures": len(set(valid)),
        "new": wilson_interval(new, len(keys)),
    }  # fmt: skip


# %% tags=["nbval-check-output"]
from transformers import set_seed

set_seed(0)
results = {"lookup": judge(seen[torch.randint(96, (400,))])}
noise = judge(torch.rand(400, side, side))
expect_equal(results["lookup"]["valid"].mean, 1.0, "lookup: share of valid pictures")
expect_equal(results["lookup"]["new"].mean, 0.0, "lookup: share of new ones")
expect_equal(noise["valid"].mean, 0.0, "pixels tossed like coins: share of valid pictures")

# %% [markdown] lang="en"
# Looking up is always right and never new. Tossing each pixel is always new and never right. Generating lies between:
# to learn a *distribution* from examples, and to draw from it. The three families that follow differ in how they hold
# that distribution. The network is the same plain one each time, three layers; so is the data.

# %% [markdown] lang="zh"
# 查表永远对，但永远没有新东西；逐个像素掷硬币，永远是新的，但永远不对。生成介于两者之间：从样本中学到一个*分布*，再从中抽取。
# 下面三个家族的区别，在于怎么表示这个分布。网络每次都是同样朴素的三层，数据也一样。


# %% tags=["nbval-check-output"]
from torch import nn


def new_network(inputs, outputs, width):
    layers = [nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def count_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


pixels = side * side
size = count_parameters(new_network(8, pixels, 64))
print(f"{size:,} parameters from 8 random numbers to a picture")

# %% [markdown] lang="en"
# ## 2 · Family one: a GAN
#
# A [GAN](GLOSSARY.md#gan) is two networks ([Goodfellow and others, 2014](REFERENCES.md#gan)). The generator turns 8
# random numbers into the 36 pixels, all at once. The discriminator is given pictures and says which were shown and which
# made up. Each learns from the other. A little noise on what the discriminator sees keeps it from winning at once.
#
# **Predict:** nothing in this game asks the generator for *all* shapes. How many of the eight will it learn?

# %% [markdown] lang="zh"
# ## 2 · 第一个家族：GAN
#
# [GAN](../GLOSSARY.md#gan) 是两个网络（[Goodfellow 等，2014](../REFERENCES.md#gan)）。生成器把 8 个随机数一次变成 36 个像素；
# 判别器看图，说出哪些是真给的、哪些是编的。两者互相学习。给判别器看的图里加一点噪声，免得它一上来就赢定了。
#
# **先猜一猜：** 这场游戏从没要求生成器画出*所有*形状。八种里它会学会几种？

# %%
from torch.nn.functional import softplus

set_seed(0)
generator, discriminator = new_network(8, pixels, 64), new_network(pixels, 1, 64)
optimizers = [
    torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.99))
    for network in (generator, discriminator)
]


def score(pictures):
    return discriminator(pictures + 0.3 * torch.randn_like(pictures))


# %%
def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


for _ in range(1500):
    real = seen[torch.randint(96, (64,))].flatten(1)
    made = generator(torch.randn(64, 8)).sigmoid()
    # softplus(-s) = -ln sigmoid(s): the score of real ones goes up, of made ones down ...
    step(optimizers[1], (softplus(-score(real)) + softplus(score(made.detach()))).mean())
    step(optimizers[0], softplus(-score(made)).mean())  # ... and the generator's up


# %% tags=["nbval-check-output"]
def draw_gan(spread=1.0, count=400):
    with torch.no_grad():
        return generator(spread * torch.randn(count, 8)).sigmoid().view(-1, side, side)


set_seed(1)
by_gan = draw_gan()
results["GAN"] = judge(by_gan)
expect(results["GAN"]["kinds"], 0, 6, "GAN: kinds, of 8")
expect(results["GAN"]["pictures"], 0, 40, "GAN: different valid pictures, of 128")
alt_en = "Sixteen draws by the GAN: a few pictures over and over, some half drawn."
alt_zh = "GAN 画的十六张：翻来覆去就那几张，还有画到一半的。"
show_drawn(by_gan[:16], [f"GAN {n}" for n in range(16)], alt_en, alt_zh)

# %% [markdown] lang="en"
# The same few pictures again and again, and half-drawn ones on the way from one to the next: this is
# [mode collapse](GLOSSARY.md#mode-collapse). The generator has found what passes, and there is no reward for variety. Large GANs need many tricks against it. They are still the
# fastest family: one call of the network per picture.
#
# ## 3 · Family two: a language model
#
# Write the picture as a text, row by row, and it is a case for [autoregression](GLOSSARY.md#autoregression): give
# every character a probability given all before it, draw one, append it, ask again.

# %% [markdown] lang="zh"
# 翻来覆去就那几张，中间还夹着画到一半的：这就是[模式崩塌](../GLOSSARY.md#mode-collapse)。生成器找到了能过关的图，而花样多并没有奖励。
# 大型 GAN 要用许多技巧来对付它。不过它仍是最快的家族：一张图只调用一次网络。
#
# ## 3 · 第二个家族：语言模型
#
# 把图一行行写成文字，就轮到[自回归](../GLOSSARY.md#autoregression)上场了：在前文给定的条件下，算出下一个字符各自的概率，
# 抽一个，接上去，再问下一个。

# %%
alphabet = "\n.#"


def as_text(picture):
    rows = ["".join(".#"[int(pixel > 0.5)] for pixel in row) for row in picture]
    return "\n".join(rows) + "\n\n"


def as_pictures(texts):
    pictures = torch.zeros(len(texts), side, side)  # what is no picture stays blank
    for number, text in enumerate(texts):
        rows = text.strip("\n").split("\n")
        if [len(row) for row in rows] == [side] * side:
            pictures[number] = from_rows(rows)
    return pictures


# %% tags=["nbval-check-output"]
length = len(as_text(seen[0]))
print(as_text(seen[0]))
expect_equal(length, 43, "characters per picture: 36 pixels, 7 ends of lines")
expect_equal(torch.equal(as_pictures([as_text(seen[0])])[0], seen[0]), True, "and back")

# %% [markdown] lang="en"
# The network sees the last 43 characters, one of three marks each, and gives three scores for the next. The text it
# learns from is 3,000 of the shown pictures in a row. The loss is −ln of the probability of the right character, as in
# every language model ([GPT-2](REFERENCES.md#gpt-2) included).

# %% [markdown] lang="zh"
# 网络看到前面 43 个字符（每个是三种符号之一），给出下一个字符的三个得分。学习用的文本，是把 3,000 张看过的图接成一串。
# 损失是“正确字符概率”的 −ln，所有语言模型都一样（[GPT-2](../REFERENCES.md#gpt-2) 也不例外）。


# %%
def train(network, loss_of_a_batch, steps, rate=3e-3):
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        step(optimizer, loss_of_a_batch())
        plan.step()


set_seed(0)
codes = torch.tensor([[alphabet.index(mark) for mark in as_text(one)] for one in seen])
stream = codes[torch.randint(96, (3000,))].flatten()
as_numbers = torch.eye(3)  # one-hot: a 1 at the place of the mark

# %%
from torch.nn.functional import cross_entropy

writer = new_network(3 * length, 3, 128)


def next_character_loss():
    starts = torch.randint(len(stream) - length - 1, (256,))
    windows = stream[starts[:, None] + torch.arange(length)]
    return cross_entropy(writer(as_numbers[windows].flatten(1)), stream[starts + length])


train(writer, next_character_loss, steps=1500)

# %% [markdown] lang="en"
# To draw, start from a shown picture as the prompt, and let it write on for 43 characters. **Temperature** divides
# the scores: at 1 we draw by the learnt probabilities, at 0 always take the likeliest.

# %% [markdown] lang="zh"
# 抽取时，拿一张看过的图当提示词，让它往下写 43 个字符。**温度**是得分的除数：等于 1，按学到的概率抽；等于 0，永远取最可能的。


# %%
@torch.no_grad()
def write(temperature, count=400, pictures=1):
    text = codes[torch.randint(96, (count,))]
    for _ in range(pictures * length):
        scores = writer(as_numbers[text[:, -length:]].flatten(1))
        drawn = scores.argmax(1, keepdim=True)
        if temperature:
            drawn = torch.multinomial((scores / temperature).softmax(1), 1)
        text = torch.cat([text, drawn], dim=1)
    rows = text[:, length:].reshape(-1, length).tolist()
    return as_pictures(["".join(alphabet[code] for code in row) for row in rows])


# %% tags=["nbval-check-output"]
set_seed(1)
results["language model"] = judge(write(temperature=1.0))
expect(results["language model"]["valid"].mean, 0.4, 0.85, "share of valid pictures")
expect(results["language model"]["kinds"], 7, 8, "kinds, of 8")
expect(results["language model"]["new"].mean, 0.01, 0.2, "valid, and never shown")

# %% [markdown] lang="en"
# All kinds, and some pictures that nobody showed it: it put a shape that it knows at a place that it knows. That is
# what a lookup cannot do.
#
# **Predict:** now always the likeliest character, twelve pictures in a row. How many different ones are among the last ten?

# %% [markdown] lang="zh"
# 各种形状都有，还有几张谁也没给它看过：它把认识的形状放到了认识的位置。这正是查表做不到的。
#
# **先猜一猜：** 现在每次都取最可能的字符，连写十二张。后十张里会有几种不同的？

# %% tags=["nbval-check-output"]
set_seed(3)
likeliest = write(temperature=0, count=1, pictures=12)
drawn = write(temperature=1.0, count=1, pictures=12)
expect(
    len({key(one) for one in likeliest[2:]}), 1, 5, "different pictures among the last 10"
)
expect(len({key(one) for one in drawn[2:]}), 5, 10, "and with temperature 1")
alt_en = "Upper row: the same pictures in turn. Lower row, temperature 1: all different."
alt_zh = "上排：几张图轮流重复。下排温度为 1：各不相同，有几张不合格。"
names = [f"T=0, no. {n}" for n in range(5, 13)] + [f"T=1, no. {n}" for n in range(5, 13)]
show_drawn([*likeliest[4:], *drawn[4:]], names, alt_en, alt_zh)

# %% [markdown] lang="en"
# [Repetition](GLOSSARY.md#repetition): the likeliest leads back to itself, and the model is caught in a loop. Large
# models do the same with whole sentences ([Holtzman and others](REFERENCES.md#top-p)). The cure is to draw; the price
# is that now and then an unlikely character is drawn, and one wrong pixel spoils the picture.
#
# ## 4 · Family three: a diffusion model
#
# A [diffusion model](GLOSSARY.md#diffusion-model) works on all pixels at once, but in several rounds
# ([DDPM](REFERENCES.md#ddpm), [DDIM](REFERENCES.md#ddim)). In training, mix a picture with noise, at a random *level*
# from 0 to 1, and let the network guess the clean picture. White is −1 here and black 1.

# %% [markdown] lang="zh"
# 这就是[重复](../GLOSSARY.md#repetition)：最可能的又绕回自己，模型掉进了循环。大模型会整句整句地这样重复
# （[Holtzman 等](../REFERENCES.md#top-p)）。办法是抽取；代价是偶尔会抽到不太可能的字符，错一个像素，整张图就废了。
#
# ## 4 · 第三个家族：扩散模型
#
# [扩散模型](../GLOSSARY.md#diffusion-model)一次处理全部像素，但要反复几轮
# （[DDPM](../REFERENCES.md#ddpm)、[DDIM](../REFERENCES.md#ddim)）。训练时，把图与噪声按随机的*程度*（0 到 1）混合，
# 让网络猜出干净的图。这里白是 −1，黑是 1。


# %%
def mix(clean, noise, level):
    angle = level * torch.pi / 2  # cos² + sin² = 1 keeps the variance
    return angle.cos() * clean + angle.sin() * noise


set_seed(0)
example = seen[:1].flatten(1) * 2 - 1
levels = torch.linspace(0, 1, 8)[:, None]
noisy = (mix(example, torch.randn_like(example), levels) + 1) / 2
alt_en, alt_zh = "A picture drowning in noise.", "一张图渐渐淹没在噪声里。"
names = [f"level {level:.2f}" for level in levels.flatten().tolist()]
show_drawn(noisy.view(-1, side, side), names, alt_en, alt_zh)

# %%
from torch.nn.functional import mse_loss


def loss_on(pictures, network):
    clean = pictures[torch.randint(len(pictures), (128,))].flatten(1) * 2 - 1
    level = torch.rand(128, 1)
    noisy = mix(clean, torch.randn_like(clean), level)
    return mse_loss(network(torch.cat([noisy, level], dim=1)), clean)


painter = new_network(pixels + 1, pixels, 256)
train(painter, lambda: loss_on(seen, painter), steps=4000)

# %% [markdown] lang="en"
# To draw, begin with noise alone. In each round guess the clean picture, work out which noise that leaves, and mix the
# two again at a slightly lower level.

# %% [markdown] lang="zh"
# 抽取时，从纯噪声出发。每一轮先猜干净的图，由此算出剩下的噪声是什么，再把两者按稍低的程度重新混合。


# %%
@torch.no_grad()
def denoise(network, rounds, count=400):
    picture = torch.randn(count, pixels)
    levels = torch.linspace(1, 0, int(rounds) + 1)
    for level, lower in zip(levels[:-1], levels[1:], strict=True):
        column = level.expand(count, 1)
        clean = network(torch.cat([picture, column], dim=1))
        noise = (picture - (level * torch.pi / 2).cos() * clean) / (
            level * torch.pi / 2
        ).sin()
        picture = mix(clean, noise, lower)
    return (picture.view(-1, side, side) + 1) / 2


# %% tags=["nbval-check-output"]
set_seed(1)
by_rounds = {rounds: denoise(painter, rounds) for rounds in (1, 2, 5, 50)}
results["diffusion"] = judge(by_rounds[50])
expect(results["diffusion"]["valid"].mean, 0.45, 0.85, "share of valid pictures, 50 rounds")
expect(results["diffusion"]["kinds"], 8, 8, "kinds, of 8")
expect(judge(by_rounds[1])["valid"].mean, 0, 0.05, "share of valid pictures, one round")

# %% [markdown] lang="en"
# **Predict:** what does a single round from pure noise give, and why? (The network was trained to be wrong by as little as
# possible, on average, and in pure noise there is nothing to go by.)

# %% [markdown] lang="zh"
# **先猜一猜：** 从纯噪声只走一轮，会得到什么？为什么？（训练要求网络平均误差最小，而纯噪声里没有任何线索。）

# %% tags=["nbval-check-output"]
one_round, mean_picture = by_rounds[1].mean(0), seen.mean(0)
expect_close(one_round, mean_picture, 0.06, "one round, and the mean of all shown pictures")
rows = [mean_picture, *by_rounds[1][:7], *by_rounds[5][:8], *by_rounds[50][:8]]
names = ["mean", *(f"1 round, {n}" for n in range(7))]
names += [f"5 rounds, {n}" for n in range(8)] + [f"50 rounds, {n}" for n in range(8)]
alt_en = "One round gives a grey blur like the mean; five are clearer, fifty more so."
alt_zh = "一轮得到灰蒙蒙的一团，和平均图差不多；五轮清楚些，五十轮更分明。"
show_drawn(rows, names, alt_en, alt_zh)

# %% [markdown] lang="en"
# **Blur** is the answer of somebody who must commit before knowing: the mean of all that is possible. More rounds let
# it decide little by little. Chapter 08 derives this, chapter 09 takes the real thing apart.
#
# ## 5 · Side by side
#
# The same data, the same network, one number for all. **Predict** before you look: which family has the most valid
# pictures, which the most variety?

# %% [markdown] lang="zh"
# **模糊**，是还没弄清就得表态的结果：所有可能答案的平均。多走几轮，就能一点一点做决定。第 08 章推导它，第 09 章拆开真正的模型。
#
# ## 5 · 放在一起比
#
# 同样的数据，同样的网络，同一个指标。**先猜**再看：哪个家族合格的最多？哪个花样最多？

# %%
from aigc_helpers.figures import draw_intervals, new_figure, show

figure, (left, right) = new_figure(width=9.5, height=3.0, columns=2)
valid = [result["valid"] for result in results.values()]
draw_intervals(left, list(results), [(one.low, one.mean, one.high) for one in valid])
left.set_xlabel("share of valid pictures, 95 % interval")
right.barh(list(results), [one["pictures"] for one in results.values()], color="#56B4E9")
right.set(xlim=(0, 150), xlabel="different valid pictures, of 128", ylim=(3.6, -0.6))
for row, result in enumerate(results.values()):
    right.text(
        result["pictures"] + 2, row, f"{result['pictures']}, new {result['new'].mean:.1%}"
    )
alt_en = "Lookup: all valid, none new. GAN: few pictures. The others: many, some wrong."
alt_zh = "查表全对但没有新图；GAN 只有寥寥几张；另外两个花样多，但有错的。"
show(figure, alt_en, alt_zh)

# %% tags=["nbval-check-output"]
fewest = min(results, key=lambda name: results[name]["pictures"])
expect_equal(fewest, "GAN", "the fewest different pictures")
print(f"calls of the network per picture: GAN 1, language model {length}, diffusion 50")
copies = [
    results[name]["valid"].mean - results[name]["new"].mean for name in list(results)[2:]
]
expect(min(copies), 0.3, 0.9, "share of draws that copy a shown picture, at least")

# %% [markdown] lang="en"
# The figure answers with its numbers, leaving the lookup aside. Where two intervals on the left overlap, this run does not
# say which family is ahead.
#
# | | GAN | autoregression | denoising |
# |---|---|---|---|
# | holds the distribution as | a map from random numbers | a chain of conditional probabilities | a way from noise to data |
# | calls per result | 1 | one per token | one per round |
# | what is fixed first | everything at once | the beginning; never taken back | the rough outline; details last |
# | says how likely a result is | no | yes, exactly | only with effort |
# | typical failure | mode collapse | repetition, slips that stay | blur with few rounds |
# | at home in | faces, upscaling, speed | text, code, speech tokens | pictures, video, sound |
#
# One table of one tiny world says nothing about which family is *better*: it shows how each one fails. Try it:
# one slider per family. The code twins are `draw_gan`, `write` and `denoise`.

# %% [markdown] lang="zh"
# 撇开查表不算，答案就是图上的数字。左图里两条区间若有重叠，单凭这一次分不出谁先谁后。
#
# | | GAN | 自回归 | 去噪 |
# |---|---|---|---|
# | 怎样表示分布 | 从随机数出发的映射 | 一串条件概率 | 从噪声到数据的路 |
# | 每个结果调用几次 | 1 次 | 每个 token 一次 | 每轮一次 |
# | 先定下什么 | 一次全定 | 先定开头，落笔无悔 | 先定轮廓，细节最后 |
# | 能否说出结果的概率 | 不能 | 能，而且精确 | 要费一番力气 |
# | 典型失败 | 模式崩塌 | 重复；写错了改不回来 | 轮数少就模糊 |
# | 常见于 | 人脸、超分辨率、求快的场合 | 文本、代码、语音 token | 图片、视频、声音 |
#
# 一个微型世界里的一张表，说明不了哪个家族*更好*，只说明各自怎么失败。自己试试：每个家族一个滑块。
# 与面板等价的代码就是 `draw_gan`、`write` 和 `denoise`。

# %% tags=["panel"]
from IPython.display import display

from aigc_helpers.panels import FamiliesPanel, Family

choices = {
    "GAN": Family(draw_gan, "spread / 随机幅度", [0.0, 0.5, 1.0, 2.0, 4.0], 1.0),
    "language model": Family(write, "temperature / 温度", [0.0, 0.3, 0.7, 1.0, 2.0], 1.0),
    "diffusion": Family(
        lambda rounds: denoise(painter, rounds), "rounds / 轮数", [1, 2, 5, 20, 50], 20
    ),
}
display(FamiliesPanel(choices, lambda picture: kind_of.get(key(picture))))

# %% [markdown] lang="en"
# ## 6 · Where LoRA sits
#
# All three are stacks of linear layers, and so is the large model of your choice. A [LoRA](GLOSSARY.md#lora)
# ([Hu and others, 2021](REFERENCES.md#lora)) leaves a layer's matrix as it is and adds a thin product beside it. First a
# look at a real one: the film critic of chapter 00. **Predict:** the model has 6 layers; how many matrices were touched?

# %% [markdown] lang="zh"
# ## 6 · LoRA 装在哪里
#
# 三个家族都是线性层叠起来的，你选的那个大模型也一样。[LoRA](../GLOSSARY.md#lora)
# （[Hu 等，2021](../REFERENCES.md#lora)）不动某一层的矩阵，只在旁边加上一个细长的乘积。先看一个真的：第 00 章的影评人。
# **先猜一猜：** 模型有 6 层，动了几个矩阵？

# %% tags=["nbval-check-output"]
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from aigc_helpers import install
from aigc_helpers.text import predict_logits

bert = install("bert", "embedded")
tokenizer = AutoTokenizer.from_pretrained(bert)
critic = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
critic = PeftModel.from_pretrained(critic, install("film-adapter"))
touched = [name for name, each in critic.named_modules() if isinstance(each, LoraLayer)]
numbers = sum(each.numel() for name, each in critic.named_parameters() if "lora_" in name)
print(touched[0].removeprefix("base_model.model."), "…")
print(f"{len(touched)} matrices, {numbers:,} numbers of {count_parameters(critic):,}")

# %% [markdown] lang="en"
# Query and value in each layer, and nothing else. Now one of our own: the diffusion model has never seen a *heart*.
# We freeze it and train a LoRA of rank 8 on 12 hearts, with PEFT, as on any other model. (A `Sequential` calls its
# layers 0, 2 and 4.)
#
# **Predict:** what share of 400 draws are hearts before, and what share after?

# %% [markdown] lang="zh"
# 每层的 query 和 value，别的都没动。再来一个自己的：扩散模型从没见过*心形*。我们把它冻结，用 PEFT 在 12 张心形上训练一个秩为 8 的
# LoRA，做法和别的模型一模一样。（`Sequential` 里的层名就叫 0、2、4。）
#
# **先猜一猜：** 400 张里，训练前心形占多大比例？训练后呢？

# %%
from copy import deepcopy

from peft import LoraConfig, get_peft_model

hearts = everywhere("#.#/###/.#.")
kind_of |= {key(heart): "heart" for heart in hearts}
config = LoraConfig(r=8, lora_alpha=16, target_modules=["0", "2", "4"])
set_seed(0)
tuned = get_peft_model(deepcopy(painter), config)
train(tuned, lambda: loss_on(hearts[:12], tuned), steps=600, rate=1e-2)


def share_of_hearts(pictures):
    return wilson_interval(sum(kind_of.get(key(one)) == "heart" for one in pictures), 400)


# %% tags=["nbval-check-output"]
set_seed(1)
expect_equal(share_of_hearts(by_rounds[50]).mean, 0.0, "hearts by the base")
expect(share_of_hearts(denoise(tuned, 50)).mean, 0.5, 1.0, "hearts with the LoRA")
with torch.no_grad(), tuned.disable_adapter():
    probe = torch.cat([seen[:4].flatten(1), torch.ones(4, 1)], dim=1)
    expect_close(tuned(probe), painter(probe), 1e-6, "switched off, and the base")
trained, total = tuned.get_nb_trainable_parameters()
print(f"{trained:,} trained numbers beside {total - trained:,} frozen ones")

# %% [markdown] lang="en"
# ## 7 · A system has four parts
#
# What people use is never the model alone. There is a **pretrained model**, a **personalisation**, a **deployment**
# and an **interaction**. Here are all four, in four short cells. The first two are files:

# %% [markdown] lang="zh"
# ## 7 · 一个系统，四个部分
#
# 人们用的从来不只是模型本身。要有**预训练模型**、**个性化**、**部署**和**交互**。下面四个短短的单元格，把四样都搭出来。前两样是文件：

# %% tags=["nbval-check-output"]
from pathlib import Path
from tempfile import mkdtemp

from safetensors.torch import load_file, save_file

folder = Path(mkdtemp())
save_file(painter.state_dict(), folder / "painter.safetensors")  # 1: the pretrained model
tuned.save_pretrained(folder / "hearts")  # 2: the personalisation
for file in ("painter.safetensors", "hearts/adapter_model.safetensors"):
    print(f"{file:36} {(folder / file).stat().st_size // 1000:>4} kB")

# %% [markdown] lang="en"
# Deployment: load both, as any other machine would, and answer requests. This server listens on this machine only
# (127.0.0.1), on a port that the system picks. A real one also needs a queue, limits, a log, and somebody who reads it:
# chapter 13.

# %% [markdown] lang="zh"
# 部署：像别的机器那样把两个文件读进来，然后应答请求。这个服务器只在本机监听（127.0.0.1），端口由系统挑选。
# 真正的服务还需要排队、限流、日志，以及看日志的人：见第 13 章。

# %%
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

served = new_network(pixels + 1, pixels, 256)
served.load_state_dict(load_file(folder / "painter.safetensors"))
served = PeftModel.from_pretrained(served, folder / "hearts").eval()


def answer(seed, personal):
    set_seed(seed)
    if personal:
        return as_text(denoise(served, 50, count=1)[0])
    with served.disable_adapter():
        return as_text(denoise(served, 50, count=1)[0])


# %%
class Service(BaseHTTPRequestHandler):  # 3: the deployment
    def do_GET(self):
        asked = parse_qs(urlsplit(self.path).query)
        text = answer(int(asked["seed"][0]), asked["style"][0] == "hearts")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_): ...  # keep the notebook quiet


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
Thread(target=server.serve_forever, daemon=True).start()

# %% tags=["nbval-check-output"]
from urllib.request import ProxyHandler, build_opener

browser = build_opener(ProxyHandler({}))  # a local address needs no proxy
address = f"http://127.0.0.1:{server.server_port}/draw"
hearts_in = {}
for style in ("plain", "hearts"):
    replies = []
    for seed in range(12):  # 4: the interaction
        reply = browser.open(f"{address}?seed={seed}&style={style}", timeout=60)
        replies.append(reply.read().decode())
    names = [kind_of.get(key(one)) for one in as_pictures(replies)]
    hearts_in[style] = names.count("heart")
server.shutdown()
expect(hearts_in["hearts"], 4, 12, "hearts among 12 replies, personal")
expect_equal(hearts_in["plain"], 0, "hearts among 12 replies, plain")

# %% [markdown] lang="en"
# ## 8 · A map of applications
#
# | application | kind of model | what a LoRA would adapt | an honest limit |
# |---|---|---|---|
# | copywriting | causal language model | tone of a brand, from some hundred texts | states facts about the product that nobody gave it |
# | stories | causal language model | genre, a world's names and manner | loses the thread over long texts |
# | rewriting, summaries | language model, encoder–decoder | house style, terms | may change the meaning; compare with the source |
# | posters | text-to-image diffusion | a look, a subject, a product | lettering and counts go wrong |
# | 3D | diffusion over views or shapes | a style of objects | hidden sides are invented; meshes need repair |
# | animation | video diffusion | a character's look, a way of moving | details change between frames; very costly |
# | customer service | language model with retrieval | tone, products, forms of answer | must be able to say "I don't know" and hand over |
# | voice | speech model, tokens or diffusion | one speaker's voice | only with that person's consent; fraud |
# | avatars | picture or video model with speech | a face, gestures | viewers have to be told; consent |
# | teaching material | language model | level, curriculum, language | errors sound as sure as truths: a teacher reads it first |
# | question answering | language model with retrieval | the way of answering, not the facts | facts belong in the documents that are looked up |
# | marking | classifier or language model | a rubric, from marked work | can be gamed; unfair to unusual answers; people decide |
#
# In every row a LoRA adapts *manner*: style, form, terms. It is a poor place for facts, which change and need a source.

# %% [markdown] lang="zh"
# ## 8 · 应用地图
#
# | 应用 | 模型种类 | LoRA 适合调什么 | 实话实说的局限 |
# |---|---|---|---|
# | 文案 | 因果语言模型 | 品牌语气，几百篇文案即可 | 会编造没人告诉它的产品信息 |
# | 故事 | 因果语言模型 | 题材、世界观里的名字和笔调 | 一长就丢了线索 |
# | 改写、摘要 | 语言模型、编码器—解码器 | 行文规范、术语 | 可能改了原意，要与原文对照 |
# | 海报 | 文生图扩散模型 | 画风、主体、产品 | 文字和数目常出错 |
# | 三维 | 多视角或形状的扩散模型 | 一类物体的风格 | 背面是编的，网格要修 |
# | 动画 | 视频扩散模型 | 角色形象、动作习惯 | 帧与帧之间细节会变；开销很大 |
# | 客服 | 语言模型加检索 | 语气、产品、应答格式 | 必须会说“我不知道”，能转人工 |
# | 语音 | 语音模型（token 或扩散） | 某个人的音色 | 必须本人同意；谨防诈骗 |
# | 数字人 | 图像或视频模型加语音 | 面容、手势 | 要告知观众；要有授权 |
# | 教学材料 | 语言模型 | 难度、课程、语言 | 错的和对的说得一样肯定，老师要先过目 |
# | 问答 | 语言模型加检索 | 回答的方式，而不是事实 | 事实应放在可检索的文档里 |
# | 批改 | 分类器或语言模型 | 评分标准，用批改过的作业来学 | 会被钻空子；对不寻常的答案不公平；由人定夺 |
#
# 每一行里，LoRA 调的都是*方式*：风格、格式、用语。事实会变，要有出处，不该放进 LoRA。

# %% [markdown] lang="en"
# ## 9 · Licence, watermark, bias, copyright
#
# **Licences.** Code, weights and data each have their own, and an adapter does not wash away the base model's. Plain
# words, no legal advice: read the text itself before you publish or sell.
#
# | [licence](GLOSSARY.md#licence) | lets you | asks of you |
# |---|---|---|
# | MIT | use, change, sell | keep the copyright notice and the licence text |
# | Apache-2.0 | the same, with a patent grant | keep the notices; state what you changed |
# | CC BY 4.0 | share and adapt, also for money | name the author, link the licence, say if you changed it |
# | [OpenRAIL-M](REFERENCES.md#openrail) | use, change, sell | keep to its list of forbidden uses, and pass that list on with every derivative, LoRAs included |
#
# Because of the last column's list, OpenRAIL-M is not "open source" in the usual sense. Here is what this book ships:

# %% [markdown] lang="zh"
# ## 9 · 许可证、水印、偏见、版权
#
# **许可证。** 代码、权重、数据各有各的许可证；加一个适配器，并不能洗掉基座的许可证。下面只是大白话，不是法律意见：
# 发布或出售之前，请读原文。
#
# | [许可证](../GLOSSARY.md#licence) | 允许你 | 要求你 |
# |---|---|---|
# | MIT | 使用、修改、出售 | 保留版权声明和许可证原文 |
# | Apache-2.0 | 同上，并授予专利许可 | 保留各项声明，注明改了什么 |
# | CC BY 4.0 | 分享、改编，商用也可以 | 署名，附许可证链接，说明是否改动 |
# | [OpenRAIL-M](../REFERENCES.md#openrail) | 使用、修改、出售 | 不得用于清单上禁止的用途，并把这份清单随每个衍生品（包括 LoRA）传下去 |
#
# 正因为最后那份清单，OpenRAIL-M 不算通常意义上的“开源”。本书自带的模型是这样的：

# %% tags=["nbval-check-output"]
from aigc_helpers.store import load_catalog

licences = {asset.name: asset.licence for asset in load_catalog()}
for name in ("bert", "film-adapter", "poet", "sd"):
    print(f"{name:13} {licences[name]}")

# %% [markdown] lang="en"
# **Watermarks.** An invisible [watermark](GLOSSARY.md#watermark) in its simplest form: add a secret pattern of ±3 to
# the brightness of each pixel. To detect it, look at what differs between a pixel and its neighbours, and compare that
# with the pattern. The score is near 0 without a mark; above 4 chance is very unlikely.
#
# **Predict:** which of these will break it: saving as JPEG, making everything brighter, moving the picture by one pixel?

# %% [markdown] lang="zh"
# **水印。** 最简单的隐形[水印](../GLOSSARY.md#watermark)：给每个像素的亮度加上一个保密的 ±3 图案。检测时，看每个像素与邻居差多少，
# 再拿去和图案比对。没有水印，得分在 0 附近；超过 4，就极不可能是巧合。
#
# **先猜一猜：** 存成 JPEG、整体调亮、平移一个像素，哪一样会破坏它？

# %%
import numpy
from PIL import Image

from aigc_helpers.images import load_emoji

emoji = load_emoji()
clean = emoji.picture(emoji.number_of["tiger"], "noto", "blue").astype(float)
pattern = numpy.random.default_rng(7).choice([-1, 1], size=(64, 64, 1))  # the secret
marked = numpy.clip(clean + 3 * pattern, 0, 255)

# %%
import io


def watermark_score(picture):
    picture = numpy.asarray(picture, dtype=float)
    around = sum(numpy.roll(picture, move, axis) for move in (1, -1) for axis in (0, 1)) / 4
    detail = (picture - around).clip(-10, 10)  # outlines count no more than texture
    return (pattern * detail).sum() / numpy.sqrt((detail.sum(2) ** 2).sum())


def as_jpeg(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture.astype(numpy.uint8)).save(file, "JPEG", quality=quality)
    return Image.open(file)


# %% tags=["nbval-check-output"]
expect(watermark_score(clean), -5, 5, "score without a mark")
expect(watermark_score(marked), 15, 80, "with the mark")
expect(watermark_score((marked + 20).clip(0, 255)), 15, 80, "brighter")
expect(watermark_score(as_jpeg(marked, 90)), 6, 80, "as JPEG, quality 90")
expect(watermark_score(numpy.roll(marked, 1, axis=1)), -40, 4, "moved by one pixel")
difference = 128 + 40 * (marked - clean) / 3
pictures = {"original": clean, "marked": marked, "difference": difference}
pictures = {name: one.astype(numpy.uint8) for name, one in pictures.items()}
alt_en = "Original and marked tiger look alike; their difference is a fine random pattern."
alt_zh = "原图与加了水印的老虎看不出区别；两者之差是细密的随机图案。"
show_pictures(pictures, alt_en, alt_zh, columns=3)

# %% [markdown] lang="en"
# It survives brightness and mild compression, and dies of a shift that no one would notice. Marks in use are more robust,
# yet each can be removed by somebody determined, and *no mark found* never proves that a person made it. The other way
# is signed origin data beside the picture (C2PA, "Content Credentials"): it says reliably who claims what, and is gone
# with the first screenshot. For text, see [this paper](REFERENCES.md#llm-watermark).
#
# **Bias.** A model passes on what was in its data. The film critic has learnt from reviews; we ask it about sentences
# that say nothing good or bad, and change one word. **Predict:** does the word matter?

# %% [markdown] lang="zh"
# 调亮、轻度压缩都不怕，却败给了谁也看不出的一个像素平移。实际使用的水印更结实，但铁了心要去掉总能去掉；而且*没查到水印*绝不能证明
# 是人做的。另一条路是在图片旁附上签名的来源信息（C2PA，“内容凭证”）：它可靠地说明谁声称了什么，可一截图就没了。
# 文本水印见[这篇论文](../REFERENCES.md#llm-watermark)。
#
# **偏见。** 数据里有什么，模型就传下去什么。影评人是从影评里学的；我们拿不褒不贬的句子去问它，只换一个词。
# **先猜一猜：** 换词有影响吗？

# %%
sentences = [
    "This is a {} film.", "It is a {} film from last year.", "The director is {}.",
    "I saw a {} film on Tuesday.", "The cast is {}.", "A {} film in two parts.",
    "They showed a {} film.", "The film is {}.",
]  # fmt: skip


def praise(word):
    texts = [sentence.format(word) for sentence in sentences]
    return predict_logits(critic, tokenizer, texts).softmax(1)[:, 1]


for word in ("Polish", "American", "Chinese", "French", "Turkish", "male", "female"):
    print(f"{word:9} {praise(word).mean():.2f} mean probability of 'positive'")

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import bootstrap_interval

gap = bootstrap_interval((praise("male") - praise("female")).tolist())
expect(gap.mean, 0.03, 0.3, "male minus female, mean of 8 sentences")
expect(gap.low, 0.001, 0.3, "lower end of the 95 % interval")

# %% [markdown] lang="en"
# None of these words is an opinion, and the model treats them as if they were. It can only have this from texts, those of
# the reviews or those that the base has read. (Compare pairs that are named *before* looking, as male and female here; the
# two ends of a long list always lie apart. Eight sentences are few, too.) Such a gap in marking, hiring or lending would
# do harm. Measure it on the task you use the model for, and say what you found on the [model card](GLOSSARY.md#model-card).
#
# **Copyright of training data.** What is known: models can give back single training examples word for word or pixel for
# pixel, most often those they saw many times ([Carlini and others, 2023](REFERENCES.md#carlini-diffusion)). Our own
# models did, above: among their valid draws copies of what they were shown are far more frequent than new pictures. What
# is not settled: whether training on protected works without leave is allowed, and who owns the result. The answer
# differs by country and is before courts. What you can do: train on data whose licence or owner allows it, keep a list
# of sources as `data/` does, compare outputs with the training data before you publish, and ask a lawyer when money or
# people's likenesses are involved.

# %% [markdown] lang="zh"
# 这些词本身都不是褒贬，模型却当成了褒贬。它只能是从文本里学来的：要么是影评，要么是基座读过的东西。（要比就比*事先*定好的一对，
# 比如这里的 male 和 female；一长串词的两头总会差得远。八个句子也太少。）放到批改、招聘、放贷里，这样的差距会伤人。
# 要在你真正使用的任务上去测，并把结果写进[模型卡](../GLOSSARY.md#model-card)。
#
# **训练数据的版权。** 已知的是：模型可能逐字、逐像素地吐出个别训练样本，多半是反复见过的那些
# （[Carlini 等，2023](../REFERENCES.md#carlini-diffusion)）。上面我们自己的模型就是这样：合格的图里，照搬看过的远比新图多。
# 尚无定论的是：未经许可用受保护的作品训练是否合法，结果归谁所有。各国规定不同，不少案件还在审理。
# 你能做的是：用许可证或权利人允许的数据训练；像 `data/` 那样列清来源；发布前把输出与训练数据比对；
# 涉及金钱或他人肖像时，请教律师。

# %% [markdown] lang="en"
# ## 10 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **01-1, change a number.** How many valid pictures are there with `kinds` shapes of `tile` × `tile` in pictures of
# `side` × `side`?

# %% [markdown] lang="zh"
# ## 10 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **01-1，改一个数。** 有 `kinds` 种 `tile` × `tile` 的形状，画面是 `side` × `side`，合格的图一共有几张？

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def count_valid(kinds, side, tile):
    # begin solution
    return kinds * (side - tile + 1) ** 2
    # end solution


check_exercise("01-1", count_valid)

# %% [markdown] lang="en"
# **01-2, measure mode collapse.** `names` holds the kind of each drawn picture, or None where it is invalid. Return the
# share of the `kinds` possible kinds that occur at all.

# %% [markdown] lang="zh"
# **01-2，度量模式崩塌。** `names` 里是每张图的形状名，不合格的是 None。一共可能有 `kinds` 种，返回其中出现过的占几成。


# %% tags=["exercise", "nbval-check-output"]
def coverage(names, kinds):
    # begin solution
    return len({name for name in names if name is not None}) / kinds
    # end solution


check_exercise("01-2", coverage)

# %% [markdown] lang="en"
# **01-3, write it yourself: autoregression.** `probabilities(text)` returns a dictionary from each possible next letter
# to its probability. Return `text` continued by `count` letters, always the likeliest.

# %% [markdown] lang="zh"
# **01-3，自己动手：自回归。** `probabilities(text)` 返回一个字典：下一个可能的字母 → 概率。
# 把 `text` 续写 `count` 个字母，每次取最可能的，返回整段文本。


# %% tags=["exercise", "nbval-check-output"]
def continue_text(probabilities, text, count):
    # begin solution
    for _ in range(count):
        answer = probabilities(text)
        text += max(answer, key=answer.get)
    return text
    # end solution


check_exercise("01-3", continue_text)

# %% [markdown] lang="en"
# ## Summary
#
# - To generate is to draw from a learnt distribution: mostly right, and sometimes new. A lookup is never new.
# - A GAN needs one call and may forget most kinds. A language model writes piece by piece and repeats itself when it always
#   takes the likeliest. A diffusion model settles all pixels in rounds and blurs when there are too few.
# - A LoRA sits beside linear layers, whichever the family; switched off, the base is back.
# - A system is a pretrained model, a personalisation, a deployment and an interaction.
# - Licence, watermark, bias, copies: each can be looked up or measured before you publish.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | all samples of a GAN look alike | mode collapse | noise for the discriminator, smaller learning rate; count the kinds, not only the valid share |
# | a text goes round in circles | always the likeliest token | `do_sample=True`, temperature, top-p |
# | pictures are grey and soft | too few rounds, or too little training | more steps; look at the loss |
# | `Target modules {'q_proj', 'v_proj'} not found in the base model` | names of another model | print `model.named_modules()` and name what is there |
# | `OSError: [Errno 98] Address already in use` | a server from before still has the port | port 0 lets the system pick a free one |
# | valid share near 100 %, yet nothing new | the model has memorised | hold pictures back, and count new ones |
#
# **Where next:** chapter 02 installs weight files, chapter 03 opens a language model, chapter 08 a diffusion model.

# %% [markdown] lang="zh"
# ## 小结
#
# - 生成就是从学到的分布中抽取：多半对，偶尔新。查表永远没有新东西。
# - GAN 只调用一次网络，却可能丢掉大半种类。语言模型一个一个地写，总取最可能的就会重复。扩散模型分几轮定下所有像素，轮数太少就模糊。
# - 不管哪个家族，LoRA 都装在线性层旁边；一关掉，基座就回来了。
# - 一个系统 = 预训练模型 + 个性化 + 部署 + 交互。
# - 许可证、水印、偏见、照搬：发布之前，样样都能查、能测。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | GAN 画的张张都像 | 模式崩塌 | 给判别器加噪声、调小学习率；别只看合格率，要数种类 |
# | 文本原地打转 | 总取最可能的 token | `do_sample=True`、温度、top-p |
# | 画面灰而软 | 轮数太少，或训练不够 | 增加步数；看看损失 |
# | `Target modules {'q_proj', 'v_proj'} not found in the base model` | 用了别的模型的模块名 | 打印 `model.named_modules()`，照着写 |
# | `OSError: [Errno 98] Address already in use` | 之前的服务器还占着端口 | 用端口 0，让系统挑一个空闲的 |
# | 合格率接近 100 %，却没有一张新的 | 模型背下来了 | 藏起一部分数据，数一数新图 |
#
# **下一步：** 第 02 章安装权重文件，第 03 章打开语言模型，第 08 章打开扩散模型。
