# %% [markdown] lang="en"
# # 05 · LoRA on BERT
#
# {{badge}}
#
# **What you will be able to do:** teach a pretrained BERT to tell praise from blame with 0.3 % of its weights; count
# those weights before you train them; judge the result with an interval instead of a bare number; save, load and
# merge an adapter without losing half of it; and recognise three lines that many articles print and that never ran.
#
# | | embedded profile | full profile |
# |---|---|---|
# | model | all-MiniLM-L6-v2 (22.7 M parameters) | bert-base-uncased (110 M) |
# | time | about 4 minutes on two CPU cores | {{full_time}} |
# | memory | 2.5 GB | {{full_memory}} |
# | download | none once the workbook is set up | 441 MB |
#
# You need nothing but Python. What the attention inside BERT does is the subject of chapter 03; why a low rank is
# enough, of chapter 04. Both can wait. Numbers that stand in the text were measured on the embedded profile; on the full
# one, read yours under the cells.

# %% [markdown] lang="zh"
# # 05 · 在 BERT 上使用 LoRA
#
# {{badge}}
#
# **学完本章，你能够：** 只动 0.3 % 的权重，就教会预训练 BERT 分辨褒贬；在训练之前先把这些权重数清楚；
# 用置信区间而不是一个光秃秃的数字来评判结果；保存、加载、合并适配器而不丢东西；
# 还能认出三行广为流传、却从来跑不通的代码。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | all-MiniLM-L6-v2（2270 万参数） | bert-base-uncased（1.1 亿参数） |
# | 时间 | 两个 CPU 核心约 4 分钟 | {{full_time}} |
# | 内存 | 2.5 GB | {{full_memory}} |
# | 下载 | 装好本书之后不再需要 | 441 MB |
#
# 会 Python 就够了。BERT 里的注意力在做什么，是第 03 章的内容；为什么低秩就够用，是第 04 章的内容，都可以以后再看。
# 正文里的数字都是在 embedded 配置下测得的；full 配置下，请看各单元格下面打印出来的数。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · The task: film reviews
#
# Each snippet below was rated by some twenty people from −4 (awful) to 4 (wonderful). We keep the clear cases: a mean
# of 1 or more is *positive*, −1 or less *negative*. 2,000 snippets are for training, 1,000 others are held out for the
# final judgement, and 300 more serve to watch the training.

# %% [markdown] lang="zh"
# ## 1 · 任务：影评
#
# 下面的每条短评都由二十人左右打过分，从 −4（糟透了）到 4（好极了）。我们只留态度明确的：平均分不低于 1 算*正面*，
# 不高于 −1 算*负面*。2,000 条用于训练，另外 1,000 条留到最后评判时才用，还有 300 条用来观察训练过程。

# %%
from aigc_helpers.notebook import expect, expect_close, expect_equal
from aigc_helpers.text import LABEL_NAMES, load_reviews

train = load_reviews("train").head(2000)
watch = load_reviews("validation").head(300)
test = load_reviews("test")
train.sample(4, random_state=3)

# %% [markdown] lang="en"
# **Predict:** if you always answered "positive", how often would you be right? That share is what every model below
# has to beat.

# %% [markdown] lang="zh"
# **先猜一猜：** 如果永远回答“正面”，答对的比例是多少？下面每个模型至少要超过这个数。

# %% tags=["nbval-check-output"]
train_labels = train["label"].astype(int).tolist()
watch_labels = watch["label"].astype(int).tolist()
test_labels = test["label"].astype(int).tolist()
expect_equal((len(train), len(test)), (2000, 1000), "training and test snippets")
expect(sum(test_labels) / len(test_labels), 0.47, 0.53, "share of positive test snippets")
expect_equal(len(set(train["text"]) & set(test["text"])), 0, "snippets in both")

# %% [markdown] lang="en"
# ## 2 · From words to token ids
#
# BERT reads numbers. Its tokenizer cuts a text into pieces from a fixed vocabulary and frames it with `[CLS]` and
# `[SEP]`. `install` finds the model on this machine, compares each file with its known sha256, and returns the folder;
# from there on it is transformers as everyone writes it.

# %% [markdown] lang="zh"
# ## 2 · 从词到 token 编号
#
# BERT 读的是数字。分词器把文本切成固定词表里的小块，再在首尾加上 `[CLS]` 和 `[SEP]`。`install` 在本机找到模型，
# 逐个核对文件的 sha256，然后返回文件夹；从这里起，就是人人都这么写的 transformers 代码。

# %% tags=["nbval-check-output"]
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

from aigc_helpers import install
from aigc_helpers.profile import current_profile

