# %% [markdown] lang="en"
# # 06 · LoRA on GPT-2
#
# {{badge}}
#
# **What you will be able to do:** teach one GPT-2 three poem forms, with one small adapter each; measure with an
# interval how often it keeps a form, and with perplexity what it gains and what it forgets; say what `labels`, padding
# and the attention mask do, and prove it; put right the training loop that most articles print; save, load, switch
# and merge adapters; and choose temperature, top-k and top-p with open eyes.
#
# | | embedded profile | full profile |
# |---|---|---|
# | model | poet, a GPT-2 of 4.4 M parameters | gpt2 (124 M) |
# | texts | Chinese ci, by tune | English film reviews, by words per line |
# | time | under 3 minutes on two CPU cores | {{full_time}} |
# | memory | 1.1 GB | {{full_memory}} |
# | download | none once the workbook is set up | 550 MB |
#
# You need Python, and the idea of LoRA from chapter 05, section 6. You need not read Chinese: whether a poem keeps its form
# is a matter of counting characters. Numbers that stand in the text were measured on the embedded profile; on the full
# one, read yours under the cells.

# %% [markdown] lang="zh"
# # 06 · 在 GPT-2 上使用 LoRA
#
# {{badge}}
#
# **学完本章，你能够：** 让同一个 GPT-2 学会三种词牌，每种一个小小的适配器；用带区间的比例衡量它守不守格式，
# 用困惑度衡量它学到了什么、忘掉了什么；说清 `labels`、填充和注意力掩码各起什么作用，并亲手验证；
# 把多数文章里的训练循环改对；保存、加载、切换、合并适配器；心里有数地选温度、top-k 和 top-p。
#
# | | embedded 配置 | full 配置 |
# |---|---|---|
# | 模型 | poet，440 万参数的 GPT-2 | gpt2（1.24 亿参数） |
# | 文本 | 词，按词牌 | 英文影评，按每行词数 |
# | 时间 | 两个 CPU 核心不到 3 分钟 | {{full_time}} |
# | 内存 | 1.1 GB | {{full_memory}} |
# | 下载 | 装好本书之后不再需要 | 550 MB |
#
# 需要会 Python，并知道第 05 章第 6 节讲的 LoRA 是怎么回事。一首词合不合格式，数一数每句的字数就知道。
# 正文里的数字都是在 embedded 配置下测得的；full 配置下，请看各单元格下面打印出来的数。

# %% tags=["setup"]

# %% [markdown] lang="en"
# ## 1 · Forms with a known right answer
#
# The poet has read 66,355 Tang and Song *shi*: lines of five or seven characters throughout. A *ci* is written to a tune,
# and the tune fixes the length of every line: 浣溪沙 has six lines of seven, 菩萨蛮 two of seven and six of five, 鹧鸪天
# seven of seven with two of three between them. The poet has never seen one. So "has it learnt the form?" can be counted, not felt.
#
# On the full profile the forms are film reviews in lines of three, four or five *words*, which gpt2 has not met either. There
# read "review" for poem, "word" for character, and "plain prose" for Tang poem, here and below.

# %% [markdown] lang="zh"
# ## 1 · 对错分明的格式
#
# poet 读过 66,355 首唐宋诗，通篇五言或七言。词则按词牌填写，词牌规定了每一句的字数：浣溪沙是六句七言，
# 菩萨蛮是两句七言、六句五言，鹧鸪天是七句七言，中间夹两句三言。poet 从没见过词。所以“学没学会格式”可以数出来，不必凭感觉。
#
# full 配置下，格式换成每行三、四、五个*单词*的英文影评，gpt2 同样没见过。那时请把下文的“诗”“词”读作“影评”，“字”读作“单词”，
# “唐诗”读作“普通散文”。

# %% tags=["nbval-check-output"]
from aigc_helpers.notebook import expect, expect_close, expect_equal
from aigc_helpers.profile import current_profile
from aigc_helpers.text import in_lines, line_lengths, load_forms, load_known_texts

full_profile = current_profile().name == "full"
forms, known = load_forms(), load_known_texts()
for form in forms:
    print(f"{form.name}  {form.rule}: {len(form.train)} to train, {len(form.test)} to test")
first = forms[0]
print(in_lines(first.train[0]))
right = [form.keeps(text) for form in forms for text in form.test]
expect_equal(all(right), True, "every test text keeps its form")
expect_equal(any(first.keeps(text) for text in known), False, "any in what the base knows")

# %% [markdown] lang="en"
# `known` holds 200 Tang poems that the poet has not seen, but whose kind it has (on the full profile 200 reviews as they
# were written): they will show what is forgotten.
#
# Now the model. On the full profile the name of the hub's repository stands where the folder stands here.

# %% [markdown] lang="zh"
# `known` 是 200 首 poet 没见过、但体裁熟悉的唐诗（full 配置下是 200 条没分行的影评），后面用来看它忘掉了什么。
#
# 接着加载模型。full 配置下，这里的文件夹换成 hub 上仓库的名字。

# %% tags=["nbval-check-output"]
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from aigc_helpers import install

base_name = "openai-community/gpt2" if full_profile else install("poet")


def new_base():
    model = AutoModelForCausalLM.from_pretrained(base_name, dtype=torch.float32)
    return model.to(current_profile().device)


base = new_base()
print(f"{type(base).__name__}, {sum(p.numel() for p in base.parameters()):,} parameters")

# %% [markdown] lang="en"
# The poet's tokenizer has one token per Chinese character. Two marks frame a text: `bos` is what the first character is
# predicted from, `eos` is how the model learns to stop. Some tokenizers add `bos` themselves, GPT-2's never add `eos`; so we
# add both. (gpt2 uses one and the same token for both.)

# %% [markdown] lang="zh"
# poet 的分词器一个汉字一个 token。文本首尾各有一个标记：第一个字要从 `bos` 预测出来；有了 `eos`，模型才学得会停笔。
# 有的分词器会自己加 `bos`，GPT-2 一类的都不加 `eos`，所以我们两个都自己加。（gpt2 的这两个标记是同一个 token。）


