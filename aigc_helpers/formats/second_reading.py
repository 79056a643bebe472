"""A file that is a format without programs may be a pickle as well: loaders that go by the suffix would run it."""

from __future__ import annotations

from pathlib import Path

from aigc_helpers.formats.pickle_program import Readable, UnsafePickleError, read_program

_EXTENSIONS = (b"\x82", b"\x83", b"\x84")  # Opcodes of a registry that is empty: what begins so, no program loads.


def refuse_pickle(path: Path, container: str, first: bytes, stream: Readable) -> None:
    """Make sure that a file would import nothing if a program took it for a pickle.

    Args:
        path: of the file, for the message.
        container: what it is.
        first: its first bytes.
        stream: the file, standing at its beginning.

    Raises:
        UnsafePickleError: it would.
    """
    if first.startswith(_EXTENSIONS):
        return
    # An honest file ends as a pickle after an opcode or two.
    imports = read_program(path, stream).imports
    if imports:
        names = ", ".join(repr(str(each))[:80] for each in list(imports)[:10])
        raise UnsafePickleError(
            f"{path} is unsafe: it is {container} and a pickle in one, and programs that take it for the latter would "
            f"run {names}. Nothing was run. Do not load it, under whatever name."
        )