bert_path = install("bert")
tokenizer = AutoTokenizer.from_pretrained(bert_path)
example = tokenizer("An unforgettable film.")
print(example["input_ids"])
print(tokenizer.convert_ids_to_tokens(example["input_ids"]))

# %% [markdown] lang="en"
# Snippets differ in length, and a batch must be a rectangle: short texts are padded. In a random batch of 32 nearly half of
# the rectangle is padding. `LengthBatches` puts texts of like length together, so that hardly any work is wasted.

# %% [markdown] lang="zh"
# 短评有长有短，而一个批次必须是矩形，所以短文本要补齐（padding）。随机凑成的 32 条一批里，将近一半是补齐位。
# `LengthBatches` 把长度相近的文本放在一起，几乎不做无用功。

# %% tags=["nbval-check-output"]
from aigc_helpers.text import LengthBatches

token_ids = tokenizer(train["text"].tolist(), truncation=True)["input_ids"]
batches = LengthBatches(token_ids, train_labels, 32, tokenizer.pad_token_id)
padded = sum(
    batches.batch(0, position)["input_ids"].numel() for position in range(len(batches))
)
real = sum(map(len, token_ids))
longest = max(map(len, token_ids))
expect(real / padded, 0.95, 1.0, "share of real tokens, batched by length")
expect(real / (len(token_ids) * longest), 0.2, 0.5, "all padded to the longest")

# %% [markdown] lang="en"
# ## 3 · Before any training
#
# all-MiniLM-L6-v2 was trained to place similar sentences near each other, bert-base-uncased to fill in masked words.
# Neither has ever seen a rating, and neither checkpoint holds a head for two classes: `from_pretrained` adds one (twice as
# many weights as the model is wide, 384 or 768, and 2 biases) and fills it with random numbers.
#
# **Predict:** what accuracy will a model with a random head reach?

# %% [markdown] lang="zh"
# ## 3 · 训练之前
#
# all-MiniLM-L6-v2 学的是把意思相近的句子放得近一些，bert-base-uncased 学的是填出被掩盖的词。两者都没见过评分，
# 检查点里也没有分两类的头：`from_pretrained` 会新加一个（权重个数是模型宽度 384 或 768 的两倍，外加 2 个偏置），里面全是随机数。
#
# **先猜一猜：** 头是随机的，准确率会是多少？

# %% tags=["nbval-check-output"]
from aigc_helpers.text import predict_classes, predict_logits


def new_bert():
    set_seed(0)  # The same random head every time.
    names = {0: "negative", 1: "positive"}
    options = {"id2label": names, "use_safetensors": True}
    return AutoModelForSequenceClassification.from_pretrained(bert_path, **options).to(
        current_profile().device
    )


untrained = new_bert()
width = untrained.config.hidden_size
expect_equal(tuple(untrained.classifier.weight.shape), (2, width), "head: (classes, width)")

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import F1, Accuracy

print(f"{sum(parameter.numel() for parameter in untrained.parameters()):,} parameters")


def predict(model):
    return predict_classes(model, tokenizer, test["text"].tolist())


guesses = predict(untrained)
scores = Accuracy().compute(predictions=guesses, references=test_labels)
expect(scores["accuracy"], 0.42, 0.58, "accuracy before training")

# %% [markdown] lang="en"
# A coin would do as well. Keep your own sentence for later: what does the untrained model say of it?

# %% [markdown] lang="zh"
# 跟抛硬币差不多。现在写一句你自己的话留着：没训练过的模型怎么看它？

# %%
my_sentence = "I forgot to eat my popcorn."


def probability_of_positive(model, sentence):
    return predict_logits(model, tokenizer, [sentence]).softmax(dim=1)[0, 1].item()


print(
    f"untrained: {probability_of_positive(untrained, my_sentence):.3f} that “{my_sentence}” is positive"
)

# %% [markdown] lang="en"
# ## 4 · Head only: the cheap baseline
#
# The cheapest way to tune is to leave BERT alone and train only the head: 770 numbers (1,538 for bert-base) that read
# BERT's summary of a sentence. `requires_grad = False` is all that freezing means: no gradient is computed for the rest, and the optimizer
# never sees it.

# %% [markdown] lang="zh"
# ## 4 · 只训练头：最便宜的基线
#
# 最省事的微调是不碰 BERT，只训练分类头，也就是读取句子摘要的那 770 个数（bert-base 是 1,538 个）。所谓冻结，不过是 `requires_grad = False`：
# 其余部分不算梯度，优化器也看不到它们。

# %% tags=["nbval-check-output"]
head_only = new_bert()
for name, parameter in head_only.named_parameters():
    parameter.requires_grad = name.startswith("classifier")