# %% tags=["nbval-check-output"]
tokenizer = AutoTokenizer.from_pretrained(base_name)


def encode(texts):
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [[tokenizer.bos_token_id, *each, tokenizer.eos_token_id] for each in ids]


example = encode(first.train[:1])[0]
print(example[:9], "…", example[-3:])
print(tokenizer.convert_ids_to_tokens(example[:9]), "…")
expect_equal(example[-1] == tokenizer.eos_token_id, True, "the text ends with eos")

# %% [markdown] lang="en"
# ## 2 · The base, before any training
#
# `generate` draws one token after another until the model draws `eos`. The settings are the subject of section 9; a
# batch of 100 texts is drawn at once.
#
# **Predict:** of 200 poems by the base, how many are a 浣溪沙, that is six lines of seven characters? A shi has four lines
# or eight. (On the full profile: how many are three lines or more of three words each?)

# %% [markdown] lang="zh"
# ## 2 · 训练之前的基座
#
# `generate` 一个接一个地抽 token，直到抽中 `eos` 为止。各项设置第 9 节再讲；一次成批生成 100 首。
#
# **先猜一猜：** 基座写 200 首，有几首恰好是浣溪沙，也就是六句七言？诗通常是四句或八句。（full 配置下：
# 有几条恰好是三行以上、每行三个单词？）


# %%
def write(model, count=200, **settings):
    set_seed(0)
    start = torch.full((1, 1), tokenizer.bos_token_id, device=model.device)
    options = {"do_sample": True, "temperature": 0.9, "top_k": 0, "top_p": 0.95} | settings
    options |= {"max_length": 96, "pad_token_id": tokenizer.eos_token_id}
    inputs = {"input_ids": start, "attention_mask": torch.ones_like(start)}
    texts = []
    while len(texts) < count:
        several = min(100, count - len(texts))
        drawn = model.generate(**inputs, num_return_sequences=several, **options)
        texts += tokenizer.batch_decode(drawn, skip_special_tokens=True)
    return texts


# %%
from aigc_helpers.metrics import wilson_interval


def share_kept(texts, form):
    return wilson_interval(sum(map(form.keeps, texts)), len(texts))


written = {"base": write(base)}
for text in written["base"][:3]:
    print(f"{text}   {line_lengths(text)}")
for form in forms:
    print(f"share of {form.name}: {share_kept(written['base'], form)}  (95 % interval)")

# %% [markdown] lang="en"
# None, or next to none. The interval says how sure that is: with none in 200, a true share of up to 2 % is still possible.
#
# The second measure looks at every token. **Perplexity** is e to the mean loss: a perplexity of 150 means that the model
# is as unsure as if it had to choose among 150 equally likely tokens each time.
#
# **Predict:** the same language, the same images, the same centuries. Is a ci harder for the base than a Tang poem?

# %% [markdown] lang="zh"
# 一首也没有，或者几乎没有。区间说明这有多可靠：200 首里就算一首没有，真实比例仍有可能高到 2 %。
#
# 第二个指标看的是每一个 token。**困惑度**是 e 的“平均损失”次方：困惑度 150，就好比每一步都要在 150 个同样可能的
# token 里挑一个。
#
# **先猜一猜：** 语言相同，意象相同，年代也接近。对基座来说，词会比唐诗更难吗？

# %% tags=["nbval-check-output"]
import math

from aigc_helpers.text import LengthBatches, mean_loss, pad_batch


def perplexity(model, texts):
    batches = LengthBatches(encode(texts), None, 32, tokenizer.eos_token_id)
    rows = (batches.batch(0, position) for position in range(len(batches)))
    return math.exp(mean_loss(model, rows))


before = [perplexity(base, form.test) for form in forms] + [perplexity(base, known)]
expect(before[-1], 130, 170, "perplexity of the base on what it knows")
expect(min(before[:-1]) / before[-1], 2, 5, "on the easiest form, times as high")

# %% [markdown] lang="en"
# Much harder: the base expects the line to go on where the tune ends it, and is wrong at every such place.
#
# ## 3 · labels, padding, mask
#
# Most training loops in articles go wrong in these three words, and none of the mistakes raises an error. So prove each
# claim before you train.
#
# **Claim: the shift happens inside the model.** A language model predicts token t + 1 from the tokens up to t. You
# pass `labels = input_ids`, unshifted; the model compares `logits[:-1]` with `labels[1:]` itself.

# %% [markdown] lang="zh"
# 难得多：词牌在这里断句，基座却以为句子还没完，每到这种地方就猜错。
#
# ## 3 · labels、填充、掩码
#
# 文章里的训练循环多半错在这三样上，而且一个都不报错。所以训练之前，先把每个说法验证一遍。
#
# **说法：移位是在模型内部做的。** 语言模型用前 t 个 token 预测第 t + 1 个。你只管传 `labels = input_ids`，不要移位；
# 模型自己会拿 `logits[:-1]` 去对 `labels[1:]`。

# %% tags=["nbval-check-output"]
from torch.nn.functional import cross_entropy

tolerance = 1e-2 if full_profile else 1e-4
ids = torch.tensor(encode([known[0]]), device=base.device)
with torch.no_grad():
    output = base(input_ids=ids, labels=ids)
by_hand = cross_entropy(output.logits[0, :-1], ids[0, 1:])
expect_close(output.loss, by_hand, tolerance, "the model's loss and the loss by hand")

# %% [markdown] lang="en"
# Many loops shift before they call the model. Then the shift happens twice, and the model is asked for the token after
# the next.
#
# **Predict:** will there be an error? Will the loss be higher, lower, the same?

# %% [markdown] lang="zh"
# 许多循环在调用模型之前先移了一次位。于是一共移了两次，等于要模型跳过下一个字，去猜再下一个。
#
# **先猜一猜：** 会报错吗？损失会变高、变低，还是不变？

