# %% [markdown] lang="en"
# # 12 · Evaluation
#
# {{badge}}
#
# **What you will be able to do:** choose a figure that does not flatter; say how sure it is; recognise the traps of
# accuracy, perplexity, BLEU, CLIP score and FID when you read them elsewhere; tell a real difference from luck; let
# people vote without knowing what they vote for; and report a result so that somebody else can get it again.
#
# | | embedded profile | full profile |
# |---|---|---|
# | models | the book's own: BERT with a LoRA, the poet, tiny-CLIP, the small Stable Diffusion | the same |
# | time | under 3 minutes on two CPU cores | the same |
# | memory | 1.6 GB | the same |
# | download | none once the workbook is set up | none |
#
# You need Python. What the models do is told in chapters 05, 06 and 09; none of it is needed here.

# %% [markdown] lang="zh"
# # 12 · 评测
#
# {{badge}}
#
# **学完本章，你能够：** 挑一个不会往好看里说的指标；说清它有多可靠；在别处读到准确率、困惑度、BLEU、CLIP 分数和 FID 时，
# 认得出里面的陷阱；分清真正的差别和运气；让人在不知道投给谁的情况下投票；把结果写得别人也能复现。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | 全是本书自己的：带 LoRA 的 BERT、poet、tiny-CLIP、微型 Stable Diffusion | 相同 |
# | 时间 | 两个 CPU 核心不到 3 分钟 | 相同 |
# | 内存 | 1.6 GB | 相同 |
# | 下载 | 装好本书之后不再需要 | 无 |
#
# 会 Python 就行。这些模型怎么工作，见第 05、06、09 章；这里用不到。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · Accuracy, and who profits from it
#
# The judge of chapter 05 is a BERT with a LoRA that tells praise from blame in film reviews. Loaded, it reads 1,000 snippets
# that it has never seen, and 1,000 others for later.

# %% [markdown] lang="zh"
# ## 1 · 准确率，以及它便宜了谁
#
# 第 05 章的裁判是一个带 LoRA 的 BERT，负责分辨影评的褒贬。加载之后，让它读 1,000 条从没见过的短评，再读 1,000 条留待后用。

# %% tags=["nbval-check-output"]
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from aigc_helpers import install
from aigc_helpers.notebook import expect, expect_close, expect_equal
from aigc_helpers.text import load_reviews, predict_logits

bert = install("bert", "embedded")
tokenizer = AutoTokenizer.from_pretrained(bert)
base = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
critic = PeftModel.from_pretrained(base, install("film-adapter")).eval()
test, watch = load_reviews("test"), load_reviews("validation")
labels = test["label"].astype(int).to_numpy()
expect_equal(len(test), 1000, "test snippets")


# %% tags=["nbval-check-output"]
from peft.tuners.lora import LoraLayer


def judge(reviews, scale=1.0):
    for module in critic.modules():
        if isinstance(module, LoraLayer):
            module.set_scale("default", scale)  # for section 2
    return predict_logits(critic, tokenizer, reviews["text"].tolist()).numpy()


logits = judge(test)
answers = logits.argmax(axis=1)
expect_equal(logits.shape, (1000, 2), "snippets and classes")

# %% [markdown] lang="en"
# The world is seldom half and half. We throw away nine of ten blaming snippets: of those left, 91 % praise. Against BERT steps a
# model that reads nothing and always says "positive".
#
# [F1](GLOSSARY.md#f1) joins precision (of what was called positive, how much is) and recall (of what is positive, how much was
# found). **Macro** averages it over the classes, each with the same weight; **micro** over the examples.
#
# **Predict:** which of the two has the higher accuracy? The higher macro-F1? And what does micro-F1 say?

# %% [markdown] lang="zh"
# 现实里很少正好一半对一半。我们把差评扔掉九成：剩下的 91 % 都是好评。与 BERT 对阵的，是一个什么也不读、永远回答“正面”的模型。
#
# [F1](../GLOSSARY.md#f1) 由精确率（说是正面的里面，有多少真是）和召回率（真是正面的里面，找到了多少）合成。**macro** 按类别平均，
# 每类一样重；**micro** 按样本平均。
#
# **先猜一猜：** 两者谁的准确率高？谁的 macro-F1 高？micro-F1 又会怎么说？

# %%
import numpy
import pandas

from aigc_helpers.metrics import F1, Accuracy, Precision, Recall

positive, negative = numpy.flatnonzero(labels == 1), numpy.flatnonzero(labels == 0)
kept = numpy.concatenate([positive, negative[::10]])
metrics = [Accuracy(), Precision(), Recall(), F1(), F1("micro")]
names = ["accuracy", "precision", "recall", "macro-F1", "micro-F1"]
scores = pandas.DataFrame(index=names)
for model, given in {"always positive": numpy.ones_like(answers), "BERT": answers}.items():
    pair = {"predictions": given[kept], "references": labels[kept]}
    scores[model] = [next(iter(metric.compute(**pair).values())) for metric in metrics]
scores.T.round(3)

# %% tags=["nbval-check-output"]
lead = scores["BERT"] - scores["always positive"]
expect(lead["accuracy"], -0.04, 0, "accuracy, BERT's lead")
expect(lead["macro-F1"], 0.27, 0.34, "macro-F1, BERT's lead")
expect_close(scores.loc["micro-F1"], scores.loc["accuracy"], 1e-12, "micro-F1, accuracy")

# %% [markdown] lang="en"
# By accuracy the model that reads nothing wins. Macro-F1 sees that it never finds a single blaming snippet. Micro-F1 adds nothing:
# where each example has one class, it *is* the accuracy. So state the share of each class beside an accuracy, and give macro-F1
# where the rare class is the one that matters.
#
# ## 2 · Does it know how sure it is?
#
# A model is **[calibrated](GLOSSARY.md#calibration)** if of the answers that it gives with 80 % confidence, 80 % are right. Put the answers into ten bins by
# confidence; the *expected calibration error* is the mean gap between confidence and accuracy.
#
# We look at the adapter as trained, and turned up to three times its strength, as people turn up a LoRA. **Predict:** what becomes
# of accuracy, and what of confidence?

# %% [markdown] lang="zh"
# 按准确率，什么也不读的模型赢了。macro-F1 看得出它一条差评也没找到。micro-F1 没带来新东西：每个样本只属于一类时，它*就是*准确率。
# 所以，报准确率时要写明各类占比；如果要紧的是少数类，就报 macro-F1。
#
# ## 2 · 它知道自己有多大把握吗？
#
# 一个模型如果给出 80 % 把握的回答里正好有 80 % 是对的，就叫[**校准**](../GLOSSARY.md#calibration)得好。按把握大小把回答分进十个桶，把握与准确率之差的平均，
# 就是*期望校准误差*。
#
# 来看训练好的适配器，以及强度调到三倍的情形（人们就爱这样调 LoRA）。**先猜一猜：** 准确率会怎样？把握又会怎样？


# %% tags=["nbval-check-output"]
from scipy.special import softmax

from aigc_helpers.metrics import calibration_error