trainable = sum(
    parameter.numel() for parameter in head_only.parameters() if parameter.requires_grad
)
expect_equal(
    trainable, 2 * head_only.config.hidden_size + 2, "trainable parameters, head only"
)

# %% [markdown] lang="en"
# `fit` is this book's training loop: batches, loss, AdamW, a warm-up and a linear decay of the learning rate, a progress
# bar, and checkpoints if you give it a folder. The loop itself is opened in chapter 03. A head alone needs more steps
# than one might think: after one epoch its accuracy still depends on the seed (0.52 to 0.66 with six seeds).

# %% [markdown] lang="zh"
# `fit` 是本书的训练循环：取批次、算损失、AdamW、学习率先预热再线性下降、进度条；给它一个文件夹，还会存检查点。
# 循环内部在第 03 章拆开讲。只训练分类头，需要的步数比想象的多：只跑一个 epoch，准确率还取决于种子（六个种子，0.52 到 0.66）。

# %%
from aigc_helpers import FitSettings, fit
from aigc_helpers.text import classification_loss

full_profile = current_profile().name == "full"
head_settings = FitSettings(epochs=3, learning_rate=1e-3 if full_profile else 2e-2)
head_result = fit(head_only, batches, classification_loss, head_settings)
print(head_result)

# %% [markdown] lang="en"
# **Predict:** better than a coin, but how much? Write down a number before you run the cell.

# %% [markdown] lang="zh"
# **先猜一猜：** 肯定比抛硬币强，但强多少？运行之前先写下一个数。

# %% tags=["nbval-check-output"]
from aigc_helpers.metrics import accuracy_interval

head_answers = predict(head_only)
head_accuracy = accuracy_interval(head_answers, test_labels)
expect(head_accuracy.mean, 0.60, 0.76, "test accuracy, head only")

# %% [markdown] lang="en"
# The embedded model's summary was made for similarity, and two sentences about the same film are similar whether they
# praise or blame. (bert-base's was made to tell whether one sentence follows another: no verdict on films, either.) A head
# trained to the end reads off more, but not much more: logistic regression on all-MiniLM's summaries reaches 0.70 to 0.76,
# depending on its regularisation. For the rest the summary itself has to change. That is what LoRA does.
#
# ## 5 · Three lines from articles, and what they do
#
# Tutorials on LoRA and BERT copy from each other, mistakes included. Run them once, so that you know the messages.
#
# **First line: the import.** LoRA lives in the library `peft`. transformers has no such name, and never had.

# %% [markdown] lang="zh"
# embedded 模型的句子摘要是为“相似”而学的：同样谈一部电影的两句话，不管是夸是骂都很相似。（bert-base 的摘要学的是判断两句话是否前后相连，
# 同样与褒贬无关。）把头训练到底，还能多读出一些，但多不了多少：在 all-MiniLM 的摘要上做逻辑回归，准确率是 0.70 到 0.76，视正则化强度而定。剩下的，只有改变摘要本身才行。LoRA 做的就是这件事。
#
# ## 5 · 文章里的三行代码，跑一遍看看
#
# 讲 LoRA 和 BERT 的教程互相抄，连错误也一起抄。亲手跑一次，以后见到这些报错就认得。
#
# **第一行：导入。** LoRA 在 `peft` 库里。transformers 里没有这个名字，从来也没有过。

# %% tags=["raises-exception"]
from transformers import LoraConfig

# %% [markdown] lang="en"
# **Second line: the method.** A model has no `add_lora`. (transformers models do have `add_adapter`, which takes a PEFT
# configuration; this book uses `get_peft_model`, because what it returns can also count, save and merge.)

# %% [markdown] lang="zh"
# **第二行：方法。** 模型没有 `add_lora`。（transformers 的模型倒是有 `add_adapter`，参数是 PEFT 的配置；
# 本书用 `get_peft_model`，因为它返回的对象还会计数、保存和合并。）

# %% tags=["raises-exception", "nbval-check-output"]
untrained.add_lora(r=8)

# %% [markdown] lang="en"
# **Third line: the targets.** `q` and `v` are the names in T5. PEFT compares `target_modules` with the ends of the
# module names of *this* model, finds none, and refuses. (Names that match only in part it accepts silently: count what you
# train, as section 6 does.)

# %% [markdown] lang="zh"
# **第三行：目标模块。** `q`、`v` 是 T5 里的名字。PEFT 拿 `target_modules` 和*这个*模型的模块名结尾去比，一个也没对上，
# 于是报错。（只对上一部分时，它一声不响就接受了：所以要像第 6 节那样，数一数训练的是哪些。）

# %% tags=["raises-exception"]
from peft import LoraConfig, PeftModel, TaskType, get_peft_model

get_peft_model(
    new_bert(), LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["q", "v"])
)

