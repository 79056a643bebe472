"""What a room hands out is imported from the room: ``aigc_helpers.lora``, and never from a module inside it.

A longer path tells readers how a room is furnished, and then no piece of furniture can be moved. What stands beside the
rooms, such as ``aigc_helpers.profile``, is such a path itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aigc_helpers.paths import REPOSITORY

PACKAGE = REPOSITORY / "aigc_helpers"
ROOMS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
# They hand nothing out: the command line reads the table of pretrain, whose modules are for nobody else.
WITHOUT_A_FACE = {("cli", "pretrain")}

READERS_PYTHON = [
    *(REPOSITORY / "chapters").glob("*/*.py"),
    *(REPOSITORY / "benchmarks").glob("*.py"),
    REPOSITORY / "hubconf.py",
]
READERS_TEXT = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *(REPOSITORY / "chapters").glob("*.md"),
    *(REPOSITORY / "data").rglob("*.md"),
]
# A dotted name in prose or code, such as `aigc_helpers.lora.merge`; the last part may be what the room hands out.
_DOTTED = re.compile(r"\baigc_helpers(?:\.[A-Za-z_]\w*)+")


def is_module(dotted: str) -> bool:
    path = REPOSITORY.joinpath(*dotted.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def is_long(dotted: str) -> bool:
    """Tell whether the name leads to a module inside a room, or to something in one."""
    parts = dotted.split(".")
    return len(parts) > 2 and parts[1] in ROOMS and is_module(".".join(parts[:3]))


def imported(text: str) -> Iterator[str]:
    """Yield the dotted names that code imports, and those in its strings (programs, patches), docstrings aside."""
    tree = ast.parse(text)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield from _DOTTED.findall(node.value)


def named(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    in_code = list(imported(text)) if path.suffix == ".py" else []
    return in_code + _DOTTED.findall(text)


def test_there_is_something_to_look_at() -> None:
    assert len(READERS_PYTHON) > 30 and len(READERS_TEXT) > 5
    assert {"lora", "store", "notebook", "cli"} <= ROOMS


@pytest.mark.parametrize("path", READERS_PYTHON + READERS_TEXT, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_readers_see_rooms_and_no_modules_inside_them(path: Path) -> None:
    long = sorted({name for name in named(path) if is_long(name)})
    assert not long, f"{path.relative_to(REPOSITORY)} names {', '.join(long)}: take it from its room"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_takes_names_from_other_rooms_and_no_modules(room: str) -> None:
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for name in imported(path.read_text(encoding="utf-8")):
            other = name.split(".")[1] if "." in name else room
            if other != room and (room, other) not in WITHOUT_A_FACE:
                assert not is_long(name), f"{path.relative_to(REPOSITORY)} names {name}: take it from its room"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_what_stands_beside_the_rooms_does_so_too(path: Path) -> None:
    for name in imported(path.read_text(encoding="utf-8")):
        assert not is_long(name), f"{path.name} names {name}: take it from its room"


@pytest.mark.parametrize(
    ("code", "long"),
    [
        ("from aigc_helpers.lora import merge", False),
        ("from aigc_helpers.profile import choose_profile", False),
        ("import aigc_helpers.lora", False),
        ("from aigc_helpers.lora.merging import merge", True),
        ("from aigc_helpers.lora import merging", True),
        ("import aigc_helpers.lora.merging", True),
        ("program = 'import sys; from aigc_helpers.lora.merging import merge'", True),
        ("setattr_('aigc_helpers.profile.current_profile')", False),
    ],
)
def test_a_long_path_is_recognised(code: str, long: bool) -> None:
    assert any(map(is_long, imported(code))) is long
