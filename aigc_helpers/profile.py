"""Embedded or full: which models a chapter loads, on which device, in which number format.

The profile is chosen once: by ``choose_profile``, else by the environment variable ``AIGC_PROFILE``, else *full*
where an NVIDIA GPU is present and *embedded* everywhere else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigc_helpers.errors import UnknownNameError

if TYPE_CHECKING:
    import torch

PROFILE_NAMES = ("embedded", "full")
ENVIRONMENT_VARIABLE = "AIGC_PROFILE"


@dataclass(frozen=True)
class Profile:
    """What the chapters run with.

    Attributes:
        name: ``"embedded"`` (small trained models that ship with the book) or ``"full"`` (the models from the hub).
        device: ``"cuda"`` or ``"cpu"``, as torch spells it.
        dtype_name: the dtype of frozen weights and of mixed precision: ``"float32"`` on a CPU, ``"bfloat16"`` on a
            GPU that computes in it natively, ``"float16"`` on older ones such as Colab's T4.
    """

    name: str
    device: str
    dtype_name: str

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype called ``dtype_name``."""
        import torch

        return getattr(torch, self.dtype_name)

    @property
    def mixed_precision(self) -> str:
        """The value that ``accelerate.Accelerator(mixed_precision=...)`` takes for ``dtype``."""
        return {"float32": "no", "float16": "fp16", "bfloat16": "bf16"}[self.dtype_name]


_chosen: Profile | None = None


def current_profile() -> Profile:
    """Return the profile in force, choosing it on the first call.

    Raises:
        UnknownNameError: ``AIGC_PROFILE`` holds something else than a profile's name.
    """
    return _chosen or choose_profile(os.environ.get(ENVIRONMENT_VARIABLE))


def choose_profile(name: str | None = None) -> Profile:
    """Choose the profile for this process; without a name, *full* where a GPU is present, else *embedded*.

    Raises:
        UnknownNameError: ``name`` is no profile's name.
    """
    global _chosen
    check_profile(name)
    device, dtype_name = _device_and_dtype()
    default = "full" if device == "cuda" else "embedded"
    _chosen = Profile(name=name or default, device=device, dtype_name=dtype_name)
    return _chosen


def check_profile(name: str | None) -> None:
    """Refuse a name that no profile has; none at all leaves the choice to ``choose_profile``.

    Raises:
        UnknownNameError: it is no profile's name.
    """
    if name and name not in PROFILE_NAMES:
        raise UnknownNameError("profile", name, PROFILE_NAMES)


def _device_and_dtype() -> tuple[str, str]:
    import torch

    if not torch.cuda.is_available():
        return "cpu", "float32"
    # On a T4, torch says that bf16 is supported, but computes it by slow emulation.
    native_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return "cuda", "bfloat16" if native_bfloat16 else "float16"
