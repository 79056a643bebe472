"""What files and servers call things, as it may be shown: a terminal obeys control characters, wherever they come from.

They clear the screen, rename the window, or turn the direction of writing, so that one name looks like another.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# Controls but tab and line feed, invisible marks of direction and of width, and halves of characters. Joiners stay:
# emoji and several scripts are written with them.
_RULING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return a text with each character that rules a terminal as its escape, which JSON reads back."""
    return _RULING.sub(lambda found: json.dumps(found[0])[1:-1], text)


def in_html(text: str) -> str:
    """Return a text as a page may show it: neither its tags nor its control characters do anything there.

    Example:
        >>> in_html("<b>\\u202egpj.exe")
        '&lt;b&gt;\\\\u202egpj.exe'
    """
    return html.escape(visible(text))


@contextmanager
def control_characters_escaped() -> Iterator[None]:
    """Let nothing that is printed rule the terminal. Standard error stays as it is, for bars of progress rule it."""
    stream = sys.stdout
    sys.stdout = _Visible(stream)
    try:
        yield
    finally:
        sys.stdout = stream


class _Visible:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
