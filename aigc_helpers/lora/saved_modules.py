"""Tensors of a PEFT adapter that are no LoRA's: heads, resized embeddings, rows of one, biases; compared by shape.

PEFT loads what has a place and forgets the rest. Here each tensor needs its place and its shape, and each place that
the settings name needs its tensor: a classifier whose head stayed random, or a translator whose new words have the old
rows, gives answers all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import torch

from aigc_helpers.bounded_json import texts_in
from aigc_helpers.compat import COPIED_ROWS, COPIES, TOKEN_ROWS, adapters_of, is_plain_module, plain_key
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import escaped, quoted
from aigc_helpers.inspection import missing_head
from aigc_helpers.lora.models import plain_parameters, plain_state

_REPLACED = "_aigc_replaced"  # Where a model keeps what it had before an adapter replaced it: name, tensors by name.


class MissingRowsError(ReaderError):
    """An adapter trains rows of an embedding that the model does not have."""


class TokenRows(NamedTuple):
    """Rows of an embedding: which, and what they are to be (rows × width)."""

    indices: tuple[int, ...]
    values: torch.Tensor


@dataclass(frozen=True)
class SavedModules:
    """What an adapter replaces in one model.

    Attributes:
        modules_to_save: per module that gets a copy of its own, such as a head, the copy's state.
        rows: per embedding.
        base: tensors of the model itself, by name: biases, and embeddings that were resized in training. PEFT has no
            second place for these.
    """

    modules_to_save: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    rows: dict[str, TokenRows] = field(default_factory=dict)
    base: dict[str, torch.Tensor] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.modules_to_save or self.rows or self.base)

    def remarks(self) -> list[str]:
        """Return sentences for the reader."""
        if not self.base:
            return []
        first = next(iter(self.base))
        return [
            f"{len(self.base)} tensors of the base itself are replaced (the first: {escaped(first)}). PEFT's own "
            "calls do not bring them back when the adapter is taken out; loading another with load_adapter does."
        ]


def sort_saved_modules(
    model: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
    source: object,
    lora_layers: Iterable[str] = (),
    named: Callable[[str], str] = str,
) -> SavedModules:
    """Find the place of each tensor in the model, and the tensor of each place that the settings name.

    Args:
        model: that the adapter is for.
        tensors: by the names that they have in the file, without ``base_model.model.``.
        settings: of the adapter.
        source: the file, for the message.
        lora_layers: the layers that the adapter has matrices for.
        named: gives the model's name of a module for the file's.

    Raises:
        ReaderError: a tensor has no place, a place no tensor, or the shapes differ.
    """
    found = SavedModules()
    own = plain_state(model)
    copied = _modules_to_save(model, settings)
    embeddings = _embeddings(model)
    for name, tensor in tensors.items():
        if name.endswith(TOKEN_ROWS):
            module = named(name.removesuffix(TOKEN_ROWS))
            found.rows[module] = _rows(module, tensor, own, settings, source)
            continue
        if name.endswith(COPIED_ROWS) or (settings.get("bias") == "all" and any(copy in name for copy in COPIES)):
            continue  # The base's own rows, or a head's biases once more.
        key = plain_key(name) or name
        module, _, last = key.rpartition(".")
        key = f"{named(module)}.{last}" if module else last
        _check_finite(name, tensor, source)
        if key not in own:
            refuse_unexpected(name, source)
        _check_shape(name, tensor, own[key], key in embeddings, source)
        outer = next((each for each in copied if key.startswith(f"{each}.")), None)
        if outer is not None:
            found.modules_to_save.setdefault(outer, {})[key.removeprefix(f"{outer}.")] = tensor
        elif key in embeddings or (last == "bias" and settings.get("bias") in ("all", "lora_only")):
            found.base[key] = tensor
        else:
            refuse_unexpected(name, source)
    _check_complete(model, found, own, copied, settings, source, set(lora_layers))
    fault = missing_head(settings, tensors, source)
    if fault:
        raise ReaderError(f"{fault} The model is as it was.")
    return found


def refuse_company(model: torch.nn.Module, saved: SavedModules, name: str) -> None:
    """Refuse a second adapter beside one that replaces the base's own tensors: they would hold for both.

    Raises:
        ReaderError: the message names the other adapter.
    """
    held, _ = getattr(model, _REPLACED, (None, {}))
    others = set(adapters_of(model)) - {name}
    if saved.base and others:
        raise ReaderError(
            f"this adapter replaces tensors of the base itself ({escaped(next(iter(saved.base)))}, …), and the "
            f"model also holds the adapter {sorted(others)[0]!r}, which would then run on another base. Take that out "
            "first."
        )
    if held in others:
        raise ReaderError(
            f"the adapter {held!r} in this model has replaced tensors of the base itself. Load the new one under that "
            "name, or into the model loaded anew."
        )


def replace_base(model: torch.nn.Module, saved: SavedModules, name: str) -> None:
    """Put the base's own tensors aside and the adapter's in their place."""
    if not saved.base:
        return
    own = plain_parameters(model)
    setattr(model, _REPLACED, (name, {key: own[key].detach().clone() for key in saved.base}))
    with torch.no_grad():
        for key, tensor in saved.base.items():
            own[key].copy_(tensor)


def restore_base(model: torch.nn.Module) -> None:
    """Put back what ``replace_base`` has put aside; without any, do nothing."""
    _, originals = getattr(model, _REPLACED, (None, {}))
    if not originals:
        return
    own = plain_parameters(model)
    with torch.no_grad():
        for key, tensor in originals.items():
            own[key].copy_(tensor)
    delattr(model, _REPLACED)


def _is_own(name: str) -> bool:
    """Return whether a module is the model's own and has a name."""
    return bool(name) and is_plain_module(name)


