"""``merge()``: a LoRA into the model's own weights, with what the rounding costs, and the way back to the bit.

A weight in half precision has neighbours about 1.5e-5 (fp16) or 1.2e-4 (bf16) away from 0.02; what a LoRA adds may be
smaller than that and is then lost in part. The sum is made in float32 and rounded once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers.pytorch_utils import Conv1D

from aigc_helpers.arguments import check_scale, existing
from aigc_helpers.errors import ReaderError
from aigc_helpers.lora.matching import MatchedLayer, match
from aigc_helpers.lora.models import models_of, plain_layer, plain_state, weight_of
from aigc_helpers.lora.saved_modules import SavedModules

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

WARN_ABOVE = 0.10


class Rounding(NamedTuple):
    """What rounding does to one layer.

    Attributes:
        component: of the pipeline, ``""`` for a model of its own.
        layer: its name.
        dtype: of its weight.
        delta_rms: root mean square of what the LoRA adds.
        relative_error: ‖(rounded - before) - delta‖ / ‖delta‖: 0 if all of it arrives, 1 if none does.
    """

    component: str
    layer: str
    dtype: torch.dtype
    delta_rms: float
    relative_error: float


@dataclass
class Merged:
    """A merge that can be undone; as a context manager it is, at the end.

    Attributes:
        roundings: what rounding cost, layer by layer; nothing of it where a weight is in float32.
    """

    roundings: tuple[Rounding, ...]
    _originals: list[tuple[torch.Tensor, torch.Tensor, int]]  # A weight, what it was, what the merge made of it.

    def undo(self) -> None:
        """Put the weights back that were there before, to the bit. A second call does nothing.

        Raises:
            ReaderError: something has changed them since: what it did would be lost, or undone to a wrong number later.
        """
        last = {id(weight): (weight, mark) for weight, _, mark in self._originals}
        if any(_fingerprint(weight) != mark for weight, mark in last.values()):
            raise ReaderError(
                "the weights have been changed since this merge: by another merge, a fused adapter, or training. Undo "
                "that first, the last one first; then undo this one."
            )
        with torch.no_grad():
            while self._originals:
                weight, original, _ = self._originals.pop()
                weight.copy_(original)

    def __enter__(self) -> Merged:
        """Return the merge, which ends with the block."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Undo it."""
        self.undo()


def merge(target: DiffusionPipeline | torch.nn.Module, path: str | Path, scale: float = 1.0) -> Merged:
    """Add a LoRA to the weights of a model, in float32, and round to the weights' own dtype once.

    Warns if rounding takes more than a tenth of what a layer was to get: merge into a copy in float32 then, or keep the
    adapter beside the model.

    Args:
        target: a Stable Diffusion pipeline, one of its models, or a model of transformers.
        path: any file or folder that ``load_adapter`` takes.
        scale: of what the LoRA adds; a head or a row that replaces the model's own is put in whole.

    Raises:
        ReaderError: as ``load_adapter``; no weight has been changed then.

    Example:
        >>> from aigc_helpers import install
        >>> from transformers import AutoModelForCausalLM
        >>> model = AutoModelForCausalLM.from_pretrained(install("poet"))
        >>> merged = merge(model, install("tune-adapter"))
        >>> [rounding.layer for rounding in merged.roundings][:2]
        ['transformer.h.0.attn.c_attn', 'transformer.h.1.attn.c_attn']
        >>> merged.undo()
    """
    path = existing(path)
    check_scale(scale)
    found = match(target, path)
    models = models_of(target)
    roundings: list[Rounding] = []
    originals: list[tuple[torch.Tensor, torch.Tensor]] = []
    for component, layers in found.layers.items():
        for one in layers:
            _refuse_quantised(one.name, plain_layer(models[component].get_submodule(one.name)))
        _refuse_tied(models[component], found.saved_modules[component])
    with torch.no_grad():
        for component, layers in found.layers.items():
            for one in layers:
                layer = plain_layer(models[component].get_submodule(one.name))
                weight = weight_of(layer)
                delta = delta_of(one, weight.float(), scale, transposed=isinstance(layer, Conv1D))
                before = weight.detach().clone()
                originals.append((weight, before))
                weight.copy_(before.float() + delta)
                roundings.append(_rounding(component, one, before, weight, delta))
        for component, saved in found.saved_modules.items():
            for weight, tensor in _replaced(models[component], saved):
                originals.append((weight, weight.detach().clone()))
                weight.copy_(tensor)
    _warn(roundings)
    return Merged(tuple(roundings), [(weight, before, _fingerprint(weight)) for weight, before in originals])