def error_of(some):
    return calibration_error(softmax(some, axis=1), labels)


loud = judge(test, 3.0)
expect((loud.argmax(axis=1) == labels).mean(), 0.8, 0.85, "accuracy at three times")
expect(error_of(logits), 0, 0.03, "calibration error as trained")
expect(error_of(loud), 0.1, 0.18, "at three times the strength")

# %% [markdown] lang="en"
# Fewer answers are right, and the model is surer than before (both are printed with the figure below): turned up, it shouts. The remedy is
# one number: divide the logits by a *temperature* T, chosen on validation data ([Guo et al. 2017](REFERENCES.md#temperature-scaling)). No answer changes, for the largest logit stays the largest.

# %% [markdown] lang="zh"
# 答对的少了，把握反而更大（两个数和下面那张图印在一起）：音量一调高，它就嚷嚷起来。
# 补救只需一个数：把 logits 除以*温度* T，T 在验证集上选（[Guo et al. 2017](../REFERENCES.md#temperature-scaling)）。
# 回答一个都不会变，因为最大的 logit 还是最大的。

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import fit_temperature, reliability_bins

temperature = fit_temperature(judge(watch, 3.0), watch["label"].astype(int).to_numpy())
cooled = loud / temperature
expect(temperature, 2, 3.2, "temperature")
expect(error_of(cooled), 0, 0.05, "calibration error after scaling")
expect_equal((cooled.argmax(axis=1) == loud.argmax(axis=1)).all(), True, "same answers")

# %%
from aigc_helpers.figures import new_figure, show

figure, (axes,) = new_figure(width=5.5, height=4)
axes.plot([0.5, 1], [0.5, 1], color="0.6", marker="", linestyle="--", label="calibrated")
curves = {"as trained": logits, "× 3": loud, f"× 3, T = {temperature:.1f}": cooled}
for name, one in curves.items():
    bins = [b for b in reliability_bins(softmax(one, axis=1), labels) if b.count > 19]
    axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], label=name)
    print(f"{name}: accuracy {(one.argmax(axis=1) == labels).mean():.3f},"
          f" mean confidence {softmax(one, axis=1).max(axis=1).mean():.3f}")  # fmt: skip
axes.set(xlabel="confidence", ylabel="share of right answers", ylim=(0.2, 1.02))
axes.legend(frameon=False)
alt_en = "As trained the curve follows the diagonal; at three times it lies far below it."
show(figure, alt_en, "按训练强度，曲线贴着对角线；三倍强度时远在对角线之下。")

# %% [markdown] lang="en"
# ## 3 · Perplexity, three traps
#
# [Perplexity](GLOSSARY.md#perplexity) is e to the mean loss *per token*. The three words at the end are the first trap. We count
# pairs of neighbouring tokens in 12,000 Tang poems, twice: with one token per character, and with
# [BPE](GLOSSARY.md#bpe), which joins frequent neighbours. Same poems, same method, another tokenizer.
#
# **Predict:** which of the two has the lower perplexity, and which is the better model?

# %% [markdown] lang="zh"
# ## 3 · 困惑度的三个陷阱
#
# [困惑度](../GLOSSARY.md#perplexity)是 e 的“每个 *token* 平均损失”次方。第一个陷阱就在“每个 token”这几个字里。我们在 12,000 首唐诗上
# 统计相邻两个 token 的出现次数，做两遍：一遍一字一个 token，一遍用 [BPE](../GLOSSARY.md#bpe) 把常见的邻字合并。诗相同，方法相同，
# 只是分词器不同。
#
# **先猜一猜：** 哪个困惑度低？哪个模型更好？

# %% tags=["nbval-check-output"]
from tokenizers import Tokenizer, models, trainers

from aigc_helpers.metrics import KneserNey, bits_per_character, perplexity
from aigc_helpers.text import load_poems, run_on

written = [run_on(text) for text in load_poems("tang", "train")["text"][:12000]]
unseen = [run_on(text) for text in load_poems("tang", "test")["text"][:300]]
expect_equal((len(written), len(unseen)), (12000, 300), "poems to count, poems to judge by")


# %% tags=["nbval-check-output"]
def as_read_by(size):
    bpe = Tokenizer(models.BPE(unk_token="?"))
    settings = {"special_tokens": ["?"], "show_progress": False}
    bpe.train_from_iterator(written, trainers.BpeTrainer(vocab_size=size, **settings))
    learnt, asked = ([e.ids for e in bpe.encode_batch(some)] for some in (written, unseen))
    model = KneserNey(learnt, 2, bpe.get_vocab_size())
    logarithms = numpy.concatenate([model.log_probabilities(ids) for ids in asked])
    bits = bits_per_character(logarithms, sum(map(len, unseen)))
    return perplexity(logarithms), bits


characters = len(set("".join(written)))
one_each, joined = as_read_by(characters + 1), as_read_by(characters + 10_000)
expect(joined[0] / one_each[0], 8, 11, "perplexity with BPE over that by characters")
expect(joined[1] / one_each[1], 0.95, 1.05, "bits per character, the same way")

# %% [markdown] lang="en"
# A token of two characters holds the surprise of two. Per character both models are about equally good. So compare perplexities only
# for one tokenizer; across tokenizers, compare [bits per character](GLOSSARY.md#bits-per-character), whose unit is the text's own.
#
# **The second trap is the unknown token.** What a tokenizer does not know becomes one and the same `<unk>`, which is easily guessed.
# **Predict:** three models know the 2,000, 500 and 100 most frequent characters. Which has the lowest perplexity?

# %% [markdown] lang="zh"
# 两个字合成的 token，装着两个字的意外。按字算，两个模型差不多。所以，困惑度只在分词器相同时才能比；分词器不同，就比
# [每字比特数](../GLOSSARY.md#bits-per-character)，它的单位是文本自己的。
#
# **第二个陷阱是未知 token。** 分词器不认识的，统统变成同一个 `<unk>`，很容易猜中。**先猜一猜：** 三个模型分别认得最常见的 2,000、500、
# 100 个字，哪个困惑度最低？

# %% tags=["nbval-check-output"]
from collections import Counter

frequent = [character for character, _ in Counter("".join(written)).most_common()]


def perplexity_knowing(count):
    ids = {character: number for number, character in enumerate(frequent[:count], 1)}
    learnt = [[ids.get(character, 0) for character in text] for text in written]
    asked = [[ids.get(character, 0) for character in text] for text in unseen]
    return KneserNey(learnt, 2, count + 1).perplexity(asked)


knowing = [perplexity_knowing(count) for count in (2000, 500, 100)]
expect_equal(knowing == sorted(knowing, reverse=True), True, "the less it knows, the lower")
expect(knowing[0] / knowing[2], 22, 33, "2,000 characters over 100")

# %% [markdown] lang="en"
# The model that knows least looks best. Always give the share of unknown tokens beside a perplexity.
#
# **The third trap is where the text is cut.** A model reads a long text window by window, and what a window's first tokens follow, it does
# not see. The usual remedy is a small *stride*: windows overlap, and only the end of each counts. The poet reads poems of 60 characters and
# more, of lines of five or seven; with its punctuation a couplet of five takes twelve.
#
# **Predict:** the whole poem, windows of 24, of 20, of 12, and of 12 that overlap by 8. Sort them by perplexity.

