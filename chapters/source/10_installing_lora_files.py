# %% [markdown] lang="en"
# # 10 · Installing LoRA files
#
# {{badge}}
#
# **What you will be able to do:** take a LoRA file as people download it and say what it is, whether it fits your
# model, and what it was trained for, before anything is loaded; convert it between kohya's, diffusers' and PEFT's
# format without losing a bit; load, scale, mix and fuse LoRAs, and prove that the base is unharmed afterwards; name
# eight ways in which such a file fails, most of them without an error; put it where A1111 and ComfyUI look for it; and write
# the card that your own LoRA needs.
#
# | | embedded profile | full profile |
# |---|---|---|
# | model | a Stable Diffusion in miniature, 64 × 64 pixels | Stable Diffusion 1.5, with a file of your choice |
# | files | two LoRAs that come with the workbook (0.2 and 0.3 MB) | the one you name in `your_file` |
# | time | under 3 minutes on two CPU cores | {{full_time}} |
# | download | none once the workbook is set up | about 2.7 GB (half precision), and your file |
#
# You need chapter 09 (what pipeline and UNet are) and the idea of LoRA from chapter 05, section 6. How such a file is
# trained is the subject of chapter 11; either may come first. What the text says of a file and its pictures, it says of
# the workbook's; with a file of yours, read the outputs.

# %% [markdown] lang="zh"
# # 10 · 安装 LoRA 文件
#
# {{badge}}
#
# **学完本章，你能够：** 拿到一个别人分享的 LoRA 文件，不加载就说清它是什么、配不配你的模型、为什么而训练；
# 在 kohya、diffusers、PEFT 三种格式之间互相转换，一个比特也不丢；加载、调强度、混用、合并，并证明基座事后完好无损；
# 认出这类文件的八种失灵（多半不报错），并叫得出名字；把文件放到 A1111 和 ComfyUI 找得到的地方；给自己的 LoRA 写一张合格的卡片。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | 微型 Stable Diffusion，64 × 64 像素 | Stable Diffusion 1.5，文件由你选 |
# | 文件 | 随本书附带的两个 LoRA（0.2 和 0.3 MB） | 你在 `your_file` 里写的那个 |
# | 时间 | 两个 CPU 核心不到 3 分钟 | {{full_time}} |
# | 下载 | 装好本书之后不再需要 | 约 2.7 GB（半精度），外加你的文件 |
#
# 需要第 09 章的基础（流水线和 UNet 是什么），以及第 05 章第 6 节讲的 LoRA。这样的文件怎么训练出来，是第 11 章的内容，
# 先读哪一章都行。正文里对文件和画的描述，说的都是随书附带的那两个；用你自己的文件时，请看输出。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · The base, and the file
#
# A [LoRA](GLOSSARY.md#lora) is a supplement: without the [base model](GLOSSARY.md#base-model) that it was trained on it is
# of no use. So the base comes first. On the full profile, write the path of a LoRA for Stable Diffusion 1.5 into
# `your_file`; left empty, all cells run with the workbook's own file and its small model.
#
# LoRAs for Stable Diffusion are mostly shared in the format of kohya's training scripts: one
# [safetensors](GLOSSARY.md#safetensors) file, nothing beside it. Ours is `sepia.safetensors`, trained as in chapter 11, and
# saved in that format, header and all. We put a copy into an empty folder, as a browser would.

# %% [markdown] lang="zh"
# ## 1 · 基座与文件
#
# [LoRA](../GLOSSARY.md#lora) 只是补丁：离开训练时用的[基座模型](../GLOSSARY.md#base-model)，它什么用也没有。所以先准备基座。
# 在 full 配置下，把一个 Stable Diffusion 1.5 的 LoRA 的路径写进 `your_file`；留空的话，所有单元格都用本书自带的文件和小模型。
#
# Stable Diffusion 的 LoRA 大多按 kohya 训练脚本的格式分享：一个 [safetensors](../GLOSSARY.md#safetensors) 文件，别无他物。
# 我们的叫 `sepia.safetensors`，训练方法同第 11 章，按这种格式保存，文件头也一样不少。下面把它拷进一个空文件夹，就像浏览器下载的那样。

# %%
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.logging import disable_progress_bar

from aigc_helpers import install
from aigc_helpers.profile import current_profile

your_file, your_second_file = "", ""
full_profile = current_profile().name == "full" and bool(your_file)
disable_progress_bar()
dtype = current_profile().dtype if full_profile else torch.float32
repository = "stable-diffusion-v1-5/stable-diffusion-v1-5"
folder, files = repository if full_profile else install("sd", "embedded"), {}
files |= {"variant": "fp16"} if full_profile else {}
pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, **files)

# %%
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

from aigc_helpers.paths import DATA

pipeline.to(current_profile().device).set_progress_bar_config(disable=True)
yours = {"sepia.safetensors": your_file, "koala.safetensors": your_second_file or your_file}
downloads = Path(mkdtemp()) / "downloads"
downloads.mkdir()
for name, path in yours.items():
    shutil.copy(path or DATA / "loras" / name, downloads / name)
os.chdir(downloads.parent)  # so that the paths below are short
file, second_file = Path("downloads/sepia.safetensors"), Path("downloads/koala.safetensors")

# %% [markdown] lang="en"
# Chapter 02 opens such a file byte by byte: eight bytes with the length of the header, the header as JSON, then the
# numbers. **Predict:** a LoRA consists of pairs of matrices, A and B. How many tensors are there per layer?

# %% [markdown] lang="zh"
# 第 02 章逐字节拆过这种文件：前八个字节是文件头的长度，接着是 JSON 文件头，然后全是数。
# **先猜一猜：** LoRA 由一对对矩阵 A、B 组成。那么每一层有几个张量？

# %% tags=["nbval-check-output"]
import json

raw = file.read_bytes()
header_end = 8 + int.from_bytes(raw[:8], "little")
header = json.loads(raw[8:header_end])
about = header.pop("__metadata__")
layer = min(name for name in header if "attn2_to_k" in name).partition(".")[0]
for name in header:
    if name.startswith(layer + "."):
        print(name.removeprefix(layer), header[name]["dtype"], header[name]["shape"])
print(layer)
print(f"{len(header)} tensors, {len(about)} remarks in the header")

# %% [markdown] lang="en"
# Three: `lora_down` is A (rank × inputs), `lora_up` is B (outputs × rank), and `alpha` is a single number. What is added
# to the layer's weight is alpha / rank · B·A, so without [alpha](GLOSSARY.md#alpha) nobody knows how strong the LoRA is meant to be.
#
# The header also holds a hash. **Predict:** somebody writes another title into the header. Which of the two
# [checksums](GLOSSARY.md#checksum) changes, that of the file or that of the numbers?

# %% [markdown] lang="zh"
# 三个：`lora_down` 是 A（秩 × 输入），`lora_up` 是 B（输出 × 秩），`alpha` 是单独一个数。加到权重上的是 alpha / 秩 · B·A，
# 所以没有 [alpha](../GLOSSARY.md#alpha)，谁也不知道这个 LoRA 该有多强。
#
# 文件头里还有一个哈希。**先猜一猜：** 有人把文件头里的标题改了。整个文件的[校验和](../GLOSSARY.md#checksum)、
# 那些数的校验和，哪一个会变？

# %% tags=["nbval-check-output"]
from hashlib import sha256

from aigc_helpers.notebook import expect, expect_close, expect_equal

