# %% [markdown] lang="en"
# # 00 · Start here
#
# {{badge}}
#
# **What you will be able to do:** find out what your machine can run; say what a weight file is, and predict its size;
# use a pretrained model twice, once as it is and once with an adapter 300 times smaller than itself; let another one
# write a poem and a third one draw; and work with this book: predict, run, check, and solve exercises that answer back.
#
# | | both profiles |
# |---|---|
# | time | about a minute |
# | memory | 1 GB |
# | download | none once the workbook is set up |
#
# Run a cell with Shift + Enter. Start with the next one, the same in every chapter: it finds the workbook and
# says what it will run on.

# %% [markdown] lang="zh"
# # 00 · 从这里开始
#
# {{badge}}
#
# **学完本章，你能够：** 弄清自己的机器能跑什么；说出权重文件是什么，并事先算出它有多大；
# 把一个预训练模型用上两回：一回原样用，一回加上比它小 300 倍的适配器；再让另一个模型写一首诗，第三个模型画一张画；
# 学会使用这本书：先猜、再跑、后核对，还有会给你回话的练习。
#
# | | 两种配置相同 |
# |---|---|
# | 时间 | 约一分钟 |
# | 内存 | 1 GB |
# | 下载 | 装好本书之后不再需要 |
#
# 按 Shift + Enter 运行单元格。先运行下面这个，每一章开头都一样：它找到本书的代码，并报告将在什么环境里运行。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · How to read this book
#
# Every step has the same rhythm. A **claim** in a sentence or two; a **prediction**, which you make before you run the cell,
# because a surprise is what you remember; the **run**; and a **check**: a line with ✓ that says what was found and, where
# a number was measured, in which range it has to lie. Compare it with your prediction.

# %% [markdown] lang="zh"
# ## 1 · 这本书怎么读
#
# 每一步都是同一个节奏：先用一两句话提出一个**说法**；运行之前你先**猜**，因为意外最容易记住；然后**运行**；
# 最后**核对**：打印一行带 ✓ 的结果，写明得到了什么；如果是量出来的数，还写明它应当落在什么范围。拿它和你猜的比一比。

# %% tags=["nbval-check-output"]
from aigc_helpers.notebook import expect, expect_equal

expect_equal(6 * 7, 42, "six times seven")
expect(sum([0.1] * 10), 0.99, 1.01, "ten tenths")

# %% [markdown] lang="en"
# A check that fails stops the chapter and says what it found. The next cell is meant to fail; so is every cell in this
# book that shows a red message, unless the text says otherwise.

# %% [markdown] lang="zh"
# 核对不通过，这一章就停下来，并说明实际得到了什么。下面这个单元格是故意失败的；书中出现红色报错的单元格都是如此，
# 除非正文另有说明。

# %% tags=["raises-exception", "nbval-check-output"]
expect(2**10, 0, 1000, "two to the tenth")

# %% [markdown] lang="en"
# ## 2 · What is this machine?
#
# `aigc doctor` answers on the command line; here are the same checks. Only what needs attention is listed: a warning
# says what will be missing or slow, a failure what has to be mended first, each with the remedy.

# %% [markdown] lang="zh"
# ## 2 · 这台机器怎么样？
#
# 命令行里用 `aigc doctor`，这里是同样的检查。只列出需要留意的：警告说的是会缺什么、会慢在哪里，失败说的是必须先解决什么，
# 每条都附上办法。

# %%
from aigc_helpers.preflight import format_report, run_checks

checks = run_checks()
print(format_report([check for check in checks if check.status != "pass"]))

# %% tags=["nbval-check-output"]
failures = [check.name for check in checks if check.status == "fail"]
expect_equal(failures, [], "what has to be mended first")

# %% [markdown] lang="en"
# ## 3 · Embedded or full
#
# The book has two profiles. **Embedded** uses small trained models that come with the book: no GPU, no hub, no network.
# **Full** runs the same cells with the full-size models on a GPU. Without your say, the machine decides: full where
# there is an NVIDIA GPU. Set the environment variable `AIGC_PROFILE`, or call `choose_profile("embedded")` at the top of
# a chapter, to decide yourself. The ranges of the checks are those of the embedded profile; on the full one a measured
# number is printed without, after a ○.

