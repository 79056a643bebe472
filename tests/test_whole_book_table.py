"""One table for the whole book: every task is in it, each figure has an interval, and the command measures it again."""

from __future__ import annotations

import json

import pytest

from aigc_helpers.cli import main
from aigc_helpers.evaluation import format_book, whole_book
from aigc_helpers.paths import DATA

STORED = DATA / "results" / "whole_book.json"
TASKS = {"film reviews", "poems", "pictures", "translation"}
FIELDS = {"task", "measure", "model", "adapter", "base", "tuned", "sample", "seed"}
GAINS = ("accuracy", "with the tune", "in sepia", "BLEU, prices")  # The others tell what must not be lost.


@pytest.fixture(scope="module")
def stored() -> list[dict]:
    return json.loads(STORED.read_text(encoding="utf-8"))


def check_rows(rows: list[dict]) -> None:
    assert {row["task"] for row in rows} == TASKS
    for row in rows:
        assert set(row) == FIELDS
        assert (DATA.parent / row["adapter"]).exists()
        for figure in (row["base"], row["tuned"]):
            assert figure["low"] <= figure["mean"] <= figure["high"]


def test_what_is_stored_is_whole(stored: list[dict]) -> None:
    check_rows(stored)
    assert len({(row["task"], row["measure"]) for row in stored}) == len(stored)


def test_every_adapter_does_what_it_was_trained_for(stored: list[dict]) -> None:
    gains = [row for row in stored if row["measure"].startswith(GAINS)]
    assert {row["task"] for row in gains} == TASKS
    for row in gains:
        assert row["tuned"]["low"] > row["base"]["high"], row


def test_the_table_has_a_line_per_row_and_shows_intervals_and_sizes() -> None:
    share, score = ({"mean": high / 2, "low": 0.0, "high": high} for high in (0.5, 0.6))
    about = {"task": "poems", "sample": 1000, "seed": 3}
    rows = [
        {**about, "measure": "in form", "base": share, "tuned": share},
        {**about, "measure": "BLEU, prices", "base": score, "tuned": score},
    ]
    header, line, bleu = format_book(rows).splitlines()
    assert header.split() == ["task", "measure", "base", "tuned", "sample", "seed"]
    assert "0.250 [0.000, 0.500]" in line and line.endswith("1,000   3")
    assert "0.3 [0.0, 0.6]" in bleu


@pytest.mark.slow
def test_the_command_measures_every_row(stored: list[dict], monkeypatch, capsys) -> None:
    for size in ("_POEMS", "_PICTURES", "_PAIRS"):
        monkeypatch.setattr(whole_book, size, 12)
    assert main(["evaluate", "book", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    check_rows(rows)
    assert [(row["task"], row["measure"]) for row in rows] == [(row["task"], row["measure"]) for row in stored]