# %% [markdown] lang="zh"
# 知道得最少的，看起来最好。报困惑度，一定要同时报未知 token 的比例。
#
# **第三个陷阱是从哪里切开。** 模型读长文本是一个窗口一个窗口地读，窗口开头几个 token 前面是什么，它看不见。常用的补救是取小*步长*：
# 让窗口重叠，只数每个窗口末尾那一截。这里让 poet 读 60 字以上的诗，五言或七言；五言一联连标点正好十二个字。
#
# **先猜一猜：** 读整首、窗口 24、20、12，以及窗口 12 但重叠 8，按困惑度排个序。

# %% tags=["nbval-check-output"]
import math

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import set_seed

from aigc_helpers.text import load_poet, mean_loss

poet_tokenizer, poet = load_poet()
long = [text for text in unseen if 60 <= len(text) <= 94][:40]
poems = poet_tokenizer(long, add_special_tokens=False)["input_ids"]
bos = poet_tokenizer.bos_token_id
expect_equal(len(poems), 40, "poems of 60 characters and more")


# %%
def poet_perplexity(width, stride):
    inputs, targets = [], []
    for ids in poems:
        for start in range(0, len(ids), stride):  # to be judged: stride tokens from here
            window = [bos, *ids[max(0, start + stride - width) : start + stride]]
            seen_before = len(window) - len(ids[start : start + stride])
            inputs.append(torch.tensor(window))
            targets.append(torch.tensor([-100] * seen_before + window[seen_before:]))
    rows, goals = pad_sequence(inputs, True), pad_sequence(targets, True, -100)
    return math.exp(mean_loss(poet, [{"input_ids": rows, "labels": goals}]))


# %% tags=["nbval-check-output"]
whole = poet_perplexity(94, 94)
expect(poet_perplexity(24, 24) / whole, 1.1, 1.4, "windows of 24, over the whole poem")
expect(poet_perplexity(20, 20) / whole, 2.5, 4, "windows of 20")
expect(poet_perplexity(12, 12) / whole, 1.6, 2.2, "windows of 12")
expect(poet_perplexity(12, 4) / whole, 2.2, 3, "windows of 12, overlapping by 8")

# %% [markdown] lang="en"
# Windows of 20 do worse than those of 12, and overlapping ones worse than plain ones, though each token that counts has more before it. For
# each window begins with `bos`, and to the poet that is where a poem begins; 12 cuts between couplets, 20 in the middle of a line. (A
# model of running text, such as GPT-2, does gain by a small stride.) So a perplexity comes with its tokenizer, its share of unknown tokens,
# its context and the way of cutting, or it cannot be compared.
#
# ## 4 · BLEU and chrF, in short
#
# [BLEU](GLOSSARY.md#bleu) counts the sequences of one to four words that a translation shares with a reference,
# [chrF](GLOSSARY.md#chrf) those of one to six characters. Chapter 07 measures a translator with both. Here are four things to know
# before you believe such a number.
#
# **Predict:** one translation is perfect, and BLEU is told that words are what stands between spaces. Its score?

# %% [markdown] lang="zh"
# 窗口 20 竟不如 12；重叠的竟不如不重叠的，尽管要数的每个 token 前面看得见的更多。因为每个窗口都以 `bos` 开头，对 poet 来说那就是
# 一首诗的开头；12 正好切在两联之间，20 切在句子中间。（GPT-2 这类读连续文本的模型，步长小一点确实更好。）所以，困惑度要连同分词器、
# 未知 token 占比、上下文长度和切法一起报，否则没法比。
#
# ## 4 · BLEU 与 chrF，长话短说
#
# [BLEU](../GLOSSARY.md#bleu) 数译文与参考译文共有的一到四元词组，[chrF](../GLOSSARY.md#chrf) 数一到六个字符的片段。第 07 章用它们
# 评一个翻译模型。这里先说四件事，知道了再信那些数字。
#
# **先猜一猜：** 译文一字不差，但 BLEU 以为“词”就是空格之间的东西。它给几分？

# %% tags=["nbval-check-output"]
import sacrebleu

reference = "请在三月五日下午三点以前支付一百二十三元。"
perfect, wrong_sum = reference, reference.replace("二十三元", "三十三元")
free = "请于三月五日下午三点前付一百二十三元。"


def bleu(translation, tokenize="zh", reference=reference):
    return sacrebleu.corpus_bleu([translation], [[reference]], tokenize=tokenize).score


expect_equal(round(bleu(perfect, "13a")), 0, "perfect, words between spaces")
expect_equal(round(bleu(perfect)), 100, "perfect, each character a word")
expect_equal(round(bleu("three yuan", "13a", "three yuan")), 0, "perfect, two words long")
print(f"a wrong sum: {bleu(wrong_sum):.0f}; right, in other words: {bleu(free):.0f}")

# %% [markdown] lang="en"
# Cut at spaces, a Chinese sentence is one word, and there are no sequences of four. In two words there are none either. And the last
# line is the one to remember: the translation that costs ten yuan too much scores higher than the one that is right. BLEU counts
# what is shared, not what matters. Where one thing matters, such as a sum, count that.
#
# `score_translations` of this book chooses the tokenizer by the language, refuses what would score 0 whatever is written, and gives
# the interval and sacreBLEU's signature, which names every setting.
#
# ## 5 · Variety
#
# A model that always writes the same good poem scores well wherever poems are judged one by one. **distinct-n** is the share of different
# n-grams among all; **[repetition](GLOSSARY.md#repetition)** the share of n-grams that the same text has had before.
#
# **Predict:** sixty poems at temperatures 0.3, 0.9 and 1.5. Where is distinct-2 highest, where repetition? And what does distinct-2 do if you
# write twice as many?

# %% [markdown] lang="zh"
# 按空格切，一句中文就是一个词，哪来的四元词组。只有两个词的句子也一样。最后一行最该记住：多收十元的译文，得分竟比译对的还高。
# BLEU 数的是共有多少，不是要紧不要紧。真正要紧的东西，比如金额，就直接去数它。
#
# 本书的 `score_translations` 按目标语言选分词方式，写什么都会得 0 分的情况直接拒绝，并给出区间和 sacreBLEU 的签名（里面写明了每项设置）。
#
# ## 5 · 多样性
#
# 一个模型如果翻来覆去只写同一首好诗，逐首评判时分数照样高。**distinct-n** 是不同的 n 元组占全部 n 元组的比例；
# **[重复率](../GLOSSARY.md#repetition)** 是同一篇里前面已经出现过的 n 元组的比例。
#
# **先猜一猜：** 温度 0.3、0.9、1.5 各写六十首。distinct-2 哪个最高？重复率呢？写两倍那么多，distinct-2 会怎样？


# %%
from aigc_helpers.metrics import distinct_n, repetition


