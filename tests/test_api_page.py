"""The page of the public names says what the docstrings say; a page that lags behind is worse than none."""

from __future__ import annotations

import re

import pytest
from test_public_functions_are_documented import FUNCTIONS

from aigc_helpers.paths import REPOSITORY
from aigc_helpers.publishing import api_page

PAGE = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_docstrings_give() -> None:
    assert api_page.api_page() == PAGE, "run: aigc build api"


def test_every_public_function_stands_in_its_room_with_its_example() -> None:
    rooms = dict(re.findall(r"^## (aigc_helpers\S*)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for face, name in (parameter.values for parameter in FUNCTIONS):
        assert f"### `{name}`\n" in rooms[face]
    assert PAGE.count("```pycon") > len(rooms)
    assert PAGE.count("```") % 2 == 0


def test_a_definition_is_shown_as_its_source_writes_it(tmp_path) -> None:
    source = (
        "LONG = {}\n@overload\ndef draw(a): ...\n\n@cache\ndef draw(\n    a: int = 1,  # noqa: B008 (why)\n"
        ') -> str:\n    """Draw.\n\n    Args:\n        a: one.\n\n    Example:\n        >>> 1\n\n        1\n    """\n'
        'class Box:\n    """Hold."""\n    def _own(self):\n        """No."""\n    def open(self) -> None:\n'
        '        """Open it.\n\n        At length.\n        """\n'
    ).replace("{}", repr({"key": "x" * 100}))
    path = tmp_path / "module.py"
    path.write_text(source, encoding="utf-8")
    drawn = "```python\n@cache\ndef draw(\n    a: int = 1,\n) -> str\n```\n\nDraw.\n\n**Args**\n\n- `a`: one.\n\n"
    assert api_page._entry("draw", path) == (f"### `draw`\n\n{drawn}**Example**\n\n```pycon\n>>> 1\n\n1\n```\n")
    assert api_page._entry("LONG", path) == "### `LONG`\n\n```python\nLONG = ...\n```\n"
    box = api_page._entry("Box", path)
    assert "class Box\n" in box and "def open(self) -> None\n```\n\nOpen it." in box
    assert "_own" not in box and "At length" not in box
    with pytest.raises(api_page.ReaderError, match="does not define other"):
        api_page._entry("other", path)
