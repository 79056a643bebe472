# %% [markdown] lang="en"
# # 15 · What the articles get wrong
#
# {{badge}}
#
# **What you will be able to do:** put a sentence from an article to a test of a few lines, and say whether it is true,
# half true or false; name today's spelling of the calls that old articles print; tell an error that stops you from one
# that does not; and answer, with measurements, the four questions that readers ask most: train from scratch or
# not, which settings, how to judge, and where else this works.
#
# | | every profile |
# |---|---|
# | models | `bert`, `poet` and `sd`, as they come with the workbook, and two of its LoRAs |
# | time | under 3 minutes on two CPU cores |
# | memory | 1.6 GB |
# | download | none once the workbook is set up |
#
# You need the idea of [LoRA](GLOSSARY.md#lora), as in chapter 05. Each claim names the chapter that has more. No article is
# quoted by name: most of what is wrong today was right when it was written, and all of us have copied such a line.

# %% [markdown] lang="zh"
# # 15 · 文章里的错误
#
# {{badge}}
#
# **学完本章，你能够：** 用几行代码检验文章里的一句话，说清它是对、对一半还是错；把旧文章里的调用换成今天的写法；
# 分清哪些错误会报错、哪些一声不响；并用测量结果回答读者最常问的四个问题：要不要从头训练、参数怎么选、怎么评判、还能用在哪里。
#
# | | 所有配置 |
# |---|---|
# | 模型 | 本书自带的 `bert`、`poet`、`sd`，以及两个 LoRA |
# | 时间 | 两个 CPU 核心不到 3 分钟 |
# | 内存 | 1.6 GB |
# | 下载 | 装好本书之后不再需要 |
#
# 需要知道 [LoRA](../GLOSSARY.md#lora) 是怎么回事（第 05 章）。每条说法都会指出哪一章有详解。本章不点名任何一篇文章：
# 今天看来错的，写的时候多半是对的；这样的代码，我们谁都抄过。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · How a claim is tested
#
# A claim is put to questions that a few lines of code can answer with yes or no, so that *yes* is what the claim
# promises. All yes: the claim is **true**. None: **false**. Some: **half true**. The decorator `@claim(number)` runs
# the function below it at once and prints its answers. `runs` tells whether a call runs; if not, it prints the part
# of the message that matters. An error other than the one named stops the chapter.
#
# One function, used throughout: a copy of a model with a LoRA on the layers named.

# %% [markdown] lang="zh"
# ## 1 · 怎么检验
#
# 把一条说法化成几个用代码就能回答的是非题，答“是”就是说法所许诺的。全是“是”：**对**；一个也没有：**错**；有的是、有的不是：**对一半**。
# 装饰器 `@claim(编号)` 会立刻运行它下面的函数，并打印各题的答案。`runs` 判断一个调用能不能跑通；跑不通，就打印报错里要紧的那一段。
# 如果出的是别的错，整章就会停下来。
#
# 还有一个从头用到尾的函数：复制一个模型，在指定的层上装 LoRA。

# %%
from copy import deepcopy
from functools import partial

import torch
from aigc_helpers import install
from aigc_helpers.notebook import Claims, claims_of_chapter, expect, expect_close
from aigc_helpers.notebook import expect_equal, runs
from aigc_helpers.profile import choose_profile
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM as Causal
from transformers import AutoModelForSequenceClassification as Classifier
from transformers import AutoTokenizer, set_seed

# %%
choose_profile("embedded")
set_seed(0)
bert = Classifier.from_pretrained(install("bert", "embedded")).eval()
poet = Causal.from_pretrained(install("poet"), dtype=torch.float32).eval()
claims = Claims(claims_of_chapter("15"))
claim = claims.test
ABSENT = "not found in the base model"


def with_lora(model, *names):
    config = LoraConfig(r=8, lora_alpha=16, target_modules=list(names))
    return get_peft_model(deepcopy(model), config)


# %%
from aigc_helpers.text import load_forms, load_known_texts, load_reviews, predict_logits

bert_tokenizer = AutoTokenizer.from_pretrained(install("bert", "embedded"))
few = load_reviews("test")["text"].head(20).tolist()
logits_of = partial(predict_logits, tokenizer=bert_tokenizer, texts=few)
tokenizer = AutoTokenizer.from_pretrained(install("poet"))


def encode(texts):
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [[tokenizer.bos_token_id, *each, tokenizer.eos_token_id] for each in ids]


# %% [markdown] lang="en"
# ## 2 · Names that are not there
#
# **Predict** for each claim, here and below: true, half true or false?
#
# **1** · `from transformers import LoraConfig`
#
# **2** · `model.add_lora(r=8)`
#
# **3** · `target_modules=["q", "v"]` on BERT
#
# **4** · `target_modules=["q_proj", "v_proj"]` on GPT-2
#
# **5** · If a name in `target_modules` is wrong, PEFT says so.

# %% [markdown] lang="zh"
# ## 2 · 根本没有的名字
#
# **先猜一猜：** 从这里起，每条说法都猜一下，是对、对一半，还是错？
#
# **1** · `from transformers import LoraConfig`
#
# **2** · `model.add_lora(r=8)`
#
# **3** · 在 BERT 上写 `target_modules=["q", "v"]`
#
# **4** · 在 GPT-2 上写 `target_modules=["q_proj", "v_proj"]`
#
# **5** · `target_modules` 里名字写错了，PEFT 会告诉你。

# %% tags=["nbval-check-output"]
import diffusers
import peft
import transformers


@claim(1)
def lora_config_is_in_transformers():
    return {"transformers has it": hasattr(transformers, "LoraConfig")}


@claim(2)
def a_model_has_add_lora():
    return {
        "the call runs": runs(lambda: bert.add_lora(r=8), "has no attribute 'add_lora'")
    }


# %% tags=["nbval-check-output"]
@claim(3)
def bert_has_q_and_v():
    return {"PEFT finds them": runs(lambda: with_lora(bert, "q", "v"), ABSENT)}


@claim(4)
def gpt2_has_q_proj_and_v_proj():
    return {"PEFT finds them": runs(lambda: with_lora(poet, "q_proj", "v_proj"), ABSENT)}


@claim(5)
def a_wrong_name_is_reported():
    none = runs(lambda: with_lora(bert, "querry", "vaule"), ABSENT)
    some = runs(lambda: with_lora(bert, "query", "vaule"), ABSENT)
    return {"no name matches: an error": not none, "one of two does: an error": not some}


# %% [markdown] lang="en"
# `LoraConfig` and `get_peft_model` are PEFT's. transformers' own method is `add_adapter`, which takes PEFT's
# configuration. Names of modules belong to one family of models: `q`, `v` are T5's, `q_proj`, `v_proj` Llama's, BERT has
# `query` and `value`, GPT-2 has `c_attn`. And the costly mistake is the one without a message: with one of two names
# misspelt, half of the adapter is missing, and the training runs. (`check_target_modules` of this workbook refuses it.
# Chapters 05 and 06.)
#
# ## 3 · Names that were once right
#
# **6** · `AdamW`, `AutoModelWithLMHead` and `TextDataset` are in transformers, `prepare_model_for_int8_training` is in
# PEFT, and `pipeline("summarization")` sums up.
#
# **7** · `evaluation_strategy`, `no_cuda`, `warmup_ratio`, `Trainer(tokenizer=…)`, `use_auth_token` are accepted.
#
# **8** · `from_pretrained` loads in float32 unless told otherwise.

