"""The claims of chapter 15: as articles put them, what the chapter's tests find, and what is right.

Backticks mark code. The texts stand in the chapter's prose, too; ``tests/test_claims.py`` compares them.
"""

from __future__ import annotations

from aigc_helpers.notebook import FALSE, HALF_TRUE, TRUE, Claim, Text

CLAIMS = [
    Claim(
        1,
        Text("`from transformers import LoraConfig`", "`from transformers import LoraConfig`"),
        FALSE,
        Text("`from peft import LoraConfig`", "`from peft import LoraConfig`"),
    ),
    Claim(
        2,
        Text("`model.add_lora(r=8)`", "`model.add_lora(r=8)`"),
        FALSE,
        Text(
            "`get_peft_model(model, config)`, or transformers' own `model.add_adapter(config)`",
            "`get_peft_model(model, config)`，或者 transformers 自带的 `model.add_adapter(config)`",
        ),
    ),
    Claim(
        3,
        Text(
            '`target_modules=["q", "v"]` on BERT',
            '在 BERT 上写 `target_modules=["q", "v"]`',
        ),
        FALSE,
        Text(
            "BERT: `query`, `value`; `q`, `v` are T5's names",
            "BERT 用 `query`、`value`；`q`、`v` 是 T5 的名字",
        ),
    ),
    Claim(
        4,
        Text(
            '`target_modules=["q_proj", "v_proj"]` on GPT-2',
            '在 GPT-2 上写 `target_modules=["q_proj", "v_proj"]`',
        ),
        FALSE,
        Text(
            "GPT-2: `c_attn`, with `fan_in_fan_out=True`; `q_proj`, `v_proj` are Llama's names",
            "GPT-2 用 `c_attn`，并写 `fan_in_fan_out=True`；`q_proj`、`v_proj` 是 Llama 的名字",
        ),
    ),
    Claim(
        5,
        Text(
            "If a name in `target_modules` is wrong, PEFT says so.",
            "`target_modules` 里名字写错了，PEFT 会告诉你。",
        ),
        HALF_TRUE,
        Text(
            "Only if none of the names matches. Count the layers with `lora_A`, or print the trainable parameters.",
            "只有一个都对不上时才报错。要数一数带 `lora_A` 的层，或者打印可训练参数个数。",
        ),
    ),
    Claim(
        6,
        Text(
            "`AdamW`, `AutoModelWithLMHead` and `TextDataset` are in transformers, "
            '`prepare_model_for_int8_training` is in PEFT, and `pipeline("summarization")` sums up.',
            "transformers 里有 `AdamW`、`AutoModelWithLMHead`、`TextDataset`，"
            'PEFT 里有 `prepare_model_for_int8_training`，`pipeline("summarization")` 会写摘要。',
        ),
        FALSE,
        Text(
            "Once right. Now `torch.optim.AdamW`, `AutoModelForCausalLM`, datasets, "
            "`prepare_model_for_kbit_training`, `generate` (transformers, migration guide to version 5)",
            "曾经是对的。现在用 `torch.optim.AdamW`、`AutoModelForCausalLM`、datasets、"
            "`prepare_model_for_kbit_training`、`generate`（见 transformers 的 v5 迁移指南）",
        ),
    ),
    Claim(
        7,
        Text(
            "`evaluation_strategy`, `no_cuda`, `warmup_ratio`, `Trainer(tokenizer=…)`, `use_auth_token` are accepted.",
            "可以写 `evaluation_strategy`、`no_cuda`、`warmup_ratio`、`Trainer(tokenizer=…)` 和 `use_auth_token`。",
        ),
        FALSE,
        Text(
            "Once right. Now `eval_strategy`, `use_cpu`, `warmup_steps=0.1`, `processing_class`, `token`",
            "曾经是对的。现在写 `eval_strategy`、`use_cpu`、`warmup_steps=0.1`、`processing_class`、`token`",
        ),
    ),
    Claim(
        8,
        Text(
            "`from_pretrained` loads in float32 unless told otherwise.",
            "不特别指定，`from_pretrained` 就按 float32 加载。",
        ),
        HALF_TRUE,
        Text(
            "transformers 5 keeps the file's precision (4 did not); diffusers turns its own models into float32. "
            "Say which.",
            "transformers 5 保留文件的精度（4 不是这样）；diffusers 把自己的模型转成 float32。要写明精度。",
        ),
    ),
    Claim(
        9,
        Text("h′ = h + Ah(Bh)ᵀ", "h′ = h + Ah(Bh)ᵀ"),
        FALSE,
        Text("h = W₀x + (α/r)·B(Ax)", "h = W₀x + (α/r)·B(Ax)"),
    ),
    Claim(
        10,
        Text("W′ = W + WBAᵀ", "W′ = W + WBAᵀ"),
        FALSE,
        Text(
            "W = W₀ + (α/r)·BA, with B of shape d × r and A of shape r × k",
            "W = W₀ + (α/r)·BA，B 的形状是 d × r，A 的形状是 r × k",
        ),
    ),
    Claim(
        11,
        Text(
            "B is the low-rank matrix, and A the adapter matrix.",
            "B 是低秩矩阵，A 是适配矩阵。",
        ),
        FALSE,
        Text(
            "Each is as full as its shape allows. Their product is of low rank; both together are the adapter.",
            "两个矩阵各自的秩都是满的。低秩的是它们的乘积，两个合起来才是适配器。",
        ),
    ),
    Claim(
        12,
        Text(
            "A new LoRA changes no answer before the first step.",
            "刚装上的 LoRA，在第一步之前不改变任何输出。",
        ),
        TRUE,
        Text("B starts at 0, so the product does, too.", "B 从 0 开始，乘积也就是 0。"),
    ),
    Claim(
        13,
        Text("Alpha is a learning rate.", "alpha 就是学习率。"),
        HALF_TRUE,
        Text(
            "A constant of the model, still there when training is over. Under Adam, twice alpha trains as if B learnt "
            "twice as fast.",
            "它是模型里的常数，训练结束后仍然有效。在 Adam 下，alpha 翻倍，训练起来就像 B 的学习率翻倍。",
        ),
    ),
    Claim(
        14,
        Text(
            "Back-propagation updates the pretrained weights, too.",
            "反向传播也会更新预训练权重。",
        ),
        FALSE,
        Text(
            "The gradient passes through them; it is not kept for them, and not one byte changes.",
            "梯度只是穿过它们，并不为它们保留，一个字节也不会变。",
        ),
    ),
    Claim(
        15,
        Text(
            "Make the optimizer first or call `get_peft_model` first: it is the same.",
            "先建优化器，还是先 `get_peft_model`，都一样。",
        ),
        FALSE,
        Text(
            "An optimizer made first holds only weights that are frozen then: nothing is trained, without an error.",
            "先建的优化器里只有随后被冻结的权重：什么也没训练，也不报错。",
        ),
    ),
    Claim(
        16,
        Text(
            "A loaded adapter can be trained on at once.",
            "加载好的适配器可以直接接着训练。",
        ),
        FALSE,
        Text(
            "It is loaded for inference. `PeftModel.from_pretrained(…, is_trainable=True)`",
            "它是按推理方式加载的。要写 `PeftModel.from_pretrained(…, is_trainable=True)`",
        ),
    ),
    Claim(
        17,
        Text(
            "A language model's labels must be shifted by one; compute the loss a second time on shifted logits.",
            "语言模型的标签要移一位；要在移位后的 logits 上再算一次损失。",
        ),
        FALSE,
        Text(
            "`model(ids, labels=ids).loss`: the model shifts by itself. Shifting first teaches it to skip a token.",
            "`model(ids, labels=ids).loss`：模型自己会移位。先移一次，等于教它跳着预测。",
        ),
    ),
    Claim(
        18,
        Text(
            "LoRA trains 1 % of the weights, so it takes 1 % of memory and time.",
            "LoRA 只训练 1 % 的权重，所以内存和时间也只要 1 %。",
        ),
        HALF_TRUE,
        Text(
            "Gradients and optimizer state all but vanish. Weights, most activations and about half of the time stay.",
            "梯度和优化器状态几乎没有了；权重、大部分激活值和大约一半的时间还在。",
        ),
    ),
    Claim(
        19,
        Text(
            "The LoRA model file contains the architecture.",
            "LoRA 的模型文件里有网络结构。",
        ),
        FALSE,
        Text(
            "It holds A and B (and a head, if one was trained); beside it lie the LoRA's settings and the base's name.",
            "里面只有 A 和 B（训练过头的话还有头），旁边是 LoRA 的设置和基座的名字。",
        ),
    ),
    Claim(
        20,
        Text(
            "The trained parameters end up in `model.base_model.model`.",
            "训练好的参数在 `model.base_model.model` 里。",
        ),
        HALF_TRUE,
        Text(
            "They do, among all the base's weights: that is the whole model. `save_pretrained` picks the adapter out.",
            "是在里面，可那里是整个模型，基座的权重也都在。`save_pretrained` 会把适配器挑出来。",
        ),
    ),
    Claim(
        21,
        Text(
            "Switch the adapter off, and the base is back, bit for bit.",
            "关掉适配器，基座就原样回来，一个比特都不差。",
        ),
        TRUE,
        Text("The base was never touched.", "基座从来没动过。"),
    ),
    Claim(
        22,
        Text("Merging is free.", "合并是免费的。"),
        HALF_TRUE,
        Text(
            "In float32 nearly. In 16 bits the update is rounded: the smaller it is, the more is lost, and for good.",
            "在 float32 下差不多是。在 16 位下更新量会被舍入，越小丢得越多，而且回不去了。",
        ),
    ),
    Claim(
        23,
        Text(
            "Stable Diffusion 1.5 is at `runwayml/stable-diffusion-v1-5`.",
            "Stable Diffusion 1.5 在 `runwayml/stable-diffusion-v1-5`。",
        ),
        FALSE,
        Text(
            "Right until 2024. The same weights: `stable-diffusion-v1-5/stable-diffusion-v1-5`",
            "到 2024 年为止是对的。同样的权重在 `stable-diffusion-v1-5/stable-diffusion-v1-5`",
        ),
    ),
    Claim(
        24,
        Text(
            '`revision="fp16"` loads half precision.',
            '写 `revision="fp16"` 就按半精度加载。',
        ),
        FALSE,
        Text(
            'Right in 2022, for repositories with such a branch. Now `variant="fp16"` chooses the files, '
            "and `torch_dtype` the precision.",
            '2022 年对有这个分支的仓库是对的。现在 `variant="fp16"` 选文件，`torch_dtype` 定精度。',
        ),
    ),
    Claim(
        25,
        Text(
            'The picture is `pipe(prompt)[:1]`, or `pipe(prompt)["sample"][0]`.',
            '图片是 `pipe(prompt)[:1]`，或者 `pipe(prompt)["sample"][0]`。',
        ),
        FALSE,
        Text("`pipe(prompt).images[0]`", "`pipe(prompt).images[0]`"),
    ),
    Claim(
        26,
        Text(
            "Without `safety_checker=None` no picture comes out, and with it the pictures are better.",
            "不写 `safety_checker=None` 就出不了图，写了图会更好。",
        ),
        FALSE,
        Text(
            "The checker is a filter behind the model: it can blacken a finished picture, and has no part in drawing.",
            "检查器是模型后面的一道过滤：它可能把画好的图涂黑，但不参与作画。",
        ),
    ),
    Claim(
        27,
        Text(
            "A LoRA is loaded with `unet.load_attn_procs(file)`, and trained with `LoRAAttnProcessor`.",
            "用 `unet.load_attn_procs(file)` 加载 LoRA，用 `LoRAAttnProcessor` 训练 LoRA。",
        ),
        FALSE,
        Text(
            "Right in 2023. Now `pipe.load_lora_weights(file)` and `unet.add_adapter(config)`, both by way of PEFT",
            "2023 年是对的。现在用 `pipe.load_lora_weights(file)` 和 `unet.add_adapter(config)`，都由 PEFT 实现",
        ),
    ),
    Claim(
        28,
        Text(
            "A LoRA does nothing until its trigger word is in the prompt.",
            "提示词里没有触发词，LoRA 就不起作用。",
        ),
        FALSE,
        Text(
            "Its matrices are added whatever the prompt says. Set the scale to 0, or unload it.",
            "不管提示词写什么，它的矩阵都会加上去。不想要就把强度设为 0，或者卸载。",
        ),
    ),
    Claim(
        29,
        Text(
            "float16 is float32 at half the memory: use it everywhere, on a CPU and for training, too.",
            "float16 就是省一半内存的 float32：CPU 上、训练时都可以用。",
        ),
        HALF_TRUE,
        Text(
            "It runs on a CPU today (older torch refused) and halves the memory. Small steps are rounded away: "
            "train in float32.",
            "如今在 CPU 上能跑（旧版 torch 会拒绝），内存也省一半。但小步子会被舍入掉：训练要用 float32。",
        ),
    ),
    Claim(
        30,
        Text("LoRA always matches full fine-tuning.", "LoRA 总能追平全参数微调。"),
        HALF_TRUE,
        Text(
            "Often, where the task needs few directions. Test it on yours, with an interval.",
            "任务只需要少数几个方向时，常常可以。要在自己的任务上测，还要给出区间。",
        ),
    ),
    Claim(
        31,
        Text("A higher rank is always better.", "秩越高越好。"),
        HALF_TRUE,
        Text(
            "A rank can be too small. Once it is enough, more of it brings a larger file, and little or nothing else.",
            "秩可能太小。够了之后再加，文件变大，别的好处很少，甚至没有。",
        ),
    ),
    Claim(
        32,
        Text(
            "LoRA wants a higher learning rate than full fine-tuning.",
            "LoRA 要用比全参数微调更高的学习率。",
        ),
        TRUE,
        Text(
            "Here by a factor of ten or more. Search it anew for every alpha.",
            "在这里要高十倍以上。换了 alpha，就要重新找。",
        ),
    ),
]
