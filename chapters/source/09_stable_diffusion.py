# %% [markdown] lang="en"
# # 09 · Stable Diffusion
#
# {{badge}}
#
# **What you will be able to do:** take a Stable Diffusion pipeline apart and run its parts by hand, until your
# picture equals the pipeline's, pixel for pixel; say what prompt, negative prompt, seed, steps, guidance and
# scheduler each do, and show it; find out where the time goes; notice when a prompt was not read; and repair the
# snippet that many articles print.
#
# | | embedded profile | full profile |
# |---|---|---|
# | model | a Stable Diffusion in miniature, 64 × 64 pixels (9 M parameters) | Stable Diffusion 1.5, 512 × 512 (1,066 M) |
# | time | under 3 minutes on two CPU cores | {{full_time}} |
# | memory | 0.9 GB | {{full_memory}} |
# | download | none once the workbook is set up | about 2.7 GB (half precision) |
#
# You need Python, and a rough idea of what a model is (chapter 00). Why removing noise makes pictures at all is the
# subject of chapter 08; it can wait. What the text says of pictures was seen on the embedded profile.

# %% [markdown] lang="zh"
# # 09 · Stable Diffusion
#
# {{badge}}
#
# **学完本章，你能够：** 把 Stable Diffusion 的流水线拆开，亲手把每个部件跑一遍，直到画出来的图和流水线的逐像素相同；
# 说清提示词、反向提示词、随机种子、步数、引导强度和采样器各管什么，并拿出证据；找出时间花在哪里；
# 看出提示词什么时候没被读进去；修好那段许多文章都在抄的代码。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | 微型 Stable Diffusion，64 × 64 像素（900 万参数） | Stable Diffusion 1.5，512 × 512（10.66 亿参数） |
# | 时间 | 两个 CPU 核心不到 3 分钟 | {{full_time}} |
# | 内存 | 0.9 GB | {{full_memory}} |
# | 下载 | 装好本书之后不再需要 | 约 2.7 GB（半精度） |
#
# 会 Python，大致知道模型是什么（第 00 章）就行。为什么去掉噪声就能得到画，是第 08 章的内容，可以以后再看。
# 正文里对画的描述，说的都是 embedded 配置下看到的。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · A folder of parts
#
# What is called "a Stable Diffusion model" is a folder with several models in it, and a *pipeline* is the program
# that lets them work together. `from_pretrained` loads them all. Nothing is trained in this chapter, so gradients are
# switched off once and for all. Stable Diffusion 1.5 comes with another scheduler; we give both profiles the same
# one, DDIM.

# %% [markdown] lang="zh"
# ## 1 · 一个文件夹，几个部件
#
# 所谓“一个 Stable Diffusion 模型”，其实是装着好几个模型的文件夹；让它们配合工作的程序叫*流水线*（pipeline）。
# `from_pretrained` 把它们一次全部加载。本章不训练任何东西，所以一开始就关掉梯度。Stable Diffusion 1.5
# 自带的是另一种采样器，这里让两种配置统一用 DDIM。

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
# What differs between the profiles stands in the next cell: style, guidance, and how exactly two results of the same
# arithmetic must agree (half precision rounds more coarsely).
#
# **Predict:** three of the parts hold weights: the text encoder, the UNet, and the autoencoder (`vae`). Which is the
# largest?

# %% [markdown] lang="zh"
# 两种配置的不同之处都写在下一个单元格里：画风、引导强度，以及同样的运算结果要吻合到什么程度（半精度舍入更粗）。
#
# **先猜一猜：** 带权重的部件有三个：文本编码器、UNet、自编码器（`vae`）。哪个最大？

# %% tags=["nbval-check-output"]
from aigc_helpers.notebook import expect, expect_close, expect_equal

style, other_style = ("watercolour", "pencil") if full_profile else ("noto", "twemoji")
usual_guidance = 7.5 if full_profile else 4.0
tolerance = 1e-5 if dtype == torch.float32 else 5e-2
if full_profile:
    pipeline.vae.enable_slicing()  # decodes one picture at a time, which takes less memory
torch.set_grad_enabled(False)
sizes = {}
for name in ("text_encoder", "unet", "vae"):
    part = getattr(pipeline, name)
    sizes[name] = sum(parameter.numel() for parameter in part.parameters())
    print(f"{name:13} {type(part).__name__:21} {sizes[name] / 1e6:7.1f} M parameters")
expect_equal(max(sizes, key=sizes.get), "unet", "the largest part")

# %% [markdown] lang="en"
# In Stable Diffusion 1.5 the three have 123, 860 and 84 million. There, too, the UNet is the largest; and the classes
# are the same, so all you do below works there unchanged.
#
# ## 2 · The picture to be matched
#
# This is how everyone uses it: one call, a few settings. **Predict** what each of them does; by the end of the
# chapter you will have tried them all. Sections 3 to 8 make the same picture without `pipeline(...)`.

# %% [markdown] lang="zh"
# 在 Stable Diffusion 1.5 里，三者分别是 1.23 亿、8.6 亿和 8400 万，最大的同样是 UNet。类也一样，所以下面做的每一步在那边照样能跑。
#
# ## 2 · 要复现的那张画
#
# 人人都是这么用的：一次调用，几项设置。**先猜**每一项管什么，到本章结束时，每一项你都会试过。
# 第 3 到第 8 节要做的，就是不用 `pipeline(...)` 也画出同一张画。


# %%
from aigc_helpers.figures import show_pictures


def paint(prompt, negative_prompt="", seed=0, steps=20, guidance=usual_guidance):
    noise = torch.Generator("cpu").manual_seed(seed)  # so that a GPU starts from the same
    drawn = pipeline(
        prompt, negative_prompt=negative_prompt, num_inference_steps=steps,
        guidance_scale=guidance, generator=noise,
    )  # fmt: skip
    return drawn.images[0]


prompt = f"tiger, {style} style, blue background"
target = paint(prompt)
show_pictures({"paint(prompt)": target}, "A tiger, drawn.", "画出来的老虎。", columns=1)

# %% [markdown] lang="en"
# ## 3 · The tokenizer: words become numbers
#
# The tokenizer cuts the prompt into tokens, puts a mark before and after, and pads to a fixed length with the end
# mark. The embedded model has one token per English word, Chinese character or comma, and room for 26; Stable
# Diffusion 1.5 has pieces of words, and room for 77.
#
# **Predict:** how many of the places does the prompt fill, marks included?

