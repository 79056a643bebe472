# %% [markdown] lang="en"
# # 11 · Training an SD LoRA
#
# {{badge}}
#
# **What you will be able to do:** train LoRAs for a Stable Diffusion that give it a look, an artist's style and a
# subject; judge each by a measure that fits it; watch a training by its pictures and not by its loss; notice
# over-fitting and find the setting that avoids it; save a LoRA so that it comes back as strong as it was; scale, fuse
# and mix LoRAs.
#
# | | embedded profile | full profile |
# |---|---|---|
# | model | a Stable Diffusion in miniature, 64 × 64 pixels | Stable Diffusion 1.5, 512 × 512 |
# | trained | LoRAs of 80 and 572 thousand parameters | of 1.6 and 11 million |
# | time | under 3 minutes on two CPU cores | {{full_time}} |
# | memory | 1.1 GB | {{full_memory}} |
# | download | none once the workbook is set up | about 2.7 GB (half precision) |
#
# You need chapter 09 (what UNet, latents and guidance are) and the idea of LoRA from chapter 05, section 6. What the text
# says of numbers and pictures was measured and seen on the embedded profile; on the full one, look at yours.

# %% [markdown] lang="zh"
# # 11 · 训练 SD LoRA
#
# {{badge}}
#
# **学完本章，你能够：** 为 Stable Diffusion 训练 LoRA，教它一种色调、一位画师的画风、一个新主体；给每一种配上合适的指标；
# 训练时看画，而不是只盯着损失；看出过拟合，并找到避开它的设置；把 LoRA 存得完整，读回来强度不变；调节强度、合并进模型、混着用。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | 微型 Stable Diffusion，64 × 64 像素 | Stable Diffusion 1.5，512 × 512 |
# | 训练的部分 | 8 万和 57 万参数的 LoRA | 160 万和 1100 万 |
# | 时间 | 两个 CPU 核心不到 3 分钟 | {{full_time}} |
# | 内存 | 1.1 GB | {{full_memory}} |
# | 下载 | 装好本书之后不再需要 | 约 2.7 GB（半精度） |
#
# 需要第 09 章的基础（UNet、潜变量、引导是什么），以及第 05 章第 6 节讲的 LoRA。正文里的数字和对画的描述，都是在 embedded 配置下
# 测得、看到的；full 配置下，请看你自己的输出。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · What the base cannot do
#
# The embedded base was trained on 306 emoji in two styles, noto and twemoji. Three things it has never been shown: sepia
# pictures, a third artist's emoji (*fluent*), and ten concepts that were kept back, the koala among them. This chapter
# teaches all three, with one LoRA each. (Stable Diffusion 1.5 has met old photographs and koalas on the web. What it
# cannot know is exactly our brown, this artist's hand, and our name for the koala.)

# %% [markdown] lang="zh"
# ## 1 · 基座不会的事
#
# embedded 的基座学过 306 种表情、两种画风：noto 和 twemoji。有三样东西它从没见过：泛黄的旧照片色调（sepia），
# 第三位画师的表情（*fluent*），还有特意留出的十个概念，考拉就是其中之一。本章把三样都教一遍，各用一个 LoRA。
# （Stable Diffusion 1.5 在网上见过老照片和考拉；它不可能知道的，是我们这种棕色、这位画师的笔法，还有我们给考拉起的名字。）

# %%
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.utils.logging import disable_progress_bar

from aigc_helpers import install
from aigc_helpers.profile import current_profile

disable_progress_bar()
device, full_profile = current_profile().device, current_profile().name == "full"
dtype = current_profile().dtype if full_profile else torch.float32
folder = "stable-diffusion-v1-5/stable-diffusion-v1-5" if full_profile else install("sd")
files = {"variant": "fp16" if full_profile else None, "use_safetensors": True}
pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, **files)
pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
pipeline.to(device).set_progress_bar_config(disable=True)

# %% [markdown] lang="en"
# Ten steps are enough for the embedded model; Stable Diffusion 1.5 gets twenty. **Predict:** what is drawn for a word that
# the model has never been shown a picture for?

# %% [markdown] lang="zh"
# embedded 模型走十步就够了，Stable Diffusion 1.5 走二十步。**先猜一猜：** 给模型一个从没配过图的词，它会画出什么？


# %%
from aigc_helpers.figures import show_pictures
from aigc_helpers.images import draw_many

steps, guidance = (20, 7.5) if full_profile else (10, 4.0)


def draw(prompts):
    return draw_many(pipeline, prompts, seed=0, steps=steps, guidance=guidance)


asked = ["fox, noto", "fox, sepia", "fox, fluent", "sks, noto"]
drawn = draw([f"{each} style, blue background" for each in asked])
alt_en = "What the base draws: a fox in each of three styles, and sks."
alt_zh = "基座画的：三种画风的狐狸各一张，还有 sks。"
show_pictures(dict(zip(asked, drawn, strict=True)), alt_en, alt_zh)

# %% [markdown] lang="en"
# It guesses, and guesses from what it knows. (`sks` is no word. It is free, so we may give it a meaning.)
#
# ## 2 · A look whose right answer is known
#
# Sepia is a computation: each pixel's brightness is mapped onto a line from dark to light brown. So for every picture we
# can say what it should look like, and can *measure* whether a LoRA has learnt it. We take 80 of the embedded base's
# 306 concepts, in one style, on eight backgrounds, turn them brown, and write "sepia style" in the caption. The other
# 226 concepts are for the test.

# %% [markdown] lang="zh"
# 它只好猜，而且只会从学过的东西里猜。（`sks` 不是词，没有主人，正好由我们来赋予它意义。）
#
# ## 2 · 对错分明的色调
#
# sepia 是算出来的：每个像素按亮度，落到一条从深棕到浅棕的直线上。所以每张画该是什么样，我们都知道，LoRA 学没学会就可以*量*出来。
# 从 embedded 基座的 306 个概念里取 80 个，一种画风，八种背景，统统变成棕色，说明文字里写上 “sepia 风格”。其余 226 个概念留作测试。

# %% tags=["nbval-check-output"]
from aigc_helpers.images import COLOURS, Facts, in_sepia, load_emoji, pictures_for
from aigc_helpers.images import read_shown_in_training, unseen_concepts
from aigc_helpers.notebook import expect, expect_close, expect_equal

emoji, base_concepts = load_emoji(), read_shown_in_training().concepts
shown = pictures_for("sepia", emoji, base_concepts)
unseen = unseen_concepts("sepia", base_concepts)
original = emoji.picture(emoji.number_of["rabbit"], "noto", "blue")
print(*shown.captions[0], sep="\n")
expect_equal(shown.pictures.shape, (640, 64, 64, 3), "pictures: 80 × 8")
expect_equal(len(unseen), 226, "concepts for the test")
expect_equal(in_sepia(original).shape, original.shape, "shape in sepia")

# %%
pictures = {"rabbit, as drawn": original, "in_sepia": in_sepia(original)}
pictures |= {f"number {number}": shown.pictures[number] for number in (0, 100)}
show_pictures(pictures, "A rabbit, and sepia pictures.", "兔子原画，以及几张棕色的画。")

# %% [markdown] lang="en"
# A measure that needs no reference: how far is a pixel from the brown line? 0 is perfect sepia, whatever is drawn.

# %% [markdown] lang="zh"
# 一个不需要参考图的指标：像素离那条棕色直线有多远？不管画的是什么，0 就是纯正的 sepia。

# %% tags=["nbval-check-output"]
import numpy
from PIL import Image

dark, light = in_sepia(numpy.uint8([[0, 0, 0], [255, 255, 255]])).astype(float)
along = light - dark


def off_sepia(pictures):
    from_dark = numpy.stack([numpy.asarray(each, dtype=float) for each in pictures]) - dark
    shares = from_dark @ along / (along @ along)
    return float(numpy.abs(from_dark - shares[..., None] * along).mean())


expect(off_sepia(shown.pictures), 0, 1, "off sepia, the training pictures")
expect(off_sepia([original]), 20, 80, "the rabbit as drawn")