# %% [markdown] lang="zh"
# `LoraConfig` 和 `get_peft_model` 都是 PEFT 的。transformers 自己的方法叫 `add_adapter`，参数就是 PEFT 的配置。模块名各家族不同：
# `q`、`v` 是 T5 的，`q_proj`、`v_proj` 是 Llama 的，BERT 用 `query` 和 `value`，GPT-2 用 `c_attn`。代价最大的是不报错的那种错：
# 两个名字写错一个，适配器就少了一半，训练照跑不误。（本书的 `check_target_modules` 会拒绝。见第 05、06 章。）
#
# ## 3 · 曾经对的名字
#
# **6** · transformers 里有 `AdamW`、`AutoModelWithLMHead`、`TextDataset`，PEFT 里有 `prepare_model_for_int8_training`，`pipeline("summarization")` 会写摘要。
#
# **7** · 可以写 `evaluation_strategy`、`no_cuda`、`warmup_ratio`、`Trainer(tokenizer=…)` 和 `use_auth_token`。
#
# **8** · 不特别指定，`from_pretrained` 就按 float32 加载。

# %% tags=["nbval-check-output"]
from transformers import pipeline as task_pipeline


@claim(6)
def old_names_are_there():
    old = ("AdamW", "AutoModelWithLMHead", "TextDataset")
    answers = {f"transformers.{name}": hasattr(transformers, name) for name in old}
    name = "prepare_model_for_int8_training"
    answers[f"peft.{name}"] = hasattr(peft, name)
    call = partial(task_pipeline, "summarization")
    messages = ("has been removed from transformers", "Unknown task")  # later, and 5.15
    return answers | {'pipeline("summarization")': runs(call, *messages)}


# %% tags=["nbval-check-output"]
from tempfile import mkdtemp

from huggingface_hub import hf_hub_download
from transformers import Trainer, TrainingArguments


@claim(7)
def old_arguments_are_accepted():
    arguments = partial(TrainingArguments, mkdtemp())
    old = {"evaluation_strategy": "epoch", "no_cuda": True, "warmup_ratio": 0.1}
    calls = {name: partial(arguments, **{name: value}) for name, value in old.items()}
    calls["tokenizer"] = partial(Trainer, bert, tokenizer=None)
    calls["use_auth_token"] = partial(hf_hub_download, "a/b", "c", use_auth_token=True)
    message = "got an unexpected keyword argument '{}'"
    return {name: runs(call, message.format(name)) for name, call in calls.items()}


# %% tags=["nbval-check-output"]
from diffusers import UNet2DConditionModel

today = {"eval_strategy": "epoch", "use_cpu": True, "warmup_steps": 0.1}
expect_equal(TrainingArguments(mkdtemp(), **today).warmup_steps, 0.1, "today's names run")
sd = install("sd", "embedded")  # its files hold float16, and so do the poet's


@claim(8)
def from_pretrained_loads_in_float32():
    by_transformers = Causal.from_pretrained(install("poet")).dtype
    by_diffusers = UNet2DConditionModel.from_pretrained(sd / "unet").dtype
    by = {"transformers": by_transformers, "diffusers": by_diffusers}
    return {name: dtype == torch.float32 for name, dtype in by.items()}


# %% [markdown] lang="en"
# Claims 6 and 7 were right once: most of these names were changed in the course of version 4 of transformers, and are gone in
# version 5 (the *migration guide* in its documentation has the list); PEFT and huggingface_hub renamed theirs, too. The test of
# today's spelling is that it runs. And transformers 4 did load in float32; version 5 keeps what the file has, here float16. So say which: `dtype=torch.float32`. (The older
# spelling `torch_dtype` still works in transformers, and is the one in diffusers.)
#
# ## 4 · Formulas
#
# The test object is a trained layer: `query` of BERT's first layer, with the film adapter that comes with the workbook.
#
# **9** · h′ = h + Ah(Bh)ᵀ
#
# **10** · W′ = W + WBAᵀ
#
# **11** · B is the low-rank matrix, and A the adapter matrix.
#
# **12** · A new LoRA changes no answer before the first step.

# %% [markdown] lang="zh"
# 说法 6、7 曾经是对的：这些名字大多在 transformers 4 的各个版本里陆续改掉，到 5 就没有了（完整的清单见其文档里的*迁移指南*）；
# PEFT 和 huggingface_hub 也改了自己的。新写法对不对，跑一下就知道。另外，transformers 4 确实按 float32 加载，5 则保留文件里的精度，
# 这里是 float16。所以要写明：`dtype=torch.float32`。（旧写法 `torch_dtype` 在 transformers 里还能用；在 diffusers 里，参数就叫这个名字。）
#
# ## 4 · 公式
#
# 拿一个训练过的层来检验：BERT 第一层的 `query`，装着本书自带的影评适配器。
#
# **9** · h′ = h + Ah(Bh)ᵀ
#
# **10** · W′ = W + WBAᵀ
#
# **11** · B 是低秩矩阵，A 是适配矩阵。
#
# **12** · 刚装上的 LoRA，在第一步之前不改变任何输出。

# %% tags=["nbval-check-output"]
from aigc_helpers.paths import DATA

film = PeftModel.from_pretrained(deepcopy(bert), DATA / "film_adapter").eval()
layer = film.base_model.model.bert.encoder.layer[0].attention.self.query
W = layer.base_layer.weight.detach().clone()
A, B = (part["default"].weight.detach() for part in (layer.lora_A, layer.lora_B))
h = torch.randn(384, 1)
print("W", tuple(W.shape), " A", tuple(A.shape), " B", tuple(B.shape))
update = layer.get_delta_weight("default").detach()
expect_close(update, 16 / 8 * B @ A, 1e-5, "what PEFT adds to W, and α/r · BA")


# %% tags=["nbval-check-output"]
@claim(9)
def the_formula_for_h():
    once, twice = ((A @ each) @ (B.T @ each).T for each in (h, 2 * h))  # B turned round
    allowed = runs(lambda: h + (A @ h) @ (B @ h).T, "cannot be multiplied")
    linear = torch.allclose(twice, 2 * once)
    return {"the shapes allow it": allowed, "it is linear": linear}


@claim(10)
def the_formula_for_w():
    allowed = runs(lambda: W + W @ B @ A.T, "cannot be multiplied")
    same = torch.allclose(W @ B @ A, update, atol=1e-3)  # A turned round
    return {"the shapes allow it": allowed, "with A turned round, PEFT adds it": same}


# %% tags=["nbval-check-output"]
@claim(11)
def one_is_of_low_rank_the_other_the_adapter():
    alone, x = deepcopy(layer), torch.randn(5, 384)
    torch.nn.init.zeros_(alone.lora_B["default"].weight)
    low = torch.linalg.matrix_rank(B).item() < min(B.shape)
    moves = not torch.equal(alone(x), alone.base_layer(x))
    return {"B's rank is below what its shape allows": low, "A alone does something": moves}


@claim(12)
def a_new_lora_changes_nothing():
    new = with_lora(bert, "query", "value")
    return {"same logits, to the bit": torch.equal(logits_of(new), logits_of(bert))}


# %% [markdown] lang="en"
# The formulas are misprints that were copied on; the first would not even be linear, so no library could merge it. Which
# matrix is called A and which B is a matter of notation; here A reads (r × k) and B writes (d × r), as in the [LoRA
# paper](REFERENCES.md#lora) and in PEFT: **h = W₀x + (α/r)·B(Ax)**, and merged **W = W₀ + (α/r)·BA**. Of low
# [rank](GLOSSARY.md#rank) is the *product* BA, and both matrices together are the [adapter](GLOSSARY.md#adapter). Claim 12
# is true: B starts at 0.
#
# **13** · Alpha is a learning rate.
#
# [LoRA+](REFERENCES.md#lora-plus) is an optimizer that lets B learn faster than A. With it the claim can be run: alpha
# doubled, against B twice as fast, on a small layer.