# %% [markdown] lang="en"
# What are the right names? Ask the model. Each layer of BERT has six linear modules; attention's are `query`, `key`
# and `value`.

# %% [markdown] lang="zh"
# 那正确的名字是什么？问模型自己。BERT 每层有六个线性模块，注意力部分的是 `query`、`key`、`value`。

# %% tags=["nbval-check-output"]
import torch

for name, module in untrained.bert.encoder.layer[0].named_modules():
    if isinstance(module, torch.nn.Linear):
        print(f"{name:28} {module.in_features:5} → {module.out_features}")

# %% [markdown] lang="en"
# ## 6 · LoRA: count first, then train
#
# LoRA leaves a weight matrix W₀ (d × k) frozen and adds a product of two thin ones beside it:
#
# > W = W₀ + (α / r) · B · A,  with A of shape r × k and B of shape d × r
#
# Only A and B are trained. B starts at zero, so at the first step the model is exactly the one you loaded.
#
# **Predict:** with r = 8 on `query` and `value` of every layer, how many numbers are trained? Each matrix is
# width × width; do not forget the head.

# %% [markdown] lang="zh"
# ## 6 · LoRA：先数清楚，再训练
#
# LoRA 把权重矩阵 W₀（d × k）冻住，在旁边加上两个瘦长矩阵的乘积：
#
# > W = W₀ + (α / r) · B · A，其中 A 的形状是 r × k，B 的形状是 d × r
#
# 训练的只有 A 和 B。B 从零开始，所以第一步时，模型和你加载的那个一模一样。
#
# **先猜一猜：** r = 8，作用在每一层的 `query` 和 `value` 上，要训练多少个数？每个矩阵都是 宽 × 宽，别忘了加上头。

# %% tags=["nbval-check-output"]
layers, width, rank = untrained.config.num_hidden_layers, untrained.config.hidden_size, 8
in_adapters = layers * 2 * rank * (width + width)
in_head = 2 * width + 2
print(f"{layers} layers × 2 modules × {rank} × ({width} + {width}) = {in_adapters:,}")
print(f"and {in_head} in the head: {in_adapters + in_head:,}")

# %% [markdown] lang="en"
# The configuration says it all: what kind of task (so that PEFT trains and saves the head, too), which rank, which
# scaling, which modules.

# %% [markdown] lang="zh"
# 配置里该说的都说了：任务类型（有了它，PEFT 才会训练并保存分类头）、秩、缩放、目标模块。

# %% tags=["nbval-check-output"]
config = LoraConfig(
    task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=["query", "value"]
)
lora = get_peft_model(new_bert(), config)
lora.print_trainable_parameters()
expect_equal(
    lora.get_nb_trainable_parameters()[0],
    in_adapters + in_head,
    "trainable parameters, as predicted",
)
if not full_profile:
    expect_equal(in_adapters + in_head <= 75_000, True, "at most 75 thousand")

# %% [markdown] lang="en"
# **Check the claim about the start.** B is zero, so the adapted model must give the same logits as the plain one, to the
# last bit.

# %% [markdown] lang="zh"
# **验证起点。** B 是零，所以加了适配器的模型应当和原模型给出完全相同的 logits，一个比特都不差。

# %% tags=["nbval-check-output"]
few = test["text"].head(20).tolist()
before = predict_logits(untrained, tokenizer, few)
expect_close(
    predict_logits(lora, tokenizer, few),
    before,
    0.0,
    "logits with a new adapter and without",
)
first = lora.base_model.model.bert.encoder.layer[0].attention.self.query
print({name: (tuple(p.shape), p.requires_grad) for name, p in first.named_parameters()})

# %% [markdown] lang="en"
# Now train. While it runs, the 300 watching snippets are judged every 42 steps. They are not the test snippets:
# whoever chooses settings by looking at the test set has no test set any more.

# %% [markdown] lang="zh"
# 开始训练。过程中每 42 步用那 300 条短评看一次效果。注意它们不是测试集：谁要是看着测试集调参数，谁就没有测试集了。


# %%
def evaluate():
    answers = predict_classes(lora, tokenizer, watch["text"].tolist())
    return Accuracy().compute(predictions=answers, references=watch_labels)


learning_rate = 5e-4 if full_profile else 2e-3
settings = FitSettings(epochs=2, learning_rate=learning_rate, evaluate_every=42)
lora_result = fit(lora, batches, classification_loss, settings, evaluate=evaluate)
print(lora_result)