# %% [markdown] lang="zh"
# ## 3 · embedded 还是 full
#
# 本书有两种配置。**embedded** 使用随书附带、训练好的小模型：不要 GPU，不要 hub，不要网络。
# **full** 用同样的单元格在 GPU 上跑完整大小的模型。你不说，就由机器决定：有 NVIDIA GPU 就用 full。
# 想自己定，设环境变量 `AIGC_PROFILE`，或者在一章开头调用 `choose_profile("embedded")`。
# 核对用的范围是按 embedded 定的；用 full 时只打印量出来的数，不附范围，行首是 ○。

# %%
from aigc_helpers.profile import current_profile

current_profile()

# %% [markdown] lang="en"
# A name that does not exist is refused, with the nearest one first:

# %% [markdown] lang="zh"
# 名字写错会被拒绝，并把最接近的排在前面：

# %% tags=["raises-exception", "nbval-check-output"]
from aigc_helpers.profile import choose_profile

choose_profile("embeded")

# %% [markdown] lang="en"
# ## 4 · What can be installed
#
# The catalog lists every model and data set with its licence, and for each file the sha256 that it must have.
# `install` compares them on every call; what is missing is fetched, verified, and only then put in place.

# %% [markdown] lang="zh"
# ## 4 · 能装些什么
#
# 目录列出每个模型和数据集、它的许可证，以及每个文件应有的 sha256。`install` 每次都会核对；缺什么就取什么，
# 核对无误才放到位。

# %%
import pandas

from aigc_helpers.store import load_catalog

pandas.DataFrame(
    [
        (asset.name, asset.profile, f"{asset.size / 1e6:.1f}", asset.licence)
        for asset in load_catalog()
    ],
    columns=["name", "profile", "MB", "licence"],
)

# %% tags=["nbval-check-output"]
from aigc_helpers import install

bert = install("bert", "embedded")
for path in sorted(bert.iterdir()):
    if path.suffix in (".json", ".safetensors", ".txt"):
        print(f"{path.name:24} {path.stat().st_size:>11,} bytes")

# %% [markdown] lang="en"
# ## 5 · A weight file, opened
#
# `config.json` describes the architecture: how many layers, how wide. `model.safetensors` holds numbers under names, and
# nothing else: no code, no architecture. Neither is a model without the other.

# %% [markdown] lang="zh"
# ## 5 · 打开一个权重文件
#
# `config.json` 描述结构：有几层，多宽。`model.safetensors` 里只有带名字的数字，没有代码，也没有结构。
# 两者缺一不可，合在一起才是模型。

# %% tags=["nbval-check-output"]
import json

from safetensors import safe_open

config = json.loads((bert / "config.json").read_text(encoding="utf-8"))
keys = ("model_type", "num_hidden_layers", "hidden_size", "vocab_size")
print({key: config[key] for key in keys})
with safe_open(bert / "model.safetensors", framework="pt") as file:
    names = list(file.keys())
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
for name in names[:4]:
    print(f"{name:45} {shapes[name]}")
print(f"… {len(names)} tensors in all")

# %% [markdown] lang="en"
# **Predict** the size of the file: every number is a float32, which takes 4 bytes.

# %% [markdown] lang="zh"
# **先猜**文件有多大：每个数都是 float32，占 4 个字节。

# %% tags=["nbval-check-output"]
import math

numbers = sum(math.prod(shape) for shape in shapes.values())
size = (bert / "model.safetensors").stat().st_size
print(f"{numbers:,} numbers × 4 bytes = {4 * numbers:,} bytes; the file has {size:,}")
expect(size / (4 * numbers), 1.0, 1.001, "file size over predicted size")

# %% [markdown] lang="en"
# The few bytes more are the header, that is the names and shapes you just read, and one small tensor of integers
# (`position_ids`), which take 8 bytes each. Chapter 02 takes the file apart byte by byte.
#
# ## 6 · First stop of the tour: a model as it is
#
# This BERT has read a billion pairs of sentences and learnt to place those of like meaning close together. `AutoModel`
# reads configuration and weights; the mean over the tokens of a sentence is its place, 384 numbers.

