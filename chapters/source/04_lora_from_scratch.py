# %% [markdown] lang="en"
# # 04 · LoRA from scratch
#
# {{badge}}
#
# **What you will be able to do:** say why a thin matrix can stand in for a thick one, with the singular values of a real
# fine-tuning; write the LoRA layer in 30 lines, equal to PEFT's in output and gradients for four kinds of layer; explain
# why B starts at zero and A does not; predict the memory of a training step before you take it; merge without
# surprises; and choose among LoRA's variants with a table instead of a rumour.
#
# | | embedded profile | full profile |
# |---|---|---|
# | model | all-MiniLM-L6-v2 (22.7 M parameters), for sections 7 and 9 only | bert-base-uncased (110 M) |
# | time | under a minute on two CPU cores | {{full_time}} |
# | memory | 1 GB | {{full_memory}} |
# | download | none once the workbook is set up | 441 MB |
#
# You need Python, and to have seen a [LoRA](GLOSSARY.md#lora) at work, as in chapter 05. Matrix products are all the
# mathematics there is; each formula is followed by the cell that proves it.

# %% [markdown] lang="zh"
# # 04 · 从零实现 LoRA
#
# {{badge}}
#
# **学完本章，你能够：** 用一次真实微调的奇异值，说清瘦长矩阵为什么能顶替大矩阵；用 30 行写出 LoRA 层，在四种层上输出和梯度
# 都与 PEFT 相等；解释为什么 B 从零开始而 A 不是；在走一步训练之前先算出它要多少内存；合并权重时不踩坑；
# 面对 LoRA 的各种近亲，看表格而不是听传言来选择。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | all-MiniLM-L6-v2（2270 万参数），只在第 7、9 节用到 | bert-base-uncased（1.1 亿参数） |
# | 时间 | 两个 CPU 核心不到 1 分钟 | {{full_time}} |
# | 内存 | 1 GB | {{full_memory}} |
# | 下载 | 装好本书之后不再需要 | 441 MB |
#
# 需要会 Python，并且见过 [LoRA](../GLOSSARY.md#lora) 怎么用（比如读过第 05 章）。数学只用到矩阵乘法，每个公式后面都跟着验证它的单元格。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · Why a low rank
#
# Chapter 05 fine-tuned all weights of a BERT on 2,000 film reviews. Each weight matrix W₀ became W₀ + ΔW. LoRA bets that
# ΔW needs few directions. A matrix's [singular values](GLOSSARY.md#singular-values) σ₁ ≥ σ₂ ≥ … say how much it does in
# each direction, and of all matrices of [rank](GLOSSARY.md#rank) r the nearest one keeps just the first r of them. What share
# of the squared length that is:
#
# $$E(r) = \frac{\sigma_1^2 + \dots + \sigma_r^2}{\sigma_1^2 + \dots + \sigma_{\min(d,k)}^2},\qquad
# \Delta W \in \mathbb{R}^{d \times k}$$
#
# `aigc pretrain film-update` ran that fine-tuning again on all-MiniLM-L6-v2 and stored the singular values of each `query`
# and `value`. Such stored results are that model's on either profile, and so are the numbers in the text.
#
# **Predict:** a ΔW has 384 × 384 numbers, hence 384 singular values. What share do the first 8 hold? And what share in a
# matrix of random numbers?

# %% [markdown] lang="zh"
# ## 1 · 为什么低秩就够
#
# 第 05 章用 2,000 条影评对 BERT 做了全参数微调，每个权重矩阵从 W₀ 变成 W₀ + ΔW。LoRA 赌的是：ΔW 只需要少数几个方向。
# 矩阵的[奇异值](../GLOSSARY.md#singular-values) σ₁ ≥ σ₂ ≥ … 表示它在各个方向上做了多少；在所有[秩](../GLOSSARY.md#rank)为 r 的矩阵里，
# 离它最近的那个恰好保留前 r 个奇异值。这前 r 个占长度平方的比例是：
#
# $$E(r) = \frac{\sigma_1^2 + \dots + \sigma_r^2}{\sigma_1^2 + \dots + \sigma_{\min(d,k)}^2},\qquad
# \Delta W \in \mathbb{R}^{d \times k}$$
#
# `aigc pretrain film-update` 在 all-MiniLM-L6-v2 上重跑了那次微调，把每个 `query` 和 `value` 的奇异值存了下来。
# 这类存好的结果，以及正文里的数字，在两种配置下都是这个模型的。
#
# **先猜一猜：** 一个 ΔW 有 384 × 384 个数，也就有 384 个奇异值。前 8 个占多大比例？换成随机数矩阵呢？

# %% tags=["nbval-check-output"]
import torch

from aigc_helpers.notebook import expect, expect_close, expect_equal
from aigc_helpers.paths import DATA
from aigc_helpers.training import read_log

rows = read_log(DATA / "results" / "film_update_singular_values.jsonl")
updates = torch.tensor([row["singular_values"] for row in rows])  # (matrices, 384)
torch.manual_seed(0)
noise = torch.linalg.svdvals(torch.randn(384, 384))
for r in (1, 8, 32, 128):
    of_update = updates[:, :r].square().sum(1) / updates.square().sum(1)
    of_noise = noise[:r].square().sum() / noise.square().sum()
    print(f"first {r:3}: update {of_update.mean():.0%}, random matrix {of_noise:.0%}")

# %% [markdown] lang="en"
# Eight directions out of 384 hold about two thirds of the update, eight times what they hold of a random matrix. And yet
# there is a long tail: AdamW moves every number by about the same step, so an update is never *exactly* of low rank.
#
# Is the rest needed? The same command cut the ΔW of all 36 matrices in BERT's layers to a lower rank and judged the model on the
# test snippets each time; all else stayed as tuned.
#
# **Predict:** from which rank on is the accuracy as good as with the whole ΔW?

# %% [markdown] lang="zh"
# 384 个方向里，8 个就占了更新量的大约三分之二，是随机矩阵的八倍。但后面还拖着长长的尾巴：AdamW 让每个数每步都走差不多远，
# 所以更新量从来不会*恰好*是低秩的。
#
# 剩下的部分用得着吗？同一条命令把 BERT 各层共 36 个矩阵的 ΔW 截到较低的秩，每次都在测试集上评判；其余部分保持微调后的样子。
#
# **先猜一猜：** 秩取到多少，准确率就和保留整个 ΔW 时一样好？

# %% tags=["nbval-check-output"]
truncated = read_log(DATA / "results" / "film_update_truncated.jsonl")
for row in truncated:
    print(f"ΔW cut to rank {row['rank']:3}: test accuracy {row['accuracy']:.3f}")

# %%
from aigc_helpers.figures import new_figure, show

shares = updates.square().cumsum(1) / updates.square().sum(1, keepdim=True)
noise_share = noise.square().cumsum(0) / noise.square().sum()
figure, (energy, accuracy) = new_figure(width=9.5, columns=2)
energy.plot(range(1, 385), shares.mean(0), marker="", label="fine-tuning update")
energy.plot(range(1, 385), noise_share, "--", marker="", label="random matrix")
energy.set(xscale="log", xlabel="rank r", ylabel="share of the squared length E(r)")
energy.legend(frameon=False)
kept = {str(row["rank"]): row["accuracy"] for row in truncated}
accuracy.plot(list(kept), list(kept.values()))
accuracy.set(xlabel="rank to which every update is cut", ylabel="test accuracy")
alt_en = "Left: E(r) rises faster for the update. Right: accuracy over the rank kept."
show(figure, alt_en, "左：更新量的 E(r) 升得比随机矩阵快。右：准确率随保留的秩变化。")