# %% tags=["nbval-check-output"]
lora_answers = predict(lora)
lora_accuracy = accuracy_interval(lora_answers, test_labels)
lora_f1 = F1().compute(predictions=lora_answers, references=test_labels)["f1"]
expect(lora_accuracy.mean, 0.82, 0.89, "test accuracy, LoRA r=8")
expect(abs(lora_f1 - lora_accuracy.mean), 0.0, 0.02, "distance of macro F1 from accuracy")

# %% [markdown] lang="en"
# Accuracy and F1 agree here because the two classes are equally frequent and the mistakes are shared evenly; the
# confusion matrix shows it. On unbalanced data they part, and chapter 12 says which to trust.

# %% [markdown] lang="zh"
# 这里准确率和 F1 几乎相等，因为两类数量相当，错误也分布均匀，看混淆矩阵就明白。数据不平衡时两者会分家，
# 该信哪一个，第 12 章再说。

# %%
from aigc_helpers.figures import draw_confusion_matrix, new_figure, show
from sklearn.metrics import confusion_matrix

counts = confusion_matrix(test_labels, lora_answers)
figure, (matrix, curve) = new_figure(width=9, columns=2)
draw_confusion_matrix(matrix, counts.tolist(), LABEL_NAMES)
curve.plot(*lora_result.curve("loss"), color="0.75", marker="", label="training loss")
curve.plot(*lora_result.curve("accuracy"), label="accuracy on 300 others")
curve.set_xlabel("step")
curve.legend(frameon=False)
alt_en = "Left: most counts on the diagonal. Right: loss falls, accuracy passes 0.8."
alt_zh = "左：混淆矩阵，大部分落在对角线上。右：损失下降，准确率升到 0.8 以上。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# ## 7 · Full fine-tuning: the expensive way
#
# Now all weights may move: 22.7 million in the embedded model, 110 million in bert-base. A learning rate that suits thin
# matrices would wreck pretrained ones: it is nearly 20 times smaller here. Each step costs nearly twice as much, so it gets one
# epoch: no more time than LoRA's two.
#
# **Predict:** more than 300 times as many trainable numbers. How much better will it be?

# %% [markdown] lang="zh"
# ## 7 · 全参数微调：花大价钱的做法
#
# 现在所有权重全都可以动：embedded 模型有 2270 万个，bert-base 有 1.1 亿个。适合瘦长矩阵的学习率会毁掉预训练权重，
# 所以这里只取它的大约 1/20。每一步的开销差不多翻倍，所以只跑一个 epoch，用时不超过 LoRA 的两个 epoch。
#
# **先猜一猜：** 可训练的数是原来的 300 多倍，结果会好多少？

# %%
full = new_bert()
full_settings = FitSettings(epochs=1, learning_rate=3e-5 if full_profile else 1e-4)
full_result = fit(full, batches, classification_loss, full_settings)
full_answers = predict(full)
full_accuracy = accuracy_interval(full_answers, test_labels)
print(f"full fine-tuning: {full_accuracy}, {full_result.seconds:.0f} s")

# %%
import pandas

names = ["head only", "LoRA r=8", "full"]
accuracies = [head_accuracy, lora_accuracy, full_accuracy]
models = [head_only, lora, full]
results = [head_result, lora_result, full_result]
table = pandas.DataFrame(index=names)
table["trainable"] = [
    sum(p.numel() for p in model.parameters() if p.requires_grad) for model in models
]
table["accuracy [95 %]"] = [str(accuracy) for accuracy in accuracies]
table["training"] = [str(result) for result in results]
table

# %% [markdown] lang="en"
# Are these differences real, or luck of the draw? The two models judged the *same* snippets, so count only those on which
# exactly one is right. If both were equally good, each of these would be a coin toss: that is McNemar's test.

# %% [markdown] lang="zh"
# 这些差别是真的，还是碰巧？两个模型判断的是*同一批*短评，所以只数“恰好一个答对”的那些。
# 如果两者一样好，那每一条都等于抛一次硬币——这就是 McNemar 检验。

# %%
from aigc_helpers.metrics import compare_paired

for name, answers in [("head only", head_answers), ("full", full_answers)]:
    comparison = compare_paired(answers, lora_answers, test_labels)
    print(f"LoRA − {name}: {comparison.difference}, p = {comparison.p_value:.2g}")
    print(
        f"   only {name} right: {comparison.only_base_right}, only LoRA right: {comparison.only_tuned_right}"
    )

# %% tags=["nbval-check-output"]
against_head = compare_paired(head_answers, lora_answers, test_labels)
against_full = compare_paired(full_answers, lora_answers, test_labels)
expect(full_accuracy.mean, 0.79, 0.90, "test accuracy, full fine-tuning")
expect(against_head.p_value, 0.0, 1e-6, "p value, LoRA against head only")
expect(against_full.difference.mean, -0.05, 0.05, "accuracy of LoRA minus full fine-tuning")