# %% [markdown] lang="zh"
# 那两个公式都是抄来抄去的笔误；第一个连线性都不是，没有哪个库能把它合并。哪个矩阵叫 A、哪个叫 B，只是记号问题；这里 A 负责读（r × k），
# B 负责写（d × r），与 [LoRA 论文](../REFERENCES.md#lora)和 PEFT 一致：**h = W₀x + (α/r)·B(Ax)**，合并后 **W = W₀ + (α/r)·BA**。
# [秩](../GLOSSARY.md#rank)低的是*乘积* BA，两个矩阵合起来才叫[适配器](../GLOSSARY.md#adapter)。说法 12 是对的：B 从 0 开始。
#
# **13** · alpha 就是学习率。
#
# [LoRA+](../REFERENCES.md#lora-plus) 的优化器让 B 比 A 学得快，有了它就能直接检验：在一个小层上，比较“alpha 翻倍”和“B 快一倍”。

# %%
from peft.optimizers import create_loraplus_optimizer


def trained_update(alpha, ratio, optimizer_class):
    set_seed(0)
    x, y, linear = torch.randn(64, 16), torch.randn(64, 24), torch.nn.Linear(16, 24)
    config = LoraConfig(r=4, lora_alpha=alpha, target_modules=["0"])
    model = get_peft_model(torch.nn.Sequential(linear), config)
    rates = {"lr": 1e-2, "loraplus_lr_ratio": ratio}  # lr of A, and B's over A's
    optimizer = create_loraplus_optimizer(model, optimizer_class, **rates)
    for _ in range(100):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return model.base_model.model[0].get_delta_weight("default").detach()


# %% tags=["nbval-check-output"]
@claim(13)
def alpha_is_a_learning_rate():
    config = LoraConfig.from_pretrained(DATA / "film_adapter")
    config.lora_alpha *= 2
    louder = PeftModel.from_pretrained(deepcopy(bert), DATA / "film_adapter", config=config)
    gone = torch.equal(logits_of(louder), logits_of(film))
    answers = {"when training is over, alpha no longer counts": gone}
    for optimizer in (torch.optim.Adam, torch.optim.SGD):
        pair = trained_update(16, 1, optimizer), trained_update(8, 2, optimizer)
        question = f"{optimizer.__name__}: alpha doubled is B twice as fast"
        answers[question] = torch.allclose(*pair, atol=1e-4)
    return answers


# %% [markdown] lang="en"
# So there is a core of truth, under Adam and for B alone (chapter 04, section 6, has the reason). But a learning rate is
# gone when training ends; [alpha](GLOSSARY.md#alpha) is stored with the file, and counts for ever.
#
# ## 5 · Training
#
# **14** · Back-propagation updates the pretrained weights, too.
#
# **15** · Make the optimizer first or call `get_peft_model` first: it is the same.
#
# For 14, as many articles do, the optimizer is handed *all* parameters. Then three steps are taken, and bytes are compared.

# %% [markdown] lang="zh"
# 可见这话有一点道理：在 Adam 下，而且只对 B 而言（原因见第 04 章第 6 节）。但学习率在训练结束后就没有了，
# [alpha](../GLOSSARY.md#alpha) 却存在文件里，一直起作用。
#
# ## 5 · 训练
#
# **14** · 反向传播也会更新预训练权重。
#
# **15** · 先建优化器，还是先 `get_peft_model`，都一样。
#
# 检验 14 时，按许多文章的写法，把*全部*参数都交给优化器，走三步，再逐字节比较。

# %%
batch = dict(bert_tokenizer(few, padding=True, return_tensors="pt"))
batch["labels"] = torch.tensor([0, 1] * 10)


def changed_in_three_steps(model, optimizer):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    changed = {"pretrained": 0, "LoRA": 0}
    for name, p in model.named_parameters():
        differ = p.detach().view(torch.uint8) != before[name].view(torch.uint8)
        changed["LoRA" if "lora_" in name else "pretrained"] += int(differ.sum())
    return changed


# %% tags=["nbval-check-output"]
@claim(14)
def pretrained_weights_are_updated():
    model = with_lora(bert, "query", "value")
    changed = changed_in_three_steps(model, torch.optim.AdamW(model.parameters()))
    print(f"    the LoRA has moved: {changed['LoRA'] > 0}")
    return {"a byte of the pretrained weights changes": changed["pretrained"] > 0}


@claim(15)
def the_order_does_not_matter():
    model = deepcopy(bert)
    optimizer = torch.optim.AdamW(model.parameters())
    model = get_peft_model(model, LoraConfig(target_modules=["query", "value"]))
    return {"a byte changes then": any(changed_in_three_steps(model, optimizer).values())}


# %% [markdown] lang="en"
# Not a byte. The [gradient](GLOSSARY.md#gradient) passes *through* the frozen weights to the layers below; it is only not
# kept *for* them. And with the optimizer made first, not a byte changes anywhere: it holds the weights that were
# frozen afterwards, and not the new ones. No error is raised.
#
# **16** · A loaded adapter can be trained on at once.
#
# **17** · A language model's labels must be shifted by one; compute the loss a second time on shifted logits.
#
# **18** · LoRA trains 1 % of the weights, so it takes 1 % of memory and time.
#
# The figures for 18 are chapter 04's: film reviews on `bert`, everything but the method alike (`aigc pretrain
# lora-variants`).

# %% [markdown] lang="zh"
# 一个字节都没变。[梯度](../GLOSSARY.md#gradient)*穿过*冻结的权重传到下面的层，只是不*为*它们保留。而先建优化器，则是哪里都一个字节没变：
# 它手里只有后来被冻结的那些权重，没有新加的。也不报错。
#
# **16** · 加载好的适配器可以直接接着训练。
#
# **17** · 语言模型的标签要移一位；要在移位后的 logits 上再算一次损失。
#
# **18** · LoRA 只训练 1 % 的权重，所以内存和时间也只要 1 %。
#
# 18 用的数据来自第 04 章：在 `bert` 上做影评分类，除方法之外一切相同（`aigc pretrain lora-variants`）。

# %% tags=["nbval-check-output"]
from torch.nn.functional import cross_entropy

ids = torch.tensor(encode(load_known_texts(1, "embedded")))


@claim(16)
def a_loaded_adapter_is_trainable():
    return {"a parameter is trainable": film.get_nb_trainable_parameters()[0] > 0}


again = PeftModel.from_pretrained(deepcopy(bert), DATA / "film_adapter", is_trainable=True)
expect_equal(again.get_nb_trainable_parameters()[0], 74498, "with is_trainable=True")


# %% tags=["nbval-check-output"]
@claim(17)
@torch.no_grad()
def labels_must_be_shifted():
    output = poet(ids, labels=ids)
    second = cross_entropy(output.logits[0, :-1], ids[0, 1:])
    shifted = poet(ids[:, :-1], labels=ids[:, 1:]).loss
    print(f"    {output.loss:.1f}; a second time {second:.1f}; shifted first {shifted:.1f}")
    return {
        "the second loss is another one": abs(second - output.loss).item() > 1e-3,
        "shifted first, the loss is the same": abs(shifted - output.loss).item() < 0.1,
    }


# %% tags=["nbval-check-output"]
import pandas

names = ("lora_variants", "lora_sweep", "film_rank_sweep", "sepia_rank_sweep")
files = {name: DATA / "results" / f"{name}.jsonl" for name in names}
stored = {n: pandas.read_json(file, lines=True, dtype=False) for n, file in files.items()}
judged = stored["lora_variants"].query("split == 'test'")


@claim(18)
def memory_and_time_shrink_alike():
    costs = [name for name in judged if name.endswith(("_bytes", "cpu_seconds"))]
    median = judged.groupby("method")[costs].median()
    shares = median.loc["LoRA"] / median.loc["full"]
    print("    of full:", {name: f"{share:.0%}" for name, share in shares.items()})
    return {f"{name}: under 2 %": share < 0.02 for name, share in shares.items()}


