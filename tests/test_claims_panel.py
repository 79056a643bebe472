"""The panel of chapter 15 shows a test's answers only after the guess, and counts the first guess on each claim.

A score that a second look can mend, or that takes one claim's answer for another's, says nothing about the reader.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aigc_helpers.notebook import FALSE, HALF_TRUE, TRUE, Claim, Text
from aigc_helpers.notebook.claims import TestedClaim
from aigc_helpers.panels import ClaimsPanel, claims as panel_module
from aigc_helpers.panels.claims import Score, run


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


def claim_with(number: int, verdict: str, answers: dict[str, bool]) -> TestedClaim:
    said, right = Text(f"`said` <{number}>", f"说 {number}"), Text(f"right {number}", f"对 {number}")
    return TestedClaim(Claim(number, said, verdict, right), answers)


TESTED = {
    3: claim_with(3, TRUE, {"it runs": True}),
    1: claim_with(1, FALSE, {"A < B": False}),
    2: claim_with(2, HALF_TRUE, {"here": True, "there": False}),
}


def test_the_score_counts_right_and_wrong() -> None:
    assert run(TESTED, {}) == Score((), ())
    score = run(TESTED, {2: "half true", 1: "true", 3: "true"})
    assert score == Score(right=(2, 3), wrong=(1,))
    assert str(score) == "2 of 3"


def test_claims_are_offered_in_the_order_of_their_numbers_and_escaped() -> None:
    panel = ClaimsPanel(TESTED)
    assert [number for _, number in panel.number.options] == [1, 2, 3]
    assert "said &lt;1&gt;" in panel.said.value and "说 1" in panel.said.value
    assert panel.answer.value == ""


def test_the_answer_shows_after_the_check_and_goes_with_the_next_claim() -> None:
    panel = ClaimsPanel(TESTED)
    panel.guess.value = "false"
    panel.button.click()
    assert "✓ right" in panel.answer.value and "no: A &lt; B" in panel.answer.value and "right 1" in panel.answer.value
    assert "1 of 1" in panel.score.value
    panel.number.value = 2
    assert panel.answer.value == "" and "说 2" in panel.said.value
    panel.button.click()
    assert "✗" in panel.answer.value and "half true / 对一半" in panel.answer.value
    assert "1 of 2" in panel.score.value


def test_the_first_guess_counts() -> None:
    panel = ClaimsPanel(TESTED)
    for guess in ("true", "false"):
        panel.guess.value = guess
        panel.button.click()
    assert "✓ right" in panel.answer.value
    assert "0 of 1" in panel.score.value and panel.guesses == {1: "true"}


def test_the_panel_knows_every_verdict_that_a_test_can_give() -> None:
    assert set(panel_module.VERDICTS.values()) == {TRUE, HALF_TRUE, FALSE}
