"""A LoRA for llama.cpp and Ollama: the same matrices under other names, and the rows of q and k in another order.

transformers turns a head's first half of numbers by its second (RoPE), llama.cpp each number by its neighbour. So the
rows of Llama's q and k are put in another order on the way to GGUF, within each head, and the B of a LoRA with them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted, write_gguf
from aigc_helpers.inspection import GGUF_ALPHA
from aigc_helpers.lora.adapter import LoraAdapter, LoraLayer
from aigc_helpers.lora.gguf_base import GgufBase
from aigc_helpers.lora.refusals import refuse_left_out
from aigc_helpers.lora.write import open_tensors

if TYPE_CHECKING:
    import torch

_PERMUTED = {"llama"}  # Qwen's stand in GGUF as they are, and llama.cpp turns them as transformers does.
# A block's layers that llama.cpp lets a LoRA change, as transformers names them.
_OF_BLOCK = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)


def write_gguf_adapter(adapter: LoraAdapter, target: Path, base: GgufBase) -> list[Path]:
    """Write one file as llama.cpp's convert_lora_to_gguf.py does.

    llama.cpp multiplies each layer's B · A by alpha / rank. The rank is the layer's own, and the alpha one for all: the
    most frequent. A layer with another alpha gets a B that makes up for it. The matrices are written in float32.

    Raises:
        ReaderError: it is a DoRA, or a layer is none of the base's, or has other widths there; or the target is not
            writable.
    """
    if adapter.has_magnitudes:
        raise ReaderError(
            f"{adapter.source} is a DoRA, and a LoRA in GGUF has no place for its magnitudes. Merge it into its base "
            "(aigc merge SRC DST --base BASE): there they count. Nothing was written."
        )
    layers = layers_of_base(adapter, base)
    # One of 0 would be read as the rank.
    alpha = Counter(layer.alpha for layer in adapter.layers if layer.alpha).most_common(1)
    common = alpha[0][0] if alpha else 1.0
    with open_tensors(adapter) as read:
        tensors = {}
        for name, layer in layers.items():
            down, up = read(layer.tensors["down"]).float(), read(layer.tensors["up"]).float()
            if layer.alpha != common:
                up = up * (layer.alpha / common)
            tensors[f"{name}.weight.lora_a"] = down.numpy()
            tensors[f"{name}.weight.lora_b"] = in_gguf_order(up, name, base).numpy()
        values: dict[str, str | float] = {"general.type": "adapter", "adapter.type": "lora", GGUF_ALPHA: common}
        write_gguf(target, base.architecture, values, tensors)
    return [target]


def without_base_layers(adapter: LoraAdapter) -> LoraAdapter:
    """Leave out the copy of a base's weight that PEFT saves beside the LoRA of a last layer: the base has it itself.

    One that was resized has other outputs than the base, and so has its LoRA.
    """
    copies = {f"{layer.path}.base_layer.weight" for layer in adapter.layers}
    others = {name: place for name, place in adapter.saved_modules.items() if name not in copies}
    return replace(adapter, saved_modules=others)


def layers_of_base(adapter: LoraAdapter, base: GgufBase) -> dict[str, LoraLayer]:
    """Return the adapter's layers by the base's names in GGUF, without ``.weight``.

    Raises:
        ReaderError: the base has no such layer, or one of other widths; or one that was trained is missing here.
    """
    names = _names(base, "") | _names(base, "model.")
    found: dict[str, LoraLayer] = {}
    for layer in adapter.layers:
        name = names.get(layer.path)
        if name is None:
            raise ReaderError(
                f"{adapter.source} is not for {base.path}: that has no layer {quoted(layer.path)}"
                f"{_why_not(layer, base)}. Nothing was written."
            )
        ours = (layer.tensors["up"].shape[0], *layer.tensors["down"].shape[1:])
        if ours != base.shapes[name]:
            raise ReaderError(
                f"{adapter.source} is not for {base.path}: {quoted(layer.path)} is {_times(ours)} in the adapter and "
                f"{_times(base.shapes[name])} there. Nothing was written."
            )
        if name in found:
            raise ReaderError(f"{adapter.source} holds {quoted(layer.path)} twice, under two names. Tell its author.")
        found[name] = layer
    paths = {layer.path for layer in adapter.layers}
    prefix = "model." if any(path.startswith("model.") for path in paths) else ""
    refuse_left_out(adapter.said.get("", {}), list(_names(base, prefix)), paths, adapter.source)
    return found


def in_gguf_order(rows: torch.Tensor, name: str, base: GgufBase) -> torch.Tensor:
    """Return what has a row for each output of a layer in the order that its outputs have in GGUF.

    Args:
        rows: outputs × any.
        name: of the layer in GGUF.
        base: the model.

    Raises:
        ReaderError: the heads that the base says it has cannot share the rows.
    """
    kind = name.rpartition(".")[2]
    if base.architecture not in _PERMUTED or kind not in ("attn_q", "attn_k"):
        return rows
    heads = base.heads if kind == "attn_q" else base.key_value_heads
    if len(rows) % (2 * heads):
        raise ReaderError(
            f"{base.path} says that {quoted(name)} has {heads} heads, and its {len(rows)} outputs are no pairs for so "
            "many. Take the model from another author. Nothing was written."
        )
    # Of each head: first half and second half, one beside the other, become pairs.
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _names(base: GgufBase, prefix: str) -> dict[str, str]:
    """Return the base's layers that a LoRA can change: their names in GGUF by those of transformers.

    Args:
        base: the model.
        prefix: ``"model."``; a bare model, without its last layer, lacks it.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(each for each, name in MODEL_ARCH_NAMES.items() if name == base.architecture)
    known = get_tensor_name_map(architecture, base.blocks)
    layers = [f"{prefix}layers.{block}.{layer}" for block in range(base.blocks) for layer in _OF_BLOCK]
    return {layer: known[layer] for layer in [*layers, "lm_head"] if known[layer] in base.shapes}


def _why_not(layer: LoraLayer, base: GgufBase) -> str:
    if layer.path == "lm_head":
        return " of its own: its table of words serves as the last layer, too (tied), and has one name in GGUF"
    return ""


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