# %% [markdown] lang="en"
# An adapter is loaded for inference; say `is_trainable=True`. The model shifts by itself: the second loss is the same
# number, and computing it is work done twice; but shifting *before* the call teaches the model to leave out a token (chapter 06,
# section 3). Gradients and the state of the [optimizer](GLOSSARY.md#optimizer) shrink as promised. The weights have to
# be there all the same, most of what the backward pass needs is kept, and the time is about halved, no more: every step still goes
# forwards through the whole model, and backwards as far down as there is an adapter.
#
# ## 6 · Files and merging
#
# **19** · The LoRA model file contains the architecture.
#
# **20** · The trained parameters end up in `model.base_model.model`.
#
# **21** · Switch the adapter off, and the base is back, bit for bit.
#
# **22** · Merging is free.

# %% [markdown] lang="zh"
# 适配器是按推理方式加载的，要训练就写 `is_trainable=True`。模型自己会移位：第二次算出来的是同一个数，白费一遍功夫；
# 但在调用*之前*移位，等于教模型跳过一个 token（第 06 章第 3 节）。梯度和[优化器](../GLOSSARY.md#optimizer)状态确实像说的那样缩小了。可是权重照样要在，反向传播所需的中间结果大半还留着，
# 时间只省一半左右：每一步仍要把整个模型前向走一遍，再反向走到最底下的那个适配器。
#
# ## 6 · 文件与合并
#
# **19** · LoRA 的模型文件里有网络结构。
#
# **20** · 训练好的参数在 `model.base_model.model` 里。
#
# **21** · 关掉适配器，基座就原样回来，一个比特都不差。
#
# **22** · 合并是免费的。

# %% tags=["nbval-check-output"]
from safetensors.torch import load_file


@claim(19)
def the_file_holds_the_architecture():
    folder = DATA / "film_adapter"
    config = (folder / "adapter_config.json").read_text()
    names = load_file(folder / "adapter_model.safetensors").keys()
    others = [name for name in names if "lora_" not in name and "classifier" not in name]
    print("    tensors that are neither A nor B nor the head:", others)
    sized = "hidden_size" in config or "num_hidden_layers" in config
    alone = partial(Classifier.from_pretrained, folder, local_files_only=True)
    built = runs(alone, "couldn't find them in the cached files")
    return {"it says how deep or wide": sized, "a model comes of it alone": built}


# %% tags=["nbval-check-output"]
@claim(20)
def the_parameters_end_up_there():
    inside = [name for name, _ in film.base_model.model.named_parameters()]
    of_lora = sum("lora_" in name for name in inside)
    print(f"    {of_lora} of {len(inside)} tensors there are A or B")
    return {
        "A and B are there": of_lora == 2 * 12,
        "nothing else is": of_lora == len(inside),
    }


@claim(21)
def switched_off_the_base_is_back():
    with film.disable_adapter():
        return {"same logits, to the bit": torch.equal(logits_of(film), logits_of(bert))}


# %% tags=["nbval-check-output"]
from aigc_helpers import merge


@claim(22)
def merging_is_free():
    film.merge_adapter()
    film.unmerge_adapter()
    answers = {"taken out again, the old bits": torch.equal(layer.base_layer.weight, W)}
    for dtype, scale in ((torch.float32, 1), (torch.bfloat16, 1), (torch.bfloat16, 0.2)):
        with merge(deepcopy(bert).to(dtype), DATA / "film_adapter", scale) as merged:
            lost = max(one.relative_error for one in merged.roundings)
        print(f"    {dtype}, scale {scale}: {lost:.1%} of the update is lost at worst")
        answers[f"{dtype}, scale {scale}: under 0.1 % is lost"] = lost < 1e-3
    return answers


# %% [markdown] lang="en"
# The [weight file](GLOSSARY.md#weight-file) holds A and B of each layer, and here the head; without the base there is no model.
# `model.base_model.model` *is* the whole model, base and adapter together: to save the adapter alone, call
# `model.save_pretrained`. (The names in its file do begin with `base_model.model.`) Claim 21 is true, and is why several adapters can
# share one base.
#
# [Merging](GLOSSARY.md#merge) rounds the sum to the numbers that the weight's format has. Our adapter is strong, so little of it is lost; the
# smaller the update, the larger the share, as the scale of 0.2 shows (chapter 04, section 8, has updates that drown). What merging
# does save is the time of the extra products.
#
# ## 7 · Stable Diffusion
#
# **23** · Stable Diffusion 1.5 is at `runwayml/stable-diffusion-v1-5`.
#
# The repository was removed in 2024. To see what happens then takes no network: a [hub](GLOSSARY.md#hub) of our own, on 127.0.0.1,
# has the new repository and not the old one, and the library is asked for both.
#
# **24** · `revision="fp16"` loads half precision.
#
# **25** · The picture is `pipe(prompt)[:1]`, or `pipe(prompt)["sample"][0]`.

# %% [markdown] lang="zh"
# [权重文件](../GLOSSARY.md#weight-file)里是每层的 A 和 B，这里还有分类头；没有基座，就没有模型。
# `model.base_model.model` *就是*整个模型，基座和适配器都在：只想存适配器，就用 `model.save_pretrained`。
# （文件里的名字倒确实以 `base_model.model.` 开头。）说法 21 是对的，所以多个适配器才能共用一个基座。
#
# [合并](../GLOSSARY.md#merge)时，和要舍入到权重的格式所能表示的数。我们的适配器力度大，丢得少；更新量越小，丢的比例越大，强度 0.2 那一行就是例子
# （第 04 章第 8 节里有整个淹没掉的）。合并真正省下的，是多出来的那两次乘法的时间。
#
# ## 7 · Stable Diffusion
#
# **23** · Stable Diffusion 1.5 在 `runwayml/stable-diffusion-v1-5`。
#
# 这个仓库 2024 年就删了。想看看那时会见到什么，用不着联网：在 127.0.0.1 上开一个自己的 [hub](../GLOSSARY.md#hub)，
# 上面有新仓库，没有旧仓库，再让下载库分别去要。
#
# **24** · 写 `revision="fp16"` 就按半精度加载。
#
# **25** · 图片是 `pipe(prompt)[:1]`，或者 `pipe(prompt)["sample"][0]`。

# %%
import os
import subprocess
import sys


def download(repository, address):  # in a process of its own: these are read at import
    program = (
        "from huggingface_hub import hf_hub_download as get; import sys; get(*sys.argv[1:])"
    )
    ours = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": mkdtemp()}
    command = [sys.executable, "-c", program, repository, "model_index.json"]
    done = subprocess.run(command, env=os.environ | ours, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr)


# %% tags=["nbval-check-output"]
from aigc_helpers.notebook import LoopbackHub

new_home = "stable-diffusion-v1-5/stable-diffusion-v1-5"
hub = LoopbackHub(new_home, {"model_index.json": (sd / "model_index.json").read_bytes()})


@claim(23)
def it_is_at_runwayml():
    call = partial(download, "runwayml/stable-diffusion-v1-5", hub.address)
    return {"the hub has it": runs(call, "Repository Not Found for url")}


expect_equal(download(new_home, hub.address), None, "error from the new repository")
hub.close()


# %%
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.utils.logging import disable_progress_bar

disable_progress_bar()


def new_pipe(**settings):
    made = StableDiffusionPipeline.from_pretrained(sd, **settings)
    made.set_progress_bar_config(disable=True)
    made.scheduler = DDIMScheduler.from_config(made.scheduler.config)
    return made


pipe, careless = new_pipe(torch_dtype=torch.float32), new_pipe(revision="fp16")
fox = partial(pipe, "fox, noto style, blue background", num_inference_steps=2)


# %% tags=["nbval-check-output"]
@claim(24)
def revision_chooses_the_precision():
    draws = runs(lambda: careless("fox", num_inference_steps=1), "must have the same dtype")
    half = careless.unet.dtype == torch.float16
    return {"the UNet is in float16": half, "it draws": draws}