# %% tags=["nbval-check-output"]
with torch.no_grad():
    shifted_twice = base(input_ids=ids[:, :-1], labels=ids[:, 1:]).loss
expect(shifted_twice - output.loss, 2, 6, "shifted twice: loss higher by")
print(f"{output.loss:.2f} → {shifted_twice:.2f}")

# %% [markdown] lang="en"
# No error, only a higher loss. Training would bring it down, too, and the model would learn to leave out every other
# character.
#
# **Claim: -100 means "not to be learnt".** A batch is a rectangle, so short texts are filled up. With
# `labels = input_ids` the filling counts: the model is also trained to write padding. `-100` takes a place out
# of the loss.

# %% [markdown] lang="zh"
# 没有报错，只是损失高了。照样训练下去，损失也会降，只不过模型学的是隔一个字写一个字。
#
# **说法：-100 的意思是“这里不用学”。** 批次必须是矩形，短文本要填充。如果 `labels = input_ids`，填充位也算进损失，
# 等于训练模型去写填充符。填上 `-100`，这个位置就不参与损失。

# %% tags=["nbval-check-output"]
padding_id = tokenizer.eos_token_id if full_profile else tokenizer.pad_token_id
long, short = (torch.tensor(each) for each in encode([first.train[0], first.train[1][:16]]))
batch = {k: v.to(base.device) for k, v in pad_batch([long, short], padding_id).items()}
labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
with torch.no_grad():
    masked = base(**batch, labels=labels).loss
    counted = base(**batch, labels=batch["input_ids"]).loss
one_by_one = math.log(perplexity(base, [first.train[0], first.train[1][:16]]))
expect_close(masked, one_by_one, tolerance, "with -100: loss")
expect(counted - masked, 1, 8, "padding counted: loss higher by")

# %% [markdown] lang="en"
# **Claim: padding on the right needs no mask.** A causal model looks only back, so what stands behind a text cannot
# change it. On the left it can: there the padding comes first, and every position moves.
#
# **Predict:** left padding *with* the attention mask. Is that enough?

# %% [markdown] lang="zh"
# **说法：填充在右边时不需要掩码。** 因果模型只往回看，文本后面有什么都影响不到它。填在左边就不同了：
# 填充跑到了前面，每个位置都跟着后移。
#
# **先猜一猜：** 填在左边、*同时*给出注意力掩码，够不够？

# %% tags=["nbval-check-output"]
count = len(short)
left = {name: values.flip(1) for name, values in batch.items()}  # zeros first
left["input_ids"][1, -count:] = short.to(base.device)
positions = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
with torch.no_grad():
    plain = base(input_ids=short[None].to(base.device)).logits[0]
    right = base(input_ids=batch["input_ids"]).logits[1, :count]
    wrong = base(**left).logits[1, -count:]
    mended = base(**left, position_ids=positions).logits[1, -count:]
expect_close(right, plain, tolerance, "right, no mask")
expect((wrong - plain).abs().max(), 1, 100, "left, with mask: largest difference")
expect_close(mended, plain, tolerance, "left, with mask and positions")

# %% [markdown] lang="en"
# It is not: GPT-2 has learnt a vector for each position, and left padding moves the text to other ones. `generate` works out
# the positions from the mask; `model(...)` does not. So: pad on the right to train, on the left with a mask to generate
# from prompts of different length. (We generate from a single `bos`, so nothing has to be padded.)
#
# **The next trap: gpt2 has no padding token.** We take ours away, to see the message that everybody meets.

# %% [markdown] lang="zh"
# 不够：GPT-2 给每个位置学了一个向量，填在左边，文本就挪到了别的位置上。`generate` 会根据掩码推算位置，
# `model(...)` 不会。所以：训练时填右边；用长短不一的提示词生成时填左边，并给出掩码。（我们只从一个 `bos` 开始生成，无须填充。）
#
# **下一个坑：gpt2 没有填充 token。** 我们把自己的去掉，看看那条人人都会碰到的报错。

# %% tags=["raises-exception"]
bare = AutoTokenizer.from_pretrained(base_name)
bare.pad_token = None
bare([first.train[0], "春风"], padding=True)

# %% [markdown] lang="en"
# The message proposes `pad_token = eos_token`. That is fine for padding, and a trap for labels: a collator that looks for
# the padding *id* takes the real end of the text for padding, too.

# %% [markdown] lang="zh"
# 报错里建议 `pad_token = eos_token`。拿来填充没问题，拿来做标签却是个坑：有的整理函数（collator）按填充*编号*来找，
# 会把文本真正的结尾也当成填充。

# %% tags=["nbval-check-output"]
from transformers import DataCollatorForLanguageModeling

bare.pad_token = bare.eos_token
collate = DataCollatorForLanguageModeling(bare, mlm=False)
from_collator = collate([{"input_ids": short.tolist()}])["labels"][0]
ours = LengthBatches([short.tolist()], None, 1, bare.pad_token_id).batch(0, 0)["labels"][0]
expect_equal(from_collator[-1].item(), -100, "label of the end, by the padding id")
expect_equal(ours[-1].item() == bare.eos_token_id, True, "by the mask, it is eos")

# %% [markdown] lang="en"
# A model trained on those labels never learns to stop. `LengthBatches`, which this book trains with, goes by the length of
# each text.
#
# ## 4 · Which modules? The article's line
#
# `target_modules=["q_proj", "v_proj"]` is right for Llama. Run it on GPT-2.

# %% [markdown] lang="zh"
# 用这种标签训练出来的模型，永远学不会停笔。本书训练用的 `LengthBatches` 看的是每条文本的长度。
#
# ## 4 · 目标模块：文章里的那一行
#
# `target_modules=["q_proj", "v_proj"]` 用在 Llama 上是对的。在 GPT-2 上跑跑看。

# %% tags=["raises-exception"]
from peft import LoraConfig, PeftModel, TaskType, get_peft_model