# %% [markdown] lang="zh"
# ## 3 · 分词器：词变成数字
#
# 分词器把提示词切成 token，首尾各加一个标记，再用结束标记补到固定长度。embedded 模型里，一个英文词、一个汉字或一个逗号
# 就是一个 token，最多 26 个；Stable Diffusion 1.5 切得更碎，最多 77 个。
#
# **先猜一猜：** 连同首尾标记，这个提示词占几个位置？

# %% tags=["nbval-check-output"]
tokenizer = pipeline.tokenizer
longest = tokenizer.model_max_length


def to_tokens(text):
    settings = {"padding": "max_length", "max_length": longest, "truncation": True}
    return tokenizer(text, return_tensors="pt", **settings).input_ids


ids = to_tokens(prompt)
expect_equal(tuple(ids.shape), (1, longest), "shape: (prompts, tokens)")
print(tokenizer.convert_ids_to_tokens(ids[0].tolist())[:12])
print(f"{len(tokenizer(prompt).input_ids)} of {longest} places are filled")

# %% [markdown] lang="en"
# ## 4 · The text encoder: numbers become vectors
#
# The text encoder is the text half of a CLIP. It gives every place a vector, and all of them go to the UNet, padding
# included. The empty prompt gets vectors, too: we shall need them.
#
# **Predict:** one word is changed, blue to pink. How many of the vectors change: one, or more?

# %% [markdown] lang="zh"
# ## 4 · 文本编码器：数字变成向量
#
# 文本编码器是 CLIP 的文本那一半。它给每个位置一个向量，全部交给 UNet，补齐的位置也不例外。
# 空提示词同样有自己的向量，后面要用到。
#
# **先猜一猜：** 只改一个词，blue 换成 pink。会变的向量有几个，一个，还是更多？


# %% tags=["nbval-check-output"]
def encode(text):
    return pipeline.text_encoder(to_tokens(text).to(device))[0]


named, empty = encode(prompt), encode("")
expect_equal(tuple(named.shape[:2]), (1, longest), "shape: (prompts, tokens, …)")
pink_prompt = prompt.replace("blue", "pink")
tokens_changed = (to_tokens(pink_prompt) != ids)[0]
vectors_changed = (encode(pink_prompt) - named).abs().amax(dim=2)[0] > tolerance
first_token, first_vector = tokens_changed.int().argmax(), vectors_changed.int().argmax()
expect_equal(tokens_changed.sum().item(), 1, "tokens changed")
expect_equal(first_vector.item(), first_token.item(), "place of the first vector changed")
expect_equal(vectors_changed.sum().item(), longest - first_token.item(), "vectors changed")

# %% [markdown] lang="en"
# All from that word on: each place sees those before it and none behind it. So the padding is no waste. Every padded
# place has read the whole prompt.
#
# ## 5 · The autoencoder: pictures in small
#
# Stable Diffusion does not work on pixels but on *latents*: the autoencoder packs a picture into a much smaller grid with
# more channels, and unpacks it again. Here it is with a real drawing, the tiger of the noto emoji.
#
# **Predict:** the picture has 3 numbers per pixel. How many times fewer numbers are the latents?

# %% [markdown] lang="zh"
# 从那个词起全变了：每个位置只看得见它前面的，看不见后面的。所以补齐位并不浪费，它们个个都读过整句提示词。
#
# ## 5 · 自编码器：把画压小
#
# Stable Diffusion 处理的不是像素，而是*潜变量*（latents）：自编码器把画压进一个小得多、通道更多的格子，需要时再解开。
# 这里用一张真画来试：noto 表情里的老虎。
#
# **先猜一猜：** 画的每个像素有 3 个数。潜变量的个数是它的几分之一？

# %% tags=["nbval-check-output"]
from PIL import Image

from aigc_helpers.images import load_emoji

