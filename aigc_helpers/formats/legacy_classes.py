"""Classes in torch's files of before 2020, which name the class of a module with its source code beside it.

torch writes such a class as something that lies outside the pickle, and ``torch.load(weights_only=True)`` takes nothing
from there but storages: the textual inversions of 2022, whose word lies in a ParameterDict, would load only with all
gates open. Without its source the class is a name like any other, which the gates know.
"""

from __future__ import annotations

import pickletools
from collections import deque

_NOTES, _AGAIN = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}
_TEXT = {"UNICODE", "BINUNICODE", *_AGAIN}
# ("module", the class, its file, its source): what makes the machine build it, but for notes of what to get again.
_MODULE = ({"MARK"}, _TEXT, {"GLOBAL", *_AGAIN}, _TEXT, _TEXT, {"TUPLE"})


def class_alone(kind: str, named: type, file: str, source: str) -> type:
    """Return the class: what stands in the place of torch's own way to get it from outside."""
    return named


def without_sources(pickle: bytes) -> bytes:
    """Return a pickle of ``torch.save`` in which ``class_alone`` gives each class of a module; another one as it is.

    Raises:
        ValueError: it is damaged.
    """
    if b"module" not in pickle or pickle[:2] > b"\x80\x03":  # Later protocols count bytes; no such file has them.
        return pickle
    call = f"c{class_alone.__module__}\n{class_alone.__name__}\n".encode()
    changed, done = bytearray(), 0
    latest: deque[tuple[str, int]] = deque(maxlen=len(_MODULE))
    for opcode, _, position in pickletools.genops(pickle):
        place = position or 0
        if opcode.name == "BINPERSID" and [True] * len(_MODULE) == [
            name in kinds for (name, _), kinds in zip(latest, _MODULE, strict=False)
        ]:
            begin = latest[0][1]
            changed += pickle[done:begin] + call + pickle[begin:place] + b"R"  # REDUCE: call it with the tuple.
            done = place + 1
        if opcode.name not in _NOTES:
            latest.append((opcode.name, place))
    return bytes(changed) + pickle[done:]