def _modules_to_save(model: torch.nn.Module, settings: Mapping[str, Any]) -> list[str]:
    """Return the modules that PEFT copies: those whose name ends with one in the list, wherever the end begins."""
    ends = tuple(texts_in(settings.get("modules_to_save")))
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if _is_own(name)]
    return [name for name in names if ends and name.endswith(ends)]


def _rows(
    module: str, values: torch.Tensor, own: Mapping[str, torch.Tensor], settings: Mapping[str, Any], source: object
) -> TokenRows:
    _check_finite(f"{module}{TOKEN_ROWS}", values, source)
    indices = _indices(module, settings)
    table = own.get(f"{module}.weight")
    if table is None or indices is None:
        refuse_unexpected(f"{module}{TOKEN_ROWS}", source)
    if not all(type(index) is int and index >= 0 for index in indices) or len(set(indices)) != len(indices):
        raise ReaderError(
            f"{source}: the rows of {quoted(module)} (trainable_token_indices) are no list of row numbers."
        )
    if tuple(values.shape) != (len(indices), table.shape[1]):
        raise ReaderError(
            f"{source} has rows of {quoted(module)} of the shape {list(values.shape)}, and {len(indices)} rows of "
            f"{table.shape[1]} numbers have a place in this model."
        )
    if max(indices) >= len(table):
        raise MissingRowsError(
            f"{source} trains row {max(indices)} of {quoted(module)}, and this model has {len(table)} rows. Resize it "
            "first, model.resize_token_embeddings(n), where n is the length of the tokenizer that was saved with the "
            "adapter."
        )
    return TokenRows(tuple(indices), values)


def _indices(module: str, settings: Mapping[str, Any]) -> list[Any] | None:
    said = settings.get("trainable_token_indices")
    if isinstance(said, dict):
        said = next((rows for end, rows in said.items() if module.endswith(end)), None)
    return said if isinstance(said, list) and said else None


def _embeddings(model: torch.nn.Module) -> set[str]:
    """Return the names of the tables of tokens, in and out; PEFT saves all of their rows if they were resized."""
    ends = [getattr(model, f"get_{way}_embeddings", None) for way in ("input", "output")]
    try:
        layers = [end() for end in ends if end]
    except NotImplementedError:  # As transformers has it for a model without any.
        return set()
    return {
        f"{name}.weight"
        for name, module in model.named_modules(remove_duplicate=False)
        if _is_own(name) and any(module is layer for layer in layers)
    }


def _check_complete(
    model: torch.nn.Module,
    found: SavedModules,
    own: Mapping[str, torch.Tensor],
    copied: Iterable[str],
    settings: Mapping[str, Any],
    source: object,
    lora_layers: set[str],
) -> None:
    wanted = [key for key in own for outer in copied if key.startswith(f"{outer}.")]
    had = {f"{outer}.{rest}" for outer, state in found.modules_to_save.items() for rest in state}
    if settings.get("trainable_token_indices") and not found.rows:
        raise ReaderError(
            f"{source} says that rows of an embedding were trained (trainable_token_indices), and holds none. It is "
            "not whole. The model is as it was."
        )
    biases = settings.get("bias")
    if biases in ("all", "lora_only"):
        wanted += [
            key
            for key in own
            if f".{key}".endswith(".bias") and (biases == "all" or key.removesuffix(".bias") in lora_layers)
        ]
    without = [key for key in wanted if key not in had and key not in found.base]
    if without:
        raise ReaderError(
            f"{source} says that {quoted(without[0])} was trained (modules_to_save, bias), and does not hold it; "
            f"{len(without)} tensors of this model would stay the base's, or random. The file is not whole, or the "
            "model is of another class. The model is as it was."
        )


def _check_finite(name: str, tensor: torch.Tensor, source: object) -> None:
    if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
        raise ReaderError(
            f"{source}: {quoted(name)} holds NaN or infinite numbers, so that every output would be NaN. The training "
            "diverged, or the file is damaged."
        )


def _check_shape(name: str, tensor: torch.Tensor, own: torch.Tensor, is_embedding: bool, source: object) -> None:
    if own.shape == tensor.shape:
        return
    way = "A classifier's number of labels is set when the model is made (num_labels)."
    if is_embedding and own.shape[1:] == tensor.shape[1:]:
        way = f"Resize the model first: model.resize_token_embeddings({len(tensor)})."
    raise ReaderError(
        f"{source}: {quoted(name)} has the shape {list(tensor.shape)}, and {list(own.shape)} in this model. {way} "
        "The model is as it was."
    )


def refuse_unexpected(name: str, source: object) -> NoReturn:
    """Refuse a tensor that has no place in the model.

    Raises:
        ReaderError: always.
    """
    raise ReaderError(
        f"{source}: the tensor {quoted(name)} matches nothing in this model: it is no LoRA's, and nothing that the "
        "adapter says it replaces (modules_to_save, trainable_token_indices, bias). Load it into the class of model "
        "that it was trained with."
    )
