# %% [markdown] lang="en"
# # 07 · LoRA for translation
#
# {{badge}}
#
# **What you will be able to do:** say what an encoder–decoder reads and writes, and prove it; give a tokenizer the
# characters it lacks, and train just those rows together with a LoRA; bring a translation model into a new domain and
# say what it cost in the old one; read BLEU and chrF as critically as they deserve; and know when none of them will do.
#
# | | embedded profile | full profile |
# |---|---|---|
# | model | t5, 1.0 M parameters, made for this book | google-t5/t5-small (60 M) |
# | old domain | dates, numbers, times, quantities, English ↔ Chinese | its own English → German |
# | new domain | prices in formal capital numerals, English ↔ Chinese | the same |
# | time | under 3 minutes on two CPU cores | {{full_time}} |
# | memory | 0.7 GB | {{full_memory}} |
# | download | none once the workbook is set up | 245 MB |
#
# You need Python, and [LoRA](GLOSSARY.md#lora) as in chapter 05 or 06. You need not read Chinese: every price here is right
# or wrong by a rule, and the code knows the rule. Numbers that stand in the text were measured on the embedded profile; on
# the full one, read yours under the cells.

# %% [markdown] lang="zh"
# # 07 · 用 LoRA 做翻译
#
# {{badge}}
#
# **学完本章，你能够：** 说清编码器—解码器读什么、写什么，并亲手验证；给分词器补上它缺的字，只训练这几行嵌入和一个 LoRA；
# 把翻译模型带进新领域，并说清旧领域为此付出了多少；带着应有的怀疑去读 BLEU 和 chrF；也知道什么时候这些指标都不管用。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | t5，100 万参数，专为本书训练 | google-t5/t5-small（6000 万参数） |
# | 旧领域 | 日期、数字、钟点、数量，英汉互译 | 它本来就会的英译德 |
# | 新领域 | 金额与中文大写数字，英汉互译 | 同左 |
# | 时间 | 两个 CPU 核心不到 3 分钟 | {{full_time}} |
# | 内存 | 0.7 GB | {{full_memory}} |
# | 下载 | 装好本书之后不再需要 | 245 MB |
#
# 需要会 Python，并知道 [LoRA](../GLOSSARY.md#lora) 是怎么回事（第 05 或 06 章）。这里的每个金额译得对不对，都有规则可循，代码自己会判断。
# 正文里的数字都是在 embedded 配置下测得的；full 配置下，请看各单元格下面打印出来的数。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · Two domains
#
# A cheque writes its amount twice: 123.45, and 壹佰贰拾叁元肆角伍分. The capitals are hard to forge, and have rules: `整`
# closes whole yuan, `零` stands for a gap. The book's T5 knows everyday numerals (一百二十三) from dates, numbers,
# times and quantities. It has never seen a price. Both domains come from a grammar, so every pair has one right answer.
# (t5-small knows neither: on the full profile its old domain is its own German, from section 1's last cell on.)

# %% [markdown] lang="zh"
# ## 1 · 两个领域
#
# 支票上的金额要写两遍：123.45，和壹佰贰拾叁元肆角伍分。大写不易涂改，而且有规矩：整元之后写“整”，中间空位写“零”。
# 本书的 T5 从日期、数字、钟点和数量里学过日常数字（一百二十三），却从没见过金额。两个领域都由语法生成，每一对都有唯一的正确答案。
# （t5-small 两样都不会：full 配置下，从本节最后一个单元格起，旧领域换成它本来就会的德语。）

# %% tags=["nbval-check-output"]
from aigc_helpers.figures import draw_matrix, new_figure, show
from aigc_helpers.notebook import expect, expect_close, expect_equal
from aigc_helpers.profile import current_profile
from aigc_helpers.text import PREFIXES, Example, draw_pairs, to_examples

full_profile = current_profile().name == "full"
for domain in ("old", "price"):
    for pair in draw_pairs(domain, "train", 4):
        print(f"{domain:5}  {pair.english}  ↔  {pair.chinese}")
new_train = to_examples(draw_pairs("price", "train", 1500))
new_test = to_examples(draw_pairs("price", "test", 200))
trained_on = {example.source for example in new_train}
seen = sum(example.source in trained_on for example in new_test)
expect_equal(seen, 0, "test sentences in training")
print(*new_test[0])

# %% [markdown] lang="en"
# An example is a source, a target and the language to write. The source begins with a task in plain words: that is how
# [T5](REFERENCES.md#t5) was trained to do many things with one set of weights.
#
# Load the model. (`eager` attention is the plain one, which can also be looked at.) `generate` writes; we only cut the
# work into batches.

# %% [markdown] lang="zh"
# 一个样本包括原文、译文和目标语言。原文以一句话点明任务：[T5](../REFERENCES.md#t5) 就是这样用同一套权重学会许多事的。
#
# 加载模型。（`eager` 是最朴素的注意力实现，可以把权重拿出来看。）翻译由 `generate` 完成，我们只负责分批。

# %%
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, set_seed

from aigc_helpers import install

base_name = "google-t5/t5-small" if full_profile else install("t5")
options = {"dtype": torch.float32, "use_safetensors": True, "attn_implementation": "eager"}


def new_base():
    model = AutoModelForSeq2SeqLM.from_pretrained(base_name, **options)
    return model.to(current_profile().device).eval()


tokenizer, base = AutoTokenizer.from_pretrained(base_name), new_base()


# %%
def tokenize(texts):
    return tokenizer(texts, padding=True, return_tensors="pt").to(base.device)


def translate(model, examples, **options):
    written = []
    for start in range(0, len(examples), 100):
        batch = tokenize([example.source for example in examples[start : start + 100]])
        outputs = model.generate(**batch, max_new_tokens=64, **options)
        written += tokenizer.batch_decode(outputs, skip_special_tokens=True)
    return written


# %% [markdown] lang="en"
# What does the base know already? On the embedded profile, the grammar's old domain. t5-small knows German, and has
# no references here: its own German stands in for them, so that later we see how far a tuned model has moved away.

# %% [markdown] lang="zh"
# 基座已经会什么？embedded 配置下，是语法里的旧领域。t5-small 会德语，这里没有参考译文，就拿它自己的德语译文顶替，
# 后面好看微调之后偏离了多少。

# %% tags=["nbval-check-output"]
from aigc_helpers.text import load_reviews


