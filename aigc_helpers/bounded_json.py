"""JSON from a file that a stranger may have written: nested no deeper than safetensors' own parser admits.

How deep Python's parser goes depends on its version: some 1,000 levels in 3.11, some 10,000 in 3.13. What a file is
refused for must not.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

DEEPEST = 127  # Objects and lists within one another.
_STEPS = {**dict.fromkeys(b"[{", 1), **dict.fromkeys(b"]}", -1)}
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'"[]{}')


def parse_json(text: str, **hooks: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold.
    """Return what ``json.loads`` returns.

    Args:
        text: the file's content.
        hooks: passed on to ``json.loads``.

    Raises:
        ValueError: it is no JSON, or nested deeper than ``DEEPEST``.
    """
    if _depth(text) > DEEPEST:
        raise ValueError(f"nested too deeply, in more than {DEEPEST} levels")
    return json.loads(text, **hooks)


def texts_in(value: object) -> list[str]:
    """Return the texts in a list that stands in a file; anything else holds none.

    Example:
        >>> texts_in(["query", 7, None]), texts_in("query")
        (['query'], [])
    """
    return [text for text in value if isinstance(text, str)] if isinstance(value, (list, tuple)) else []


def _depth(text: str) -> int:
    """Return how many brackets are open at once, at most; up to the text's first fault the parser opens the same."""
    # Byte by byte in Python this would take longer than to parse: a header may have 100 MB.
    unescaped = text.encode("utf-8", "surrogatepass").replace(rb"\\", b"").replace(rb"\"", b"")
    marks = unescaped.translate(None, _NO_MARKS).replace(b'""', b"")  # Strings without brackets are two quotes now.
    outside_strings = re.sub(rb'"[^"]*"?', b"", marks)
    return max(accumulate(map(_STEPS.__getitem__, outside_strings)), default=0)