# %%
from aigc_helpers.figures import draw_intervals

figure, (axes,) = new_figure(height=2.4)
draw_intervals(axes, names, [(one.low, one.mean, one.high) for one in accuracies])
axes.set_xlabel("test accuracy with 95 % interval")
alt_en = "Head only lies far to the left; LoRA and full fine-tuning overlap."
show(figure, alt_en, "置信区间：只训练头远在左边，LoRA 与全参数微调的区间重叠。")

# %% [markdown] lang="en"
# LoRA against the head alone: no doubt. LoRA against full fine-tuning: on 1,000 snippets, one run each, no difference
# worth a headline. That is the honest form of "LoRA matches full fine-tuning": *here, as far as this test can see*.
#
# ## 8 · Which rank?
#
# A higher rank means more numbers to train. More is better? We ran ranks 1 to 32 with three seeds each, on the same
# snippets and steps. This takes half an hour on two cores, so the cell reads stored results, of all-MiniLM-L6-v2 on either
# profile; `aigc pretrain rank-sweep` makes them again.
#
# **Predict:** by how much does rank 32 beat rank 1?

# %% [markdown] lang="zh"
# LoRA 比只训练头好，毫无疑问。LoRA 和全参数微调相比：1,000 条短评、各跑一次，看不出值得一提的差别。
# “LoRA 能追平全参数微调”这句话，老实的说法是：*在这里，就这次测试所能看到的而言*。
#
# ## 8 · 秩取多少？
#
# 秩越高，要训练的数越多。越多越好吗？我们在同样的数据和步数下，把秩 1 到 32 各跑了三个随机种子。
# 两个核心要跑半小时，所以这个单元格读取存好的结果（两种配置下都是 all-MiniLM-L6-v2 的）；想重跑，用 `aigc pretrain rank-sweep`。
#
# **先猜一猜：** 秩 32 比秩 1 好多少？

# %% tags=["nbval-check-output"]
from aigc_helpers.panels import RankPanel, draw_ranks, rank_summaries
from aigc_helpers.paths import DATA
from aigc_helpers.training import read_log

sweep = read_log(DATA / "results" / "film_rank_sweep.jsonl")
for summary in rank_summaries(sweep):
    worst, best = summary.accuracies[0], summary.accuracies[-1]
    print(
        f"r = {summary.rank:2}  {summary.trainable_parameters:7,} trainable  {worst:.3f} to {best:.3f}"
    )

# %% [markdown] lang="en"
# By three and a half points in the mean, and not evenly. From rank 1 to rank 4 the mean rises by about two points. From 4
# to 32, with eight times as many numbers, it rises by one and a half more; but the seeds of a single rank lie up to two
# points apart, and the interval of each accuracy is four points wide. A rank can be too small. Beyond that, this test can
# hardly tell one from the next; what a higher rank surely brings is a larger file. The panel shows the same numbers as a
# picture; its code twin is the cell above.

# %% [markdown] lang="zh"
# 平均高三个半点，而且升得不匀。从秩 1 到秩 4，平均准确率大约升了两个点。从 4 到 32，参数多到八倍，
# 只再升一个半点；而同一个秩换个随机种子，差距就可达两个点，每个准确率的置信区间有四个点宽。秩可能取得太小；够了之后再往上加，这个测试已经分不太清好坏，
# 确定无疑变大的只有文件。下面的面板把同样的数字画成图，等价的代码就是上面那个单元格。

# %% tags=["panel"]
from IPython.display import display

display(RankPanel(sweep))

# %%
picture = draw_ranks(rank_summaries(sweep))
alt = "Accuracy over rank: rises quickly from rank 1 to 4, then slowly. / 准确率从秩 1 到 4 升得快，之后升得慢。"
display(
    {"image/png": picture, "text/plain": alt},
    raw=True,
    metadata={"image/png": {"alt": alt}},
)

# %% [markdown] lang="en"
# ## 9 · Save and load: the adapter travels alone
#
# `save_pretrained` on a PEFT model writes the adapter, not the model: A and B of each target, the head, and a configuration
# that names the base. **Predict** the file's size: the number of trainable parameters times 4 bytes.

# %% [markdown] lang="zh"
# ## 9 · 保存与加载：适配器自己上路
#
# 对 PEFT 模型调用 `save_pretrained`，写下的是适配器而不是整个模型：每个目标的 A 和 B、分类头，以及写明基座的配置。
# **先猜**文件大小：可训练参数个数乘以 4 字节。

# %% tags=["nbval-check-output"]
from pathlib import Path
from tempfile import mkdtemp

