"""A LoRA for diffusers' layers as one for the layers of the original repository, where q, k and v are one layer.

Exact, to the bit: where the three share their first matrix, as those that were divided do, it is kept, and the second
ones stand below each other; else the fused layer gets the ranks of all, with each one's second matrix in a block of
its own and zeros beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted
from aigc_helpers.lora.adapter import LoraLayer, TensorInFile
from aigc_helpers.lora.original_layers import Place, place_in_original

if TYPE_CHECKING:
    import torch


class Fused(NamedTuple):
    """A layer of the original repository: its name with underscores for dots, its matrices, alpha and magnitudes."""

    name: str
    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    magnitude: torch.Tensor | None


def fused(
    layers: Sequence[LoraLayer],
    families: Sequence[str],
    source: Path,
    read: Callable[[TensorInFile], torch.Tensor],
    magnitude_of: Callable[[LoraLayer], torch.Tensor | None],
) -> Iterator[Fused]:
    """Yield the layers of the original repository that these layers of a transformer are parts of.

    Args:
        layers: of one transformer, as diffusers names them.
        families: that the model may be of.
        source: the file, for the message.
        read: gives a tensor of the file.
        magnitude_of: gives a DoRA's, one for each output.

    Raises:
        ReaderError: the original has no such layer, or the parts of one have strengths that no single alpha gives.
    """
    groups: dict[str, dict[int, LoraLayer]] = {}
    places: dict[str, Place] = {}
    for layer in layers:
        found = {place_in_original(layer.path, each) for each in families}
        place = found.pop() if len(found) == 1 else None
        if place is None:
            raise ReaderError(
                f"{source}: what the layer {quoted(layer.path)} is called in the model's own repository is not known. "
                "Nothing was written. Converted to diffusers, the file stays usable with diffusers."
            )
        places[place.name] = place
        groups.setdefault(place.name, {})[place.number] = layer
    for name, parts in groups.items():
        place = places[name]
        if len(place.shares) == 1:
            yield _renamed(place, parts[0], read, magnitude_of)
        else:
            yield _fused(place, parts, source, read, magnitude_of)


def _renamed(
    place: Place,
    layer: LoraLayer,
    read: Callable[[TensorInFile], torch.Tensor],
    magnitude_of: Callable[[LoraLayer], torch.Tensor | None],
) -> Fused:
    down, up, magnitude = read(layer.tensors["down"]), read(layer.tensors["up"]), magnitude_of(layer)
    inputs = down.shape[1]
    if place.swapped and len(up) == 2 * inputs:
        up = up.roll(inputs, 0)
        magnitude = None if magnitude is None else magnitude.roll(inputs, 0)
    return Fused(place.name, down, up, layer.alpha, magnitude)


def _fused(
    place: Place,
    parts: Mapping[int, LoraLayer],
    source: Path,
    read: Callable[[TensorInFile], torch.Tensor],
    magnitude_of: Callable[[LoraLayer], torch.Tensor | None],
) -> Fused:
    import torch

    downs = {number: read(layer.tensors["down"]) for number, layer in sorted(parts.items())}
    ups = {number: read(layer.tensors["up"]) for number, layer in sorted(parts.items())}
    strength = _strength(place, parts, source)
    (first, *others) = downs
    is_one = all(downs[other].equal(downs[first]) for other in others)
    down = downs[first] if is_one else torch.cat(list(downs.values()))
    share = len(ups[first]) // place.shares[first]
    rows, column = [], 0
    for number, of_rows in enumerate(place.shares):
        if is_one and number in ups:
            rows.append(ups[number])
            continue
        block = ups[first].new_zeros(share * of_rows, len(down))
        if number in ups:
            block[:, column : column + ups[number].shape[1]] = ups[number]
            column += ups[number].shape[1]
        rows.append(block)
    magnitudes = [magnitude_of(parts[number]) if number in parts else None for number in range(len(place.shares))]
    whole = [magnitude for magnitude in magnitudes if magnitude is not None]
    if whole and len(whole) < len(magnitudes):
        raise ReaderError(
            f"{source} is a DoRA for some of the layers that are one in the model's own repository "
            f"({quoted(parts[first].path)}), and the magnitudes of the others are the base's. Nothing was written. "
            "Converted to diffusers, the file stays usable with diffusers."
        )
    magnitude = torch.cat(whole) if whole else None
    return Fused(place.name, down, torch.cat(rows), float(strength * len(down)), magnitude)


def _strength(place: Place, parts: Mapping[int, LoraLayer], source: Path) -> Fraction:
    """Return alpha / rank of layers that are to become one.

    Raises:
        ReaderError: they differ, or so do the dtypes or widths.
    """
    found = {
        (
            Fraction(layer.alpha) / layer.rank,
            layer.tensors["down"].dtype,
            layer.tensors["up"].dtype,
            layer.tensors["down"].shape[1:],
            Fraction(layer.tensors["up"].shape[0], place.shares[number]),
        )
        for number, layer in parts.items()
    }
    if len(found) > 1:
        names = ", ".join(quoted(layer.path) for layer in parts.values())
        raise ReaderError(
            f"{source}: {names} are one layer in the model's own repository, and differ in alpha / rank, dtype or "
            "width, so that no one layer could hold them exactly. Nothing was written. Converted to diffusers, the "
            "file stays usable with diffusers."
        )
    return found.pop()[0]
