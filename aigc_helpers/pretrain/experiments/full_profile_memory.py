"""What each chapter of the full profile needs of a GPU's memory at its most, foretold from the real models' shapes.

The configurations are those that the hub holds under the real names; nothing is downloaded and nothing calculated. What
a chapter does is not read out of it: the step that takes the most stands here, as large as the chapter makes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.optim import AdamW
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from aigc_helpers.files import write_text
from aigc_helpers.paths import DATA
from aigc_helpers.training import MemoryEstimate, estimate_memory

FILE = DATA / "results" / "full_profile_memory.json"

Loss = Callable[[nn.Module], torch.Tensor]
Step = Callable[[list[nn.Module]], None]

# What a T4 calculates in; a newer GPU takes as much in bfloat16.
_HALF = torch.float16


@dataclass(frozen=True)
class _Case:
    """A chapter's largest step.

    Attributes:
        what: it, in words.
        make: builds the models that the GPU holds then.
        step: makes the step with them.
        dtype: of mixed precision.
    """

    what: str
    make: Callable[[], list[nn.Module]]
    step: Step
    dtype: torch.dtype = torch.float32


def estimates() -> dict[str, tuple[str, MemoryEstimate]]:
    """Return, by chapter, the step that takes the most memory, in words, and what it takes."""
    return {number: (case.what, estimate_memory(case.make, case.step, case.dtype)) for number, case in _CASES.items()}


def build_full_profile_memory() -> str:
    """Store the estimates for all chapters of the full profile, and say which needs the most."""
    found = estimates()
    rows = {number: {"step": what, **asdict(memory), "total": memory.total} for number, (what, memory) in found.items()}
    write_text(FILE, json.dumps(rows, indent=1) + "\n")
    largest = max(found, key=lambda number: found[number][1].total)
    return f"{FILE.name}: the most is chapter {largest}'s, {found[largest][1]}"


def _bert() -> nn.Module:
    return BertForSequenceClassification(BertConfig())  # Two classes, as in the book, are what it has unasked.


def _bert_with_lora() -> nn.Module:
    config = LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"])
    return get_peft_model(_bert(), config)


def _gpt2_with_lora() -> nn.Module:
    config = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["c_attn"], fan_in_fan_out=True)
    return get_peft_model(GPT2LMHeadModel(GPT2Config()), config)


def _t5_with_lora() -> nn.Module:
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=16, target_modules=["q", "v"], modules_to_save=["shared", "lm_head"]
    )
    return get_peft_model(T5ForConditionalGeneration(T5Config.from_dict({"decoder_start_token_id": 0})), config)


def _stable_diffusion() -> list[nn.Module]:
    """Return text encoder, autoencoder and UNet of Stable Diffusion 1.5 in half precision."""
    text_encoder = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
    )
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    parts: list[nn.Module] = [text_encoder, vae, unet]
    for part in parts:
        # diffusers' own ``to`` warns of models that keep some layers in float32; these keep none.
        nn.Module.to(part, _HALF).requires_grad_(False)
    return parts


def _stable_diffusion_with_lora() -> list[nn.Module]:
    parts = _stable_diffusion()
    unet = parts[-1]
    assert isinstance(unet, UNet2DConditionModel)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"]
    unet.add_adapter(LoraConfig(r=16, target_modules=targets))
    for parameter in unet.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    unet.enable_gradient_checkpointing()
    return [*parts[:-1], unet.train()]


def _tokens(texts: int, length: int) -> torch.Tensor:
    return torch.zeros(texts, length, dtype=torch.long)


def _training(loss: Loss) -> Step:
    """Return a step that trains the last of the models; the optimizer lasts, as what it keeps does."""
    optimizers: list[AdamW] = []

    def step(models: list[nn.Module]) -> None:
        model = models[-1]
        if not optimizers:
            optimizers.append(AdamW([each for each in model.parameters() if each.requires_grad]))
        loss(model).backward()
        optimizers[0].step()

    return step


def _classify(texts: int) -> Loss:
    def loss(model: nn.Module) -> torch.Tensor:
        return model(_tokens(texts, 64), labels=torch.zeros(texts, dtype=torch.long)).loss

    return loss


def _write(model: nn.Module) -> torch.Tensor:
    ids = _tokens(8, 96)
    return model(ids, labels=ids).loss


def _translate(model: nn.Module) -> torch.Tensor:
    ids = _tokens(32, 64)
    return model(input_ids=ids, labels=ids).loss


def _denoise(unet: nn.Module) -> torch.Tensor:
    latents, text = torch.zeros(4, 4, 64, 64, dtype=_HALF), torch.zeros(4, 77, 768, dtype=_HALF)
    return unet(latents, torch.zeros(4, dtype=torch.long), text).sample.float().square().mean()


def _read(models: list[nn.Module]) -> None:
    with torch.no_grad():
        for model in models:
            model(_tokens(16, 64))


def _draw(models: list[nn.Module]) -> None:
    """Draw four pictures at once with guidance, which takes eight answers, and decode them one by one."""
    _, vae, unet = models
    assert isinstance(vae, AutoencoderKL)
    vae.enable_slicing()
    latents, text = torch.zeros(8, 4, 64, 64, dtype=_HALF), torch.zeros(8, 77, 768, dtype=_HALF)
    with torch.no_grad():
        unet(latents, torch.zeros(8, dtype=torch.long), text)
        vae.decode(latents[:4])


_CASES = {
    "03": _Case(
        "bert-base and gpt2 read 16 texts", lambda: [BertModel(BertConfig()), GPT2LMHeadModel(GPT2Config())], _read
    ),
    "04": _Case("LoRA on bert-base, 8 texts", lambda: [_bert(), _bert_with_lora()], _training(_classify(8)), _HALF),
    "05": _Case(
        "bert-base fine-tuned in full, 32 texts, two others beside it",
        lambda: [_bert(), _bert_with_lora(), _bert()],
        _training(_classify(32)),
        _HALF,
    ),
    "06": _Case("LoRA on gpt2, 8 texts", lambda: [_gpt2_with_lora()], _training(_write), _HALF),
    "07": _Case("LoRA on t5-small, 32 pairs", lambda: [_t5_with_lora()], _training(_translate), _HALF),
    "09": _Case("4 pictures drawn at once", _stable_diffusion, _draw),
    "11": _Case("LoRA on the UNet, 4 pictures", _stable_diffusion_with_lora, _training(_denoise), _HALF),
}
