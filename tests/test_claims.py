"""Chapter 15 tests what it says: a claim without a test, or with another result than is printed, stops the chapter.

A table of "what is right" that nothing runs is one more article.
"""

from __future__ import annotations

import re

import nbformat
import pytest

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.notebook import FALSE, HALF_TRUE, TRUE, Claim, Claims, Text, claims_of_chapter, runs
from aigc_helpers.notebook.claims import verdict_of
from aigc_helpers.paths import CHAPTERS
from aigc_helpers.profile import Profile
from aigc_helpers.publishing.source import MarkdownPair, find_chapter, read_chapter

CLAIMS = claims_of_chapter("15")
LEAST_CLAIMS = 25
CHAPTER = read_chapter(find_chapter("15"))


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    set_profile(monkeypatch, "embedded")


def set_profile(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    profile = Profile(name=name, device="cpu", dtype_name="float32")
    monkeypatch.setattr("aigc_helpers.notebook.claims.current_profile", lambda: profile)


def some_claims() -> Claims:
    said = [("one `a < b`", FALSE), ("two", HALF_TRUE)]
    return Claims([Claim(n, Text(en, f"说 {n}"), verdict, Text("so", "对")) for n, (en, verdict) in enumerate(said, 1)])


def test_yes_to_all_is_true_to_some_half_true_to_none_false() -> None:
    assert verdict_of({"a": True, "b": True}) == TRUE
    assert verdict_of({"a": True, "b": False}) == HALF_TRUE
    assert verdict_of({"a": False}) == FALSE
    with pytest.raises(ReaderError, match="at least one question"):
        verdict_of({})


def test_a_test_runs_at_once_and_says_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    claims = some_claims()

    @claims.test(2)
    def function() -> dict[str, bool]:
        return {"here": True, "there": False}

    assert capsys.readouterr().out.splitlines() == [
        "claim 2 / 说法 2",
        "    yes  here",
        "    no   there",
        "  → half true / 对一半",
    ]
    assert claims.tested[2].answers == {"here": True, "there": False} == function()
    assert claims.count(HALF_TRUE) == 1 and claims.count(FALSE) == 0


def test_another_verdict_than_the_known_one_stops_the_chapter() -> None:
    claims = some_claims()
    with pytest.raises(AssertionError, match="claim 1 is true here, and was false"):
        claims.test(1)(lambda: {"it runs": True})
    assert not claims.tested


def test_on_the_full_profile_another_verdict_is_shown_beside_the_known_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_profile(monkeypatch, "full")
    some_claims().test(1)(lambda: {"it runs": True})
    assert "○ on the embedded profile: false" in capsys.readouterr().out


def test_a_claim_that_nobody_tests_stops_the_chapter() -> None:
    claims = some_claims()
    claims.test(1)(lambda: {"it runs": False})
    with pytest.raises(AssertionError, match="not tested: claim 2"):
        claims.check_all()
    claims.test(2)(lambda: {"here": True, "there": False})
    claims.check_all()


def test_a_test_that_raises_stops_the_chapter_and_does_not_count() -> None:
    claims = some_claims()
    claims.test(1)(lambda: {"it runs": False})
    with pytest.raises(ZeroDivisionError):
        claims.test(1)(lambda: {"it runs": bool(1 / 0)})
    with pytest.raises(AssertionError, match="not tested: claim 1, 2"):
        claims.check_all()


def test_a_number_that_is_no_claim_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="there is no claim '3'. Valid: 1, 2"):
        some_claims().test(3)


def test_only_the_error_that_was_meant_counts_as_not_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert runs(lambda: None, "anything") is True
    assert runs(lambda: int("x"), "invalid literal") is False
    # Releases of a library put the same fault differently.
    assert runs(lambda: int("x"), "of an older release", "invalid literal") is False
    assert capsys.readouterr().out == "    ValueError: invalid literal …\n" * 2
    with pytest.raises(ValueError, match="invalid literal"):
        runs(lambda: int("x"), "out of range")


def test_the_table_shows_both_languages_escaped() -> None:
    claims = some_claims()
    claims.test(1)(lambda: {"a < b": False})
    table = claims._repr_html_()
    assert "one <code>a &lt; b</code><br>说 1" in table and "no: a &lt; b" in table and "false<br>错" in table
    assert repr(claims) == " 1 false     one `a < b`"


def test_there_are_enough_claims_and_not_all_are_false() -> None:
    assert len(CLAIMS) >= LEAST_CLAIMS
    assert [claim.number for claim in CLAIMS] == list(range(1, len(CLAIMS) + 1))
    assert {claim.verdict for claim in CLAIMS} == {TRUE, HALF_TRUE, FALSE}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
def test_each_claim_has_one_test_and_stands_in_the_prose_word_for_word(claim: Claim) -> None:
    decorated = [cell for cell in CHAPTER.code_cells if re.search(rf"^@claim\({claim.number}\)$", cell.source, re.M)]
    assert len(decorated) == 1
    for language in ("en", "zh"):
        prose = " ".join(cell.texts[language] for cell in CHAPTER.cells if isinstance(cell, MarkdownPair))
        assert f"**{claim.number}** · {getattr(claim.said, language)} " in " ".join(prose.split())
    assert re.search("[\u4e00-\u9fff]", claim.right.zh) or claim.right.zh == claim.right.en


def test_the_built_notebook_holds_the_verdict_of_every_claim() -> None:
    notebook = nbformat.read(CHAPTERS / f"{CHAPTER.name}.ipynb", as_version=4)
    printed = "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )
    found = re.findall(r"^claim (\d+) / 说法 \1\n(?:    .*\n)+  → (true|half true|false) / ", printed, re.M)
    assert {int(number): verdict for number, verdict in found} == {claim.number: claim.verdict for claim in CLAIMS}