folder = Path(mkdtemp())
lora.save_pretrained(folder / "film")
size = (folder / "film" / "adapter_model.safetensors").stat().st_size
predicted = 4 * (in_adapters + in_head)
expect(size / predicted, 1.0, 1.02, "file size over predicted size (the rest is header)")
if not full_profile:
    expect_equal(size < 400_000, True, "adapter file under 400 kB")

loaded = PeftModel.from_pretrained(new_bert(), folder / "film")
saved_logits = predict_logits(lora, tokenizer, few)
loaded_logits = predict_logits(loaded, tokenizer, few)
expect_close(loaded_logits, saved_logits, 1e-4, "logits after saving and loading")

# %% [markdown] lang="en"
# The numbers take 74,498 × 4 = 297,992 bytes (296,450 × 4 = 1,185,800 for bert-base). The rest, by which the ratio exceeds 1,
# is the header with their names.
#
# **What is lost without `task_type`.** Leave it out, and PEFT no longer knows that the head belongs to the task: it is neither
# trained nor saved. Nothing complains; the accuracy just stays low, or, worse, is high until the day you load the file.

# %% [markdown] lang="zh"
# 数字本身占 74,498 × 4 = 297,992 字节（bert-base 是 296,450 × 4 = 1,185,800）；比值超出 1 的那一点，是写着名字的文件头。
#
# **少了 `task_type` 会丢什么。** 不写它，PEFT 就不知道分类头也属于这个任务：头既不训练，也不保存。
# 没有任何报错，只是准确率上不去；更糟的是当时看着挺高，等到哪天重新加载才发现不对。

# %% tags=["nbval-check-output"]
from safetensors.torch import load_file

without = get_peft_model(
    new_bert(), LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
)
without.save_pretrained(folder / "without")
for name in ("film", "without"):
    keys = load_file(folder / name / "adapter_model.safetensors").keys()
    print(
        f"{name:8} {len(keys)} tensors, of the head: {[key for key in keys if 'classifier' in key]}"
    )

# %% [markdown] lang="en"
# ## 10 · Merge: one model again
#
# For serving, the product can be added into W₀ once and for all. The adapter disappears, and with it its small cost
# in time; what disappears, too, is the small file that could be swapped.

# %% [markdown] lang="zh"
# ## 10 · 合并：重新成为一个模型
#
# 部署时可以把乘积一次性加进 W₀。适配器不见了，它那一点点时间开销也没了；同时没了的，还有那个可以随手替换的小文件。

# %% tags=["nbval-check-output"]
merged = loaded.merge_and_unload()
expect_close(
    predict_logits(merged, tokenizer, few), saved_logits, 1e-4, "logits, merged and not"
)
expect_equal(type(merged).__name__, "BertForSequenceClassification", "type after merging")
merged.save_pretrained(folder / "merged")
size_merged = (folder / "merged" / "model.safetensors").stat().st_size
expect(size_merged / size, 250, 350, "the merged file is this many times as large")

# %% [markdown] lang="en"
# ## 11 · Your own sentence
#
# The same sentence as at the start, before and after. Films are judged in sentences without a single judging word; try
# some: *"I checked my watch twice."*

# %% [markdown] lang="zh"
# ## 11 · 你自己的句子
#
# 还是开头那句话，看看训练前后。影评里常常一个褒贬词都没有，也试试这种：*“I checked my watch twice.”*
# （模型只学过英文，请用英文写。）

# %%
for name, model in [("untrained", untrained), ("head only", head_only), ("LoRA r=8", lora)]:
    print(
        f"{name:10} {probability_of_positive(model, my_sentence):.3f} that “{my_sentence}” is positive"
    )

# %% tags=["panel"]
from functools import partial

from aigc_helpers.panels import SentencePanel

judges = {"untrained": untrained, "head only": head_only, "LoRA r=8": lora, "full": full}
judges = {name: partial(probability_of_positive, model) for name, model in judges.items()}
display(SentencePanel(judges, "I checked my watch twice."))

# %% [markdown] lang="en"
# ## 12 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **05-1, change a number.** How many trainable parameters (without the head) has LoRA with rank `rank` on `modules`
# square modules of `width` in each of `layers` layers?

# %% [markdown] lang="zh"
# ## 12 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **05-1，改一个数。** 在 `layers` 层里，每层对 `modules` 个宽为 `width` 的方阵使用秩为 `rank` 的 LoRA，
# 不算分类头，共有多少可训练参数？

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def count_lora_parameters(layers, modules, width, rank):
    # begin solution
    return layers * modules * rank * (width + width)
    # end solution


check_exercise("05-1", count_lora_parameters)

# %% [markdown] lang="en"
# **05-2, configure.** Write the `LoraConfig` for a classifier with rank 4 and scaling α/r = 2 on `query`, `key` *and*
# `value`.

