# %% [markdown] lang="en"
# # 03 · Inside a language model
#
# {{badge}}
#
# **What you will be able to do:** follow a text all the way from a raw file to a trained language model; write BPE,
# the masking rule, attention, heads, masks and layer norm yourself, and show that each gives the numbers of the library;
# run a whole BERT from its weights alone; train a small GPT-2 from random numbers; compare models by bits per character
# where perplexity misleads; read an attention map; and foretell how many parameters and operations a model costs.
#
# | | embedded profile | full profile |
# |---|---|---|
# | models | all-MiniLM-L6-v2 (22.7 M parameters), poet (4.4 M) | bert-base-uncased (110 M), gpt2 (124 M) |
# | time | under 3 minutes on two CPU cores | {{full_time}} |
# | memory | 1 GB | {{full_memory}} |
# | download | none once the workbook is set up | 990 MB |
#
# You need Python, and what a matrix product is. The poems are Chinese; you need not read them. Numbers that stand in the
# text were measured on the embedded profile; on the full one, read yours under the cells.

# %% [markdown] lang="zh"
# # 03 · 语言模型的内部
#
# {{badge}}
#
# **学完本章，你能够：** 跟着一段文本，从原始文件一路走到训练好的语言模型；亲手写出 BPE、掩码规则、注意力、多头、
# 注意力掩码和层归一化，并验证每一样都和库算出的数相等；只凭权重，自己把整个 BERT 跑一遍；从随机数开始训练一个小 GPT-2；
# 困惑度不可比的时候，改用每字符比特数来比；看懂注意力图；事先算出一个模型有多少参数、要做多少次运算。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | all-MiniLM-L6-v2（2270 万参数）、poet（440 万） | bert-base-uncased（1.1 亿）、gpt2（1.24 亿） |
# | 时间 | 两个 CPU 核心不到 3 分钟 | {{full_time}} |
# | 内存 | 1 GB | {{full_memory}} |
# | 下载 | 装好本书之后不再需要 | 990 MB |
#
# 需要会 Python，知道矩阵乘法是什么。正文里的数字都是在 embedded 配置下测得的；full 配置下，请看各单元格下面打印出来的数。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · Corpus and cleaning
#
# A language model is what its texts are. A *corpus* is never clean: people type two spaces, the same letter has two
# encodings (é as one code point, or as e and an accent), the same text comes twice. None of it raises an error; the model
# just learns it. Below is the smallest cleaning worth the name.
#
# **Predict:** of 7,171 film-review snippets, how many will it change through their spaces alone? How many are
# there twice, after a first clean-up?

# %% [markdown] lang="zh"
# ## 1 · 语料与清洗
#
# 有什么样的文本，就有什么样的语言模型。*语料*从来都不干净：有人多敲了空格；同一个字母有两种编码（é 可以是一个码位，
# 也可以是 e 加一个重音符）；同一段文字出现两次。这些都不会报错，模型只会照学。下面是一个最起码的清洗函数。
#
# **先猜一猜：** 7,171 条影评短句里，光是因为空格就要改动的有多少？初步整理之后，重复的还剩几条？

# %%
import math
import unicodedata
from collections import Counter

from aigc_helpers.notebook import expect, expect_close, expect_equal
from aigc_helpers.profile import current_profile
from aigc_helpers.text import load_reviews

full_profile = current_profile().name == "full"


def clean(text):
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


# %% tags=["nbval-check-output"]
raw = load_reviews("train")["text"].tolist()
texts = list(dict.fromkeys(map(clean, raw)))  # keeps the first of each, and the order
print(repr(next(text for text in raw if "  " in text)[-60:]))
spaced = [text for text in raw if " ".join(text.split()) != text]
print(
    f"{len(raw)} snippets, {len(spaced)} with stray spaces, {len(raw) - len(texts)} doubles"
)
expect_equal(
    clean("Caf\u00e9  noir") == clean("cafe\u0301 noir"), True, "two encodings, one text"
)
expect_equal(list(map(clean, texts)) == texts, True, "cleaning twice changes nothing more")
leaked = set(texts) & set(map(clean, load_reviews("test")["text"]))
expect_equal(len(leaked), 0, "cleaned training texts that are in the test, too")

# %% [markdown] lang="en"
# No doubles are left: two were taken out when `data/reviews` was made. Check all the same, and *after* cleaning: texts
# that differ in the raw files may be equal once cleaned, and then the test set is no test.
#
# ## 2 · Tokens: BPE by hand
#
# A model reads numbers from a fixed [vocabulary](GLOSSARY.md#vocabulary). Whole words would need millions of entries and
# still miss the next name; single letters make texts long. [Byte-pair encoding](GLOSSARY.md#bpe)
# ([Sennrich et al.](REFERENCES.md#bpe)) goes between: start from letters, and again and again merge the pair of
# neighbours that occurs most often. With $n(w)$ the count of word $w$, the next merge is
#
# $$(a, b)^{*} = \arg\max_{(a, b)} \; \sum_{w} n(w) \cdot \#\{i : w_i = a,\; w_{i+1} = b\}$$
#
# A tie goes to the pair that is older in the vocabulary.

# %% [markdown] lang="zh"
# 没有重复：制作 `data/reviews` 时已经去掉了两条。但还是要查，而且要在清洗*之后*查：原始文件里不同的文本，
# 清洗之后可能一模一样，那测试集就不再是测试集了。
#
# ## 2 · token：手写 BPE
#
# 模型读的是数字，数字来自一张固定的[词表](../GLOSSARY.md#vocabulary)。按词来分，几百万项也不够用，碰到新名字照样没辙；
# 按字母来分，文本又太长。[字节对编码](../GLOSSARY.md#bpe)（[Sennrich 等](../REFERENCES.md#bpe)）取其中：
# 从字母开始，一次次把出现最多的相邻两块合并。设 $n(w)$ 为词 $w$ 的出现次数，下一次合并的是
#
# $$(a, b)^{*} = \arg\max_{(a, b)} \; \sum_{w} n(w) \cdot \#\{i : w_i = a,\; w_{i+1} = b\}$$
#
# 次数相同时，取在词表里更靠前的那一对。


# %%
def merge(pieces, pair):
    merged = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