# %% [markdown] lang="zh"
# 多出来的那一点是文件头，也就是你刚读到的名字和形状，外加一个整数小张量（`position_ids`，每个数 8 字节）。
# 第 02 章会逐字节拆开看。
#
# ## 6 · 第一站：模型原样使用
#
# 这个 BERT 读过十亿对句子，学会了把意思相近的句子放在相近的位置。`AutoModel` 读入配置和权重；
# 一句话各 token 取平均，就是它的位置：384 个数。

# %%
import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(bert)
model = AutoModel.from_pretrained(bert)


def place(sentences):
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state  # (sentences, tokens, 384)
    mask = batch["attention_mask"][:, :, None]  # 0 where there is only padding
    mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
    return torch.nn.functional.normalize(mean, dim=1)


# %% tags=["nbval-check-output"]
places = place(["One sentence.", "And another."])
expect_equal(tuple(places.shape), (2, 384), "shape: (sentences, width)")

# %% [markdown] lang="en"
# **Predict:** which two of these six belong closest together? Not one pair shares its important words.

# %% [markdown] lang="zh"
# **先猜一猜：** 下面六句里，哪两句最接近？没有哪一对用的是相同的关键词。

# %% tags=["nbval-check-output"]
sentences = [
    "The cat naps on the sofa.",
    "A kitten sleeps on the couch.",
    "Share prices fell sharply today.",
    "The stock market had a terrible day.",
    "How do I bake sourdough?",
    "What is a good recipe for bread?",
]
similarity = (
    place(sentences) @ place(sentences).T
)  # cosine: 1 is the same direction, 0 unrelated
nearest = (similarity - 2 * torch.eye(6)).argmax(dim=1).tolist()
expect_equal(nearest, [1, 0, 3, 2, 5, 4], "the nearest other sentence")

# %%
from aigc_helpers.figures import draw_matrix, new_figure, show

figure, (axes,) = new_figure(width=7.5, height=3.6)
draw_matrix(axes, similarity.tolist())
axes.set_xticks(range(6))
axes.set_yticks(range(6), [f"{text}  {number}" for number, text in enumerate(sentences)])
alt_en = "Table of similarities: high within the three pairs, low between them."
show(figure, alt_en, "相似度表：三对句子内部很高，不同对之间很低。")

# %% [markdown] lang="en"
# They go in pairs: cat and kitten, share prices and stock market, sourdough and bread. The two about a cat are the closest;
# the number stands in the table.
#
# ## 7 · Second stop: the same model with an adapter
#
# The model knows what sentences are *about*. It was never told whether they praise or blame. An adapter can add that
# without touching a single one of its weights: a LoRA, trained in chapter 05, 300 kB beside 91 MB.
#
# `AutoModelForSequenceClassification` adds a head with two outputs; `PeftModel.from_pretrained` puts the adapter on.

# %% [markdown] lang="zh"
# 六句两两成对：猫和小猫、股价和股市、酸面包和面包。最接近的是讲猫的那两句，数字就在表里。
#
# ## 7 · 第二站：同一个模型，加上适配器
#
# 模型知道句子在谈*什么*，但从没人教过它是在夸还是在骂。适配器可以补上这一点，而不动它的任何一个权重：
# 这就是 LoRA，在第 05 章训练，300 kB，旁边的模型是 91 MB。
#
# `AutoModelForSequenceClassification` 加上一个两路输出的头，`PeftModel.from_pretrained` 把适配器装上去。

# %% tags=["nbval-check-output"]
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

base = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
adapter = install("film-adapter")
critic = PeftModel.from_pretrained(base, adapter)
adapter_size = (adapter / "adapter_model.safetensors").stat().st_size
expect(
    size / adapter_size,
    250,
    350,
    "the model's file is this many times as large as the adapter's",
)

# %%
from aigc_helpers.text import predict_classes, predict_logits

texts = [
    "A triumph from start to finish.",
    "I forgot to eat my popcorn.",
    "I checked my watch twice.",
]
probabilities = predict_logits(critic, tokenizer, texts).softmax(dim=1)[:, 1]
for text, probability in zip(texts, probabilities.tolist(), strict=True):
    print(f"{probability:.3f} positive: {text}")

# %% [markdown] lang="en"
# Three sentences prove nothing. The book's way is held-out data and an interval: here are 300 film snippets that
# the adapter has never seen.
#
# **Predict** the accuracy, and then once more with the adapter switched off.