about_it = about | {"modelspec.title": "old photograph"}
retitled = json.dumps({"__metadata__": about_it} | header).encode()
other = len(retitled).to_bytes(8, "little") + retitled + raw[header_end:]
numbers = sha256(raw[header_end:]).hexdigest()
other_numbers = sha256(other[8 + len(retitled) :]).hexdigest()
stored = about.get("sshs_model_hash", numbers)
expect_equal(sha256(raw).digest() == sha256(other).digest(), False, "same hash of the file")
expect_equal(numbers == other_numbers, True, "same hash of the numbers")
expect_equal(stored == numbers, True, "sshs_model_hash is the latter")

# %% [markdown] lang="en"
# So sites that share LoRAs recognise a file by `sshs_model_hash`, whatever its title; and you check a download by the hash of
# the whole file, which its page names.
#
# ## 2 · Inspect before you load
#
# `aigc inspect` reads the header and says what it means. Nothing is loaded, no code is run. The cell calls the same command
# as a terminal does: `aigc inspect downloads/sepia.safetensors`. (The 0 at its end is the exit status: fine; 1 would be "refused".)

# %% [markdown] lang="zh"
# 所以分享 LoRA 的网站靠 `sshs_model_hash` 认文件，标题怎么改都认得；而你验证下载，要用整个文件的哈希，下载页上会写。
#
# ## 2 · 先检查，再加载
#
# `aigc inspect` 读文件头，并把它的意思讲出来。不加载任何东西，也不运行任何代码。单元格里调用的就是终端里的那条命令：
# `aigc inspect downloads/sepia.safetensors`。（末尾的 0 是退出状态，表示没问题；1 表示拒绝。）

# %%
from aigc_helpers.cli import main

main(["inspect", str(file)])

# %% [markdown] lang="en"
# Four things matter: what kind of adapter, for which family of models, with which [ranks](GLOSSARY.md#rank) and alphas, and by which
# [trigger word](GLOSSARY.md#trigger-word) it is called.
#
# ## 3 · Does it fit?
#
# A LoRA fits a model if every layer that it changes is there and has the same number of inputs and outputs. For Stable
# Diffusion one number tells the generations apart: what `attn2.to_k` takes in, which is the width of the text encoder.
#
# | family | `attn2.to_k` takes in |
# |---|---|
# | the workbook's miniature | 128 |
# | Stable Diffusion 1.x | 768 |
# | Stable Diffusion 2.x | 1,024 |
# | Stable Diffusion XL | 2,048 |
#
# In Python the report is an object. **Predict:** of the workbook's models, poet, clip and sd, which does the file fit, and what is wrong with the others?

# %% [markdown] lang="zh"
# 要看四样：是哪种适配器，配哪个家族的模型，[秩](../GLOSSARY.md#rank)和 alpha 各是多少，用什么[触发词](../GLOSSARY.md#trigger-word)唤起。
#
# ## 3 · 配不配
#
# LoRA 改动的每一层，模型里都有，输入输出的宽度也相同，这才叫配得上。对 Stable Diffusion 来说，一个数就能分清代际：
# `attn2.to_k` 的输入宽度，也就是文本编码器的宽度。
#
# | 家族 | `attn2.to_k` 的输入宽度 |
# |---|---|
# | 本书的微型模型 | 128 |
# | Stable Diffusion 1.x | 768 |
# | Stable Diffusion 2.x | 1,024 |
# | Stable Diffusion XL | 2,048 |
#
# 在 Python 里，报告是一个对象。**先猜一猜：** 本书的三个模型 poet、clip、sd，这个文件配哪个？另外两个又差在哪里？

# %% tags=["nbval-check-output"]
from aigc_helpers import inspect

inspection = inspect(file)
facts = inspection.adapter
print(f"{inspection.kind} with {inspection.key_format}'s names, for {inspection.family}")
print(f"{facts.modules} layers; ranks {facts.ranks}, alphas {facts.alphas} (value: layers)")
for each in inspection.compatibility:
    if each.model in ("poet", "clip", "sd (embedded)"):
        print("✓" if each.compatible else "✗", f"{each.model}: {each.reason}")
attention = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2
down = header[layer + ".lora_down.weight"]["shape"]
expect_equal(down[1], attention.to_k.in_features, "inputs of attn2.to_k, file and model")

# %% [markdown] lang="en"
# ## 4 · Load it, and see the picture change
#
# First the base alone, from fixed seeds, so that a difference is the LoRA's and not chance. Two measures, both from pixels:
# `moved` says how far the pictures are from the base's (mean absolute difference, of 255). `off_sepia`, as in chapter 11, says
# how far a pixel is from the brown line on which sepia lies: 0 is perfect sepia, whatever is drawn.

# %% [markdown] lang="zh"
# ## 4 · 加载，看画变没变
#
# 先让基座自己画，种子固定，这样有了差别，就一定是 LoRA 的功劳，而不是运气。用两个指标，都直接看像素：
# `moved` 是离基座的画有多远（平均绝对差，满值 255）；`off_sepia` 和第 11 章一样，是像素离 sepia 那条棕色直线有多远，
# 不管画的是什么，0 就是纯正的 sepia。

# %%
from aigc_helpers.images import draw_many
from diffusers import DDIMScheduler

pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
steps, guidance = (25, 7.5) if full_profile else (10, 2.5)
trigger, second_trigger = "sepia style", "sks"  # what the cards of your files name
names = ["fox", "mushroom", "cactus", "tiger"]
prompts = [f"{name}, {trigger}, blue background" for name in names]


def draw(prompts=prompts):
    return draw_many(pipeline, prompts, 0, steps, guidance)


# %%
import numpy

from aigc_helpers.images import in_sepia


def pixels_of(pictures):
    small = [numpy.asarray(each.resize((64, 64)), dtype=float) for each in pictures]
    return numpy.stack(small)


def off_sepia(pictures):
    dark, light = in_sepia(numpy.uint8([[0] * 3, [255] * 3])).astype(float)
    there, line = pixels_of(pictures) - dark, light - dark
    return float(numpy.abs(there - (there @ line / (line @ line))[..., None] * line).mean())


# %% [markdown] lang="en"
# Before the first LoRA touches it we also take a fingerprint of the UNet: a hash of every bit of its weights. Section 8 will
# ask whether it is still the same.

# %% [markdown] lang="zh"
# 在第一个 LoRA 碰它之前，先给 UNet 按个指纹：全部权重逐比特算一个哈希。到第 8 节再来问它变没变。


# %% tags=["nbval-check-output"]
def moved(pictures, others):
    return float(numpy.abs(pixels_of(pictures) - pixels_of(others)).mean())


