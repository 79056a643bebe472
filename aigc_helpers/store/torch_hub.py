"""PyTorch Hub as a source of weights: a repository's ``hubconf.py`` builds a model, and its tensors are kept.

Whoever calls ``torch.hub.load`` runs that repository's code. No check can make this safe: it needs the reader's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.formats import write_safetensors

_HUBCONF = "hubconf.py"


def fetch_from_torch_hub(repository: str, entry: str, target: Path, *, trusted: bool) -> None:
    """Call ``entry`` of a repository's ``hubconf.py`` and write its model's tensors as safetensors.

    Args:
        repository: a folder with a ``hubconf.py`` on this machine, absolute or beginning with ``./``, ``../`` or ``~``;
            anything else is ``"owner/name"`` or ``"owner/name:tag"`` on GitHub.
        entry: the name of a function there that needs no arguments.
        target: the safetensors file; written whole or not at all.
        trusted: that the code of a repository from the network may run here, with all the reader's rights. A folder
            on this machine runs as any other program that the reader starts from it.

    Raises:
        ReaderError: the repository is not trusted, cannot be reached, has no such entry, its code fails, or gives no
            model; or the disk is full.
    """
    folder = Path(repository).expanduser()
    # A folder that happens to have a repository's name in the working folder is nothing that the reader has named.
    local = folder.is_absolute() or repository.replace("\\", "/").startswith(("./", "../"))
    if local and not (folder / _HUBCONF).is_file():
        raise ReaderError(f"the folder {folder} has no {_HUBCONF}, so it is no repository of PyTorch Hub.")
    if not local and not trusted:
        raise ReaderError(
            f"PyTorch Hub would download {repository} and run its {_HUBCONF} on this machine, with all that you may do "
            "here. Nothing was run. Read that file first; then say that you trust its code (trusted=True, or aigc "
            "install … --trust-code). A file of safetensors needs no trust. A folder on this machine is named by its "
            "whole path, or with ./ before it."
        )
    tensors = _state_dict(_load(str(folder) if local else repository, entry, local), repository, entry)
    from safetensors.torch import save_file

    # Copies: tied weights share their memory, which the format does not have.
    write_safetensors(
        save_file, {name: each.detach().cpu().clone() for name, each in tensors.items()}, repository, target
    )


def _load(repository: str, entry: str, local: bool) -> Any:  # noqa: ANN401 - whatever the repository's code returns.
    import torch

    try:
        # trust_repo: else it would ask on the terminal, and wait for an answer in a notebook.
        return torch.hub.load(repository, entry, source="local" if local else "github", trust_repo=True, verbose=False)
    except Exception as error:  # The repository's own code may raise anything.
        raise ReaderError(
            f"PyTorch Hub could not give {entry} of {repository} ({type(error).__name__}: {first_line(error)}). Its "
            f"{_HUBCONF} says which entries there are; aigc doctor says whether the network can be reached."
        ) from error


def _state_dict(value: Any, repository: str, entry: str) -> Mapping[str, Any]:  # noqa: ANN401 - as loaded.
    import torch

    tensors = value.state_dict() if isinstance(value, torch.nn.Module) else value
    if not isinstance(tensors, Mapping) or not tensors or not all(map(torch.is_tensor, tensors.values())):
        raise ReaderError(
            f"{entry} of {repository} gives no model but an object of type {type(value).__name__}, so there are no "
            "tensors to write. Choose an entry that returns a torch.nn.Module or a state_dict."
        )
    return tensors