def _replaced(model: torch.nn.Module, saved: SavedModules) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield each tensor of the model that the adapter replaces, and what is to stand there."""
    own = plain_state(model)
    for module, state in saved.modules_to_save.items():
        for rest, tensor in state.items():
            yield own[f"{module}.{rest}"], tensor
    for name, tensor in saved.base.items():
        yield own[name], tensor
    for module, rows in saved.rows.items():
        table = own[f"{module}.weight"]
        values = table.detach().clone()
        values[list(rows.indices)] = rows.values.to(table)
        yield table, values


def _fingerprint(weight: torch.Tensor) -> int:
    return int(torch.hash_tensor(weight.detach().contiguous()).view(torch.int64))  # uint64 has no way to int.


def _refuse_tied(model: torch.nn.Module, saved: SavedModules) -> None:
    """Refuse a module that shares its weight with another: the adapter has a copy for it alone."""
    own = plain_state(model)
    kept = {f"{module}.{rest}" for module, state in saved.modules_to_save.items() for rest in state}
    for key in sorted(kept):
        tied = [other for other, tensor in own.items() if tensor is own[key] and other not in kept]
        if tied:
            raise ReaderError(
                f"the adapter replaces {key}, which is the same tensor as {tied[0]} in this model (tied weights): "
                "merged, it would change both. Keep the adapter beside the model (load_adapter), where it has a copy "
                "of its own."
            )


def _refuse_quantised(name: str, layer: torch.nn.Module) -> None:
    weight = weight_of(layer)
    if not weight.is_floating_point():
        raise ReaderError(
            f"the layer {name} is quantised ({str(weight.dtype).removeprefix('torch.')}): no sum can be rounded "
            "into it. Merge into the model in float32 or bfloat16 and quantise the result, or keep the adapter beside "
            "it (load_adapter)."
        )


def delta_of(one: MatchedLayer, base: torch.Tensor, scale: float = 1.0, *, transposed: bool = False) -> torch.Tensor:
    """Return what is added to a weight, in float32 and in the weight's shape.

    Args:
        one: the layer of the adapter.
        base: the weight in float32: outputs × inputs (× kernel).
        scale: of what is added.
        transposed: the weight is inputs × outputs, as GPT-2 keeps it.
    """
    down, up = (tensor.to(base) for tensor in (one.down, one.up))
    product = (up.flatten(1) @ down.flatten(1)) * (one.scale * scale)
    product = product.T if transposed else product.reshape(base.shape)
    if one.magnitude is None:
        return product
    # DoRA (Liu et al. 2024): each output's weights get the learned length, whatever the LoRA made of it.
    others = tuple(axis for axis in range(base.ndim) if axis != int(transposed))
    length = torch.linalg.vector_norm(base + product, dim=others, keepdim=True)
    return one.magnitude.to(base).reshape(length.shape) * (base + product) / length - base


def relative_error(before: torch.Tensor, after: torch.Tensor, delta: torch.Tensor) -> float:
    """Return ‖(after - before) - delta‖ / ‖delta‖: 0 if all of what was to be added has arrived, 1 if none has."""
    # In float64, so that the difference itself is exact.
    wanted = delta.double()
    lost = (after.double() - before.double()) - wanted
    norm = float(wanted.norm())
    return float(lost.norm()) / norm if norm else 0.0


def _rounding(
    component: str, one: MatchedLayer, before: torch.Tensor, after: torch.Tensor, delta: torch.Tensor
) -> Rounding:
    rms = float(delta.double().norm()) / delta.numel() ** 0.5
    return Rounding(component, one.name, after.dtype, rms, relative_error(before, after, delta))


def _warn(roundings: list[Rounding]) -> None:
    over = [rounding for rounding in roundings if rounding.relative_error > WARN_ABOVE]
    if over:
        worst = max(over, key=lambda rounding: rounding.relative_error)
        dtype = str(worst.dtype).removeprefix("torch.")
        warnings.warn(
            f"rounding to {dtype} takes more than {WARN_ABOVE:.0%} of what the LoRA adds in {len(over)} of "
            f"{len(roundings)} layers, at worst {worst.relative_error:.0%} in {worst.layer}. Merge into the model in "
            "float32, or keep the adapter beside it.",
            stacklevel=3,
        )