# %% [markdown] lang="zh"
# 三句话证明不了什么。本书的做法是：用没见过的数据，并给出区间。下面是适配器从没见过的 300 条影评。
#
# **先猜**准确率是多少；关掉适配器之后又是多少？

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import accuracy_interval
from aigc_helpers.text import load_reviews

reviews = load_reviews("test").head(300)
truth = reviews["label"].astype(int).tolist()
with_adapter = accuracy_interval(predict_classes(critic, tokenizer, reviews["text"]), truth)
with critic.disable_adapter():
    without = accuracy_interval(predict_classes(critic, tokenizer, reviews["text"]), truth)
expect(with_adapter.mean, 0.82, 0.94, "accuracy with the adapter")
expect(without.mean, 0.35, 0.65, "accuracy with the adapter switched off")

# %%
print("with the adapter:    ", with_adapter, " (95 % interval)")
print("with it switched off:", without)

# %% [markdown] lang="en"
# That is the whole book in one step: a file became a model, the model got an adapter, and the adapter was judged. How to
# make such an adapter is chapter 05; why so few numbers are enough, chapter 04.
#
# Try sentences of your own. The code twin of this panel is `predict_logits(...).softmax(dim=1)` above.

# %% [markdown] lang="zh"
# 整本书浓缩成一步就是这样：文件成为模型，模型装上适配器，适配器接受评判。怎样做出这样的适配器，见第 05 章；
# 为什么这么少的数就够用，见第 04 章。
#
# 换成你自己的句子试试（请用英文，模型只学过英文）。与面板等价的代码就是上面的 `predict_logits(...).softmax(dim=1)`。

# %% tags=["panel"]
from IPython.display import display
from aigc_helpers.panels import SentencePanel


def judge(sentence):
    return predict_logits(critic, tokenizer, [sentence]).softmax(dim=1)[0, 1].item()


def judge_without(sentence):
    with critic.disable_adapter():
        return judge(sentence)


judges = {"with the adapter": judge, "without": judge_without}
display(SentencePanel(judges, "I checked my watch twice."))

# %% [markdown] lang="en"
# ## 8 · Third stop: a model that writes
#
# The next model is a GPT-2 in miniature: trained for this book on 66,355 Tang and Song poems, one token per Chinese
# character. All it ever does is give every character a probability to come next.
#
# **Predict** before you run: 春眠不觉 are the first four characters of a poem that every child in China can go on with (晓).
# Can the model?

# %% [markdown] lang="zh"
# ## 8 · 第三站：会写诗的模型
#
# 下一个模型是微型 GPT-2，专为本书用 66,355 首唐宋诗训练，一个汉字就是一个 token。它只会做一件事：
# 给每个字算出它排在下一个的概率。
#
# **先猜一猜：** “春眠不觉”后面，小学生都会接“晓”。模型会吗？

# %% tags=["nbval-check-output"]
from transformers import AutoModelForCausalLM

poet_folder = install("poet")
poet_tokenizer = AutoTokenizer.from_pretrained(poet_folder)
poet = AutoModelForCausalLM.from_pretrained(poet_folder, dtype=torch.float32)
beginning = poet_tokenizer("春眠不觉", return_tensors="pt")
with torch.no_grad():
    next_token = poet(**beginning).logits[0, -1].softmax(dim=0)
expect_equal(len(next_token), len(poet_tokenizer), "one probability per character")
expect(next_token.sum().item(), 0.999, 1.001, "the sum of all of them")

# %%
for probability, token in zip(*next_token.topk(5), strict=True):
    print(f"{probability:.3f} {poet_tokenizer.decode(token)}")

# %% [markdown] lang="en"
# It cannot: it has read each poem about once, far too seldom to know one by heart. What it has learnt is what kind of
# character tends to follow.
#
# To write is to draw a character by these probabilities, put it at the end, and ask again. `generate` does that until
# the model draws its mark for "the end". Other seed, other poem.

# %% [markdown] lang="zh"
# 不会：每首诗它大约只读过一遍，远不够背下来。它学到的，是这种地方通常会接哪一类字。
#
# 写作就是按这些概率抽一个字，接在后面，再问下一个。`generate` 一直这样做，直到模型抽到“结束”标记为止。
# 换个种子，就换一首诗。

# %%
from transformers import set_seed