# %% [markdown] lang="en"
# Without any ΔW, the tuned head and embeddings reach 66 %. A single direction per matrix adds nothing, the second brings
# 17 points of the 20, and with eight the model is one point short of the whole: what the task needs fits into few
# directions, although the update itself does not. (It is one run, judged on 1,000 snippets: a point is within its luck.) LoRA does not
# cut afterwards: it *trains* within a low rank from the start. That this can work was first argued from the [intrinsic
# dimension](REFERENCES.md#intrinsic-dimension) of fine-tuning, and [LoRA](REFERENCES.md#lora) made it a method.
#
# ## 2 · The formula, with shapes
#
# $$W = W_0 + \frac{\alpha}{r}\,B A,\qquad W_0 \in \mathbb{R}^{d \times k},\quad B \in \mathbb{R}^{d \times r},\quad
# A \in \mathbb{R}^{r \times k},\quad r \ll \min(d, k)$$
#
# A reads the layer's k inputs and makes r numbers of them, B writes these to the d outputs, and
# [α](GLOSSARY.md#alpha)/r scales the result. Nobody multiplies B by A while training: with the inputs as rows of
# $X \in \mathbb{R}^{n \times k}$,
#
# $$H = X W^\top = X W_0^\top + \frac{\alpha}{r}\,(X A^\top) B^\top \quad\in \mathbb{R}^{n \times d}$$

# %% [markdown] lang="zh"
# 一点 ΔW 也不要，光靠微调过的头和嵌入能到 66 %。每个矩阵留一个方向，毫无长进；留到第二个，20 个点就回来了 17 个；
# 留八个，离完整的 ΔW 只差一个点。可见任务所需的东西装得进少数几个方向，尽管更新量本身装不进去。
# （这只是一次训练，在 1,000 条短评上评判，一个点在运气范围之内。）LoRA 不是事后截断，而是从一开始就在低秩里*训练*。
# 这条路走得通，最早是从微调的[内在维度](../REFERENCES.md#intrinsic-dimension)论证的，[LoRA](../REFERENCES.md#lora) 把它变成了方法。
#
# ## 2 · 公式与形状
#
# $$W = W_0 + \frac{\alpha}{r}\,B A,\qquad W_0 \in \mathbb{R}^{d \times k},\quad B \in \mathbb{R}^{d \times r},\quad
# A \in \mathbb{R}^{r \times k},\quad r \ll \min(d, k)$$
#
# A 读入这一层的 k 个输入，变成 r 个数；B 把这 r 个数写到 d 个输出上；[α](../GLOSSARY.md#alpha)/r 是缩放。训练时并不会真的去算 B·A：
# 设输入是 $X \in \mathbb{R}^{n \times k}$ 的各行，则
#
# $$H = X W^\top = X W_0^\top + \frac{\alpha}{r}\,(X A^\top) B^\top \quad\in \mathbb{R}^{n \times d}$$

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
n, d, k, r, alpha = 5, 24, 16, 4, 8
W0, B, A = torch.randn(d, k), torch.randn(d, r), torch.randn(r, k)
X = torch.randn(n, k)
beside = X @ W0.T + alpha / r * (X @ A.T) @ B.T
into = X @ (W0 + alpha / r * B @ A).T
expect_close(beside, into, 1e-4, "product beside the weight, and added into it")
ranks = [torch.linalg.matrix_rank(each).item() for each in (A, B, B @ A)]
expect_equal(ranks, [r, r, r], "ranks of A, B and BA")
expect_equal((A.numel() + B.numel(), W0.numel()), (160, 384), "numbers: A and B, W₀")

# %% [markdown] lang="en"
# Two sentences that stand in many articles, put right. *"B is the low-rank matrix and A the adapter matrix"*: A and B are
# each as full as their shapes allow; what is of low rank is their **product**, a d × k matrix, and the two together are the
# [adapter](GLOSSARY.md#adapter). *"h′ = h + Ah(Bh)ᵀ"*: run it.
#
# **Predict:** what shape has Ah(Bh)ᵀ, and what becomes of it when h is doubled?

# %% [markdown] lang="zh"
# 两句常见的说法，在这里改正。“B 是低秩矩阵，A 是适配矩阵”：A 和 B 各自的秩都满到形状允许的极限；低秩的是它们的**乘积**，
# 一个 d × k 的矩阵，两者合起来才叫[适配器](../GLOSSARY.md#adapter)。“h′ = h + Ah(Bh)ᵀ”：跑一下便知。
#
# **先猜一猜：** Ah(Bh)ᵀ 是什么形状？h 翻倍时它变成多少？

# %% tags=["nbval-check-output"]
h, second = torch.randn(k, 1), torch.randn(r, k)  # here B would have to be r × k as well


def article(h):
    return (A @ h) @ (second @ h).T


expect_equal(tuple(article(h).shape), (r, r), "shape of Ah(Bh)ᵀ, to be added to (16, 1)")
expect_close(article(2 * h), 4 * article(h), 1e-3, "h doubled: four times as much")
expect_close(B @ A @ (2 * h), 2 * (B @ A @ h), 1e-3, "LoRA's BAh: twice as much")

# %% [markdown] lang="en"
# It cannot be added to h, and it is no linear map, so it could never be merged into a weight. Right is **h = W₀x + (α/r) BAx**:
# B is applied to what A made, and both stand beside the weight.
#
# ## 3 · The layer in 30 lines
#
# For each kind of layer, "first thin, then wide again" looks a little different. A `Linear` gets two small ones.
# A `Conv1D` (GPT-2's, chapter 06) is a linear layer whose weight lies the other way round. In a `Conv2d`, A looks through
# the same window and makes r channels, and B is a 1 × 1 convolution. In an `Embedding`, A holds r numbers per token.
#
# The layer itself: freeze the base, start B at zero, add the scaled product. (Token ids cannot be dropped out, hence the
# condition.)

# %% [markdown] lang="zh"
# 它加不到 h 上；它也不是线性映射，所以永远没法合并进权重。正确的是 **h = W₀x + (α/r) BAx**：B 作用在 A 的结果上，两者一起站在权重旁边。
#
# ## 3 · 30 行写出 LoRA 层
#
# “先变窄、再变宽”在每种层里的样子略有不同。`Linear` 旁边加两个小 `Linear`；`Conv1D`（GPT-2 用的，见第 06 章）是权重倒着放的线性层；
# `Conv2d` 里，A 透过同样的窗口看，输出 r 个通道，B 是 1 × 1 卷积；`Embedding` 里，A 给每个 token 存 r 个数。
#
# 层本身：冻结基座，B 置零，加上缩放后的乘积。（token 编号没法做 dropout，所以有那个条件。）

# %%
from torch import nn
from transformers.pytorch_utils import Conv1D


def thin_pair(base, r):
    if isinstance(base, nn.Embedding):
        narrow = nn.Embedding(base.num_embeddings, r)
        return narrow, nn.Linear(r, base.embedding_dim, bias=False)
    if isinstance(base, nn.Conv2d):
        window = (base.kernel_size, base.stride, base.padding, base.dilation)
        narrow = nn.Conv2d(base.in_channels, r, *window, bias=False)
        return narrow, nn.Conv2d(r, base.out_channels, kernel_size=1, bias=False)
    d, k = base.weight.T.shape if isinstance(base, Conv1D) else base.weight.shape
    return nn.Linear(k, r, bias=False), nn.Linear(r, d, bias=False)


# %%
class LoRA(nn.Module):
    def __init__(self, base, r=4, alpha=8, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A, self.B = thin_pair(base, r)
        nn.init.zeros_(self.B.weight)
        self.scaling = alpha / r
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        read = x if isinstance(self.base, nn.Embedding) else self.dropout(x)
        return self.base(x) + self.scaling * self.B(self.A(read))


# %% [markdown] lang="en"
# **Claim: this is PEFT's layer.** Put PEFT's LoRA on the same base, copy the same numbers into A and B of both, and compare
# the outputs and the gradients. (PEFT keeps an embedding's A and B transposed; `as_ours` turns them round.)

# %% [markdown] lang="zh"
# **说法：它就是 PEFT 的那一层。** 给同一个基座装上 PEFT 的 LoRA，把同样的数填进两边的 A 和 B，再比较输出和梯度。
# （嵌入层的 A 和 B 在 PEFT 里是转置存放的，`as_ours` 把它们转回来。）

# %%
from peft import LoraConfig, PromptTuningConfig, get_peft_model


def with_peft(base, **settings):
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["0"]} | settings
    config = LoraConfig(fan_in_fan_out=isinstance(base, Conv1D), **settings)
    return get_peft_model(nn.Sequential(base), config)