emoji = load_emoji()
side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
original = emoji.picture(emoji.number_of["tiger"], "noto", "blue")
original = Image.fromarray(original).resize((side, side))
pixels = pipeline.image_processor.preprocess(original).to(device, dtype)
packed = pipeline.vae.encode(pixels).latent_dist.mean
unpacked = pipeline.vae.decode(packed).sample
print(f"pixels {tuple(pixels.shape)}, latents {tuple(packed.shape)}")
expect_equal(pixels.numel() // packed.numel(), 48 if full_profile else 12, "times fewer")
error = (unpacked.clamp(-1, 1) - pixels).float().square().mean()
expect(10 * torch.log10(4 / error), 20, 45, "PSNR of the unpacked picture in dB")

# %%
pictures = {
    "original": original,
    "one channel of the latents": packed[0, 0].float().cpu(),
    "unpacked": pipeline.image_processor.postprocess(unpacked)[0],
}
alt_en = "The original, its latents as a coarse grid, and the unpacked picture."
show_pictures(pictures, alt_en, "原图、粗格子般的潜变量、解开后的图。", columns=3)

# %% [markdown] lang="en"
# ## 6 · The UNet: what of this is noise?
#
# Drawing starts from latents that are nothing but noise. The seed decides which; the prompt has no say yet. The
# scheduler lays out the *time steps*, from nearly 1,000 (all noise) down to 1 (hardly any). At each of them the UNet
# gets the latents, the time step and the text vectors, and answers one question: which part of this is noise?
#
# **Predict:** at the first time step the latents *are* noise. What must a good UNet answer?

# %% [markdown] lang="zh"
# ## 6 · UNet：哪些是噪声？
#
# 作画的起点是一堆全是噪声的潜变量。是哪一堆，由随机种子决定，提示词此时还说不上话。采样器排出*时间步*，
# 从接近 1,000（全是噪声）一路降到 1（几乎没有噪声）。每一步，UNet 拿到潜变量、时间步和文本向量，只回答一个问题：
# 这里面哪些是噪声？
#
# **先猜一猜：** 在第一个时间步，潜变量*就是*噪声。好的 UNet 应该怎么回答？

# %% tags=["nbval-check-output"]
shape = (1, pipeline.unet.config.in_channels, *packed.shape[2:])
noise = torch.Generator("cpu").manual_seed(0)
start = torch.randn(shape, generator=noise, dtype=dtype).to(device)
pipeline.scheduler.set_timesteps(20)
print(pipeline.scheduler.timesteps.tolist())
first = pipeline.scheduler.timesteps[0]
answer = pipeline.unet(start, first, encoder_hidden_states=named).sample
expect_equal(tuple(answer.shape), shape, "shape of the answer")
likeness = torch.nn.functional.cosine_similarity(answer.flatten(), start.flatten(), dim=0)
expect(likeness, 0.8, 1.0, "cosine of the answer and the latents")

# %% [markdown] lang="en"
# All of it. The cosine above says how near the answer comes to the latents themselves; 1 would be the very same direction.
#
# ## 7 · Guidance: ask twice
#
# Left alone, the UNet follows a prompt only loosely. So it is asked twice, once with the prompt and once with the
# empty one, and the difference between the two answers is exaggerated (*classifier-free guidance*, Ho & Salimans
# 2022):
#
# > noise = empty + guidance · (named − empty)
#
# **Predict:** what is left of the formula at guidance 1? And at 0?

# %% [markdown] lang="zh"
# 应该答：全都是。上面的余弦说明，回答与潜变量本身有多接近；1 就是方向完全一致。
#
# ## 7 · 引导：同一个问题问两遍
#
# 任 UNet 自己来，它对提示词只是大致听从。所以同一个问题问两遍，一遍带提示词，一遍带空提示词，再把两个回答的差别放大
# （*无分类器引导*，Ho & Salimans 2022）：
#
# > 噪声 = 空 + 引导强度 ·（有提示词 − 空）
#
# **先猜一猜：** 引导强度取 1 时，公式还剩什么？取 0 呢？

# %% tags=["nbval-check-output"]
both = pipeline.unet(
    torch.cat([start, start]), first, encoder_hidden_states=torch.cat([empty, named])
).sample
without, with_prompt = both.chunk(2)


def guide(guidance):
    return without + guidance * (with_prompt - without)


expect_close(with_prompt, answer, tolerance, "asked together and alone")
expect_close(guide(1), answer, tolerance, "guidance 1 and the prompt's answer")
expect_close(guide(0), without, 0.0, "guidance 0 and the empty prompt's answer")

# %% [markdown] lang="en"
# ## 8 · The loop
#
# Now all of it together. The scheduler's `step` takes the predicted noise out and puts as much back in as belongs to the
# next, smaller time step. After the last one the latents are finished.
#
# **Predict:** how far will your latents be from the pipeline's?

# %% [markdown] lang="zh"
# ## 8 · 循环
#
# 把它们合在一起。采样器的 `step` 先去掉预测出的噪声，再按下一个更小的时间步该有的量加回去。走完最后一步，潜变量就成了。
#
# **先猜一猜：** 你手工得到的潜变量和流水线的会差多少？

# %% tags=["nbval-check-output"]
text = torch.cat([empty, named])
latents = start
for t in pipeline.scheduler.timesteps:
    both = pipeline.unet(torch.cat([latents] * 2), t, encoder_hidden_states=text).sample
    without, with_prompt = both.chunk(2)
    predicted = without + usual_guidance * (with_prompt - without)
    latents = pipeline.scheduler.step(predicted, t, latents).prev_sample

generator = torch.Generator("cpu").manual_seed(0)
settings = {"num_inference_steps": 20, "guidance_scale": usual_guidance}
theirs = pipeline(prompt, generator=generator, output_type="latent", **settings).images
expect_close(latents, theirs, tolerance, "latents by hand and the pipeline's")

# %% [markdown] lang="en"
# The last part is the autoencoder again. While training, latents were multiplied by `scaling_factor` so that their
# variance is 1, as the noise's is; before unpacking they are divided by it. What comes out lies between −1 and 1, or
# a little outside; pixels are whole numbers from 0 to 255.

# %% [markdown] lang="zh"
# 最后一个部件还是自编码器。训练时，潜变量乘过 `scaling_factor`，好让方差等于 1，和噪声一样；解开之前要先除回去。
# 解出来的数在 −1 到 1 之间，偶尔略微出界；像素则是 0 到 255 的整数。

# %% tags=["nbval-check-output"]
import numpy

pixels = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
brightness = (pixels / 2 + 0.5).clamp(0, 1).float() * 255
by_hand = brightness.round()[0].permute(1, 2, 0).byte().cpu().numpy()
difference = numpy.abs(by_hand.astype(int) - numpy.asarray(target))
print(f"largest difference of a pixel: {difference.max()}")
expect_equal(int((difference > 0).sum()), 0, "numbers that differ from the pipeline's")
pictures = {"by hand": by_hand, "by the pipeline": target}
show_pictures(pictures, "Two equal pictures.", "两张完全相同的画。", columns=2)

# %% [markdown] lang="en"
# Not one number differs. Those few cells are the pipeline; what it adds is checking, batches and convenience.
#
# ## 9 · On the way
#
# After every step the pipeline calls the function that it is given as `callback_on_step_end`. Ours keeps the latents.
# (It has to return what it was handed: the pipeline goes on with that, so a callback may also change the latents.)
#
# **Predict:** after half of the steps, how much of the picture is there? Which comes first, the colour or the form?

# %% [markdown] lang="zh"
# 一个数都不差。上面这几个单元格就是流水线的全部，它多做的只是检查、分批和图个方便。
#
# ## 9 · 半路上的样子
#
# 每走完一步，流水线就调用交给它的 `callback_on_step_end`。我们的函数把潜变量留下来。（拿到什么要原样返回：
# 流水线会接着用它，所以回调函数也可以改动潜变量。）
#
# **先猜一猜：** 走完一半步数，画出来多少？先出现的是颜色，还是形状？

# %% tags=["nbval-check-output"]
kept = []


def keep(pipeline, step, t, tensors):
    kept.append(tensors["latents"])
    return tensors


generator = torch.Generator("cpu").manual_seed(0)
pipeline(prompt, generator=generator, callback_on_step_end=keep, **settings)
film = pipeline.vae.decode(torch.cat(kept) / pipeline.vae.config.scaling_factor).sample
away = (film - film[-1]).abs().mean(dim=(1, 2, 3)).tolist()
expect_equal(len(kept), 20, "latents kept")
expect_close(kept[-1], latents, tolerance, "the last ones, and those by hand")
expect(away[9] / away[0], 0.0, 0.95, "distance from the end, step 10 over step 1")

# %%
frames = pipeline.image_processor.postprocess(film)
shown = (1, 4, 7, 10, 13, 16, 18, 20)
strip = {f"after step {step}": frames[step - 1] for step in shown}
alt_en = "Film strip in eight pictures: from noise to the finished tiger."
show_pictures(strip, alt_en, "八格胶片：从噪声到画好的老虎。")

# %% [markdown] lang="en"
# With the embedded model the form comes first: stripes can be seen after step 7, a tiger after step 10, and the background
# is the last to become clean. What a step changes grows smaller towards the end.
#
# ## 10 · What it costs
#
# The UNet is the largest part, and the only one that is called again and again. A hook on it counts: each entry below
# is one call, and its number says for how many latents.
#
# **Predict** the list for 3 steps, once with guidance and once with guidance 1, which needs no second answer.

# %% [markdown] lang="zh"
# embedded 模型先出现的是形状：第 7 步之后看得出条纹，第 10 步之后看得出老虎，背景最后才变干净。越到后面，每一步改动得越少。
#
# ## 10 · 开销在哪里
#
# UNet 是最大的部件，也是唯一反复调用的。在它身上挂一个钩子来计数：下面每一项是一次调用，数字表示这次算了几份潜变量。
#
# **先猜一猜：** 走 3 步，有引导一次，引导强度为 1（不需要第二个回答）一次，列表会是什么样？

# %% tags=["nbval-check-output"]
calls = []
hook = pipeline.unet.register_forward_hook(
    lambda unet, inputs, output: calls.append(len(inputs[0]))
)
paint(prompt, steps=3)
paint(prompt, steps=3, guidance=1.0)
hook.remove()
expect_equal(calls, [2, 2, 2, 1, 1, 1], "latents in each call of the UNet")

# %% [markdown] lang="en"
# **Predict:** what share of the time for a whole picture goes to the UNet? The times below are this machine's, the
# best of five runs each; they are not checked, because yours will differ.

# %% [markdown] lang="zh"
# **先猜一猜：** 画一张画的时间里，UNet 占多大比例？下面是这台机器上的时间，各跑五次取最快的；不做核对，因为你的肯定不一样。

# %%
from timeit import repeat

import pandas

parts = {"tokenizer + text encoder": (2, lambda: encode(prompt)),
         "UNet": (20, lambda: pipeline.unet(start.repeat(2, 1, 1, 1), first, text).sample),
         "autoencoder": (1, lambda: pipeline.vae.decode(latents).sample)}  # fmt: skip
timed = "call().sum().item()"  # .item() waits until a GPU has finished
rows = {}
for part, (calls, call) in parts.items():
    seconds = min(repeat(timed, globals={"call": call}, number=1))
    rows[part] = {"calls": calls, "ms a picture": 1000 * calls * seconds}
print("share of the UNet:", round(rows["UNet"]["ms a picture"]
      / sum(row["ms a picture"] for row in rows.values()), 2))  # fmt: skip
pandas.DataFrame(rows).T.round(1)

# %% [markdown] lang="en"
# Nearly all of it. Whoever wants pictures sooner needs fewer steps or a faster UNet; nothing else is worth the trouble.
#
# ## 11 · Prompt, negative prompt, seed
#
# **The prompt.** The seed stays, the words change. **Predict** which two of these are most alike. (Stable Diffusion
# 1.5 has learnt English alone; on the full profile the Chinese prompt shows that.)

# %% [markdown] lang="zh"
# 几乎全花在 UNet 上。想更快出图，要么减少步数，要么让 UNet 更快，别处省不出多少。
#
# ## 11 · 提示词、反向提示词、随机种子
#
# **提示词。** 种子不变，换词。**先猜**哪两张最像。（Stable Diffusion 1.5 只学过英文，在 full 配置下看看中文提示词就知道了。）

# %% tags=["nbval-check-output"]
from collections import Counter

from aigc_helpers.images import nearest_colour

pictures = {
    "blue": target,
    "the same in Chinese": paint(f"老虎，{style} 风格，蓝色背景"),
    "pink": paint(pink_prompt),
    "the other style": paint(prompt.replace(style, other_style)),
}
corners = [nearest_colour(numpy.asarray(picture)[1, 1]) for picture in pictures.values()]
right = numpy.array(corners) == ["blue", "blue", "pink", "blue"]
expect(right.mean(), 1.0, 1.0, "share of corners in the colour asked for")
alt_en = "A tiger on blue, what the Chinese prompt gives, on pink, in another style."
show_pictures(pictures, alt_en, "蓝底的老虎、中文提示词画的、粉底的、另一种画风的。")

# %% [markdown] lang="en"
# On the embedded profile the first two are most alike: to that model, either language says the same. Stable Diffusion 1.5
# reads the Chinese one as so many pieces of bytes, and draws whatever they bring to its mind.
#
# **The negative prompt** is no part of the model. It takes the place of the *empty* prompt in the formula of section
# 7, and that is all: guidance leads away from it.
#
# **Predict** two pictures from the formula. What is drawn if the negative prompt is the prompt itself, at guidance 8?
# And what does a negative prompt do at guidance 1?

# %% [markdown] lang="zh"
# embedded 配置下，最像的是前两张：对那个模型来说，换一种语言，说的还是同一件事。Stable Diffusion 1.5 只把中文当成一串字节碎片，
# 碎片让它联想到什么，就画什么。
#
# **反向提示词**不是模型的一部分。它只是顶替第 7 节公式里那个*空*提示词的位置，引导便朝着远离它的方向走，仅此而已。
#
# **先猜一猜：** 照公式推两张画。反向提示词就写提示词本身，引导强度取 8，会画出什么？引导强度取 1 时，反向提示词有什么用？


# %% tags=["nbval-check-output"]
def latents_for(negative_prompt, guidance):
    generator = torch.Generator("cpu").manual_seed(0)
    return pipeline(
        prompt, negative_prompt=negative_prompt, num_inference_steps=10,
        guidance_scale=guidance, generator=generator, output_type="latent",
    ).images  # fmt: skip


plain = latents_for("", 1.0)
cancelled = (latents_for(prompt, 8.0) - plain).abs().max()
expect(cancelled, 0, 1e-3, "against itself at guidance 8, from guidance 1")
expect_close(latents_for("blue", 1.0), plain, 0.0, "with and without, guidance 1")

# %% [markdown] lang="en"
# Against itself the difference is zero, and nothing is left to exaggerate. And at guidance 1 the second question is
# never asked: **a negative prompt without guidance is ignored, without a word.**
#
# What it is for: the next prompt leaves the background open. We look which colour the model likes best, and name that
# in the negative prompt. **Predict:** of the pictures that had this colour, how large a share is left?

# %% [markdown] lang="zh"
# 和自己相减等于零，没有差别可以放大。而引导强度为 1 时，第二个问题根本不问：**没有引导，反向提示词会被忽略，而且一声不响。**
#
# 它的用处在这里：下面的提示词不说背景颜色。先看模型最爱用哪种颜色，再把这种颜色写进反向提示词。
# **先猜一猜：** 原来是这种颜色的画，还剩几成？


# %% tags=["nbval-check-output"]
def draw_eight(negative):
    some = [paint(f"tiger, {style} style", negative, seed, steps=10) for seed in range(8)]
    return some, [nearest_colour(numpy.asarray(picture)[1, 1]) for picture in some]


free, colours = draw_eight("")
favourite, times = Counter(colours).most_common(1)[0]
steered, colours = draw_eight(f"{favourite} background")
expect(colours.count(favourite) / times, 0.0, 0.9, "that colour, after over before")
rows = {f"free, seed {seed}": free[seed] for seed in range(4)}
rows |= {f"not {favourite}, seed {seed}": steered[seed] for seed in range(4)}
alt_en = "Four tigers, backgrounds free; below, the same seeds, one colour avoided."
show_pictures(rows, alt_en, "上排四只老虎，背景随意；下排种子相同，避开一种颜色。")

# %% [markdown] lang="en"
# **The seed** is the noise, and nothing else is random: DDIM draws no more numbers on the way. A generator of its own
# for each picture makes it the same in a batch as alone, up to the last digits of rounding.
#
# **Predict:** which of these three comparisons are exact?

# %% [markdown] lang="zh"
# **随机种子**就是那堆噪声，此外再没有随机的东西：DDIM 半路上不再抽随机数。给每张画配一个自己的生成器，
# 那么成批画和单独画得到的一样，只差末位舍入。
#
# **先猜一猜：** 下面三个比较，哪些严格相等？

# %% tags=["nbval-check-output"]
generators = [torch.Generator("cpu").manual_seed(seed) for seed in (0, 1)]
batch = pipeline([prompt] * 2, generator=generators, **settings).images
first_of_batch, second = [numpy.asarray(picture).astype(int) for picture in batch]
alone = numpy.asarray(target)
again = numpy.asarray(paint(prompt))
expect_equal(numpy.array_equal(again, alone), True, "same seed, same picture")
expect(abs(first_of_batch - alone).max(), 0, 3, "batch against alone: levels of 255")
expect_equal(numpy.array_equal(second, alone), False, "seed 1 and seed 0, same picture")

# %% [markdown] lang="en"
# ## 12 · Guidance and steps
#
# Two numbers that everyone turns. The same seed and prompt, guidance downwards, steps to the right. **Predict:** what
# does too little of each look like, and what too much?

# %% [markdown] lang="zh"
# ## 12 · 引导强度与步数
#
# 这两个数人人都会调。种子和提示词不变，往下引导渐强，往右步数渐多。**先猜一猜：** 两者各自太小是什么样，太大又是什么样？

# %%
grid = {
    f"guidance {guidance}, {steps} steps": paint(prompt, steps=steps, guidance=guidance)
    for guidance in (1, 2, 4, 8)
    for steps in (3, 6, 12, 24)
}
alt_en = "Sixteen pictures: guidance 1, 2, 4, 8 downwards, 3, 6, 12, 24 steps to the right."
alt_zh = "十六张画：从上到下引导强度 1、2、4、8，从左到右 3、6、12、24 步。"
show_pictures(grid, alt_en, alt_zh)

# %% [markdown] lang="en"
# Guidance 1 is pale and soft. Much guidance with few steps burns out: colours that nobody asked for. From a dozen steps on,
# more of them change hardly anything.
#
# One prompt proves little. So ten things, each on a colour of its own, three times over, for each guidance: is the
# corner in the colour asked for, and what does tiny-CLIP say? (The CLIP score is 100 × cosine between the embeddings
# of picture and caption. Ours is the small CLIP of this book; another CLIP gives other numbers.)
#
# **Predict:** does more guidance always help?

# %% [markdown] lang="zh"
# 引导强度为 1 时又淡又软；引导强而步数少，画面就“烧”了，冒出谁也没要的颜色。十来步以后，再加步数几乎看不出变化。
#
# 一个提示词说明不了什么。十样东西各配一种颜色，各画三张，每种引导强度都画一遍：角上的颜色对不对，tiny-CLIP 怎么说？
# （CLIP 分数是图与文字两个嵌入的余弦 × 100。这里用的是本书的小 CLIP，换一个 CLIP，数字就不一样。）
#
# **先猜一猜：** 引导越强就越好吗？

# %%
from aigc_helpers.evaluation import clip_score
from aigc_helpers.images import COLOURS, draw_many, load_clip

things = ["tiger", "penguin", "octopus", "owl", "frog"]
things += ["cactus", "mushroom", "banana", "pizza", "carrot"]
pairs = zip(things, COLOURS, strict=True)
captions = [f"{thing}, {style} style, {colour} background" for thing, colour in pairs] * 3
measured = pandas.DataFrame(columns=["colour right", "tiny-CLIP score"])
for guidance in (1.0, 2.0, 4.0, 8.0):
    drawn = draw_many(pipeline, captions, 0, 10, guidance)
    arrays = numpy.stack([numpy.asarray(picture.resize((64, 64))) for picture in drawn])
    right = numpy.array([nearest_colour(one[1, 1]) for one in arrays]) == COLOURS * 3
    scores = clip_score(*load_clip(), arrays, captions)
    measured.loc[guidance] = right.mean(), numpy.mean(scores)

# %%
measured.rename_axis("guidance").round(2)

# %% tags=["nbval-check-output"]
gain = measured.loc[4.0] - measured.loc[1.0]
expect(measured["colour right"][4.0], 0.8, 1.0, "share of colours right, guidance 4")
expect(gain["colour right"], -0.05, 1.0, "more of them than with guidance 1")
expect(gain["tiny-CLIP score"], -4.0, 0.0, "tiny-CLIP score, guidance 4 minus guidance 1")

# %% [markdown] lang="en"
# It does not. On the embedded profile the colours are right without it, and from guidance 1 to 4 the score does not rise. That
# model was trained on few captions, each of them true, and follows them by itself; there is nothing left to exaggerate.
# Stable Diffusion 1.5 was trained on whatever stood beside pictures on the web, and needs guidance badly. So measure on
# your own model.
#
# ## 13 · Schedulers
#
# The scheduler holds no weights. It decides at which time steps the UNet is asked and what is done with the answer,
# so it can be exchanged at any time: `Scheduler.from_config(pipeline.scheduler.config)` keeps the noise schedule that
# the UNet was trained with. Never build one without that config.

# %% [markdown] lang="zh"
# 并非如此。embedded 配置下，没有引导，颜色就已经对了；引导从 1 加到 4，分数也没有升高。那个模型学的说明文字不多，句句属实，
# 它自己就会照着画，没什么可放大的。
# Stable Diffusion 1.5 学的是网页上图片旁边的任意文字，没有引导就不行。所以要在自己的模型上测一测。
#
# ## 13 · 采样器
#
# 采样器（scheduler）没有权重。它决定在哪些时间步去问 UNet，以及拿回答怎么办，所以随时可以换：
# `Scheduler.from_config(pipeline.scheduler.config)` 会沿用 UNet 训练时的噪声表。切勿不带这份配置就新建采样器。

# %%
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

classes = {"DDIM": DDIMScheduler, "Euler": EulerDiscreteScheduler}
classes["DPM-Solver++"] = DPMSolverMultistepScheduler
noise_schedule = pipeline.scheduler.config
schedulers = {name: one.from_config(noise_schedule) for name, one in classes.items()}
grid = {}
for name, scheduler in schedulers.items():
    pipeline.scheduler = scheduler
    grid |= {f"{name}, {n} steps": paint(prompt, steps=n) for n in (4, 8, 16, 32)}
pipeline.scheduler = schedulers["DDIM"]
alt_en = "DDIM, Euler, DPM-Solver++ downwards; 4, 8, 16, 32 steps to the right."
alt_zh = "从上到下 DDIM、Euler、DPM-Solver++，从左到右 4、8、16、32 步。"
show_pictures(grid, alt_en, alt_zh)

# %% [markdown] lang="en"
# Two of the rows look alike. **Predict:** by how much do the latents of Euler and DDIM differ after ten steps, if
# DDIM is told to end at *no* noise, as Euler does (`set_alpha_to_one=True`)?

# %% [markdown] lang="zh"
# 其中两行很像。**先猜一猜：** 让 DDIM 也像 Euler 那样走到*完全没有*噪声为止（`set_alpha_to_one=True`），
# 走十步之后，两者的潜变量差多少？

# %% tags=["nbval-check-output"]
ends_clean = DDIMScheduler.from_config(noise_schedule, set_alpha_to_one=True)
finished = {}
for name, scheduler in {"DDIM, ends clean": ends_clean, **schedulers}.items():
    pipeline.scheduler = scheduler
    finished[name] = latents_for("", usual_guidance).float()
    print(f"{name:16} starts with noise × {float(scheduler.init_noise_sigma):.2f}")
pipeline.scheduler = schedulers["DDIM"]
euler = finished["Euler"]
distance = (finished["DDIM, ends clean"] - euler).abs().max()
expect(distance, 0, 1e-3, "largest difference, Euler and DDIM that ends clean")
expect((finished["DPM-Solver++"] - euler).abs().max(), 0.01, 50, "DPM-Solver++ and Euler")

# %% [markdown] lang="en"
# None: **DDIM is Euler's method**, written down in other variables. Euler's latents are larger (the noise is
# multiplied by more than 8 at the start) and are scaled down before the UNet sees them, by
# `scheduler.scale_model_input`; DDIM leaves out both. If you ever write a loop by hand for Euler, you need them.
# DPM-Solver++ is another method: it also uses the answer of the step before.
#
# ## 14 · Prompts that are not read
#
# A prompt longer than the room for it is cut. diffusers says so in its log alone, and this book's set-up, like many
# programs, shows errors only. The embedded model has a second way of not reading: a small vocabulary. A word outside
# it becomes `<|unknown|>`, whatever it is. (Stable Diffusion 1.5 knows pieces of words and has no unknown ones; that
# it has *understood* a word, nobody promises either.) `check_prompt` looks before anything is drawn; `aigc generate`
# and the panel below ask it first.
#
# **Predict:** forty tigers on blue or on pink. How do the two prompts differ when they reach the text encoder?

# %% [markdown] lang="zh"
# 没有差别：**DDIM 就是欧拉法**，只是换了一套变量来写。Euler 的潜变量更大（起点的噪声乘了 8 倍多），送进 UNet 之前要用
# `scheduler.scale_model_input` 缩小；DDIM 两步都免了。如果你要给 Euler 手写循环，这两步缺一不可。
# DPM-Solver++ 是另一种方法，它还会用到上一步的回答。
#
# ## 14 · 没被读进去的提示词
#
# 提示词太长，装不下的就被切掉。diffusers 只在日志里说一声，而本书的准备单元格和许多程序一样，只显示错误。
# embedded 模型还有第二种读不进去：词表小。词表之外的词，不管是什么，一律变成 `<|unknown|>`。
# （Stable Diffusion 1.5 认的是词的碎片，没有“不认识”的词；但这个词它究竟*懂不懂*，同样没人能保证。）
# `check_prompt` 在动笔之前先看一遍；`aigc generate` 和下面的面板都会先问它。
#
# **先猜一猜：** 四十只老虎，一个蓝色背景，一个粉色背景。到了文本编码器那里，这两个提示词差在哪里？

# %% tags=["nbval-check-output"]
from aigc_helpers.errors import ReaderError
from aigc_helpers.images import check_prompt
from transformers import AutoTokenizer

many = "tiger, " * 40
blue, pink = to_tokens(f"{many}blue background"), to_tokens(f"{many}pink background")
expect_equal((blue != pink).sum().item(), 0, "tokens that differ")
small = AutoTokenizer.from_pretrained(install("sd", "embedded") / "tokenizer")
print(small.convert_ids_to_tokens(small("zeppelin, noto style").input_ids))
for bad in ("", "zeppelin, noto style", many):
    try:
        check_prompt(bad, small)
    except ReaderError as error:
        print(f"– {error}")

# %% [markdown] lang="en"
# ## 15 · Play
#
# All six settings in one place. The code twin of the panel is this cell: `paint` with the scheduler chosen first.
# Above the panel stands its first picture.

# %% [markdown] lang="zh"
# ## 15 · 动手玩
#
# 六项设置放在一处。与面板等价的代码就是这个单元格：先选采样器，再 `paint`。面板上方是它的第一张画。


# %%
def refuse_unread(said):
    if not full_profile:
        check_prompt(said, tokenizer)
    elif len(tokenizer(said).input_ids) > longest:  # pieces of words: none is unknown
        raise ReaderError(f"the prompt is longer than {longest} tokens.")


def paint_with(chosen):
    refuse_unread(chosen.prompt)
    refuse_unread(chosen.negative_prompt or chosen.prompt)
    pipeline.scheduler = schedulers[chosen.scheduler]
    numbers = (chosen.seed, chosen.steps, chosen.guidance)
    return paint(chosen.prompt, chosen.negative_prompt, *numbers)


# %% tags=["panel"]
from aigc_helpers.panels import PicturePanel, PictureSettings
from IPython.display import display

chosen = PictureSettings(prompt, "", 3, 12, usual_guidance, "DPM-Solver++")
pictures = {"seed 3, 12 steps": paint_with(chosen)}
show_pictures(pictures, "A tiger by DPM-Solver++.", "用 DPM-Solver++ 画的老虎。", columns=1)
display(PicturePanel(paint_with, list(schedulers), chosen))

# %% [markdown] lang="en"
# ## 16 · The snippet from the articles
#
# In one form or another it stands everywhere, and today not one of its three statements does what is meant:
#
# ```python
# pipe = StableDiffusionPipeline.from_pretrained(
#     "runwayml/stable-diffusion-v1-5", revision="fp16", torch_dtype=torch.float16)
# image = pipe("a tiger")[:1]
# image.save("tiger.png")
# ```
#
# **The repository** was removed in 2024. Online the hub answers that there is no such repository; without the network
# the message is the one below. (If the cell works for you, there is an old copy in your cache.) The same weights are
# at `stable-diffusion-v1-5/stable-diffusion-v1-5`.

# %% [markdown] lang="zh"
# ## 16 · 文章里的那段代码
#
# 它以各种面目到处出现，放到今天，三条语句没有一条能得到想要的结果：
#
# ```python
# pipe = StableDiffusionPipeline.from_pretrained(
#     "runwayml/stable-diffusion-v1-5", revision="fp16", torch_dtype=torch.float16)
# image = pipe("a tiger")[:1]
# image.save("tiger.png")
# ```
#
# **仓库**在 2024 年就删了。联网时 hub 会说没有这个仓库，断网时的报错如下。（如果你这里居然能跑，那是缓存里有旧文件。）
# 同样的权重现在放在 `stable-diffusion-v1-5/stable-diffusion-v1-5`。

# %%
gone = "runwayml/stable-diffusion-v1-5"
try:
    StableDiffusionPipeline.from_pretrained(gone, revision="fp16", local_files_only=True)
except OSError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown] lang="en"
# **`revision="fp16"`** names a git branch that old repositories had. What replaced it is `variant="fp16"`, a part of
# the *file names*: `diffusion_pytorch_model.fp16.safetensors`. It halves the download where such files exist, and is
# refused where they do not. On a folder, `revision` is ignored without a word; the precision comes from `torch_dtype`
# alone. **Predict** what happens without `torch_dtype`: the files of the embedded model are in half precision, all of
# them.