def write(temperature, count=60, top_p=1.0):
    set_seed(0)
    start = torch.full((count, 1), bos, device=poet.device)
    options = {"temperature": temperature, "top_k": 0, "top_p": top_p, "max_length": 96}
    drawn = poet.generate(start, attention_mask=start * 0 + 1, do_sample=True, **options)
    return poet_tokenizer.batch_decode(drawn, skip_special_tokens=True)


by_temperature = {temperature: write(temperature) for temperature in (0.3, 0.9, 1.5)}
variety = {t: [distinct_n(s, 2), repetition(s, 2)] for t, s in by_temperature.items()}
pandas.DataFrame(variety, index=["distinct-2", "repetition"]).T.round(3)

# %% tags=["nbval-check-output"]
usual = by_temperature[0.9]
expect(variety[0.3][0], 0.1, 0.6, "distinct-2 at 0.3")
expect(variety[1.5][0], 0.85, 1, "at 1.5")
expect(variety[0.3][1] - variety[1.5][1], 0, 0.3, "repetition, 0.3 minus 1.5")
fewer = distinct_n(usual[:15], 2)
expect(fewer - distinct_n(usual, 2), 0.01, 0.3, "distinct-2 of 15 poems, minus of 60")

# %% [markdown] lang="en"
# Distinct-n falls with the amount of text, so compare equal amounts only. And it is highest where the poems are noise: variety means something
# only beside a measure of quality (in chapter 06 the share that keeps its form falls as temperature rises).
#
# ## 6 · What the CLIP score fails to see
#
# The [CLIP score](GLOSSARY.md#clip-score) is 100 × the cosine between the embeddings of a picture and its caption. Chapter 09 found that it
# falls with guidance while pictures get better. Here is why it must be read with care: we spoil real pictures, or their captions, and look
# at what it notices.
#
# **Predict:** sort these by how much they lower the score: the picture blurred; upside down; caption with a wrong colour; with a wrong thing.

# %% [markdown] lang="zh"
# distinct-n 会随文本量下降，所以只能在等量文本之间比。而且它在诗变成噪声时最高：多样性要和质量放在一起看才有意义
# （第 06 章里，温度越高，合格式的比例越低）。
#
# ## 6 · CLIP 分数看不见什么
#
# [CLIP 分数](../GLOSSARY.md#clip-score)是图片与文字两个嵌入的余弦 × 100。第 09 章发现：引导强度加大，画变好了，它反而下降。
# 为什么要小心看待它，这里就能看到：我们把真图弄坏，或者把文字改错，看它注意到什么。
#
# **先猜一猜：** 按扣分多少排一排：图片模糊、上下颠倒；文字里颜色写错、东西写错。

# %% tags=["nbval-check-output"]
from PIL import Image, ImageFilter

from aigc_helpers.evaluation import clip_score

from aigc_helpers.images import COLOURS, embed_pictures, load_clip, load_emoji
from aigc_helpers.images import read_shown_in_training, training_colours

clip, clip_tokenizer = load_clip()
shown = read_shown_in_training()
emoji = load_emoji().only(shown.concepts)
facts = emoji.facts(shown.styles, training_colours)
order = numpy.random.default_rng(0).permutation(len(facts))[:2000]
facts = [facts[number] for number in order]
real = emoji.pictures(facts)
expect_equal(real.shape, (2000, 64, 64, 3), "pictures × height × width × RGB")


# %%
def blurred(pictures):
    images = [Image.fromarray(one).filter(ImageFilter.GaussianBlur(2)) for one in pictures]
    return numpy.stack([numpy.asarray(image) for image in images])


def score(pictures, facts):
    captions = [emoji.caption(*fact, "en") for fact in facts]
    return numpy.mean(clip_score(clip, clip_tokenizer, pictures, captions))


some, first, colours = facts[:200], real[:200], COLOURS
recoloured = [f._replace(colour=colours[colours.index(f.colour) - 3]) for f in some]
renamed = [f._replace(concept=(f.concept + 50) % 306) for f in some]

# %%
mean_score = {
    "as it is": score(first, some),
    "blurred": score(blurred(first), some),
    "upside down": score(first[:, ::-1].copy(), some),
    "wrong colour": score(first, recoloured),
    "wrong thing": score(first, renamed),
}
pandas.Series(mean_score, name="tiny-CLIP score").round(1).to_frame()

# %% tags=["nbval-check-output"]
lost = {name: mean_score["as it is"] - mean for name, mean in mean_score.items()}
expect(lost["blurred"], -0.5, 1, "blurred: points lost")
expect(lost["upside down"], 6, 11, "upside down")
expect(lost["wrong colour"], 15, 22, "wrong colour")
expect(lost["wrong thing"], 48, 62, "wrong thing")

# %% [markdown] lang="en"
# It sees what captions speak of, and is blind to what they never mention: a picture that you would throw away keeps its score. No caption of its
# training said "blurred".
#
# ## 7 · FID and KID
#
# [FID](GLOSSARY.md#fid) asks no caption. It takes the embeddings of two *sets*, real and drawn, fits a Gaussian to each, and measures how far
# apart these are:
#
# > FID = |m − m'|² + tr(C + C' − 2 (C C')^½)
#
# For Gaussians in one dimension that is (m − m')² + (s − s')². **Predict:** means 0 and 3, standard deviations 1 and 5?

# %% [markdown] lang="zh"
# 文字会提到的，它看得见；文字从不提的，它视而不见：你会扔掉的图，照样拿原来的分。训练它的文字里，从没说过“模糊”。
#
# ## 7 · FID 与 KID
#
# [FID](../GLOSSARY.md#fid) 不看文字。它取真图和画出来的图两*组*嵌入，各拟合一个高斯分布，再量两个分布相距多远：
#
# > FID = |m − m'|² + tr(C + C' − 2 (C C')^½)
#
# 对一维高斯，就是 (m − m')² + (s − s')²。**先猜一猜：** 均值 0 和 3，标准差 1 和 5，是多少？

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import fid, frechet_distance, kid

expect_close(frechet_distance([0], [[1]], [3], [[25]]), 9 + 16, 1e-9, "by the formula")
features = embed_pictures(clip, real).numpy() * 16  # 256 numbers, mean square 1
expect_close((features**2).mean(), 1, 1e-4, "mean square")

# %% [markdown] lang="en"
# 9 for the means and 16 for the deviations: 25.
#
# Now the trap. Both sets are *real* pictures, none in both. They come from the same drawer, so the true distance is 0.
#
# **Predict:** what will FID say for 25 pictures against 25 others? For 1,000?

# %% [markdown] lang="zh"
# 均值差 9，标准差差 16，一共 25。
#
# 陷阱来了。这次两组都是*真*图，互不重复，出自同一批画，真正的距离是 0。
#
# **先猜一猜：** 25 张对 25 张，FID 会是多少？1,000 张对 1,000 张呢？


# %% tags=["nbval-check-output"]
def between_real(distance, count, seed):
    order = numpy.random.default_rng(seed).permutation(len(features))
    return distance(features[order[:count]], features[order[count : 2 * count]])