@claim(25)
def a_pipeline_returns_pictures():
    saved = runs(lambda: fox()[:1].save("fox.png"), "object has no attribute 'save'")
    sample = runs(lambda: fox()["sample"][0], "'sample'")
    return {"[:1] can be saved": saved, '["sample"] is there': sample}


expect_equal(type(fox().images[0]).__name__, "Image", "type of .images[0]")


# %% [markdown] lang="en"
# In 2022 `revision="fp16"` named a branch of the repository, and the first releases of diffusers returned `["sample"]`. A
# folder has no branches, so the argument is ignored: the text encoder comes in the file's float16, the UNet in float32, and
# the two do not fit together. `torch_dtype` decides; `variant="fp16"` chooses files of that name. (Chapter 09, section 16.)
#
# **26** · Without `safety_checker=None` no picture comes out, and with it the pictures are better.
#
# **27** · A LoRA is loaded with `unet.load_attn_procs(file)`, and trained with `LoRAAttnProcessor`.
#
# **28** · A LoRA does nothing until its trigger word is in the prompt.

# %% [markdown] lang="zh"
# 2022 年，`revision="fp16"` 指的是仓库里的一个分支；diffusers 最早的几个版本也确实返回 `["sample"]`。文件夹没有分支，这个参数就被忽略：
# 文本编码器是文件里的 float16，UNet 是 float32，两边对不上。精度由 `torch_dtype` 决定；`variant="fp16"` 只是选文件名。（第 09 章第 16 节。）
#
# **26** · 不写 `safety_checker=None` 就出不了图，写了图会更好。
#
# **27** · 用 `unet.load_attn_procs(file)` 加载 LoRA，用 `LoRAAttnProcessor` 训练 LoRA。
#
# **28** · 提示词里没有触发词，LoRA 就不起作用。

# %%
import numpy
from aigc_helpers.figures import new_figure, show, show_pictures
from aigc_helpers.images import draw_many, in_sepia

names = ("fox", "mushroom", "cactus", "tiger")
prompts = [f"{name}, noto style, blue background" for name in names]  # no "sepia style"
draw = partial(draw_many, prompts=prompts, seed=0, steps=10, guidance=2.5)
by_base, SEPIA = draw(pipe), "sepia.safetensors"


def off_sepia(pictures):  # as in chapter 10: distance from the brown line, of 255
    dark, light = in_sepia(numpy.uint8([[0] * 3, [255] * 3])).astype(float)
    there, line = numpy.stack(pictures) - dark, light - dark
    return numpy.abs(there - (there @ line / (line @ line))[..., None] * line).mean()


# %% tags=["nbval-check-output"]
@claim(26)
def the_checker_takes_part():
    without = draw(new_pipe(torch_dtype=torch.float32, safety_checker=None))
    changed = bool((numpy.stack(without) != numpy.stack(by_base)).any())
    return {"without it, no picture": not by_base, "it changes pixels": changed}


@claim(27)
def loras_are_attention_processors():
    load = partial(pipe.unet.load_attn_procs, DATA / "loras", weight_name=SEPIA)
    make = partial(diffusers.models.attention_processor.LoRAAttnProcessor, rank=4)
    messages = ("does not seem to be in the correct format", "list index out of range")
    reads = runs(load, *messages)  # diffusers 0.40 and later, and 0.39
    ranked = runs(make, "got an unexpected keyword argument")
    return {"load_attn_procs reads a LoRA": reads, "the class takes a rank": ranked}


# %% tags=["nbval-check-output"]
pipe.load_lora_weights(DATA / "loras" / SEPIA, use_safetensors=True)
by_lora = draw(pipe)
pipe.unload_lora_weights()
titles = [f"{name}, {by}" for by in ("base", "LoRA") for name in names]
alt_en = "Above: on blue, by the base. Below: brownish, with the LoRA, though nobody asked."
alt_zh = "上排：基座画的，蓝底。下排：装了 LoRA，谁也没要求，却都偏了棕色。"
show_pictures(dict(zip(titles, [*by_base, *by_lora], strict=True)), alt_en, alt_zh)


@claim(28)
def without_its_word_it_does_nothing():
    share = off_sepia(by_lora) / off_sepia(by_base)
    return {"colours are as far from sepia as before": 0.95 < share < 1.05}


# %% [markdown] lang="en"
# `safety_checker=None` takes away a filter that looks at finished pictures (our miniature has none, so nothing changes at all;
# with Stable Diffusion 1.5, black pictures may come from it). The attention processors were LoRA's form in
# diffusers in 2023; today it is PEFT, by way of `load_lora_weights` and `unet.add_adapter` (diffusers documentation, *LoRA*). And
# a LoRA's product is added to the weights whatever the prompt says: a [trigger word](GLOSSARY.md#trigger-word) is what the
# author's captions had in common, and no switch. The switch is the scale.
#
# **29** · float16 is float32 at half the memory: use it everywhere, on a CPU and for training, too.

# %% [markdown] lang="zh"
# `safety_checker=None` 去掉的是一道检查成图的过滤（我们的微型模型本来就没有，所以毫无变化；用 Stable Diffusion 1.5 时，黑图有可能是它造成的）。
# attention processor 是 2023 年 diffusers 里 LoRA 的写法，如今走 PEFT：`load_lora_weights` 和 `unet.add_adapter`（见 diffusers 文档的 *LoRA* 一页）。
# 至于[触发词](../GLOSSARY.md#trigger-word)：不管提示词写什么，LoRA 的乘积都会加到权重上。触发词只是作者写说明文字时共用的词，不是开关。开关是强度。
#
# **29** · float16 就是省一半内存的 float32：CPU 上、训练时都可以用。


# %% tags=["nbval-check-output"]
@claim(29)
def float16_is_float32_at_half_the_memory():
    half = deepcopy(poet).half()
    sizes = [sum(p.nbytes for p in model.parameters()) for model in (half, poet)]
    weight = half.transformer.h[0].mlp.c_fc.weight.detach()
    arrived = {s: (weight + s != weight).float().mean().item() for s in (1e-3, 1e-6)}
    print("    weights changed by a step of:", {s: f"{a:.0%}" for s, a in arrived.items()})
    return {
        "it runs on a CPU": half(ids).logits.isfinite().all().item(),
        "half the bytes": 2 * sizes[0] == sizes[1],
        "a step of 1e-6 arrives in most weights": arrived[1e-6] > 0.5,
    }


# %% [markdown] lang="en"
# Older releases of torch refused (`not implemented for 'Half'`); today's runs it, on most CPUs slowly. What remains is the rounding: small
# steps vanish. So load in float32 on a CPU, and on a GPU keep at least what is *trained* in float32.
#
# ## 8 · What only measurements can say
#
# **30** · LoRA always matches full fine-tuning.
#
# Two tests. Film reviews, three [seeds](GLOSSARY.md#seed) each, the same 1,000 test snippets (chapter 04). And a layer that has to
# learn a given change of its weight from examples: a change that has rank 4, and one that needs all 32 directions. Full
# fine-tuning learns both.

# %% [markdown] lang="zh"
# 旧版 torch 会拒绝（`not implemented for 'Half'`）；如今的版本能跑，只是在多数 CPU 上很慢。去不掉的是舍入：小步子会消失。
# 所以 CPU 上按 float32 加载；GPU 上，至少*参与训练*的部分要保持 float32。
#
# ## 8 · 只有测量才能回答的
#
# **30** · LoRA 总能追平全参数微调。
#
# 两个检验。一是影评：各三个[种子](../GLOSSARY.md#seed)，同样的 1,000 条测试短评（第 04 章）。二是让一个层从样例里学会权重的某个给定改动：
# 一个改动的秩是 4，另一个 32 个方向全要用到。全参数微调两个都学得会。