# %% [markdown] lang="en"
# ## 3 · Encode once
#
# A UNet learns from latents and text vectors. Many scripts compute both anew at every step, though autoencoder and text
# encoder never change: diffusers' own example does. Computed once and kept, they cost nothing any more, and neither
# model has to be in memory while the UNet trains.
#
# On the full profile the pictures are enlarged first, smoothly: blown up in blocks, they would teach blocks. And their
# captions are the English ones alone, for Stable Diffusion 1.5 cannot read Chinese.
#
# **Predict:** 150 steps of 16 pictures. How many pictures would the autoencoder encode, and how many does it encode here?

# %% [markdown] lang="zh"
# ## 3 · 只编码一次
#
# UNet 学的是潜变量和文本向量。自编码器和文本编码器从头到尾不变，许多脚本（包括 diffusers 自己的示例）却在每一步都重算一遍。
# 先算好存起来，训练时就不再花时间，这两个模型也不必占着内存。
#
# full 配置下先把画平滑地放大：要是放大出一格格的方块，它学到的就是方块。说明文字也只用英文那一条，
# 因为 Stable Diffusion 1.5 看不懂中文。
#
# **先猜一猜：** 150 步，每步 16 张画。每步都编码的话，自编码器要编码多少张？在这里又是多少张？

# %%
from torch.nn.functional import interpolate

from aigc_helpers.images import denoising_loss, encode_pictures, latent_batches, to_pixels

side, batch_size, languages = (512, 4, 1) if full_profile else (64, 16, 2)


def batches_of(shown, every=1):
    pixels = to_pixels(shown.pictures[::every])
    pixels = interpolate(pixels, size=side, mode="bicubic", antialias=True).clamp(-1, 1)
    captions = [some[:languages] for some in shown.captions[::every]]
    text = (captions, pipeline.text_encoder, pipeline.tokenizer)
    latents = encode_pictures(pipeline.vae, pixels)
    return latent_batches(latents, *text, batch_size, seed=0)


# %% tags=["nbval-check-output"]
every = 5 if full_profile else 1
batches = batches_of(shown, every)
if full_profile:
    pipeline.vae.enable_slicing()  # decodes one picture at a time, which takes less memory
batch = {name: tensor.to(device, dtype) for name, tensor in batches.batch(0, 0).items()}
for name, tensor in batch.items():
    print(f"{name:8} {tuple(tensor.shape)}")