few, many = between_real(fid, 25, 0), between_real(fid, 1000, 0)
expect(few, 115, 175, "FID, 25 pictures each")
expect(many, 3, 6.5, "FID, 1,000 each")
repeated = [between_real(kid, 25, seed) for seed in range(20)]
expect(numpy.mean(repeated), -0.13, 0.13, "KID, 25 each, mean of 20")

# %% [markdown] lang="en"
# FID is biased upward: with few pictures the Gaussians fit the samples, not what they were drawn from. [KID](GLOSSARY.md#kid) (*kernel*
# in place of Gaussian) has no bias: it scatters around 0. The curve below was measured by `aigc pretrain fid-curve`: real pictures against other
# real ones, and against pictures that the small Stable Diffusion drew.

# %% [markdown] lang="zh"
# FID 偏高：图少时，高斯分布拟合的是样本本身，而不是样本的来处。[KID](../GLOSSARY.md#kid)（用*核*代替高斯）没有偏差，在 0 上下摆动。
# 下面的曲线由 `aigc pretrain fid-curve` 测得：真图对另一些真图，真图对微型 Stable Diffusion 画的图。

# %%
from aigc_helpers.paths import DATA
from aigc_helpers.training import read_log

rows = read_log(DATA / "results" / "fid_curve.jsonl")
figure, panes = new_figure(width=9, columns=2)
for pane, measure in zip(panes, ("fid", "kid"), strict=True):
    for sets in ("real and real", "real and drawn"):
        points = [(row["pictures"], row[measure]) for row in rows if row["sets"] == sets]
        counts, values = zip(*points, strict=True)
        mean, spread = numpy.mean(values, axis=1), numpy.std(values, axis=1)
        pane.errorbar(counts, mean, spread, capsize=4, label=sets)
    pane.set(xscale="log", xlabel="pictures in each set", ylabel=measure.upper())
    pane.set_xticks([16, 128, 1024], ["16", "128", "1,024"], minor=False)
panes[0].legend(frameon=False)
show(figure, "FID falls steeply, KID stays level.", "FID 随图片数急降，KID 保持水平。")

# %% [markdown] lang="en"
# Read the left pane again: 64 *real* pictures are further from real ones than 256 drawn ones are. An FID without the number of pictures says nothing.
# Published ones use 50,000; they also use another network (Inception), so no figure here compares with them.
#
# KID also comes with an interval, from random subsets. **Predict:** does that of 500 real pictures against 500 others contain 0? And if the others
# are blurred, or show ten concepts only?

# %% [markdown] lang="zh"
# 再看一眼左图：64 张*真*图离真图的距离，比 256 张画出来的还远。不写图片数的 FID 等于什么也没说。发表的 FID 用 50,000 张图，
# 用的也是另一个网络（Inception），所以这里的数字和它们没有可比性。
#
# KID 还能用随机子集给出区间。**先猜一猜：** 500 张真图对另外 500 张真图，区间里有没有 0？另外那 500 张换成模糊的，或者只有十个概念呢？

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import kid_interval


def encode(pictures):
    return embed_pictures(clip, numpy.ascontiguousarray(pictures)).numpy() * 16


left, right = features[:500], features[500:1000]
same = kid_interval(left, right)
soft = kid_interval(left, encode(blurred(real[500:1000])))
collapsed = emoji.pictures([f._replace(concept=f.concept % 10) for f in facts[500:1000]])
ten = kid_interval(left, encode(collapsed))
expect_equal(same.low < 0 < same.high, True, "0 in the interval, real")
expect_equal(soft.low < 0 < soft.high, True, "0 in the interval, blurred")
expect(ten.low, 0.1, 0.25, "ten concepts only: lower end")

# %% [markdown] lang="en"
# The ten concepts are found out: all of their interval lies above 0. Blurred pictures pass, as the real ones do: FID and KID see
# through the eyes of the network that makes the embeddings, and tiny-CLIP never learned to mind.
# Choose a network that can see what you want to measure.
#
# ## 8 · One number hides two faults
#
# A set can be bad because single pictures are, or because it always shows the same few. *Precision* is the share of drawn pictures that lie among
# the real ones (nearer to some real picture than its second neighbour), *recall* the share of real ones that lie among the drawn
# ([Kynkäänniemi et al. 2019](REFERENCES.md#precision-recall)).
#
# **Predict** both for the *collapsed* set (real pictures, but of ten concepts only), and the precision of a *broken* one (the left half of one
# picture with the right half of another).

# %% [markdown] lang="zh"
# 只有十个概念的露了馅：整个区间都在 0 以上。模糊的图却和真图一样过了关：
# FID 和 KID 是透过做嵌入的那个网络去看的，而 tiny-CLIP 从没学过要在意模糊。想测什么，就选一个看得见它的网络。
#
# ## 8 · 一个数遮住两种毛病
#
# 一组图不好，可能是单张不好，也可能是总画那么几样。*精确率*是画出来的图落在真图中间的比例（离某张真图比那张的第二近邻还近），
# *召回率*是真图落在画出来的图中间的比例（[Kynkäänniemi et al. 2019](../REFERENCES.md#precision-recall)）。
#
# **先猜一猜：** 一组*塌缩*的图（都是真图，但只有十个概念），两项各是多少？一组*破碎*的图（左半边来自一张，右半边来自另一张），精确率又是多少？

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import nearest, precision_and_recall

second = real[500:1000]
shuffled = numpy.roll(second, 1, axis=0)
broken = numpy.concatenate([second[:, :, :32], shuffled[:, :, 32:]], axis=2)
sets = {"real": second, "collapsed": collapsed, "broken": broken}
found = {name: precision_and_recall(left, encode(some), 2) for name, some in sets.items()}
expect(min(found["real"]), 0.72, 1, "real: the lower of the two")
expect(found["collapsed"].precision, 0.75, 1, "collapsed: precision")
expect(found["collapsed"].recall, 0, 0.12, "collapsed: recall")
expect(found["broken"].precision, 0.4, 0.85, "broken: precision")

# %% [markdown] lang="en"
# The collapsed set keeps its precision, for each picture is real, and has next to no recall: nearly all of the kinds are missing. The broken set
# loses precision. A single number would call both just "worse".
#
# ## 9 · Drawn, or remembered?
#
# A model that hands out its training pictures gets the best FID of all. So look for the nearest training picture of what it draws, by pixels and
# by CLIP. Here are twelve drawings at guidance 1 and 4, all on blue.
#
# **Predict:** for how many of the twelve at guidance 4 is the nearest of all training pictures on blue exactly the one that the prompt names?

# %% [markdown] lang="zh"
# 塌缩的那组精确率还在，因为张张是真图；召回率却所剩无几，绝大多数东西根本没画。破碎的那组丢的是精确率。只用一个数，两者不过都是“变差了”。
#
# ## 9 · 画出来的，还是背下来的？
#
# 一个模型要是直接端出训练图，FID 会最好看。所以要去找它画的图在训练集里最近的是哪一张，按像素找，也按 CLIP 找。
# 下面是引导强度 1 和 4 各十二张，都是蓝色背景。
#
# **先猜一猜：** 引导强度 4 的十二张里，有几张在所有蓝底训练图中，最近的正是提示词说的那一张？

