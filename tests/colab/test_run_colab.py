"""The run on Colab's versions: a kernel knows nothing of this project but what the set-up cell clones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import run_colab
from nbformat import v4

from aigc_helpers.paths import REPOSITORY
from aigc_helpers.publishing.repository import repository_address

in_a_checkout = pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="there is nothing to clone")


def test_the_kernel_inherits_nothing_of_this_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_PROFILE", "embedded")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    environment = run_colab.colab_environment(tmp_path / "bin" / "python", tmp_path / "book", tmp_path / "home")
    assert "AIGC_PROFILE" not in environment and "HF_HUB_OFFLINE" not in environment
    assert str(REPOSITORY) not in environment["PYTHONPATH"]
    assert environment["PATH"].startswith(str(tmp_path / "bin"))


@in_a_checkout
def test_the_books_address_leads_to_the_last_commit(tmp_path: Path) -> None:
    with run_colab.clone_of_the_book("embedded") as (book, settings):
        environment = run_colab.colab_environment(Path(sys.executable), book, tmp_path) | settings
        target = tmp_path / "clone"
        command = ["git", "clone", "--quiet", "--depth", "1", repository_address(), str(target)]
        subprocess.run(command, env=environment, check=True)
    head = ["git", "rev-parse", "HEAD"]
    commits = {subprocess.run(head, cwd=each, capture_output=True).stdout for each in (target, REPOSITORY)}
    assert len(commits) == 1 and (target / "aigc_helpers" / "notebook" / "setup.py").is_file()


@pytest.mark.slow
@in_a_checkout
def test_on_the_full_profile_the_clone_promises_the_stand_ins_and_nothing_else_is_new(tmp_path: Path) -> None:
    with run_colab.clone_of_the_book("full") as (book, settings):
        changed = ["git", "-C", str(book), "diff", "--name-only", "HEAD~1"]
        (name,) = subprocess.run(changed, capture_output=True, text=True, check=True).stdout.split()
        assert name.endswith("catalog.toml")
        assert settings["AIGC_PROFILE"] == "full" and settings["HF_ENDPOINT"].startswith("http://127.0.0.1:")


def test_google_colab_is_found_through_the_stub() -> None:
    program = "from aigc_helpers.colab import on_colab; print(on_colab())"
    for folders, found in (([run_colab.COLAB / "stubs"], "True"), ([], "False")):
        paths = os.pathsep.join(map(str, [REPOSITORY, *folders]))
        finished = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
        )
        assert finished.stdout.strip() == found, finished.stderr


def test_warnings_are_told_without_folders_of_this_machine_and_progress_bars_are_none(tmp_path: Path) -> None:
    text = (
        f"{tmp_path}/peft/config.py:220: UserWarning: Unexpected keyword\n  warnings.warn(\n"
        "100%|####| 3/3\rWARNING: Location 'file:///x' is ignored\n"
    )
    outputs = [v4.new_output("stream", name="stderr", text=text), v4.new_output("stream", text="a warning on stdout\n")]
    notebook = v4.new_notebook(cells=[v4.new_code_cell("1", outputs=outputs), v4.new_markdown_cell("warning")])
    told = run_colab.warnings_of(notebook, [tmp_path])
    assert told == ["…/peft/config.py:220: UserWarning: Unexpected keyword"]


def test_a_result_takes_the_place_of_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_colab, "RESULTS", tmp_path / "colab.json")
    packages = {"torch==2.11.0+cu128", "a-package==1.0"}
    monkeypatch.setattr(run_colab, "installed_packages", lambda python: packages)
    first = {"profile": "full", "chapter": "05_lora_on_bert", "passed": False, "date": "2026-08-20"}
    for result in (
        first,
        {**first, "passed": True, "date": "2026-09-01"},
        {**first, "profile": "embedded", "date": "2026-08-30"},
        {**first, "chapter": "99_no_longer_there"},
    ):
        run_colab.store(result, Path(sys.executable))
    report = json.loads((tmp_path / "colab.json").read_text(encoding="utf-8"))
    assert [(each["profile"], each["passed"]) for each in report["chapters"]] == [("embedded", False), ("full", True)]
    assert report["date"] == "2026-08-30"
    assert report["versions"] == {"python": ".".join(map(str, sys.version_info[:3])), "torch": "2.11.0+cu128"}
