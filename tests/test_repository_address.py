"""The repository's address stands in one place, pyproject.toml; whatever else names it agrees.

A badge that opens another repository, or a set-up cell that clones one, would be noticed only by readers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aigc_helpers.paths import REPOSITORY
from aigc_helpers.project import repository_address
from aigc_helpers.publishing.repository import BADGE_ALT_TEXT, colab_badge, setup_cell

ROOT = REPOSITORY
NOTEBOOKS = sorted([*ROOT.glob("chapters/*.ipynb"), *ROOT.glob("chapters/zh/*.ipynb")])
IN_COLAB = re.compile(r"https://colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/main/([\w./-]+)")


def cells(path: Path, kind: str) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_the_address_is_pyprojects():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert repository_address() == pyproject["project"]["urls"]["Repository"]


def test_there_is_a_notebook_to_look_at():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_badge_and_setup_cell_of_a_notebook_agree(path: Path):
    language = "zh" if path.parent.name == "zh" else "en"
    assert any(colab_badge(path.stem, language) in text for text in cells(path, "markdown")), "no badge of its own"
    assert cells(path, "code").count(setup_cell()) == 1, "not exactly one set-up cell"


@pytest.mark.parametrize("path", [ROOT / "README.md", *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_colab_link_leads_into_the_repository(path: Path):
    for repository, target in IN_COLAB.findall(path.read_text(encoding="utf-8")):
        assert f"https://github.com/{repository}" == repository_address()
        assert (ROOT / target).is_file(), f"{target} does not exist"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_badge_has_alt_text_and_opens_its_own_language(language: str):
    badge = colab_badge("05_lora_on_bert", language)
    assert badge.startswith(f"[![{BADGE_ALT_TEXT[language]}](")
    assert badge.endswith(f"/blob/main/chapters/{'zh/' if language == 'zh' else ''}05_lora_on_bert.ipynb)")


def test_the_setup_cell_is_short():
    assert len(setup_cell().splitlines()) <= 15
    assert max(map(len, setup_cell().splitlines())) <= 120


# The set-up cell with `prepare` replaced by a line that says where the package was found.
PROBE = setup_cell().replace("from aigc_helpers.notebook import prepare\nprepare()", "print(sys.path[0])")


def run_setup_cell(current: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    # -I and -S: neither the current folder nor an installed package is on the path.
    command = [sys.executable, "-I", "-S", "-c", f"{before}\n{PROBE}"]
    return subprocess.run(command, cwd=current, capture_output=True, text=True, env={**os.environ})


def test_the_setup_cell_walks_up_to_the_repository(tmp_path: Path):
    (tmp_path / "book" / "aigc_helpers").mkdir(parents=True)
    for inside in ("chapters", "chapters/zh"):
        (tmp_path / "book" / inside).mkdir()
        assert run_setup_cell(tmp_path / "book" / inside).stdout.strip() == str(tmp_path / "book")


def test_the_setup_cell_elsewhere_says_what_to_do(tmp_path: Path):
    finished = run_setup_cell(tmp_path)
    assert finished.returncode and "Open this notebook inside the workbook's folder" in finished.stderr


def test_the_setup_cell_clones_on_colab_only_and_once(tmp_path: Path):
    (tmp_path / "modules" / "google" / "colab").mkdir(parents=True)
    pretend = f"""
import subprocess, sys
from pathlib import Path
sys.path.insert(0, {str(tmp_path / "modules")!r})
def clone(command, check):
    print(*command[:-1])
    (Path(command[-1]) / "aigc_helpers").mkdir(parents=True)
subprocess.run = clone
"""
    current = tmp_path / "content"
    current.mkdir()
    found = str(current / repository_address().rsplit("/", 1)[-1])
    first = run_setup_cell(current, pretend)
    assert first.stdout.splitlines() == [f"git clone --depth 1 {repository_address()}", found], first.stderr
    assert run_setup_cell(current, pretend).stdout.splitlines() == [found]


def test_on_colab_only_the_missing_is_installed_and_torch_is_pinned(monkeypatch: pytest.MonkeyPatch):
    from aigc_helpers.notebook import setup

    versions = {"torch": "2.11.0+cu128", "numpy": "2.1.3", "ipywidgets": "7.7.1", "transformers": "1.0"}
    absent = {"evaluate", "ipywidgets"}
    monkeypatch.setattr(setup, "_version", lambda name: None if name in absent else versions.get(name, "1"))
    assert [re.match(r"[\w-]+", each)[0] for each in setup.missing_requirements()] == ["evaluate"]
    seen: list[tuple[list[str], str]] = []

    def run(command: list[str]) -> subprocess.CompletedProcess:
        constraints = Path(command[command.index("--constraint") + 1]).read_text(encoding="utf-8")
        seen.append((command, constraints))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(setup.subprocess, "run", run)
    assert setup.install_missing() == [seen[0][0][-1]]
    assert seen[0][1] == "torch==2.11.0+cu128\nnumpy==2.1.3\n"
    absent.clear()
    assert setup.install_missing() == [] and len(seen) == 1


def test_prepare_reports_and_installs_nothing_outside_colab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    from aigc_helpers.notebook import setup

    monkeypatch.setattr(setup, "install_missing", lambda: pytest.fail("installed something"))
    for name in setup.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    setup.prepare()
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"torch \S+ · transformers \S+ · peft \S+", lines[0])
    assert lines[1].startswith("profile: embedded · ")
    assert {name: os.environ.get(name) for name in setup.ENVIRONMENT} == setup.ENVIRONMENT