def peft_pair(model):
    layer = model.base_model.model[0]
    if isinstance(layer.get_base_layer(), nn.Embedding):
        return layer.lora_embedding_A["default"], layer.lora_embedding_B["default"]
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight


# %%
def as_ours(peft_tensor, our_tensor):
    return peft_tensor if peft_tensor.shape == our_tensor.shape else peft_tensor.T


def largest_differences(base, x):
    ours, theirs = LoRA(base), with_peft(base)
    pairs = list(zip((ours.A.weight, ours.B.weight), peft_pair(theirs), strict=True))
    for mine, their in pairs:
        nn.init.normal_(mine, std=0.3)
        their.data.copy_(as_ours(mine.data, their))
    outputs = ours(x), theirs(x)
    for output in outputs:
        output.square().mean().backward()
    gradients = [(m.grad - as_ours(t.grad, m)).abs().max().item() for m, t in pairs]
    return [(outputs[0] - outputs[1]).abs().max().item(), *gradients]


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
four_kinds = [
    (nn.Linear(16, 24), torch.randn(5, 16)),
    (Conv1D(24, 16), torch.randn(5, 16)),
    (nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1), torch.randn(2, 3, 8, 8)),
    (nn.Embedding(50, 16), torch.randint(50, (2, 7))),
]
for base, x in four_kinds:
    name = type(base).__name__
    differences = largest_differences(base, x)
    expect_close(differences, [0, 0, 0], 1e-6, f"{name}: output, ∂L/∂A and ∂L/∂B as PEFT's")

# %% [markdown] lang="en"
# ## 4 · The start: why B is zero and A is not
#
# With $G = \partial L/\partial H \in \mathbb{R}^{n \times d}$ and $s = \alpha/r$, the chain rule gives
#
# $$\frac{\partial L}{\partial B} = s\,G^\top (X A^\top) \in \mathbb{R}^{d \times r},\qquad
# \frac{\partial L}{\partial A} = s\,(G B)^\top X \in \mathbb{R}^{r \times k}$$
#
# Each [gradient](GLOSSARY.md#gradient) contains the *other* matrix. First the proof, then what follows from it.

# %% [markdown] lang="zh"
# ## 4 · 起点：为什么 B 为零而 A 不为零
#
# 设 $G = \partial L/\partial H \in \mathbb{R}^{n \times d}$，$s = \alpha/r$，由链式法则得
#
# $$\frac{\partial L}{\partial B} = s\,G^\top (X A^\top) \in \mathbb{R}^{d \times r},\qquad
# \frac{\partial L}{\partial A} = s\,(G B)^\top X \in \mathbb{R}^{r \times k}$$
#
# 每个[梯度](../GLOSSARY.md#gradient)里都含有*另一个*矩阵。先验证，再看由此得出什么。

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
layer = LoRA(nn.Linear(k, d))
nn.init.normal_(layer.B.weight)
H = layer(X)
H.retain_grad()
H.square().mean().backward()
G, s, A, B = H.grad, layer.scaling, layer.A.weight, layer.B.weight
expect_close(B.grad, s * G.T @ (X @ A.T), 1e-5, "∂L/∂B by the formula")
expect_close(A.grad, s * (G @ B).T @ X, 1e-5, "∂L/∂A by the formula")
expect_equal(layer.base.weight.grad, None, "gradient of W₀")
gradients = [p.grad for p in layer.base.parameters() if p.grad is not None]
expect_equal(sum(g.nbytes for g in gradients), 0, "bytes of gradients in the base")

# %% [markdown] lang="en"
# The frozen weight has no gradient at all: not zeros, nothing. (The gradient still passes *through* W₀ to the layers
# below; it is only not kept *for* W₀.)
#
# **Predict** for each start: is the model at step 0 the pretrained one, and which of A and B moves?

# %% [markdown] lang="zh"
# 冻结的权重根本没有梯度：不是零，而是没有。（梯度仍然*穿过* W₀ 传到下面的层，只是不*为* W₀ 保留。）
#
# **先猜一猜：** 下面每种起点，第 0 步的模型还是预训练的那个吗？A 和 B 哪个会动？


# %% tags=["nbval-check-output"]
def first_step(name, std_of_A, std_of_B):
    torch.manual_seed(0)
    layer = LoRA(nn.Linear(k, d))
    nn.init.normal_(layer.A.weight, std=std_of_A)
    nn.init.normal_(layer.B.weight, std=std_of_B)
    output = layer(X)
    output.square().mean().backward()
    same = torch.equal(output, layer.base(X))
    moves = [bool(thin.weight.grad.any()) for thin in (layer.A, layer.B)]
    print(f"{name:7} pretrained at step 0: {same!s:6} A, B move: {moves}")


for start in [("B = 0", 1, 0), ("A = 0", 0, 1), ("both 0", 0, 0), ("neither", 1, 1)]:
    first_step(*start)

# %% [markdown] lang="en"
# Both zero: neither ever moves. None zero: training starts from a damaged model. One zero: an exact start, and that one
# moves first; from the second step on both do. PEFT zeroes B, except in an `Embedding`, where it zeroes A; both are right.
#
# ## 5 · Dropout's place
#
# [Dropout](GLOSSARY.md#dropout) in LoRA sits on the way *into A*, nowhere else. The frozen path sees the whole input. So at
# step 0 dropout changes nothing, and in the mean over many draws it changes nothing later either.

# %% [markdown] lang="zh"
# 两个都是零：谁也动不了。两个都不是零：训练从一个被弄坏的模型出发。只有一个是零：起点分毫不差，并且是零的那个先动，从第二步起两个都动。
# PEFT 把 B 置零，只有 `Embedding` 是把 A 置零；两种都对。
#
# ## 5 · dropout 放在哪里
#
# LoRA 的 [dropout](../GLOSSARY.md#dropout) 只放在*通往 A* 的路上。冻结的那条路看到的是完整输入。所以第 0 步时 dropout 什么也不改变；
# 之后对多次抽样取平均，也等于什么都没改变。

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
layer = LoRA(nn.Linear(k, d), dropout=0.5).train()
expect_close(layer(X), layer.base(X), 0.0, "step 0, dropout on: output minus base")
nn.init.normal_(layer.B.weight, std=0.3)
with torch.no_grad():
    drawn = torch.stack([layer(X) for _ in range(20_000)])
    expect(drawn.std(0).mean(), 0.15, 2.0, "later: standard deviation of the output")
    expect_close(drawn.mean(0), layer.eval()(X), 0.06, "later: mean, and with dropout off")

# %% [markdown] lang="en"
# ## 6 · Scaling: what α is, and what it is not
#
# *"Alpha is a learning rate"*, one reads. It is a constant in the model: it stands in `adapter_config.json`, is there when
# nothing is trained any more, and doubling it doubles what the adapter does. But there is a true core. Call $\tilde B = sB$:
# then the layer is $W_0 + \tilde B A$, and since [Adam](REFERENCES.md#adam) takes steps of one size whatever the gradient's,
# doubling α makes $\tilde B$ step twice as far. So under Adam, **doubling α is doubling the
# [learning rate](GLOSSARY.md#learning-rate) of B alone**.
#
# A higher rate for B is what [LoRA+](REFERENCES.md#lora-plus) proposes, and PEFT has its optimizer. So the claim can be run:
# α = 16 against α = 8 with B twice as fast.

# %% [markdown] lang="zh"
# ## 6 · 缩放：α 是什么，不是什么
#
# 常听人说“alpha 就是学习率”。其实它是模型里的一个常数：写在 `adapter_config.json` 里，训练结束之后依然在，把它翻倍，适配器的作用就翻倍。
# 不过这话也有几分道理。记 $\tilde B = sB$，这一层就是 $W_0 + \tilde B A$；[Adam](../REFERENCES.md#adam) 不管梯度多大，步子都一样大，
# 所以 α 翻倍，$\tilde B$ 每步就走两倍远。也就是说，在 Adam 下，**α 翻倍等于只把 B 的[学习率](../GLOSSARY.md#learning-rate)翻倍**。
#
# 让 B 学得更快，正是 [LoRA+](../REFERENCES.md#lora-plus) 的主张，PEFT 里就有它的优化器。于是这个说法可以直接跑：
# α = 16，对比 α = 8 且 B 快一倍。