# %%
from aigc_helpers.figures import show_pictures
from aigc_helpers.images import draw_many, load_pipeline, to_array

everything = emoji.facts(shown.styles, training_colours)
blue = [fact for fact in everything if fact.colour == "blue"]
asked = blue[7::41][:12]
prompts = [emoji.caption(*fact, "en") for fact in asked]
pipeline = load_pipeline()
drawn = {guidance: draw_many(pipeline, prompts, 0, 10, guidance) for guidance in (1.0, 4.0)}
training = emoji.pictures(blue)
closest = nearest(to_array(drawn[4.0]), training)
views = {prompts[n].split(",")[0]: drawn[4.0][n] for n in range(4)}
views |= {f"nearest to {n + 1}": training[closest.numbers[n]] for n in range(4)}
show_pictures(views, "Four drawings, each above its twin.", "四张画，下面是最像的训练图。")

# %% tags=["nbval-check-output"]
by_clip = nearest(encode(to_array(drawn[4.0])), encode(training))
for how, found in {"pixels": closest, "tiny-CLIP": by_clip}.items():
    named = sum(blue[n] == fact for n, fact in zip(found.numbers, asked, strict=True))
    expect(named, 9, 12, f"of 12, nearest by {how} is the one named")
apart = nearest(training[:60], training[60:]).distances
ratio = numpy.median(closest.distances) / numpy.median(apart)
expect(ratio, 0, 0.7, "distance to the twin, over that between training pictures")

# %% [markdown] lang="en"
# They are copies, near enough. That is no fault of the check, and here it is no surprise: the model has seen exactly one drawing per concept and style,
# so drawing that one *is* the right answer. What it has learned beyond copying shows elsewhere, in pairs of concept and background that it never saw.
# On a model that should invent, the same result would be an alarm ([Carlini et al. 2023](REFERENCES.md#carlini-diffusion)).
#
# ## 10 · Is the difference real?
#
# Turn the LoRA on BERT down to half its strength. **Predict:** on 1,000 snippets it loses a few points of accuracy; both intervals are drawn below, and
# they overlap. Does that mean that nothing is proved?

# %% [markdown] lang="zh"
# 基本就是复制品。这不是检查出了错，在这里也不意外：每个概念每种画风，模型只见过一张画，画出那一张*就是*正确答案。它在复制之外学到了什么，
# 要到别处去看：概念与背景的新搭配。如果是一个本该有创造力的模型，同样的结果就该拉警报了
# （[Carlini et al. 2023](../REFERENCES.md#carlini-diffusion)）。
#
# ## 10 · 差别是真的吗？
#
# 把 BERT 上的 LoRA 调到一半强度。**先猜一猜：** 在 1,000 条短评上，准确率掉了几个百分点；下面画出两者的区间，它们有重叠。
# 是不是说明什么也没证明？

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import accuracy_interval, compare_paired

half = judge(test, 0.5).argmax(axis=1)
alone = [accuracy_interval(given, labels) for given in (half, answers)]
paired = compare_paired(half, answers, labels)
expect_equal(alone[0].high > alone[1].low, True, "the two intervals overlap")
expect(paired.difference.low, 0.005, 0.05, "paired difference, lower end")
expect(paired.p_value, 0, 0.001, "p of McNemar's test")

# %%
from aigc_helpers.figures import draw_intervals

figure, (axes,) = new_figure(width=7, height=2.4)
lines = [(one.low, one.mean, one.high) for one in alone]
draw_intervals(axes, ["half strength", "full strength"], lines)
axes.set_xlabel("accuracy on 1,000 snippets, 95 % interval")
axes.set_title(f"difference, paired: {paired.difference}", fontsize=10)
show(figure, "Two intervals that overlap.", "两个有重叠的区间。")
print(f"accuracy at half strength {alone[0]}, at full strength {alone[1]}")
print(f"only half: {paired.only_base_right}, only full: {paired.only_tuned_right} right")

# %% [markdown] lang="en"
# Each interval asks: how would *this* accuracy vary with other snippets? Most of that is shared: a hard snippet is hard for both. The paired question
# is another: on the *same* snippets, how many does only one of them get right? All others say nothing. The [bootstrap](REFERENCES.md#bootstrap) of
# the differences and [McNemar's test](REFERENCES.md#mcnemar) both answer that one. Overlapping intervals do not mean "no difference".
#
# ## 11 · Twenty tries
#
# Now the opposite mistake. Toss a coin for each snippet, call the sides "read on an even day" and "on an odd day", and ask whether BERT is better on
# one of them. It cannot be. Do that with twenty different coins, and repeat all of it a thousand times.
#
# **Predict:** in how many of the twenty is p below 0.05?

# %% [markdown] lang="zh"
# 单个区间问的是：换一批短评，*这个*准确率会怎么变？其中大半是共有的：难的短评对谁都难。配对问的是另一件事：在*同一批*短评上，
# 有几条只有一方答对？其余的什么也说明不了。对差值做 [bootstrap](../REFERENCES.md#bootstrap) 和
# [McNemar 检验](../REFERENCES.md#mcnemar)，回答的都是这个问题。区间重叠，不等于“没有差别”。
#
# ## 11 · 试二十次
#
# 再看相反的错误。给每条短评抛一枚硬币，正反面叫作“双日读的”和“单日读的”，问 BERT 在哪一边更好。不可能有哪边更好。换二十枚硬币，做二十遍；再把整件事重复一千轮。
#
# **先猜一猜：** 二十次里，有几次 p 小于 0.05？

# %% tags=["nbval-check-output"]
from scipy.stats import norm
from aigc_helpers.metrics import adjust_p_values

correct, generator = answers == labels, numpy.random.default_rng(4)
heads = generator.integers(0, 2, (1000, 20, 1000), dtype=bool)  # rounds, coins, snippets
count = heads.sum(axis=2)
spread = numpy.sqrt(correct.var() * (1 / count + 1 / (1000 - count)))
gap = (heads & correct).sum(2) / count - (~heads & correct).sum(2) / (1000 - count)
p_values = 2 * norm.sf(abs(gap) / spread)
found = (p_values < 0.05).sum(axis=1)
expect(found.mean(), 0.85, 1.15, "significant of twenty, on average")
expect((found > 0).mean(), 0.55, 0.73, "rounds with at least one")
for method in ("holm", "benjamini-hochberg"):
    left = [min(adjust_p_values(list(row), method)) < 0.05 for row in p_values]
    expect(numpy.mean(left), 0.01, 0.09, f"rounds with at least one after {method}")

# %% [markdown] lang="en"
# One of twenty is "significant" on average, by luck alone, and 1 − 0.95²⁰, or 64 %, of the rounds have at least one. Holm's correction keeps the chance of *any* false find below 5 %,
# Benjamini–Hochberg's the *share* of false finds. Both need all the p-values: also those of the settings that you tried and did not keep.
#
# ## 12 · Ask people, blind
#
# In the end somebody looks at the pictures. People prefer what they are told is new, and what stands on the left; so hide which is which and draw sides
# and order by lot. `run` does that. First a judge that is no human: tiny-CLIP prefers the higher score, and a difference below 1 counts as a tie.
#
# **Predict:** guidance 4 against guidance 1, twelve pairs, a few ties. How wide will the interval of the win rate be?

