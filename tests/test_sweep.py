"""A sweep that is stopped loses no finished run, runs none twice, and ends with the rows of one that never stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aigc_helpers.errors import ReaderError
from aigc_helpers.training import run_sweep

JOBS = [{"temperature": temperature, "tune": "浣溪沙"} for temperature in (0.5, 0.9, 1.4)]


def measured(temperature: float, tune: str) -> dict[str, float]:
    return {"share": temperature / 2, "characters": len(tune)}


def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = run_sweep(tmp_path / "whole.jsonl", JOBS, measured)
    ran = []

    def interrupted(temperature: float, tune: str) -> dict[str, float]:
        ran.append(temperature)
        if ran == [0.5, 0.9]:
            raise KeyboardInterrupt
        return measured(temperature, tune)

    stopped = tmp_path / "stopped.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(stopped, JOBS, interrupted)
    assert len(stopped.read_text().splitlines()) == 1
    with stopped.open("a") as opened:
        opened.write('{"temperature": 0.9, "sha')  # A kill in the middle of a line.
    assert run_sweep(stopped, JOBS, interrupted) == whole
    assert ran == [0.5, 0.9, 0.9, 1.4]
    assert [json.loads(line) for line in stopped.read_text(encoding="utf-8").splitlines()] == whole
    assert run_sweep(stopped, JOBS[::-1], interrupted) == whole[::-1] and len(ran) == 4


def test_the_bar_counts_what_was_done_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_sweep(tmp_path / "sweep.jsonl", JOBS[:2], measured)
    capsys.readouterr()
    run_sweep(tmp_path / "sweep.jsonl", JOBS, measured)
    assert "2/3" in capsys.readouterr().err


def test_a_sweep_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="no runs"):
        run_sweep(tmp_path / "sweep.jsonl", [], measured)
    assert not (tmp_path / "sweep.jsonl").exists()