# %%
from peft.optimizers import create_loraplus_optimizer

inputs, targets = torch.randn(64, k), torch.randn(64, d)


def trained_update(alpha, ratio, optimizer_class):
    torch.manual_seed(0)
    model, rate = with_peft(nn.Linear(k, d), lora_alpha=alpha), 1e-2
    settings = {"lr": rate, "loraplus_lr_ratio": ratio}  # lr of A, and B's over A's
    optimizer = create_loraplus_optimizer(model, optimizer_class, **settings)
    for _ in range(100):
        (model(inputs) - targets).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.base_model.model[0].get_delta_weight("default").detach()


# %% tags=["nbval-check-output"]
adam, sgd = torch.optim.Adam, torch.optim.SGD
same, plain = trained_update(16, 1, adam), trained_update(8, 1, adam)
expect_close(trained_update(8, 2, adam), same, 1e-4, "Adam: α doubled, and B twice as fast")
expect(
    (same - plain).abs().max(), 0.001, 1.0, "Adam: α doubled, and nothing else, differ by"
)
ratio = trained_update(16, 1, sgd).norm() / trained_update(8, 2, sgd).norm()
expect(ratio, 1.2, 3.0, "SGD: α doubled moves more than B twice as fast, times")

# %% [markdown] lang="en"
# Under plain SGD it is another matter, since there α enters the gradient as well as the output. So a learning rate found for
# one α does not hold for another; say which α it goes with.
#
# **Why divide by r?** So that a rate found at one rank serves at another. [rsLoRA](REFERENCES.md#rslora) divides by √r
# instead (`use_rslora=True`). Take one step on one input and look how far the output moves:
#
# $$\text{SGD: } \|\Delta h\| \propto s^2\,\|Ax\|^2 \propto s^2\, r\qquad\text{Adam: } \|\Delta h\| \propto s\,\|Ax\|_1 \propto s\, r$$
#
# **Predict** for SGD and for Adam, each with α/r and with α/√r: from rank 16 to 256, does the first step shrink, grow or
# stay?

# %% [markdown] lang="zh"
# 普通 SGD 就是另一回事了：α 既进了输出，也进了梯度。所以在某个 α 下调好的学习率，换个 α 就不算数；报学习率时要写明 α。
#
# **为什么要除以 r？** 为的是在一个秩上调好的学习率，换个秩还能用。[rsLoRA](../REFERENCES.md#rslora) 改为除以 √r
# （`use_rslora=True`）。在一个输入上走一步，看输出移动了多远：
#
# $$\text{SGD: } \|\Delta h\| \propto s^2\,\|Ax\|^2 \propto s^2\, r\qquad\text{Adam: } \|\Delta h\| \propto s\,\|Ax\|_1 \propto s\, r$$
#
# **先猜一猜：** SGD 和 Adam，各配 α/r 和 α/√r，共四种情形。秩从 16 到 256，第一步是变小、变大，还是不变？


# %%
def first_move(r, optimizer_class, power):
    moves = []
    for seed in range(20):
        torch.manual_seed(seed)
        layer, x = LoRA(nn.Linear(256, 256), r), torch.randn(1, 256)
        layer.scaling = 16 / r**power
        optimizer = optimizer_class([layer.A.weight, layer.B.weight], lr=1e-4)
        (layer(x) - 1).square().mean().backward()
        optimizer.step()
        moves.append((layer(x) - layer.base(x)).norm().item())
    return sum(moves)


# %% tags=["nbval-check-output"]
by_peft = with_peft(nn.Linear(k, d), r=16, lora_alpha=16, use_rslora=True)
expect_equal(by_peft.base_model.model[0].scaling["default"], 16 / 16**0.5, "PEFT: α / √r")
for optimizer_class, power, low, high in [
    (sgd, 1, 0.04, 0.08),
    (sgd, 0.5, 0.65, 1.2),
    (adam, 1, 0.8, 1.2),
    (adam, 0.5, 3.2, 4.5),
]:
    growth = first_move(256, optimizer_class, power) / first_move(
        16, optimizer_class, power
    )
    name = f"{optimizer_class.__name__}, α / r^{power}: first move, rank 256 over rank 16"
    expect(growth, low, high, name)

# %% [markdown] lang="en"
# With SGD, α/r starves high ranks and α/√r keeps the step, which is rsLoRA's argument. Adam's *first* step has the same length
# with α/r, and grows with √r under rsLoRA. At rank 8, `use_rslora=True` is nothing but an α 2.8 times as large. It is
# made for ranks of 64 and more; there, compare rules at the learning rate that suits each.
#
# ## 7 · Memory: predict, then measure
#
# A training step holds four things. With N numbers in the model, n of them trained, all of 4 bytes:
#
# | | full fine-tuning | LoRA |
# |---|---|---|
# | weights | 4 N | 4 (N + n) |
# | gradients | 4 N | 4 n |
# | AdamW: two moments for each trained number, one counter per tensor | 8 N + 4 per tensor | 8 n + 4 per tensor |
# | activations kept for the backward pass | *see below* | *see below* |
#
# What is counted here is the tensors themselves, not what the process occupies: libraries and scratch space come on top.
# [Dropout](GLOSSARY.md#dropout) is switched off, because its masks are kept as well.

# %% [markdown] lang="zh"
# 用 SGD 时，α/r 会饿着高秩，α/√r 则保持步幅不变，这就是 rsLoRA 的论据。而 Adam 的*第一步*在 α/r 下长度不变，
# 在 rsLoRA 下随 √r 增长。秩为 8 时，`use_rslora=True` 不过是把 α 放大到 2.8 倍。它是为 64 以上的秩准备的；
# 要比较，就得各用各的合适学习率。
#
# ## 7 · 内存：先预测，再测量
#
# 一步训练要占四样东西。设模型有 N 个数，其中 n 个参与训练，每个数 4 字节：
#
# | | 全参数微调 | LoRA |
# |---|---|---|
# | 权重 | 4 N | 4 (N + n) |
# | 梯度 | 4 N | 4 n |
# | AdamW：每个训练的数有两个矩，每个张量有一个计数器 | 8 N + 每个张量 4 | 8 n + 每个张量 4 |
# | 为反向传播保留的激活值 | *见下文* | *见下文* |
#
# 这里数的是张量本身，不是进程占用的内存：库和临时空间另算。[dropout](../GLOSSARY.md#dropout) 关掉了，因为它的掩码也要保留。

# %%
from transformers import AutoModelForSequenceClassification as Classifier

from aigc_helpers import install
from aigc_helpers.quiet import quiet


def new_bert():
    torch.manual_seed(0)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with quiet("transformers"):
        return Classifier.from_pretrained(install("bert"), **no_dropout).train()


# %% [markdown] lang="en"
# The activations take a little thought. T = batch × length tokens, width w. The backward pass of a module needs what the
# module's own derivative contains, and a *trained* matrix needs its input, a *frozen* one only passes the gradient on.
# In one layer of BERT, in units of T · w numbers:
#
# | kept | full | LoRA on `query`, `value` |
# |---|---|---|
# | input of query, key, value (one and the same tensor) | 1 | 1 (for A) |
# | query, key, value; result of attention | 4 | 4 |
# | sum before the first layer norm | 1 | 1 |
# | input of the wide matrix | 1 | – |
# | before GELU (4 w wide), after GELU | 4 + 4 | 4 + – |
# | sum before the second layer norm | 1 | 1 |
# | **sum** | **16** | **11**, and 2 r/w for what A makes |
#
# For the measurement, `saved_tensors_hooks` is called for each tensor that autograd keeps; each piece of memory counts once, and
# the weights' own not again.
#
# **Predict:** LoRA trains 0.3 % of the numbers. What share of full fine-tuning's memory does it save?

