"""How much memory of a GPU a computation will take, foretold from shapes: nothing is calculated, nothing is loaded.

The models are built on torch's device ``meta``, and one step runs on fake tensors, which have a shape and no numbers.
Each storage that comes up is counted while it lives, as a GPU's allocator would. torch's own ``MemTracker`` does not
serve: it puts a hook on every parameter, and refuses frozen ones, of which a model with a LoRA has most.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from aigc_helpers.compat import fake_tensors

Model = TypeVar("Model", bound="nn.Module | Iterable[nn.Module]")

# CUDA's allocator gives whole blocks.
_BLOCK = 512
# What CUDA's autocast calculates in float32 though the weights are in half precision; a CPU's does not.
_IN_FLOAT32 = ("group_norm", "layer_norm")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of each kind at the moment when most is held.

    Attributes:
        weights: parameters and buffers, frozen ones too.
        gradients: of the parameters that are trained.
        optimizer: what the optimizer keeps, for AdamW two numbers for each trained parameter.
        activations: all else that is held at that moment: what the backward pass needs, and what is being calculated.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of them together, in bytes."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        """Return all in GB, with the parts in brackets."""
        parts = ", ".join(f"{field.name} {getattr(self, field.name) / 1e9:.2f}" for field in fields(self))
        return f"{self.total / 1e9:.1f} GB ({parts})"


def estimate_memory(
    make: Callable[[], Model], step: Callable[[Model], object], dtype: torch.dtype = torch.float32
) -> MemoryEstimate:
    """Return the memory that ``step`` needs on a GPU, from the shapes of what ``make`` builds.

    Args:
        make: builds the model, or several; it runs with ``torch.device("meta")`` in force, so that no memory is taken.
        step: what is to be measured, called twice with what ``make`` returned: a forward pass, or a whole training
            step with ``backward`` and ``optimizer.step()``. It makes its inputs itself, of the right shape and dtype.
        dtype: as in mixed precision: ``torch.float16`` and ``torch.bfloat16`` run the step under autocast.

    Returns:
        The bytes of the second step's peak. Attention is counted as the memory-efficient kind that PyTorch takes on a
        GPU. What the CUDA runtime (about 0.5 GB) and the allocator's gaps take comes on top.

    Example:
        >>> import torch
        >>> from aigc_helpers.training import estimate_memory
        >>> make = lambda: torch.nn.Linear(1000, 1000, bias=False)
        >>> estimate = estimate_memory(make, lambda model: model(torch.zeros(8, 1000)).sum().backward())
        >>> estimate.weights, estimate.gradients, estimate.optimizer
        (4000256, 4000256, 0)
    """
    with torch.device("meta"):
        made = make()
    counter = _Counter()
    modules = [made] if isinstance(made, nn.Module) else list(made)
    with fake_tensors(counter.count):
        parameters = _make_fake(modules)
        weights = counter.held
        with _autocast(dtype):
            step(made)
        gradients = sum(_blocks(each.grad.nbytes) for each in parameters if each.grad is not None)
        for each in parameters:
            each.grad = None
        optimizer = max(counter.held - weights, 0)
        counter.peak = counter.held
        with _autocast(dtype):
            step(made)
    return MemoryEstimate(weights, gradients, optimizer, counter.peak - weights - gradients - optimizer)


def _make_fake(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Put fake tensors in the place of all parameters and buffers, shared ones once, and return the parameters."""
    parameters: dict[int, nn.Parameter] = {}
    buffers: dict[int, torch.Tensor] = {}
    for module in (part for each in modules for part in each.modules()):
        for name, old in list(module.named_parameters(recurse=False)):
            fake = nn.Parameter(torch.empty(old.shape, dtype=old.dtype), old.requires_grad)
            setattr(module, name, parameters.setdefault(id(old), fake))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffers.setdefault(id(buffer), torch.empty(buffer.shape, dtype=buffer.dtype)))
    return list(parameters.values())


@contextmanager
def _autocast(dtype: torch.dtype) -> Iterator[None]:
    """Mixed precision as on a GPU; none for float32."""
    if dtype == torch.float32:
        yield
        return
    with torch.autocast("cpu", dtype), _norms_in_float32():
        yield


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


@contextmanager
def _norms_in_float32() -> Iterator[None]:
    """Let the norms calculate in float32, as a GPU's autocast has it: what they return takes twice the memory."""
    originals = {name: getattr(functional, name) for name in _IN_FLOAT32}
    # Not a mode of torch's: those are off while a backward pass calculates activations again.
    for name, original in originals.items():
        setattr(functional, name, partial(_call_in_float32, original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(functional, name, original)


def _call_in_float32(function: Callable[..., torch.Tensor], *args: object, **kwargs: object) -> torch.Tensor:
    return function(*map(_in_float32, args), **{name: _in_float32(value) for name, value in kwargs.items()})


def _in_float32(value: object) -> object:
    return value.float() if isinstance(value, torch.Tensor) else value


class _Counter:
    """Counts the bytes of all storages that are alive."""

    def __init__(self) -> None:
        self.held = self.peak = 0
        self._sizes: dict[int, int] = {}

    def count(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)  # The same for as long as it lives, and forgotten when it ends.
        if key in self._sizes:
            return
        self._sizes[key] = _blocks(storage.nbytes())
        self.held += self._sizes[key]
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.held -= self._sizes.pop(key)