article = LoraConfig(task_type=TaskType.CAUSAL_LM, r=8, target_modules=["q_proj", "v_proj"])
get_peft_model(new_base(), article)

# %% [markdown] lang="en"
# GPT-2 has no such modules. Ask the model what it has:

# %% [markdown] lang="zh"
# GPT-2 里没有这两个模块。问问模型自己有什么：

# %% tags=["nbval-check-output"]
for name, module in base.transformer.h[0].named_modules():
    if name.count(".") and hasattr(module, "weight"):
        print(f"{name:12} {type(module).__name__} {tuple(module.weight.shape)}")

# %% [markdown] lang="en"
# One module, `c_attn`, makes query, key and value in one go: its output is three times as wide as its input, and is cut in
# three afterwards. And it is no `Linear` but a `Conv1D`, which despite its name is a linear layer with the weight stored the
# other way round: (inputs, outputs), where `Linear` has (outputs, inputs).

# %% [markdown] lang="zh"
# 一个模块 `c_attn` 同时产生 query、key 和 value：输出宽度是输入的三倍，随后切成三份。它也不是 `Linear`，而是 `Conv1D`；
# 名字唬人，其实就是线性层，只是权重倒着放：它是（输入，输出），`Linear` 是（输出，输入）。

# %% tags=["nbval-check-output"]
conv = base.transformer.h[0].attn.c_attn
width = base.config.hidden_size
set_seed(0)
states = torch.randn(2, width, device=base.device)
linear = torch.nn.Linear(width, 3 * width, device=base.device)
with torch.no_grad():
    linear.weight.copy_(conv.weight.T)
    linear.bias.copy_(conv.bias)
    by_hand = states @ conv.weight + conv.bias
    expect_close(conv(states), by_hand, tolerance, "Conv1D and x W + b")
    expect_close(linear(states), by_hand, tolerance, "Linear with W transposed")
    query, key, value = conv(states).split(width, dim=-1)
expect_equal({query.shape, key.shape, value.shape}, {(2, width)}, "three parts")

# %% [markdown] lang="en"
# LoRA adds B·A of shape (outputs, inputs) to the weight. For a Conv1D the product has to be transposed first, and
# `fan_in_fan_out=True` says so. Forget it, and PEFT notices: it sets the value itself and warns.

# %% [markdown] lang="zh"
# LoRA 加到权重上的 B·A 形状是（输出，输入）。遇到 Conv1D，就得先转置，`fan_in_fan_out=True` 说的就是这件事。
# 忘了写，PEFT 会发现：它自己改过来，并给出警告。

# %% tags=["nbval-check-output"]
import warnings

forgotten = LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=["c_attn"])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    get_peft_model(new_base(), forgotten)
print(*(w.message for w in caught if "fan_in_fan_out" in str(w.message)))

# %% [markdown] lang="en"
# **Predict** the number of trained parameters: rank 8, A is 8 × width, B is 3 · width × 8, once per layer.

# %% [markdown] lang="zh"
# **先猜**要训练多少个数：秩为 8，A 是 8 × 宽，B 是 3 · 宽 × 8，每层一份。

# %% tags=["nbval-check-output"]
config = LoraConfig(
    task_type=TaskType.CAUSAL_LM,
    r=8,
    lora_alpha=16,
    target_modules=["c_attn"],
    fan_in_fan_out=True,
)
layers = base.config.num_hidden_layers
predicted = layers * 8 * (width + 3 * width)
trial = get_peft_model(new_base(), config)
trial.print_trainable_parameters()
expect_equal(trial.get_nb_trainable_parameters()[0], predicted, "trained, as predicted")

# %% [markdown] lang="en"
# ## 5 · The article's training loop, repaired
#
# No single article prints all of this; each line stands in many.
#
# ```python
# optimizer = AdamW(model.parameters(), lr=5e-5)                        # 1
# model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))  # 2
# inputs = tokenizer(texts, padding=True, return_tensors="pt")          # 3
# for epoch in range(3):
#     outputs = model(inputs["input_ids"], labels=inputs["input_ids"])  # 4
#     logits, labels = outputs.logits[:, :-1], inputs["input_ids"][:, 1:]
#     loss = cross_entropy(logits.reshape(-1, vocabulary), labels.reshape(-1))  # 5
#     loss.backward()
#     optimizer.step()                                                  # 6
# ```
#
# | | fault | repair |
# |---|---|---|
# | 1 | the optimizer is made before the adapter exists; `AdamW` is gone from transformers; the rate suits full fine-tuning | make it after `get_peft_model`, from what requires a gradient; `torch.optim.AdamW`; a rate 10 to 100 times as high |
# | 2 | names of another model, no task type | `c_attn`, `TaskType.CAUSAL_LM`, `fan_in_fan_out=True` |
# | 3 | gpt2 has no padding token; no `eos` at the end of a text; all texts in one batch | name a padding token; add `eos`; small batches of like length |
# | 4 | padding is learnt, no mask is passed | `-100` where the mask is 0; pass the mask |
# | 5 | the loss that the model has just computed, computed again, and with the padding | `outputs.loss` |
# | 6 | gradients add up from step to step | `optimizer.zero_grad()` |
#
# Fault 1 is the quietest. **Predict:** three steps with that optimizer. How many tensors change?