set_seed(8)
poem = poet.generate(**poet_tokenizer("春", return_tensors="pt"), num_return_sequences=2)
for line in poet_tokenizer.batch_decode(poem, skip_special_tokens=True):
    print(line.replace("。", "。\n"))

# %% [markdown] lang="en"
# The lines have the right length and the right words for spring; whether they *mean* anything is another matter, and four
# million parameters are not enough for it. In chapter 06 adapters will teach this poet other forms.

# %% [markdown] lang="zh"
# 句子长短合式，用词也像春天；至于有没有*意思*，那是另一回事，四百万个参数还不够。第 06 章会用适配器教它写别的体裁。

# %% [markdown] lang="en"
# ## 9 · Fourth stop: a model that draws
#
# The last one is a Stable Diffusion in miniature. Its parts and its folder are those of the large ones: a tokenizer and a
# text encoder that read the prompt, a UNet that turns noise into a picture step by step, and an autoencoder that the
# picture passes through at the end. It draws emoji of 64 × 64 pixels on coloured backgrounds, and reads English and Chinese.

# %% [markdown] lang="zh"
# ## 9 · 第四站：会画画的模型
#
# 最后一个是微型 Stable Diffusion。它的部件和文件夹结构跟大模型一样：分词器和文本编码器负责读提示词，UNet 一步一步把噪声变成画，
# 最后由自编码器解码成图片。它画的是 64 × 64 像素、带彩色背景的 emoji，中英文提示词都读得懂。

# %%
from diffusers import StableDiffusionPipeline

painter = StableDiffusionPipeline.from_pretrained(
    install("sd", "embedded"), torch_dtype=torch.float32, use_safetensors=True
)
painter.set_progress_bar_config(disable=True)


