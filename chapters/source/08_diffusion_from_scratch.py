# %% [markdown] lang="en"
# # 08 · Diffusion from scratch
#
# {{badge}}
#
# **What you will be able to do:** write down the noise that goes in, and the step that takes it out, and prove both
# with numbers; turn noise, picture and velocity into each other; say why guessing noise with a squared error is
# enough; train a diffusion model on points and on small emoji; write DDPM's and DDIM's step so that it equals
# diffusers' to 1e-6; see guidance as an arrow; measure what fewer steps cost; and say why Stable Diffusion works on
# latents.
#
# | | embedded profile | full profile |
# |---|---|---|
# | models | trained here: 2-D points, emoji of 16 × 16 pixels | the same |
# | time | under 3 minutes on two CPU cores | the same |
# | memory | 0.9 GB | the same |
# | download | none once the workbook is set up | none |
#
# You need Python, a little torch, and means and variances. Where a formula stands, the cell below it proves it. The
# papers are [DDPM](REFERENCES.md#ddpm) and [DDIM](REFERENCES.md#ddim); chapter 09 does with Stable Diffusion what you
# build here.

# %% [markdown] lang="zh"
# # 08 · 从零实现扩散模型
#
# {{badge}}
#
# **学完本章，你能够：** 写出噪声怎样加进去、又怎样一步步去掉，并用数字证明；在噪声、原图和速度三种说法之间互相换算；
# 说清为什么只要用平方误差去猜噪声就够了；在平面点集和小 emoji 上训练扩散模型；亲手写出 DDPM 和 DDIM 的一步，与 diffusers
# 的结果相差不到 1e-6；把引导看成一支箭头；量出少走几步要付多大代价；说清 Stable Diffusion 为什么在潜变量上工作。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | 当场训练：二维点集、16 × 16 像素的 emoji | 相同 |
# | 时间 | 两个 CPU 核心不到 3 分钟 | 相同 |
# | 内存 | 0.9 GB | 相同 |
# | 下载 | 装好本书之后不再需要 | 不需要 |
#
# 会 Python，懂一点 torch，知道均值和方差就行。每写一个公式，下面的单元格就证明它。
# 两篇论文是 [DDPM](../REFERENCES.md#ddpm) 和 [DDIM](../REFERENCES.md#ddim)；本章亲手搭的东西，第 09 章会在 Stable Diffusion 上再见到。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · The way in: noise, a little at a time
#
# A [diffusion model](GLOSSARY.md#diffusion-model) learns to undo a process that needs no learning. That process takes
# a data point $x_0 \in \mathbb{R}^d$ (a picture, or two coordinates) and repeats $T$ times: shrink a little, add a
# little noise. With $\beta_t \in (0, 1)$ and $\varepsilon_t \sim \mathcal{N}(0, I_d)$,
#
# $$x_t = \sqrt{1-\beta_t}\;x_{t-1} + \sqrt{\beta_t}\;\varepsilon_t ,\qquad
# q(x_t \mid x_{t-1}) = \mathcal{N}(\sqrt{1-\beta_t}\,x_{t-1},\; \beta_t I_d).$$
#
# Normal variables add up to a normal variable. So all the steps from $0$ to $t$ are one, with
# $\bar\alpha_t = \prod_{i \leq t} (1-\beta_i)$, a number between 0 and 1 that only falls:
#
# $$q(x_t \mid x_0) = \mathcal{N}(\sqrt{\bar\alpha_t}\,x_0,\; (1-\bar\alpha_t) I_d),\qquad
# x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon .$$
#
# (Why: a step multiplies the variance so far by $1-\beta_t$ and adds $\beta_t$, and
# $(1-\beta_t)(1-\bar\alpha_{t-1}) + \beta_t = 1-\bar\alpha_t$.) Papers count $t$ from 1, diffusers from 0: its
# `alphas_cumprod[0]` is $\bar\alpha$ after the *first* step. The object that keeps these numbers is a
# [scheduler](GLOSSARY.md#scheduler).
#
# **Predict:** 20,000 copies of the point (2, −1) take all 1,000 steps. Which mean and which variance do they end with?

# %% [markdown] lang="zh"
# ## 1 · 去路：一点一点加噪声
#
# [扩散模型](../GLOSSARY.md#diffusion-model)要学的，是把一个不用学的过程倒过来。这个过程从数据点 $x_0 \in \mathbb{R}^d$
# （一张图，或两个坐标）出发，重复 $T$ 次：缩小一点，加一点噪声。设 $\beta_t \in (0, 1)$，$\varepsilon_t \sim \mathcal{N}(0, I_d)$，则
#
# $$x_t = \sqrt{1-\beta_t}\;x_{t-1} + \sqrt{\beta_t}\;\varepsilon_t ,\qquad
# q(x_t \mid x_{t-1}) = \mathcal{N}(\sqrt{1-\beta_t}\,x_{t-1},\; \beta_t I_d).$$
#
# 正态变量相加还是正态变量，所以从 $0$ 到 $t$ 的所有步可以并成一步。记 $\bar\alpha_t = \prod_{i \leq t} (1-\beta_i)$，
# 它在 0 和 1 之间，只降不升：
#
# $$q(x_t \mid x_0) = \mathcal{N}(\sqrt{\bar\alpha_t}\,x_0,\; (1-\bar\alpha_t) I_d),\qquad
# x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon .$$
#
# （理由：每一步把已有的方差乘以 $1-\beta_t$，再加上 $\beta_t$，而 $(1-\beta_t)(1-\bar\alpha_{t-1}) + \beta_t = 1-\bar\alpha_t$。）
# 论文从 1 开始数 $t$，diffusers 从 0 开始：它的 `alphas_cumprod[0]` 是走完*第一步*之后的 $\bar\alpha$。保管这些数的对象叫[采样器](../GLOSSARY.md#scheduler)（scheduler）。
#
# **先猜一猜：** 点 (2, −1) 复制 20,000 份，走完 1,000 步，最后的均值和方差是多少？

# %%
import torch
from diffusers import DDPMScheduler
from aigc_helpers.notebook import expect, expect_close, expect_equal

linear = DDPMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
alphas_bar = (1 - linear.betas.double()).cumprod(0)  # ᾱ, shape (1000,)
torch.manual_seed(0)
start = torch.tensor([2.0, -1.0])
copies, means, variances = start.repeat(20_000, 1), [], []
for beta in linear.betas:
    copies = (1 - beta).sqrt() * copies + beta.sqrt() * torch.randn_like(copies)
    means.append(copies.mean(dim=0))
    variances.append(copies.var(dim=0))
means, variances = torch.stack(means), torch.stack(variances)  # each (1000, 2)
print("final mean, variance:", means[-1].numpy().round(2), variances[-1].numpy().round(2))

# %% tags=["nbval-check-output"]
expected_variance = (1 - alphas_bar)[:, None].expand(1000, 2)
expect_close(linear.alphas_cumprod, alphas_bar, 1e-6, "ᾱ by hand and in diffusers")
expect_close(means, alphas_bar[:, None].sqrt() * start, 0.035, "1000 means, closed form")
expect_close(variances, expected_variance, 0.05, "1000 variances, closed form")
expect(alphas_bar[-1].sqrt(), 0.006, 0.007, "share of the start that is left at the end")

# %%
from aigc_helpers.figures import COLOURS, new_figure, show

figure, (axes,) = new_figure(width=8)
spread = (1 - alphas_bar).sqrt().numpy()
for i, name in enumerate(("first", "second")):
    middle, colour = (alphas_bar.sqrt() * start[i]).numpy(), COLOURS[i]
    low, high = middle - spread, middle + spread
    axes.fill_between(range(1000), low, high, color=colour, alpha=0.2)
    axes.plot(middle, marker="", color=colour, label=f"{name}: formula, ± 1 deviation")
    axes.plot(range(0, 1000, 50), means[::50, i], color="0.2", linestyle="", label="chain")
axes.set(xlabel="time step t", ylabel="coordinate", ylim=(-1.6, 3.3))
axes.legend(frameon=False, ncols=2, loc="upper right")
alt_en = "Both coordinates drift to 0, spread to 1; the chain's means lie on the curves."
alt_zh = "两个坐标都趋向 0，离散程度升到 1；模拟的均值都落在曲线上。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# Mean 0 and variance 1, whatever the start: nothing to learn, nothing to store. The tolerances are five standard
# errors of 20,000 draws. Leave out the factor $\sqrt{1-\beta_t}$, as some articles do, and the variance does not stay
# at 1 but climbs to $\sum_t \beta_t \approx 10$.
#
# ## 2 · Schedules and the signal-to-noise ratio
#
# The $\beta_t$, the [noise schedule](GLOSSARY.md#noise-schedule), are chosen by hand. Three choices are in use:
# `linear` (DDPM), `scaled_linear` (Stable Diffusion: linear in $\sqrt{\beta}$) and `squaredcos_cap_v2`
# ([cosine](REFERENCES.md#improved-ddpm): $\bar\alpha$ is given, $\beta$ follows). What counts is only the
# [signal-to-noise ratio](GLOSSARY.md#signal-to-noise-ratio)
#
# $$\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t} \in (0, \infty),$$
#
# in decibels $10 \log_{10} \mathrm{SNR}(t)$.
#
# **Predict:** drawing starts from pure noise. Does the last step of each schedule really leave nothing of the picture?