# %% [markdown] lang="zh"
# 二十次里平均有一次“显著”，纯属运气；试二十次，至少碰上一次的概率是 1 − 0.95²⁰，约 64 %。Holm 校正把出现*任何*假发现的概率压在 5 % 以下，
# Benjamini–Hochberg 压的是假发现的*比例*。两者都需要全部的 p 值，包括你试过又没采用的那些设置。
#
# ## 12 · 盲测：请人来评
#
# 最后总要有人去看画。人偏爱听说是新的那个，也偏爱左边的那个；所以要藏起谁是谁，左右和次序都抽签决定。`run` 就做这件事。
# 先请一位不是人的评委：tiny-CLIP 选分数高的，相差不到 1 分算平局。
#
# **先猜一猜：** 引导强度 4 对 1，十二对，有几对平局。胜率的区间会有多宽？

# %% tags=["nbval-check-output"]
from aigc_helpers.panels import BlindVotePanel, blind_trials, img_element, png_of

look = ("a drawing / 一张画", "width:160px;image-rendering:pixelated")
views = {g: [img_element(png_of(one), *look) for one in some] for g, some in drawn.items()}
trials = blind_trials(prompts, views[4.0], views[1.0], seed=0)
expect_equal(len(trials), 12, "pairs, order and sides drawn by lot")

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import win_rate

score = {g: clip_score(clip, clip_tokenizer, to_array(drawn[g]), prompts) for g in drawn}
votes = []
for trial in trials:
    lead = score[4.0][trial.number] - score[1.0][trial.number]
    other = "right" if trial.candidate == "left" else "left"
    choice = "equal" if abs(lead) < 1 else trial.candidate if lead > 0 else other
    votes.append(trial.vote(choice))
rate = win_rate(votes).rate
expect(rate.high - rate.low, 0.3, 0.8, "width of the interval")

# %% [markdown] lang="en"
# Twelve pairs hardly prove anything; about 100 decided votes narrow the interval to ± 0.1. Now you: vote, and only then read which was which.
# Your votes are in `panel.votes`. (What tiny-CLIP voted stands under the panel.)

# %% [markdown] lang="zh"
# 十二对几乎什么也证明不了；要把区间收窄到 ± 0.1，大约需要 100 张分出胜负的票。现在轮到你：先投票，投完才揭晓谁是谁。
# 你的票在 `panel.votes` 里。（tiny-CLIP 投出的胜率写在面板下面。）

# %% tags=["panel"]
from IPython.display import display

panel = BlindVotePanel(trials, "guidance 4", "guidance 1")
display(panel)
print(f"tiny-CLIP's win rate for guidance 4, ties left out: {rate}")

# %% [markdown] lang="en"
# ## 13 · The whole book in one table
#
# Every task of this book, base against tuned, measured by one function with one seed. The table below is stored; `aigc evaluate book` measures it
# again on this machine, `--json` writes it for `data/results/whole_book.json`.
#
# **Predict:** which of these differences could you see without an interval, and which row tells what was *lost*?

# %% [markdown] lang="zh"
# ## 13 · 全书一张表
#
# 书中每个任务，基座对微调后，由同一个函数、同一个种子测出。下表是存好的结果；`aigc evaluate book` 可以在本机重测，
# 加 `--json` 就是 `data/results/whole_book.json` 的内容。
#
# **先猜一猜：** 哪些差别不看区间也看得出来？哪一行说的是*丢了*什么？

# %% tags=["nbval-check-output"]
import json

from aigc_helpers.evaluation import format_book

book = json.loads((DATA / "results" / "whole_book.json").read_text(encoding="utf-8"))
print(format_book(book))

# %% [markdown] lang="en"
# Every adapter does what it was trained for, far outside the intervals. The rows on the old domain and on the concept say what that cost. Two
# things to read with care: the base of the first row has a head drawn at random, so it can only guess; and an interval without width, as of a
# BLEU of 100, is a limit of the bootstrap: it cannot draw a mistake that no example shows. (Wilson's interval for shares can.)
#
# ## 14 · How to report
#
# A number that nobody can get again is an anecdote. This block holds what is needed; copy the cell into your own work. It prints versions, so it is not
# compared with ours.

# %% [markdown] lang="zh"
# 每个适配器都学到了该学的，差别远在区间之外。旧领域和概念那几行说的是代价。有两点要当心：第一行的基座，分类头是随机的，只能瞎猜；
# BLEU 为 100 时区间没有宽度，那是 bootstrap 的局限：样本里没出现过的错误，它抽不出来。（比例用的 Wilson 区间没有这个问题。）
#
# ## 14 · 怎么写报告
#
# 别人测不出来的数字，只是一则轶事。下面这一块写全了该写的，可以把这个单元格抄到自己的项目里。它会打印版本号，所以不与书中存的输出比对。

# %%
from hashlib import sha256
from importlib.metadata import version


def report(figure, data, model, settings):
    digest = sha256("\n".join(data["text"]).encode()).hexdigest()[:12]
    print(f"{figure}, 95 % bootstrap interval, seed 0")
    print(f"data      {len(data)} test snippets, sha256 of the texts {digest}…")
    print(f"model     {model}")
    print(f"settings  {settings}")
    print(*(f"{name} {version(name)}" for name in ("torch", "transformers", "peft")))


how = "argmax of the logits; nothing was chosen by looking at the test data"
report(f"accuracy {alone[1]}", test, "all-MiniLM-L6-v2 + data/film_adapter", how)

# %% [markdown] lang="en"
# ## 15 · A sweep that survives a power cut
#
# Many settings, many runs; machines stop, and notebooks are closed. `run_sweep` shows a bar, writes each run's row at once, and leaves out what the file
# has already. Here is a sweep over the poet's sampling, six runs of twenty poems. In the fourth we pull the plug.
#
# **Predict:** how many runs does the second call make?

# %% [markdown] lang="zh"
# ## 15 · 断电也不怕的扫描
#
# 设置一多，要跑的就多；机器会停，notebook 会被关掉。`run_sweep` 有进度条，每跑完一次立刻写一行，文件里已有的不再跑。
# 这里扫一遍 poet 的采样设置：六次，每次二十首。跑到第四次，我们拔掉电源。
#
# **先猜一猜：** 第二次调用会跑几次？

# %% tags=["nbval-check-output"]
runs, cut_at = [], 4


def measure(temperature, top_p):
    runs.append((temperature, top_p))
    if len(runs) == cut_at:
        raise ConnectionError("power cut")
    texts = write(temperature, 20, top_p)
    return {"distinct_2": distinct_n(texts, 2), "repetition": repetition(texts, 2)}


jobs = [{"temperature": t, "top_p": p} for t in (0.5, 0.9, 1.3) for p in (0.9, 1.0)]
expect_equal(len(jobs), 6, "runs to make")