# %% [markdown] lang="zh"
# **`revision="fp16"`** 指的是旧仓库里的一个 git 分支。取代它的是 `variant="fp16"`，那是*文件名*的一部分：
# `diffusion_pytorch_model.fp16.safetensors`。有这种文件，下载量就减半；没有，就会报错。对本地文件夹，`revision`
# 一声不响地被忽略；精度只由 `torch_dtype` 决定。**先猜一猜：** 不写 `torch_dtype` 会怎样？embedded
# 模型的文件全部是半精度。

# %% tags=["nbval-check-output"]
local = install("sd", "embedded")
try:
    StableDiffusionPipeline.from_pretrained(local, variant="fp16", torch_dtype=dtype)
except ValueError as error:
    print(f"variant: {error}")
careless = StableDiffusionPipeline.from_pretrained(local, revision="fp16").to(device)
careless.set_progress_bar_config(disable=True)
for name in ("text_encoder", "unet", "vae"):
    print(f"{name:13} {getattr(careless, name).dtype}")
try:
    careless(prompt, num_inference_steps=1)
except RuntimeError as error:
    print(f"no torch_dtype: {error}")

# %% [markdown] lang="en"
# transformers keeps the precision of the file, diffusers turns its own models into float32, and the two do not fit
# together. So always say `torch_dtype`: `torch.float32` on a CPU (half precision runs there, but far slower),
# `torch.float16` on a GPU.
#
# **`[:1]`**: a pipeline returns no list of pictures, but an object with a field `images`. Sliced, it turns into a
# tuple of its fields; `["sample"]`, from still older articles, is gone. The second cell below is the whole snippet
# **repaired**, for any machine; with the network, `folder` may as well be
# `"stable-diffusion-v1-5/stable-diffusion-v1-5"` with `variant="fp16"`.