# %% [markdown] lang="zh"
# 不管从哪里出发，均值都到 0，方差都到 1：没有要学的，也没有要存的。上面的容差取 20,000 次抽样的五个标准误。
# 如果像有些文章那样漏掉因子 $\sqrt{1-\beta_t}$，方差就不会停在 1，而会涨到 $\sum_t \beta_t \approx 10$。
#
# ## 2 · 噪声表与信噪比
#
# $\beta_t$ 就是[噪声表](../GLOSSARY.md#noise-schedule)，是人定的。常用的有三种：`linear`（DDPM）、`scaled_linear`（Stable Diffusion，$\sqrt{\beta}$ 取等差）和
# `squaredcos_cap_v2`（[余弦](../REFERENCES.md#improved-ddpm)，先定 $\bar\alpha$，再反推 $\beta$）。真正起作用的只有[信噪比](../GLOSSARY.md#signal-to-noise-ratio)
#
# $$\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t} \in (0, \infty),$$
#
# 换成分贝就是 $10 \log_{10} \mathrm{SNR}(t)$。
#
# **先猜一猜：** 作画从纯噪声开始。那么每种噪声表的最后一步，真的一点原图都不剩吗？

# %% tags=["nbval-check-output"]
from math import pi

scaled = {"beta_start": 0.00085, "beta_end": 0.012}  # Stable Diffusion's
schedulers = {
    "linear": linear,
    "scaled_linear": DDPMScheduler(beta_schedule="scaled_linear", **scaled),
    "cosine": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
}
times = torch.arange(1001, dtype=torch.float64) / 1000
cosine = ((times + 0.008) / 1.008 * pi / 2).cos() ** 2  # up to a factor, ᾱ
roots = torch.linspace(scaled["beta_start"] ** 0.5, scaled["beta_end"] ** 0.5, 1000)
expect_close(schedulers["scaled_linear"].betas, roots**2, 1e-6, "β, scaled_linear")
by_hand = (1 - cosine[1:] / cosine[:-1]).clamp(max=0.999)
expect_close(schedulers["cosine"].betas, by_hand, 1e-6, "β, cosine")

# %% tags=["nbval-check-output"]
figure, (left, right) = new_figure(width=9.5, columns=2)
for name, one in schedulers.items():
    kept = one.alphas_cumprod.double()
    left.plot(kept, markevery=200, label=name)
    right.plot(10 * (kept / (1 - kept)).log10(), markevery=200, label=name)
    print(f"{name:14} √ᾱ at the last step: {kept[-1].sqrt():.4f}")
left.set(xlabel="time step t", ylabel="ᾱ")
right.set(xlabel="time step t", ylabel="signal-to-noise ratio in dB", ylim=(-50, 45))
left.legend(frameon=False)
alt_en = "Left: ᾱ falls from 1 to 0, cosine latest. Right: SNR falls from 40 dB downwards."
alt_zh = "左：ᾱ 从 1 降到 0，余弦降得最晚。右：信噪比从 40 dB 一路下降。"
show(figure, alt_en, alt_zh)
last = schedulers["scaled_linear"].alphas_cumprod[-1].sqrt()
expect(last, 0.06, 0.07, "Stable Diffusion's last step, share of the picture left")

# %% [markdown] lang="en"
# Not quite. Stable Diffusion never saw pure noise in training, yet starts from it: one reason why it finds it hard to
# draw a very dark or very bright picture ([Lin et al. 2023](REFERENCES.md#zero-terminal-snr)). Here is what the
# numbers look like on a face of 16 × 16 pixels, the data of section 11.

# %% [markdown] lang="zh"
# 并不是。Stable Diffusion 训练时从没见过纯噪声，作画却从纯噪声开始：它很难画出极暗或极亮的图，这是原因之一
# （[Lin 等，2023](../REFERENCES.md#zero-terminal-snr)）。把这些数字放到一张 16 × 16 像素的脸上看看，
# 第 11 节用的就是这样的数据。

# %%
import numpy
from PIL import Image

from aigc_helpers.figures import show_pictures
from aigc_helpers.images import load_emoji, to_pictures, to_pixels

emoji = load_emoji()
grouped = zip(emoji.names, emoji.groups, strict=True)
faces = [name for name, group in grouped if group == "Smileys & Emotion" and "face" in name]
drawings = [emoji.picture(emoji.number_of[name], "noto", "white") for name in faces]
small = [Image.fromarray(one).resize((16, 16), Image.Resampling.BOX) for one in drawings]
pixels = to_pixels(numpy.stack([numpy.asarray(one) for one in small]))  # (faces, 3, 16, 16)

# %%
steps = torch.tensor([0, 100, 300, 600, 999])
example = pixels[faces.index("grinning-face")].repeat(len(steps), 1, 1, 1)
noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
rows = {}
for name, one in schedulers.items():
    noised = to_pictures(one.add_noise(example, noise, steps))
    rows |= {f"{name}, t = {t}": noised[i] for i, t in enumerate(steps.tolist())}
alt_en = "A face under more and more noise; under cosine it lasts longest."
show_pictures(rows, alt_en, "一张脸上的噪声越来越多；余弦噪声表下保留得最久。", columns=5)

# %% [markdown] lang="en"
# ## 3 · Noise, picture, velocity: three names for one thing
#
# Write $a = \sqrt{\bar\alpha_t}$ and $s = \sqrt{1-\bar\alpha_t}$, so $a^2 + s^2 = 1$ and $x_t = a\,x_0 + s\,\varepsilon$.
# Who knows $x_t$ and one of $x_0$, $\varepsilon$ knows the other. A third choice turns the pair by an angle (the
# *velocity* of [Salimans & Ho 2022](REFERENCES.md#v-prediction); all vectors have the shape of $x_t$):
#
# $$v = a\,\varepsilon - s\,x_0,\qquad x_0 = a\,x_t - s\,v,\qquad \varepsilon = s\,x_t + a\,v,\qquad
# x_0 = \frac{x_t - s\,\varepsilon}{a}.$$
#
# A network may predict any of the three; `prediction_type` in a scheduler's config says which. A model read with the
# wrong one draws mud.
#
# **Predict:** at the last step a network guesses the noise wrongly by 0.01. How wrong is the $x_0$ that follows from it?

# %% [markdown] lang="zh"
# ## 3 · 噪声、原图、速度：一件事的三种说法
#
# 记 $a = \sqrt{\bar\alpha_t}$，$s = \sqrt{1-\bar\alpha_t}$，于是 $a^2 + s^2 = 1$，$x_t = a\,x_0 + s\,\varepsilon$。
# 知道了 $x_t$，$x_0$ 和 $\varepsilon$ 就知其一得其二。第三种说法是把这一对转过一个角度
# （[Salimans 与 Ho，2022](../REFERENCES.md#v-prediction)，称为*速度*；各向量的形状都与 $x_t$ 相同）：
#
# $$v = a\,\varepsilon - s\,x_0,\qquad x_0 = a\,x_t - s\,v,\qquad \varepsilon = s\,x_t + a\,v,\qquad
# x_0 = \frac{x_t - s\,\varepsilon}{a}.$$
#
# 网络预测哪一个都行，采样器配置里的 `prediction_type` 会说明是哪一个。读错了，画出来就是一团糊。
#
# **先猜一猜：** 在最后一个时间步，网络把噪声猜偏了 0.01。由它推出的 $x_0$ 偏了多少？