# %%
def share_left_unlearnt(rank, needed):
    set_seed(0)
    wanted, x = torch.randn(32, needed) @ torch.randn(needed, 32), torch.randn(256, 32)
    model = torch.nn.Sequential(torch.nn.Linear(32, 32, bias=False))
    y = x @ (model[0].weight.detach() + wanted).T
    if rank:  # 0: full fine-tuning
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["0"])
        model = get_peft_model(model, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(1500):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item() / (x @ wanted.T).square().mean().item()


# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import bootstrap_interval

lines = judged.groupby("method")["right"].agg(list)
right = {m: numpy.array([[int(c) for c in one] for one in lines[m]]) for m in lines.index}
behind = bootstrap_interval((right["full"] - right["LoRA"]).mean(0))


@claim(30)
def it_always_matches():
    left = [share_left_unlearnt(*pair) for pair in ((0, 32), (4, 4), (4, 32))]
    print("    left unlearnt by full, rank 4, rank 4:", *(f"{share:.0%}" for share in left))
    print(f"    film reviews, full minus LoRA: {behind}")
    answers = {"film reviews: no difference to be seen": behind.low <= 0 <= behind.high}
    answers |= {"a change of 4 directions, by rank 4": left[1] < 0.01}
    return answers | {"a change of 32 directions, by rank 4": left[2] < 0.01}


# %% [markdown] lang="en"
# Where the change has rank 4, a LoRA of rank 4 learns it whole; where it needs every direction, a good part stays unlearnt, however long it is
# trained. On these film reviews full fine-tuning is ahead of a LoRA of rank 8 on `query` and `value`, and the interval leaves out 0. Chapter 05,
# with about four times as many snippets, and two passes for LoRA against one, could tell no difference. In the tables of the
# [LoRA paper](REFERENCES.md#lora), too, some tasks gain a little and some lose a little. "Often" is true; "always" is not.
#
# **31** · A higher rank is always better.
#
# **32** · LoRA wants a higher learning rate than full fine-tuning.

# %% [markdown] lang="zh"
# 改动的秩是 4 时，秩为 4 的 LoRA 全学会了；改动要用到所有方向时，无论训练多久，总有一大块学不到。在这批影评上，全参数微调领先于秩 8、只作用在 `query` 和 `value` 上的 LoRA，
# 区间不含 0。第 05 章的训练数据多到将近四倍，LoRA 走两遍、全参数走一遍，就分不出差别。[LoRA 论文](../REFERENCES.md#lora)的表里也一样，有的任务略升，有的略降。说“常常”是对的，说“总能”不对。
#
# **31** · 秩越高越好。
#
# **32** · LoRA 要用比全参数微调更高的学习率。

# %% tags=["nbval-check-output"]
film_ranks = stored["film_rank_sweep"].groupby("rank")["accuracy"].mean()
sepia_ranks = stored["sepia_rank_sweep"].set_index("rank")["concept"]
grid = stored["lora_sweep"]
accuracies = grid.set_index(["rank", "targets", "alpha", "learning_rate"])["accuracy"]
ahead = accuracies.loc[32] > accuracies.loc[8]


@claim(31)
def a_higher_rank_is_better():
    print(f"    grid: rank 32 is ahead of rank 8 in {ahead.sum()} of {len(ahead)} settings")
    steps = {"film": film_ranks, "sepia": sepia_ranks}
    answers = {
        f"{k}: every step up": one.is_monotonic_increasing for k, one in steps.items()
    }
    return answers | {"grid: rank 32 always ahead of 8": ahead.all()}


# %% tags=["nbval-check-output"]
@claim(32)
def lora_wants_a_higher_rate():
    search = stored["lora_variants"].query("split == 'validation'")
    best = search.loc[search.groupby("method")["accuracy"].idxmax()]
    rate = best.set_index("method")["learning_rate"]
    print(f"    best of three rates: LoRA {rate['LoRA']:g}, full {rate['full']:g}")
    return {"LoRA's is at least ten times as high": rate["LoRA"] >= 10 * rate["full"]}


# %% [markdown] lang="en"
# A higher rank helped the film reviews at every step, by little each time; with sepia the last step no longer helped; and in the grid, with
# alpha and learning rate fixed, rank 32 is ahead of rank 8 in fewer than half of the settings: at a fixed alpha a higher rank also means a
# smaller α/r, so that two things change at once. What grows for certain is the file. Claim 32 is true: the best rate of LoRA is far above that of full
# fine-tuning, so a rate copied from an article on the one fails for the other.
#
# ## 9 · The table
#
# All claims with what was seen, and what is right. If one had not been tested, the cell would stop here.
#
# How well did you guess? Write your verdicts into `guesses` (three stand there as examples), or use the panel below: it asks
# first and shows the test afterwards. The first guess on each claim counts.

# %% [markdown] lang="zh"
# 秩升高，影评的成绩每一步都涨，但每次只涨一点；sepia 的最后一步不再有好处；而在网格里，alpha 和学习率固定时，秩 32 胜过秩 8 的还不到一半：
# alpha 不变，秩一高，α/r 就变小，等于同时改了两样东西。确定无疑变大的是文件。说法 32 是对的：LoRA 的最佳学习率远高于全参数微调，
# 所以从一种做法的文章里抄来的学习率，用在另一种上就不行。
#
# ## 9 · 总表
#
# 全部说法、所见的结果，以及正确的说法。只要有一条没有检验，这个单元格就会停下来。
#
# 你猜得怎么样？把你的判断写进 `guesses`（已有三条作示例），或者用下面的面板：先问你，再给你看检验结果。每条以第一次猜的为准。

# %% tags=["nbval-check-output"]
claims.check_all()
expect_equal(len(claims.tested), 32, "claims tested")
counts = {verdict: claims.count(verdict) for verdict in ("true", "half true", "false")}
expect_equal(counts, {"true": 3, "half true": 9, "false": 20}, "verdicts")
claims

# %%
guesses = {1: "false", 12: "half true", 18: "half true"}
hits = [
    number for number, guess in guesses.items() if claims.tested[number].verdict == guess
]
print(f"{len(hits)} of {len(guesses)} right: {hits}")

# %% tags=["panel"]
from aigc_helpers.panels import ClaimsPanel
from IPython.display import display

display(ClaimsPanel(claims.tested))

# %% [markdown] lang="en"
# ## 10 · Four questions
#
# **LoRA, or training from scratch?** The poet has read shi and has never seen a *ci*. Three models write the tune 浣溪沙: the
# poet as it is; the poet with a LoRA; and a model of the same shape that starts from random numbers, all of its weights
# trained. Both trainings see the same 500 texts once, each at a learning rate of its own. Judged by the
# [perplexity](GLOSSARY.md#perplexity) on test texts: as unsure as if it chose among so many tokens.
#
# **Predict** an order of magnitude for each. (A blind guess among the poet's 4,865 tokens has 4,865.)

# %% [markdown] lang="zh"
# ## 10 · 四个问题
#
# **用 LoRA，还是从头训练？** poet 读过诗，没见过词。三个模型来填浣溪沙：原样的 poet；装了 LoRA 的 poet；还有一个形状相同、
# 从随机数开始、全部权重都训练的模型。两次训练都把同样的 500 首词看一遍，学习率各用各的。用测试词上的[困惑度](../GLOSSARY.md#perplexity)评判：
# 相当于在多少个 token 里拿不定主意。
#
# **先猜一猜**各自的数量级。（在 poet 的 4,865 个 token 里瞎猜，就是 4,865。）

# %%
import math

from aigc_helpers import FitSettings, fit
from aigc_helpers.text import LengthBatches, mean_loss, next_token_loss

form = load_forms(profile="embedded")[0]
padding = tokenizer.pad_token_id
train = LengthBatches(encode(form.train), None, 16, padding)


def perplexity(model):
    batches = LengthBatches(encode(form.test), None, 32, padding)
    rows = (batches.batch(0, position) for position in range(len(batches)))
    return math.exp(mean_loss(model, rows))


# %%
c_attn = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, **c_attn)
set_seed(0)
with_adapter = get_peft_model(deepcopy(poet), config)
fresh = Causal.from_config(poet.config, dtype=torch.float32)
before = {"poet": perplexity(poet), "random": perplexity(fresh)}
for model, rate in ((with_adapter, 1.2e-2), (fresh, 3e-3)):
    fit(model, train, next_token_loss, FitSettings(epochs=1, learning_rate=rate))