# %% [markdown] lang="zh"
# 激活值要稍微想一想。T = 批次 × 长度，即 token 数，w 是宽度。一个模块反向传播时，需要它自己的导数里出现的那些东西：
# *参与训练*的矩阵要留住输入，*冻结*的矩阵只管把梯度传下去。BERT 的一层里，以 T · w 个数为单位：
#
# | 保留 | 全参数 | LoRA（`query`、`value`） |
# |---|---|---|
# | query、key、value 的输入（同一个张量） | 1 | 1（给 A 用） |
# | query、key、value；注意力的结果 | 4 | 4 |
# | 第一个层归一化之前的和 | 1 | 1 |
# | 宽矩阵的输入 | 1 | – |
# | GELU 之前（宽 4 w）、GELU 之后 | 4 + 4 | 4 + – |
# | 第二个层归一化之前的和 | 1 | 1 |
# | **合计** | **16** | **11**，外加 A 的输出 2 r/w |
#
# 测量时，autograd 每保留一个张量，都会调用 `saved_tensors_hooks`；同一块内存只数一次，权重自己的不再重复数。
#
# **先猜一猜：** LoRA 只训练 0.3 % 的数。和全参数微调相比，它能省下多大比例的内存？


# %%
config = LoraConfig(
    task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"]
)
models = {"full": new_bert(), "LoRA": get_peft_model(new_bert(), config)}


def predicted_bytes(name, model, tokens):
    size = models["full"].config
    everything = sum(p.numel() for p in model.parameters())  # with LoRA: N + n
    trained = [p.numel() for p in model.parameters() if p.requires_grad]
    n, row = sum(trained), tokens * size.hidden_size
    per_layer = {"full": 16 * row, "LoRA": 11 * row + 2 * tokens * 8}[name]
    kept = 4 * size.num_hidden_layers * per_layer
    return [4 * everything, 4 * n, 8 * n + 4 * len(trained), kept]


