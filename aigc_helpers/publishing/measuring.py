"""What `aigc ranges` changes in a kernel before a chapter runs: other seeds, or a training that teaches nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def shift_seeds(offset: int) -> None:
    """Raise every seed that this process sets from now on, in torch and in numpy's generators, by ``offset``.

    ``random.Random`` stays as it is: the book draws its data sets with it, and another data set is another task.
    """
    import numpy
    import torch

    plain_manual_seed, plain_default_rng = torch.manual_seed, numpy.random.default_rng

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(seed + offset)

    def manual_seed(seed: int) -> torch.Generator:
        return plain_manual_seed(int(seed) + offset)

    def default_rng(seed: Any = None) -> numpy.random.Generator:  # noqa: ANN401 (whatever numpy takes)
        if isinstance(seed, int):
            return plain_default_rng(seed + offset)
        if isinstance(seed, (list, tuple)) and seed:
            return plain_default_rng([seed[0] + offset, *seed[1:]])
        return plain_default_rng(seed)

    torch.Generator = Generator  # type: ignore[misc]
    torch.manual_seed = torch.random.manual_seed = manual_seed
    numpy.random.default_rng = default_rng


def count_optimizer_steps(target: str) -> None:
    """Write ``trained`` into the file ``target`` as soon as an optimizer of torch makes its first step."""
    from pathlib import Path

    from torch.optim.optimizer import register_optimizer_step_post_hook

    def note(*_: object) -> None:
        path = Path(target)
        if not path.exists():
            path.write_text("trained", encoding="utf-8")

    register_optimizer_step_post_hook(note)


def train_nothing() -> None:
    """Let no optimizer of torch change a parameter from now on, whatever its learning rate.

    A range that holds even then says nothing about the training.
    """
    import torch

    def step(self: torch.optim.Optimizer, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 (a loss)
        return closure() if closure else None

    kinds = [torch.optim.Optimizer]
    for kind in kinds:  # the list grows: subclasses of subclasses
        kinds += kind.__subclasses__()
        kind.step = step  # type: ignore[method-assign]