# %% [markdown] lang="zh"
# **05-2，写配置。** 写一个分类任务用的 `LoraConfig`：秩为 4，缩放 α/r = 2，作用在 `query`、`key` *和* `value` 上。

# %% tags=["exercise", "nbval-check-output"]
my_config = None
# begin solution
my_config = LoraConfig(
    task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["query", "key", "value"]
)
# end solution

check_exercise("05-2", my_config)

# %% [markdown] lang="en"
# **05-3, write it yourself.** Merge by hand: given W₀ (d × k), A (r × k), B (d × r) and alpha, return the merged weight.

# %% [markdown] lang="zh"
# **05-3，自己动手。** 手工合并：给定 W₀（d × k）、A（r × k）、B（d × r）和 alpha，返回合并后的权重。


# %% tags=["exercise", "nbval-check-output"]
def merge_by_hand(weight, lora_A, lora_B, alpha):
    # begin solution
    rank = lora_A.shape[0]
    return weight + alpha / rank * lora_B @ lora_A
    # end solution


check_exercise("05-3", merge_by_hand)

# %% [markdown] lang="en"
# **05-4, judge.** Given two models' answers and the truth, return the pair (only the first right, only the second right):
# the two counts of McNemar's test.

# %% [markdown] lang="zh"
# **05-4，评判。** 给定两个模型的回答和正确答案，返回一对数（只有第一个答对的条数，只有第二个答对的条数），
# 也就是 McNemar 检验用的两个计数。


# %% tags=["exercise", "nbval-check-output"]
def count_disagreements(first, second, truth):
    # begin solution
    rows = list(zip(first, second, truth, strict=True))
    return sum(a == t != b for a, b, t in rows), sum(b == t != a for a, b, t in rows)
    # end solution


check_exercise("05-4", count_disagreements)

# %% [markdown] lang="en"
# ## Summary
#
# - Freezing is `requires_grad = False`; LoRA adds B·A beside the frozen weight and starts as an exact no-op.
# - r · (d + k) numbers per module: count before you train, compare with `print_trainable_parameters`.
# - Head only could not do this task; LoRA with 0.3 % of the weights did it as well as full fine-tuning, as far as 1,000
#   snippets can tell.
# - Rank 1 was two points short of rank 4; from there on, the seed mattered about as much as the rank. One run without an
#   interval proves little.
# - The adapter file holds A, B and, thanks to `task_type`, the head. Merging gives back a plain model.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `cannot import name 'LoraConfig' from 'transformers'` | wrong library | `from peft import LoraConfig` |
# | `object has no attribute 'add_lora'` | no such method | `get_peft_model(model, config)` |
# | `No modules were targeted for adaptation` | names of another model | look at `named_modules()`; BERT: `query`, `value` |
# | accuracy falls to chance after loading | head not saved | `task_type=TaskType.SEQ_CLS` |
# | loading works, training changes nothing | adapter loaded for inference | `PeftModel.from_pretrained(..., is_trainable=True)` |
#
# **Where next:** chapter 04 opens the layer itself; chapter 06 does the same with GPT-2, where the modules have other
# names again.

# %% [markdown] lang="zh"
# ## 小结
#
# - 冻结就是 `requires_grad = False`；LoRA 在冻结的权重旁边加上 B·A，起点严格等于什么都没做。
# - 每个模块 r · (d + k) 个数：训练前先数，再和 `print_trainable_parameters` 对一对。
# - 只训练头做不好这个任务；LoRA 只用 0.3 % 的权重，就做到了和全参数微调一样好——就 1,000 条短评所能分辨的而言。
# - 秩 1 比秩 4 差两个点；再往上，换种子的影响跟换秩差不多大。只跑一次又没有区间，说明不了什么。
# - 适配器文件里有 A、B，多亏 `task_type` 还有分类头。合并之后又是一个普通模型。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `cannot import name 'LoraConfig' from 'transformers'` | 找错了库 | `from peft import LoraConfig` |
# | `object has no attribute 'add_lora'` | 没有这个方法 | `get_peft_model(model, config)` |
# | `No modules were targeted for adaptation` | 用了别的模型的模块名 | 看 `named_modules()`；BERT 用 `query`、`value` |
# | 重新加载后准确率跌到瞎猜的水平 | 分类头没存下来 | `task_type=TaskType.SEQ_CLS` |
# | 加载正常，训练却毫无变化 | 适配器是按推理方式加载的 | `PeftModel.from_pretrained(..., is_trainable=True)` |
#
# **下一步：** 第 04 章把这一层拆开来看；第 06 章在 GPT-2 上做同样的事，那里的模块名又不一样。