# %%
def kept_for_backward(model, batch):
    own = [*model.parameters(), *model.buffers()]
    own = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept = {}

    def remember(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        model(**batch).loss.backward()
    return sum(kept.values())


# %%
def measured_bytes(model, batch):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    kept = kept_for_backward(model, batch)
    optimizer.step()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    states = [tensor for state in optimizer.state.values() for tensor in state.values()]
    held = [model.parameters(), gradients, states]
    return [sum(tensor.nbytes for tensor in tensors) for tensors in held] + [kept]


# %% tags=["nbval-check-output"]
ids = torch.randint(1000, 2000, (16, 32))
batch = {"input_ids": ids, "labels": torch.ones(16, dtype=torch.long)}
measured = {name: measured_bytes(model, batch) for name, model in models.items()}
for name, found in measured.items():
    predicted = predicted_bytes(name, models[name], ids.numel())
    expect_equal(found[:3], predicted[:3], f"{name}: weights, gradients, AdamW")
    expect(predicted[3] / found[3], 0.9, 1.1, f"{name}: activations, predicted over found")

# %%
figure, (axes,) = new_figure(height=2.6)
ends = {name: 0.0 for name in measured}
parts = {"weights": "", "gradients": "//", "AdamW": "..", "activations": "xx"}
for number, (part, hatch) in enumerate(parts.items()):
    sizes = [found[number] / 1e6 for found in measured.values()]
    look = {"hatch": hatch, "label": part, "edgecolor": "white"}
    axes.barh(list(ends), sizes, left=list(ends.values()), **look)
    ends = {name: ends[name] + size for name, size in zip(ends, sizes, strict=True)}
for name, total in ends.items():
    axes.annotate(f" {total:.0f} MB", (total, name), va="center")
axes.set_xlabel("MB for one step of 16 texts of 32 tokens")
axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
alt_en = "LoRA keeps weights and most activations; gradients and AdamW all but vanish."
show(figure, alt_en, "LoRA 的权重照旧，激活值还剩大半；梯度和 AdamW 的状态几乎没有了。")

# %% [markdown] lang="en"
# Compare the totals in the figure: about two thirds are saved. Gradients and optimizer shrink by a factor of 300 or more, as
# the articles say. The weights stay, and of the activations two thirds stay: with long texts or large batches they are what
# fills a GPU, and gradient checkpointing, not LoRA, is the remedy. For the weights the remedy is quantisation (section 9).
#
# ## 8 · Merging, and its rounding
#
# [Merging](GLOSSARY.md#merge) adds (α/r) BA into W₀. *"Merging is free"*, many say. In 32 bits, nearly. But most weights
# are stored in 16, and there W₀ + ΔW is rounded to the spacing of numbers near W₀, which ΔW can fall below.
#
# **Predict:** weights of standard deviation 0.02, an update two hundred or two thousand times smaller. How much of the
# update is lost in rounding?

# %% [markdown] lang="zh"
# 比一比图上的两个总数：这里大约省下三分之二。梯度和优化器状态确实缩小到三百分之一甚至更小，文章没说错。但权重还在，激活值也还剩三分之二：
# 文本长、批次大的时候，塞满显存的正是它们，这时的办法是梯度检查点，不是 LoRA。要省权重，办法是量化（第 9 节）。
#
# ## 8 · 合并，以及舍入
#
# [合并](../GLOSSARY.md#merge)就是把 (α/r) BA 加进 W₀。常听人说“合并是免费的”。在 32 位下差不多是。可多数权重用 16 位存储，
# W₀ + ΔW 要舍入到 W₀ 附近能表示的数，而 ΔW 有可能比那里的间隔还小。
#
# **先猜一猜：** 权重的标准差是 0.02，更新量是它的二百分之一，或者两千分之一。舍入会丢掉多少更新量？

# %%
torch.manual_seed(0)
W0, direction = 0.02 * torch.randn(1024, 1024), torch.randn(1024, 1024)


def share_lost(size, dtype):
    stored, update = W0.to(dtype), size * direction
    merged = (stored.float() + update).to(
        dtype
    )  # even if the sum itself is taken in 32 bits
    return ((merged.float() - stored.float() - update).norm() / update.norm()).item()


# %% tags=["nbval-check-output"]
expect(share_lost(1e-4, torch.float32), 0, 1e-4, "fp32, update of 1e-4: share lost")
for size, dtype, low, high in [
    (1e-4, torch.float16, 0.03, 0.05),
    (1e-4, torch.bfloat16, 0.29, 0.36),
    (1e-5, torch.float16, 0.33, 0.45),
    (1e-5, torch.bfloat16, 0.85, 0.95),
]:
    expect(share_lost(size, dtype), low, high, f"{dtype}, update of {size}")

# %% [markdown] lang="en"
# So merge in fp32 and round once, at the end; several adapters merged one after the other in bf16 are rounded each time. Even then
# a small update can drown in bf16. Subtracting the product again does not give the old bits back, and the
# adapter that could be swapped is gone: free is another thing.
#
# PEFT's merge is the formula, and in fp32 the outputs agree:

# %% [markdown] lang="zh"
# 所以要在 fp32 里合并，最后只舍入一次；在 bf16 里接连合并几个适配器，就会舍入几次。即便如此，小的更新量在 bf16 里仍可能被淹没。
# 再把乘积减掉，也回不到原来的比特；而那个可以随手替换的适配器也没了：哪里免费？
#
# PEFT 的合并就是这个公式，在 fp32 下输出一致：

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
base = nn.Linear(k, d)
W0 = base.weight.detach().clone()
model = with_peft(base)
A, B = (thin.detach() for thin in peft_pair(model))
B.normal_()
before = model(X).detach()
merged = model.merge_and_unload()[0]
expect_close(merged.weight, W0 + 8 / 4 * B @ A, 1e-6, "merged weight: W₀ + (α/r) BA")
expect_close(merged(X), before, 1e-4, "output, merged and not")
returned = merged.weight.detach() - 8 / 4 * B @ A
expect_equal(torch.equal(returned, W0), False, "subtracted again: the old bits")

# %% [markdown] lang="en"
# ## 9 · The variants
#
# Each changes one thing. Two you have met: rsLoRA the scaling, LoRA+ the learning rate of B. **[PiSSA](REFERENCES.md#pissa)**
# changes the start. It takes the first r singular values out of W₀, trains those and freezes the rest:
#
# $$sBA = \sum_{i=1}^{r} \sigma_i u_i v_i^\top,\qquad W_{\text{frozen}} = W_0 - sBA$$
#
# The model is the same at step 0, although neither A nor B is zero.

# %% [markdown] lang="zh"
# ## 9 · LoRA 的近亲
#
# 每种方法只改一处。两种已经见过了：rsLoRA 改缩放，LoRA+ 改 B 的学习率。**[PiSSA](../REFERENCES.md#pissa)** 改起点：
# 把 W₀ 的前 r 个奇异值抽出来训练，其余冻结：
#
# $$sBA = \sum_{i=1}^{r} \sigma_i u_i v_i^\top,\qquad W_{\text{frozen}} = W_0 - sBA$$
#
# 第 0 步的模型没有变，尽管 A 和 B 都不是零。

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
base = nn.Linear(k, d)
W0 = base.weight.detach().clone()
model = with_peft(base, init_lora_weights="pissa")
A, B = peft_pair(model)
U, S, V = torch.linalg.svd(W0, full_matrices=False)
expect_close(2 * B @ A, U[:, :4] * S[:4] @ V[:4], 1e-6, "PiSSA: sBA, first singular values")
frozen = model.base_model.model[0].get_base_layer().weight
expect_close(frozen + 2 * B @ A, W0, 1e-6, "PiSSA: frozen part plus sBA, and W₀")

# %% [markdown] lang="en"
# **[DoRA](REFERENCES.md#dora)** separates length from direction. Each row of the weight gets a trained length $m_i$, and LoRA
# turns its direction:
#
# $$W_i = m_i\,\frac{(W_0 + sBA)_i}{\|(W_0 + sBA)_i\|},\qquad m \in \mathbb{R}^{d},\quad m_i = \|(W_0)_i\|
# \text{ at the start}$$

# %% [markdown] lang="zh"
# **[DoRA](../REFERENCES.md#dora)** 把长度和方向分开：权重的每一行有一个可训练的长度 $m_i$，LoRA 负责转动方向：
#
# $$W_i = m_i\,\frac{(W_0 + sBA)_i}{\|(W_0 + sBA)_i\|},\qquad m \in \mathbb{R}^{d}$$
#
# 训练开始时 $m_i = \|(W_0)_i\|$。

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
base = nn.Linear(k, d)
model = with_peft(base, use_dora=True)
A, B = peft_pair(model)
m = model.base_model.model[0].lora_magnitude_vector["default"].weight
expect_close(m, base.weight.norm(dim=1), 1e-6, "DoRA: m at the start, and row lengths")
with torch.no_grad():
    B.normal_(std=0.3)
    m.mul_(1.1)
turned = base.weight + 2 * B @ A
W = m[:, None] * turned / turned.norm(dim=1, keepdim=True)
expect_close(model(X), X @ W.T + base.bias, 1e-5, "DoRA: output by the formula")

# %% [markdown] lang="en"
# **[QLoRA](REFERENCES.md#qlora)** leaves A and B alone and stores the *frozen* weights in 4 bits. Four bits name 16 levels, and weights
# are roughly normal, so NF4 places the levels at quantiles of the normal distribution, dense near zero. 64 weights share a
# scale, their largest magnitude. By hand, for a real weight of BERT:
#
# **Predict:** 16 levels instead of millions. How large is the error, relative to the weight? And is NF4 better than 16 evenly
# spaced levels?

# %% [markdown] lang="zh"
# **[QLoRA](../REFERENCES.md#qlora)** 不动 A 和 B，而是把*冻结*的权重存成 4 位。4 位能表示 16 个档，而权重大致服从正态分布，
# 所以 NF4 把档位放在正态分布的分位数上，零附近较密。64 个权重共用一个缩放系数，即它们绝对值的最大值。拿 BERT 里一个真实的权重，手工做一遍。
#
# **先猜一猜：** 从几百万种取值变成 16 档，误差占权重的多大比例？NF4 比均匀分布的 16 档好吗？


# %%
def normal_quantiles(count):  # the outermost as in bitsandbytes, the middle (0) left out
    return torch.special.ndtri(torch.linspace(0.9677083, 0.5, count + 1)[:-1])


levels = (
    torch.cat([-normal_quantiles(7), torch.zeros(1), normal_quantiles(8)]).sort().values
)
levels = levels / levels.max()


def in_four_bits(weight, levels):
    blocks = weight.reshape(-1, 64)
    scales = blocks.abs().amax(dim=1, keepdim=True)
    codes = (blocks[..., None] / scales[..., None] - levels).abs().argmin(dim=-1)  # 0 … 15
    return (levels[codes] * scales).reshape(weight.shape)


# %% tags=["nbval-check-output"]
weight = new_bert().bert.encoder.layer[0].intermediate.dense.weight.detach()
even = torch.linspace(-1, 1, 16)
errors = {
    name: ((in_four_bits(weight, values) - weight).norm() / weight.norm()).item()
    for name, values in {"NF4": levels, "even": even}.items()
}
expect(errors["NF4"], 0.08, 0.11, "NF4: error relative to the weight")
expect(errors["even"] / errors["NF4"], 1.02, 1.5, "even levels: error over NF4's")
bits = 4 + 32 / 64  # and one scale of 32 bits for 64 weights
expect_equal(32 / bits > 7, True, f"{bits} bits per weight, at least seven times less")

# %% [markdown] lang="en"
# An error of a tenth would be a poor fine-tuning, but A and B are trained *on top of the rounded weights* and make up for it. (Merge
# such an adapter into the rounded weights it was trained on, not into the originals.)
#
# Two variants without A and B. **[BitFit](REFERENCES.md#bitfit)** trains the bias vectors that are there anyway. **[Prompt
# tuning](REFERENCES.md#prompt-tuning)** puts trained vectors before the text, as if they were words.

# %% [markdown] lang="zh"
# 十分之一的误差，单看很糟糕；但 A 和 B 是*在舍入后的权重之上*训练的，会把它补回来。（这样的适配器要合并，就合并进训练时用的那份舍入过的权重，
# 不要合并进原来的。）
#
# 还有两种没有 A 和 B 的近亲。**[BitFit](../REFERENCES.md#bitfit)** 只训练本来就有的偏置。
# **[提示微调](../REFERENCES.md#prompt-tuning)**（prompt tuning）在文本前面放几个可训练的向量，就当它们是词。


# %% tags=["nbval-check-output"]
def count_trained(model):  # the classifier and the pooler before it, the head, left out
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    in_head = [
        n for name, n in trained.items() if "classifier." in name or "pooler." in name
    ]
    return sum(trained.values()) - sum(in_head)


bitfit, prompted = new_bert(), new_bert()
for name, parameter in bitfit.named_parameters():
    parameter.requires_grad = name.endswith(".bias")
prompts = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=20)
for model in (bitfit, get_peft_model(prompted, prompts), models["LoRA"]):
    print(f"{count_trained(model):,}")

# %% [markdown] lang="en"
# ## 10 · All of them on one task
#
# The same 512 film snippets, the same 128 steps of 8, the same 1,000 test snippets, the same batches and schedule.
# Each method got its learning rate from three, judged once on 300 validation snippets; then three other seeds were
# trained. `aigc pretrain lora-variants` does all of this and stored what the table shows. The head is trained by every
# method alike, at a rate of its own: the classifier, and the pooler before it, which all-MiniLM-L6-v2 has
# never used: its output hardly differs from text to text. (With the pooler frozen, and half as many steps, BitFit stayed at
# chance.) The table counts what is trained besides.
#
# The interval is over test snippets, with each snippet's score averaged over the seeds; beside it stand the worst and best
# seed. Memory is counted as in section 7, for a step of 16 snippets, with BERT's dropout on, for QLoRA as if the 4 bits were
# stored; time is CPU seconds of the training, to be compared within the table only.
#
# **Predict** an order, and how many of the differences are real.