def fingerprint(model):
    digest = sha256()
    for name, weight in model.state_dict().items():
        if "lora_" not in name:
            digest.update(weight.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


untouched, base_pictures = fingerprint(pipeline.unet), draw()
expect_equal(fingerprint(pipeline.unet) == untouched, True, "the same after drawing")
expect(off_sepia(base_pictures), 20, 90, "off sepia, the base asked for sepia")

# %% [markdown] lang="en"
# `load_lora_weights` reads kohya's format as it is. `use_safetensors=True` matters: without it diffusers also takes a `.bin`,
# a [pickle](GLOSSARY.md#pickle), which can run code. **Predict:** the prompt asks for a blue background. Is the background still blue?

# %% [markdown] lang="zh"
# `load_lora_weights` 直接就能读 kohya 格式。`use_safetensors=True` 很要紧：不写的话，diffusers 也肯读 `.bin`，
# 那是 [pickle](../GLOSSARY.md#pickle)，能运行代码。**先猜一猜：** 要的明明是蓝色背景，背景还会是蓝的吗？

# %% tags=["nbval-check-output"]
from aigc_helpers.figures import show_pictures

pipeline.load_lora_weights(file, adapter_name="sepia", use_safetensors=True)
print(pipeline.get_list_adapters(), "in force:", pipeline.get_active_adapters())
sepia_pictures = draw()
strip = {f"{name}, base": each for name, each in zip(names, base_pictures, strict=True)}
strip |= {f"{name}, LoRA": each for name, each in zip(names, sepia_pictures, strict=True)}
alt_en = "Fox, mushroom, cactus, tiger: in colour by the base, brownish with the LoRA."
show_pictures(strip, alt_en, "狐狸、蘑菇、仙人掌、老虎：基座画成彩色，加上 LoRA 偏棕色。")
expect(moved(sepia_pictures, base_pictures), 20, 120, "pixels moved by the LoRA, of 255")
expect(off_sepia(sepia_pictures), 0, 25, "off sepia, with the LoRA")

# %% [markdown] lang="en"
# The blue is gone: the LoRA is in force, and the number says so, too. (It is no perfect sepia, for colours shine through here and
# there. Its rank is only 4, so that the file is small; chapter 11 compares ranks.) A picture that changes is the only proof that
# counts: section 9 shows files that load without a complaint and change nothing.
#
# ## 5 · Convert it
#
# Three programs name the same matrix in three ways, and each reads only its own:
#
# | format | file | where alpha stands |
# |---|---|---|
# | kohya (A1111, ComfyUI) | one `.safetensors` | a tensor per layer |
# | diffusers | one `.safetensors` | JSON in the header |
# | [PEFT](GLOSSARY.md#peft) | a folder | `adapter_config.json` |
#
# kohya's names have underscores where the model has dots, and `to_k` has one of its own; so nobody can go back by
# replacing characters, one has to know the model. **Predict:** we convert to diffusers, from there to PEFT, and from there back to kohya.
# How many bits change?

# %% [markdown] lang="zh"
# 蓝色不见了：LoRA 生效了，数字也这么说。（离纯正的 sepia 还差一点，有些地方透着原来的颜色。为了让文件小，它的秩只有 4；
# 不同的秩差多少，见第 11 章。）画变了，这才是唯一算数的证据：第 9 节会看到，有些文件加载时一声不响，却什么也没改。
#
# ## 5 · 转换格式
#
# 同一个矩阵，三个程序有三种叫法，而且各认各的：
#
# | 格式 | 文件 | alpha 写在哪里 |
# |---|---|---|
# | kohya（A1111、ComfyUI） | 一个 `.safetensors` | 每层一个张量 |
# | diffusers | 一个 `.safetensors` | 文件头里的 JSON |
# | [PEFT](../GLOSSARY.md#peft) | 一个文件夹 | `adapter_config.json` |
#
# kohya 把模型名字里的点都换成了下划线，可 `to_k` 里本来就有下划线，所以单靠替换字符回不去，必须认识模型。
# **先猜一猜：** 先转成 diffusers，再转成 PEFT，最后转回 kohya，会变几个比特？

# %% tags=["nbval-check-output"]
from aigc_helpers import convert
from safetensors.torch import load_file

way = [file, *map(Path, ("in_diffusers.safetensors", "in_peft", "again.safetensors"))]
for start, end, to in zip(way, way[1:], ("diffusers", "peft", "kohya"), strict=False):
    done = convert(start, end, to)
    print(f"{to:10} {done.layers}, ranks {done.ranks}, alphas {done.alphas}")
near = 1 if dtype == torch.float32 else 64  # of 255: half precision rounds coarsely
tensors, again = load_file(file), load_file("again.safetensors")
equal = [torch.equal(tensors[name], again[name]) for name in tensors]
equal += [tensors.keys() == again.keys()]
expect_equal(all(equal), True, "there and back, every bit")
hashes = inspect(way[3], read_numbers=True).hashes["again.safetensors"]
expect_equal(hashes["sshs_model_hash"] == numbers, True, "and the hash of the numbers")

# %% [markdown] lang="en"
# None. On the command line: `aigc convert sepia.safetensors sepia_peft --to peft`. With `--base sd` every layer is compared with
# the model on the way, and a file that does not fit is refused before anything is written.
#
# `load_lora_weights` does not read PEFT's folder; the workbook's `load_adapter` reads all three formats. It is also the strict way: what
# diffusers would only log, or not even that, is an error there (section 9). Here are the three names of one matrix, and the
# pictures from both files.

# %% [markdown] lang="zh"
# 一个也不变。命令行里是 `aigc convert sepia.safetensors sepia_peft --to peft`。加上 `--base sd`，转换时会逐层和模型核对，
# 配不上的文件在写下任何东西之前就会被拒绝。
#
# `load_lora_weights` 不读 PEFT 的文件夹；本书的 `load_adapter` 三种格式都读。它还是严格的加载法：diffusers 只记一行日志、
# 甚至日志都不记的问题，在它那里一律报错（第 9 节）。下面是同一个矩阵的三个名字，以及分别从两种文件加载后画的画。

# %% tags=["nbval-check-output"]
from aigc_helpers import load_adapter

path = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
for file_in_format in (file, way[1], way[2] / "adapter_model.safetensors"):
    stems = {name.partition(".lora_")[0] for name in load_file(file_in_format)}
    print(*[stem for stem in stems if stem.endswith((path, path.replace(".", "_")))])
pipeline.unload_lora_weights()
pipeline.load_lora_weights(way[1], adapter_name="sepia", use_safetensors=True)
by_diffusers = pixels_of(draw())
load_adapter(pipeline, way[2], "sepia")
before = pixels_of(sepia_pictures)
expect_close(by_diffusers, before, near, "pictures from diffusers' format")
expect_close(pixels_of(draw()), before, near, "pictures from PEFT's format")

# %% [markdown] lang="en"
# ## 6 · Scale it
#
# `set_adapters` multiplies the LoRA by a number: 0 is the base, 1 is what was trained. **Predict** half strength: half of the
# pictures brown, or all of them half brown?

# %% [markdown] lang="zh"
# ## 6 · 调强度
#
# `set_adapters` 给 LoRA 乘上一个数：0 是基座，1 是训练出来的样子。**先猜一猜**取一半会怎样：一半的画变棕，还是每张都半棕？

# %% tags=["nbval-check-output"]
scales = [0.0, 0.5, 1.0, 1.5]
at_scale = {}
for scale in scales:
    pipeline.set_adapters(["sepia"], [scale])
    at_scale[scale] = draw(prompts[:2])
strip = {f"{names[row]}, {s}": at_scale[s][row] for row in (0, 1) for s in scales}
alt_en = "Fox and mushroom at scales 0, 0.5, 1 and 1.5: from blue and bright to overdone."
show_pictures(strip, alt_en, "强度 0 到 1.5 的狐狸和蘑菇：从鲜艳的蓝底到棕色，再到过头。")
away = [off_sepia(at_scale[scale]) for scale in scales]
expect_close(pixels_of(at_scale[0.0]), pixels_of(base_pictures[:2]), near, "scale 0, base")
expect(away[1] / away[0], 0.2, 0.95, "off sepia, 0.5 over 0")
expect(away[2] / away[1], 0.1, 0.9, "off sepia, 1 over 0.5")

# %% [markdown] lang="en"
# All of them, a little: at 0.5 the colours are duller, at 1 the blue is gone. Beyond 1 nobody has trained it, and more is not better: the
# forms begin to dissolve. Authors often recommend a scale below 1, such as 0.7; which one is best differs from file to file.
#
# ## 7 · Mix two
#
# A second file: `koala.safetensors` has taught the base a word, `sks`, which means koala. It was never shown sepia, as the other was
# never shown a koala. **Predict:** after loading it, which of the two is in force?

# %% [markdown] lang="zh"
# 每张都变一点：0.5 时颜色暗下来，到 1 蓝色才消失。超过 1 的强度谁也没训练过，而且过犹不及：形状开始散了。
# 作者常建议把强度设在 1 以下，比如 0.7；具体多少最好，每个文件不一样。
#
# ## 7 · 两个一起用
#
# 第二个文件：`koala.safetensors` 教会了基座一个词 `sks`，意思是考拉。它从没见过 sepia，另一个也从没见过考拉。
# **先猜一猜：** 加载它之后，两个 LoRA 里生效的是哪个？

# %% tags=["nbval-check-output"]
import warnings

warnings.filterwarnings("ignore", "Already found a `peft_config`")  # a second is wanted
pipeline.load_lora_weights(second_file, adapter_name="koala", use_safetensors=True)
print(pipeline.get_list_adapters())
expect_equal(pipeline.get_active_adapters(), ["koala"], "in force after loading the second")
pipeline.set_adapters(["sepia", "koala"], [1.0, 1.0])
expect_equal(pipeline.get_active_adapters(), ["sepia", "koala"], "after set_adapters")

# %% [markdown] lang="en"
# Only the one loaded last: whoever loads two and draws uses one. `set_adapters` names all that shall count; what they add to the weights is
# summed up. Is what comes out a koala? We look which of 307 emoji in sepia is nearest, pixel by pixel.

# %% [markdown] lang="zh"
# 只有最后加载的那个：加载两个就开画，其实只用上了一个。要让哪些生效，就用 `set_adapters` 点名，它们加到权重上的东西会相加。
# 画出来的是考拉吗？拿 307 个 sepia 色调的表情逐像素比一比，看哪个最近。

# %%
from aigc_helpers.images import Facts, load_emoji, read_shown_in_training

known = load_emoji().only((*read_shown_in_training().concepts, "koala"))
on_blue = (Facts(number, "noto", "blue") for number in range(len(known.names)))
drawings = in_sepia(known.pictures(on_blue)).astype(float)


def nearest(pictures):
    errors = [((drawings - one) ** 2).mean(axis=(1, 2, 3)) for one in pixels_of(pictures)]
    return [known.names[each.argmin()] for each in errors]


# %% tags=["nbval-check-output"]
def mix(names, scales):
    pipeline.set_adapters(names, scales)
    return draw([f"{second_trigger}, {trigger}, blue background"] * 4)


mixed = {"koala": mix(["koala"], [1.0]), "both": mix(["sepia", "koala"], [1.0, 1.0])}
strip = {f"{name}, {n}": one for name, four in mixed.items() for n, one in enumerate(four)}
alt_en = "Above four grey koalas on blue; below, with both LoRAs, reddish ones on brown."
alt_zh = "上排四只蓝底的灰考拉；下排两个 LoRA 一起，褐色底上偏红的考拉。"
show_pictures(strip, alt_en, alt_zh)
expect(off_sepia(mixed["koala"]), 20, 90, "off sepia, koala alone")
expect(off_sepia(mixed["both"]), 0, 25, "off sepia, both")
expect(nearest(mixed["both"]).count("koala"), 3, 4, "koalas, of 4, with both")

# %% [markdown] lang="en"
# The blue is gone, and of all emoji the koala is still the nearest; neither file was ever shown one in sepia. But they have lost some of
# their form, and are more pink than brown: both LoRAs pull at the same model. The
# panel has a slider for each; the line under the pictures is the call that set the pipeline, and `mix` above is its code twin. Where is
# the best balance?

# %% [markdown] lang="zh"
# 蓝色没了，所有表情里最像的还是考拉，而 sepia 色调的考拉，两个文件谁也没见过。不过形状不如单独时清楚，颜色也偏粉：
# 两个 LoRA 都在拉扯同一个模型。
# 面板里每个 LoRA 一个滑块，画下面那行就是设置流水线的代码，与面板等价的就是上面的 `mix`。调到多少最平衡？

# %% tags=["panel"]
from copy import copy, deepcopy

from aigc_helpers.panels import LoraMixerPanel
from IPython.display import display

own, koalas = copy(pipeline), [f"{second_trigger}, {trigger}, blue background"] * 4
own.unet = deepcopy(pipeline.unet)  # the next cells take the LoRAs out of the other one


def paint(names, scales):
    own.set_adapters(names, scales)
    return draw_many(own, koalas, 0, steps, guidance)


display(LoraMixerPanel({"sepia": 0.8, "koala": 1.0}, paint, [f"koala {n}" for n in "0123"]))

# %% [markdown] lang="en"
# ## 8 · Fuse, unload, and the base to the bit
#
# As long as a LoRA lies beside the weights, nothing of the base is touched. **Predict:** two LoRAs loaded, scaled, mixed, drawn with.
# After `unload_lora_weights`, is the fingerprint the old one?

# %% [markdown] lang="zh"
# ## 8 · 合并、卸载，以及逐比特复原的基座
#
# LoRA 只要还在权重旁边，基座就一点没动过。**先猜一猜：** 两个 LoRA 加载过、调过强度、混用过，也画过了。
# `unload_lora_weights` 之后，指纹还是原来的吗？

# %% tags=["nbval-check-output"]
pipeline.delete_adapters("koala")
expect_equal(pipeline.get_list_adapters(), {"unet": ["sepia"]}, "left after deleting")
pipeline.unload_lora_weights()
expect_equal(pipeline.get_list_adapters(), {}, "left after unloading")
expect_equal(fingerprint(pipeline.unet) == untouched, True, "every bit as before")
expect_close(pixels_of(draw()), pixels_of(base_pictures), near, "pictures, and the base's")

# %% [markdown] lang="en"
# **Fusing** ([merging](GLOSSARY.md#merge)) adds alpha / rank · B·A to the weights themselves. Then drawing costs no more than with the base
# alone, and the model can be saved as a whole. `unfuse_lora` subtracts it again. **Predict:** is a number that got something added
# and subtracted again the same number, to the last bit? And what is drawn after fusing and unloading *without* unfusing?

# %% [markdown] lang="zh"
# **合并**（fuse，也叫 [merge](../GLOSSARY.md#merge)）把 alpha / 秩 · B·A 加进权重本身。这样画图的开销就和单独的基座一样，模型还可以整个存下来。
# `unfuse_lora` 再把它减掉。**先猜一猜：** 一个数，加上一点再减掉，最后一个比特还和原来一样吗？
# 还有，合并之后*不撤销*就直接卸载，画出来是什么样？

# %% tags=["nbval-check-output"]
for unfuse in (True, False):
    pipeline.load_lora_weights(file, adapter_name="sepia", use_safetensors=True)
    pipeline.fuse_lora()
    if unfuse:
        pipeline.unfuse_lora()
    pipeline.unload_lora_weights()
    expect_equal(pipeline.get_list_adapters(), {}, "adapters listed")
    expect_equal(fingerprint(pipeline.unet) == untouched, False, "every bit as before")
    expected = base_pictures if unfuse else sepia_pictures
    name = "the base's" if unfuse else "the LoRA's"
    expect(moved(draw(), expected), 0, 1, f"unfused: {unfuse}; away from {name} pictures")
settings = {"subfolder": "unet", "torch_dtype": dtype} | files
pipeline.unet = type(pipeline.unet).from_pretrained(folder, **settings).to(pipeline.device)
expect_equal(fingerprint(pipeline.unet) == untouched, True, "loaded anew, as before")

# %% [markdown] lang="en"
# (W + d) − d is rounded twice, so it is not W to the bit. Nobody sees that in a picture, but every
# round adds a little. The real trap is the second: the list is empty, and the LoRA is still in force. It has become part of the base, and only
# loading the base anew gets rid of it. If everything you draw looks like a LoRA that you have unloaded, this is why.
#
# Where diffusers stops, the workbook's `merge` goes on: it adds in float32, says per layer how much the rounding to the
# model's own precision took away, and keeps the old weights, so that `undo` is exact.

# %% [markdown] lang="zh"
# (W + d) − d 舍入了两次，所以逐比特看已经不是 W。画上看不出来，但每来一遍都会多差一点。
# 真正的坑是第二种：列表空了，LoRA 却还在起作用。它已经成了基座的一部分，只有重新加载基座才能去掉。
# 如果你画什么都像某个已经卸载的 LoRA，原因就在这里。
#
# diffusers 做不到的，本书的 `merge` 接着做：它用 float32 相加，逐层报告舍入到模型自身精度时丢了多少，并且留着旧权重，
# 所以 `undo` 能精确复原。

# %% tags=["nbval-check-output"]
from aigc_helpers import merge

merged = merge(pipeline, file)
lost = max(rounding.relative_error for rounding in merged.roundings)
print(f"{len(merged.roundings)} layers merged into {merged.roundings[0].dtype}")
expect(lost, 0, 1e-4, "share of what was added that rounding took, worst layer")
expect(moved(draw(), sepia_pictures), 0, 1, "merged, pixels away from not merged")
merged.undo()
expect_equal(fingerprint(pipeline.unet) == untouched, True, "undone, every bit as before")

# %% [markdown] lang="en"
# ## 9 · How files fail
#
# Now we break the file, in eight ways that happen to downloaded files, and give each to diffusers, to the inspector and to
# the strict loader. What matters is not whether an error comes, but whether the *answer of the UNet* changes as it should.
# `effect` measures that on one latent: 0 is the base's answer, 1 as far from it as with the sound file.
#
# `AdapterTrial` does the measuring, and listens to diffusers' log, which notebooks switch off. The sound file comes first. **Predict:** what does
# diffusers log about it?

# %% [markdown] lang="zh"
# ## 9 · 文件会怎样失灵
#
# 下面把文件弄坏，一共八种坏法，都是下载来的文件上真会发生的，每种都交给 diffusers、检查器和严格加载法。要紧的不是报不报错，
# 而是 *UNet 的回答*有没有照该变的样子变。`effect` 在一份潜变量上量这件事：0 是基座的回答，1 是和好文件离得一样远。
#
# 量的事由 `AdapterTrial` 来做，它还会听 diffusers 的日志，notebook 里日志是关着的。先试完好的文件。
# **先猜一猜：** 对它，diffusers 的日志里会写什么？

# %%
from aigc_helpers.evaluation import AdapterTrial
from safetensors.torch import save_file

trial = AdapterTrial(pipeline, prompts[0], lambda: load_adapter(pipeline, file))


def try_out(name, tensors):
    path = Path(f"{name}.safetensors")
    save_file(tensors, path, {"format": "pt"})
    load = pipeline.load_lora_weights
    theirs = trial.outcome(lambda: load(path, adapter_name="test", use_safetensors=True))
    strict = trial.outcome(lambda: load_adapter(pipeline, path, "test"))
    for who, outcome in {"diffusers": theirs, "strict": strict}.items():
        print(f"{who:9} effect {outcome.effect:.2f}  {outcome.said[:220]}")
    return theirs, strict


# %% tags=["nbval-check-output"]
theirs, strict = try_out("sound", tensors)
print(f"log: {theirs.log[0][:110]}")
expect_close([theirs.effect, strict.effect], [1, 1], 0.01, "effect")

# %% [markdown] lang="en"
# A warning about a file in perfect order: it has nothing for the text encoder, and need not. Whoever has read this warning a hundred times
# does not read it any more, and that is the trouble with the next ones.
#
# **1, the wrong family.** An SDXL file on a smaller model. We make one by giving `attn2.to_k` and `to_v` SDXL's width. diffusers#7770 is a thread
# about what follows. **Predict:** does the error name SDXL?

# %% [markdown] lang="zh"
# 文件好好的，也有一条警告：它没有文本编码器的部分，本来也用不着。这条警告看过一百遍的人，就再也不看警告了，后面的麻烦正出在这里。
#
# **1，家族不对。** 把 SDXL 的文件用在更小的模型上。我们把 `attn2.to_k` 和 `to_v` 换成 SDXL 的宽度，就造出了一个。
# diffusers#7770 讨论的就是由此而来的报错。**先猜一猜：** 报错里会提到 SDXL 吗？

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
of_sdxl = dict(tensors)
for name, tensor in tensors.items():
    if name.endswith(("attn2_to_k.lora_down.weight", "attn2_to_v.lora_down.weight")):
        of_sdxl[name] = torch.randn(len(tensor), 2048).to(tensor.dtype)
theirs, strict = try_out("sdxl", of_sdxl)
expect_equal(inspect(Path("sdxl.safetensors")).family, "Stable Diffusion XL", "inspector")
expect_close([theirs.effect, strict.effect], [0, 0], 0.01, "effect")

# %% [markdown] lang="en"
# diffusers counts numbers, and leaves the conclusion to you; the inspector draws it from the width, before anything is loaded.
#
# **2, the lost alpha.** Some tools write no alpha, and libraries then take it for the rank. Others are worse: diffusers' own export to kohya's format
# writes alpha = rank, whatever it was. Ours was trained with alpha = 2 · rank. **Predict** the effect.

# %% [markdown] lang="zh"
# diffusers 只报数字，结论留给你自己下；检查器看宽度就有了结论，而且是在加载之前。
#
# **2，丢了 alpha。** 有些工具不写 alpha，程序库就当它等于秩。还有更糟的：diffusers 自己导出 kohya 格式时，
# 不管原来是多少，一律写成 alpha = 秩。我们的文件训练时 alpha 是秩的两倍。**先猜一猜** `effect` 是多少。

# %% tags=["nbval-check-output"]
from diffusers.utils import convert_state_dict_to_kohya

no_alpha = {name: each for name, each in tensors.items() if not name.endswith(".alpha")}
exported = convert_state_dict_to_kohya(load_file("in_diffusers.safetensors"))
exported = {name: each.contiguous() for name, each in exported.items()}
for name, weaker in {"no_alpha": no_alpha, "exported": exported}.items():
    theirs, strict = try_out(name, weaker)
    seen = inspect(Path(f"{name}.safetensors"))
    print(f"inspector, {name}: alphas {seen.adapter.alphas}, {seen.remarks}")
    expect(strict.effect, 0.3, 0.9, "effect")

# %% [markdown] lang="en"
# A weaker LoRA both times. That an alpha is *missing* can be seen, and the inspector says so. That it is *wrong* nobody can see in the file:
# the export is a plain dictionary of tensors, and the header, where `ss_network_alpha` said 8, is gone. So keep the original, compare with the card,
# and convert with a tool that carries alphas, such as section 5's.
#
# **3, different alphas.** kohya allows an alpha per layer. Here the values and outputs of attention have four times as much. **Predict:** do diffusers and the strict loader agree?

# %% [markdown] lang="zh"
# 两次都变弱了。alpha *没写*，看得出来，检查器会说；alpha *写错了*，光看文件谁也看不出来：导出得到的只是一个张量字典，
# 写着 `ss_network_alpha` 为 8 的文件头已经没了。所以要留着原文件，对照卡片，并且用第 5 节那样带着 alpha 走的工具来转换。
#
# **3，各层 alpha 不同。** kohya 允许每层一个 alpha。这里把注意力的 value 和输出层改成四倍。**先猜一猜：** diffusers 和严格加载法的结果一样吗？

# %% tags=["nbval-check-output"]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    some = [name for name in tensors if name.endswith(("to_v.alpha", "to_out_0.alpha"))]
    changed = {name: tensors[name] * 4 for name in some}
    theirs, strict = try_out("alphas", tensors | changed)
print(*{str(each.message)[:75] for each in caught if "alpha_pattern" in str(each.message)})
print("inspector:", inspect(Path("alphas.safetensors")).remarks[0])
expect(strict.effect - theirs.effect, 0.05, 2, "difference of the effects")

# %% [markdown] lang="en"
# They differ: diffusers looks for the attention layers' alphas under names that the model no longer has, and gives these layers the most
# frequent alpha. Nothing but a Python warning says so.
#
# **4, a prefix that does not match.** `unet.save_lora_adapter` writes the names without `unet.`, and `load_lora_weights` looks for it.

# %% [markdown] lang="zh"
# 不一样：diffusers 把注意力层的 alpha 对到了模型里早已没有的名字上，结果这些层都用了最常见的那个 alpha。
# 提醒你的，只有一条 Python 警告。
#
# **4，前缀对不上。** `unet.save_lora_adapter` 写的名字不带 `unet.`，而 `load_lora_weights` 偏偏要找它。

# %% tags=["nbval-check-output"]
in_diffusers = load_file("in_diffusers.safetensors")
bare = {name.removeprefix("unet."): each for name, each in in_diffusers.items()}
theirs, strict = try_out("prefix", bare)
print("log:", theirs.log[0][:80])
print("inspector:", inspect(Path("prefix.safetensors")).key_format)
expect_close(theirs.effect, 0, 0.01, "effect by diffusers")
load = pipeline.unet.load_lora_adapter
told = trial.outcome(lambda: load("prefix.safetensors", prefix=None, use_safetensors=True))
expect(told.effect, 0.3, 0.9, "effect with prefix=None (the alpha is lost, too)")

# %% [markdown] lang="en"
# It "loads", without an error, and nothing changes. The log says it in the words that it also had for the sound file. The
# strict loader understands the names, and remarks that the alpha is gone: it stood in the header, which we did not write.
#
# **5, the text encoder's names.** kohya's files may change the text encoder as well, under `lora_te_text_model_encoder_…`. Since transformers 5 has
# dropped the inner `text_model`, exports are named `lora_te1_encoder_…`, and A1111 and ComfyUI do not find these layers. We add a small LoRA
# on the text encoder, once under each name.

# %% [markdown] lang="zh"
# 它“加载成功”，没有报错，也什么都没变。日志里的话，和对好文件说的是同一句。严格加载法认得这些名字，
# 并提醒 alpha 没了：alpha 原本在文件头里，而我们没写文件头。
#
# **5，文本编码器的名字。** kohya 文件还可以改文本编码器，名字是 `lora_te_text_model_encoder_…`。transformers 5 去掉了中间的 `text_model`，
# 于是导出来的名字成了 `lora_te1_encoder_…`，A1111 和 ComfyUI 找不到这些层。我们给文本编码器加一个小 LoRA，两种名字各写一遍。

# %% tags=["nbval-check-output"]
width = pipeline.text_encoder.config.hidden_size
right = dict(tensors)
for place in ("q_proj", "k_proj", "v_proj", "out_proj"):
    stem = f"lora_te_text_model_encoder_layers_0_self_attn_{place}"
    right[f"{stem}.lora_down.weight"] = torch.randn(4, width).half() / width**0.5
    right[f"{stem}.lora_up.weight"] = torch.randn(width, 4).half() / 4
    right[f"{stem}.alpha"] = torch.tensor(8.0).half()
renamed = {n.replace("lora_te_text_model", "lora_te1"): each for n, each in right.items()}
theirs, strict = try_out("text_encoder", renamed)
print("inspector:", *inspect(Path("text_encoder.safetensors")).remarks)
convert(Path("text_encoder.safetensors"), Path("mended.safetensors"), "kohya")
expect_equal(load_file("mended.safetensors").keys() == right.keys(), True, "names mended")

# %% [markdown] lang="en"
# Both loaders cope with either name; the file only fails at its destination, and without a word. `aigc convert … --to kohya` writes the names
# that A1111 and ComfyUI look for. (Neither program is part of the workbook, so this was not tried in them.)
#
# **6, DoRA.** [DoRA](REFERENCES.md#dora) also learns a length for each output's weights, `dora_scale`. **Predict:** diffusers does not know it in kohya's files. An
# error?

# %% [markdown] lang="zh"
# 两种加载法对这两种名字都应付得来；文件要到了目的地才失灵，而且一声不响。`aigc convert … --to kohya` 写出来的，
# 就是 A1111 和 ComfyUI 要找的名字。（这两个程序不在本书里，所以没有在它们上面试过。）
#
# **6，DoRA。** [DoRA](../REFERENCES.md#dora) 还给每个输出的权重学一个长度，叫 `dora_scale`。**先猜一猜：** kohya 文件里的它，diffusers 不认识。
# 会报错吗？

# %% tags=["nbval-check-output"]
dora = dict(tensors)
for name, tensor in tensors.items():
    if name.endswith(".lora_up.weight"):
        ones = [1] * (tensors[name.replace("lora_up", "lora_down")].ndim - 1)
        lengths = torch.full((len(tensor), *ones), 1.3)
        dora[name.replace("lora_up.weight", "dora_scale")] = lengths.to(tensor.dtype)
theirs, strict = try_out("dora", dora)
print("log:", theirs.log[0][:70])
print("inspector:", *inspect(Path("dora.safetensors")).remarks)
expect_close(theirs.effect, 1, 0.01, "effect by diffusers")
expect(abs(strict.effect - 1), 0.05, 100, "by the strict loader, away from 1")

# %% [markdown] lang="en"
# No error: it leaves the lengths out, and draws something that the author never saw.
#
# **7, a LoRA that does nothing.** B begins at zero. A file saved before the first step, or by a training whose optimizer was made too
# early (chapter 06, section 5), is in perfect order and empty.
#
# **8, keys that match nothing.** Some layers have names that this model does not have, for instance from a tool that spells them
# otherwise. Here a third of the layers is lost, all those that listen to the prompt. **Predict:** which of the two does diffusers refuse?

# %% [markdown] lang="zh"
# 没有报错：它把长度丢掉了，画出来的东西连作者都没见过。
#
# **7，什么也不做的 LoRA。** B 从零开始。还没走第一步就保存的文件，或者优化器建得太早（第 06 章第 5 节）训练出来的文件，样样齐全，却是空的。
#
# **8，什么也没匹配上的键。** 有几层的名字，这个模型里没有，比如工具的拼法不同。这里丢了三分之一的层，而且全是听提示词的那些。
# **先猜一猜：** 这两个文件，diffusers 会拒绝哪个？

# %% tags=["nbval-check-output"]
zero = {n: each * 0 if ".lora_up." in n else each for n, each in tensors.items()}
theirs, strict = try_out("zero", zero)
print("inspector:", inspect(Path("zero.safetensors")).remarks)
expect_close([theirs.effect, strict.effect], [0, 0], 0, "effect")
renamed = {n.replace("attn2", "cross"): each for n, each in tensors.items()}
theirs, strict = try_out("names", renamed)
print("log:", theirs.log[0][:78])
compared = inspect(Path("names.safetensors")).compatibility
print("inspector:", *[each.reason for each in compared if each.model == "sd (embedded)"])
expect(theirs.effect, 0.5, 0.95, "effect by diffusers")
expect_close(strict.effect, 0, 0, "effect by the strict loader")

# %% [markdown] lang="en"
# Neither. The inspector reads headers, where zeros look like any other numbers, but it sees names; the strict loader looks at the matrices,
# too. A loader that deserves trust gives the effect that the author saw, or refuses.
#
# ## 10 · Where A1111 and ComfyUI look
#
# | | A1111 | ComfyUI |
# |---|---|---|
# | checkpoints | `models/Stable-diffusion` | `models/checkpoints` |
# | LoRA | `models/Lora` | `models/loras` |
# | VAE | `models/VAE` | `models/vae` |
# | embeddings | `embeddings` | `models/embeddings` |
#
# `aigc install FILE --layout a1111 --to DIR` inspects the file, finds the folder of its kind, compares the hash if you give one
# (`--sha256`), and puts it there whole or not at all. We make two trees with the folder that each program is known by.
#
# In A1111 the prompt `fox, sepia style <lora:sepia:0.8>` calls the file by its name, with a scale; in ComfyUI the node *Load LoRA* has one scale for the
# UNet and one for the text encoder. What would go wrong later is said at once: a file with diffusers' names, a folder that is not
# the program's, another file under the same name.

# %% [markdown] lang="zh"
# 一个也不拒绝。检查器只读文件头，零和别的数在那里没有区别，但名字它看得见；严格加载法还会去看矩阵本身。
# 值得信任的加载法，要么给出作者看到的效果，要么拒绝。
#
# ## 10 · A1111 和 ComfyUI 在哪里找文件
#
# | | A1111 | ComfyUI |
# |---|---|---|
# | 检查点 | `models/Stable-diffusion` | `models/checkpoints` |
# | LoRA | `models/Lora` | `models/loras` |
# | VAE | `models/VAE` | `models/vae` |
# | embedding | `embeddings` | `models/embeddings` |
#
# `aigc install FILE --layout a1111 --to DIR` 会检查文件，按种类找到文件夹，给了哈希（`--sha256`）就核对，然后完整地放进去，
# 要么就什么也不放。下面造两棵目录树，各带一个能认出是哪个程序的文件夹。
#
# 在 A1111 里，提示词 `fox, sepia style <lora:sepia:0.8>` 按文件名唤起它，并带上强度；在 ComfyUI 里，*Load LoRA* 节点给 UNet 和文本编码器各一个强度。
# 以后会出的问题，安装时就说清楚：名字是 diffusers 格式的文件，不是那个程序的文件夹，同名的另一个文件。

# %% tags=["nbval-check-output"]
for tree in ("webui/models/Stable-diffusion", "ComfyUI/models/checkpoints"):
    Path(tree).mkdir(parents=True, exist_ok=True)
main(["install", str(file), "--layout", "a1111", "--to", "webui"])
main(["install", str(file), "--layout", "comfyui", "--to", "ComfyUI"])
installed = Path("webui/models/Lora/sepia.safetensors").read_bytes()
expect_equal(installed == raw, True, "installed, every bit")

# %% tags=["nbval-check-output"]
from aigc_helpers.errors import ReaderError
from aigc_helpers.store import install_file

done = install_file(way[1], layout="comfyui", to=Path("ComfyUI"))
print("remark:", *done.remarks)
for wrong, to in ((file, Path("downloads")), ("no_alpha.safetensors", Path("webui"))):
    try:
        shutil.copy(wrong, "sepia.safetensors")
        install_file(Path("sepia.safetensors"), layout="a1111", to=to)
    except ReaderError as error:
        print("refused:", str(error)[:66])

# %% [markdown] lang="en"
# ## 11 · A card for your own LoRA
#
# A file that you share is used by people who cannot ask you. The [model card](GLOSSARY.md#model-card) beside it answers what no header can be trusted to say:
#
# | what | why |
# |---|---|
# | base model, with version | on any other it does nothing, or harm |
# | trigger word, and a prompt that works | without it nobody gets what you got |
# | training data and its licence; whether people or artists agreed | whoever uses it answers for it |
# | licence of the LoRA itself | also bound by the base's licence |
# | rank, alpha, layers, steps, rate; scale to use | so that a lost alpha is noticed (section 9) |
# | measures, and what goes wrong | section 4's numbers, not adjectives |
# | sha256 of the file | so that a download can be checked |
#
# Most of it the inspector knows, so a card can be begun by a program, and must be finished by you.

# %% [markdown] lang="zh"
# ## 11 · 给自己的 LoRA 写卡片
#
# 你分享出去的文件，用它的人没法当面问你。旁边的[模型卡片](../GLOSSARY.md#model-card)要回答那些文件头说了也不能全信的事：
#
# | 写什么 | 为什么 |
# |---|---|
# | 基座模型及版本 | 换了别的基座，轻则没用，重则添乱 |
# | 触发词，以及一条好用的提示词 | 没有它，别人得不到你得到的效果 |
# | 训练数据及其许可；涉及的人或画师是否同意 | 谁用谁负责 |
# | LoRA 自己的许可证 | 同时受基座许可证约束 |
# | 秩、alpha、哪些层、步数、学习率；建议强度 | 丢了 alpha 才看得出来（第 9 节） |
# | 指标，以及不行的地方 | 像第 4 节那样给数字，不要形容词 |
# | 文件的 sha256 | 下载之后可以核对 |
#
# 其中大部分检查器都知道，所以卡片可以由程序起头，但必须由你来写完。

# %% tags=["nbval-check-output"]
told = inspection.training
card = f"""# {told.get("title", file.stem)}

- base: {inspection.family}; trigger: `{told.get("trigger phrase")}`
- rank {list(facts.ranks)}, alpha {list(facts.alphas)}, {facts.modules} layers
- {told.get("training steps")} steps on {told.get("training pictures")} pictures
- licence: {told.get("licence")}; data: …
- measured: … ; use at scale: …
- sha256: {sha256(raw).hexdigest()}
"""
Path("downloads/README.md").write_text(card, encoding="utf-8")
print(card)
finished = (DATA / "loras" / "README.md").read_text(encoding="utf-8")
has_hash = bool(your_file) or sha256(raw).hexdigest() in finished
expect_equal(has_hash, True, "the finished card has this hash")

# %% [markdown] lang="en"
# The finished card of the two files lies beside them: `data/loras/README.md`. Chapter 13 writes one for a whole model.
#
# ## 12 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **10-1, change a number.** A file was trained with `alpha`, and comes without it, so that your library takes alpha = `rank`. Which scale must be given to
# `set_adapters` to get back what was trained?

# %% [markdown] lang="zh"
# 两个文件写完的卡片就在它们旁边：`data/loras/README.md`。第 13 章会为整个模型写一张。
#
# ## 12 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **10-1，改一个数。** 文件训练时用的是 `alpha`，拿到手却没带着它，于是程序库当作 alpha = `rank`。`set_adapters` 的强度该给多少，
# 才和训练时一样？

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def scale_to_use(alpha, rank):
    # begin solution
    return alpha / rank
    # end solution


check_exercise("10-1", scale_to_use)

# %% [markdown] lang="en"
# **10-2, names.** Given the name of a UNet's layer as the model has it, such as `mid_block.attentions.0.proj_in`, return the name under which kohya's format
# keeps its A matrix.

# %% [markdown] lang="zh"
# **10-2，名字。** 给定模型里 UNet 某一层的名字，比如 `mid_block.attentions.0.proj_in`，返回 kohya 格式里它的 A 矩阵叫什么。


# %% tags=["exercise", "nbval-check-output"]
def kohya_name_of_a(layer):
    # begin solution
    return "lora_unet_" + layer.replace(".", "_") + ".lora_down.weight"
    # end solution


check_exercise("10-2", kohya_name_of_a)

# %% [markdown] lang="en"
# **10-3, which family?** `shapes` is a dictionary from the names in a kohya file to shapes. Return the family, `"SD 1.x"`, `"SD 2.x"` or `"SDXL"`, by
# what `attn2_to_k` takes in, or `"unknown"` if no layer tells.

# %% [markdown] lang="zh"
# **10-3，哪个家族？** `shapes` 是字典，从 kohya 文件里的名字对应到形状。看 `attn2_to_k` 的输入宽度，返回 `"SD 1.x"`、`"SD 2.x"` 或 `"SDXL"`；
# 没有哪一层能说明，就返回 `"unknown"`。


# %% tags=["exercise", "nbval-check-output"]
def family_of(shapes):
    # begin solution
    for name, shape in shapes.items():
        if name.endswith("attn2_to_k.lora_down.weight"):
            return {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}.get(shape[1], "unknown")
    return "unknown"
    # end solution


check_exercise("10-3", family_of)

# %% [markdown] lang="en"
# **10-4, write it yourself.** `tensors` is what `load_file` gives for a kohya file. Return whether the LoRA changes nothing: in *every* layer A or B is zero
# throughout.

# %% [markdown] lang="zh"
# **10-4，自己动手。** `tensors` 是 `load_file` 读 kohya 文件得到的字典。判断这个 LoRA 是不是什么也不改：*每一层*都有 A 或 B 全为零。


# %% tags=["exercise", "nbval-check-output"]
def changes_nothing(tensors):
    # begin solution
    ups = [name for name in tensors if name.endswith(".lora_up.weight")]
    pairs = [(tensors[up], tensors[up.replace("lora_up", "lora_down")]) for up in ups]
    return not any(up.any() and down.any() for up, down in pairs)
    # end solution


check_exercise("10-4", changes_nothing)

# %% [markdown] lang="en"
# ## Summary
#
# - Inspect first: kind, family, ranks, alphas, trigger word, and whether it fits stand in the header.
# - A picture, or an answer of the UNet, that changes is the only proof that a LoRA is in force.
# - Three formats name the same matrices; converting them loses nothing, if alpha travels along.
# - The LoRA loaded last is the only one in force until `set_adapters` says otherwise.
# - Unloading restores the base to the bit; unfusing nearly; unloading after fusing not at all.
# - The most common failures raise no error. A strict loader, and a card with alpha and hash, catch them.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `size mismatch for … attn2.to_k.lora_A … [4, 2048]` | an SDXL file on SD 1.x | the width names the family: find a file, or a base, that fits |
# | `No LoRA keys associated to UNet2DConditionModel found with the prefix='unet'` | names without prefix; nothing was loaded | `unet.load_lora_adapter(…, prefix=None)`, or `aigc convert` |
# | the LoRA is weaker than on its page | alpha lost on the way | the original file; or a scale of alpha / rank |
# | `Loading adapter weights … led to unexpected keys` | a part of the names is another model's | `load_adapter` says which; do not use it |
# | `It seems like you are using a DoRA checkpoint` | diffusers leaves the magnitudes out | `load_adapter`, or ComfyUI |
# | `Could not automatically infer state dict type` | the text encoder's part has no `out_proj`; the UNet's is loaded already | `unload_lora_weights`, then `load_adapter` |
# | `When using the offline mode, you must specify …` | diffusers 0.39, even for a file on the disk | `load_lora_weights(file, weight_name=file.name)` |
# | `Adapter name sepia already in use in the model` | loaded twice under one name | `delete_adapters("sepia")` first |
# | `Adapter name(s) {'c'} not in the list of present adapters` | `set_adapters` with a name not loaded | `get_list_adapters()` |
# | everything looks like a LoRA that was unloaded | it had been fused | load the base anew; `unfuse_lora` before unloading |
# | A1111 or ComfyUI finds the file, and nothing changes | diffusers' names, or `lora_te1_encoder_…` | `aigc convert … --to kohya` |
#
# **Where next:** chapter 11 trains the two LoRAs; chapter 13 ships them.

# %% [markdown] lang="zh"
# ## 小结
#
# - 先检查：种类、家族、秩、alpha、触发词、配不配，都在文件头里。
# - LoRA 有没有生效，只有一个证据：画变了，或者 UNet 的回答变了。
# - 三种格式只是叫法不同；转换什么也不会丢，前提是 alpha 一起带走。
# - 最后加载的那个 LoRA 才生效，除非 `set_adapters` 另有吩咐。
# - 卸载能逐比特复原基座；撤销合并只能近似复原；合并之后直接卸载，根本不会复原。
# - 最常见的失败不报错。严格的加载法，加上写明 alpha 和哈希的卡片，才拦得住。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `size mismatch for … attn2.to_k.lora_A … [4, 2048]` | SDXL 的文件用在 SD 1.x 上 | 宽度说明家族：换文件，或者换基座 |
# | `No LoRA keys associated to UNet2DConditionModel found with the prefix='unet'` | 名字没有前缀，什么也没加载 | `unet.load_lora_adapter(…, prefix=None)`，或 `aigc convert` |
# | LoRA 比网页上的效果弱 | 路上丢了 alpha | 用原文件；或者把强度设为 alpha / 秩 |
# | `Loading adapter weights … led to unexpected keys` | 有一部分名字属于别的模型 | `load_adapter` 会说是哪些；别用这个文件 |
# | `It seems like you are using a DoRA checkpoint` | diffusers 把长度丢掉了 | 用 `load_adapter` 或 ComfyUI |
# | `Could not automatically infer state dict type` | 文本编码器部分没有 `out_proj`，而 UNet 部分已经装上了 | 先 `unload_lora_weights`，再用 `load_adapter` |
# | `When using the offline mode, you must specify …` | diffusers 0.39 离线时，硬盘上的文件也这样 | `load_lora_weights(file, weight_name=file.name)` |
# | `Adapter name sepia already in use in the model` | 同一个名字加载了两次 | 先 `delete_adapters("sepia")` |
# | `Adapter name(s) {'c'} not in the list of present adapters` | `set_adapters` 里写了没加载的名字 | 看 `get_list_adapters()` |
# | 画什么都像某个已经卸载的 LoRA | 它先被合并过 | 重新加载基座；卸载之前先 `unfuse_lora` |
# | A1111 或 ComfyUI 找得到文件，画却没变 | 名字是 diffusers 格式，或者是 `lora_te1_encoder_…` | `aigc convert … --to kohya` |
#
# **下一步：** 第 11 章训练这两个 LoRA；第 13 章把它们发布出去。