after = {"LoRA": perplexity(with_adapter), "scratch": perplexity(fresh)}

# %% tags=["nbval-check-output"]
expect(before["poet"], 550, 800, "perplexity of the poet as it is")
expect(before["random"], 4000, 7000, "of random numbers")
expect(after["LoRA"], 120, 200, "of the poet with a LoRA, after one pass")
expect(after["scratch"], 250, 500, "from scratch, after one pass")
expect(after["scratch"] / after["LoRA"], 1.5, 4, "from scratch over LoRA")

# %% [markdown] lang="en"
# From scratch, the model has learnt in one pass how often each character comes and where the tune puts its stops, and that alone is more than the
# poet knew of this form. But the poet with its LoRA is far ahead: what it knows of the language, it need not learn again. The
# larger the part that the base already knows, the larger the lead. From scratch is right where there is no base for it (another
# alphabet, another kind of data), where the licence forbids one, or where the data are as many as a base was made of: for the poet 66,355 poems.
#
# **Which rank, alpha, targets, learning rate?** Chapter 04's grid has all combinations of the four, one seed each, judged on 300
# validation snippets. For each setting two numbers: by how much accuracy moves when it *alone* is changed (the mean over all
# choices of the others), and what is lost if it is set badly and the others are tuned to make up for it.

# %% [markdown] lang="zh"
# 从头训练的模型，看一遍就学会了各个字有多常见、词牌在哪里断句，光凭这些就比不认识词牌的 poet 强。但装了 LoRA 的 poet 遥遥领先：
# 它懂的语言不必再学一遍。基座已经会的越多，领先就越多。什么时候该从头训练？没有合适的基座（换了文字、换了数据类型），许可证不允许，
# 或者数据多到够做一个基座：poet 用了 66,355 首诗。
#
# **秩、alpha、目标模块、学习率怎么选？** 第 04 章的网格把这四项全部组合了一遍，各一个种子，在 300 条验证短评上评判。每一项看两个数：
# *只*改它一项，准确率变动多少（对其余各项的所有取法求平均）；以及把它设得最差、再把其余几项调到最好，会损失多少。

# %% tags=["nbval-check-output"]
settings = ["learning_rate", "alpha", "rank", "targets"]
moves = {}
for setting in settings:
    rest = grid.groupby([name for name in settings if name != setting])["accuracy"]
    moves[setting] = (rest.max() - rest.min()).mean()
    cost = grid["accuracy"].max() - grid.groupby(setting)["accuracy"].max().min()
    print(f"{setting:13} alone moves {moves[setting]:.2f}; set badly it costs {cost:.2f}")
expect_equal(max(moves, key=moves.get), "learning_rate", "what alone moves accuracy most")

# %%
figure, axes = new_figure(width=10, height=3.2, columns=4)
for one, setting in zip(axes, settings, strict=True):
    levels = sorted(grid[setting].unique())
    places = grid[setting].map({level: place for place, level in enumerate(levels)})
    one.plot(places, grid["accuracy"], "o", color="0.7", markersize=4)
    tops = grid.groupby(setting)["accuracy"].max().loc[levels]
    one.plot(range(len(levels)), tops, "s-", color="#0072B2")
    short = [str(level).replace("query, value", "q, v") for level in levels]
    one.set_xticks(range(len(levels)), short)
    one.set(xlabel=setting, ylim=(0.45, 0.9), xlim=(-0.4, len(levels) - 0.6))
axes[0].set_ylabel("validation accuracy")
alt_en = "Grey: every run. Blue: the best at each value. The learning rate decides most."
show(figure, alt_en, "灰点：每次训练；蓝线：每个取值下的最好成绩。影响最大的是学习率。")

# %% [markdown] lang="en"
# So: begin with rank 8, alpha 16 and the attention's `query` and `value` (or all linear layers), and spend your trials on the **learning
# rate**, in steps of a factor of three or four, upwards until it breaks down and then one step back. Alpha comes second, since it acts on the same thing
# (claim 13). Rank and targets come last: each of them, set badly, is nearly made up for by the others. It is one seed, one small task and 300
# snippets, where a few points are luck; but the order of importance is not a matter of a few points.
#
# **How to judge?** With an interval, in pairs, and with more than one seed. Chapter 04 kept, for each test snippet, whether each
# method was right. **Predict:** how wide is the 95 % interval of an accuracy from 100 snippets? From 1,000? And is a
# *difference* of two methods on the same snippets as uncertain as the two added up?

# %% [markdown] lang="zh"
# 所以：从秩 8、alpha 16、注意力的 `query` 和 `value`（或全部线性层）开始，把试验次数花在**学习率**上，每次乘三四倍，往上加到崩为止，再退一步。
# 其次是 alpha，因为它作用在同一处（说法 13）。秩和目标模块排在最后：哪一项设得不好，其余几项几乎都能补回来。
# 这只是一个种子、一个小任务、300 条短评，几个点算运气；但谁更要紧，可不是几个点的事。
#
# **怎么评判？** 要有区间，要成对比较，要不止一个种子。第 04 章保留了每种方法在每条测试短评上的对错。**先猜一猜：** 用 100 条短评算出的准确率，
# 95 % 区间有多宽？1,000 条呢？两种方法在同一批短评上的*差*，不确定性等于两者相加吗？


# %% tags=["nbval-check-output"]
def width(scores):
    interval = bootstrap_interval(scores)
    return 100 * (interval.high - interval.low)


full, lora = right["full"][0], right["LoRA"][0]  # one seed each
for count in (100, 300, 1000):
    print(f"{count:4} snippets: the interval is {width(lora[:count]):.0f} points wide")
paired, apart = width(full - lora), math.hypot(width(full), width(lora))
expect(paired / apart, 0.4, 0.9, "width of a difference, in pairs over not in pairs")
seeds = 100 * numpy.ptp([marks.mean(1) for marks in right.values()], axis=1)
print(f"three seeds of a method lie {seeds.min():.1f} to {seeds.max():.1f} points apart")

# %% [markdown] lang="en"
# An accuracy from 100 snippets says little: most differences that articles report would fit into its interval. Ten times as many snippets make it about a third
# as wide. Compared in pairs, on the same snippets, two methods can be told apart more finely, because what is hard is hard for both. And
# another seed hardly moves one method, and moves the next by more than many a "better method" gains. So report the interval, the seeds, and the settings
# that were tried (chapter 12).
#
# **Where does the field go: speech, video, robotics?** LoRA knows nothing of text. It is a statement about matrices, so it goes
# wherever there are linear layers. Three architectures from transformers, at the size of their default configuration, on the *meta* device,
# which keeps shapes and no numbers: nothing is downloaded, and nothing is trained. **Predict:** what has to be changed from one to the next?