# %%
from pathlib import Path
from tempfile import mkdtemp

from aigc_helpers.training import run_sweep

file = Path(mkdtemp()) / "sweep.jsonl"
try:
    run_sweep(file, jobs, measure)
except ConnectionError as error:
    print(error)
saved = len(read_log(file))
rows = run_sweep(file, jobs, measure)
print(f"runs made by the second call: {len(runs) - cut_at}")
pandas.DataFrame(rows).round(3)

# %% tags=["nbval-check-output"]
expect_equal(saved, 3, "rows in the file after the cut")
expect_equal(len(runs), 7, "calls in all, the one cut off included")
expect_equal([row["top_p"] for row in rows], [0.9, 1.0] * 3, "rows, in the order asked for")

# %% [markdown] lang="en"
# ## 16 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **12-1, change a number.** A model is right in about 90 % of cases. How many examples must you test so that Wilson's 95 % interval is at most 0.04
# wide? Find it in steps of 100; `wilson_interval(hits, count)` gives the interval.

# %% [markdown] lang="zh"
# ## 16 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **12-1，改一个数。** 一个模型大约 90 % 答对。至少要测多少个样本，Wilson 95 % 区间的宽度才不超过 0.04？
# 以 100 为步长去找；`wilson_interval(hits, count)` 给出区间。

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.metrics import wilson_interval
from aigc_helpers.notebook import check_exercise

print(wilson_interval(90, 100))
count = None
# begin solution
count = 900
# end solution

check_exercise("12-1", count)

# %% [markdown] lang="en"
# **12-2, write macro-F1 by hand.** Given two lists of class numbers, `predictions` and `references`, return macro-F1 as scikit-learn does: F1 of a class is
# 2·hits / (predicted + present); the classes are all that occur in either list.

# %% [markdown] lang="zh"
# **12-2，手写 macro-F1。** 给定两个类别编号的列表 `predictions` 和 `references`，返回与 scikit-learn 一致的 macro-F1：
# 一个类别的 F1 是 2·命中数 /（预测为它的个数 + 真是它的个数）；类别是两个列表里出现过的全部。


# %% tags=["exercise", "nbval-check-output"]
def macro_f1(predictions, references):
    # begin solution
    scores = []
    for one in set(predictions) | set(references):
        hits = sum(p == r == one for p, r in zip(predictions, references, strict=True))
        scores.append(2 * hits / (predictions.count(one) + references.count(one)))
    return sum(scores) / len(scores)
    # end solution


check_exercise("12-2", macro_f1)

# %% [markdown] lang="en"
# **12-3, write KID.** `x` and `y` are arrays of shape (pictures, width). With the kernel k(a, b) = (a·b / width + 1)³: the mean of k over pairs of
# *different* pictures of `x`, plus the same for `y`, minus twice the mean over all pairs of one from each.

# %% [markdown] lang="zh"
# **12-3，手写 KID。** `x` 和 `y` 是形状为（图片数，宽）的数组。核函数 k(a, b) = (a·b / 宽 + 1)³：`x` 内*不同*图片两两之间 k 的平均，
# 加上 `y` 内的同样平均，再减去两边各取一张的所有配对的平均的两倍。


# %% tags=["exercise", "nbval-check-output"]
def my_kid(x, y):
    # begin solution
    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a):
        k = kernel(a, a)
        return (k.sum() - k.trace()) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * kernel(x, y).mean()
    # end solution


check_exercise("12-3", my_kid)

# %% [markdown] lang="en"
# ## Summary
#
# - Accuracy rewards the frequent class. Macro-F1 does not; micro-F1 is the accuracy again.
# - A perplexity belongs to a tokenizer, a context and a way of cutting; bits per character compare across tokenizers.
# - BLEU counts shared words, cut as the language needs it. A wrong sum can score higher than a right sentence.
# - CLIP score, FID and KID see what their network sees. FID is biased upward with few pictures, KID is not; precision and recall tell noise from collapse.
# - Compare on the same examples. Overlapping intervals prove nothing, one small p-value among twenty neither.
# - Report data, size, seed, settings and versions beside the number.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `99 predictions for 100 references: there must be one for each` | the last, smaller batch was lost | collect all batches; check the count |
# | `2 of the probabilities are not finite, the first at [3, 1]: nan` | the model diverged, or something was divided by 0 | find the cause; do not drop them |
# | `all 50 references are of class 1` | the data was sorted, then cut | shuffle before you cut |
# | `row 0 of the probabilities is [2.0, -1.0] … Are these logits?` | softmax is missing | `softmax(logits, axis=1)` |
# | `there is one drawn picture: sets are compared by their spread` | FID or KID of a single picture | hundreds; for one picture, the CLIP score |
# | BLEU is 0 for good Chinese | the tokenizer cuts at spaces | `tokenize="zh"` |
# | FID improves when more pictures are drawn | bias | equal numbers on both sides, or KID |
# | the best of many settings does not hold up | chosen by luck | Holm or Benjamini–Hochberg; fresh test data |
#
# **Where next:** chapter 07 uses BLEU and exact matches on a translator; chapter 13 ships what passed; chapter 15 puts widespread claims to the test.

# %% [markdown] lang="zh"
# ## 小结
#
# - 准确率偏袒多数类；macro-F1 不偏；micro-F1 不过是准确率换了个名字。
# - 困惑度离不开分词器、上下文长度和切法；跨分词器要比每字比特数。
# - BLEU 数共有的词，怎么切词要看语言。金额译错的句子，得分可能比译对的还高。
# - CLIP 分数、FID、KID 只看得见它们的网络看得见的。图少时 FID 偏高，KID 不会；精确率和召回率能分清噪声和塌缩。
# - 在同一批样本上比较。区间重叠什么也证明不了，二十个里有一个 p 值小，也证明不了。
# - 数字旁边写上数据、样本数、种子、设置和版本。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `99 predictions for 100 references: there must be one for each` | 最后不满的一批丢了 | 收齐每一批，核对个数 |
# | `2 of the probabilities are not finite, the first at [3, 1]: nan` | 模型发散，或者除以了 0 | 找原因，别悄悄丢掉 |
# | `all 50 references are of class 1` | 数据排过序再截取 | 先打乱，再截取 |
# | `row 0 of the probabilities is [2.0, -1.0] … Are these logits?` | 少了 softmax | `softmax(logits, axis=1)` |
# | `there is one drawn picture: sets are compared by their spread` | 对单张图算 FID 或 KID | 要几百张；单张图用 CLIP 分数 |
# | 中文译得不错，BLEU 却是 0 | 按空格切词 | `tokenize="zh"` |
# | 多画些图，FID 就变好 | 偏差 | 两边张数相同，或者用 KID |
# | 从许多设置里挑出的最好的，再测就不行了 | 靠运气挑中的 | Holm 或 Benjamini–Hochberg；换新的测试数据 |
#
# **下一步：** 第 07 章用 BLEU 和完全匹配评翻译；第 13 章把过关的模型上线；第 15 章检验流传的各种说法。