# %% [markdown] lang="zh"
# ## 5 · 把文章里的训练循环改对
#
# 没有哪一篇把这些全占了，但每一行都在许多文章里出现过。
#
# ```python
# optimizer = AdamW(model.parameters(), lr=5e-5)                        # 1
# model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))  # 2
# inputs = tokenizer(texts, padding=True, return_tensors="pt")          # 3
# for epoch in range(3):
#     outputs = model(inputs["input_ids"], labels=inputs["input_ids"])  # 4
#     logits, labels = outputs.logits[:, :-1], inputs["input_ids"][:, 1:]
#     loss = cross_entropy(logits.reshape(-1, vocabulary), labels.reshape(-1))  # 5
#     loss.backward()
#     optimizer.step()                                                  # 6
# ```
#
# | | 毛病 | 改法 |
# |---|---|---|
# | 1 | 适配器还没有，优化器先建好了；transformers 里早就没有 `AdamW`；学习率是全参数微调用的 | 在 `get_peft_model` 之后、用需要梯度的参数来建；`torch.optim.AdamW`；学习率高 10 到 100 倍 |
# | 2 | 别的模型的模块名，没写任务类型 | `c_attn`、`TaskType.CAUSAL_LM`、`fan_in_fan_out=True` |
# | 3 | gpt2 没有填充 token；文本末尾没有 `eos`；所有文本塞进一个批次 | 指定填充 token；补上 `eos`；长度相近的小批次 |
# | 4 | 连填充也学，又没传掩码 | 掩码为 0 处填 `-100`；传入掩码 |
# | 5 | 模型刚算好的损失又算一遍，还把填充算了进去 | `outputs.loss` |
# | 6 | 梯度一步步累加下去 | `optimizer.zero_grad()` |
#
# 第 1 处最不声不响。**先猜一猜：** 用这个优化器走三步，有几个张量会变？

# %% tags=["nbval-check-output"]
model = new_base()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)  # too early
model = get_peft_model(model, config)
before_training = {name: tensor.clone() for name, tensor in model.state_dict().items()}
for _ in range(3):
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
after_training = model.state_dict()
changed = [n for n, t in before_training.items() if not torch.equal(t, after_training[n])]
expect_equal(len(changed), 0, "tensors that changed")

# %% [markdown] lang="en"
# None. The optimizer holds the base's weights, which `get_peft_model` froze; A and B came later, and it has never heard of
# them. Here is the loop with all six repairs. Twenty steps are enough to see the loss fall.

# %% [markdown] lang="zh"
# 一个也没变。优化器手里是基座的权重，已经被 `get_peft_model` 冻住了；A 和 B 是后来才有的，它根本不知道。
# 下面是六处都改好的循环。走二十步就能看到损失下降。