# %% [markdown] lang="zh"
# 用 100 条短评算出的准确率说明不了多少：文章里报的多数差别，都装得进它的区间。条数变成十倍，区间大约窄到三分之一。
# 在同一批短评上成对比较，就能分得更细，因为难的题对谁都难。而换个种子再训练，有的方法几乎不动，有的变动比许多“更好的方法”带来的提升还大。
# 所以要报区间、种子，还有试过哪些设置（第 12 章）。
#
# **这个领域往哪里走：语音、视频、机器人？** LoRA 并不认识文字。它说的是矩阵，哪里有线性层，哪里就能用。下面是 transformers 里的三种结构，
# 按默认配置的大小，建在 *meta* 设备上，只有形状、没有数值：什么也不下载，什么也不训练。**先猜一猜：** 从一种换到另一种，要改什么？

# %% tags=["nbval-check-output"]
elsewhere = {
    "speech: Whisper": ("Whisper", "ForConditionalGeneration", ["q_proj", "v_proj"]),
    "video: VideoMAE": ("VideoMAE", "ForVideoClassification", ["query", "value"]),
    "robotics: Decision Transformer": ("DecisionTransformer", "Model", ["c_attn"]),
}
for name, (family, kind, modules) in elsewhere.items():
    with torch.device("meta"):
        model = getattr(transformers, family + kind)(
            getattr(transformers, f"{family}Config")()
        )
        turned = {"fan_in_fan_out": modules == ["c_attn"]}
        model = get_peft_model(model, LoraConfig(r=8, target_modules=modules, **turned))
    trainable, every = model.get_nb_trainable_parameters()
    print(f"{name:31} {', '.join(modules):15} {trainable:8,} of {every:11,}")

# %% [markdown] lang="en"
# One line: the names. Whisper turns sound into text; VideoMAE reads clips; a Decision Transformer is a GPT-2 whose tokens are states, actions
# and rewards. What this cell shows is that the method *attaches*; whether a low rank is enough there is a question for a measurement such
# as those above, and this book has made it for text and pictures only. The costs move, too: with long sound and video,
# activations are what fills the memory, and most of those LoRA does not spare (claim 18).
#
# ## 11 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **15-1, change a number.** An adapter has rank `rank` and alpha `alpha`. Which alpha keeps the scaling α/r at the rank
# `new_rank`?

# %% [markdown] lang="zh"
# 只改一行：模块名。Whisper 把声音变成文字；VideoMAE 看视频片段；Decision Transformer 就是一个 GPT-2，只不过 token 换成了状态、动作和回报。
# 这个单元格说明的是方法*装得上*；低秩在那里够不够，要像前面那样测量才知道，而本书只在文字和图片上测过。成本的重心也会变：
# 声音和视频很长，塞满内存的是激活值，而大部分激活值，LoRA 是省不掉的（说法 18）。
#
# ## 11 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **15-1，改一个数。** 一个适配器的秩为 `rank`，alpha 为 `alpha`。秩换成 `new_rank`，alpha 取多少才能让缩放 α/r 不变？

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def alpha_for(alpha, rank, new_rank):
    # begin solution
    return alpha * new_rank / rank
    # end solution


check_exercise("15-1", alpha_for)

# %% [markdown] lang="en"
# **15-2, repair.** Given a dictionary of arguments for `TrainingArguments` as an old article has it, return one with today's
# names: `evaluation_strategy`, `no_cuda` and `warmup_ratio` have others now (claim 7); all else stays.

# %% [markdown] lang="zh"
# **15-2，修旧代码。** 给定一个旧文章里 `TrainingArguments` 的参数字典，返回换成今天名字的字典：`evaluation_strategy`、`no_cuda`、
# `warmup_ratio` 都改了名（说法 7），其余不动。


# %% tags=["exercise", "nbval-check-output"]
def renew(arguments):
    # begin solution
    names = {
        "evaluation_strategy": "eval_strategy",
        "no_cuda": "use_cpu",
        "warmup_ratio": "warmup_steps",
    }
    return {names.get(name, name): value for name, value in arguments.items()}
    # end solution


check_exercise("15-2", renew)

# %% [markdown] lang="en"
# **15-3, write it yourself.** `before` and `after` map names to tensors. How many tensors of `before` have other values in
# `after`? Names that are only in `after`, such as a new adapter's, do not count.

# %% [markdown] lang="zh"
# **15-3，自己动手。** `before` 和 `after` 都是从名字到张量的字典。`before` 里有几个张量，在 `after` 里的值变了？
# 只在 `after` 里出现的名字（比如新加的适配器）不算。


# %% tags=["exercise", "nbval-check-output"]
def count_changed(before, after):
    # begin solution
    return sum(not torch.equal(tensor, after[name]) for name, tensor in before.items())
    # end solution


check_exercise("15-3", count_changed)

# %% [markdown] lang="en"
# ## Summary
#
# - A sentence that can be run should be run. Most of the tests above have fewer than ten lines.
# - The wrong names tell you so themselves. What costs days are the mistakes that raise nothing: one target of two misspelt,
#   the optimizer made first, labels shifted twice, a trigger word taken for a switch.
# - Much of what is wrong today was right once. Look at the date of an article, and at the versions that it names.
# - "Always", "never" and "free" are the words to test first.
# - A number without an interval, a second seed and its learning rate is an anecdote, this book's included.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `cannot import name 'AdamW' from 'transformers'` | an idiom of version 4 | `torch.optim.AdamW` |
# | `got an unexpected keyword argument 'evaluation_strategy'` | renamed | `eval_strategy`; the migration guide to version 5 |
# | `The task summarization has been removed from transformers` | the pipeline was dropped with version 5 | load the model, `generate` |
# | `Target modules {…} not found in the base model` | names of another model | `named_modules()` of yours |
# | `Repository Not Found for url: …runwayml…` | the repository is gone | `stable-diffusion-v1-5/stable-diffusion-v1-5` |
# | `… must have the same dtype` | half of the pipeline in float16 | `torch_dtype=torch.float32` on a CPU |
# | `'tuple' object has no attribute 'save'` | a slice of the output | `.images[0]` |
# | `does not seem to be in the correct format expected by Custom Diffusion training` | a LoRA given to `load_attn_procs` | `pipe.load_lora_weights` |
#
# **Where next:** whichever chapter a claim pointed to. And if this chapter itself gets something wrong: its source is a text file, and
# each test says what it tests.

# %% [markdown] lang="zh"
# ## 小结
#
# - 能跑的话，就跑一下再信。上面的检验多数不到十行。
# - 名字错了，它自己会告诉你。真正耗掉几天的，是那些不报错的：目标模块写错一个、优化器建早了、标签移了两次位、把触发词当成开关。
# - 今天错的，很多当年是对的。看文章先看日期，再看它用的版本。
# - “总是”“从不”“免费”，这几个词最值得先检验。
# - 没有区间、没有第二个种子、没写学习率的数字，只是个例，本书的也不例外。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `cannot import name 'AdamW' from 'transformers'` | 版本 4 的写法 | `torch.optim.AdamW` |
# | `got an unexpected keyword argument 'evaluation_strategy'` | 改名了 | `eval_strategy`；见 v5 迁移指南 |
# | `The task summarization has been removed from transformers` | 版本 5 去掉了这条流水线 | 加载模型，用 `generate` |
# | `Target modules {…} not found in the base model` | 用了别的模型的模块名 | 看自己模型的 `named_modules()` |
# | `Repository Not Found for url: …runwayml…` | 仓库已删除 | `stable-diffusion-v1-5/stable-diffusion-v1-5` |
# | `… must have the same dtype` | 流水线只有一半是 float16 | CPU 上写 `torch_dtype=torch.float32` |
# | `'tuple' object has no attribute 'save'` | 对输出做了切片 | `.images[0]` |
# | `does not seem to be in the correct format expected by Custom Diffusion training` | 把 LoRA 交给了 `load_attn_procs` | `pipe.load_lora_weights` |
#
# **下一步：** 哪条说法指向哪一章，就去读哪一章。如果这一章自己也有错：它的源文件就是一个文本文件，每个检验都写明了在检验什么。