# %% [markdown] lang="zh"
# ## 10 · 同一个任务，全部比一遍
#
# 同样的 512 条影评，同样 128 步、每步 8 条，同样的 1,000 条测试短评，批次和学习率曲线也都相同。每种方法的学习率从三个里选，
# 只在 300 条验证短评上看一次；然后换三个种子训练。这些都由 `aigc pretrain lora-variants` 完成，结果存了下来，就是下面的表。
# 输出头（head）在每种方法里都同样训练，学习率单独定：它包括分类头，以及前面的池化层（pooler），而 all-MiniLM-L6-v2 从没用过这个池化层。
# 它的输出在不同文本之间几乎没有差别。（把它冻住、步数减半时，BitFit 一直停在瞎猜的水平。）表里数的是除此之外训练了多少。
#
# 区间是对测试短评取的，每条短评的得分先在各个种子上平均；旁边是最差和最好的种子。内存的数法同第 7 节，按一步 16 条短评计，
# 开着 BERT 的 dropout，QLoRA 按真的存成 4 位来算；时间是训练用的 CPU 秒数，只能在表内比较。
#
# **先猜一猜**名次，以及有几处差别是真的。

# %%
import pandas

from aigc_helpers.metrics import bootstrap_interval

runs = pandas.DataFrame(read_log(DATA / "results" / "lora_variants.jsonl"))
runs = runs[runs["split"] == "test"]
right = {
    method: torch.tensor([[int(mark) for mark in line] for line in group["right"]]).float()
    for method, group in runs.groupby("method", sort=False)
}  # (seeds, snippets), 1 for a right answer
intervals = {method: bootstrap_interval(marks.mean(0)) for method, marks in right.items()}

# %%
by_method = runs.groupby("method", sort=False)
table = pandas.DataFrame(
    {"accuracy [95 %]": {name: str(each) for name, each in intervals.items()}}
)
seeds = {name: marks.mean(1) for name, marks in right.items()}
table["seeds"] = [f"{each.min():.3f}–{each.max():.3f}" for each in seeds.values()]
table["rate"] = by_method["learning_rate"].first().map("{:g}".format)
table["trained"] = by_method["trainable_parameters"].first().map("{:,.0f}".format)
for part in ("weight", "gradient", "optimizer", "activation"):
    table[f"{part} MB"] = (by_method[f"{part}_bytes"].first() / 1e6).map("{:.1f}".format)
table["CPU s"] = by_method["cpu_seconds"].median().map("{:.0f}".format)
table

# %% tags=["nbval-check-output"]
expect_equal(
    runs.groupby("method")["seed"].nunique().min() >= 3, True, "three seeds or more"
)
for method in right:
    if method != "LoRA":
        paired = bootstrap_interval((right[method] - right["LoRA"]).mean(0))
        sure = "differs" if paired.low * paired.high > 0 else "cannot be told apart"
        print(f"{method:13} − LoRA: {100 * paired.mean:+5.1f} points, {sure}")

# %%
from aigc_helpers.figures import draw_intervals

figure, (axes,) = new_figure(height=4.4)
draw_intervals(axes, list(intervals), [(i.low, i.mean, i.high) for i in intervals.values()])
axes.set_xlabel("test accuracy, mean of the seeds, 95 % interval over snippets")
alt_en = "One line per method; most intervals overlap with LoRA's."
show(figure, alt_en, "每种方法一条线；多数区间与 LoRA 的重叠。")

# %% [markdown] lang="en"
# Full fine-tuning is two and a half points ahead of LoRA, and trains three hundred times as many numbers. BitFit is five points behind,
# prompt tuning seventeen; rsLoRA, LoRA+, DoRA, PiSSA and QLoRA cannot be told apart from LoRA. (BitFit, PiSSA and prompt tuning found
# their best rate at the edge of their three, so a wider search might still bring them forward; and prompt tuning is known for large
# models and long trainings, which 128 steps are not.)
#
# Read such a table with care. Eight comparisons at 95 %: even if all nine were equally good, one table in three would show a
# "difference" by luck. The interval speaks of other snippets, the range of seeds of other trainings; a claim has to
# survive both. At rank 8, rsLoRA is LoRA with another α, LoRA+ with another rate for B (section 6), and each
# method was given its own rate: that they come out alike is no surprise. What is certain is in the columns to the right. QLoRA holds
# the weights in two thirds of the space; DoRA keeps a third more activations than LoRA, and prompt tuning the most of all, for
# its 20 tokens stand before every text.
#
# ## 11 · Rank, α, learning rate, targets
#
# The four settings of LoRA, all combinations of a small grid, one seed each: `aigc pretrain lora-sweep`. Judged on validation
# snippets, for choosing settings is what these are for.
#
# **Predict:** *"a higher rank is always better"*. At a fixed α and learning rate, is it? And with the best of them for each rank?

# %% [markdown] lang="zh"
# 全参数微调比 LoRA 高两个半点，训练的数却是三百倍。BitFit 落后五个点，提示微调落后十七个点；rsLoRA、LoRA+、DoRA、PiSSA、QLoRA
# 与 LoRA 分不出高下。（BitFit、PiSSA 和提示微调的最佳学习率都落在各自三个候选的边上，搜索范围再宽一些，或许还能往前赶；
# 提示微调本来就以大模型、长训练见长，128 步远远不够。）
#
# 这样的表要小心读。八次比较，每次 95 %：就算九种方法一样好，三张表里也会有一张因为运气冒出“差别”。
# 区间说的是换一批短评会怎样，种子的范围说的是换一次训练会怎样；一个结论要两关都过才行。秩为 8 时，rsLoRA 就是换了 α 的 LoRA，
# LoRA+ 就是给 B 换了学习率的 LoRA（第 6 节），而每种方法又都用了适合自己的学习率：结果相近并不奇怪。
# 确定无疑的是右边几列：QLoRA 的权重只占三分之二的空间；DoRA 保留的激活值比 LoRA 多三分之一；提示微调最多，因为每条文本前面都多了 20 个 token。
#
# ## 11 · 秩、α、学习率、目标模块
#
# LoRA 的四个设置，在一个小网格上全部组合一遍，每种一个种子：`aigc pretrain lora-sweep`。评判用的是验证集，因为挑设置正是它的用途。
#
# **先猜一猜：** “秩越高越好”——α 和学习率固定时，是这样吗？每个秩都配上最合适的 α 和学习率呢？

# %% tags=["nbval-check-output"]
from aigc_helpers.panels import SweepPanel, sweep_curves

grid = read_log(DATA / "results" / "lora_sweep.jsonl")
for targets in ("query, value", "all-linear"):
    for r in (2, 8, 32):
        curves = sweep_curves(grid, targets, r)
        settings = [
            (value, alpha, rate) for alpha in curves for rate, value in curves[alpha]
        ]
        value, alpha, rate = max(settings)
        fixed = dict(curves[16])[2e-3]
        best = f"best {value:.2f} (α = {alpha}, {rate:g})"
        print(f"{targets:12}  r = {r:2}  α = 16, rate 0.002: {fixed:.2f}   {best}")

# %% [markdown] lang="en"
# At α = 16 and a rate of 0.002, rank 32 is two points ahead of rank 2 at most; with the best α and rate for each rank, four
# points, and with all linear layers as targets rank 8 comes last. What decides is α and the learning rate *together*: at 0.002,
# α = 64 is the best choice for `query` and `value`; at 0.008 it is a coin toss at every rank (0.49); and with all linear layers as
# targets, two of three ranks fall to that at 0.002 already. More places to step from: a smaller step.
#
# One seed and 300 snippets: a few points between two settings are no difference. (Chapter 05 has the ranks with three seeds and
# all test snippets.)
#
# Move the sliders: for one rank and one choice of targets, the picture shows accuracy over the learning rate, a line for each
# α. The panel's code twin is the cell above.

