"""Every command that the README and CONTRIBUTING show exists, with the options shown.

A renamed command leaves its old name in the prose, where the first one to notice is a newcomer.
"""

from __future__ import annotations

import ast
import re
import shlex

import pytest

from aigc_helpers.cli import main
from aigc_helpers.paths import REPOSITORY

PAGES = ("README.md", "CONTRIBUTING.md")
PROGRAMS = (("aigc",), ("python", "workbook.py"))
_PROGRAM = "|".join(re.escape(" ".join(program)) for program in PROGRAMS)
# On a line of its own, indented or fenced; or as code within a sentence.
_COMMAND = re.compile(rf"^\s*((?:{_PROGRAM}) .+)$|`((?:{_PROGRAM}) [^`\n]+)`", re.MULTILINE)


def commands(page: str) -> list[tuple[str, ...]]:
    """Return the words of each command line in the page's code, comments left out."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    found = (line or inline for line, inline in _COMMAND.findall(text))
    return list(dict.fromkeys(tuple(shlex.split(command, comments=True)) for command in found))


SHOWN = [(page, words) for page in PAGES for words in commands(page)]


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return capsys.readouterr().out


def subcommands(help_text: str) -> set[str]:
    return set(re.findall(r"^ {4}(\w+)", help_text, re.MULTILINE))


def of_the_bootstrap_alone(known: set[str]) -> set[str]:
    """Return what workbook.py does itself: its docstring lists that beside the commands that it hands on."""
    docstring = ast.get_docstring(ast.parse((REPOSITORY / "workbook.py").read_text(encoding="utf-8")))
    return set(re.findall(r"^ +python workbook\.py (\w+)", docstring, re.MULTILINE)) - known


@pytest.mark.parametrize("page", PAGES)
def test_the_page_shows_commands(page: str) -> None:
    assert {words[: len(program)] for words in commands(page) for program in PROGRAMS} >= set(PROGRAMS)


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=[f"{page}: {' '.join(words)}" for page, words in SHOWN])
def test_a_command_exists_with_its_options(
    page: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    known = subcommands(help_of(capsys))
    own = of_the_bootstrap_alone(known) if words[0] == "python" else set()
    name, *rest = words[1:] if words[0] == "aigc" else words[2:]
    assert name in known | own, f"{page} shows {shlex.join(words)}, and there is no {name!r}"
    if name in own:
        return  # The rest is pytest's.
    explained = help_of(capsys, name)
    if rest and rest[0] in subcommands(explained):
        explained = help_of(capsys, name, rest[0])
    for option in (word for word in rest if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", explained), f"{name} has no {option}"