# %%
def train_bpe(counts, vocabulary_size):
    words = {word: list(word) for word in counts}
    ids = {letter: number for number, letter in enumerate(sorted(set("".join(counts))))}
    merges = []
    while len(ids) < vocabulary_size:
        pairs = Counter()
        for word, pieces in words.items():
            for pair in zip(pieces, pieces[1:], strict=False):
                pairs[pair] += counts[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        words = {word: merge(pieces, best) for word, pieces in words.items()}
    return merges


# %% [markdown] lang="en"
# **Predict** on paper: *low* five times, *lower* twice, *newest* six times, *widest* three times. Which pair is merged
# first, and which second?

# %% [markdown] lang="zh"
# **先在纸上猜：** *low* 五次，*lower* 两次，*newest* 六次，*widest* 三次。第一次合并哪一对？第二次呢？

# %% tags=["nbval-check-output"]
page = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
pieces = {word: list(word) for word in page}
for pair in train_bpe(page, vocabulary_size=10 + 7):
    pieces = {word: merge(each, pair) for word, each in pieces.items()}
    print(f"{'+'.join(pair):7}", "  ".join(".".join(each) for each in pieces.values()))
expect_equal(pieces["newest"], ["newest"], "newest, after seven merges")

# %% [markdown] lang="en"
# *e+s* and *s+t* both occur nine times; *e* is older. One merge later *est* is a token of its own: an English ending,
# found by counting. Now the same on 400 real snippets, against the library that trains the tokenizers of most models.
#
# **Predict:** 300 entries. Will every merge be the same, in the same order?

# %% [markdown] lang="zh"
# *e+s* 和 *s+t* 都是九次，*e* 在词表里更靠前。再合并一次，*est* 就成了一个 token：光靠数数，就找到了英语的一个词尾。
# 下面换成 400 条真实短句，和训练多数模型分词器所用的那个库比一比。
#
# **先猜一猜：** 词表 300 项。每一次合并、连同先后顺序，会不会都一样？

# %% tags=["nbval-check-output"]
import json
import re

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

corpus = texts[:400]
library = Tokenizer(models.BPE())
library.pre_tokenizer = pre_tokenizers.Whitespace()  # words, and runs of punctuation
trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
library.train_from_iterator(corpus, trainer)
library_merges = [tuple(pair) for pair in json.loads(library.to_str())["model"]["merges"]]
counts = Counter(word for text in corpus for word in re.findall(r"\w+|[^\w\s]+", text))
merges = train_bpe(counts, vocabulary_size=300)
print(*map("+".join, merges[:12]))
expect_equal(merges == library_merges, True, f"all {len(library_merges)} merges are equal")

# %% [markdown] lang="en"
# To *encode*, apply the merges in the order in which they were learnt. The check uses snippets that the training has
# not seen.

# %% [markdown] lang="zh"
# *编码*，就是按学到的先后顺序把这些合并做一遍。下面用训练时没见过的短句来核对。

# %% tags=["nbval-check-output"]
from functools import reduce


def encode(text, merges):
    words = re.findall(r"\w+|[^\w\s]+", text)
    return [piece for word in words for piece in reduce(merge, merges, list(word))]


unseen = [text for text in texts[400:500] if set(text) <= set("".join(corpus))]
print(encode(unseen[0], merges))
same = sum(encode(text, merges) == library.encode(text).tokens for text in unseen)
expect_equal(same, len(unseen), "unseen snippets encoded alike")
print(library.encode("好 film").tokens)

# %% [markdown] lang="en"
# Look at the last line: 好 is gone, without a word. It was not among the letters. GPT-2 therefore starts from the 256
# possible *bytes*, of which every text consists; BERT's WordPiece has `[UNK]` for what it does not know.
#
# ## 3 · From tokens to samples
#
# Nobody labels the texts of a [pretrained model](GLOSSARY.md#pretrained-model): the text is its own answer. There are two
# ways to ask. A [causal language model](GLOSSARY.md#causal-language-model) such as [GPT-2](REFERENCES.md#gpt-2) must say
# the next token at every place. You pass `labels = input_ids`; the shift by one place happens *inside* the model:
#
# $$L = -\frac{1}{T} \sum_{t=1}^{T} \ln p(x_{t+1} \mid x_1, \ldots, x_t)$$
#
# The poet, a GPT-2 with one token per Chinese character, reads a poem of twenty characters.

# %% [markdown] lang="zh"
# 看最后一行：“好”不见了，也没有任何提示。训练时的字母里没有它。所以 GPT-2 从 256 个*字节*开始，任何文本都由字节组成；
# BERT 的 WordPiece 则给不认识的留了一个 `[UNK]`。
#
# ## 3 · 从 token 到样本
#
# [预训练模型](../GLOSSARY.md#pretrained-model)的文本不用人标注：答案就是文本自己。提问的方式有两种。
# [因果语言模型](../GLOSSARY.md#causal-language-model)（如 [GPT-2](../REFERENCES.md#gpt-2)）在每个位置都要说出下一个
# token。你只管传 `labels = input_ids`，错开一位是模型*内部*做的：
#
# $$L = -\frac{1}{T} \sum_{t=1}^{T} \ln p(x_{t+1} \mid x_1, \ldots, x_t)$$
#
# poet 是一个汉字一个 token 的 GPT-2，下面让它读一首二十个字的诗。

# %% tags=["nbval-check-output"]
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers import DataCollatorForLanguageModeling

from aigc_helpers import install

poet_path = install("poet")
characters = AutoTokenizer.from_pretrained(poet_path)
poet = AutoModelForCausalLM.from_pretrained(poet_path, dtype=torch.float32)
sample = characters("床前明月光，疑是地上霜。举头望明月，低头思故乡。")
batch = DataCollatorForLanguageModeling(characters, mlm=False)([sample])
ids, labels = batch["input_ids"], batch["labels"]
expect_equal(torch.equal(ids, labels), True, "the collator's labels are the ids, unshifted")
names = characters.convert_ids_to_tokens(ids[0])
print(*(f"{one}→{following}" for one, following in zip(names[:6], names[1:7], strict=True)))

# %% tags=["nbval-check-output"]
from torch.nn.functional import cross_entropy

with torch.no_grad():
    output = poet(input_ids=ids, labels=labels)
by_hand = -output.logits[0, :-1].log_softmax(dim=-1)[range(len(names) - 1), ids[0, 1:]]
expect_equal(
    tuple(output.logits.shape), (1, 25, 4865), "logits (texts, tokens, vocabulary)"
)
expect_close(
    by_hand.mean(), output.loss, 1e-5, "mean -ln p of the next token, and the loss"
)
by_torch = cross_entropy(output.logits[0, :-1], ids[0, 1:])
expect_close(by_torch, output.loss, 1e-5, "cross_entropy on shifted ids, and the loss")

# %% [markdown] lang="en"
# A [masked language model](GLOSSARY.md#masked-language-model) such as [BERT](REFERENCES.md#bert) may read to both sides,
# so the answer must be hidden. 15 % of the tokens are *chosen*; only they have a label, all others get −100, which the loss
# leaves out. Of the chosen, 80 % become `[MASK]`, 10 % a random token, and 10 % stay as they are: in use there are no
# `[MASK]`s, so the model must not wait for one.
#
# **Predict:** of all tokens, which share will be `[MASK]`? With the same seed, will our rule choose the same tokens as
# the library's collator?

# %% [markdown] lang="zh"
# [掩码语言模型](../GLOSSARY.md#masked-language-model)（如 [BERT](../REFERENCES.md#bert)）左右都能看，所以得把答案藏起来。
# 15 % 的 token 被*选中*，只有它们有标签，其余都填 −100，损失会跳过。选中的当中，80 % 换成 `[MASK]`，10 % 换成随机的 token，
# 10 % 原样不动：真正使用时没有 `[MASK]`，不能让模型专等它出现。
#
# **先猜一猜：** `[MASK]` 占全部 token 的多少？随机种子相同，我们手写的规则选中的，会不会和库里的整理函数（collator）一模一样？


# %%
def mask_tokens(ids, special, mask_id, vocabulary_size):
    inputs, labels = ids.clone(), ids.clone()
    chosen = torch.bernoulli(torch.full(ids.shape, 0.15).masked_fill(special, 0)).bool()
    labels[~chosen] = -100
    to_mask = chosen & torch.bernoulli(torch.full(ids.shape, 0.8)).bool()
    inputs[to_mask] = mask_id
    half_of_the_rest = torch.bernoulli(torch.full(ids.shape, 0.5)).bool()
    to_random = chosen & ~to_mask & half_of_the_rest
    inputs[to_random] = torch.randint(vocabulary_size, ids.shape)[to_random]
    return inputs, labels


# %% tags=["nbval-check-output"]
wordpiece = AutoTokenizer.from_pretrained(install("bert"))
batch = wordpiece(
    texts[:2000], padding=True, return_tensors="pt", return_special_tokens_mask=True
)
special = batch["special_tokens_mask"].bool()
set_seed(0)
collator = DataCollatorForLanguageModeling(wordpiece, mlm_probability=0.15)
inputs, labels = collator.torch_mask_tokens(batch["input_ids"].clone(), special)
set_seed(0)
ours = mask_tokens(batch["input_ids"], special, wordpiece.mask_token_id, len(wordpiece))
same = torch.equal(ours[0], inputs) and torch.equal(ours[1], labels)
expect_equal(same, True, "inputs and labels as the collator's, token for token")

# %% tags=["nbval-check-output"]
chosen = labels != -100
masked = inputs[chosen] == wordpiece.mask_token_id
kept = inputs[chosen] == batch["input_ids"][chosen]
for row in (0, 8):
    print(wordpiece.decode(inputs[row][~special[row]]))
expect(chosen.sum() / (~special).sum(), 0.14, 0.16, "chosen, of all tokens")
expect(masked.float().mean(), 0.77, 0.83, "[MASK], of the chosen")
expect(kept.float().mean(), 0.08, 0.12, "unchanged, of the chosen")
expect(1 - (masked | kept).float().mean(), 0.07, 0.14, "random, of the chosen")
expect(masked.sum() / (~special).sum(), 0.11, 0.13, "[MASK], of all tokens")

# %% [markdown] lang="en"
# 80 % of 15 % are 12 %, and that is the share of `[MASK]`. So a masked model learns from 15 % of the tokens it reads, a
# causal one from all.
#
# ## 4 · Pretraining, from random numbers
#
# Now train a GPT-2 on 5,315 Chinese quatrains: four lines of five characters. A model that knows nothing gives each of
# the $V$ tokens the probability $1 / V$, so the loss must start at
#
# $$L_0 = -\ln \frac{1}{V} = \ln V$$
#
# **Predict** it for $V$ = 4,865. A first loss far from it is the earliest sign of a bug.

# %% [markdown] lang="zh"
# 15 % 的 80 % 是 12 %，`[MASK]` 就占这么多。可见掩码模型只从读到的 15 % 的 token 里学，因果模型则个个都学。
#
# ## 4 · 从随机数开始预训练
#
# 现在用 5,315 首五言四句的诗训练一个 GPT-2。什么都不懂的模型，给 $V$ 个 token 的概率各是 $1 / V$，所以损失必定从这里起步：
#
# $$L_0 = -\ln \frac{1}{V} = \ln V$$
#
# **先算一算** $V$ = 4,865 时是多少。第一个损失若离它很远，多半是哪里写错了，这是最早的信号。


# %% tags=["nbval-check-output"]
from transformers import GPT2Config, GPT2LMHeadModel, get_scheduler


def new_model(vocabulary_size):
    set_seed(0)
    shape = {"n_layer": 2, "n_embd": 128, "n_head": 4, "n_positions": 32}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    dropout = dict.fromkeys(["resid_pdrop", "embd_pdrop", "attn_pdrop"], 0.0)
    config = GPT2Config(vocab_size=vocabulary_size, **shape, **ends, **dropout)
    return GPT2LMHeadModel(config).to(current_profile().device)


student = new_model(len(characters))
print(f"{student.num_parameters():,} parameters, ln V = {math.log(4865):.2f}")

# %% [markdown] lang="en"
# The loop is the one behind every training in this book: take a batch, compute the loss, its gradient, a step. The
# learning rate climbs for the first steps and then falls to 0; the gradient is cut to length 1 where it is longer.
# `fit`, which the other chapters call, is this loop with a progress bar and checkpoints: twenty steps of both, from the same
# random weights, show it. Each text goes in with a mark at its start and one at its end.

# %% [markdown] lang="zh"
# 本书的每次训练，背后都是这个循环：取一个批次，算损失，求梯度，走一步。学习率先升后降，最后到 0；梯度长度超过 1 的，截到 1。
# 其他章节里的 `fit` 就是这个循环，外加进度条和检查点：从同样的随机权重出发，各走二十步，一比便知。每首诗首尾各加一个标记。


# %%
def train(model, batches, steps, learning_rate=5e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.05)
    scheduler = get_scheduler("linear", optimizer, round(0.05 * steps), steps)
    losses = []
    for step in range(steps):
        batch = batches.batch(*divmod(step, len(batches)))  # of an epoch, at a position
        ids, labels = batch["input_ids"], batch["labels"]
        loss = model(ids.to(model.device), labels=labels.to(model.device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), scheduler.step(), optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %%
from aigc_helpers import FitSettings, fit
from aigc_helpers.text import LengthBatches, load_regular_shi, next_token_loss
from aigc_helpers.text import poem_token_ids, run_on

poems = [run_on(text) for text in load_regular_shi("train", longest=24)["text"]]
batches = LengthBatches(poem_token_ids(characters, poems), None, 16, pad_token_id=0)
settings = FitSettings(20 / len(batches), 5e-3, warmup=0.05, weight_decay=0.05)
by_fit = fit(new_model(len(characters)), batches, next_token_loss, settings).curve("loss")
by_hand = train(new_model(len(characters)), batches, steps=20)
expect_close(by_hand[0], math.log(len(characters)), 0.1, "the first loss, and ln V")
# On a GPU `fit` multiplies in half precision, and our loop does not.
tolerance = 1e-3 if current_profile().dtype == torch.float32 else 0.1
expect_close(by_fit[1], by_hand, tolerance, "20 losses, fit and ours")

# %% [markdown] lang="en"
# A table that knows only how often each character occurs, a *unigram* model, reaches a loss of about 6.3. **Predict:** how
# far below that will the loss be after 250 steps (1,500 on the full profile)?

# %% [markdown] lang="zh"
# 只记得每个字出现多少次的表，也就是*一元模型*（unigram），损失在 6.3 左右。**先猜一猜：** 走 250 步（full 配置下 1,500 步）之后，损失会比它低多少？

# %% tags=["nbval-check-output"]
steps = 1500 if full_profile else 250
losses = train(student, batches, steps)
seen = Counter(token for ids in batches.token_ids for token in ids[1:].tolist())
total = sum(seen.values())
unigram = -sum(count / total * math.log(count / total) for count in seen.values())
print(f"unigram: {unigram:.2f}")
last = sum(losses[-20:]) / 20
expect(losses[0] - last, 2.5, 4.0, "loss, first step minus the last twenty")
expect(unigram - last, 0.4, 1.2, "below the unigram by")

# %%
from aigc_helpers.figures import draw_matrix, new_figure, show

figure, (axes,) = new_figure(width=6.4, height=3.2)
axes.plot(range(1, steps + 1), losses, marker="")
for height, label in [(math.log(len(characters)), "ln V"), (unigram, "unigram")]:
    axes.axhline(height, color="0.3", linestyle="--")
    axes.text(steps, height + 0.08, label, ha="right")
axes.set(xlabel="step", ylabel="loss of the batch, nats per token", ylim=(5, 9))
alt_en = "The loss starts at ln V, passes the unigram line early, and then falls slowly."
alt_zh = "损失从 ln V 起步，很快降到一元模型的线以下，之后下降变慢。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# Steep, then slow: first it learns how often characters occur and where the punctuation stands, then which character likes
# which. The poet went on for 5,185 steps, on 66,355 poems; `aigc pretrain poet` repeats that in about 20 minutes.
#
# ## 5 · Perplexity, and bits per character
#
# [Perplexity](GLOSSARY.md#perplexity) is e to the mean surprise over the $N$ predicted tokens: the number of equally likely
# tokens that would surprise as much. [Bits per character](GLOSSARY.md#bits-per-character) divides the same surprise,
# in bits, by the number $C$ of characters:
#
# $$\mathrm{PPL} = \exp\left(-\frac{1}{N} \sum_{t=1}^{N} \ln p(x_t \mid x_1, \ldots, x_{t-1})\right)$$
#
# $$\mathrm{BPC} = -\frac{1}{C} \sum_{t=1}^{N} \log_2 p(x_t \mid x_1, \ldots, x_{t-1}) = \frac{N}{C} \log_2 \mathrm{PPL}$$

# %% [markdown] lang="zh"
# 先陡后缓：先学会哪些字常见、标点在哪里，再学哪个字爱跟着哪个字。poet 用 66,355 首诗走了 5,185 步；
# `aigc pretrain poet` 可以重来一遍，约 20 分钟。
#
# ## 5 · 困惑度与每字符比特数
#
# 设预测了 $N$ 个 token，[困惑度](../GLOSSARY.md#perplexity)是 e 的“平均意外程度”次方：相当于每次要在多少个同样可能的 token
# 里挑一个。[每字符比特数](../GLOSSARY.md#bits-per-character)把同样的意外程度换成比特，再除以字符数 $C$：
#
# $$\mathrm{PPL} = \exp\left(-\frac{1}{N} \sum_{t=1}^{N} \ln p(x_t \mid x_1, \ldots, x_{t-1})\right)$$
#
# $$\mathrm{BPC} = -\frac{1}{C} \sum_{t=1}^{N} \log_2 p(x_t \mid x_1, \ldots, x_{t-1}) = \frac{N}{C} \log_2 \mathrm{PPL}$$


# %%
@torch.no_grad()
def surprises(model, encoded):
    batches, found = LengthBatches(encoded, None, 50, pad_token_id=0), []
    for position in range(len(batches)):
        batch = batches.batch(0, position)
        logits = model(batch["input_ids"].to(model.device)).logits[:, :-1]
        answers = batch["labels"][:, 1:].to(model.device)
        each = cross_entropy(logits.transpose(1, 2), answers, reduction="none")
        found.append(each[answers != -100])  # -ln p of every token, padding left out
    return torch.cat(found).cpu()


# %% tags=["nbval-check-output"]
known = set(characters.get_vocab())
unread = [run_on(text) for text in load_regular_shi("test", longest=24)["text"]]
unread = [text for text in unread if set(text) <= known][:200]
encoded = poem_token_ids(characters, unread)
poet.to(student.device)
three = {"untrained": new_model(len(characters)), "student": student, "poet": poet}
nats = {name: surprises(model, encoded) for name, model in three.items()}
expect_equal((len(nats["poet"]), sum(map(len, unread))), (5000, 4800), "tokens, characters")
expect(nats["untrained"].mean().exp() / len(characters), 0.9, 1.2, "untrained, PPL over V")
for name, low, high in [("student", 180, 300), ("poet", 105, 125)]:
    expect(nats[name].mean().exp(), low, high, f"{name}, perplexity")
    bits = nats[name].sum() / math.log(2) / 4800
    by_formula = 5000 / 4800 * math.log2(nats[name].mean().exp())
    expect_close(bits, by_formula, 1e-4, f"{name}, bits per character, both ways")

# %% [markdown] lang="en"
# (There is one token more per poem than characters: its end has to be predicted, too.)
#
# Why two measures? Train the same model on the same poems with other tokens: BPE finds over a thousand
# words, such as 何处, 春风, 不知 (where, spring wind, not knowing).
#
# **Predict:** a token may now hold several characters, so there are fewer to predict. Will perplexity be lower, higher,
# the same? And bits per character?

# %% [markdown] lang="zh"
# （每首诗的 token 比字符多一个：结尾也要预测。）
#
# 为什么要两种量法？同样的模型、同样的诗，换一种 token 来训练：BPE 合并出一千多个词，比如“何处”“春风”“不知”。
#
# **先猜一猜：** 现在一个 token 最多抵好几个字，要预测的次数少了。困惑度会变低、变高，还是不变？每字符比特数呢？


# %%
from tokenizers import Regex

paired = Tokenizer(models.BPE())
paired.pre_tokenizer = pre_tokenizers.Split(Regex("[，。？！；：]"), "isolated")
marks = ["<pad>", "<bos>", "<eos>"]
alphabet = sorted(name for name in known if len(name) == 1)
options = {"special_tokens": marks, "initial_alphabet": alphabet, "show_progress": False}
paired.train_from_iterator(poems, trainers.BpeTrainer(vocab_size=6000, **options))
in_train, in_test = (
    [[1, *each.ids, 2] for each in paired.encode_batch(texts)] for texts in (poems, unread)
)
rival = new_model(paired.get_vocab_size())
rival_losses = train(rival, LengthBatches(in_train, None, 16, pad_token_id=0), steps)

# %% tags=["nbval-check-output"]
nats["rival"] = surprises(rival, in_test)
print(paired.encode(unread[0]).tokens)
expect_equal(len(nats["rival"]), sum(len(ids) - 1 for ids in in_test), "tokens to predict")
perplexity = {name: each.mean().exp().item() for name, each in nats.items()}
bits = {name: each.sum().item() / math.log(2) / 4800 for name, each in nats.items()}
expect(perplexity["rival"] / perplexity["student"], 1.4, 2.4, "PPL, pairs over characters")
expect(bits["rival"] / bits["student"], 0.97, 1.06, "bits per character, the same")

# %%
import pandas

pandas.DataFrame({"perplexity": perplexity, "bits per character": bits}).round(2)

# %% [markdown] lang="en"
# Perplexity is higher by the factor printed above, bits per character are nearly the same: longer tokens are harder to
# guess, and there are fewer of them. **Compare perplexities only between models with one tokenizer;** across tokenizers
# compare bits per character.
#
# ## 6 · Attention by hand
#
# [Attention](GLOSSARY.md#attention) ([Vaswani et al.](REFERENCES.md#attention)) lets each position take a mean of the *values*
# of all positions, weighted by how well its *query* fits their *keys*. For $n$ queries and $m$ keys of width $d$:
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\left(\frac{Q K^{\top}}{\sqrt{d}} + M\right) V$$
#
# with $Q \in \mathbb{R}^{n \times d}$, $K \in \mathbb{R}^{m \times d}$, $V \in \mathbb{R}^{m \times v}$, and the mask
# $M \in \{0, -\infty\}^{n \times m}$: $-\infty$ where query $i$ must not see key $j$. The
# [softmax](GLOSSARY.md#softmax) of a row $s$ makes weights of it that add up to 1:
#
# $$\mathrm{softmax}(s)_j = \frac{e^{s_j}}{\sum_k e^{s_k}}$$
#
# Two masks are in use: the [causal mask](GLOSSARY.md#causal-mask) lets position $i$ see $j \leq i$ only, the [padding](GLOSSARY.md#padding) mask
# hides what fills up a batch. **Predict** the spread of $q \cdot k$ for random vectors of width 64, before the division by
# $\sqrt{d}$. (With scores that large, softmax would give nearly all weight to one key, and its gradient would vanish.)

# %% [markdown] lang="zh"
# 困惑度高出一截（高到几倍，上面印着），每字符比特数却相差无几：token 长了，难猜，但要猜的次数也少了。
# **只有分词器相同的模型，才能比困惑度；** 分词器不同，就比每字符比特数。
#
# ## 6 · 手写注意力
#
# [注意力](../GLOSSARY.md#attention)（[Vaswani 等](../REFERENCES.md#attention)）让每个位置对所有位置的 *value* 做加权平均，
# 权重取决于自己的 *query* 和对方的 *key* 有多合。
# 设有 $n$ 个 query、$m$ 个 key，宽为 $d$：
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\left(\frac{Q K^{\top}}{\sqrt{d}} + M\right) V$$
#
# 其中 $Q \in \mathbb{R}^{n \times d}$，$K \in \mathbb{R}^{m \times d}$，$V \in \mathbb{R}^{m \times v}$；掩码
# $M \in \{0, -\infty\}^{n \times m}$，第 $i$ 个 query 不许看第 $j$ 个 key 的地方是 $-\infty$。
# 一行分数 $s$ 经过 [softmax](../GLOSSARY.md#softmax)，变成和为 1 的权重：
#
# $$\mathrm{softmax}(s)_j = \frac{e^{s_j}}{\sum_k e^{s_k}}$$
#
# 常用的掩码有两种：[因果掩码](../GLOSSARY.md#causal-mask)让位置 $i$ 只看 $j \leq i$，[填充](../GLOSSARY.md#padding)掩码遮住批次里凑数的部分。
# **先猜一猜：** 宽为 64 的随机向量，在除以 $\sqrt{d}$ 之前，$q \cdot k$ 的标准差有多大？（分数这么大，softmax 会把几乎全部权重给一个
# key，梯度也就没了。）


# %%
def softmax(scores):
    powers = (scores - scores.amax(dim=-1, keepdim=True)).exp()  # shifted: no overflow
    return powers / powers.sum(dim=-1, keepdim=True)


def attention(query, key, value, allowed=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    weights = softmax(scores)
    return weights @ value, weights


# %% tags=["nbval-check-output"]
from torch.nn.functional import scaled_dot_product_attention

set_seed(0)
query, key, value = torch.randn(3, 2, 4, 6, 64)  # each (texts, heads, tokens, width)
causal = torch.ones(6, 6).tril().bool()
real = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]).bool()
masks = {"no": None, "causal": causal, "padding": real[:, None, None], "both": None}
masks["both"] = causal & masks["padding"]
for name, allowed in masks.items():
    by_torch = scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    mixed, weights = attention(query, key, value, allowed)
    expect_close(mixed, by_torch, 1e-5, f"attention, {name} mask")
expect_close(weights.sum(dim=-1), torch.ones(2, 4, 6), 1e-5, "sum of each row of weights")
expect((query @ key.transpose(-2, -1)).std(), 6.5, 10, "spread of q·k")

# %% [markdown] lang="en"
# About $\sqrt{64} = 8$: that is what the division takes back.
#
# **[Heads](GLOSSARY.md#attention-head).** A layer of width $d$ runs $h$ attentions side by side, each on a slice of width $d / h$. All are cut from
# three linear maps of the states $X \in \mathbb{R}^{n \times d}$, and a fourth mixes what they found
# ($W^Q, W^K, W^V, W^O \in \mathbb{R}^{d \times d}$):
#
# $$H_i = \mathrm{Attention}(X W^Q_i + b^Q_i, \; X W^K_i + b^K_i, \; X W^V_i + b^V_i), \qquad Y = [H_1, \ldots, H_h] W^O + b^O$$

# %% [markdown] lang="zh"
# 约为 $\sqrt{64} = 8$，除法消去的正是它。
#
# **[多头](../GLOSSARY.md#attention-head)。** 宽为 $d$ 的一层，并排运行 $h$ 个注意力，各管宽为 $d / h$ 的一段。它们都切自状态 $X \in \mathbb{R}^{n \times d}$
# 的三个线性变换，再由第四个把各自的结果混合起来（$W^Q, W^K, W^V, W^O \in \mathbb{R}^{d \times d}$）：
#
# $$H_i = \mathrm{Attention}(X W^Q_i + b^Q_i, \; X W^K_i + b^K_i, \; X W^V_i + b^V_i), \qquad Y = [H_1, \ldots, H_h] W^O + b^O$$


# %%
def linear(states, module):
    return states @ module.weight.T + module.bias


def multi_head(states, query, key, value, output, heads, allowed=None):
    texts, tokens, width = states.shape
    shape = (texts, tokens, heads, width // heads)
    cut = [linear(states, each).view(shape).transpose(1, 2) for each in (query, key, value)]
    mixed, weights = attention(*cut, allowed)
    joined = mixed.transpose(1, 2).reshape(texts, tokens, width)
    return linear(joined, output), weights


# %% tags=["nbval-check-output"]
from types import SimpleNamespace

set_seed(0)
module = torch.nn.MultiheadAttention(48, num_heads=4, batch_first=True)
parts = zip(module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True)
projections = [SimpleNamespace(weight=weight, bias=bias) for weight, bias in parts]
states = torch.randn(2, 6, 48)
options = {"key_padding_mask": ~real, "attn_mask": ~causal, "average_attn_weights": False}
by_torch, torch_weights = module(states, states, states, **options)
mixed, weights = multi_head(states, *projections, module.out_proj, 4, masks["both"])
expect_close(mixed, by_torch, 1e-5, "four heads, and nn.MultiheadAttention")
expect_close(weights, torch_weights, 1e-5, "their weights (texts, heads, tokens, tokens)")

# %% [markdown] lang="en"
# Mind the `~`: to `scaled_dot_product_attention` True means *may be seen*, to `nn.MultiheadAttention` it means *left out*.
# No error tells you.
#
# **Positions.** Nothing in the formula knows an order. BERT adds a learnt vector per position to each token's.
# **Predict:** put every token at position 0. Can BERT tell *dog bites man* from *man bites dog*?

# %% [markdown] lang="zh"
# 注意那个 `~`：在 `scaled_dot_product_attention` 里 True 是*可以看*，在 `nn.MultiheadAttention` 里 True 是*不看*。写反了也不会报错。
#
# **位置。** 公式里没有任何东西知道先后顺序。BERT 给每个位置学了一个向量，加到 token 的向量上。
# **先猜一猜：** 把所有 token 都放在位置 0，BERT 还分得清 *dog bites man* 和 *man bites dog* 吗？

# %% tags=["nbval-check-output"]
from transformers import AutoModel

attending = {"attn_implementation": "eager"}  # returns the attention weights, too
bert = AutoModel.from_pretrained(install("bert"), dtype=torch.float32, **attending).eval()
sentences = wordpiece(["dog bites man", "man bites dog"], return_tensors="pt")["input_ids"]
places = torch.arange(5).expand(2, 5)
with torch.no_grad():
    placed = bert(sentences, position_ids=places).last_hidden_state
    heaped = bert(sentences, position_ids=torch.zeros_like(places)).last_hidden_state
tolerance = 1e-4 if full_profile else 1e-5
expect_close(heaped[0, 1], heaped[1, 3], tolerance, "all at position 0: dog and dog")
expect((placed[0, 1] - placed[1, 3]).abs().max(), 0.2, 5, "in place: largest difference")

# %% [markdown] lang="en"
# It cannot: with all tokens at position 0, both sentences give *dog* the same vector. With the words in place they do not.
#
# **[Layer norm](GLOSSARY.md#layer-norm)** gives every token's vector $x \in \mathbb{R}^{d}$ mean 0 and variance 1, then a learnt scale and shift:
#
# $$\mathrm{LN}(x) = \gamma \odot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad \mu = \frac{1}{d} \sum_i x_i, \qquad \sigma^2 = \frac{1}{d} \sum_i (x_i - \mu)^2$$
#
# A BERT layer is attention, then two linear maps ($W_1 \in \mathbb{R}^{d \times f}$, $W_2 \in \mathbb{R}^{f \times d}$), each
# added to its own input and normed; $\mathrm{GELU}(x) = x \, \Phi(x)$ with the normal distribution's $\Phi$:
#
# $$A = \mathrm{LN}(X + \mathrm{MultiHead}(X)), \qquad Y = \mathrm{LN}(A + \mathrm{GELU}(A W_1 + b_1) W_2 + b_2)$$
#
# That is all of BERT. **Predict:** two texts of different length, six layers (bert-base: twelve), a thousand sums per
# number. How far will our own BERT be from transformers'?

# %% [markdown] lang="zh"
# 分不清：全放在位置 0，两句里的 *dog* 得到同一个向量；放回各自的位置，就不一样了。
#
# **[层归一化](../GLOSSARY.md#layer-norm)** 让每个 token 的向量 $x \in \mathbb{R}^{d}$ 均值为 0、方差为 1，再乘上学来的缩放、加上学来的平移：
#
# $$\mathrm{LN}(x) = \gamma \odot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta, \qquad \mu = \frac{1}{d} \sum_i x_i, \qquad \sigma^2 = \frac{1}{d} \sum_i (x_i - \mu)^2$$
#
# BERT 的一层先是注意力，再是两个线性变换（$W_1 \in \mathbb{R}^{d \times f}$，$W_2 \in \mathbb{R}^{f \times d}$）；两步的结果都要加上各自的输入，
# 再做归一化。$\mathrm{GELU}(x) = x \, \Phi(x)$，$\Phi$ 是标准正态分布函数：
#
# $$A = \mathrm{LN}(X + \mathrm{MultiHead}(X)), \qquad Y = \mathrm{LN}(A + \mathrm{GELU}(A W_1 + b_1) W_2 + b_2)$$
#
# BERT 就这些了。**先猜一猜：** 两条长短不一的文本，六层（bert-base 有十二层），每个数都要加上千次。我们手写的 BERT 和 transformers 的会差多少？


# %% tags=["nbval-check-output"]
from torch.nn.functional import layer_norm as torch_layer_norm


def layer_norm(states, weight, bias, epsilon):
    centred = states - states.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return weight * centred / (variance + epsilon).sqrt() + bias


norm = bert.embeddings.LayerNorm
states = 3 + 2 * torch.randn(2, 6, bert.config.hidden_size)
by_torch = torch_layer_norm(states, norm.weight.shape, norm.weight, norm.bias, norm.eps)
by_hand = layer_norm(states, norm.weight, norm.bias, norm.eps)
expect_close(by_hand, by_torch, 1e-5, "layer norm")


# %%
def normed(states, module):
    return layer_norm(states, module.weight, module.bias, module.eps)


def bert_layer(states, layer, heads, allowed):
    block = layer.attention
    projections = (block.self.query, block.self.key, block.self.value, block.output.dense)
    mixed, weights = multi_head(states, *projections, heads, allowed)
    states = normed(states + mixed, block.output.LayerNorm)
    wide = linear(states, layer.intermediate.dense)
    wide = wide * (1 + torch.erf(wide / math.sqrt(2))) / 2  # GELU
    states = normed(states + linear(wide, layer.output.dense), layer.output.LayerNorm)
    return states, weights


# %%
def bert_by_hand(model, ids, attention_mask):
    tables, heads = model.embeddings, model.config.num_attention_heads
    states = tables.word_embeddings.weight[ids]
    states = states + tables.position_embeddings.weight[: ids.shape[1]]
    states = states + tables.token_type_embeddings.weight[0]
    every, maps = [normed(states, tables.LayerNorm)], []
    allowed = attention_mask[:, None, None].bool()  # (texts, 1 head, 1 query, keys)
    for layer in model.encoder.layer:
        states, weights = bert_layer(every[-1], layer, heads, allowed)
        every.append(states)
        maps.append(weights)
    return torch.stack(every), torch.stack(maps)


# %% tags=["nbval-check-output"]
batch = wordpiece(texts[:2], padding=True, return_tensors="pt")
ids, attention_mask = batch["input_ids"], batch["attention_mask"]
asked = {"output_hidden_states": True, "output_attentions": True}
with torch.no_grad():
    output = bert(ids, attention_mask, **asked)
    every, maps = bert_by_hand(bert, ids, attention_mask)
for number, (ours, theirs) in enumerate(zip(every, output.hidden_states, strict=True)):
    expect_close(ours, theirs, tolerance, f"hidden states after {number} layers")
expect_close(
    maps, torch.stack(output.attentions), tolerance, "attention weights, all layers"
)

# %% [markdown] lang="en"
# ## 7 · Attention maps
#
# A map shows, per row, where one token looks. Some heads have a plain duty, and a rule finds them: mean weight on the token
# before, on the token after; and the one whose weights are spread most evenly (largest entropy).

# %% [markdown] lang="zh"
# ## 7 · 注意力图
#
# 图中每一行表示一个 token 看向哪里。有的头分工明确，用一条规则就能找出来：平均权重最偏向前一个 token 的、最偏向后一个 token 的；
# 再找一个权重分得最匀的（熵最大）。


# %% tags=["nbval-check-output"]
def attention_maps(sentence):
    inputs = wordpiece(sentence, truncation=True, return_tensors="pt")
    with torch.no_grad():
        maps = bert(**inputs, output_attentions=True).attentions
    names = wordpiece.convert_ids_to_tokens(inputs["input_ids"][0])
    return names, torch.cat(maps)  # (layers, heads, tokens, tokens)


names, maps = attention_maps("the film was slow but the actors shone")
entropy = -(maps * maps.clamp(min=1e-9).log()).sum(dim=-1).mean(dim=-1)
duties = {"before": maps.diagonal(-1, -2, -1).mean(dim=-1), "even": entropy}
duties["after"] = maps.diagonal(1, -2, -1)[..., 1:-1].mean(dim=-1)
expect(duties["before"].max(), 0.9, 1.0, "one head's mean weight on the token before")
expect(duties["after"].max(), 0.5, 1.0, "one head's mean weight on the token after")

# %%
figure, all_axes = new_figure(width=13.5, height=4.9, columns=3)
for axes, (duty, scores) in zip(all_axes, duties.items(), strict=True):
    layer, head = divmod(int(scores.argmax()), maps.shape[1])
    draw_matrix(axes, maps[layer, head].tolist(), number_format=".1f")
    axes.set_xticks(range(len(names)), names, rotation=60)
    axes.set_yticks(range(len(names)), names)
    axes.set_title(f"{duty}: layer {layer + 1}, head {head + 1}")
    axes.set_xlabel("looked at")
all_axes[0].set_ylabel("looking")
alt_en = "Three maps: weight left of the diagonal, spread out, right of the diagonal."
alt_zh = "三张注意力图：权重落在对角线左边一格、分散在各处、落在对角线右边一格。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# Nobody told the heads what to do. In all-MiniLM-L6-v2 the third rests on `[CLS]` where the next word does not concern it:
# *the → film*, *was → slow*, but not *slow → but*. And do not read too much into a map: it shows from where a value is *taken*, not what
# is in it, and after the first layer every position holds something of all the others.
#
# Now your own sentence. The panel's code twin is `attention_maps` above.

# %% [markdown] lang="zh"
# 没有人告诉这些头该做什么。在 all-MiniLM-L6-v2 里，后一个词与自己无关时，第三个头就停在 `[CLS]` 上：它会从 *the* 看向 *film*、从 *was* 看向 *slow*，却不会从 *slow* 看向 *but*。
# 不过也别对图做过多解读：它只说明 value 从哪里*取*，不说明里面是什么；而且过了第一层，
# 每个位置都已经混进了其他位置的信息。
#
# 换成你自己的句子试试。与面板等价的代码就是上面的 `attention_maps`。

# %% tags=["panel"]
from IPython.display import display

from aigc_helpers.panels import AttentionPanel

display(AttentionPanel(attention_maps, "the film was slow but the actors shone"))

# %% [markdown] lang="en"
# ## 8 · Encoder, decoder, encoder–decoder
#
# Three families from the same parts; what differs is who sees whom.
#
# | family | example | self-attention | cross-attention | learns to | used for |
# |---|---|---|---|---|---|
# | encoder | [BERT](REFERENCES.md#bert) | all see all | – | fill in masked tokens | classify, compare, search |
# | decoder | [GPT-2](REFERENCES.md#gpt-2) | only what came before | – | say the next token | write |
# | [encoder–decoder](GLOSSARY.md#encoder-decoder) | [T5](REFERENCES.md#t5) | source: all; target: before | target sees all of the source | write the target | translate, summarise |
#
# Do not believe the table, measure it: change one token, and see whose output moves. (Random weights will do.)

# %% [markdown] lang="zh"
# ## 8 · 编码器、解码器、编码器–解码器
#
# 三个家族用的是同样的零件，区别只在谁能看见谁。
#
# | 家族 | 例子 | 自注意力 | 交叉注意力 | 学的是 | 用来 |
# |---|---|---|---|---|---|
# | 编码器 | [BERT](../REFERENCES.md#bert) | 互相都能看 | 无 | 补出被掩盖的 token | 分类、比较、检索 |
# | 解码器 | [GPT-2](../REFERENCES.md#gpt-2) | 只看前面的 | 无 | 说出下一个 token | 写作 |
# | [编码器–解码器](../GLOSSARY.md#encoder-decoder) | [T5](../REFERENCES.md#t5) | 源文：都能看；译文：只看前面 | 译文能看全部源文 | 写出译文 | 翻译、摘要 |
#
# 别只信表格，量一量：改动一个 token，看哪些位置的输出变了。（随机权重就够。）


# %%
from transformers import BertConfig, BertModel, GPT2Model, T5Config, T5Model


def sees(output_of, ids):
    changed = ids.repeat(ids.shape[1], 1).fill_diagonal_(9)  # row j: token j is another
    with torch.no_grad():
        moved = (output_of(changed) - output_of(ids)).abs().amax(dim=-1) > 1e-5
    return moved.int().T.tolist()  # row: position of the output; column: token changed


set_seed(0)
shape = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2}
encoder = BertModel(BertConfig(**shape, num_attention_heads=2)).eval()
decoder = GPT2Model(GPT2Config(**shape, num_attention_heads=2)).eval()
t5 = T5Model(T5Config(**shape, num_heads=2, d_kv=16, d_ff=64, **attending)).eval()

# %% tags=["nbval-check-output"]
source, target = torch.tensor([[3, 4, 5, 6, 7, 8]]), torch.tensor([[10, 11, 12, 13]])


def t5_states(source, target):
    rows = max(len(source), len(target))
    return t5(source.expand(rows, -1), decoder_input_ids=target.expand(rows, -1))[0]


seen = {"encoder (BERT)": sees(lambda ids: encoder(ids)[0], source)}
seen["decoder (GPT-2)"] = sees(lambda ids: decoder(ids)[0], source)
seen["T5: target sees target"] = sees(lambda ids: t5_states(source, ids), target)
seen["T5: target sees source"] = sees(lambda ids: t5_states(ids, target), source)
triangle = torch.ones(6, 6).tril().int().tolist()
expect_equal(seen["encoder (BERT)"] == [[1] * 6] * 6, True, "encoder: all see all")
expect_equal(seen["decoder (GPT-2)"] == triangle, True, "decoder: no looking ahead")

# %% tags=["nbval-check-output"]
expect_equal(seen["T5: target sees source"] == [[1] * 6] * 4, True, "target sees source")
output = t5(source, decoder_input_ids=target, output_attentions=True)
expect_equal(tuple(output.encoder_attentions[0].shape), (1, 2, 6, 6), "source to source")
expect_equal(tuple(output.decoder_attentions[0].shape), (1, 2, 4, 4), "target to target")
expect_equal(tuple(output.cross_attentions[0].shape), (1, 2, 4, 6), "target to source")
figure, all_axes = new_figure(width=12, height=3.2, columns=4)
for axes, (title, matrix) in zip(all_axes, seen.items(), strict=True):
    draw_matrix(axes, matrix, number_format="d")
    axes.set(xticks=range(len(matrix[0])), yticks=range(len(matrix)), title=title)
    axes.set(xlabel="token changed", ylabel="output moved")
alt_en = "Encoder: all ones. Decoder, T5's target: lower triangle. Target to source: all."
alt_zh = "编码器全为 1；解码器与 T5 的译文是下三角；译文看源文全为 1。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# Cross-attention takes its queries from the target and its keys and values from the source: 4 × 6, no square. Otherwise
# it is the `attention` from above.
#
# ## 9 · How many parameters, how many operations
#
# With width $d$, inner width $f$, $L$ layers, a vocabulary of $V$ and $P$ positions, a layer has
#
# $$p = 4(d^2 + d) + (2 d f + f + d) + 2 \cdot 2 d$$
#
# parameters: four maps of attention, two of the feed-forward part, two norms. BERT adds three tables, a norm and a *pooler*;
# GPT-2 two tables and a norm, and its output layer is its embedding again:
#
# $$N_{\mathrm{BERT}} = (V + P + 2) d + 2d + L p + (d^2 + d), \qquad N_{\mathrm{GPT2}} = (V + P) d + L p + 2d$$

# %% [markdown] lang="zh"
# 交叉注意力的 query 来自译文，key 和 value 来自源文：4 × 6，不是方阵。除此之外，就是前面的 `attention`。
#
# ## 9 · 多少参数，多少次运算
#
# 设宽为 $d$，内层宽 $f$，共 $L$ 层，词表 $V$ 项，位置 $P$ 个，一层的参数是
#
# $$p = 4(d^2 + d) + (2 d f + f + d) + 2 \cdot 2 d$$
#
# 即注意力的四个线性变换、前馈部分的两个、两个归一化。BERT 还有三张表、一个归一化和一个*池化层*（pooler）；
# GPT-2 还有两张表和一个归一化，输出层就是嵌入本身：
#
# $$N_{\mathrm{BERT}} = (V + P + 2) d + 2d + L p + (d^2 + d), \qquad N_{\mathrm{GPT2}} = (V + P) d + L p + 2d$$


# %% tags=["nbval-check-output"]
def layer_parameters(d, f):
    return 4 * (d * d + d) + (2 * d * f + f + d) + 2 * 2 * d


b = bert.config
predicted = (b.vocab_size + b.max_position_embeddings + 2 + 2) * b.hidden_size
predicted += b.num_hidden_layers * layer_parameters(b.hidden_size, b.intermediate_size)
predicted += b.hidden_size**2 + b.hidden_size
expect_equal(predicted, sum(p.numel() for p in bert.parameters()), "BERT's parameters")
gpt2_name = "openai-community/gpt2" if full_profile else poet_path
gpt2 = AutoModelForCausalLM.from_pretrained(gpt2_name, dtype=torch.float32, **attending)
g, d = gpt2.config, gpt2.config.n_embd
gpt2_size = (g.vocab_size + g.n_positions + 2) * d
gpt2_size += g.n_layer * layer_parameters(d, 4 * d)
expect_equal(gpt2_size, sum(p.numel() for p in gpt2.parameters()), "GPT-2's parameters")

# %% [markdown] lang="en"
# A product of $(n \times k)$ by $(k \times m)$ takes $2 n k m$ floating-point operations: a multiplication and an
# addition each. For one text of $n$ tokens, a layer multiplies by its weights, and every token by every other, twice
# (scores, and mixing):
#
# $$F_{\mathrm{layer}} = 2 n (4 d^2 + 2 d f) + 2 \cdot 2 n^2 d$$
#
# GPT-2's output layer adds $2 n d V$, BERT's pooler $2 d^2$. **Predict:** what does a training step cost, in forward
# passes?

# %% [markdown] lang="zh"
# $(n \times k)$ 乘 $(k \times m)$ 要做 $2 n k m$ 次浮点运算，乘一次、加一次。对一条 $n$ 个 token 的文本，一层要和自己的权重相乘；
# token 之间还要两两相乘，共两遍（算分数一遍，加权平均一遍）：
#
# $$F_{\mathrm{layer}} = 2 n (4 d^2 + 2 d f) + 2 \cdot 2 n^2 d$$
#
# GPT-2 的输出层再加 $2 n d V$，BERT 的池化层再加 $2 d^2$。**先猜一猜：** 训练一步，相当于几次前向？


# %% tags=["nbval-check-output"]
from torch.utils.flop_counter import FlopCounterMode


def layer_flops(n, d, f):
    return 2 * n * (4 * d * d + 2 * d * f) + 4 * n * n * d


text = torch.randint(3, 1000, (1, 48))
with torch.no_grad(), FlopCounterMode(display=False) as counted:
    bert(text)
flops = b.num_hidden_layers * layer_flops(48, b.hidden_size, b.intermediate_size)
expect_equal(counted.get_total_flops(), flops + 2 * b.hidden_size**2, "BERT, 48 tokens")

# %% tags=["nbval-check-output"]
with FlopCounterMode(display=False) as counted:
    loss = gpt2(text, labels=text).loss
flops = g.n_layer * layer_flops(48, d, 4 * d) + 2 * 48 * d * g.vocab_size
expect_equal(counted.get_total_flops(), flops, "GPT-2, 48 tokens")
with FlopCounterMode(display=False) as counted_backward:
    loss.backward()
expect_equal(counted_backward.get_total_flops() / flops, 2.0, "backward over forward")
expect(flops / (2 * gpt2_size * 48), 0.9, 1.1, "forward over 2 × parameters × tokens")

# %% [markdown] lang="en"
# The backward pass costs two forward ones, so a training step costs three. That makes about $6 N$ operations per token:
# $2 N$ forward, $4 N$ backward. For the poet's 4.0 million tokens that is $1.1 \cdot 10^{14}$. For all-MiniLM-L6-v2, $2 N$
# would be too much: half its parameters are an embedding, which is looked up and not multiplied. And the term $n^2$ is why
# long texts are dear.
#
# ## 10 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **03-1, change a line.** From a perplexity per token, the number of tokens and the number of characters, return bits per
# character.

# %% [markdown] lang="zh"
# 反向一次抵两次前向，所以训练一步相当于三次前向。每个 token 约要 $6 N$ 次运算：前向 $2 N$，反向 $4 N$。
# poet 读了 400 万个 token，一共是 $1.1 \cdot 10^{14}$ 次。对 all-MiniLM-L6-v2 来说 $2 N$ 估得太多：它有一半参数是嵌入，只查表、不相乘。而 $n^2$ 那一项，就是长文本昂贵的原因。
#
# ## 10 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **03-1，改一行。** 给定每个 token 的困惑度、token 数和字符数，返回每字符比特数。

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def bits_per_character(perplexity, tokens, characters):
    # begin solution
    return tokens / characters * math.log2(perplexity)
    # end solution


check_exercise("03-1", bits_per_character)

# %% [markdown] lang="en"
# **03-2, draw the mask.** From `attention_mask` of shape (texts, tokens), with 0 for padding, return the Boolean mask of a
# *decoder*, of shape (texts, tokens, tokens): True where the query of a row may see the key of a column.

# %% [markdown] lang="zh"
# **03-2，画掩码。** `attention_mask` 的形状是（文本，token），填充处为 0。返回*解码器*的布尔掩码，形状是（文本，token，token）：
# 某行的 query 可以看某列的 key，那里就是 True。


# %% tags=["exercise", "nbval-check-output"]
def decoder_mask(attention_mask):
    # begin solution
    tokens = attention_mask.shape[1]
    before = torch.ones(tokens, tokens).tril().bool()
    return before & attention_mask.bool()[:, None, :]
    # end solution


check_exercise("03-2", decoder_mask)

# %% [markdown] lang="en"
# **03-3, write it yourself.** The masking rule with one random number $u$ per token, given in `draws`: below 0.15 a token is
# chosen; of the chosen, the lowest 80 % become `mask_id`, the next 10 % the token in `random_ids`, the rest stay. Return two
# lists, inputs and labels.

# %% [markdown] lang="zh"
# **03-3，自己动手。** 掩码规则，每个 token 只用一个随机数 $u$，放在 `draws` 里：小于 0.15 就被选中；选中的当中，最小的 80 % 换成
# `mask_id`，接下来的 10 % 换成 `random_ids` 里的 token，其余不动。返回两个列表：输入和标签。


# %% tags=["exercise", "nbval-check-output"]
def mask_by_draws(ids, draws, mask_id, random_ids):
    # begin solution
    inputs, labels = list(ids), [-100] * len(ids)
    for place, u in enumerate(draws):
        if u < 0.15:
            labels[place] = ids[place]
            if u < 0.15 * 0.8:
                inputs[place] = mask_id
            elif u < 0.15 * 0.9:
                inputs[place] = random_ids[place]
    return inputs, labels
    # end solution


check_exercise("03-3", mask_by_draws)

# %% [markdown] lang="en"
# ## Summary
#
# - BPE counts and merges, nothing more; what is not in its letters is lost, unless it starts from bytes.
# - A causal model is asked at every token and shifts the labels itself; a masked one at 15 %, by the 80/10/10 rule.
# - The first loss is ln V. Perplexity compares models of one tokenizer, bits per character all.
# - Attention is a weighted mean. Masks say who sees whom; positions have to be put in; heads are slices.
# - Your own functions gave BERT's hidden states and weights to 1e-5 (to 1e-4 through bert-base's twelve layers).
# - Forward costs about 2 N operations per token, training 6 N, where N counts what is multiplied.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | the first loss is far from ln V | wrong labels, weights of another scale, or not random at all | check samples and weights before you train |
# | characters vanish from decoded text | the tokenizer was trained without them and has no unknown token | byte-level BPE, or an initial alphabet |
# | perplexity jumps when the tokenizer changes | it is counted per token | bits per character |
# | the output is `nan` | a row of the mask forbids every key: softmax of nothing but −∞ | let each query see at least one key |
# | attention looks where it must not, no error | True means the opposite in `nn.MultiheadAttention` | `~mask`; change a token and see what moves |
# | `attentions` is empty or `None` | the fused kernel returns no weights | `attn_implementation="eager"` |
# | a hand-made layer norm is off by a little | `var()` divides by d − 1 | `unbiased=False` |
#
# **Where next:** chapter 04 adds a low-rank update to the linear maps that you have just met; chapters 05 and 06 train
# such updates on this BERT and this poet.

# %% [markdown] lang="zh"
# ## 小结
#
# - BPE 不过是数数和合并；不在它字母表里的字符会丢掉，除非从字节开始。
# - 因果模型每个 token 都要答，标签由它自己移位；掩码模型只答 15 %，按 80/10/10 的规则。
# - 第一个损失是 ln V。困惑度只能在同一个分词器的模型之间比，每字符比特数都能比。
# - 注意力就是加权平均。掩码规定谁能看谁；位置要另外加进去；头就是切出来的一段。
# - 你自己的函数算出了 BERT 的隐藏状态和注意力权重，误差不超过 1e-5（bert-base 有十二层，不超过 1e-4）。
# - 前向每个 token 约 2 N 次运算，训练约 6 N 次，N 只数参与相乘的参数。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | 第一个损失离 ln V 很远 | 标签错了、权重的尺度不对，或者根本不是随机的 | 训练之前先检查样本和权重 |
# | 解码出来的文本少了字 | 训练分词器时没有这些字符，又没有 `[UNK]` | 用字节级 BPE，或给出初始字母表 |
# | 换了分词器，困惑度突然变了 | 困惑度是按 token 算的 | 改用每字符比特数 |
# | 输出是 `nan` | 掩码有一行把 key 全遮住了：softmax 的输入全是 −∞ | 每个 query 至少让它看一个 key |
# | 看了不该看的地方，却不报错 | 在 `nn.MultiheadAttention` 里 True 的意思相反 | 写 `~mask`；改动一个 token，看看哪里变了 |
# | `attentions` 是空的或 `None` | 融合算子不返回权重 | `attn_implementation="eager"` |
# | 自己写的层归一化差一点点 | `var()` 除的是 d − 1 | `unbiased=False` |
#
# **下一步：** 第 04 章给刚刚认识的这些线性变换加上低秩更新；第 05、06 章就在这个 BERT 和这个 poet 上训练这样的更新。