# %% tags=["nbval-check-output"]
set_seed(0)
model = get_peft_model(new_base(), config).train()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-3 if full_profile else 1e-2)
losses = []
for step in range(20):
    rows = [torch.tensor(each) for each in encode(first.train[8 * step : 8 * step + 8])]
    batch = {k: v.to(base.device) for k, v in pad_batch(rows, padding_id).items()}
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss = model(**batch, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
expect(sum(losses[:4]) / 4 - sum(losses[-4:]) / 4, 0.4, 2.5, "loss, first steps minus last")

# %% [markdown] lang="en"
# ## 6 · One base, one adapter per form
#
# From here on `fit` trains: the same loop with a warm-up, a decay of the learning rate and a progress bar. Three adapters
# share one base. `add_adapter` puts a further one beside those that are there, `set_adapter` says which one is in use;
# only that one is trained.

# %% [markdown] lang="zh"
# ## 6 · 一个基座，每种格式一个适配器
#
# 接下来交给 `fit` 训练：还是那个循环，多了学习率的预热和衰减，还有进度条。三个适配器共用一个基座。`add_adapter` 在已有的旁边再加一个，
# `set_adapter` 指定用哪一个；训练的也只有这一个。

# %%
from aigc_helpers import FitSettings, fit
from aigc_helpers.text import next_token_loss

set_seed(0)
tuned = get_peft_model(new_base(), config, adapter_name=first.name)
for form in forms[1:]:
    tuned.add_adapter(form.name, config)
settings = FitSettings(epochs=4, learning_rate=2e-3 if full_profile else 1.2e-2)
for form in forms:
    tuned.set_adapter(form.name)
    batches = LengthBatches(encode(form.train), None, 8, padding_id)
    result = fit(tuned, batches, next_token_loss, settings)
    losses = result.curve("loss")[1]
    print(f"{form.name}: {result.steps} steps, loss {losses[0]:.2f} → {losses[-1]:.2f}")

# %% [markdown] lang="en"
# **Predict:** the share of poems that keep their tune, for each adapter. And how often will the adapter of one tune write
# another?

# %% [markdown] lang="zh"
# **先猜一猜：** 每个适配器写的词，有多大比例合自己的词牌？一个词牌的适配器，又有多少次会写成另一个词牌？

# %%
for form in forms:
    tuned.set_adapter(form.name)
    written[form.name] = write(tuned)
    print(f"{form.name}, {form.rule}\n{in_lines(written[form.name][0])}\n")

# %% tags=["nbval-check-output"]
kept = {form.name: share_kept(written[form.name], form) for form in forms}
for form in forms:
    expect(share_kept(written["base"], form).mean, 0, 0.03, f"base, share of {form.name}")
    expect(kept[form.name].mean, 0.80, 1.0, f"tuned, share of {form.name}")
pairs = [(one, other) for one in forms for other in forms if one is not other]
others = [share_kept(written[one.name], other).mean for one, other in pairs]
expect(max(others), 0, 0.05, "the tune of another adapter")

# %%
from aigc_helpers.figures import draw_intervals, draw_matrix, new_figure, show

bars = [share_kept(written["base"], first), *kept.values()]
print(*map("{}: {}".format, written, bars), sep="\n")
labels = ["base", *(form.label for form in forms)]
figure, (intervals, shares) = new_figure(width=9.5, height=3.2, columns=2)
draw_intervals(intervals, labels, [(one.low, one.mean, one.high) for one in bars])
intervals.set_xlabel("share of 200 texts in form, 95 % interval")
draw_matrix(shares, [[share_kept(written[w], f).mean for f in forms] for w in written])
shares.set_xticks(range(len(forms)), labels[1:], rotation=25)
shares.set_yticks(range(len(labels)), labels)
shares.set_xlabel("form of the text")
alt_en = "Left: base at 0, adapters above 0.8. Right: each writes its own form only."
alt_zh = "左：基座为 0，三个适配器都在 0.8 以上。右：每个适配器只写自己的词牌。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# From none to nearly all, each adapter in its own form and no other. It learnt the tune, not the meaning: read the
# samples. And not every tune is so willing: in 西江月 six lines of eight have six characters, and the base has hardly ever
# written a line of six. After the same four passes it keeps its form far less often; that takes longer.
#
# ## 7 · What was gained, and what was forgotten
#
# **Predict:** perplexity on the test poems of the tune will fall. What becomes of the Tang poems, which the base could do
# and no adapter has seen?

# %% [markdown] lang="zh"
# 从一首没有到几乎全对，而且各守各的词牌，互不串门。它学到的是词牌，不是意境：看看样本就知道。
# 也不是每个词牌都这么好学：西江月八句里有六句是六言，基座几乎没写过六言句，同样走四遍，合格的要少得多，得多花些时间。
#
# ## 7 · 学到了什么，忘掉了什么
#
# **先猜一猜：** 在该词牌的测试词上，困惑度会下降。那么基座本来会、适配器从没见过的唐诗呢？

# %%
import pandas

columns = [*(form.name for form in forms), "known"]
rows = {"base": before}
for form in forms:
    tuned.set_adapter(form.name)
    rows[form.name] = [perplexity(tuned, each.test) for each in forms] + [
        perplexity(tuned, known)
    ]
table = pandas.DataFrame.from_dict(rows, orient="index", columns=columns)
table.round(0).astype(int)

# %% tags=["nbval-check-output"]
for index, form in enumerate(forms):
    after = table.loc[form.name, form.name]
    expect(after / before[index], 0.02, 0.4, f"{form.name}: perplexity after over before")
    expect(table.loc[form.name, "known"] / before[-1], 1.1, 60, "   and on what was known")
with tuned.disable_adapter():
    switched_off = perplexity(tuned, known)
expect_close(switched_off, before[-1], 0.01, "known texts, adapter switched off")

# %% [markdown] lang="en"
# On its own tune each adapter leaves only a fraction of the perplexity, the first number of each pair. On Tang poems it is
# worse than the base, by the factor in the second: four passes at a high learning rate leave no reason to expect a shi any
# more. Nothing is lost, though. The base was never touched; switch the adapter off and the old perplexity is back. After
# full fine-tuning it would be gone for good.
#
# ## 8 · Save, load, switch, merge
#
# `save_pretrained` writes each adapter into a folder of its name. **Predict** the size of a file, in bytes.

# %% [markdown] lang="zh"
# 在自己的词牌上，每个适配器的困惑度只剩原来的一小部分，见每一对的第一个数。在唐诗上却比基座差，差多少倍是第二个数：
# 学习率高，又走了四遍，它已经不指望会碰上诗了。不过什么也没丢：基座一个数都没动，关掉适配器，原来的困惑度就回来了。
# 换作全参数微调，那就真的回不来了。
#
# ## 8 · 保存、加载、切换、合并
#
# `save_pretrained` 把每个适配器写进以它命名的文件夹。**先猜**每个文件有多少字节。

# %% tags=["nbval-check-output"]
from pathlib import Path
from tempfile import mkdtemp

folder = Path(mkdtemp())
tuned.save_pretrained(folder)
for form in forms:
    size = (folder / form.name / "adapter_model.safetensors").stat().st_size
    expect(size / (4 * predicted), 1.0, 1.05, f"{form.name}: over {4 * predicted:,} bytes")

# %% [markdown] lang="en"
# 32,768 × 4 = 131,072 bytes of numbers (294,912 × 4 = 1,179,648 for gpt2), and a header; the ratio printed above is the
# file's size over that.
#
# One process, one base, three adapters: `PeftModel.from_pretrained` loads the first, `load_adapter` the others, and
# `set_adapter` switches between them without reading a file. The loaded model must agree with the trained one, adapter
# by adapter.

# %% [markdown] lang="zh"
# 32,768 × 4 = 131,072 字节的数字（gpt2 是 294,912 × 4 = 1,179,648），外加一个文件头；上面的比值就是文件大小除以这个数。
#
# 一个进程、一个基座、三个适配器：`PeftModel.from_pretrained` 加载第一个，`load_adapter` 加载其余的，`set_adapter` 在它们之间切换，
# 不用再读文件。加载出来的模型，应当逐个适配器与训练好的一致。


# %% tags=["nbval-check-output"]
def logits_of(model):
    with torch.no_grad():
        return model(input_ids=ids).logits


loaded = PeftModel.from_pretrained(
    new_base(), folder / first.name, adapter_name=first.name
).eval()
for form in forms[1:]:
    loaded.load_adapter(str(folder / form.name), adapter_name=form.name)
for form in forms:
    tuned.set_adapter(form.name)
    loaded.set_adapter(form.name)
    expect_close(logits_of(loaded), logits_of(tuned), tolerance, f"{form.name}, loaded")

# %% [markdown] lang="en"
# To serve a single tune, merge: W + (α / r) · (B·A)ᵀ, with the transposition that `fan_in_fan_out` stands for. By hand
# first, then with `merge_and_unload`, which gives back a plain GPT-2.

# %% [markdown] lang="zh"
# 只用一个词牌时，可以合并：W + (α / r) · (B·A)ᵀ，其中的转置正是 `fan_in_fan_out` 的意思。先手工算一遍，
# 再用 `merge_and_unload`，它还给你一个普通的 GPT-2。

# %% tags=["nbval-check-output"]
loaded.set_adapter(first.name)
adapted = logits_of(loaded)
layer = loaded.base_model.model.transformer.h[0].attn.c_attn
down, up = layer.lora_A[first.name].weight, layer.lora_B[first.name].weight  # A and B
by_hand = layer.base_layer.weight + 16 / 8 * (up @ down).T
merged = loaded.merge_and_unload()
merged_weight = merged.transformer.h[0].attn.c_attn.weight
expect_close(merged_weight, by_hand, 1e-5, "merged weight, by hand and by PEFT")
expect_close(logits_of(merged), adapted, 10 * tolerance, "logits, merged and not")
expect_equal(type(merged).__name__, type(base).__name__, "type after merging")

# %% [markdown] lang="en"
# ## 9 · Temperature, top-k, top-p
#
# The model gives logits; drawing is up to you. **Temperature** divides them: below 1 the likely tokens gain, above 1 the
# unlikely ones. **top-k** keeps the k likeliest. **top-p** keeps the fewest likeliest that together reach p. Here they are
# by hand, for the first character of a poem.

# %% [markdown] lang="zh"
# ## 9 · 温度、top-k、top-p
#
# 模型只给出 logits，怎么抽由你定。**温度**是除数：小于 1，可能的更可能；大于 1，冷门的也有机会。**top-k** 只留最可能的 k 个。
# **top-p** 从最可能的留起，加起来够 p 就停。下面就一首词的第一个字，把三者手工算一遍。


# %% tags=["nbval-check-output"]
from aigc_helpers.panels import SamplingPanel, sampling_distribution


def filtered(logits, temperature, top_k, top_p):
    values, order = (logits / temperature).sort(descending=True)
    values[top_k or len(values) :] = -math.inf
    shares = values.softmax(0)
    values[shares.cumsum(0) - shares >= top_p] = -math.inf  # the likelier ones reach it
    return torch.zeros_like(logits).scatter(0, order, values).softmax(0)


next_logits = logits_of(merged)[0, 0].cpu()
for chosen in [(0.9, 0, 0.95), (0.5, 0, 0.95), (1.5, 20, 1.0)]:
    by_library = sampling_distribution(next_logits, *chosen)
    expect_close(filtered(next_logits, *chosen), by_library, 1e-5, f"{chosen}")

# %% [markdown] lang="en"
# **Predict:** a cautious draw (0.5) and a wild one (1.4). What happens to the share in form, and to the number of different
# characters?

# %% [markdown] lang="zh"
# **先猜一猜：** 谨慎地抽（0.5）和放开了抽（1.4），合格式的比例会怎样？用到的不同的字会有多少？

# %% tags=["nbval-check-output"]
tuned.set_adapter(first.name)
temperatures = [0.5, 0.9, 1.4]
drawn = [write(tuned, 100, temperature=temperature) for temperature in temperatures]
shares = [share_kept(texts, first) for texts in drawn]
distinct = [len(set(token for each in encode(texts) for token in each)) for texts in drawn]
expect(shares[1].mean - shares[2].mean, 0.1, 0.9, "in form, 0.9 minus 1.4")
expect(distinct[2] / distinct[0], 2, 10, "different tokens, 1.4 over 0.5")

# %%
figure, (probabilities, trade) = new_figure(width=9, columns=2)
for temperature in temperatures:
    likeliest = sampling_distribution(next_logits, temperature, 0, 1.0).topk(20).values
    probabilities.plot(range(1, 21), likeliest, label=f"temperature {temperature}")
probabilities.set(xticks=[1, 5, 10, 15, 20], xlabel="rank of the first token")
probabilities.set_ylabel("probability")
probabilities.legend(frameon=False)
trade.plot(distinct, [share.mean for share in shares])
for number, share, temperature in zip(distinct, shares, temperatures, strict=True):
    trade.annotate(f"  {temperature}", (number, share.mean))
trade.set(ylim=(0, 1.05), xlabel="different tokens in 100 texts", ylabel="share in form")
alt_en = "Left: lower temperature, steeper curve. Right: more variety, less form at 1.4."
alt_zh = "左：温度越低，概率越集中。右：温度升到 1.4，用字更丰富，守格式的却少了。"
show(figure, alt_en, alt_zh)

# %% [markdown] lang="en"
# The wild draw takes more characters and breaks the form more often: the two numbers above say by how much. Where the
# cautious one lies, the figure shows on the right. There is no best setting, only a trade: caution repeats itself, daring
# loses count. Try it: the table shows the first token, the button writes a poem. The panel's code twin is `filtered` above.

# %% [markdown] lang="zh"
# 放开了抽，用字更杂，守格式的更少，各差多少见上面两个数；谨慎的那一档落在哪里，看右图。
# 没有最好的设置，只有取舍：太谨慎就翻来覆去那几个字，太大胆就数不清字数。
# 自己试试：表里是第一个字的概率，按钮会写一首词。与面板等价的代码就是上面的 `filtered`。

# %% tags=["panel"]
from IPython.display import display


def write_one(temperature, top_k, top_p):
    text = write(tuned, 1, temperature=temperature, top_k=top_k, top_p=top_p)[0]
    return f"{in_lines(text)}\n\n{line_lengths(text)}"


display(SamplingPanel(next_logits, tokenizer.decode, write_one))

# %% [markdown] lang="en"
# ## 10 · Exercises
#
# Replace the `...` and run the cell. If it is not right yet you get a hint, and with each further try a plainer one.
#
# **06-1, change a number.** How many parameters does LoRA of rank `rank` train on the `c_attn` of each of `layers` layers
# of width `width`?

# %% [markdown] lang="zh"
# ## 10 · 练习
#
# 把 `...` 换成你的代码，运行单元格。不对的话会给提示，每多试一次，提示就更直白一点。
#
# **06-1，改一个数。** 共 `layers` 层、宽为 `width`，在每层的 `c_attn` 上用秩为 `rank` 的 LoRA，要训练多少个参数？

# %% tags=["exercise", "nbval-check-output"]
from aigc_helpers.notebook import check_exercise


def count_c_attn_parameters(layers, width, rank):
    # begin solution
    return layers * rank * (width + 3 * width)
    # end solution


check_exercise("06-1", count_c_attn_parameters)

# %% [markdown] lang="en"
# **06-2, configure.** Write the `LoraConfig` for GPT-2 with rank 4 and scaling α/r = 2 on `c_attn` and `c_proj`. (PEFT
# compares the ends of names: how many modules per layer will that be?)

# %% [markdown] lang="zh"
# **06-2，写配置。** 为 GPT-2 写一个 `LoraConfig`：秩为 4，缩放 α/r = 2，作用在 `c_attn` 和 `c_proj` 上。
# （PEFT 比的是名字的结尾：这样每层会有几个模块？）

# %% tags=["exercise", "nbval-check-output"]
my_config = None
# begin solution
my_config = LoraConfig(
    task_type=TaskType.CAUSAL_LM,
    r=4,
    lora_alpha=8,
    target_modules=["c_attn", "c_proj"],
    fan_in_fan_out=True,
)
# end solution

check_exercise("06-2", my_config)

# %% [markdown] lang="en"
# **06-3, labels.** Given `input_ids` and `attention_mask` (two tensors of the same shape), return the labels of a padded
# batch. The padding token may be the same as `eos`.

# %% [markdown] lang="zh"
# **06-3，做标签。** 给定 `input_ids` 和 `attention_mask`（两个形状相同的张量），返回填充过的批次的标签。
# 填充 token 有可能就是 `eos`。


# %% tags=["exercise", "nbval-check-output"]
def make_labels(input_ids, attention_mask):
    # begin solution
    return input_ids.masked_fill(attention_mask == 0, -100)
    # end solution


check_exercise("06-3", make_labels)

# %% [markdown] lang="en"
# **06-4, write it yourself.** Given a list of probabilities and `p`, keep the fewest likeliest that together reach `p`,
# set the others to 0, and return the list, in its order, so that it adds up to 1 again.

# %% [markdown] lang="zh"
# **06-4，自己动手。** 给定概率列表和 `p`：从最可能的留起，加起来够 `p` 就停，其余置 0；
# 保持原来的顺序，重新归一化后返回。


# %% tags=["exercise", "nbval-check-output"]
def keep_top_p(probabilities, p):
    # begin solution
    kept, total = [0.0] * len(probabilities), 0.0
    for index in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if total < p:
            kept[index] = probabilities[index]
            total += probabilities[index]
    return [value / total for value in kept]
    # end solution


check_exercise("06-4", keep_top_p)

# %% [markdown] lang="en"
# ## Summary
#
# - The model shifts the labels itself; `-100` takes padding out of the loss; right padding needs no mask, left
#   padding needs a mask *and* positions.
# - GPT-2 has one `c_attn` for query, key and value. It is a Conv1D, so `fan_in_fan_out=True`.
# - Make the optimizer after `get_peft_model`, or nothing is trained, without a word.
# - Three adapters of 130 kB on one base, the poet: from no poem in form to more than 80 % for each tune. Each forgets what
#   the base knew, and gives it back when it is switched off.
# - Temperature, top-k and top-p change what is drawn, not what is known.
#
# ## What usually goes wrong
#
# | message or symptom | cause | remedy |
# |---|---|---|
# | `Target modules {'q_proj', 'v_proj'} not found in the base model` | names of another model | GPT-2: `c_attn` (and `c_proj`, `c_fc`) |
# | `fan_in_fan_out is set to False but the target module is Conv1D` | a Conv1D keeps its weight transposed | `fan_in_fan_out=True` |
# | `Asking to pad but the tokenizer does not have a padding token` | gpt2 has none | `tokenizer.pad_token = tokenizer.eos_token`, and labels by the mask |
# | the model never stops writing | no `eos` in the texts, or its label is -100 | append `eos`; see section 3 |
# | the loss never moves | the optimizer was made before the adapter | make it after `get_peft_model` |
# | the loss falls, the texts are nonsense | labels shifted before the model shifts them | `labels = input_ids`, with -100 for padding |
# | batched generation is worse than one by one | prompts padded on the right | `padding_side="left"`, and pass the mask |
#
# **Where next:** chapter 05 does the same for a classifier; chapter 04 builds the layer by hand. Adapters for one tune are
# also a command: `aigc train poet --tune 西江月 -o moon`.

# %% [markdown] lang="zh"
# ## 小结
#
# - 标签由模型自己移位；`-100` 把填充排除在损失之外；填右边不需要掩码，填左边既要掩码*也*要位置。
# - GPT-2 用一个 `c_attn` 产生 query、key、value。它是 Conv1D，所以要写 `fan_in_fan_out=True`。
# - 先 `get_peft_model`，再建优化器；否则什么也没训练，还一声不响。
# - 一个基座（poet）加三个 130 kB 的适配器：合格式的词从一首没有，到每个词牌都超过 80 %。每个适配器都会忘掉基座原本会的，
#   关掉它，又都回来了。
# - 温度、top-k、top-p 改变的是怎么抽，不是模型知道什么。
#
# ## 常见问题
#
# | 报错或现象 | 原因 | 解决办法 |
# |---|---|---|
# | `Target modules {'q_proj', 'v_proj'} not found in the base model` | 用了别的模型的模块名 | GPT-2 用 `c_attn`（还有 `c_proj`、`c_fc`） |
# | `fan_in_fan_out is set to False but the target module is Conv1D` | Conv1D 的权重是转置存放的 | `fan_in_fan_out=True` |
# | `Asking to pad but the tokenizer does not have a padding token` | gpt2 没有填充 token | `tokenizer.pad_token = tokenizer.eos_token`，并按掩码做标签 |
# | 模型写起来没完没了 | 文本里没有 `eos`，或者它的标签成了 -100 | 补上 `eos`，见第 3 节 |
# | 损失纹丝不动 | 优化器建在适配器之前 | 在 `get_peft_model` 之后再建 |
# | 损失在降，写的却不成话 | 标签先移了位，模型又移一次 | `labels = input_ids`，填充处为 -100 |
# | 成批生成不如一条条生成 | 提示词填充在右边 | `padding_side="left"`，并传入掩码 |
#
# **下一步：** 第 05 章用同样的办法训练分类器；第 04 章亲手搭出 LoRA 层。单个词牌的适配器也可以用命令训练：
# `aigc train poet --tune 西江月 -o moon`。