# %% [markdown] lang="zh"
# transformers 保留文件里的精度，diffusers 把自己的模型都转成 float32，两边对不上。所以一定要写明 `torch_dtype`：
# CPU 上用 `torch.float32`（半精度也能跑，但慢得多），GPU 上用 `torch.float16`。
#
# **`[:1]`**：流水线返回的不是图片列表，而是一个带 `images` 字段的对象。一切片，就变成由各字段组成的元组；
# 更早的文章里的 `["sample"]` 已经没有了。下面第二个单元格是**修好之后**的整段代码，任何机器都能跑；能联网的话，`folder`
# 也可以换成 `"stable-diffusion-v1-5/stable-diffusion-v1-5"`，再加上 `variant="fp16"`。

# %% tags=["raises-exception", "nbval-check-output"]
image = pipeline(prompt, num_inference_steps=2)[:1]
print(type(image).__name__, "of", type(image[0]).__name__)
image.save("tiger.png")

# %% tags=["nbval-check-output"]
from pathlib import Path
from tempfile import mkdtemp

pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, **files)
pipe.to(device)
pipe.scheduler = schedulers["DDIM"]
pipe.set_progress_bar_config(disable=True)
seeded = torch.Generator("cpu").manual_seed(0)
image = pipe(prompt, generator=seeded, **settings).images[0]
path = Path(mkdtemp()) / "tiger.png"
image.save(path)
same = numpy.array_equal(numpy.asarray(Image.open(path)), numpy.asarray(target))
expect_equal(same, True, "the saved picture is that of section 2")