def known_examples(split, count):
    if not full_profile:
        return to_examples(draw_pairs("old", split, count))
    texts = load_reviews(split)["text"].head(count // 10)
    asked = [Example(f"translate English to German: {text}", "", "de") for text in texts]
    answers = translate(base, asked)
    return [e._replace(target=german) for e, german in zip(asked, answers, strict=True)]


old_test = known_examples("test", 200)
for example in old_test[:4]:
    print(f"{example.source}  →  {translate(base, [example])[0]}")

# %% [markdown] lang="en"
# ## 2 · Reader and writer
#
# An [encoder–decoder](GLOSSARY.md#encoder-decoder) has two halves. The encoder reads the source once, each token seeing
# all others. The decoder writes one token after another. Each of its layers has two
# [attentions](GLOSSARY.md#attention): one to what is written so far, and **[cross-attention](GLOSSARY.md#cross-attention)** to what the encoder made.

# %% [markdown] lang="zh"
# ## 2 · 读者与作者
#
# [编码器—解码器](../GLOSSARY.md#encoder-decoder)分两半。编码器把原文通读一遍，每个 token 都能看到其他所有 token；
# 解码器一个接一个地写。解码器每层有两处[注意力](../GLOSSARY.md#attention)：一处看已经写出来的，另一处叫[**交叉注意力**](../GLOSSARY.md#cross-attention)，看编码器的输出。

# %% tags=["nbval-check-output"]
for half in (base.encoder, base.decoder):
    layer = half.block[0].layer
    print(f"{len(half.block)} layers of", *(type(part).__name__ for part in layer))
cross = base.decoder.block[0].layer[1].EncDecAttention
for name, module in cross.named_children():
    print(f"EncDecAttention.{name}: {type(module).__name__} {tuple(module.weight.shape)}")
same = base.lm_head.weight is base.shared.weight
expect_equal(same, True, "one table for reading and writing")

# %% [markdown] lang="en"
# While it learns, the decoder is given the right beginning, whatever it would have written itself: **[teacher forcing](GLOSSARY.md#teacher-forcing)**. So
# all places of a sentence are trained in one pass. What it reads is the target, moved one place to the right, with
# `decoder_start_token_id` in front. `-100` marks the places that do not count.
#
# **Predict:** what is the first thing the decoder reads? (T5 has no special token for it.)

# %% [markdown] lang="zh"
# 训练时，不管解码器自己会写什么，都把正确的上文交给它，这叫[**教师强制**](../GLOSSARY.md#teacher-forcing)（teacher forcing）。这样一句话的所有位置一遍就能训练完。
# 它读到的是右移一位的译文，最前面放 `decoder_start_token_id`。`-100` 标出不计损失的位置。
#
# **先猜一猜：** 解码器读到的第一个 token 是什么？（T5 没有专门的起始符。）

# %% tags=["nbval-check-output"]
from torch.nn.functional import cross_entropy

tolerance = 1e-2 if full_profile else 1e-4
batch = tokenize([example.source for example in old_test[:2]])
target = tokenize([example.target for example in old_test[:2]])
labels = target["input_ids"].masked_fill(target["attention_mask"] == 0, -100)
read = base.prepare_decoder_input_ids_from_labels(labels)
print(tokenizer.convert_ids_to_tokens(read[0])[:5], "is read")
print(tokenizer.convert_ids_to_tokens(target["input_ids"][0])[:5], "is to be written")
with torch.no_grad():
    output = base(**batch, labels=labels)
by_hand = cross_entropy(output.logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
expect_close(output.loss, by_hand, tolerance, "the model's loss and the loss by hand")

# %% [markdown] lang="en"
# Padding doubles as the start. Nothing needs to be shifted by you: pass `labels`, and T5 makes `decoder_input_ids` itself.
#
# When it translates there is no teacher: the decoder reads what it has written. Always taking the likeliest token is
# **greedy** search. [Beam search](GLOSSARY.md#beam-search) follows several beginnings at once and keeps the one that is
# likeliest as a whole.

# %% [markdown] lang="zh"
# 填充 token 兼作起始符。你不必自己移位：传入 `labels`，T5 会自己做出 `decoder_input_ids`。
#
# 翻译时没有老师：解码器读的是自己写出来的东西。每步都取最可能的 token，叫**贪心**搜索；[束搜索](../GLOSSARY.md#beam-search)
# 同时跟踪几个开头，留下整句最可能的那个。


# %% tags=["nbval-check-output"]
def greedy(model, source):
    inputs = tokenize([source])
    states = model.encoder(**inputs)  # the source is read once
    written = torch.full((1, 1), model.config.decoder_start_token_id, device=model.device)
    while written[0, -1] != tokenizer.eos_token_id and written.shape[1] <= 64:
        with torch.no_grad():
            logits = model(encoder_outputs=states, decoder_input_ids=written).logits
        written = torch.cat([written, logits[:, -1:].argmax(-1)], dim=1)
    return tokenizer.decode(written[0], skip_special_tokens=True)


several = old_test[:10]
alone = [greedy(base, example.source) for example in several]
equal = alone == [translate(base, [example])[0] for example in several]
expect_equal(equal, True, "by hand and with generate")

# %% tags=["nbval-check-output"]
by_greedy = translate(base, old_test)
by_beam = translate(base, old_test, num_beams=4)
differ = sum(one != other for one, other in zip(by_greedy, by_beam, strict=True))
expect(differ / len(old_test), 0, 0.1, "greedy and beam differ, share")
pinyin = {"公": "gong", "斤": "jin", "大": "da", "米": "mi"}  # figures have no Chinese font
inputs = tokenize([PREFIXES["zh"] + "25 kilograms of rice"])

# %% [markdown] lang="en"
# A model that is sure of itself has nothing to search for. Beam search pays for longer, freer texts, such as t5-small's
# German; for dates and prices it is four times the work for next to nothing, so we stay greedy.
#
# Where does the decoder look? The cross-attention of the last layer, one row per token written:

# %% [markdown] lang="zh"
# 模型心里有数的时候，没什么可搜索的。束搜索对又长又自由的文本才值得，比如 t5-small 的德语译文；
# 对日期和金额来说，是四倍的工作量，几乎没有收益，所以我们用贪心。
#
# 解码器在看哪里？下面是最后一层的交叉注意力，写出的每个 token 占一行：

# %%
written = base.generate(**inputs, max_new_tokens=20)
with torch.no_grad():
    output = base(**inputs, decoder_input_ids=written[:, :-1], output_attentions=True)
weights = output.cross_attentions[-1][0].mean(0).cpu()  # mean over the heads
rows = tokenizer.convert_ids_to_tokens(written[0, 1:])
columns = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
figure, (axes,) = new_figure(width=8, height=0.4 * len(rows) + 1.4)
draw_matrix(axes, weights.tolist(), ".1f")
axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
axes.set_yticks(range(len(rows)), [pinyin.get(row, row) for row in rows])
alt_en = "Digits look at their digits, gong at kilograms, da at rice."
alt_zh = "每个数字看着原文的数字，“公”看着 kilograms，“大”看着 rice。"
if full_profile:  # t5-small has not learnt Chinese, and writes something else
    alt_en, alt_zh = "A row of weights for each token.", "写出的每个 token 一行权重。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# On the embedded profile each digit looks at its digit, 公 (gong) at *kilograms*, 大 (da) at *rice*. The second halves 斤 and
# 米 look nowhere in particular: after 公 and 大 they are certain. Nobody taught the model this alignment; it is what made
# the loss fall. (t5-small has no Chinese, and writes what it can.)
#
# ## 3 · Scores, before any training
#
# Three figures, for each language written: the share of exact matches; [BLEU](GLOSSARY.md#bleu), which counts shared
# sequences of one to four words ([Papineni et al.](REFERENCES.md#bleu)); and [chrF](GLOSSARY.md#chrf), which counts
# sequences of one to six characters ([Popović](REFERENCES.md#chrf)). Both come from
# [sacreBLEU](REFERENCES.md#sacrebleu), so that others can compute the same.
#
# **Predict:** the base on the old domain, and on prices.

# %% [markdown] lang="zh"
# embedded 配置下，每个数字看着原文里的那个数字，“公”看着 *kilograms*，“大”看着 *rice*。后半个字“斤”和“米”没有盯着哪里：
# 前一个字写出来，后一个就不言自明了。没有人教过模型这种对齐，它是在降低损失的过程中自己学会的。（t5-small 不会中文，只能写它会写的。）
#
# ## 3 · 训练之前的得分
#
# 每个目标语言三个数：完全一致的比例；[BLEU](../GLOSSARY.md#bleu)，数一数共有的一到四元词组
# （[Papineni 等](../REFERENCES.md#bleu)）；[chrF](../GLOSSARY.md#chrf)，数一数共有的一到六个连续字符
# （[Popović](../REFERENCES.md#chrf)）。两者都用 [sacreBLEU](../REFERENCES.md#sacrebleu) 算，别人才能算出同样的数。
#
# **先猜一猜：** 基座在旧领域上能得多少？在金额上呢？

# %%
import numpy
import pandas
from sacrebleu.metrics import BLEU, CHRF


def score(translations, examples):
    rows = {}
    table = pandas.DataFrame(examples).assign(written=translations)
    for language, part in table.groupby("language", sort=False):
        texts = part["written"].tolist(), [part["target"].tolist()]
        exact = 100 * (part["written"] == part["target"]).mean()
        bleu = BLEU(tokenize="zh" if language == "zh" else "13a").corpus_score(*texts).score
        rows[f"into {language}"] = [exact, bleu, CHRF().corpus_score(*texts).score]
    return pandas.DataFrame(rows, index=["exact %", "BLEU", "chrF"]).T


# %%
outputs, old_outputs = {"base": translate(base, new_test)}, {"base": by_greedy}
for number in range(0, len(new_test), 60):
    example = new_test[number]
    print(f"{example.source}\n    → {outputs['base'][number]}\n    ≠ {example.target}")
parts = {"old": score(by_greedy, old_test), "prices": score(outputs["base"], new_test)}
before = pandas.concat(parts)
before.round(1)

# %% tags=["nbval-check-output"]
for row in before.loc["old"].index:
    expect(before.loc[("old", row), "BLEU"], 95, 100, f"old domain, {row}: BLEU")
    expect(before.loc[("old", row), "exact %"], 90, 100, f"old domain, {row}: exact")
for row in before.loc["prices"].index:
    expect(before.loc[("prices", row), "BLEU"], 0, 20, f"prices, {row}: BLEU")
    expect(before.loc[("prices", row), "exact %"], 0, 1, f"prices, {row}: exact")

# %% [markdown] lang="en"
# ## 4 · Do not trust the number yet
#
# **Claim: BLEU depends on what counts as a word.** Chinese has no spaces. The default tokenisation, `13a`, was made for
# European languages and takes a whole Chinese sentence for one word.
#
# **Predict:** the score of *perfect* Chinese, under `13a`.

# %% [markdown] lang="zh"
# ## 4 · 先别相信这个数
#
# **说法：BLEU 取决于什么算一个词。** 中文没有空格。默认的切分方式 `13a` 是为欧洲语言设计的，会把一整句中文当成一个词。
#
# **先猜一猜：** *完全正确*的中文，用 `13a` 打分是多少？

# %% tags=["nbval-check-output"]
perfect = [e.target for e in new_test if e.language == "zh"]
spoilt = [text.replace("佰", "仟", 1) for text in perfect]  # a wrong place in some
for cut in ("13a", "zh", "char"):
    bleu = BLEU(tokenize=cut)
    scores = [bleu.corpus_score(texts, [perfect]).score for texts in (perfect, spoilt)]
    print(f"{cut:5} perfect {scores[0]:5.1f}, spoilt {scores[1]:5.1f}")
    print(f"      {bleu.get_signature()}")
by_default = BLEU().corpus_score(perfect, [perfect]).score
expect_equal(by_default, 0, "perfect, by default")

# %% [markdown] lang="en"
# Zero: with one word per sentence there is no sequence of four to share. `zh` and `char` agree, as these texts are nothing
# but Chinese characters; on mixed text they part, for `zh` keeps `2024` in one piece and `char` does not. So a BLEU without
# its **signature** says nothing: it names the tokenisation, the number of references, the version.
#
# **Claim: corpus BLEU is not the mean of sentence BLEUs.** It adds up the counts of all sentences first. And a perfect
# text of three characters has no sequence of four at all.

# %% [markdown] lang="zh"
# 零分：一句只有一个词，自然没有四元词组可以共有。`zh` 和 `char` 一致，因为这里全是汉字；遇到混排文本就不同了，
# `zh` 把 `2024` 当一个词，`char` 则逐个字符切开。所以，不带**签名**的 BLEU 毫无意义：签名里写着切分方式、参考译文数和版本。
#
# **说法：语料级 BLEU 不是句子级 BLEU 的平均。** 它先把所有句子的计数加起来再算。而只有三个字的完美译文，根本没有四元词组。

# %% tags=["nbval-check-output"]
bleu = BLEU(tokenize="zh", effective_order=True)
texts = zip(spoilt, perfect, strict=True)
one_by_one = [bleu.sentence_score(written, [right]).score for written, right in texts]
mean = sum(one_by_one) / len(one_by_one)
whole = BLEU(tokenize="zh").corpus_score(spoilt, [perfect]).score
expect(abs(mean - whole), 0.5, 15, "mean of sentences and corpus differ by")
short = BLEU(tokenize="zh").corpus_score(["三杯茶"], [["三杯茶"]]).score
expect_equal(short, 0, "corpus BLEU of one short perfect sentence")
alone = bleu.sentence_score("三杯茶", ["三杯茶"]).score
expect_close(alone, 100, 1e-6, "with effective_order")

# %% [markdown] lang="en"
# `effective_order` leaves out the lengths that a sentence does not have. It is for single sentences only.
#
# **Claim: a high BLEU can hide the only error that matters.**
#
# **Predict:** one numeral of twelve is wrong. How high is BLEU?

# %% [markdown] lang="zh"
# `effective_order` 会跳过句子里不存在的长度，只用于单句。
#
# **说法：BLEU 再高，也可能盖住唯一要紧的错误。**
#
# **先猜一猜：** 十二个字里错了一个数字，BLEU 有多高？

# %% tags=["nbval-check-output"]
from aigc_helpers.errors import ReaderError
from aigc_helpers.text import figures_amount, parse_capital_amount

cheque, forged = "壹仟贰佰叁拾肆元伍角陆分", "玖仟贰佰叁拾肆元伍角陆分"
zh_bleu = BLEU(tokenize="zh", effective_order=True)
expect(zh_bleu.sentence_score(forged, [cheque]).score, 88, 93, "BLEU of the wrong amount")
expect(CHRF().sentence_score(forged, [cheque]).score, 86, 92, "chrF of the wrong amount")
owed, paid = map(parse_capital_amount, (cheque, forged))
print(f"owed {figures_amount(owed)}, paid {figures_amount(paid)}")
print(f"wrong by {figures_amount(paid - owed)}")

# %% [markdown] lang="en"
# BLEU 90, and 8,000 yuan gone. For amounts the measure that counts is the **[exact match](GLOSSARY.md#exact-match)**; BLEU and chrF say how far a model
# is on its way. Keep all three.
#
# ## 5 · The characters that are missing
#
# Which words and characters of the new domain does the tokenizer read as `<unk>`?

# %% [markdown] lang="zh"
# BLEU 是 90，八千元没了。对金额来说，真正算数的是[**完全一致**](../GLOSSARY.md#exact-match)；BLEU 和 chrF 只说明模型走到了哪一步。三个数都留着看。
#
# ## 5 · 缺的字
#
# 新领域里，有哪些单词和汉字会被分词器读成 `<unk>`？

# %% tags=["nbval-check-output"]
import re

pairs = draw_pairs("price", "train", 1500)
pieces = sorted({p for e, z, _ in pairs for p in re.findall(r"[a-z]+|[^\x00-\x7f]", e + z)})
unknown = tokenizer.unk_token_id
ids = tokenizer(pieces, add_special_tokens=False)["input_ids"]
new_tokens = [piece for piece, each in zip(pieces, ids, strict=True) if unknown in each]
print(f"{len(new_tokens)} of {len(pieces)}:", *new_tokens)
if not full_profile:
    expect_equal("零" in new_tokens or "分" in new_tokens, False, "零 or 分 missing")

# %% [markdown] lang="en"
# What is `<unk>` can be neither read nor written; no LoRA mends that. (t5-small has no Chinese character at all.) Two
# calls make room: `add_tokens` for the tokenizer, `resize_token_embeddings` for the model.
#
# The new rows are drawn around the mean of the old ones, so at first they are all alike. They have relatives, though: 壹
# means what 一 means, and 元, 角 and 整 stand where 点 (o'clock), 刻 (quarter) and 半 (half past) stand in a time. A row
# copied from its relative starts where the model already understands something. (t5-small has no 一 either; there
# English words serve.)

# %% [markdown] lang="zh"
# 是 `<unk>` 就既读不出也写不出，LoRA 救不了。（t5-small 则一个汉字都没有。）腾地方要两次调用：分词器用 `add_tokens`，
# 模型用 `resize_token_embeddings`。
#
# 新的行是在旧行的平均值附近随机取的，一开始彼此几乎一样。可它们有亲戚：壹就是一；
# 元、角、整在金额里的位置，就像点、刻、半在钟点里的位置。从亲戚那里抄一行过来，起点就是模型已经懂得的东西。
# （t5-small 连“一”也没有，就用英文单词。）

# %% tags=["nbval-check-output"]
from peft import LoraConfig, PeftModel, TaskType, get_peft_model

amount = PREFIXES["en"] + cheque
print(tokenizer.tokenize(amount)[-4:], "→", tokenizer(amount)["input_ids"][-3:])
expect_equal(tokenizer.add_tokens(new_tokens), len(new_tokens), "tokens added")
new_ids = tokenizer.convert_tokens_to_ids(new_tokens)
print(tokenizer.tokenize(amount)[-4:])
round_trip = tokenizer.decode(tokenizer(cheque)["input_ids"][:-1])
expect_equal(round_trip, cheque, "read and written")


# %%
capitals = [*"壹贰叁肆伍陆柒捌玖拾佰仟元角整零分", "yuan", "fen"]
everyday = [*"一二三四五六七八九十百千点刻半零分", "hours", "minutes"]
words = "one two three four five six seven eight nine ten hundred thousand"
english = f"{words} dollar quarter whole zero cent yuan fen".split()
relatives = dict(zip(capitals, english if full_profile else everyday, strict=True))


def resized_base(with_relatives=True):
    set_seed(0)
    model = new_base()
    rows = model.resize_token_embeddings(len(tokenizer)).weight.data
    if with_relatives:
        for token, new_id in zip(new_tokens, new_ids, strict=True):
            rows[new_id] = rows[tokenizer(relatives[token])["input_ids"][-2]]  # before </s>
    return model


# %% [markdown] lang="en"
# Training the whole table would change every old word, too, and be saved whole. `trainable_token_indices` trains just the
# rows named, here of `shared`, which encoder, decoder and output have in common. And the modules: T5 calls them `q`,
# `k`, `v`, `o` in its attentions, `wi` and `wo` between them. A name counts wherever it ends a path: `q` means the
# attention of the encoder, of the decoder, *and* the cross-attention.
#
# **Claim: the tie holds.** The three users of the table read the same trained rows: what is learnt for reading is learnt
# for writing. The second cell changes one new row, to see who notices.
#
# **Predict** the number of trained parameters: an A and a B per module, and a row per new token.

# %% [markdown] lang="zh"
# 训练整张表会连旧词一起改动，还得整张保存。`trainable_token_indices` 只训练点名的几行，这里是 `shared` 的行，
# 编码器、解码器和输出层共用它。再看模块名：T5 的注意力里叫 `q`、`k`、`v`、`o`，中间的前馈层叫 `wi`、`wo`。
# 路径以这个名字结尾就算数：写 `q`，编码器、解码器的自注意力*和*交叉注意力就都算上了。
#
# **说法：共用关系没断。** 三处读的是同一批训练中的行，学会读的同时也就学会了写。第二个单元格改动一个新行，看看谁会察觉。
#
# **先猜**要训练多少个参数：每个模块一对 A、B，每个新 token 一行。

# %% tags=["nbval-check-output"]
config = LoraConfig(
    task_type=TaskType.SEQ_2_SEQ_LM,
    r=4,
    lora_alpha=8,
    target_modules=["q", "v", "wi", "wo"],
    trainable_token_indices={"shared": new_ids},
)
trial = get_peft_model(resized_base(), config)
layers, wide = base.config.num_layers + base.config.num_decoder_layers, base.config.d_model
across = 4 * (wide + base.config.num_heads * base.config.d_kv)  # A and B of q, or of v
between = 4 * (wide + base.config.d_ff)  # of wi, or of wo
attentions = layers + base.config.num_decoder_layers
predicted = 2 * attentions * across + 2 * layers * between + len(new_ids) * wide
expect_equal(trial.get_nb_trainable_parameters()[0], predicted, "trained, as predicted")

# %% tags=["nbval-check-output"]
inside = trial.base_model.model
rows = inside.shared.token_adapter.trainable_tokens_delta["default"]
with torch.no_grad():
    rows[0] = 1.0
    wanted = torch.tensor([new_ids[0]], device=rows.device)
    for half in (inside.encoder, inside.decoder):
        expect_close(half.embed_tokens(wanted)[0], rows[0], 1e-6, "embed_tokens")
    expect_close(inside.lm_head(rows[:1])[0, new_ids[0]], wide, 1e-2, "lm_head, 1 · 1")

# %% [markdown] lang="en"
# ## 6 · Training
#
# The batches are the project's; `DataCollatorForSeq2Seq` of transformers makes the same. What matters is that the labels'
# padding is `-100`, and the inputs' padding is not.
#
# Before the real training, fifty steps twice: with new rows from around the mean, and with rows copied from relatives.
#
# **Predict:** does the start of 17 rows matter much, among 37,000 trained numbers? (For t5-small both are more: the cells
# above say how many.)

# %% [markdown] lang="zh"
# ## 6 · 训练
#
# 批次用的是本书自己的类；transformers 的 `DataCollatorForSeq2Seq` 做出来的一样。要紧的是：标签用 `-100` 填充，输入则不是。
#
# 正式训练之前，先各走五十步：一次新行取在平均值附近，一次从亲戚那里抄来。
#
# **先猜一猜：** 总共训练 3.7 万个数，17 行的起点影响大吗？（t5-small 的这两个数都更大，见上面的单元格。）

# %% tags=["nbval-check-output"]
from transformers import DataCollatorForSeq2Seq

from aigc_helpers.text import TranslationBatches

ours = TranslationBatches(tokenizer, new_train[:8], batch_size=8)
batch = ours.batch(epoch=0, position=0)
features = [
    {"input_ids": ids.tolist(), "labels": target.tolist()}
    for ids, target in zip(ours.token_ids, ours.targets, strict=True)
]
collated = DataCollatorForSeq2Seq(tokenizer)(features)
for name in ("input_ids", "attention_mask", "labels"):
    same = sorted(batch[name].tolist()) == sorted(collated[name].tolist())
    expect_equal(same, True, f"{name}: the same rows")

# %%
from aigc_helpers import FitSettings, fit


def adapt(examples, epochs=4, with_relatives=True):
    model = get_peft_model(resized_base(with_relatives), config)
    batches = TranslationBatches(tokenizer, examples, batch_size=32)
    settings = FitSettings(epochs, learning_rate=1e-3 if full_profile else 5e-3)
    result = fit(model, batches, lambda model, batch: model(**batch).loss, settings)
    losses = result.curve("loss")[1]
    print(f"{result.steps} steps, loss {losses[0]:.2f} → {sum(losses[-10:]) / 10:.3f}")
    return model.eval(), losses


_, from_mean = adapt(new_train[:1600], 1, with_relatives=False)
_, from_relatives = adapt(new_train[:1600], 1)

# %% tags=["nbval-check-output"]
gap = sum(from_mean[-10:]) / 10 - sum(from_relatives[-10:]) / 10
expect(gap, 3, 5.2, "loss after 50 steps, from the mean minus from relatives")

# %% [markdown] lang="en"
# The same LoRA, the same fifty steps: rows that are all alike hold everything up. Now for good, twice, from the same base.
# One adapter sees prices alone; the other rehearses: old pairs are mixed in, as many as new ones. Both take about as many
# steps; the lines under the cell count them.
#
# **Predict:** which is better on prices? Which forgets more of the old domain?

# %% [markdown] lang="zh"
# 同样的 LoRA，同样的五十步：各行彼此一样，什么都被拖住了。下面正式训练，从同一个基座训练两个适配器：一个只看金额；
# 另一个边学边复习，掺进同样多的旧领域句对。两者的步数差不多，单元格下面会打印出来。
#
# **先猜一猜：** 哪个的金额翻得更好？哪个忘得更多？

# %%
mixed = new_train + known_examples("train", 1500)
tuned, _ = adapt(new_train, 4 * len(mixed) / len(new_train))  # as many steps as the next
rehearsed, _ = adapt(mixed)
models = {"tuned": tuned, "rehearsed": rehearsed}

# %% [markdown] lang="en"
# ## 7 · Before and after

# %% [markdown] lang="zh"
# ## 7 · 前后对比

# %%
for name, model in models.items():
    outputs[name] = translate(model, new_test)
    old_outputs[name] = translate(model, old_test)
for number in range(0, len(new_test), 60):
    print(f"{new_test[number].source}\n    → {outputs['rehearsed'][number]}")
prices = pandas.concat({name: score(texts, new_test) for name, texts in outputs.items()})
prices.round(1)

# %% tags=["nbval-check-output"]
for row in before.loc["prices"].index:
    for name in models:
        expect(prices.loc[(name, row), "BLEU"], 85, 100, f"prices, {name}, {row}: BLEU")
        expect(prices.loc[(name, row), "exact %"], 60, 100, f"prices, {name}, {row}: exact")

# %% [markdown] lang="en"
# From next to nothing to nearly all. Is the difference between the two adapters real, or the luck of these sentences? A
# paired [bootstrap](REFERENCES.md#bootstrap) (Koehn 2004) draws the test sentences anew, with replacement, and
# scores both systems on the *same* draw each time. For exact matches that is a mean of differences; for BLEU, each draw is
# scored anew. If the interval of a difference holds 0, the test cannot tell the two apart, whichever is ahead in the table.

# %% [markdown] lang="zh"
# 从几乎为零到几乎全对。那么两个适配器之间的差别是真的，还是碰巧抽到了这些句子？配对[自助法](../REFERENCES.md#bootstrap)
# （Koehn 2004）有放回地重抽测试句，每次让两个系统在*同一批*句子上比。对“完全一致”来说，
# 就是差值的平均；对 BLEU，则每次抽样都重新打分。差值的区间若包含 0，这个测试就分不出两者，不管表里谁在前面。


# %% tags=["nbval-check-output"]
def paired_bootstrap(one, other, draws=2000):
    targets = numpy.array([example.target for example in new_test])
    first, second = (numpy.array(outputs[name]) == targets for name in (one, other))
    differences = second.astype(float) - first
    count = len(differences)
    chosen = numpy.random.default_rng(0).integers(count, size=(draws, count))
    return numpy.percentile(100 * differences[chosen].mean(axis=1), [2.5, 97.5])


low, high = paired_bootstrap("base", "tuned")
expect(low, 50, 100, "tuned minus base, exact, low end")
low, high = paired_bootstrap("tuned", "rehearsed")
expect(low, -15, 5, "rehearsed minus tuned, low end")
expect(high, -10, 10, "rehearsed minus tuned, high end")

# %%
from aigc_helpers.metrics import compare_bleu

chinese = [number for number, example in enumerate(new_test) if example.language == "zh"]
right = [new_test[number].target for number in chinese]
capital = {name: [texts[number] for number in chinese] for name, texts in outputs.items()}
for one, other in [("base", "tuned"), ("tuned", "rehearsed")]:
    found = compare_bleu(capital[one], capital[other], right, "zh")
    print(f"BLEU of {other} minus {one}: {found.difference}, p = {found.p_value:.3f}")

# %% [markdown] lang="en"
# ## 8 · What was forgotten
#
# Nobody asked about the old domain in training. Its test, unchanged:

# %% [markdown] lang="zh"
# ## 8 · 忘掉了什么
#
# 训练时没人关心旧领域。还是原来那份测试：

# %%
old = pandas.concat({name: score(texts, old_test) for name, texts in old_outputs.items()})
old.round(1)

# %% tags=["nbval-check-output"]
for row in before.loc["old"].index:
    of_base = old.loc[("base", row), "BLEU"]
    without, rehearsed = (of_base - old.loc[(name, row), "BLEU"] for name in models)
    expect(rehearsed, -10, 20, f"{row}: BLEU lost with rehearsal")
    expect(without, 60, 100, f"{row}: BLEU lost without")
with models["tuned"].disable_adapter():
    switched_off = translate(models["tuned"], old_test)
expect_equal(switched_off == by_greedy, True, "adapter off: the base again")

# %% [markdown] lang="en"
# Prices alone cost the old domain: asked for a quantity, the embedded model's adapter writes capitals, for in its training
# nothing else was ever right. With rehearsal little of it is lost: the lines above say how many points of BLEU, and on another machine that
# comes out a few points higher or lower.
#
# And what did rehearsal cost on prices? Both adapters took as many steps, but part of what the rehearsing one read was
# old: it saw each price less often. The interval of "rehearsed minus tuned" in section 7 answers that. All of it
# below 0: prices suffered. All of it above 0: they gained. With 0 inside, this test cannot tell. And each was trained with a
# single seed; another seed can move both.
#
# Switched off, the base is back, word for word. Where you know which domain a text belongs to, that is the surest cure.
#
# ## 9 · Which cheques are wrong?
#
# Look at the errors themselves, and at what BLEU makes of exactly those sentences. Every amount can be read back by rule:
# `parse_capital_amount` refuses what breaks a rule.
#
# **Predict:** are the wrong ones against the rules of writing, or proper amounts that are not the right ones? Which is worse?

# %% [markdown] lang="zh"
# 只学金额，赔上了旧领域：embedded 模型的适配器，问它数量，它也写大写，因为训练时从来只有大写才对。边学边复习，旧领域就丢得很少：掉了几点 BLEU，看上面打印的数；
# 换一台机器，会有几个点的出入。
#
# 复习让金额付出了多少代价？两个适配器的步数一样，可是边学边复习的那个，读到的有一部分是旧样本，每条金额见的次数就少了。
# 答案在第 7 节 “rehearsed minus tuned” 的区间里：整个在 0 以下，金额受了损；整个在 0 以上，反而得了益；包含 0，这个测试就分不出来。
# 况且两边都只训练了一个种子，换个种子，都可能变。
#
# 关掉适配器，基座原样回来，一字不差。如果你知道一句话属于哪个领域，这是最稳妥的办法。
#
# ## 9 · 哪些支票写错了？
#
# 看看错误本身，再看看 BLEU 给这些句子打多少分。每个金额都可以按规则读回来：不合规则的，`parse_capital_amount` 会拒绝。
#
# **先猜一猜：** 错的那些，是写法不合规则，还是写法规范、金额不对？哪种更糟？


# %% tags=["nbval-check-output"]
def kind_of(text, reference):
    try:
        found = parse_capital_amount(text)
    except ReaderError:
        return "form"
    return "right" if found == parse_capital_amount(reference) else "amount"


final = list(zip(capital["rehearsed"], right, strict=True))
kinds = [kind_of(written, reference) for written, reference in final]
expect(kinds.count("right") / len(kinds), 0.6, 1, "share of right amounts")
exact = [written == reference for written, reference in final]
expect_equal(kinds.count("right") == sum(exact), True, "these are the exact matches")

# %%
wrong = [(written, reference) for written, reference in final if written != reference]
for written, reference in wrong[:6]:
    print(f"{kind_of(written, reference):6}  {written}  ≠  {reference}")
print({kind: kinds.count(kind) for kind in ("right", "amount", "form")})
if wrong:
    written, references = map(list, zip(*wrong, strict=True))
    print("the wrong ones:", BLEU(tokenize="zh").corpus_score(written, [references]))

# %% [markdown] lang="en"
# The count above says it: under `amount` stand proper amounts that are not the right ones, as a rule most of the wrong ones,
# and they are the worse kind. A broken rule (`form`) can be caught by a checker (exercise 07-4); a well-formed amount that is
# not the right one cannot, and even exactly these sentences get a BLEU far above 0 (the last line). A system that writes
# cheques would compute the capitals, as `capital_amount` does in a few lines, and not ask a model.
#
# **Claim: the score depends on the references.** 伍元零伍分 is "five yuan and five fen", and just as well "5.05
# yuan". A second reference allows both. (chrF here: two words are too few for BLEU.)

# %% [markdown] lang="zh"
# 看上面的计数：`amount` 是写法规范、只是金额不对的，通常占了错误的大多数，也是更糟的一种。不合规则的（`form`），检查程序能抓住
# （练习 07-4）；写法规范、金额不对的，抓不住。就连这些全错的句子，BLEU 给的分也远不是 0（最后一行）。真要开支票的系统，
# 应该像 `capital_amount` 那样用几行代码算出大写，而不是去问模型。
#
# **说法：得分取决于参考译文。** 伍元零伍分可以说成 “five yuan and five fen”，也可以写成 “5.05 yuan”。加上第二份参考译文，两种都算对。
# （这里用 chrF：只有两个词，BLEU 算不了。）

# %% tags=["nbval-check-output"]
english = [e for e in new_test if e.language == "en"]
amounts = [parse_capital_amount(e.source.removeprefix(PREFIXES["en"])) for e in english]
in_words, in_figures = [e.target for e in english], [figures_amount(a) for a in amounts]
chrf = CHRF()
for references in ([in_words], [in_figures], [in_words, in_figures]):
    words, figures = (
        chrf.corpus_score(t, references).score for t in (in_words, in_figures)
    )
    print(f"words {words:5.1f}, figures {figures:5.1f}   {chrf.get_signature()}")

# %% [markdown] lang="en"
# The same perfect text scores 100 or close to 10, depending on which reference somebody chose to write down.
#
# ## 10 · Save, load, compare
#
# An adapter whose tokens nobody knows is of no use: save the tokenizer beside it. (`save_embedding_layers=False`: the new
# rows are already in the adapter; the whole table need not be.) This is how `data/price_adapter` was made.

# %% [markdown] lang="zh"
# 同一份完美的译文，可以得 100 分，也可以只有 10 分上下，全看当初写下的是哪种参考译文。
#
# ## 10 · 保存、加载、比对
#
# 没人知道新 token 是什么，适配器就没法用：把分词器存在旁边。（`save_embedding_layers=False`：新的行已经在适配器里了，不必再存整张表。）
# `data/price_adapter` 就是这样做出来的。

# %% tags=["nbval-check-output"]
from pathlib import Path
from tempfile import mkdtemp

folder = Path(mkdtemp())
models["rehearsed"].save_pretrained(folder, save_embedding_layers=False)
tokenizer.save_pretrained(folder)
size = (folder / "adapter_model.safetensors").stat().st_size
expect(size / (4 * predicted), 1.0, 1.1, f"over {4 * predicted:,} bytes")
loaded_tokenizer = AutoTokenizer.from_pretrained(folder)
expect_equal(len(loaded_tokenizer), len(tokenizer), "tokens, the new ones included")
fresh = resized_base()  # before the adapter comes, or its rows have no place
loaded = PeftModel.from_pretrained(fresh, folder).eval()
same = translate(loaded, new_test) == outputs["rehearsed"]
expect_equal(same, True, "the same translations")

# %% tags=["nbval-check-output"]
batch, labels = (ours.batch(0, 0)[name].to(base.device) for name in ("input_ids", "labels"))
two_models = models["rehearsed"], loaded
with torch.no_grad():
    saved, again = (each(input_ids=batch, labels=labels).logits for each in two_models)
expect_equal(torch.equal(saved, again), True, "logits, to the last bit")
merged = loaded.merge_and_unload()
with torch.no_grad():
    logits = merged(input_ids=batch, labels=labels).logits
expect_close(logits, saved, 10 * tolerance, "merged")
expect_equal(merged.lm_head.weight is merged.shared.weight, True, "still one table")

# %% [markdown] lang="en"
# ## 11 · Try it
#
# Type an amount or a date, in English or Chinese, and choose a model. The panel translates there and back. The score compares the
# way back with what you typed; `5.05 yuan` comes back in words and scores badly, though nothing is wrong. The panel's code
# twin is `translate` above, called twice.

# %% [markdown] lang="zh"
# ## 11 · 试一试
#
# 输入一个金额或日期，中英文都行，再选一个模型。面板先翻过去，再翻回来。分数比较的是译回的文字和你的输入；`5.05 yuan` 译回来是单词，
# 分数很低，其实没有错。与面板等价的代码就是上面的 `translate`，调用两次。

# %% tags=["panel"]
from IPython.display import display

from aigc_helpers.panels import TranslationPanel


def translator(model):
    def one(text, language):
        return translate(model, [Example(PREFIXES[language] + text, "", language)])[0]

    return one


shown = {"base": resized_base(with_relatives=False), **models}  # none may lack a row
choices = {name: translator(model) for name, model in shown.items()}
display(TranslationPanel(choices, "two hundred and five yuan and seven fen"))

# %% [markdown] lang="en"
# ## 12 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **07-1, change a number.** LoRA of rank `rank` on `q` and `v` of every attention of a T5 whose attentions are `width` ×
# `width`, and the rows of `tokens` new tokens: how many parameters are trained?

# %% [markdown] lang="zh"
# ## 12 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **07-1，改一个数。** T5 的每处注意力都是 `width` × `width`，在所有注意力的 `q` 和 `v` 上用秩为 `rank` 的 LoRA，再加上 `tokens` 个
# 新 token 的行：一共训练多少个参数？

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def count_trained(encoder_layers, decoder_layers, width, rank, tokens):
    # begin solution
    attentions = encoder_layers + 2 * decoder_layers
    return attentions * 2 * 2 * rank * width + tokens * width
    # end solution


check_exercise("07-1", count_trained)

# %% [markdown] lang="en"
# **07-2, by hand.** BLEU punishes a translation that is shorter than its reference: with lengths c and r the score is
# multiplied by 1 if c ≥ r, else by e^(1 − r/c). Write this brevity penalty; an empty translation gets 0. It is compared
# with sacreBLEU's.

# %% [markdown] lang="zh"
# **07-2，手工计算。** 译文比参考译文短，BLEU 要扣分：设长度为 c 和 r，c ≥ r 时乘 1，否则乘 e^(1 − r/c)。写出这个简短惩罚；
# 译文为空时为 0。结果会与 sacreBLEU 的比对。

# %% tags=["exercise", "nbval-check-output"]
import math


def brevity_penalty(translation, reference):
    # begin solution
    if not translation:
        return 0.0
    return min(1.0, math.exp(1 - reference / translation))
    # end solution


check_exercise("07-2", brevity_penalty)

# %% [markdown] lang="en"
# **07-3, teacher forcing.** Given `labels` (with -100), the id to `start` from and the id for `padding`, return what the
# decoder reads.

# %% [markdown] lang="zh"
# **07-3，教师强制。** 给定 `labels`（含 -100）、起始编号 `start` 和填充编号 `padding`，返回解码器读到的内容。


# %% tags=["exercise", "nbval-check-output"]
def decoder_reads(labels, start, padding):
    # begin solution
    first = torch.full_like(labels[:, :1], start)
    moved = torch.cat([first, labels[:, :-1]], dim=1)
    return moved.masked_fill(moved == -100, padding)
    # end solution


check_exercise("07-3", decoder_reads)

# %% [markdown] lang="en"
# **07-4, write it yourself.** A checker for capital amounts: return the names of the rules that `text` breaks, in this
# order. `"end"`: 整 closes an amount that stops at 元, and no other. `"gap"`: between 元 and 分, a missing 角 leaves
# 零. `"ten"`: 拾, 佰 and 仟 have a numeral from 壹 to 玖 right before them. Then run it over `wrong`: which rules does the
# model break?

# %% [markdown] lang="zh"
# **07-4，自己动手。** 写一个大写金额的检查函数，按下面的顺序返回 `text` 违反的规则名。`"end"`：金额止于元时以“整”结尾，其余不写“整”；
# `"gap"`：元和分之间缺了角，要写“零”；`"ten"`：拾、佰、仟前面紧跟着壹到玖的一个数字。写好后拿 `wrong` 跑一遍：模型违反了哪些规则？


# %% tags=["exercise", "nbval-check-output"]
def broken_rules(text):
    # begin solution
    numerals = "[壹贰叁肆伍陆柒捌玖]"
    broken = []
    if text.endswith("整") != text.removesuffix("整").endswith("元"):
        broken.append("end")
    if re.search(f"元{numerals}分", text):
        broken.append("gap")
    if re.search(f"(?<!{numerals})[拾佰仟]", text):
        broken.append("ten")
    return broken
    # end solution


check_exercise("07-4", broken_rules)

# %% [markdown] lang="en"
# ## Summary
#
# - The encoder reads the source once; the decoder reads what is written, and looks at the source through cross-attention. In
#   training it reads the right beginning, and `-100` takes padding out of the loss.
# - What the tokenizer reads as `<unk>`, no LoRA can learn: add tokens, resize, and train the new rows with
#   `trainable_token_indices`. PEFT keeps T5's three users of the table together.
# - A new row starts best as a copy of its relative's. In the book's T5, 37,000 trained numbers took prices from a BLEU near
#   0 to a high one; without rehearsal the old domain was gone, with it little was lost.
# - A BLEU without its signature means nothing; corpus and sentence BLEU differ; one reference is one opinion.
# - Where a single character decides, only the exact match counts.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `Target modules {'query', 'value'} not found in the base model` | names of another model | T5: `q`, `k`, `v`, `o`, `wi`, `wo` |
# | `You must specify exactly one of input_ids or inputs_embeds` | neither labels nor decoder inputs given | pass `labels`, or use `generate` |
# | `IndexError: index out of range in self` | tokens added, the model not resized | `model.resize_token_embeddings(len(tokenizer))` |
# | `IndexError: index 450 is out of bounds for dimension 0 with size 450` | the adapter loaded before the resizing | resize first, then `PeftModel.from_pretrained` |
# | the output is right but lacks characters | they are `<unk>`, and dropped as special tokens | look for `tokenizer.unk_token_id`, add tokens |
# | the model repeats itself without end | the labels had no `</s>`, or the padding was not `-100` | look at `batch["labels"]` |
# | BLEU of Chinese is 0 or strangely low | `tokenize="13a"`, the default | `tokenize="zh"` |
# | two papers' BLEU do not fit together | other tokenisation, references, version | compare signatures first |
#
# **Where next:** chapter 12 judges all models of this book by these rules; chapter 06 did the same for a decoder alone. The
# adapter that ships is `data/price_adapter`; `aigc evaluate t5` measures it.

# %% [markdown] lang="zh"
# ## 小结
#
# - 编码器把原文读一遍；解码器读已经写出来的，并通过交叉注意力看原文。训练时它读的是正确的上文，`-100` 把填充排除在损失之外。
# - 分词器读成 `<unk>` 的，LoRA 学不会：添加 token、扩大嵌入表，用 `trainable_token_indices` 训练新的行。
#   T5 有三处共用这张表，PEFT 会让它们保持一致。
# - 新的行最好从亲戚那里抄一份起步。在本书的 T5 上训练 3.7 万个数，金额的 BLEU 就从接近 0 升到很高；不复习，旧领域全忘了，边学边复习则丢得很少。
# - 不带签名的 BLEU 没有意义；语料级与句子级 BLEU 不是一回事；一份参考译文只是一种说法。
# - 一字之差就天差地别的地方，只有完全一致才算数。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `Target modules {'query', 'value'} not found in the base model` | 用了别的模型的模块名 | T5 用 `q`、`k`、`v`、`o`、`wi`、`wo` |
# | `You must specify exactly one of input_ids or inputs_embeds` | 既没给标签，也没给解码器输入 | 传入 `labels`，或者用 `generate` |
# | `IndexError: index out of range in self` | 加了 token，却没扩大模型的嵌入表 | `model.resize_token_embeddings(len(tokenizer))` |
# | `IndexError: index 450 is out of bounds for dimension 0 with size 450` | 还没扩表就加载适配器 | 先扩表，再 `PeftModel.from_pretrained` |
# | 译文大体对，却缺字 | 缺的是 `<unk>`，被当作特殊 token 丢掉了 | 查找 `tokenizer.unk_token_id`，添加 token |
# | 模型没完没了地重复 | 标签里没有 `</s>`，或者填充不是 `-100` | 看看 `batch["labels"]` |
# | 中文的 BLEU 是 0，或者低得离谱 | 用了默认的 `tokenize="13a"` | `tokenize="zh"` |
# | 两篇论文的 BLEU 对不上 | 切分方式、参考译文或版本不同 | 先比对签名 |
#
# **下一步：** 第 12 章用这些标准评判本书所有的模型；第 06 章在只有解码器的模型上做了同样的事。随书附带的适配器是
# `data/price_adapter`，`aigc evaluate t5` 可以测它。
