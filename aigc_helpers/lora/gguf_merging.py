"""``merge_gguf()``: a LoRA into a base in GGUF, whose tokenizer and settings stay as they are.

llama.cpp, Ollama and LM Studio run the result as any model. A weight is read as the base stores it, quantised or not;
what the LoRA adds is added in float32, and the sum is rounded once, to what the copy stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from aigc_helpers.arguments import existing, named
from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.formats import Change, copy_gguf, encode_gguf, quoted, read_gguf
from aigc_helpers.lora.adapter import LoraAdapter, read_adapter
from aigc_helpers.lora.gguf import in_gguf_order, layers_of_base, without_base_layers
from aigc_helpers.lora.gguf_base import GgufBase, read_base
from aigc_helpers.lora.matching import (
    MatchedLayer,
    check_effect,
    check_magnitudes,
    refuse_unknown_strength,
)
from aigc_helpers.lora.merging import WARN_ABOVE, delta_of, relative_error
from aigc_helpers.lora.write import open_tensors, peft_magnitude, refuse_if_impossible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Dtype = Literal["f16", "q8_0"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


@dataclass(frozen=True)
class MergedGguf:
    """A merged model.

    Attributes:
        path: the file.
        dtype: of the tensors that the LoRA has changed, as GGUF calls it.
        kept: how many tensors are the base's to the byte.
        relative_errors: per changed tensor ‖(rounded - before) - delta‖ / ‖delta‖: 0 if all that the LoRA adds has
            arrived, 1 if rounding took as much as was added.
        remarks: sentences about what needs care.
    """

    path: Path
    dtype: str
    kept: int
    relative_errors: dict[str, float]
    remarks: tuple[str, ...]


def merge_gguf(source: str | Path, target: str | Path, base: str | Path, dtype: Dtype = "f16") -> MergedGguf:
    """Write a copy of a model in GGUF with a LoRA merged into its weights.

    Every key of the base is copied with its value and type, the tokenizer among them, and every tensor that the LoRA
    does not change, byte by byte. A DoRA's magnitudes are merged, too.

    Args:
        source: any file or folder of a language model's LoRA that ``convert`` takes.
        target: the file to write, ``….gguf``. An older file is replaced.
        base: the model that the LoRA was made for, as a GGUF file; of Llama's kind, or Qwen 2's or 3's.
        dtype: of the changed tensors: ``"f16"``, or ``"q8_0"``, which takes half of that and rounds more.

    Raises:
        UnknownNameError: there is no such dtype.
        WrongUsageError: there is no such source or base.
        ReaderError: the source is no whole LoRA for this base, or the base is no such GGUF file; or the target is not
            writable, or is the base. Nothing is written then.

    Example:
        >>> import json, numpy as np, torch
        >>> from pathlib import Path
        >>> from safetensors.torch import save_file
        >>> from aigc_helpers.formats import write_gguf
        >>> Path("adapter").mkdir()
        >>> layer = "base_model.model.model.layers.0.self_attn.v_proj"
        >>> matrices = {f"{layer}.lora_A.weight": torch.ones(1, 32), f"{layer}.lora_B.weight": torch.ones(32, 1)}
        >>> save_file(matrices, "adapter/adapter_model.safetensors")
        >>> settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["v_proj"]}
        >>> _ = Path("adapter/adapter_config.json").write_text(json.dumps(settings))
        >>> sizes = {"llama.block_count": 1, "llama.attention.head_count": 1}
        >>> write_gguf(Path("base.gguf"), "llama", sizes, {"blk.0.attn_v.weight": np.zeros((32, 32), np.float32)})
        >>> merge_gguf("adapter", "merged.gguf", "base.gguf").relative_errors
        {'blk.0.attn_v.weight': 0.0}
    """
    if dtype not in DTYPES:
        raise UnknownNameError("dtype to merge into", dtype, DTYPES)
    source, target, base = existing(source), named(target), existing(base)
    if target.suffix != ".gguf":
        raise ReaderError(f"a merged model is one GGUF file, and {target} does not end with .gguf. Name it so.")
    adapter = without_base_layers(read_adapter(source))
    refuse_unknown_strength(adapter)
    refuse_if_impossible(adapter, "gguf", adapter.family)
    model = read_base(base)
    weights = _single_file(model)
    if target.exists() and target.samefile(weights):
        raise ReaderError(f"{target} is the base itself. Name another target.")
    layers = _matched(adapter, model)
    remarks = check_effect(source, layers)
    errors: dict[str, float] = {}
    changes = {f"{one.name}.weight": _change(one, dtype.upper(), errors) for one in layers}
    copy_gguf(weights, target, changes, dtype.upper())
    return MergedGguf(
        path=target,
        dtype=dtype.upper(),
        kept=len(read_gguf(target).tensors) - len(changes),
        relative_errors=errors,
        remarks=(*adapter.remarks, *remarks, *_remarks_on_rounding(errors, dtype)),
    )


def _single_file(base: GgufBase) -> Path:
    """Return the base's GGUF file.

    Raises:
        ReaderError: there is none, or several.
    """
    if base.weights is None:
        raise ReaderError(
            f"{base.path} is no GGUF file. Name the base model as one: whoever publishes it, or others, often do so, "
            "and llama.cpp's convert_hf_to_gguf.py makes one. Nothing was written."
        )
    if read_gguf(base.weights).values.get("split.count", 1) != 1:
        raise ReaderError(
            f"{base.weights} is one of several files of a model. Put them together with llama.cpp's llama-gguf-split, "
            "and name that file. Nothing was written."
        )
    return base.weights


def _matched(adapter: LoraAdapter, base: GgufBase) -> list[MatchedLayer]:
    """Return the adapter's layers with the names and the order of outputs that the base has."""
    layers = layers_of_base(adapter, base)
    matched = []
    with open_tensors(adapter) as read:
        for name, layer in layers.items():
            down, up = read(layer.tensors["down"]).float(), read(layer.tensors["up"]).float()
            magnitude = peft_magnitude(layer, read).float() if "magnitude" in layer.tensors else None
            magnitude = magnitude if magnitude is None else in_gguf_order(magnitude, name, base).clone()
            matched.append(MatchedLayer(layer, name, down.clone(), in_gguf_order(up, name, base).clone(), magnitude))
    check_magnitudes(adapter, {"": matched})
    return matched


def _change(one: MatchedLayer, dtype: str, errors: dict[str, float]) -> Change:
    def change(values: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.float16]:
        before = torch.from_numpy(values.copy())
        delta = delta_of(one, before)
        stored, read = encode_gguf((before + delta).numpy(), dtype)
        after = torch.from_numpy(read)
        if not torch.isfinite(after).all():
            raise ReaderError(
                f"{quoted(one.name)} has numbers after the merge that {dtype} has no place for, or that are none. The "
                "base is damaged, or the LoRA was trained for another. Nothing was written."
            )
        errors[f"{one.name}.weight"] = relative_error(before, after, delta)
        return stored

    return change


def _remarks_on_rounding(errors: dict[str, float], dtype: Dtype) -> list[str]:
    over = [name for name, error in errors.items() if error > WARN_ABOVE]
    if not over:
        return []
    worst = max(over, key=errors.__getitem__)
    way = "F16 rounds less" if dtype != "f16" else "Keep the adapter beside its base: convert it to GGUF"
    return [
        f"Rounding to {dtype.upper()} takes more than {WARN_ABOVE:.0%} of what the LoRA adds in {len(over)} of "
        f"{len(errors)} layers, at worst {errors[worst]:.0%} in {worst}. {way}."
    ]
