"""Language models of every kind that goes to GGUF, random and small, as transformers and as llama.cpp have them.

What llama.cpp makes of names, rows and strengths is written out here once more, number by number, so that the library
is compared with something else than itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter, dequantize
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

# Two heads of k and v for four of q, so that nobody can take the one for the other.
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "vocab_size": 48, "max_position_embeddings": 256}
KINDS: dict[str, type[PretrainedConfig]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}
# Qwen 3's heads together are wider than the model; out of GGUF transformers reads no other size than this.
OWN_HEAD_SIZE = {"qwen3": {"head_dim": 128}}
ARCHITECTURES = {"mistral": "llama"}
LAYERS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
ALL_LINEAR = [name.partition(".")[2] for name in LAYERS if name.endswith("_proj")]


def tiny(kind: str, **chosen: Any) -> torch.nn.Module:
    """Return a model of a kind, always the same."""
    torch.manual_seed(0)
    settings = {**SIZES, **OWN_HEAD_SIZE.get(kind, {}), "tie_word_embeddings": False, **chosen}
    model = AutoModelForCausalLM.from_config(KINDS[kind](**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # Wider apart than training begins, so that answers differ.
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def trained(model: torch.nn.Module, folder: Path, size: float = 0.1, **chosen: Any) -> PeftModel:
    """Return the model with an adapter as after a training, and save the adapter as PEFT does."""
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ALL_LINEAR, "task_type": "CAUSAL_LM"} | chosen
    generator = torch.Generator().manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(model, LoraConfig(**settings))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
        model.save_pretrained(folder)
    return model.eval()


def pairs(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return Llama's rows of q or k as llama.cpp has them: of each head, row i of each half beside the other's."""
    size = len(rows) // heads
    order = [head * size + half * size // 2 + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return rows[order]


def tensors_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return a model's tensors with the names and the rows that they have in GGUF."""
    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    found = {}
    for name, tensor in model.state_dict().items():
        path, _, last = name.rpartition(".")
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float().numpy().copy()  # A merge changes them in place.
        if path in OUTSIDE:
            found[f"{OUTSIDE[path]}.{last}"] = values
            continue
        _, _, number, layer = path.split(".", 3)
        inner = LAYERS[layer]
        if config.model_type in ("llama", "mistral") and inner in heads:
            values = pairs(values, heads[inner])
        found[f"blk.{number}.{inner}.{last}"] = values
    return found


def write_base(model: torch.nn.Module, path: Path, vocabulary_of: Path | None = None) -> Path:
    """Write a model in GGUF, in float32, with the tokenizer of another file or with one that only looks like one."""
    config = model.config
    architecture = ARCHITECTURES.get(config.model_type, config.model_type)
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_name("a tiny model")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(size)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_vocab_size(config.vocab_size)
    if vocabulary_of is None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([f"word {number}" for number in range(config.vocab_size)])
        writer.add_token_scores([-float(number) for number in range(config.vocab_size)])
        writer.add_token_types([1] * config.vocab_size)
        writer.add_add_bos_token(False)
    else:
        for field in GGUFReader(vocabulary_of).fields.values():
            if field.name.startswith("tokenizer."):
                writer.add_key_value(field.name, field.contents(), field.types[0], *field.types[1:2])
    for name, values in tensors_of(model).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return a GGUF file's numbers."""
    return {tensor.name: dequantize(tensor.data, tensor.tensor_type).copy() for tensor in GGUFReader(path).tensors}


def merged_as_llama_cpp_does(base: Mapping[str, np.ndarray], adapter: Path) -> dict[str, np.ndarray]:
    """Return the base with an adapter in GGUF as llama.cpp adds it: B · A, times alpha / the rank of this B."""
    alpha = GGUFReader(adapter).fields["adapter.lora.alpha"].contents()
    matrices, merged = read_tensors(adapter), dict(base)
    for name in {name.rpartition(".")[0] for name in matrices}:
        down, up = matrices[f"{name}.lora_a"], matrices[f"{name}.lora_b"]
        merged[name] = base[name] + up @ down * (alpha / up.shape[1] if alpha else 1.0)
    return merged


def merged_by_peft(model: PeftModel) -> dict[str, np.ndarray]:
    """Return what PEFT makes of the model, with GGUF's names and rows."""
    return tensors_of(model.merge_and_unload())