kept = batches.latents.nbytes + batches.captions.nbytes
print(f"kept: {kept / 2**20:.0f} MB")
expect_equal(len(batches.latents), 640 // every, "pictures encoded")
expect(batches.latents.std(), 0.5, 1.5, "standard deviation of the latents")

# %% [markdown] lang="en"
# 640 instead of 2,400. (On the full profile a step takes 4 pictures, 600 in all, and every fifth of the 640 is enough.)
# Each picture has an English and a Chinese caption, of which one is drawn at a time; and one time in ten the *empty*
# caption, since guidance (chapter 09, section 7) needs a model that knows it, too.
#
# ## 4 · The loss, and min-SNR
#
# A training step: take a picture's latents, draw a time step and noise, mix them, and ask the UNet which part is noise. The
# error is a mean square. But not all time steps are worth the same. The
# [**signal-to-noise ratio**](GLOSSARY.md#signal-to-noise-ratio) at a time step is ᾱ / (1 − ᾱ). Where it is high, hardly any noise is in the picture, and guessing it teaches nothing about the
# picture. [Min-SNR](REFERENCES.md#min-snr) (Hang et al. 2023) weighs each step with min(SNR, 5) / SNR.
#
# **Predict:** which time steps lose weight, the first ones (little noise) or the last?

# %% [markdown] lang="zh"
# 640 张，而不是 2,400 张。（full 配置下每步 4 张，一共 600 张，从 640 张里每五张取一张就够了。）
# 每张画有中英文两条说明，每次随机用一条；十次里有一次用*空*的说明，少了它，引导（第 09 章第 7 节）就没了根基。
#
# ## 4 · 损失与 min-SNR
#
# 训练的一步：取一张画的潜变量，随机抽一个时间步和一份噪声，混在一起，问 UNet 哪些是噪声。误差取平方的平均。
# 不过各个时间步的分量并不相同。时间步的[**信噪比**](../GLOSSARY.md#signal-to-noise-ratio)（SNR）是 ᾱ / (1 − ᾱ)。
# 信噪比高的地方，画里几乎没有噪声，猜它学不到什么。
# [min-SNR](../REFERENCES.md#min-snr)（Hang 等，2023）给每一步乘上 min(SNR, 5) / SNR。
#
# **先猜一猜：** 被减轻分量的是靠前的时间步（噪声少），还是靠后的？

# %% tags=["nbval-check-output"]
alphas = pipeline.scheduler.alphas_cumprod
snr = alphas / (1 - alphas)
weights = snr.clamp(max=5) / snr
full_weight = int((snr > 5).sum())
for t in (0, 100, 300, 999):
    print(f"t = {t:3}: SNR {snr[t]:9.4f}, weight {weights[t]:.4f}")
expect_equal(full_weight, 147, "time steps with less than full weight")
expect_close(weights[full_weight:], torch.ones(1000 - full_weight), 0, "the others: 1")

# %%
from aigc_helpers.figures import new_figure, show

figure, (ratio, weight) = new_figure(width=9, columns=2)
ratio.semilogy(snr, marker="")
ratio.axhline(5, color="0.5", linestyle="--")
ratio.set(xlabel="time step", ylabel="signal-to-noise ratio")
weight.plot(torch.ones(1000), marker="", label="plain")
weight.plot(weights, marker="", linestyle="--", label="min-SNR")
weight.set(xlabel="time step", ylabel="weight of the squared error")
weight.legend(frameon=False)
alt_en = "Left: SNR falls steeply. Right: min-SNR weights climb from 0 to 1 and stay."
alt_zh = "左：信噪比随时间步急剧下降。右：min-SNR 的权重从 0 升到 1，之后不变。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# The first 147 of 1,000: there the weight climbs from 0.004 to 1. Here is the whole loss by hand, beside the helper
# that this chapter trains with. One detail: each of the pictures in a batch gets its time step from another part of
# the scale, so that the loss wavers less.

# %% [markdown] lang="zh"
# 是靠前的 147 步（共 1,000 步）：那里的权重从 0.004 升到 1。下面把损失从头到尾手算一遍，和本章训练用的函数对一对。
# 有一个细节：同一批里，每张画的时间步取自不同的区段，这样损失抖得轻一些。

# %% tags=["nbval-check-output"]
from transformers import set_seed

latents, count = batch["latents"], len(batch["latents"])
set_seed(0)
with torch.no_grad():
    noise = torch.randn_like(latents)
    place = torch.arange(count, device=device) + torch.rand(count, device=device)
    t = (place / count * 1000).long()
    noisy = pipeline.scheduler.add_noise(latents, noise, t)
    answer = pipeline.unet(noisy, t, encoder_hidden_states=batch["text"]).sample
    errors = (answer.float() - noise).square().mean(dim=(1, 2, 3))
    by_hand = (weights.to(device)[t] * errors).mean()
    set_seed(0)
    helper = denoising_loss(pipeline.unet, batch, pipeline.scheduler)
expect_close(by_hand, helper, 1e-5 if dtype == torch.float32 else 1e-2, "both losses")

# %% [markdown] lang="en"
# ## 5 · Where the LoRA goes
#
# `add_adapter` puts a LoRA on a diffusers model, `target_modules` says where. Names of another model are refused:

# %% [markdown] lang="zh"
# ## 5 · LoRA 装在哪里
#
# `add_adapter` 给 diffusers 的模型装上 LoRA，`target_modules` 指定位置。写成别的模型的名字，会被拒绝：

# %% tags=["nbval-check-output"]
from diffusers import UNet2DConditionModel
from peft import LoraConfig

with torch.device("meta"):  # the shapes alone: no memory, no numbers
    bare = UNet2DConditionModel.from_config(pipeline.unet.config)
try:
    bare.add_adapter(LoraConfig(r=8, target_modules=["c_attn"]))
except ValueError as error:
    print(str(error)[:92])
modules = [(name.rsplit(".", 1)[-1], type(module)) for name, module in bare.named_modules()]
for kind in (torch.nn.Linear, torch.nn.Conv2d):
    print(kind.__name__, *sorted({name for name, found in modules if found is kind}))

# %% [markdown] lang="en"
# Diffusers' training scripts put LoRA on the attention alone: `to_q`, `to_k`, `to_v`, `to_out.0`. A look changes every
# pixel, though, and the small UNet has attention only at its coarsest level (Stable Diffusion 1.5 at three of its four),
# so for the look we add the convolutions.
# For a convolution of k × k, A is a convolution of k × k to r channels, and B one of 1 × 1 back.
#
# B begins at zero. **Predict:** how much does the picture change when the LoRA has been added, and not trained yet?

# %% [markdown] lang="zh"
# diffusers 的训练脚本只把 LoRA 装在注意力上：`to_q`、`to_k`、`to_v`、`to_out.0`。可是色调牵涉到每一个像素，
# 而小 UNet 只在最粗的一层有注意力（Stable Diffusion 1.5 的四层里有三层），所以学色调时再加上卷积。
# 对 k × k 的卷积来说，A 是 k × k、输出 r 个通道的卷积，B 是 1 × 1 的卷积，再变回来。
#
# B 从零开始。**先猜一猜：** LoRA 装上了还没训练，画会变多少？

# %% tags=["nbval-check-output"]
from diffusers.training_utils import cast_training_params

before = draw(["fox, noto style, blue background"])
for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
    part.requires_grad_(False)
attention, convolutions = ["to_q", "to_k", "to_v", "to_out.0"], ["conv1", "conv2"]
config = LoraConfig(r=16, lora_alpha=32, init_lora_weights="gaussian",
                    target_modules=attention + convolutions)  # fmt: skip
pipeline.unet.add_adapter(config, adapter_name="sepia")
cast_training_params(pipeline.unet, dtype=torch.float32)
trained = [each for each in pipeline.unet.parameters() if each.requires_grad]
print(f"trained: {sum(map(torch.numel, trained)):,} of {pipeline.unet.num_parameters():,}")
expect_equal({each.dtype for each in trained}, {torch.float32}, "precision")
after = draw(["fox, noto style, blue background"])
expect_close(after, before, 0, "pictures with the untrained LoRA and without")

# %% [markdown] lang="en"
# Not at all. Two lines above matter more than they look:
#
# - `requires_grad_(False)`: without it the *whole* UNet is trained beside the LoRA, and the saved LoRA is useless alone.
# - `cast_training_params`: on a GPU the frozen weights are in half precision to save memory. The trained ones must be in
#   float32: a step of 1e-4 on a number near 1 rounds to nothing in half precision.
#
# ## 6 · Training, watched
#
# While it trains, `fit` calls `evaluate` every so many steps. Ours draws the same prompts from the same seeds each
# time: so a difference between two rows is the training's, and not chance. Their concepts are none of the 80. (A picture
# of 512 × 512 takes seconds, so the full profile draws two prompts instead of four, and looks three times more seldom.)
#
# On Colab a runtime may end at any time. `drive_folder` names a folder on your Google Drive if you have mounted it (and is
# `None` everywhere else): `fit` keeps its checkpoints there, and the same cells, run again, go on from the last one.
#
# **Predict:** by which step will you see it? And will the loss tell you?

# %% [markdown] lang="zh"
# 一点没变。上面有两行看着不起眼，其实很要紧：
#
# - `requires_grad_(False)`：少了它，*整个* UNet 都会跟着 LoRA 一起训练，存下来的 LoRA 单独拿出去就没用了。
# - `cast_training_params`：在 GPU 上，冻结的权重用半精度，省内存；要训练的必须是 float32：在 1 附近的数上走 1e-4 的一小步，
#   半精度一舍入就没了。
#
# ## 6 · 边训练，边看画
#
# 训练当中，`fit` 每隔若干步调用一次 `evaluate`。我们的函数每次都用同样的种子画同样几个提示词：
# 这样两行之间的差别只来自训练，而不是运气。这几个概念不在那 80 个里面。
# （512 × 512 的画一张要好几秒，所以 full 配置只画两个提示词，不画四个；看的次数也少到三分之一。）
#
# Colab 的运行时随时可能中断。如果你装载了 Google 云端硬盘，`drive_folder` 就给出上面的一个文件夹（其他情况下是 `None`）：
# `fit` 把检查点存在那里，中断之后把同样的单元格再运行一遍，就从最后一个检查点接着训练。
#
# **先猜一猜：** 到第几步能看出来？损失能告诉你吗？

# %% tags=["nbval-check-output"]
watched = ["fox", "pizza", "rocket", "owl"]
where = ["blue", "pink", "yellow", "green"]
named = zip(watched, where, strict=True)
prompts = [f"{name}, sepia style, {colour} background" for name, colour in named]
prompts, look_every = (prompts[:2], 75) if full_profile else (prompts, 25)
seen_at = {}


def watch():
    pictures = draw(prompts)
    seen_at[look_every * len(seen_at)] = pictures
    return {"off sepia": off_sepia(pictures)}


expect_equal(set(watched) <= set(unseen), True, "none of them is in the training")

# %% tags=["nbval-check-output"]
from aigc_helpers import FitSettings, fit

expect(watch()["off sepia"], 20, 80, "off sepia before the training")
if full_profile:
    pipeline.unet.enable_gradient_checkpointing()  # a third more time, far less memory


def loss(unet, batch):
    return denoising_loss(unet, batch, pipeline.scheduler)


def settings_for(steps, batches, learning_rate, **more):
    rate = learning_rate / 20 if full_profile else learning_rate
    more |= {"schedule": "cosine", "warmup": 0.05}
    return FitSettings(epochs=steps / len(batches), learning_rate=rate, **more)


# %%
from aigc_helpers.notebook import drive_folder, offer_download

settings = settings_for(150, batches, 3e-3, evaluate_every=look_every)
result = fit(pipeline.unet, batches, loss, settings,
             evaluate=watch, folder=drive_folder("sepia"))  # fmt: skip
if full_profile:  # a training that went on after a lost runtime has looked less often
    steps_seen = result.curve("off sepia")[0][-(len(seen_at) - 1) :]
    seen_at = dict(zip([0, *steps_seen], seen_at.values(), strict=True))
print(result)
print("off sepia at step:", {step: round(off_sepia(p), 1) for step, p in seen_at.items()})

# %%
strip = {f"{watched[row]}, step {step}": pictures[row]
         for row in (0, 1) for step, pictures in seen_at.items()}  # fmt: skip
alt_en = "Fox and pizza from the same seeds, before the training and as it goes on."
alt_zh = "同样种子画的狐狸和披萨：训练之前的，以及训练当中的。"
show_pictures(strip, alt_en, alt_zh, columns=len(seen_at))
figure, (losses, measure) = new_figure(width=9, columns=2)
losses.plot(*result.curve("loss"), marker="")
losses.set(xlabel="step", ylabel="loss", ylim=(0, None))
measured_at, values = result.curve("off sepia")
measure.plot([0, *measured_at], [off_sepia(seen_at[0]), *values])
measure.set(xlabel="step", ylabel="off sepia (0 to 255)", ylim=(0, None))
alt_en = "Left: the loss over the steps. Right: the distance from sepia over the steps."
alt_zh = "左：损失随步数的变化。右：与 sepia 的距离随步数的变化。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# By which step? The pictures show it from early on, and the numbers printed under the training say how far from sepia those
# of each step are. The loss falls at first and soon only wavers; one could take the training for finished. The pictures,
# and the number measured on them, go on changing. And of what goes wrong later in this chapter the loss says nothing at
# all. That is why every serious training draws validation pictures from fixed seeds.
#
# ## 7 · Judged on what it has never seen
#
# 64 prompts (16 on the full profile) with concepts that the LoRA was not shown, on all ten backgrounds. For each we know
# the emoji, and ask two questions: of this concept in noto, twemoji and sepia, which is nearest in its pixels (*style*)?
# And of all 306 concepts in sepia, which is nearest (*concept*)? (Stable Diffusion 1.5 may draw a fine koala that is
# no emoji: to it the second question is unfair, before the training above all.)
#
# **Predict:** the base's share for the style? What will the LoRA cost in concepts?

# %% [markdown] lang="zh"
# 第几步看得出来？从画上很早就看得出；训练下面打印的数，就是每一步的画离 sepia 还有多远。损失先是下降，很快就只剩上下抖动，
# 看着像是训练完了；画和从画上量出来的数却还在变。本章后面会出的问题，损失更是只字不提。所以认真的训练都会用固定的种子画验证图。
#
# ## 7 · 用没见过的东西来考它
#
# 64 个提示词（full 配置下 16 个），概念都是 LoRA 没见过的，背景十种都有。每张画对应的表情我们都有，只问两个问题：
# 同一个概念的 noto、twemoji、sepia 三个版本里，哪个的像素最接近（*色调*）？306 个概念的 sepia 版本里，哪个最接近（*概念*）？
# （Stable Diffusion 1.5 画出来的可能是很好的考拉，却不是表情：第二个问题对它并不公平，训练之前尤其如此。）
#
# **先猜一猜：** 基座的色调能对多少？装上 LoRA，概念会损失多少？


# %%
from aigc_helpers.evaluation import References, judge
from aigc_helpers.images import caption, embed_pictures, load_clip
from aigc_helpers.metrics import Interval

known = emoji.only((*base_concepts, "koala"))  # the koala is for section 12
references = References(known, load_clip()[0])
looks = ("noto", "twemoji", "sepia")


def judged(facts, word=None):
    names = [word or known.english[fact.concept] for fact in facts]
    said = [caption(n, f.style, f.colour) for n, f in zip(names, facts, strict=True)]
    small = [numpy.asarray(picture.resize((64, 64))) for picture in draw(said)]
    return judge(numpy.stack(small), facts, references, looks), small


# %%
count = 16 if full_profile else 64
tested = [name for name in unseen if name not in watched][: 3 * count : 3]
facts = [Facts(known.number_of[name], "sepia", COLOURS[place % 10])
         for place, name in enumerate(tested)]  # fmt: skip
tuned, drawn_in_sepia = judged(facts)
pipeline.unet.disable_adapters()
base, _ = judged(facts)
own, _ = judged([fact._replace(style="noto") for fact in facts])
pipeline.unet.enable_adapters()
for name, figures in {"base": base, "base, noto": own, "LoRA": tuned}.items():
    style = Interval(**figures["style by pixels"])
    concept = Interval(**figures["concept by pixels"])
    print(f"{name:10} style right {style}   concept right {concept}")

# %% tags=["nbval-check-output"]
lost = own["concept by pixels"]["mean"] - tuned["concept by pixels"]["mean"]
expect(base["style by pixels"]["mean"], 0, 0.05, "base, asked for sepia: style right")
expect(tuned["style by pixels"]["mean"], 0.85, 1, "LoRA: style right")
expect(lost, -0.06, 0.15, "concepts lost against the base in its own style")
some = {tested[n]: drawn_in_sepia[n] for n in range(0, count, count // 8)}
alt_en = "Eight concepts that the LoRA was never shown, drawn in sepia."
show_pictures(some, alt_en, "八个 LoRA 从没见过的概念，画成了棕色。", columns=8)

# %% [markdown] lang="en"
# On the embedded profile the share of right styles rises from none to nearly all, on concepts the LoRA was never shown;
# that is what a LoRA of a look is for. The measure is as sure as a measure can be, since it knows the right answer. It is lenient, though: the nearest of three is not a perfect
# picture, and here and there a colour shines through. (`off sepia` says so: compare its last value in section 6 with that
# of true sepia, which is less than 1.)
#
# **Predict:** the LoRA is on, and we ask for *noto* style. Does it listen?

# %% [markdown] lang="zh"
# embedded 配置下，从没见过的概念，色调从一张不对到几乎全对，学色调的 LoRA 要的就是这个。这个指标再可靠不过，因为正确答案是已知的。
# 不过它也宽松：三个里面最接近的，不等于完美，有些地方还透着原来的颜色。（`off sepia` 说的就是这个：拿第 6 节最后的那个数比一比，
# 真正的 sepia 不到 1。）
#
# **先猜一猜：** LoRA 开着，却要它画 *noto* 风格。它听不听？

# %% tags=["nbval-check-output"]
leaked, _ = judged([fact._replace(style="noto") for fact in facts[: count // 4]])
expect(leaked["style by pixels"]["mean"], 0, 0.3, "asked for noto: noto drawn")

# %% [markdown] lang="en"
# It does not. Every picture in training was brown, so it never had a reason to look at the word "sepia". Three remedies:
# switch the LoRA off, lower its scale (section 9), or put pictures in other styles among the training pictures
# (*regularisation pictures*, or *prior preservation* in the [DreamBooth](REFERENCES.md#dreambooth) paper, Ruiz et al. 2023).
#
# ## 8 · Save it whole
#
# `get_peft_model_state_dict` takes the LoRA out of the UNet, `save_lora_weights` writes it in diffusers' format. That
# takes only the matrices, unless you hand it the configuration, too. We save both ways.
#
# **Predict** the size of the file, from the number of trained parameters.

# %% [markdown] lang="zh"
# 不听。训练里每一张都是棕色的，它从来没有必要去看 “sepia” 这个词。办法有三个：关掉 LoRA；调低强度（第 9 节）；
# 或者在训练图里掺一些别的画风（所谓*正则化图片*，[DreamBooth](../REFERENCES.md#dreambooth) 论文里叫 *prior preservation*，Ruiz 等，2023）。
#
# ## 8 · 存就存完整
#
# `get_peft_model_state_dict` 把 LoRA 从 UNet 里取出来，`save_lora_weights` 按 diffusers 的格式写成文件。
# 如果不把配置也交给它，写下的就只有矩阵。两种存法我们都试一试。
#
# **先猜**文件有多大：训练的参数个数你已经知道了。

# %% tags=["nbval-check-output"]
from pathlib import Path
from tempfile import mkdtemp

from peft.utils import get_peft_model_state_dict

store = Path(mkdtemp())
layers = get_peft_model_state_dict(pipeline.unet, adapter_name="sepia")
about = pipeline.unet.peft_config["sepia"].to_dict()
save = StableDiffusionPipeline.save_lora_weights
save(store / "whole", layers, unet_lora_adapter_metadata=about)
save(store / "careless", layers)
file = store / "whole" / "pytorch_lora_weights.safetensors"
size = sum(parameter.numel() for parameter in trained) * 4
expect(file.stat().st_size / size, 1, 1.1, "bytes of the file over 4 × parameters")

# %%
from safetensors import safe_open

with safe_open(file, "pt") as opened:
    names = list(opened.keys())
    header = opened.metadata()["lora_adapter_metadata"]
print(f"{file.stat().st_size:,} bytes, 4 × parameters: {size:,}")
print(len(names), "tensors:", *names[:2], sep="\n")
print(*[line for line in header.splitlines() if '.r"' in line or "lora_alpha" in line])


def pixels_of(pictures):
    return numpy.stack([numpy.asarray(each, dtype=float) for each in pictures])


near = 1 if dtype == torch.float32 else 64  # of 255: half precision rounds coarsely

# %% [markdown] lang="en"
# Unload, and the base is back. Load, and the pictures must be the same to the last pixel. **Predict:** and from the file
# without the configuration? There diffusers takes alpha to be the rank; ours was trained with alpha 32 and rank 16.

# %% [markdown] lang="zh"
# 卸载之后，基座原样回来；再加载，画应当逐像素相同。**先猜一猜：** 从不带配置的文件加载呢？那样 diffusers 会把 alpha 当成等于秩，
# 而我们训练时 alpha 是 32，秩是 16。

# %% tags=["nbval-check-output"]
import warnings

in_sepia_now = pixels_of(draw(prompts))
pipeline.unload_lora_weights()
expect_close(pixels_of(draw(prompts)), pixels_of(seen_at[0]), near, "unloaded, base")
pipeline.load_lora_weights(store / "whole", adapter_name="sepia", use_safetensors=True)
expect_close(pixels_of(draw(prompts)), in_sepia_now, near, "loaded, and as trained")
warnings.filterwarnings("ignore", "Already found a `peft_config`")  # a second is wanted
given = {"adapter_name": "careless", "use_safetensors": True}
pipeline.load_lora_weights(store / "careless", **given)
pipeline.set_adapters(["careless"], [1.0])
weak = draw(prompts)
pipeline.set_adapters(["sepia"], [0.5])
expect_close(pixels_of(weak), pixels_of(draw(prompts)), near, "no alpha, half scale")
pipeline.delete_adapters("careless")

# %% [markdown] lang="en"
# Without its configuration it comes back at half strength, and nothing says so. (It could as well be double.) If a LoRA
# looks weaker on another machine than on yours, look for its alpha first. `save_picture_adapter`, which
# `aigc train sd` uses, always writes it.
#
# ## 9 · Scale
#
# The number in `set_adapters` multiplies B·A. At 0 the base draws, at 1 what was trained; between, and beyond, nobody has
# trained it. **Predict** the picture at 1.5.

# %% [markdown] lang="zh"
# 不带配置，读回来就只剩一半强度，而且一声不响。（换一种设置，也可能是两倍。）同一个 LoRA，如果换了机器就显得弱，先去查它的 alpha。
# `aigc train sd` 用的 `save_picture_adapter` 总会把它写进去。
#
# ## 9 · 强度
#
# `set_adapters` 里的数会乘在 B·A 上。0 是基座，1 是训练出来的样子；介于其间和超出 1 的，谁也没训练过。**先猜** 1.5 时画成什么样。


# %% tags=["nbval-check-output"]
def paint_at(scale):
    pipeline.set_adapters(["sepia"], [scale])
    return draw(prompts[:2])


scales = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
at_scale = {scale: paint_at(scale) for scale in scales}
strip = {f"{watched[row]}, {s}": at_scale[s][row] for row in (0, 1) for s in scales}
alt_en = "Fox and pizza at scales from 0 to 1.5."
alt_zh = "强度从 0 到 1.5 的狐狸和披萨。"
show_pictures(strip, alt_en, alt_zh, columns=len(scales))
away = [off_sepia(at_scale[scale]) for scale in scales]
expect_close(pixels_of(at_scale[0.0]), pixels_of(seen_at[0][:2]), near, "scale 0, base")
expect(away[2] / away[0], 0.1, 0.95, "off sepia, scale 0.5 over 0")

# %% [markdown] lang="en"
# Beyond 1 the colours overshoot, and pink tends to green. To make pink brown, the LoRA takes pink away; at 1.5 it takes
# away more than was there. Move the slider: the panel's code twin is `paint_at`.

# %% [markdown] lang="zh"
# 超过 1，颜色就过了头，粉色往绿里走。要把粉色变成棕色，LoRA 得减掉粉色；到了 1.5，减得比原有的还多。
# 拖动滑块试试，与面板等价的代码就是 `paint_at`。

# %% tags=["panel"]
from copy import copy, deepcopy

from aigc_helpers.panels import ScalePanel
from IPython.display import display

own = copy(pipeline)  # the next cells fuse the other one, and train it anew
own.unet, two = deepcopy(pipeline.unet), prompts[:2]


def paint_in_panel(scale):
    own.set_adapters(["sepia"], [scale])
    return draw_many(own, two, 0, steps, guidance)


display(ScalePanel(paint_in_panel, [f"{name}, sepia style" for name in watched[:2]]))

# %% [markdown] lang="en"
# **Fusing** adds scale · (α / r) · B·A to the weights, so that drawing costs no more than with the base. `unfuse_lora` takes
# it out again, up to rounding.

# %% [markdown] lang="zh"
# **合并**（fuse）把 强度 ·（α / r）· B·A 加进权重里，画起来就和基座一样快。`unfuse_lora` 再减出来，只差一点舍入。

# %% tags=["nbval-check-output"]
pipeline.set_adapters(["sepia"], [1.0])
layer = pipeline.unet.mid_block.resnets[0].conv1
old = layer.base_layer.weight.detach().clone()
pipeline.fuse_lora()
down, up = layer.lora_A["sepia"].weight, layer.lora_B["sepia"].weight
by_hand = old + 32 / 16 * torch.einsum("or,rikl->oikl", up.flatten(1), down)
tolerance = 1e-5 if dtype == torch.float32 else 1e-2
expect_close(layer.base_layer.weight, by_hand, tolerance, "fused, by hand and by peft")
changed = numpy.abs(pixels_of(draw(prompts)) - in_sepia_now).mean()
expect(changed, 0, 1, "pixels with the LoRA fused, and not")
pipeline.unfuse_lora()
expect_close(layer.base_layer.weight, old, tolerance, "unfused weight and the old one")

# %% [markdown] lang="en"
# ## 10 · Rank, file, quality
#
# The file grows in proportion to the rank. Does the quality? One run per rank, all as above but for the rank (alpha always
# twice the rank). The stored results, with the embedded model on either profile, come from
# `aigc pretrain picture-rank-sweep`.
#
# **Predict:** the smallest rank at which the style is right in 85 %.

# %% [markdown] lang="zh"
# ## 10 · 秩、文件大小、质量
#
# 文件大小与秩成正比，质量也是吗？每个秩跑一次，除了秩之外都和上面一样（alpha 总是秩的两倍）。
# 存好的结果由 `aigc pretrain picture-rank-sweep` 生成，两种配置下都是 embedded 模型的。
#
# **先猜一猜：** 色调要对 85 %，秩最小是多少？

# %%
from aigc_helpers.paths import DATA
from aigc_helpers.training import read_log

sweep = read_log(DATA / "results" / "sepia_rank_sweep.jsonl")
figure, (quality,) = new_figure(width=6)
kilobytes = [row["file_bytes"] / 1e3 for row in sweep]
for name in ("style", "concept"):
    quality.semilogx(kilobytes, [row[name] for row in sweep], label=f"{name} right")
labels = [f"{row['file_bytes'] / 1e3:.0f} kB\nrank {row['rank']}" for row in sweep]
quality.set_xticks(kilobytes, labels)
quality.minorticks_off()
quality.set(ylim=(0, 1.05), ylabel=f"right, of {sweep[0]['pictures']} pictures")
quality.legend(frameon=False)
alt_en = "Shares of right styles and right concepts at ranks 1 to 16."
show(figure, alt_en, "秩从 1 到 16，色调和概念的正确率。")

# %% [markdown] lang="en"
# In these runs, one per rank, 85 % is reached at rank 4, and at rank 8 all 40 are right; rank 1, a file of 157 kB, gets two
# thirds. Below rank 4 concepts suffer, too. Rank 16 weighs twice as much as 8 and is no better. With 40 pictures a step of
# 0.05 is two pictures, and another seed gives another curve: read the trend, not the wiggle. A computed look is a simple
# thing; a rank that is enough for it says nothing about a harder one.
#
# ## 11 · An artist's style, and over-fitting
#
# For *fluent* there is no formula. The measure has to be learnt, too: a **style probe**, a logistic regression on
# tiny-CLIP's embeddings of true pictures. Before we believe it we test it, on 40 concepts it was not fitted on.

# %% [markdown] lang="zh"
# 这几次训练里（每个秩一次），秩 4 就达到了 85 %，到秩 8 则 40 张全对；秩为 1 的文件只有 157 kB，对了三分之二。秩小于 4 时，概念也要受些损失。
# 秩 16 的文件是秩 8 的两倍，却没有更好。一共 40 张，0.05 的差别就是两张，换个种子又是另一条曲线：看趋势，别较真那点起伏。
# 算得出来的色调本来就简单；对它够用的秩，换成更难的东西就未必够。
#
# ## 11 · 画师的画风，以及过拟合
#
# *fluent* 画风没有公式，指标也得学出来：用真图的 tiny-CLIP 嵌入训练一个逻辑回归，叫**画风探针**。信它之前先考它，
# 用 40 个没参与训练的概念。


# %% tags=["nbval-check-output"]
from aigc_helpers.images import STYLES, held_out_colours
from sklearn.linear_model import LogisticRegression


def embedded(names):
    some = emoji.only(tuple(names))
    facts = some.facts(STYLES, lambda name: held_out_colours(name)[:1])
    return embed_pictures(references.clip, some.pictures(facts)), [f.style for f in facts]


test_names = unseen_concepts("fluent", base_concepts)
train_names = [name for name in base_concepts if name not in test_names]
probe = LogisticRegression(max_iter=1000).fit(*embedded(train_names))
expect_equal(len(test_names), 40, "concepts to test the probe on")
expect(probe.score(*embedded(test_names)), 0.8, 1, "accuracy of the probe")

# %% [markdown] lang="en"
# Guessing would be right in a third. The concept is judged by tiny-CLIP: of all true drawings, 306 concepts in three
# styles, is the nearest one of the named concept? The 40 concepts that the probe was tested on are shown to no LoRA,
# either; on them all runs are judged, with 80 pictures, every 100 steps. They take minutes each, so the cell reads
# stored results of the embedded model; `aigc pretrain picture-styles` makes them again.
#
# | run | fluent pictures shown | LoRA | peak rate | steps |
# |---|---|---|---|---|
# | careless | of 50 concepts | rank 16, on every layer | 1e-3 | 400 |
# | gentle | of 50 concepts | rank 4, attention only | 5e-4 | 400 |
# | more concepts | of 266 concepts | rank 16, on every layer | 1e-3 | 400 |
# | regularised | of 266 concepts, and as many noto and twemoji pictures | rank 16, on every layer | 1e-3 | 600 |
#
# **Predict:** which run looks best on the style alone? Which would you ship?

# %% [markdown] lang="zh"
# 瞎猜的话能对三分之一。概念由 tiny-CLIP 来判：306 个概念、三种画风的真图里，最接近的那张，画的是不是指定的概念？
# 考过探针的那 40 个概念，任何 LoRA 也都没见过；每次训练都拿它们来考，每 100 步画 80 张。跑一次要好几分钟，
# 所以这里读取 embedded 模型存好的结果，重跑用 `aigc pretrain picture-styles`。
#
# | 训练 | 见过的 fluent 图 | LoRA | 学习率峰值 | 步数 |
# |---|---|---|---|---|
# | careless（大意） | 50 个概念的 | 秩 16，装在所有层上 | 1e-3 | 400 |
# | gentle（谨慎） | 50 个概念的 | 秩 4，只装在注意力上 | 5e-4 | 400 |
# | more concepts（多给概念） | 266 个概念的 | 秩 16，装在所有层上 | 1e-3 | 400 |
# | regularised（加正则化图片） | 266 个概念的，外加同样多的 noto 和 twemoji 图 | 秩 16，装在所有层上 | 1e-3 | 600 |
#
# **先猜一猜：** 单看画风，哪次最好？真要发布，你选哪一个？

# %%
runs = {}
for row in read_log(DATA / "results" / "fluent_runs.jsonl"):
    runs.setdefault(row["run"], []).append(row)
figure, axes = new_figure(width=9.5, columns=2)
for one, name in zip(axes, ("style", "concept"), strict=True):
    for (run, rows), line in zip(runs.items(), ("-", "--", "-.", ":"), strict=True):
        grown = [row for row in rows if row["scale"] == 1]
        steps_done = [row["step"] for row in grown]
        one.plot(steps_done, [row[name] for row in grown], linestyle=line, label=run)
    one.set(xlabel="step", ylabel=f"{name} right, of 80 pictures", ylim=(0, 1.05))
axes[0].legend(frameon=False)
alt_en = "Left: share of fluent pictures. Right: of right concepts. Four runs over steps."
show(figure, alt_en, "左：画成 fluent 的比例；右：概念正确率。四次训练，随步数变化。")

# %%
figure, (trade,) = new_figure(width=6.5)
for (run, rows), line in zip(runs.items(), ("-", "--", "-.", ":"), strict=True):
    last = [row for row in rows if row["step"] == rows[-1]["step"]]
    points = [rows[0], *sorted(last, key=lambda row: row["scale"])]  # the base, then LoRA
    style = [row["style"] for row in points]
    trade.plot([row["concept"] for row in points], style, linestyle=line, label=run)
least = 0.8 * rows[0]["concept"]
trade.axvline(least, color="0.5", linewidth=1)
trade.annotate("80 % of the base's concepts", (least, 0.98), ha="right", va="top")
trade.set(xlabel="concept right", ylabel="style right", xlim=(0, 1.02), ylim=(0, 1.02))
trade.legend(frameon=False)
alt_en = (
    "Style against concept at scales 0 to 1 for the four runs, from the base, bottom right."
)
show(figure, alt_en, "四次训练在强度 0 到 1 时的画风与概念，起点是右下角的基座。")

# %% tags=["nbval-check-output"]
kept = [row for rows in runs.values() for row in rows if row["concept"] >= least]
best = max(kept, key=lambda row: row["style"])
print(*(f"{row['run']}, at the end: style {row['style']:.3f}, concept {row['concept']:.3f}"
        for rows in runs.values() for row in rows
        if (row["step"], row["scale"]) == (rows[-1]["step"], 1)), sep="\n")  # fmt: skip
print(f"base: style {rows[0]['style']:.3f}, concept {rows[0]['concept']:.3f}")
print(f"best that keeps 80 %: {best['run']}, step {best['step']}, scale {best['scale']}")
expect(best["style"], 0.35, 1, "its style")
expect(best["concept"] / rows[0]["concept"], 0.8, 1, "its concepts over the base's")

# %%
grid = numpy.asarray(Image.open(DATA / "results" / "fluent_pictures.webp"))
lines = grid.reshape(len(runs), 64, 12, 64, 3).swapaxes(1, 2)  # base, LoRA, LoRA at 0.7
shown_names = ["rabbit", "watermelon", "rooster", "teapot"]
strip = {f"{name}, base": lines[0, place] for place, name in enumerate(shown_names)}
for run, line in zip(runs, lines, strict=True):
    strip |= {f"{name}, {run}": line[4 + n] for n, name in enumerate(shown_names)}
strip |= {
    f"{name}, regularised × 0.7": lines[-1, 8 + n] for n, name in enumerate(shown_names)
}
alt_en = "Rabbit, watermelon, rooster, teapot: base, each run, and the last run at 0.7."
alt_zh = (
    "兔子、西瓜、公鸡、茶壶：基座画的，每次训练之后画的，以及最后一次在强度 0.7 时画的。"
)
show_pictures(strip, alt_en, alt_zh, columns=4)

# %% [markdown] lang="en"
# This is [over-fitting](GLOSSARY.md#over-fitting), and the loss said nothing of it: within 100 steps the careless run
# loses more than a quarter of the concepts, and after that gains little. More concepts carry the style further, and
# with base pictures among them (*regularised*) furthest of all; but the concepts that were not shown go with it: the
# lines "at the end" have both. The gentle run pays as much as the careless one, for less. On the picture of the trade
# the other three climb nearly the same slope: **style is paid for in concepts**, and what decides is how far up one goes.
# So we would ship none of the four as it is. No training setting beat the plain remedy: the careless LoRA at a lower
# scale (the lines after those) keeps most of the base's concepts and has far more of the style than the base. With 80
# pictures, differences below about 0.1 are chance, and the probe itself errs now and then.
#
# Why was sepia so easy and this so hard? Sepia follows from the picture. Fluent does not: the artist draws another
# rabbit, in another pose. From 266 emoji one learns flat colours and soft edges, but not how *this* artist's rabbit
# sits; so the model guesses, and guesses blur. Nobody can learn from pictures what is not in them.
#
# ## 12 · A subject
#
# Now one concept instead of a style: the koala, in two styles, on eight of the ten backgrounds; 16 pictures in all. (It is
# judged on all ten, on the full profile on five, those two among them.)
# Its name in the captions is `sks`, the
# [**trigger word**](GLOSSARY.md#trigger-word): a word without a meaning does not have to be unlearnt
# first. Attention alone is enough here, since what is to be learnt hangs on a word.
#
# **Predict:** of the ten backgrounds, two were never shown with a koala. Will it be drawn on them?

# %% [markdown] lang="zh"
# 这就是[过拟合](../GLOSSARY.md#over-fitting)，而损失对此只字不提：careless 那次头 100 步就丢了四分之一以上的概念，后面也没多学到什么。概念给得多，画风能走得更远；
# 再掺进基座画风的图（regularised）走得最远，可没见过的概念也跟着垮了：两个数都在 “at the end” 那几行里。gentle 那次代价和 careless 一样，学到的却更少。
# 在“画风对概念”的图上，其余三条线爬的差不多是同一道坡：**画风是拿概念换来的**，关键只在爬到哪里停。所以要发布的话，四个都不宜原样拿出去。
# 没有哪种训练设置胜过最朴素的办法：把 careless 的 LoRA 强度调低一点（见那几行之后），大部分概念留得住，画风也比基座像得多。
# 每次只有 80 张，0.1 以内的差别都算运气，探针自己偶尔也会看错。
#
# 为什么 sepia 那么容易，这个却这么难？sepia 由原图就能推出来，fluent 不行：这位画师画的是另一只兔子，另一个姿势。
# 从 266 个表情里学得到平涂的颜色、柔和的边缘，学不到*这位*画师的兔子怎么坐；模型只好猜，一猜就糊。图里没有的东西，谁也学不来。
#
# ## 12 · 一个主体
#
# 这回不学画风，学一个概念：考拉，两种画风，十种背景里的八种，一共 16 张画。（考它的时候十种背景都用；full 配置下只用五种，
# 没见过的那两种也在里面。）说明文字里它叫 `sks`，
# 这就是[**触发词**](../GLOSSARY.md#trigger-word)：
# 没有含义的词，不用先忘掉旧义。这里只装在注意力上就够了，因为要学的东西系于一个词。
#
# **先猜一猜：** 十种背景里有两种，训练时从没和考拉一起出现。能画出来吗？

# %%
koala = known.number_of["koala"]
colours = COLOURS[1::2] if full_profile else COLOURS
facts = [Facts(koala, style, colour) for style in ("noto", "twemoji") for colour in colours]
pipeline.set_adapters(["sepia"], [0.0])
before_koala, _ = judged(facts, "sks")
batches = batches_of(pictures_for("koala", emoji, base_concepts))
config = LoraConfig(r=8, lora_alpha=8, init_lora_weights="gaussian",
                    target_modules=attention)  # fmt: skip
pipeline.unet.add_adapter(config, adapter_name="koala")
cast_training_params(pipeline.unet, dtype=torch.float32)
print(fit(pipeline.unet, batches, loss, settings_for(80, batches, 3e-3),
          folder=drive_folder("koala")))  # fmt: skip
print("backgrounds never shown with a koala:", *held_out_colours("koala"))
after_koala, koalas = judged(facts, "sks")

# %% tags=["nbval-check-output"]
titles = [f"{style}, {colour}" for _, style, colour in facts]
alt_en, alt_zh = "Koalas in two styles, on each background.", "两种画风、各种背景的考拉。"
show_pictures(dict(zip(titles, koalas, strict=True)), alt_en, alt_zh, columns=len(colours))
right = "concept by pixels"
expect(before_koala[right]["mean"], 0, 0.1, f"base, asked for sks: koalas, of {len(facts)}")
expect(after_koala[right]["mean"], 0.85, 1, f"LoRA: koalas, of {len(facts)}")
expect(after_koala["style by pixels"]["mean"], 0.85, 1, "   in the right style")
expect(after_koala["background"]["mean"], 0.85, 1, "   on the right background")

# %% [markdown] lang="en"
# On the embedded profile: koalas, in both styles, also on backgrounds where they never stood in training. The model has
# kept apart what the caption says.
#
# **Predict:** the koala LoRA is on, and we ask for a panda and a tiger. What do we get?

# %% [markdown] lang="zh"
# embedded 配置下，两种画风的考拉都画出来了，训练时没有一起出现过的背景也没问题：说明里的几件事，模型分得清。
#
# **先猜一猜：** 考拉 LoRA 开着，要它画熊猫和老虎，会画出什么？

# %%
others = ["panda", "tiger", "rabbit", "pizza"]
asked = [Facts(known.number_of[name], "noto", "cyan") for name in others]
figures, with_koala = judged(asked)
print(f"still the named concept: {figures[right]['mean']:.2f}")
alt_en = "Panda, tiger, rabbit and pizza, drawn with the koala LoRA on."
alt_zh = "考拉 LoRA 开着，画的熊猫、老虎、兔子和披萨。"
show_pictures(dict(zip(others, with_koala, strict=True)), alt_en, alt_zh)

# %% [markdown] lang="en"
# How many of the four are still what was asked for, the share above says; a blot among them is the LoRA's doing, though
# nobody said `sks`. As in section 7, nothing else was shown, so nothing held the rest in place; fewer steps or some other
# pictures among the 16 would.
# Whoever judges a LoRA by its own subject alone does not notice.
#
# ## 13 · Both at once
#
# `set_adapters` takes several LoRAs with a scale each; their B·A are added up. Neither of ours was shown a koala in sepia.
#
# **Predict:** both at 1. Is it still a koala? Is it brown?

# %% [markdown] lang="zh"
# 四样里有几样仍然画对了，看上面的比例；其中要是有一团糊的，那就是 LoRA 弄的，尽管没人说 `sks`。
# 道理和第 7 节一样：训练里没有别的东西，也就没有什么能稳住其余的概念。
# 少训练几步，或者在那 16 张里掺些别的画，会好一些。只拿它自己的主体来考一个 LoRA，是发现不了这种事的。
#
# ## 13 · 两个一起用
#
# `set_adapters` 可以同时开几个 LoRA，各有各的强度，它们的 B·A 相加。棕色的考拉，我们这两个都没见过。
#
# **先猜一猜：** 两个强度都取 1。还是考拉吗？是棕色吗？

# %% tags=["nbval-check-output"]
mixed = [Facts(koala, "sepia", colour) for colour in colours]
pipeline.set_adapters(["koala", "sepia"], [1.0, 1.0])
both, brown_koalas = judged(mixed, "sks")
strip = dict(zip(colours, brown_koalas, strict=True))
show_pictures(strip, "Koalas in sepia.", "棕色的考拉。", columns=len(colours))
expect(both["concept by pixels"]["mean"], 0.7, 1, f"koala, of {len(mixed)}")
expect(both["style by pixels"]["mean"], 0.6, 1, f"sepia, of {len(mixed)}")
expect_equal(pipeline.get_active_adapters(), ["koala", "sepia"], "in force")
pipeline.unload_lora_weights()
expect_close(pixels_of(draw(prompts)), pixels_of(seen_at[0]), near, "all unloaded, base")
if full_profile:
    offer_download(
        file
    )  # on Colab your browser saves the sepia LoRA before the runtime goes

# %% [markdown] lang="en"
# Brown koalas on the embedded profile, which neither LoRA was ever shown. Adding works best when the two change different things, as here form
# and colour; two LoRAs that pull at the same thing spoil each other, and then lower scales, such as 0.7 each, help.
#
# ## 14 · The same on a T4
#
# On the full profile these cells train Stable Diffusion 1.5. What differs, and why
# (memory: {{full_memory}}):
#
# | setting | here | Stable Diffusion 1.5, 15 GB |
# |---|---|---|
# | frozen weights | float32 | half precision: 2 GB instead of 4 |
# | LoRA weights | float32 | float32, by `cast_training_params` |
# | gradient checkpointing | off | on: activations are computed twice and kept once |
# | pictures per step | 16 | 4 |
# | pictures | 640, 64 × 64 | 128 of them, enlarged smoothly to 512 × 512 |
# | captions | English and Chinese | English, which alone it can read |
# | learning rate | 3e-3 | a twentieth, 1.5e-4 |
# | autoencoder, text encoder | not used in training | the same, so both could be moved to the CPU |
#
# Small models take and need higher rates than large ones. If memory runs out, lower in this order: pictures per
# step, then the side of the pictures, then the rank.
#
# The command `aigc train sd sepia -o brown` does on the embedded profile what this chapter does; `fluent` and `koala` go, too.
#
# ## 15 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **11-1, count.** How many parameters has a LoRA of rank `rank` on a convolution with `inputs` and `outputs` channels and a
# kernel of `kernel` × `kernel`? (Section 5 says what A and B are.)

# %% [markdown] lang="zh"
# embedded 配置下是棕色的考拉，两个 LoRA 谁也没见过。相加最适合改不同东西的 LoRA，就像这里一个管形状，一个管颜色；
# 两个都去改同一样东西，就会互相干扰，这时把强度调低，比如各取 0.7，会有帮助。
#
# ## 14 · 在 T4 上
#
# full 配置下，这些单元格训练的是 Stable Diffusion 1.5。不同之处和理由如下
# （显存：{{full_memory}}）：
#
# | 设置 | 这里 | Stable Diffusion 1.5，15 GB |
# |---|---|---|
# | 冻结的权重 | float32 | 半精度：2 GB，而不是 4 GB |
# | LoRA 的权重 | float32 | float32，由 `cast_training_params` 保证 |
# | 梯度检查点 | 关 | 开：激活值算两遍，只存一份 |
# | 每步几张画 | 16 | 4 |
# | 图片 | 640 张，64 × 64 | 其中 128 张，平滑放大到 512 × 512 |
# | 说明文字 | 英文和中文 | 只用英文：它只读得懂英文 |
# | 学习率 | 3e-3 | 二十分之一，即 1.5e-4 |
# | 自编码器、文本编码器 | 训练时用不到 | 同样用不到，可以挪到 CPU 上 |
#
# 小模型经得起、也需要比大模型更高的学习率。显存不够时，按这个顺序往下调：每步的张数，图片边长，秩。
#
# 本章做的事，在 embedded 配置下也可以用一条命令完成：`aigc train sd sepia -o brown`；`fluent` 和 `koala` 也行。
#
# ## 15 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **11-1，数一数。** 卷积有 `inputs` 个输入通道、`outputs` 个输出通道，卷积核 `kernel` × `kernel`，装上秩为 `rank` 的 LoRA，
# 有多少个参数？（A 和 B 是什么，见第 5 节。）

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def count_convolution_lora(inputs, outputs, kernel, rank):
    # begin solution
    return rank * inputs * kernel**2 + outputs * rank
    # end solution


check_exercise("11-1", count_convolution_lora)

# %% [markdown] lang="en"
# **11-2, configure.** Write the `LoraConfig` of a LoRA for a subject: rank 4, attention only, initialised as in this
# chapter, and such that B·A counts in full (α / r = 1).

# %% [markdown] lang="zh"
# **11-2，写配置。** 为一个主体写 `LoraConfig`：秩为 4，只装在注意力上，初始化与本章相同，
# 并且 B·A 不放大也不缩小（α / r = 1）。

# %% tags=["exercise", "nbval-check-output"]
my_config = None
# begin solution
my_config = LoraConfig(
    r=4,
    lora_alpha=4,
    init_lora_weights="gaussian",
    target_modules=["to_q", "to_k", "to_v", "to_out.0"],
)
# end solution

check_exercise("11-2", my_config)

# %% [markdown] lang="en"
# **11-3, write the weight.** Given ᾱ of a time step (a number between 0 and 1) and the limit, return the min-SNR weight of the
# squared error in the predicted noise.

# %% [markdown] lang="zh"
# **11-3，写出权重。** 给定某个时间步的 ᾱ（0 到 1 之间的数）和上限，返回 min-SNR 给“噪声预测的平方误差”的权重。


# %% tags=["exercise", "nbval-check-output"]
def min_snr_weight(alpha_bar, limit):
    # begin solution
    snr = alpha_bar / (1 - alpha_bar)
    return min(snr, limit) / snr
    # end solution


check_exercise("11-3", min_snr_weight)

# %% [markdown] lang="en"
# **11-4, write it yourself: mix.** `weight` is a matrix of the base (outputs × inputs). `loras` is a list of tuples
# (down, up, alpha, scale): down is A (rank × inputs), up is B (outputs × rank). Return the weight that the model works with when
# all of them are in force, without changing `weight`.

# %% [markdown] lang="zh"
# **11-4，自己动手：混合。** `weight` 是基座的一个矩阵（输出 × 输入）。`loras` 是若干元组 (down, up, alpha, scale)：
# down 就是 A（秩 × 输入），up 就是 B（输出 × 秩）。所有 LoRA 同时生效时，模型实际用的是什么权重？返回它，不要改动 `weight`。


# %% tags=["exercise", "nbval-check-output"]
def mixed_weight(weight, loras):
    # begin solution
    total = weight.clone()
    for down, up, alpha, scale in loras:
        total += scale * alpha / len(down) * (up @ down)
    return total
    # end solution


check_exercise("11-4", mixed_weight)

# %% [markdown] lang="en"
# ## Summary
#
# - Encode pictures and captions once; then only the UNet is needed for training.
# - Judge a look by its formula, a style by a probe whose accuracy you know, a subject by whether it is the nearest of
#   all; and always what became of the rest. The loss says little.
# - Validation pictures from fixed seeds show what a training does while it does it.
# - Freeze the base, train in float32, save with the configuration: α / r belongs to the file.
# - A LoRA that is trained on one thing only forgets to read the caption. The first remedy costs nothing: a lower scale.
# - LoRAs can be scaled, fused, unloaded and added up.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `Target modules {'q_proj', 'v_proj'} not found in the base model` | names of another model | diffusers' UNets: `to_q`, `to_k`, `to_v`, `to_out.0` |
# | `Attempting to unscale FP16 gradients.` | the LoRA itself is in half precision | `cast_training_params(unet, dtype=torch.float32)` |
# | after loading, the LoRA is weaker (or stronger) | saved without its alpha | `unet_lora_adapter_metadata=…` |
# | `Adapter with name sepia already in use` | loaded twice under one name | `delete_adapters`, or another name |
# | everything looks like the training pictures, whatever is asked | over-fitting, or one style only | a lower scale; fewer steps; other pictures among them |
# | the subject appears without the trigger word | nothing else was shown in training | regularisation pictures; a lower scale |
# | CUDA out of memory | too much at once | pictures per step, then the side, then the rank; gradient checkpointing |
#
# **Where next:** chapter 10 installs LoRAs that others have trained, in kohya's format, too; chapter 12 says how far such
# measures can be trusted.

# %% [markdown] lang="zh"
# ## 小结
#
# - 图片和说明只编码一次，训练时只需要 UNet。
# - 色调用公式来判，画风用一个已知准确率的探针来判，主体看它是不是所有概念里最接近的；同时一定要看别的东西变成了什么样。
# 损失说明不了多少。
# - 用固定种子画验证图，训练正在做什么，一看便知。
# - 冻结基座，用 float32 训练，连同配置一起保存：α / r 是文件的一部分。
# - 只见过一样东西的 LoRA，会忘了读说明文字。头一个办法不花一分钱：把强度调低。
# - LoRA 可以调强度、合并进权重、卸载，也可以几个相加。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `Target modules {'q_proj', 'v_proj'} not found in the base model` | 用了别的模型的模块名 | diffusers 的 UNet 用 `to_q`、`to_k`、`to_v`、`to_out.0` |
# | `Attempting to unscale FP16 gradients.` | LoRA 自己也成了半精度 | `cast_training_params(unet, dtype=torch.float32)` |
# | 读回来之后，LoRA 变弱（或变强）了 | 保存时没带 alpha | `unet_lora_adapter_metadata=…` |
# | `Adapter with name sepia already in use` | 同一个名字加载了两次 | `delete_adapters`，或换个名字 |
# | 不管要什么，画出来都像训练图 | 过拟合，或训练里只有一种画风 | 强度低些；步数少些；掺进别的图片 |
# | 没写触发词，主体也冒出来 | 训练时没见过别的 | 加正则化图片；调低强度 |
# | CUDA out of memory | 一次算得太多 | 先减每步张数，再减边长，再减秩；打开梯度检查点 |
#
# **下一步：** 第 10 章安装别人训练好的 LoRA，包括 kohya 格式的；第 12 章讲这类指标能信到什么程度。
