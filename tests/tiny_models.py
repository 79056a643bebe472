"""Models of every family that a LoRA is loaded into, a few thousand numbers each, and adapters for them as PEFT writes.

The weights are random and always the same: what is compared is a library with a library, and no answer of a model.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertForSequenceClassification,
    CLIPTextConfig,
    CLIPTextModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

WORDS = 40
IDS = torch.arange(2, 14).reshape(2, 6)
_SMALL = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}


def _bert() -> torch.nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(**_SMALL, **sizes, max_position_embeddings=16))


def _distilbert() -> torch.nn.Module:
    sizes = {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}
    return DistilBertForSequenceClassification(DistilBertConfig(**_SMALL, **sizes, max_position_embeddings=16))


def _gpt2() -> torch.nn.Module:
    return GPT2LMHeadModel(GPT2Config(**_SMALL, n_embd=16, n_layer=2, n_head=2, n_positions=16))


def _t5() -> torch.nn.Module:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(**_SMALL, **sizes))


def _llama(tied: bool = False) -> torch.nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**_SMALL, **sizes, max_position_embeddings=16, tie_word_embeddings=tied))


def _tied_llama() -> torch.nn.Module:
    return _llama(tied=True)


def _clip() -> torch.nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(**_SMALL, **sizes, max_position_embeddings=16))


def _bart() -> torch.nn.Module:
    sides = {f"{side}_{what}": size for side in ("encoder", "decoder") for what, size in _BART_SIZES.items()}
    return BartModel(BartConfig(**_SMALL, **sides, d_model=16, max_position_embeddings=16))


_BART_SIZES = {"layers": 1, "attention_heads": 2, "ffn_dim": 24}


def _unet() -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=12,
        attention_head_dim=4,
    )


FAMILIES: dict[str, tuple[Callable[[], torch.nn.Module], list[str], str | None]] = {
    "unet": (_unet, ["to_q", "to_k", "conv1", "proj_in"], None),
    "clip": (_clip, ["q_proj", "fc1"], None),
    "bert": (_bert, ["query", "value"], "SEQ_CLS"),
    "distilbert": (_distilbert, ["q_lin", "v_lin"], "SEQ_CLS"),
    "gpt2": (_gpt2, ["c_attn", "c_proj"], "CAUSAL_LM"),
    "t5": (_t5, ["q", "v", "wi"], "SEQ_2_SEQ_LM"),
    "llama": (_llama, ["q_proj", "down_proj"], "CAUSAL_LM"),
    "tied llama": (_tied_llama, ["q_proj", "down_proj"], "CAUSAL_LM"),
    "bart": (_bart, ["q_proj", "fc1"], None),
}


def tiny(family: str) -> torch.nn.Module:
    """Return the model of a family, always the same, in evaluation mode."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = FAMILIES[family][0]()
    with torch.no_grad():
        for parameter in model.parameters():  # Some start at 0, such as biases.
            parameter.add_(torch.randn_like(parameter) * 0.02)
    torch.set_rng_state(state)
    return model.eval()


@torch.no_grad()
def output(model: torch.nn.Module, family: str) -> torch.Tensor:
    """Return what the model makes of a fixed input."""
    if family == "unet":
        noise = torch.linspace(-1, 1, 4 * 64).reshape(1, 4, 8, 8)
        return model(noise, torch.tensor([5]), torch.linspace(-1, 1, 36).reshape(1, 3, 12)).sample
    if family in ("t5", "bart"):
        return model(input_ids=IDS, decoder_input_ids=IDS + 1)[0]
    return model(input_ids=IDS)[0]


def trained(family: str, folder: Path, prepare: Callable[[torch.nn.Module], object] = bool, **chosen: Any) -> PeftModel:
    """Return a model with an adapter as after a training, all that is trained moved, and save the adapter as PEFT does.

    Args:
        family: of ``FAMILIES``.
        folder: for the adapter.
        prepare: changes the base first.
        chosen: settings of LoraConfig.
    """
    base = tiny(family)
    prepare(base)
    _, targets, task = FAMILIES[family]
    settings = {"r": 2, "lora_alpha": 6, "target_modules": targets, "task_type": task} | chosen
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(base, LoraConfig(**settings))
        move(model)
        model.save_pretrained(
            folder, save_embedding_layers=chosen.get("modules_to_save") is None and prepare is not bool
        )
    return model.eval()


def move(model: torch.nn.Module) -> None:
    """Move every trainable number a little, as a training does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


def change_settings(folder: Path, **chosen: Any) -> Path:
    """Change settings in an adapter's folder; None takes one out."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | chosen
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")
    return folder
