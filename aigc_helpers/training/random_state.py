"""The state of every random generator, as tensors: what it takes to repeat a run exactly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


def capture_random_state() -> dict[str, torch.Tensor]:
    """Return the state of Python's, numpy's and torch's generators (and of each GPU's) as named tensors."""
    version, words, gauss = random.getstate()
    generator = numpy.random.get_state(legacy=False)
    keys, position = generator["state"]["key"], generator["state"]["pos"]
    state = {
        "python.words": torch.tensor(words, dtype=torch.int64),
        "python.gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy.keys": torch.from_numpy(keys.astype(numpy.int64)),
        "numpy.position": torch.tensor([position, generator["has_gauss"]], dtype=torch.int64),
        "numpy.gauss": torch.tensor([generator["gauss"]], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    for index in range(torch.cuda.device_count()):
        state[f"cuda.{index}"] = torch.cuda.get_rng_state(index)
    return state


def restore_random_state(state: dict[str, torch.Tensor]) -> None:
    """Set every generator to a state that ``capture_random_state`` returned.

    A GPU's generator that was not captured stays as it is, and one that is not there is left out: a run may go on on
    another kind of device, but repeats itself exactly only on the same kind.
    """
    gauss = state["python.gauss"].tolist()
    random.setstate((3, tuple(state["python.words"].tolist()), gauss[0] if gauss else None))
    position, has_gauss = state["numpy.position"].tolist()
    keys = state["numpy.keys"].numpy().astype(numpy.uint32)
    numpy.random.set_state(("MT19937", keys, position, has_gauss, state["numpy.gauss"].item()))
    torch.set_rng_state(state["torch"])
    for index in range(torch.cuda.device_count()):
        if f"cuda.{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda.{index}"], index)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the generators as they were, whatever the block draws: looking must not change the run.

    Example:
        >>> import torch
        >>> with random_state_kept():
        ...     inside = torch.rand(3)
        >>> torch.equal(torch.rand(3), inside)
        True
    """
    state = capture_random_state()
    try:
        yield
    finally:
        restore_random_state(state)
