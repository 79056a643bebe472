"""The rooms of the house import each other in one direction only; else a change anywhere can break anything.

The table is the design. An import that it does not admit is a decision to be made here, not by accident.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from aigc_helpers.paths import REPOSITORY

PACKAGE = REPOSITORY / "aigc_helpers"

# Everybody may import these: they know nothing of the rest.
EVERYWHERE = {
    "arguments",
    "bounded_json",
    "errors",
    "files",
    "lazy",
    "paths",
    "profile",
    "project",
    "quiet",
    "terminal",
}

MAY_IMPORT: dict[str, set[str]] = {
    "arguments": {"errors"},
    "bounded_json": set(),
    "errors": {"terminal"},
    "files": {"errors"},
    "paths": {"errors", "project"},
    "profile": {"errors"},
    "project": {"errors"},
    "lazy": set(),
    "quiet": set(),
    "terminal": set(),
    "figures": set(),
    "versions": set(),
    "compat": set(),
    "colab": {"versions"},
    "preflight": {"store", "versions", "colab"},
    "formats": set(),
    "inspection": {"formats"},
    "store": {"formats", "inspection"},
    "lora": {"compat", "formats", "inspection"},
    "training": {"compat"},
    "text": {"compat", "inspection", "lora", "store", "training"},
    "images": {"compat", "lora", "store", "training"},
    "metrics": {"compat"},
    "evaluation": {"compat", "images", "lora", "metrics", "store", "text"},
    "generation": {"images", "text"},
    "notebook": {"colab", "figures", "store", "versions"},
    "panels": {
        "evaluation",
        "figures",
        "images",
        "inspection",
        "lora",
        "metrics",
        "notebook",
        "store",
        "text",
        "training",
    },
    "publishing": {"compat", "notebook"},
    "pretrain": {"evaluation", "figures", "images", "lora", "metrics", "store", "text", "training"},
}
ROOMS = sorted(path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        rooms |= {name.split(".")[1] for name in names if name.startswith("aigc_helpers.")}
    return rooms


def test_every_room_has_its_line_in_the_table() -> None:
    assert set(ROOMS) - {"__init__", "cli"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    admitted = MAY_IMPORT[room] | {room} | (EVERYWHERE if room not in EVERYWHERE else set())
    paths = sorted((PACKAGE / room).rglob("*.py")) if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]
    for path in paths:
        unexpected = imported_rooms(path) - admitted
        assert not unexpected, f"{path.relative_to(REPOSITORY)} imports {sorted(unexpected)}, which {room} may not"


def test_the_table_itself_has_no_circle() -> None:
    open_rooms = {room: set(below) for room, below in MAY_IMPORT.items()}
    while open_rooms:
        free = [room for room, below in open_rooms.items() if not below & set(open_rooms)]
        assert free, f"these import each other: {sorted(open_rooms)}"
        for room in free:
            del open_rooms[room]