# %% [markdown] lang="en"
# ## 17 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **09-1, count.** How many latents does the UNet work on, over all its calls, for `pictures` pictures with `steps`
# steps? Count as the pipeline does: with a guidance above 1 each question is asked twice.

# %% [markdown] lang="zh"
# ## 17 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **09-1，数一数。** 画 `pictures` 张画，每张 `steps` 步，UNet 前前后后一共要算多少份潜变量？按流水线的做法数：
# 引导强度大于 1 时，每个问题问两遍。

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def count_unet_latents(pictures, steps, guidance):
    # begin solution
    return pictures * steps * (2 if guidance > 1 else 1)
    # end solution


check_exercise("09-1", count_unet_latents)

# %% [markdown] lang="en"
# **09-2, complete the formula.** `both` is the UNet's answer to two questions at once, first with the empty prompt,
# then with the prompt (shape 2 × channels × height × width). Return the guided noise, of shape 1 × channels × height
# × width.

# %% [markdown] lang="zh"
# **09-2，补全公式。** `both` 是 UNet 对两个问题的回答：前一半用空提示词，后一半用提示词（形状 2 × 通道 × 高 × 宽）。
# 返回引导之后的噪声，形状 1 × 通道 × 高 × 宽。


# %% tags=["exercise", "nbval-check-output"]
def guided_noise(both, guidance):
    # begin solution
    without, with_prompt = both.chunk(2)
    return without + guidance * (with_prompt - without)
    # end solution