# %%
def clean_from_noise(x_t, noise, alpha_bar):
    return (x_t - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5


def velocity_from(clean, noise, alpha_bar):
    return alpha_bar**0.5 * noise - (1 - alpha_bar) ** 0.5 * clean


def both_from_velocity(x_t, velocity, alpha_bar):
    a, s = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    return a * x_t - s * velocity, s * x_t + a * velocity  # picture, noise


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
clean, noise = torch.randn(2, 1000, 2, dtype=torch.float64)  # one point for each time step
alpha_bar = alphas_bar[:, None]
x_t = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise
velocity = velocity_from(clean, noise, alpha_bar)
linear.alphas_cumprod = alphas_bar  # the scheduler, too, computes in double precision
theirs = linear.get_velocity(clean, noise, torch.arange(1000))
expect_close(velocity, theirs, 1e-6, "v by hand and in diffusers")
expect_close(clean_from_noise(x_t, noise, alpha_bar), clean, 1e-6, "ε → x₀")
back = both_from_velocity(x_t, velocity, alpha_bar)
expect_close(torch.stack(back), torch.stack([clean, noise]), 1e-6, "v → x₀, v → ε")
wrong = (clean_from_noise(x_t, noise + 0.01, alpha_bar) - clean).abs()[:, 0]
expect(wrong[0], 0.0, 0.001, "x₀ is wrong by, at the first step")
expect(wrong[-1], 1.5, 1.7, "x₀ is wrong by, at the last step")

# %% [markdown] lang="en"
# By 1.6, as far as the data reach. Under much noise a good $\varepsilon$ says little about $x_0$, and under little
# noise a good $x_0$ says little about $\varepsilon$. $v$ suffers from neither.
#
# ## 4 · The way back: what is known and what is learnt
#
# Here articles go wrong: they call the model $q$, and write its variance but no mean. Three distributions have to be
# kept apart. Let $u < t$ be the step before (with all steps taken, $u = t-1$), and $\alpha = \bar\alpha_t /
# \bar\alpha_u$, $\beta = 1-\alpha$: for neighbours, these are $\alpha_t$ and $\beta_t$.
#
# 1. $q(x_u \mid x_t)$, the true way back. It depends on *all* the data, and nobody can write it down.
# 2. $q(x_u \mid x_t, x_0) = \mathcal{N}(\tilde\mu,\, \tilde\beta I_d)$, the way back *if the picture is known*. Bayes'
#    rule for three normal densities gives it, exactly:
#
# $$\tilde\mu = \frac{\sqrt{\bar\alpha_u}\,\beta}{1-\bar\alpha_t}\,x_0 + \frac{\sqrt{\alpha}\,(1-\bar\alpha_u)}{1-\bar\alpha_t}\,x_t
# \in \mathbb{R}^d,\qquad \tilde\beta = \frac{1-\bar\alpha_u}{1-\bar\alpha_t}\,\beta \in \mathbb{R}.$$
#
# 3. $p_\theta(x_u \mid x_t) = \mathcal{N}(\mu_\theta(x_t, t),\, \sigma_t^2 I_d)$, the **model**. Its **mean is what is
#    learnt**; $\sigma_t^2$ is fixed, to $\tilde\beta$ or to $\beta$.
#
# **Predict:** the data are two numbers, −1 and +1. A chain stands at $x_t = 0.2$. Where did it come from: is the answer
# 1 the same as 2?

# %% [markdown] lang="zh"
# 偏了 1.6，和数据本身的范围差不多。噪声很大时，$\varepsilon$ 猜得好，也说明不了 $x_0$；噪声很小时，$x_0$ 猜得好，也说明不了 $\varepsilon$。
# $v$ 两头都不吃亏。
#
# ## 4 · 回路：什么是已知的，什么是学来的
#
# 许多文章在这里出错：把模型也写成 $q$，而且只写方差，不写均值。有三个分布必须分清。设 $u < t$ 是前一个时间步（逐步走时 $u = t-1$），
# 记 $\alpha = \bar\alpha_t / \bar\alpha_u$，$\beta = 1-\alpha$；对相邻两步，它们就是 $\alpha_t$ 和 $\beta_t$。
#
# 1. $q(x_u \mid x_t)$：真正的回路。它取决于*全部*数据，没有人写得出来。
# 2. $q(x_u \mid x_t, x_0) = \mathcal{N}(\tilde\mu,\, \tilde\beta I_d)$：*已知原图时*的回路。对三个正态密度用贝叶斯公式，就能精确得到：
#
# $$\tilde\mu = \frac{\sqrt{\bar\alpha_u}\,\beta}{1-\bar\alpha_t}\,x_0 + \frac{\sqrt{\alpha}\,(1-\bar\alpha_u)}{1-\bar\alpha_t}\,x_t
# \in \mathbb{R}^d,\qquad \tilde\beta = \frac{1-\bar\alpha_u}{1-\bar\alpha_t}\,\beta \in \mathbb{R}.$$
#
# 3. $p_\theta(x_u \mid x_t) = \mathcal{N}(\mu_\theta(x_t, t),\, \sigma_t^2 I_d)$：**模型**。**要学的是它的均值**；
#    $\sigma_t^2$ 是固定的，取 $\tilde\beta$ 或 $\beta$。
#
# **先猜一猜：** 数据只有 −1 和 +1 两个数。一条链走到了 $x_t = 0.2$，它是从哪里来的？第 1 个分布和第 2 个一样吗？


# %%
def posterior(x_t, clean, alpha_now, alpha_before):
    """Mean (shape of x_t) and variance (a number) of q(x_u | x_t, x_0); ᾱ at t and u."""
    alpha = alpha_now / alpha_before
    beta = 1 - alpha
    mean = alpha_before**0.5 * beta * clean + alpha**0.5 * (1 - alpha_before) * x_t
    variance = beta * (1 - alpha_before) / (1 - alpha_now)
    return mean / (1 - alpha_now), variance


def mean_from_noise(x_t, noise, alpha_now, alpha_before):
    alpha = alpha_now / alpha_before
    return (x_t - (1 - alpha) / (1 - alpha_now) ** 0.5 * noise) / alpha**0.5


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
now, before = alphas_bar[300].item(), alphas_bar[150].item()
origin = torch.randint(0, 2, (2_000_000,)) * 2.0 - 1
x_u = before**0.5 * origin + (1 - before) ** 0.5 * torch.randn_like(origin)
alpha = now / before
x_t = alpha**0.5 * x_u + (1 - alpha) ** 0.5 * torch.randn_like(origin)
there = (x_t - 0.2).abs() < 0.02
from_plus, from_anywhere = x_u[there & (origin == 1)], x_u[there]
mean, variance = posterior(0.2, 1.0, now, before)
expect_close(from_plus.mean(), mean, 0.03, "2: mean of those from +1, and the formula's")
expect_close(from_plus.var(), variance, 0.03, "2: their variance, and the formula's")
expect(from_anywhere.mean() / mean, 0.1, 0.9, "1: mean of all, over that")
expect(from_anywhere.var() / variance, 1.2, 5, "1: variance of all, over that")

# %%
figure, (axes,) = new_figure(width=8)
bins = numpy.linspace(-2, 2.2, 80)
axes.hist(from_anywhere, bins, density=True, alpha=0.35, label="1: all that came to 0.2")
axes.hist(from_plus, bins, density=True, histtype="step", label="2: only those from +1")
curve = torch.distributions.Normal(mean, variance**0.5)
axes.plot(bins, curve.log_prob(torch.tensor(bins)).exp(), marker="", label="2: the formula")
axes.set(xlabel="value one step before", ylabel="density")
axes.legend(frameon=False)
alt_en = "All: broad, with two humps. From +1 alone: one hump, exactly under the formula's curve."
alt_zh = "全部：很宽，有两个峰。只看从 +1 来的：一个峰，与公式的曲线重合。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# It is not: the true way back has two humps here, for a step this large. For small steps it is nearly normal, which
# is why a thousand of them are taken, and why a normal $p_\theta$ will do. (This jump spans 150 of them.)
#
# ## 5 · The objective: why guessing noise is enough
#
# The model does not know $x_0$; it guesses. Put $x_0 = (x_t - s\,\varepsilon)/a$ into $\tilde\mu$, and it becomes a
# mean in terms of the noise. A model that predicts $\varepsilon_\theta(x_t, t)$ has the mean
#
# $$\mu_\theta(x_t, t) = \frac{1}{\sqrt{\alpha}} \left( x_t - \frac{\beta}{\sqrt{1-\bar\alpha_t}}\; \varepsilon_\theta(x_t, t) \right).$$
#
# The bound on the likelihood is a sum of divergences between 2 and 3. Between normal densities of one variance that is a
# squared distance of means, and so a *weighted squared error of the noise* ($\|\cdot\|^2$ sums over $d$ numbers):
#
# $$\mathrm{KL}(q(x_u \mid x_t, x_0)\,\,\|\,\,p_\theta(x_u \mid x_t)) = \frac{\| \tilde\mu - \mu_\theta \|^2}{2\sigma_t^2}
# = w_t\,\| \varepsilon - \varepsilon_\theta \|^2,\qquad w_t = \frac{\beta^2}{2\,\sigma_t^2\,\alpha\,(1-\bar\alpha_t)}.$$
#
# DDPM drops $w_t$ and minimises $\mathbb{E}_{x_0, \varepsilon, t} \| \varepsilon - \varepsilon_\theta(a\,x_0 +
# s\,\varepsilon,\, t) \|^2$.
#
# **Predict:** for which $t$ was $w_t$ large: little noise, or much?

# %% [markdown] lang="zh"
# 不一样：步子跨得这么大，真正的回路有两个峰。步子小的时候它近似正态，所以才要走一千步，也所以正态的 $p_\theta$ 才够用。
# （这里一步跨了 150 步。）
#
# ## 5 · 训练目标：为什么猜噪声就够了
#
# 模型不知道 $x_0$，只能猜。把 $x_0 = (x_t - s\,\varepsilon)/a$ 代入 $\tilde\mu$，均值就改用噪声来写。预测 $\varepsilon_\theta(x_t, t)$ 的模型，均值为
#
# $$\mu_\theta(x_t, t) = \frac{1}{\sqrt{\alpha}} \left( x_t - \frac{\beta}{\sqrt{1-\bar\alpha_t}}\; \varepsilon_\theta(x_t, t) \right).$$
#
# 似然的变分界是一串散度之和，每一项比较上面的第 2 个和第 3 个分布。方差相同的两个正态分布，散度就是均值之差的平方，
# 也就是*噪声的加权平方误差*（$\|\cdot\|^2$ 对 $d$ 个数求和）：
#
# $$\mathrm{KL}(q(x_u \mid x_t, x_0)\,\,\|\,\,p_\theta(x_u \mid x_t)) = \frac{\| \tilde\mu - \mu_\theta \|^2}{2\sigma_t^2}
# = w_t\,\| \varepsilon - \varepsilon_\theta \|^2,\qquad w_t = \frac{\beta^2}{2\,\sigma_t^2\,\alpha\,(1-\bar\alpha_t)}.$$
#
# DDPM 去掉 $w_t$，最小化 $\mathbb{E}_{x_0, \varepsilon, t} \| \varepsilon - \varepsilon_\theta(a\,x_0 + s\,\varepsilon,\, t) \|^2$。
#
# **先猜一猜：** $w_t$ 在哪些 $t$ 上大：噪声小的时候，还是噪声大的时候？

# %% tags=["nbval-check-output"]
from torch.distributions import Normal, kl_divergence

torch.manual_seed(0)
clean, noise, guess = torch.randn(3, 999, 2, dtype=torch.float64)  # steps 1 to 999
now, before = alphas_bar[1:, None], alphas_bar[:-1, None]
x_t = now.sqrt() * clean + (1 - now).sqrt() * noise
known, variance = posterior(x_t, clean, now, before)
expect_close(mean_from_noise(x_t, noise, now, before), known, 1e-6, "μ̃ from x₀ and from ε")
learnt = mean_from_noise(x_t, guess, now, before)
spread = variance.sqrt()
divergence = kl_divergence(Normal(known, spread), Normal(learnt, spread)).sum(dim=1)
weight = ((1 - now / before) ** 2 / (2 * variance * now / before * (1 - now)))[:, 0]
error = (noise - guess).square().sum(dim=1)
expect_close(weight * error / divergence, torch.ones(999), 1e-6, "w · error over KL")
expect(weight[0] / weight[499], 40, 200, "w at step 1 over w at step 500")

# %% [markdown] lang="en"
# Where there is little noise. Dropping $w_t$ turns attention from the last invisible speckle to the steps where the
# form is decided, and pictures get better. One line of arithmetic is all there is to the training loss.
#
# ## 6 · Training on points
#
# Two dimensions can be looked at. The data are two moons, with a label each. The network gets $x_t$ (shape
# $n \times 2$), the same coordinates and the time step as sines and cosines, and a label: 0, 1, or 2 for "not told". One
# time in five the label is withheld, so that one network learns both answers; section 10 needs them.

# %% [markdown] lang="zh"
# 在噪声小的时候大。去掉 $w_t$，注意力就从最后那点看不见的细碎噪声，转到决定形状的那些步上，画也就更好。训练的损失，说到底只是一行算术。
#
# ## 6 · 在点集上训练
#
# 二维的东西看得见。数据是两弯月牙，各有一个标签。网络的输入是 $x_t$（形状 $n \times 2$）、用正弦和余弦表示的坐标与时间步，以及标签：
# 0、1，或者 2，表示“没说”。每五次有一次不给标签，这样一个网络就学会了两种回答，第 10 节要用。

# %%
from diffusers.models.embeddings import get_timestep_embedding
from sklearn.datasets import make_moons
from torch import nn

torch.set_grad_enabled(False)  # only train(), below, needs gradients
NOT_TOLD = 2
points, labels = make_moons(2000, noise=0.06, random_state=0)
points = torch.tensor((points - points.mean(0)) / points.std(0), dtype=torch.float32)
labels = torch.tensor(labels)


# %%
class PointModel(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.label = nn.Embedding(3, 16)
        sizes = [2 + 12 + 32 + 16, width, width, width]
        pairs = zip(sizes, sizes[1:], strict=False)
        hidden = [layer for i, o in pairs for layer in (nn.Linear(i, o), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(self, x_t, t, label):
        waves = [f(k * x_t) for k in (1, 2, 4) for f in (torch.sin, torch.cos)]
        time = get_timestep_embedding(t, 32).to(x_t.dtype)
        return self.layers(torch.cat([x_t, *waves, time, self.label(label)], dim=1))


# %% [markdown] lang="en"
# The loss is DDPM's algorithm 1: draw data, time steps and noise, mix, and ask for the noise back. The loop below it
# knows nothing of diffusion; it serves for pictures, too.
#
# **Predict:** a network that always answers 0 has a loss of 1, the variance of the noise. Can training bring it to 0?

# %% [markdown] lang="zh"
# 损失就是 DDPM 的算法 1：抽数据、抽时间步、抽噪声，混在一起，再让网络把噪声说出来。它下面的训练循环与扩散无关，后面训练图片也用它。
#
# **先猜一猜：** 总是回答 0 的网络，损失是 1，即噪声的方差。训练能把损失降到 0 吗？


# %%
def point_loss(count=256):
    chosen, t = torch.randint(len(points), (count,)), torch.randint(1000, (count,))
    noise = torch.randn(count, 2)
    x_t = linear.add_noise(points[chosen], noise, t)
    told = torch.where(torch.rand(count) < 0.2, NOT_TOLD, labels[chosen])
    return (point_model(x_t, t, told) - noise).square().mean()


# %%
@torch.enable_grad()
def train(model, loss, steps, rate=2e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), decay.step(), optimizer.zero_grad()


torch.manual_seed(0)
point_model = PointModel()
train(point_model, point_loss, steps=3000)

# %% [markdown] lang="en"
# It cannot: one $x_t$ may stem from many data points, each with another noise. The squared error is least at the
# *mean* of those noises. For a finite data set, that best answer can be computed without any network: each data point
# $x_0^{(i)}$ counts with the probability that $x_t$ came from it,
#
# $$\varepsilon^\ast(x_t) = \frac{x_t - a \sum_i p_i\,x_0^{(i)}}{s},\qquad
# p_i = \mathrm{softmax}_i\left(-\frac{\| x_t - a\,x_0^{(i)} \|^2}{2 s^2}\right),\quad p \in \mathbb{R}^{N}.$$

# %% [markdown] lang="zh"
# 不能：同一个 $x_t$ 可能来自许多数据点，各自对应不同的噪声。平方误差在这些噪声的*均值*处最小。数据有限时，这个最好的答案不用网络也能算：
# 每个数据点 $x_0^{(i)}$ 按“$x_t$ 来自它”的概率计入，
#
# $$\varepsilon^\ast(x_t) = \frac{x_t - a \sum_i p_i\,x_0^{(i)}}{s},\qquad
# p_i = \mathrm{softmax}_i\left(-\frac{\| x_t - a\,x_0^{(i)} \|^2}{2 s^2}\right),\quad p \in \mathbb{R}^{N}.$$


# %% tags=["nbval-check-output"]
def best_noise(x_t, a, s):
    squares = (a * torch.cdist(x_t / a, points)) ** 2  # (n, N): each row has its own a
    shares = (-squares / (2 * s**2)).softmax(dim=1)
    return (x_t - a * shares @ points) / s


torch.manual_seed(1)
t, noise = torch.arange(1000).repeat(2), torch.randn(2000, 2)
x_t = linear.add_noise(points, noise, t)
a, s = alphas_bar[t, None].sqrt().float(), (1 - alphas_bar[t, None]).sqrt().float()
unguided = point_model(x_t, t, torch.full_like(t, NOT_TOLD))
answers = (unguided, best_noise(x_t, a, s))
loss, least = [(answer - noise).square().mean() for answer in answers]
expect(least, 0.15, 0.35, "the least loss there can be")
expect(loss / least, 1.0, 1.25, "the network's loss over the least")

# %% [markdown] lang="en"
# The network comes within 25 % of the best answer there is, one that knows all 2,000 points by heart. Its loss is far
# from 0, and must be: **the loss of a diffusion model does not tell you how well it draws.**
#
# ## 7 · One step, number by number
#
# Two steps are in use. **DDPM** draws from $p_\theta$ of section 4, with fresh noise $z \sim \mathcal{N}(0, I_d)$:
#
# $$x_u = \mu_\theta(x_t, t) + \sigma_t z .$$
#
# $\sigma_t^2$ is $\tilde\beta$ (`fixed_small`) or $\beta$ (`fixed_large`); in the last step there is no $z$.
#
# **[DDIM](REFERENCES.md#ddim)** guesses the picture, $\hat x_0 = (x_t - s\,\varepsilon_\theta)/a$, and mixes it for
# step $u$ with the *same* noise. A number $\eta \in [0, 1]$ replaces part of it with fresh noise:
#
# $$x_u = \sqrt{\bar\alpha_u}\,\hat x_0 + \sqrt{1-\bar\alpha_u-\sigma^2}\;\varepsilon_\theta + \sigma z,\qquad
# \sigma = \eta \sqrt{\tilde\beta} .$$
#
# After the last step there is no noise: $\bar\alpha_u = 1$. **Predict:** what is DDIM with $\eta = 1$?

# %% [markdown] lang="zh"
# 最好的答案把 2,000 个点全背了下来，网络与它相差不到 25 %。网络的损失离 0 很远，而且只能这样：**扩散模型的损失说明不了它画得好不好。**
#
# ## 7 · 一步一步，逐个数字地对
#
# 常用的一步有两种。**DDPM** 从第 4 节的 $p_\theta$ 中抽样，用新的噪声 $z \sim \mathcal{N}(0, I_d)$：
#
# $$x_u = \mu_\theta(x_t, t) + \sigma_t z .$$
#
# $\sigma_t^2$ 取 $\tilde\beta$（`fixed_small`）或 $\beta$（`fixed_large`）；最后一步不加 $z$。
#
# **[DDIM](../REFERENCES.md#ddim)** 先猜出原图 $\hat x_0 = (x_t - s\,\varepsilon_\theta)/a$，再与*同一份*噪声按第 $u$ 步的比例重新混合。
# 数 $\eta \in [0, 1]$ 决定把其中多少换成新噪声：
#
# $$x_u = \sqrt{\bar\alpha_u}\,\hat x_0 + \sqrt{1-\bar\alpha_u-\sigma^2}\;\varepsilon_\theta + \sigma z,\qquad
# \sigma = \eta \sqrt{\tilde\beta} .$$
#
# 最后一步之后不再有噪声：$\bar\alpha_u = 1$。**先猜一猜：** $\eta = 1$ 的 DDIM 是什么？


# %%
def ddpm_step(x_t, noise, fresh, now, before, large=False):
    mean, variance = posterior(x_t, clean_from_noise(x_t, noise, now), now, before)
    if large:
        variance = 1 - now / before
    return mean if before == 1 else mean + variance**0.5 * fresh


def ddim_step(x_t, noise, fresh, now, before, eta=0.0):
    clean = clean_from_noise(x_t, noise, now)
    spread = eta * posterior(x_t, clean, now, before)[1] ** 0.5
    kept_noise = (1 - before - spread**2) ** 0.5
    return before**0.5 * clean + kept_noise * noise + spread * fresh


# %% [markdown] lang="en"
# Now diffusers' own. Every time step of 1,000, of 50 and of 7 is taken with random numbers for $x_t$ and
# $\varepsilon_\theta$; scheduler and formula get the same $z$. Two traps stand in the first lines: by default DDPM
# and DDIM **clip** $\hat x_0$ to ±1 (right for pictures, wrong for points), and $\bar\alpha$ is kept in single
# precision, where $1-\bar\alpha_0$ has three digits left.

# %% [markdown] lang="zh"
# 轮到 diffusers 自己的了。1,000 步、50 步、7 步，每个时间步都走一遍，$x_t$ 和 $\varepsilon_\theta$ 用随机数，采样器和公式拿到同一个 $z$。
# 有两处陷阱：DDPM 和 DDIM 默认把 $\hat x_0$ **截断**到 ±1（对图片合适，对点集就错了）；$\bar\alpha$ 以单精度存放，
# $1-\bar\alpha_0$ 只剩三位有效数字。


# %%
from diffusers import DDIMScheduler

known = linear.config
ddpm = DDPMScheduler.from_config(known, clip_sample=False)
large = DDPMScheduler.from_config(known, clip_sample=False, variance_type="fixed_large")
ddim = DDIMScheduler.from_config(known, clip_sample=False)
for one in (ddpm, large, ddim):
    one.alphas_cumprod = alphas_bar


def neighbours(timesteps, alphas_bar):  # (t, ᾱ at t, ᾱ at the next one; at the end, 1)
    kept = [alphas_bar[t].item() for t in timesteps] + [1.0]
    return zip(timesteps.tolist(), kept, kept[1:], strict=False)


# %% tags=["nbval-check-output"]
def largest_gap(scheduler, count, by_hand, **settings):
    scheduler.set_timesteps(count)
    gaps = []
    for t, now, before in neighbours(scheduler.timesteps, scheduler.alphas_cumprod):
        x_t, noise = torch.randn(2, 100, 2, dtype=torch.float64)
        seeded = torch.Generator().manual_seed(t)
        theirs = scheduler.step(noise, t, x_t, generator=seeded, **settings).prev_sample
        fresh = torch.randn(x_t.shape, generator=seeded.manual_seed(t), dtype=x_t.dtype)
        gaps.append((by_hand(x_t, noise, fresh, now, before) - theirs).abs().max().item())
    return max(gaps)


for steps in (1000, 50, 7):
    gap = largest_gap(ddpm, steps, ddpm_step)
    expect(gap, 0, 1e-6, f"DDPM, fixed_small, {steps} steps: largest difference")

# %% tags=["nbval-check-output"]
from functools import partial

for steps in (1000, 50, 7):
    gap = largest_gap(large, steps, partial(ddpm_step, large=True))
    expect(gap, 0, 1e-6, f"DDPM, fixed_large, {steps} steps: largest difference")
    for eta in (0.0, 0.5, 1.0):
        gap = largest_gap(ddim, steps, partial(ddim_step, eta=eta), eta=eta)
        expect(gap, 0, 1e-6, f"DDIM, η = {eta}, {steps} steps: largest difference")

# %% [markdown] lang="en"
# All of them to 1e-6, the last step included. And $\eta = 1$? In the formulas, the step of DDPM with
# `fixed_small`; section 8 proves it.
#
# ## 8 · The whole way
#
# Now the network answers instead of random numbers. The loop is the whole of the drawing: start from noise, and for
# each time step ask and step.
#
# **Predict:** 1,000 steps by hand, 1,000 with the scheduler, the same random numbers. Do small differences grow?

# %% [markdown] lang="zh"
# 全部吻合到 1e-6，最后一步也不例外。那么 $\eta = 1$ 呢？从公式看，就是 `fixed_small` 的 DDPM，第 8 节会证明。
#
# ## 8 · 走完全程
#
# 现在由网络来回答，不再用随机数。作画的全部就是这个循环：从噪声出发，每个时间步问一次、走一步。
#
# **先猜一猜：** 手写的循环走 1,000 步，用采样器走 1,000 步，随机数相同。微小的差别会越滚越大吗？


# %%
def predict_at(x_t, t, label=NOT_TOLD):
    count = (len(x_t),)
    return point_model(x_t, torch.full(count, t), torch.full(count, label))


point_model.double()
torch.manual_seed(0)
fresh = torch.randn(1001, 500, 2, dtype=torch.float64)  # the start, then one for each step
ddim.set_timesteps(1000)
by_hand, film = fresh[0], {}
steps = neighbours(ddim.timesteps, alphas_bar)
for (t, now, before), z in zip(steps, fresh[1:], strict=True):
    film[t] = by_hand
    by_hand = ddpm_step(by_hand, predict_at(by_hand, t), z, now, before)

# %% tags=["nbval-check-output"]
theirs = fresh[0]
for t, z in zip(ddim.timesteps.tolist(), fresh[1:], strict=True):
    answer = predict_at(theirs, t)
    theirs = ddim.step(answer, t, theirs, eta=1.0, variance_noise=z).prev_sample
expect_close(by_hand, theirs, 1e-6, "DDPM by hand, diffusers' DDIM with η = 1")

# %%
film[-1] = by_hand
figure, columns = new_figure(width=9.5, height=2.6, columns=5)
for axes, t in zip(columns, (999, 500, 250, 100, -1), strict=True):
    dots = {"linestyle": "", "marker": "."}
    axes.plot(*points[::4].T, color="0.8", markersize=3, **dots)
    axes.plot(*film[t].T, markersize=3, **dots)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    axes.set_title("finished" if t < 0 else f"t = {t}", fontsize=10)
alt_en = "A round cloud of 500 points turns step by step into the two moons."
alt_zh = "500 个点的一团圆云，一步步变成两弯月牙。"
show(figure, alt_en, alt_zh)
point_model = point_model.float()

# %% [markdown] lang="en"
# They do not grow, and two things are shown at once: the loop, and that DDIM with $\eta = 1$ is DDPM.
#
# ## 9 · Steps against quality
#
# A thousand calls are many. To judge fewer, a distance between two sets of points is needed. The [energy
# distance](GLOSSARY.md#energy-distance) of samples $X$ ($n \times d$) and $Y$ ($m \times d$) is 0 only for equal
# distributions:
#
# $$D(X, Y) = 2\,\mathbb{E}\| x - y \| - \mathbb{E}\| x - x' \| - \mathbb{E}\| y - y' \| .$$
#
# For numbers ($d = 1$) scipy has its square root. The floor is what fresh *true* points get. Each setting draws five sets
# of 400 points, each set from noise of its own; the bars are 95 % intervals of their mean.
#
# **Predict:** which needs fewer steps, DDIM or DDPM? And with plenty of steps?

# %% [markdown] lang="zh"
# 并没有变大。这里一次证明了两件事：循环是对的，而且 $\eta = 1$ 的 DDIM 就是 DDPM。
#
# ## 9 · 步数与质量
#
# 一千次调用太多了。要评价少走几步的结果，得有两组点之间的距离。样本 $X$（$n \times d$）与 $Y$（$m \times d$）的
# [能量距离](../GLOSSARY.md#energy-distance)只有在分布相同时才为 0：
#
# $$D(X, Y) = 2\,\mathbb{E}\| x - y \| - \mathbb{E}\| x - x' \| - \mathbb{E}\| y - y' \| .$$
#
# 对数（$d = 1$）来说，scipy 里有它的平方根。下限是重新抽取的真实数据所得的距离。每种设置画五组点，每组 400 个，
# 各用各的噪声；图上的竖线是均值的 95 % 区间。
#
# **先猜一猜：** DDIM 和 DDPM，哪个需要的步数少？步数充足时呢？


# %% tags=["nbval-check-output"]
import scipy.stats


def energy_distance(x, y):
    within = torch.cdist(x, x).mean() + torch.cdist(y, y).mean()
    return (2 * torch.cdist(x, y).mean() - within).item()


by_scipy = scipy.stats.energy_distance(points[:500, 0], points[500:, 1]) ** 2
ours = energy_distance(points[:500, :1], points[500:, 1:])
expect_close(ours, by_scipy, 1e-4, "energy distance of numbers, ours and scipy's")
others, other_labels = make_moons(2000, noise=0.06, random_state=1)
others = torch.tensor((others - others.mean(0)) / others.std(0), dtype=torch.float32)
true_distances = [energy_distance(each, points) for each in others.split(400)]
expect(max(true_distances), 0, 0.02, "five sets of 400 true points, at most")


# %%
from aigc_helpers.metrics import bootstrap_interval


def sample(scheduler, count, predict=predict_at, size=2000):
    scheduler.set_timesteps(count)
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn((size, 2), generator=generator)
    for t in scheduler.timesteps.tolist():
        x_t = scheduler.step(predict(x_t, t), t, x_t, generator=generator).prev_sample
    return x_t


# %%
trailing = {"clip_sample": False, "timestep_spacing": "trailing"}
kinds = {"DDIM": DDIMScheduler, "DDPM": DDPMScheduler}
curves = {name: {} for name in kinds}
for name, kind in kinds.items():
    for count in (2, 5, 10, 20, 50, 100):
        drawn = sample(kind.from_config(known, **trailing), count).split(400)
        scores = [energy_distance(each, points) for each in drawn]
        curves[name][count] = bootstrap_interval(scores)
        print(f"{name}, {count:3} steps: energy distance {curves[name][count]}")

# %% tags=["nbval-check-output"]
figure, (axes,) = new_figure(width=7)
for name, curve in curves.items():
    middle = numpy.array([each.mean for each in curve.values()])
    ends = [(each.mean - each.low, each.high - each.mean) for each in curve.values()]
    axes.errorbar(list(curve), middle, numpy.transpose(ends), capsize=4, label=name)
floor = numpy.mean(true_distances)
axes.axhline(floor, color="0.4", linestyle="--", label="true points")
axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="energy distance")
axes.legend(frameon=False)
alt_en = "Both fall with more steps, DDIM sooner, DDPM further; true points lie below both."
alt_zh = "步数越多两条曲线越低，DDIM 降得早，DDPM 降得多；真数据的线在两者之下。"
show(figure, alt_en, alt_zh)
expect(curves["DDPM"][5].mean / curves["DDIM"][5].mean, 1.1, 10, "DDPM over DDIM, 5 steps")
levels = curves["DDIM"][100].mean / curves["DDIM"][20].mean
expect(levels, 0.3, 3, "DDIM, 100 steps over 20")

# %% [markdown] lang="en"
# At 5 steps DDPM is well behind, because it adds noise in every step and needs steps to take it out again. With many steps
# it catches up and may even come out lower, since fresh noise can wash out earlier mistakes, which DDIM carries to the end.
# Where the intervals of the two overlap, five sets do not decide. Neither comes down to the floor. What is left is the
# network's error, and no number of steps takes all of it away.
#
# The cell above sets `timestep_spacing="trailing"`, and not for decoration. diffusers' default for both is
# `"leading"`: ten steps then begin at $t = 900$, two at $t = 500$, with pure noise that the network takes for a
# half-finished picture.
#
# ## 10 · Guidance is an arrow
#
# [Classifier-free guidance](GLOSSARY.md#classifier-free-guidance) asks twice, with the label $c$ and without (∅), and
# goes on along the line between the answers ([Ho & Salimans](REFERENCES.md#classifier-free-guidance); all have the
# shape of $x_t$):
#
# $$\hat\varepsilon = \varepsilon_\theta(x_t, t, \varnothing) + w\,(\varepsilon_\theta(x_t, t, c) - \varepsilon_\theta(x_t, t, \varnothing)).$$
#
# $w$ is diffusers' `guidance_scale`. The paper's $w$ is smaller by one: its 0 is diffusers' 1. In the picture, each
# arrow is $-s\,\hat\varepsilon$: it leads from $x_t$ to $a\,\hat x_0$, the picture that the answer stands for, shrunk
# like the data drawn behind.
#
# **Predict:** where do points end up if $w$ is 8?

# %% [markdown] lang="zh"
# 走 5 步时，DDPM 明显落后：它每一步都加噪声，还得再花步数把它去掉。步数多了，它就追上来，甚至可能更低：
# 新加的噪声能冲掉前面犯的错，DDIM 则把错一路带到最后。两者的区间若有重叠，五组点还分不出高下。
# 两者都到不了下限：剩下的是网络自己的误差，步数再多也去不干净。
#
# 上面的单元格设了 `timestep_spacing="trailing"`，这不是摆设。diffusers 里两者默认都是 `"leading"`：走十步就从 $t = 900$ 开始，
# 走两步就从 $t = 500$ 开始，拿到的却是纯噪声，网络会把它当成画了一半的图。
#
# ## 10 · 引导是一支箭头
#
# [无分类器引导](../GLOSSARY.md#classifier-free-guidance)问两遍，一遍带标签 $c$，一遍不带（∅），然后沿着两个回答的连线走下去
# （[Ho 与 Salimans](../REFERENCES.md#classifier-free-guidance)；各项形状都与 $x_t$ 相同）：
#
# $$\hat\varepsilon = \varepsilon_\theta(x_t, t, \varnothing) + w\,(\varepsilon_\theta(x_t, t, c) - \varepsilon_\theta(x_t, t, \varnothing)).$$
#
# $w$ 就是 diffusers 的 `guidance_scale`。论文里的 $w$ 比它小 1：论文的 0 等于 diffusers 的 1。图中每支箭头是 $-s\,\hat\varepsilon$：
# 从 $x_t$ 指向 $a\,\hat x_0$，也就是这个回答所猜的原图；背后的数据也按 $a$ 缩小了。
#
# **先猜一猜：** $w$ 取 8，点会跑到哪里去？


# %%
def guided(x_t, t, label, scale):
    without, with_label = predict_at(x_t, t), predict_at(x_t, t, label)
    return without + scale * (with_label - without)


# %% tags=["nbval-check-output"]
here = torch.tensor([[-1.6, 1.0], [-0.6, -1.4], [0.3, 1.2], [0.6, 0.0], [1.9, -0.6]])
a, s = alphas_bar[200].sqrt().float(), (1 - alphas_bar[200]).sqrt().float()
arrows = {scale: -s * guided(here, 200, 1, scale) for scale in (0, 1, 3)}
expect_close(arrows[3] - arrows[0], 3 * (arrows[1] - arrows[0]), 1e-5, "one line")
figure, (axes,) = new_figure(width=6.5, height=4.5)
axes.scatter(*(a * points[::2]).T, c=labels[::2], cmap="Greys", vmin=-1, vmax=2, s=4)
true_length = {"angles": "xy", "scale_units": "xy", "scale": 1, "zorder": 3}
for (scale, tips), colour in zip(arrows.items(), COLOURS, strict=False):
    look = {"width": 0.008 - 0.0015 * scale, "color": colour}
    axes.quiver(*here.T, *tips.T, label=f"w = {scale}", **look, **true_length)
axes.legend(frameon=False, loc="upper right")
axes.set(xlim=(-2.6, 2.6), ylim=(-2, 2), aspect="equal", title="label 1 (dark), t = 200")
alt_en = "Arrows w = 0, 1, 3 at five points: their tips lie on one line, away from label 0."
show(figure, alt_en, "五个点上 w = 0、1、3 的箭头：箭尖在同一直线上，越来越远离标签 0。")

# %%
scales = (0, 1, 3, 8)
drawn_with = {}
for scale in scales:
    ask = partial(guided, label=1, scale=scale)
    scheduler = DDIMScheduler.from_config(known, **trailing)
    drawn_with[scale] = sample(scheduler, 50, ask, size=400)
figure, columns = new_figure(width=9.5, height=2.8, columns=4)
for axes, (scale, drawn) in zip(columns, drawn_with.items(), strict=True):
    axes.plot(*points[::4].T, color="0.8", linestyle="", marker=".", markersize=3)
    axes.plot(*drawn.T, linestyle="", marker=".", markersize=3)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", title=f"w = {scale}")
alt_en = "w = 0: both moons. 1: the moon of label 1. 3 and 8: part of it only."
show(figure, alt_en, "w = 0：两弯都有；1：标签 1 的那弯；3 和 8：只剩其中一部分。")

# %% tags=["nbval-check-output"]
wanted = points[labels == 1]
distances = {scale: energy_distance(drawn_with[scale], wanted) for scale in scales}
closest = min(distances, key=distances.get)
expect_equal(closest, 1, "the scale that comes closest to the data of label 1")
expect(distances[8] / distances[1], 8, 500, "distance at w = 8 over that at w = 1")
nearest = torch.cdist(drawn_with[1], points).argmin(dim=1)
expect((labels[nearest] == 1).double().mean(), 0.95, 1, "w = 1, share on the right moon")

# %% [markdown] lang="en"
# At $w = 1$ the points are spread as the data of label 1 are. More guidance pushes them away from the *other* label,
# until only a part of the moon is left, and some points lie outside the data. Guidance buys obedience with variety. It
# pays where $w = 1$ is not obedient enough, as in Stable Diffusion; chapter 09 measures a model that does not need
# it.
#
# ## 11 · From points to pictures
#
# Nothing changes but the network: a [UNet](GLOSSARY.md#unet). Data: 100 yellow faces of 16 × 16 pixels.
# `pixel_unshuffle` turns each 2 × 2 pixels into channels, (3, 16, 16) → (12, 8, 8): the same numbers, a quarter of
# the places, and the UNet is quick enough for two CPU cores. And it
# predicts the picture $x_0$ (`prediction_type="sample"`): with so little training, guesses of $\varepsilon$ are not good
# enough for the steps with much noise, where section 3 saw every error of $x_0$ grow a hundredfold.
#
# **Predict:** 100 faces, 500 training steps. Will it draw noise, blots or faces?

# %% [markdown] lang="zh"
# $w = 1$ 时，点的分布和标签 1 的数据一样。引导再强，点就被推得远离*另一个*标签，一整弯月牙只剩下一部分，还有些点跑到了数据外面。
# 引导用多样换来听话。只有当 $w = 1$ 不够听话时才划算，Stable Diffusion 就是如此；第 09 章测量了一个用不着引导的模型。
#
# ## 11 · 从点到图
#
# 除了网络换成 [UNet](../GLOSSARY.md#unet)，什么都不用改。数据是 100 张 16 × 16 像素的小脸。`pixel_unshuffle` 把每 2 × 2 个像素变成通道，
# (3, 16, 16) → (12, 8, 8)：数还是那些数，位置只剩四分之一，两个 CPU 核心也跑得动 UNet。它直接预测原图 $x_0$（`prediction_type="sample"`）：
# 训练这么短，在噪声很大的那些步上，$\varepsilon$ 猜得还不够准，而第 3 节已经看到，那里 $x_0$ 的误差会放大上百倍。
#
# **先猜一猜：** 100 张脸，训练 500 步，画出来的会是噪声、色块，还是脸？

# %%
from diffusers import UNet2DModel

data = nn.functional.pixel_unshuffle(pixels, 2)  # (100, 12, 8, 8)
torch.manual_seed(0)
unet = UNet2DModel(
    sample_size=8, in_channels=12, out_channels=12, layers_per_block=1,
    block_out_channels=(32, 64), norm_num_groups=8, add_attention=False,
    down_block_types=("DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D"),
)  # fmt: skip


# %%
def face_loss(count=16):
    chosen, t = torch.randint(len(data), (count,)), torch.randint(1000, (count,))
    clean, noise = data[chosen], torch.randn_like(data[chosen])
    x_t = linear.add_noise(clean, noise, t)
    return (unet(x_t, t).sample - clean).square().mean()


train(unet, face_loss, steps=500)

# %% tags=["nbval-check-output"]
settings = {"prediction_type": "sample", "timestep_spacing": "trailing"}
pictures = DDIMScheduler.from_config(linear.config, **settings)  # clips: pixels lie in ±1
pictures.set_timesteps(25)
x_t = torch.randn((40, 12, 8, 8), generator=torch.Generator().manual_seed(1))
for t in pictures.timesteps:
    x_t = pictures.step(unet(x_t, t).sample, t, x_t).prev_sample
drawn = nn.functional.pixel_shuffle(x_t, 2)  # (40, 3, 16, 16)
corners = drawn[:, :, 0, 0].mean(dim=1)
expect((corners > 0.8).double().mean(), 0.9, 1, "share of white corners")
red, green, blue = drawn[:, :, 3:6, 6:10].mean(dim=(2, 3)).T
expect((red > blue + 0.3).double().mean(), 0.7, 1, "foreheads with more red than blue")

# %% [markdown] lang="en"
# White corners and yellow skin. Are they new faces, or copies? Below each drawn face stands the one of the hundred
# that is nearest to it, by the distance of all 768 numbers. **Predict** before you look.

# %% [markdown] lang="zh"
# 四角是白的，皮肤是黄的。它们是新的脸，还是照抄的？每张画出的脸下面，放着那一百张里离它最近的一张，按全部 768 个数的距离来算。**先猜一猜**，再往下看。

# %%
apart = torch.cdist(drawn.flatten(1), pixels.flatten(1))
shown = to_pictures(drawn[:8])
originals = [small[i] for i in apart[:8].argmin(dim=1)]
rows = {f"drawn {i + 1}": picture for i, picture in enumerate(shown)}
rows |= {f"nearest to {i + 1}": picture for i, picture in enumerate(originals)}
alt_en = "Top: eight drawn faces. Bottom: the training face nearest to each."
show_pictures(rows, alt_en, "上排：画出的八张脸。下排：各自最接近的训练图。", columns=8)

# %% [markdown] lang="en"
# Round, yellow, with eyes and a mouth, more or less: rough faces, from a training of less than a minute. None of
# these is a copy, but the likeness is there; with only a hundred pictures, learning and copying lie side by side.
# Look at the nearest training picture before you call anything new.
#
# ## 12 · Why latents
#
# A picture of 512 × 512 × 3 has 786,432 numbers; Stable Diffusion's latents, 64 × 64 × 4, have 16,384. A convolution
# costs as much per place as it does anywhere, so 64 times as many places cost 64 times as much. Attention compares
# every place with every other: 64² = 4,096 times. We count: on torch's `meta` device a model has shapes and no
# numbers, so the UNet of Stable Diffusion 1.5 fits on any machine.
#
# **Predict:** how many times more does one call cost at 512 × 512 places than at 64 × 64?

# %% [markdown] lang="zh"
# 圆的，黄的，大致有眼睛有嘴：训练不到一分钟，脸还比较粗糙。这几张都不是照抄，但看得出像谁；只有一百张图，学会和照抄只有一步之遥。
# 说“这是新画的”之前，先看看离它最近的训练图。
#
# ## 12 · 为什么用潜变量
#
# 512 × 512 × 3 的图有 786,432 个数；Stable Diffusion 的潜变量是 64 × 64 × 4，只有 16,384 个。卷积在每个位置上的开销都一样，
# 位置多 64 倍，开销就多 64 倍。注意力要拿每个位置和所有位置相比：多 64² = 4,096 倍。我们来数一数：torch 的 `meta` 设备上，
# 模型只有形状，没有数，所以 Stable Diffusion 1.5 的 UNet 在任何机器上都放得下。
#
# **先猜一猜：** 在 512 × 512 个位置上调用一次，开销是 64 × 64 时的多少倍？

# %% tags=["nbval-check-output"]
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

with torch.device("meta"):
    sd_unet = UNet2DConditionModel(cross_attention_dim=768)  # all else is the default
expect_equal(sum(p.numel() for p in sd_unet.parameters()), 859_520_964, "parameters")
operations = {}
for side in (64, 512):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        sd_unet(torch.empty(1, 4, side, side), torch.empty(1), torch.empty(1, 77, 768))
    operations[side] = counter.get_total_flops()
    print(f"{side} × {side}: {operations[side] / 1e12:.2f} tera-operations a call")
expect(operations[512] / operations[64], 64, 4096, "times as many")

# %% [markdown] lang="en"
# The price is an [autoencoder](GLOSSARY.md#autoencoder), trained once, that packs pictures and unpacks them with
# little loss ([LDM](REFERENCES.md#ldm)). The book's own Stable Diffusion is smaller in everything: 64 × 64 pixels,
# latents of 8 × 8 × 16.
#
# **Predict:** how many times fewer numbers is that, and can you see the loss?

# %% [markdown] lang="zh"
# 代价是多一个[自编码器](../GLOSSARY.md#autoencoder)，只训练一次，负责把图压小再解开，损失很小（[LDM](../REFERENCES.md#ldm)）。
# 本书自己的 Stable Diffusion 样样都小一号：图 64 × 64 像素，潜变量 8 × 8 × 16。
#
# **先猜一猜：** 数的个数少了多少倍？损失看得出来吗？

# %% tags=["nbval-check-output"]
from diffusers import AutoencoderKL

from aigc_helpers import install

vae = AutoencoderKL.from_pretrained(install("sd", "embedded"), subfolder="vae")
octopus = emoji.picture(emoji.number_of["octopus"], "noto", "yellow")
picture = to_pixels(octopus[None])  # (1, 3, 64, 64)
latents = vae.encode(picture).latent_dist.mean  # (1, 16, 8, 8)
restored = vae.decode(latents).sample
expect_equal(picture.numel() // latents.numel(), 12, "times fewer numbers")
error = (restored.clamp(-1, 1) - picture).square().mean()
expect(10 * (4 / error).log10(), 20, 45, "PSNR of the unpacked picture in dB")
strip = {"original": octopus, "one of 16 channels": latents[0, 0]}
strip["unpacked"] = to_pictures(restored)[0]
show_pictures(strip, "Octopus: packed, unpacked.", "章鱼：压小，再解开。", columns=3)

# %% [markdown] lang="en"
# Twelve times fewer, and the loss can be seen: in the picture on the right, fine lines are blurred. The PSNR above puts a
# number on it.
#
# ## 13 · Play
#
# Left: the way in, by schedule and time step. Right: the way back for label 1, by steps and guidance. Two things to
# try: how few steps still give a moon; and what guidance 8 does in 5 steps, and in 50. The panel's code twins are
# `add_noise` in section 2 and `sample` with `guided` in section 10.

# %% [markdown] lang="zh"
# 只剩十二分之一，损失也看得出来：右边那张的细线条糊了。上面的 PSNR 就是给它打的分。
#
# ## 13 · 玩一玩
#
# 左边是去路，由噪声表和时间步决定；右边是标签 1 的回路，由步数和引导强度决定。可以试两件事：最少几步还能画出月牙；
# 引导强度取 8 时，5 步和 50 步分别是什么样。与面板等价的代码，是第 2 节的 `add_noise` 和第 10 节的 `sample` 配 `guided`。

# %% tags=["panel"]
from IPython.display import display

from aigc_helpers.panels import DiffusionPanel


def sample_points(steps, guidance):
    ask = partial(guided, label=1, scale=guidance)
    return sample(DDIMScheduler.from_config(known, **trailing), steps, ask, size=400)


display(DiffusionPanel(points[::4], sample_points))

# %% [markdown] lang="en"
# ## 14 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **08-1, change a formula.** `betas` is a list of numbers. Return the share of the picture, the factor before $x_0$,
# that is left after the first `steps` steps.

# %% [markdown] lang="zh"
# ## 14 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **08-1，改一个公式。** `betas` 是一个列表。返回走完前 `steps` 步之后，原图还剩多少，也就是 $x_0$ 前面的系数。

# %% tags=["exercise", "nbval-check-output"]
import math

from aigc_helpers.notebook import check_exercise


def picture_share(betas, steps):
    # begin solution
    return math.prod(1 - beta for beta in betas[:steps]) ** 0.5
    # end solution


check_exercise("08-1", picture_share)

# %% [markdown] lang="en"
# **08-2, convert.** A model predicts the velocity $v$. Return the noise $\varepsilon$ that follows from `x_t` and
# `velocity` (tensors of one shape) and `alpha_bar` (a number).

# %% [markdown] lang="zh"
# **08-2，换算。** 模型预测的是速度 $v$。给定 `x_t`、`velocity`（形状相同的张量）和 `alpha_bar`（一个数），返回由此得出的噪声 $\varepsilon$。


# %% tags=["exercise", "nbval-check-output"]
def noise_from_velocity(x_t, velocity, alpha_bar):
    # begin solution
    return (1 - alpha_bar) ** 0.5 * x_t + alpha_bar**0.5 * velocity
    # end solution


check_exercise("08-2", noise_from_velocity)

# %% [markdown] lang="en"
# **08-3, write a step.** A model predicts the picture itself: `clean` is its guess of $x_0$. Write DDPM's step
# (`fixed_small`) for it, with the fresh noise `fresh`; `now` and `before` are $\bar\alpha_t$ and $\bar\alpha_u$. When
# `before` is 1 no noise may come in.

# %% [markdown] lang="zh"
# **08-3，写一步。** 模型直接预测原图：`clean` 是它对 $x_0$ 的猜测。为它写出 DDPM 的一步（`fixed_small`），`fresh` 是新噪声，
# `now` 和 `before` 分别是 $\bar\alpha_t$ 和 $\bar\alpha_u$。`before` 等于 1 时不得加入噪声。


# %% tags=["exercise", "nbval-check-output"]
def step_from_clean(x_t, clean, fresh, now, before):
    # begin solution
    alpha = now / before
    beta = 1 - alpha
    mean = before**0.5 * beta * clean + alpha**0.5 * (1 - before) * x_t
    variance = beta * (1 - before) / (1 - now)
    return mean / (1 - now) + variance**0.5 * fresh
    # end solution


check_exercise("08-3", step_from_clean)

# %% [markdown] lang="en"
# **08-4, write it yourself: the loss.** `clean` and `noise` are pictures (count × 3 × height × width), `t` has one
# time step for each picture, `alphas_bar` one number for each time step, and `predict(x_t, t)` answers with noise.
# Return the mean squared error.

# %% [markdown] lang="zh"
# **08-4，自己动手：写损失。** `clean` 和 `noise` 是图片（张数 × 3 × 高 × 宽），`t` 给每张图一个时间步，`alphas_bar` 给每个时间步一个数，
# `predict(x_t, t)` 回答噪声。返回均方误差。


# %% tags=["exercise", "nbval-check-output"]
def noise_loss(predict, clean, noise, t, alphas_bar):
    # begin solution
    alpha_bar = alphas_bar[t].view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise
    return (predict(x_t, t) - noise).square().mean()
    # end solution


check_exercise("08-4", noise_loss)

# %% [markdown] lang="en"
# ## Summary
#
# - Noise goes in without any learning: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$, in one step for any $t$.
# - $q(x_u \mid x_t, x_0)$ is known and normal. $q(x_u \mid x_t)$ is unknown. $p_\theta(x_u \mid x_t)$ is the model, and its mean is
#   what is learnt.
# - A bound on the likelihood turns into the squared error of the noise. Its least value is not 0 and says nothing about beauty.
# - DDPM and DDIM are four lines each, equal to diffusers' to 1e-6; DDIM with $\eta = 1$ is DDPM. Few steps: DDIM.
# - Guidance walks along the line from "without" to "with", and past it. At 1 the data are matched, beyond it they are left.
# - Latents: 48 times fewer numbers, and a UNet call that costs hundreds of times less.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | points or latents are squeezed into a square of ±1 | `clip_sample=True`, the default | `clip_sample=False`, except for pixels |
# | `Scheduler.from_config({**scheduler.config, "clip_sample": False})` still clips | keys that were defaults are remembered in the config, and dropped | `Scheduler.from_config(scheduler.config, clip_sample=False)` |
# | grey or washed-out pictures after a few steps | `timestep_spacing="leading"` starts too late | `"trailing"` |
# | `Number of inference steps is 'None', you need to run 'set_timesteps' after creating the scheduler` | DDIM does not know its steps | `scheduler.set_timesteps(50)` |
# | `The size of tensor a (4) must match the size of tensor b (8) at non-singleton dimension 3` | $\bar\alpha$ of shape (count,) against pictures | `alpha_bar.view(-1, 1, 1, 1)` |
# | mud, whatever the steps | the model predicts $v$, the scheduler expects $\varepsilon$ | `prediction_type` in the scheduler's config |
# | the last digits differ from diffusers' | $1-\bar\alpha$ in single precision | double precision for the comparison |
# | the loss no longer falls, pictures still get better | the loss has a floor | judge samples, not the loss |
#
# **Where next:** [chapter 09](09_stable_diffusion.ipynb) takes Stable Diffusion apart, whose scheduler you have now
# written; [chapter 11](11_training_an_sd_lora.ipynb) trains a LoRA with the loss of exercise 08-4, weighted by time step;
# chapter 12 measures pictures.

# %% [markdown] lang="zh"
# ## 小结
#
# - 加噪声不用学：$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$，任意 $t$ 一步到位。
# - $q(x_u \mid x_t, x_0)$ 已知，是正态分布；$q(x_u \mid x_t)$ 未知；$p_\theta(x_u \mid x_t)$ 是模型，学的是它的均值。
# - 似然的变分界化成了噪声的平方误差。它的最小值不是 0，也说明不了画得好不好。
# - DDPM 和 DDIM 各四行代码，与 diffusers 相差不到 1e-6；$\eta = 1$ 的 DDIM 就是 DDPM。步数少，用 DDIM。
# - 引导沿着“不带”到“带”的连线走，再往前走。取 1 时与数据吻合，再大就离开数据了。
# - 潜变量：数少了 48 倍，UNet 每次调用省下几百倍。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | 点或潜变量被挤进 ±1 的方框 | 默认 `clip_sample=True` | 除了像素，一律 `clip_sample=False` |
# | `Scheduler.from_config({**scheduler.config, "clip_sample": False})` 照样截断 | 配置里记着哪些键用的是默认值，会把它们丢掉 | `Scheduler.from_config(scheduler.config, clip_sample=False)` |
# | 步数少时画面发灰、发白 | `timestep_spacing="leading"` 起步太晚 | `"trailing"` |
# | `Number of inference steps is 'None', you need to run 'set_timesteps' after creating the scheduler` | DDIM 不知道走几步 | `scheduler.set_timesteps(50)` |
# | `The size of tensor a (4) must match the size of tensor b (8) at non-singleton dimension 3` | 形状为（张数,）的 $\bar\alpha$ 直接乘图片 | `alpha_bar.view(-1, 1, 1, 1)` |
# | 走多少步都是一团糊 | 模型预测 $v$，采样器以为是 $\varepsilon$ | 采样器配置里的 `prediction_type` |
# | 末几位与 diffusers 不同 | $1-\bar\alpha$ 用了单精度 | 比较时用双精度 |
# | 损失不再降，画却越来越好 | 损失有下限 | 看样本，别看损失 |
#
# **下一步：** [第 09 章](09_stable_diffusion.ipynb)把 Stable Diffusion 拆开，它的采样器你已经亲手写过了；
# [第 11 章](11_training_an_sd_lora.ipynb)训练 LoRA，用的就是练习 08-4 的损失，再按时间步加权；第 12 章讲怎样评价图片。
