"""Writing safetensors whole or not at all, with a full disk called a full disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.files import replacing


def write_safetensors(save: Callable[..., None], tensors: Mapping[str, Any], source: object, target: Path) -> None:
    """Write ``tensors`` with the header that transformers asks for.

    Args:
        save: ``save_file`` of ``safetensors.torch`` or of ``safetensors.numpy``.
        tensors: by name; contiguous, and none sharing another's memory.
        source: where they come from, for messages.
        target: the file.

    Raises:
        ReaderError: the disk is full, the folder not writable, or a tensor of a kind that safetensors does not have.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from safetensors.torch import save_file
        >>> write_safetensors(save_file, {"weight": torch.zeros(2)}, "memory", Path("model.safetensors"))
        >>> from aigc_helpers.formats import read_header
        >>> read_header(Path("model.safetensors")).metadata
        {'format': 'pt'}
    """
    from safetensors import SafetensorError

    with replacing(target) as temporary:
        try:
            save(dict(tensors), temporary, metadata={"format": "pt"})
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if "(os error " in str(error):
                raise  # The system's own, which ``replacing`` explains.
            raise ReaderError(
                f"{source} holds what safetensors has no place for ({first_line(error)}). Nothing was written."
            ) from error