check_exercise("09-2", guided_noise)

# %% [markdown] lang="en"
# **09-3, from latents to a picture.** The autoencoder's answer `pixels` has the shape 1 × 3 × height × width and lies
# between −1 and 1, or a little outside. Return a tensor of height × width × 3 whole numbers from 0 to 255, rounded to
# the nearest.

# %% [markdown] lang="zh"
# **09-3，从解码结果到图片。** 自编码器给出的 `pixels` 形状是 1 × 3 × 高 × 宽，数值在 −1 到 1 之间，偶尔略微出界。
# 返回形状为 高 × 宽 × 3 的张量，取 0 到 255 的整数，四舍五入。


# %% tags=["exercise", "nbval-check-output"]
def to_picture(pixels):
    # begin solution
    brightness = (pixels[0] / 2 + 0.5).clamp(0, 1) * 255
    return brightness.round().permute(1, 2, 0).byte()
    # end solution


check_exercise("09-3", to_picture)

# %% [markdown] lang="en"
# **09-4, write it yourself: one DDIM step.** Latents at a time step are √ᾱ · picture + √(1 − ᾱ) · noise. Given the
# latents, the predicted noise, ᾱ now and ᾱ of the next, cleaner time step: solve for the picture, and mix it with the
# *same* noise for the next time step. (`alpha_now`, `alpha_next` are plain numbers, `scheduler.alphas_cumprod[t]`.)