# %% [markdown] lang="zh"
# 在 α = 16、学习率 0.002 时，秩 32 最多比秩 2 领先两个点；每个秩都配上最合适的 α 和学习率，也不过四个点，而且以全部线性层为目标时，
# 垫底的是秩 8。真正起决定作用的是 α 和学习率*合在一起*：`query`、`value` 上，学习率 0.002 时 α = 64 最好，到了 0.008，
# α = 64 在每个秩上都成了抛硬币（0.49）；以全部线性层为目标时，0.002 就已经让三个秩中的两个垮掉。同时迈步的地方多了，步子就得小一点。
#
# 只有一个种子、300 条短评：两种设置差几个点，不算差别。（第 05 章有三个种子、全部测试短评的秩对比。）
#
# 拖动滑块：选定秩和目标模块之后，图上是准确率随学习率的变化，每个 α 一条线。与面板等价的代码就是上面那个单元格。

# %% tags=["panel"]
from IPython.display import display

display(SweepPanel(grid))

# %% [markdown] lang="en"
# ## 12 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **04-1, change a number.** Return the scaling that PEFT applies, for a given rank, α and `use_rslora`.

# %% [markdown] lang="zh"
# ## 12 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **04-1，改一个数。** 给定秩、α 和 `use_rslora`，返回 PEFT 使用的缩放系数。

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def lora_scaling(rank, alpha, use_rslora):
    # begin solution
    return alpha / rank**0.5 if use_rslora else alpha / rank
    # end solution


check_exercise("04-1", lora_scaling)

# %% [markdown] lang="en"
# **04-2, how many directions?** Given a list of singular values, largest first, return the smallest rank r with E(r) ≥ `share`.

# %% [markdown] lang="zh"
# **04-2，需要几个方向？** 给定从大到小排列的奇异值列表，返回满足 E(r) ≥ `share` 的最小的秩 r。


# %% tags=["exercise", "nbval-check-output"]
def smallest_rank(singular_values, share):
    # begin solution
    total = sum(value**2 for value in singular_values)
    kept = 0.0
    for rank, value in enumerate(singular_values, start=1):
        kept += value**2
        if kept >= share * total:
            return rank
    # end solution


check_exercise("04-2", smallest_rank)

# %% [markdown] lang="en"
# **04-3, gradients.** Given X (n × k), G = ∂L/∂H (n × d), A (r × k), B (d × r) and the scaling s, return the pair
# (∂L/∂A, ∂L/∂B).

# %% [markdown] lang="zh"
# **04-3，梯度。** 给定 X（n × k）、G = ∂L/∂H（n × d）、A（r × k）、B（d × r）和缩放 s，返回一对 (∂L/∂A, ∂L/∂B)。


# %% tags=["exercise", "nbval-check-output"]
def lora_gradients(X, G, A, B, s):
    # begin solution
    return s * (G @ B).T @ X, s * G.T @ (X @ A.T)
    # end solution


check_exercise("04-3", lora_gradients)

# %% [markdown] lang="en"
# **04-4, write it yourself.** The LoRA forward for a `Conv1D`: given X (n × k), its weight W₀ (k × d, the other way round!), A
# (r × k), B (d × r) and α, return the output (n × d). No bias.

# %% [markdown] lang="zh"
# **04-4，自己动手。** 写出 `Conv1D` 的 LoRA 前向：给定 X（n × k）、权重 W₀（k × d，是倒着放的！）、A（r × k）、B（d × r）和 α，
# 返回输出（n × d）。没有偏置。


# %% tags=["exercise", "nbval-check-output"]
def conv1d_with_lora(X, weight, A, B, alpha):
    # begin solution
    return X @ weight + alpha / A.shape[0] * (X @ A.T) @ B.T
    # end solution


check_exercise("04-4", conv1d_with_lora)

# %% [markdown] lang="en"
# ## Summary
#
# - A real update is concentrated, not low-rank: of 384 directions, eight hold about two thirds of it and nearly all of its use.
# - W = W₀ + (α/r) BA. The product is of low rank, not B or A. One of them starts at zero: exact start, and something moves.
# - The frozen weight has no gradient and no optimizer state. It is still there, and so are most activations.
# - α is a constant of the model; under Adam, doubling it is doubling B's learning rate.
# - Merge in fp32, round once. In bf16 a small update can drown.
# - rsLoRA: α/√r. LoRA+: a faster B. PiSSA: another start. DoRA: lengths apart. QLoRA: 4-bit frozen weights. Compare them with
#   a learning rate of their own each, several seeds and an interval, or not at all.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `element 0 of tensors does not require grad and does not have a grad_fn` | all is frozen, A and B as well, or they were loaded for inference | `PeftModel.from_pretrained(..., is_trainable=True)`; with gradient checkpointing: `model.enable_input_require_grads()` |
# | `mat1 and mat2 shapes cannot be multiplied` in a layer of your own | a `Conv1D` weight is (inputs, outputs) | transpose; in PEFT `fan_in_fan_out=True` |
# | `The size of tensor a (7) must match the size of tensor b (9)` in a convolution | PEFT 0.21 leaves `dilation` out when it makes A | do not target dilated convolutions; `thin_pair` above has it |
# | the loss stands still from the first step | A and B are both zero | only one may be |
# | training starts worse than the base model | neither is zero | zero one of them |
# | α or rank changed, and training diverges | the step grew with it | look for the learning rate anew |
# | answers change after merging in bf16 | rounding | merge in fp32, round once |
# | a PiSSA adapter on the plain base gives nonsense | it belongs to the frozen remainder | `save_pretrained(..., path_initial_model_for_weight_conversion=...)` turns it into a LoRA |
#
# **Where next:** chapter 05 puts the layer to work on BERT, chapter 06 on GPT-2.

# %% [markdown] lang="zh"
# ## 小结
#
# - 真实的更新量是集中的，而不是低秩的：384 个方向里，8 个占了大约三分之二的长度平方、几乎全部的用处。
# - W = W₀ + (α/r) BA。低秩的是乘积，不是 B 或 A。两者之一从零开始：起点分毫不差，又有东西能动。
# - 冻结的权重没有梯度，也没有优化器状态；但它自己还在，大部分激活值也还在。
# - α 是模型里的常数；在 Adam 下，把它翻倍等于把 B 的学习率翻倍。
# - 在 fp32 里合并，只舍入一次。小的更新量在 bf16 里可能被淹没。
# - rsLoRA：α/√r。LoRA+：B 学得快些。PiSSA：换个起点。DoRA：长度单列。QLoRA：冻结的权重存成 4 位。
#   要比较，就各调各的学习率，多跑几个种子，给出区间；不然就别比。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `element 0 of tensors does not require grad and does not have a grad_fn` | 全冻住了，连 A 和 B 也是；或者是按推理方式加载的 | `PeftModel.from_pretrained(..., is_trainable=True)`；用梯度检查点时加 `model.enable_input_require_grads()` |
# | 自己写的层里报 `mat1 and mat2 shapes cannot be multiplied` | `Conv1D` 的权重是（输入，输出） | 转置；在 PEFT 里写 `fan_in_fan_out=True` |
# | 卷积层里报 `The size of tensor a (7) must match the size of tensor b (9)` | PEFT 0.21 建 A 时漏掉了 `dilation` | 不要把空洞卷积列为目标；上面的 `thin_pair` 带着它 |
# | 损失从第一步起就不动 | A 和 B 都是零 | 只能有一个是零 |
# | 训练一开始就比基座差 | 两个都不是零 | 把其中一个置零 |
# | 改了 α 或秩，训练就发散 | 步幅跟着变大了 | 重新找学习率 |
# | 在 bf16 里合并之后，回答变了 | 舍入 | 在 fp32 里合并，只舍入一次 |
# | PiSSA 适配器装到原来的基座上，输出不成话 | 它对应的是冻结的剩余部分 | `save_pretrained(..., path_initial_model_for_weight_conversion=...)` 可以转成普通 LoRA |
#
# **下一步：** 第 05 章把这一层用在 BERT 上，第 06 章用在 GPT-2 上。