def paint(prompt, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return painter(
        prompt, num_inference_steps=20, guidance_scale=4, generator=noise
    ).images[0]


# %% [markdown] lang="en"
# **Predict:** what will be the same in these four pictures, and what different? The first two differ in their language
# alone, the next in one word of the prompt, the last in the seed.

# %% [markdown] lang="zh"
# **先猜一猜：** 这四张画，哪里会一样，哪里会不同？前两张只是提示词的语言不同，第三张换了一个词，最后一张换了种子。

# %%
from aigc_helpers.figures import show_pictures

prompt = "tiger, noto style, blue background"
pictures = {
    "blue": paint(prompt),
    "the same in Chinese": paint("老虎，noto 风格，蓝色背景"),
    "pink": paint(prompt.replace("blue", "pink")),
    "blue, seed 1": paint(prompt, seed=1),
}
show_pictures(
    pictures,
    "A tiger from the side, four times: three on blue, one on pink.",
    "侧面的老虎，共四张：三张蓝底，一张粉底。",
)

# %% tags=["nbval-check-output"]
import numpy

from aigc_helpers.images import nearest_colour

corners = [nearest_colour(numpy.asarray(one)[0, 0]) for one in pictures.values()]
expect_equal(corners, ["blue", "blue", "pink", "blue"], "colours of the corners")

# %% [markdown] lang="en"
# The language changes next to nothing, the changed word the background. Another seed changes details alone: of each
# concept and style the model has seen a single drawing. Large models have seen thousands of tigers, and another seed is
# another tiger.
#
# Prompts are made of the names of emoji, the styles noto and twemoji, and ten colours: it knows nothing else. Chapter 09
# takes it apart; in chapter 11 you train a LoRA that gives it a style and a subject it has never seen.

# %% [markdown] lang="zh"
# 换一种语言几乎看不出差别，换掉那个词就换了背景。换种子只改变细节：每个概念、每种画风，模型只见过一张图。
# 大模型见过成千上万只老虎，换个种子就是另一只。
#
# 提示词由 emoji 的名称、noto 和 twemoji 两种画风、十种颜色组成，别的它都不懂。第 09 章把它拆开来看；
# 第 11 章训练 LoRA，教它没见过的画风和主题。

# %% [markdown] lang="en"
# ## 10 · Exercises that answer back
#
# An exercise cell has a gap, `...`. Run it as it is: it invites you to try. Write something, run it again: it says
# whether you are right, recognises common mistakes, and gives a plainer hint with every further try. Nothing leaves
# your machine.
#
# **00-1, change a number.** How many bytes does a model of 110 million parameters take in float16 (2 bytes a number)?

# %% [markdown] lang="zh"
# ## 10 · 会回话的练习
#
# 练习单元格里有个空，写着 `...`。先原样运行，它会请你试一试；写点什么再运行，它会告诉你对不对，能认出常见错误，
# 每多试一次提示就更直白。什么都不会离开你的机器。
#
# **00-1，改一个数。** 一个 1.1 亿参数的模型，用 float16（每个数 2 字节）存，占多少字节？

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise

size_in_bytes = None
# begin solution
size_in_bytes = 110_000_000 * 2
# end solution

check_exercise("00-1", size_in_bytes)

# %% [markdown] lang="en"
# **00-2, complete a line.** Return how many numbers the tensors with these shapes hold together. (`math.prod` multiplies.)

# %% [markdown] lang="zh"
# **00-2，补全一行。** 给定各张量的形状，返回它们一共有多少个数。（`math.prod` 求连乘积。）


# %% tags=["exercise", "nbval-check-output"]
def count_numbers(shapes):
    # begin solution
    return sum(math.prod(shape) for shape in shapes)
    # end solution


check_exercise("00-2", count_numbers)

# %% [markdown] lang="en"
# **00-3, write it yourself.** Return the cosine similarity of two vectors (lists of numbers): their dot product over
# the product of their lengths.

# %% [markdown] lang="zh"
# **00-3，自己动手。** 返回两个向量（数字列表）的余弦相似度：点积除以两者长度之积。


# %% tags=["exercise", "nbval-check-output"]
def cosine(left, right):
    # begin solution
    dot = sum(a * b for a, b in zip(left, right, strict=True))
    return dot / math.sqrt(sum(a * a for a in left) * sum(b * b for b in right))
    # end solution


check_exercise("00-3", cosine)

# %% [markdown] lang="en"
# ## Summary
#
# - `aigc doctor` says what this machine can run; the profile says which models the cells load.
# - A weight file is numbers under names; size = numbers × bytes per number. The architecture is in `config.json`.
# - An adapter of 300 kB gave a 91 MB model a new skill, and switching it off took the skill away again.
# - A language model gives every token a probability to come next; writing is drawing from them, one at a time.
# - A diffusion model turns noise into a picture step by step; the seed is the noise, the prompt says where to go.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `No module named 'aigc_helpers'` | the set-up cell was not run, or the notebook lies outside the workbook | run it first; keep the notebook in its folder |
# | `no source gave the files of bert` | no network at the first use | connect once, run `aigc install bert`; from then on it works offline |
# | `… is missing or altered` | a file in `data/` was changed | the message names the git command that restores it |
# | a cell behaves differently from the page | cells were run out of order | Kernel → Restart and run all cells |
#
# **Where next:** chapter 05 trains an adapter like the one you just used, chapter 06 one that writes poems, and chapter 11
# one that draws.

# %% [markdown] lang="zh"
# ## 小结
#
# - `aigc doctor` 告诉你这台机器能跑什么；配置决定单元格加载哪些模型。
# - 权重文件就是带名字的数字；大小 = 个数 × 每个数的字节数。结构写在 `config.json` 里。
# - 300 kB 的适配器让 91 MB 的模型学会了新本事；一关掉，本事也就没了。
# - 语言模型给每个 token 一个“排在下一个”的概率；写作就是按概率一个一个地抽。
# - 扩散模型一步一步把噪声变成画；种子决定噪声，提示词决定方向。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `No module named 'aigc_helpers'` | 没运行准备单元格，或者笔记本不在本书文件夹里 | 先运行它；把笔记本留在原处 |
# | `no source gave the files of bert` | 第一次使用时没有网络 | 联网一次，运行 `aigc install bert`，以后离线也能用 |
# | `… is missing or altered` | `data/` 里的文件被改动了 | 报错里写着用哪条 git 命令恢复 |
# | 运行结果和书上不一样 | 没按顺序运行单元格 | Kernel → Restart and run all cells（重启并全部运行） |
#
# **下一步：** 第 05 章训练你刚才用的适配器。用 GPT-2 写诗、用 Stable Diffusion 画画的章节会以同样的形式陆续加入；
# 哪些已经有了，看 README 里的章节地图。