# %% [markdown] lang="zh"
# **09-4，自己动手：走一步 DDIM。** 某个时间步的潜变量 = √ᾱ · 画 + √(1 − ᾱ) · 噪声。给定潜变量、预测的噪声、现在的 ᾱ
# 和下一个（更干净的）时间步的 ᾱ：先解出画，再按下一个时间步的比例，与*同一份*噪声重新混合。
# （`alpha_now`、`alpha_next` 是普通的数，即 `scheduler.alphas_cumprod[t]`。）


# %% tags=["exercise", "nbval-check-output"]
def ddim_step(latents, noise, alpha_now, alpha_next):
    # begin solution
    picture = (latents - (1 - alpha_now) ** 0.5 * noise) / alpha_now**0.5
    return alpha_next**0.5 * picture + (1 - alpha_next) ** 0.5 * noise
    # end solution


check_exercise("09-4", ddim_step)

# %% [markdown] lang="en"
# ## Summary
#
# - A pipeline is a tokenizer, a text encoder, a UNet, a scheduler and an autoencoder; a dozen lines of your own give the same
#   picture, pixel for pixel.
# - The seed is the noise that the picture begins with. The UNet says which part of the latents is noise, the scheduler takes it
#   out, the autoencoder turns latents into pixels.
# - Guidance asks twice and exaggerates the difference. The negative prompt takes the place of the empty one; at guidance 1 it
#   does nothing.
# - The scheduler has no weights and can be exchanged, always with `from_config`. DDIM and Euler are one method.
# - A prompt that is too long is cut, and a word outside the vocabulary is lost. Count the tokens, or ask `check_prompt`.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `Repository Not Found for url: …runwayml…` or `Cannot find an appropriate cached snapshot folder` | the repository is gone, or there is no network | `stable-diffusion-v1-5/stable-diffusion-v1-5`; a local folder |
# | `mat1 and mat2 must have the same dtype, but got Half and Float` | no `torch_dtype` | `torch_dtype=torch.float32`, on a GPU `torch.float16` |
# | `You are trying to load the model files of the variant=fp16, but no such modeling files are available` | files without `.fp16.` in their names | leave `variant` out |
# | `'tuple' object has no attribute 'save'` | `pipe(...)[:1]` | `pipe(...).images[0]` |
# | the negative prompt changes nothing | guidance of 1 or less | `guidance_scale` above 1 |
# | the end of the prompt changes nothing | it was cut | count the tokens; the important words first |
# | ``` `height` and `width` have to be divisible by 8``` | latents are 8 times smaller | sizes in steps of 8 |
# | grey or burnt-out pictures after a change of scheduler | built without the noise schedule | `Scheduler.from_config(pipeline.scheduler.config)` |
#
# **Where next:** chapter 10 installs LoRA files that others have trained; in chapter 11 you train one that gives this
# model a style and a subject it has never seen.

# %% [markdown] lang="zh"
# ## 小结
#
# - 一条流水线 = 分词器、文本编码器、UNet、采样器、自编码器；自己写十几行，就能得到逐像素相同的画。
# - 随机种子决定起点的噪声。UNet 说出潜变量里哪些是噪声，采样器把它去掉，自编码器把潜变量变成像素。
# - 引导就是同一个问题问两遍，再放大差别。反向提示词顶替空提示词的位置；引导强度为 1 时毫无作用。
# - 采样器没有权重，可以随意更换，但一定要用 `from_config`。DDIM 和 Euler 是同一种方法。
# - 提示词太长会被切掉，词表之外的词会丢掉。数一数 token，或者问问 `check_prompt`。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `Repository Not Found for url: …runwayml…` 或 `Cannot find an appropriate cached snapshot folder` | 仓库已删除，或者没有网络 | 改用 `stable-diffusion-v1-5/stable-diffusion-v1-5`，或本地文件夹 |
# | `mat1 and mat2 must have the same dtype, but got Half and Float` | 没写 `torch_dtype` | `torch_dtype=torch.float32`，GPU 上用 `torch.float16` |
# | `You are trying to load the model files of the variant=fp16, but no such modeling files are available` | 文件名里没有 `.fp16.` | 去掉 `variant` |
# | `'tuple' object has no attribute 'save'` | `pipe(...)[:1]` | `pipe(...).images[0]` |
# | 反向提示词不起作用 | 引导强度不大于 1 | `guidance_scale` 取大于 1 的数 |
# | 提示词末尾怎么改都没变化 | 被切掉了 | 数一数 token；重要的词放前面 |
# | ``` `height` and `width` have to be divisible by 8``` | 潜变量的边长是图片的八分之一 | 尺寸取 8 的倍数 |
# | 换了采样器之后画面发灰或过曝 | 新建时没带噪声表 | `Scheduler.from_config(pipeline.scheduler.config)` |
#
# **下一步：** 第 10 章安装别人训练好的 LoRA 文件；第 11 章亲手训练一个，教这个模型它没见过的画风和主题。
