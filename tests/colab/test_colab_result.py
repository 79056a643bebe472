"""The stored run on Colab's versions covers the book as it is, and the README says what came out.

The run itself takes hours on two cores, and 6 GB: ``python tests/colab/run_colab.py`` makes it anew, or
``python tests/colab/run_colab.py 05`` that of one chapter.
"""

from __future__ import annotations

import json
import subprocess
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from full_profile_lane import FETCHED

from aigc_helpers.paths import DATA, REPOSITORY
from aigc_helpers.publishing.source import chapter_paths, read_chapter

RERUN = "run: python tests/colab/run_colab.py"
OLDEST = timedelta(days=60)  # between a chapter's run and the last change of its source


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return json.loads((DATA / "results" / "colab.json").read_text(encoding="utf-8"))


def counts(report: dict[str, Any], profile: str) -> tuple[int, int]:
    """Return how many chapters of a profile ran through, and how many were run."""
    verdicts = [each["passed"] for each in report["chapters"] if each["profile"] == profile]
    return sum(verdicts), len(verdicts)


def test_every_chapter_was_run_on_both_profiles(report: dict[str, Any]) -> None:
    chapters = {path.stem: read_chapter(path).number for path in chapter_paths()}
    run = {(each["profile"], each["chapter"]) for each in report["chapters"]}
    wanted = {("embedded", name) for name in chapters}
    wanted |= {("full", name) for name, number in chapters.items() if number in FETCHED}
    assert run == wanted, RERUN


def test_it_was_run_with_colabs_versions(report: dict[str, Any]) -> None:
    pinned = (Path(__file__).parent / "requirements.txt").read_text(encoding="utf-8").split()
    versions = dict(each.split("==") for each in pinned if "==" in each)
    found = {name: report["versions"].get(name, "missing").partition("+")[0] for name in versions}
    assert found == versions, RERUN
    assert report["versions"]["python"].startswith("3.13.")


def test_every_chapter_ran_through(report: dict[str, Any]) -> None:
    assert {each["chapter"]: each["error"] for each in report["chapters"] if not each["passed"]} == {}


def test_nothing_in_it_names_a_folder_of_some_machine(report: dict[str, Any]) -> None:
    text = json.dumps(report)
    assert not any(folder in text for folder in ("/tmp/", "/home/", "/Users/", f"{Path.home()}/"))


def test_the_readme_quotes_it_in_both_languages(report: dict[str, Any]) -> None:
    readme = " ".join((REPOSITORY / "README.md").read_text(encoding="utf-8").split())
    (embedded, of_embedded), (full, of_full) = counts(report, "embedded"), counts(report, "full")
    english = f"{embedded} of {of_embedded} chapters on the embedded profile and {full} of {of_full} on the full one"
    chinese = f"embedded 配置 {of_embedded} 章跑通 {embedded} 章，full 配置 {of_full} 章跑通 {full} 章"
    for sentence in (english, chinese):
        assert sentence in readme
        assert report["date"] in readme[readme.index(sentence) :][:200]


@pytest.mark.slow
@pytest.mark.parametrize("path", chapter_paths(), ids=lambda path: path.stem)
def test_no_chapter_has_changed_long_after_its_run(report: dict[str, Any], path: Path) -> None:
    command = ["git", "-C", str(REPOSITORY), "log", "-1", "--format=%cs", "--", str(path)]
    changed = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if not changed:
        pytest.skip("no history here")
    for each in report["chapters"]:
        if each["chapter"] == path.stem:
            age = date.fromisoformat(changed) - date.fromisoformat(each["date"])
            assert age <= OLDEST, f"{path.stem} was last run on Colab's versions {age.days} days before: {RERUN}"
