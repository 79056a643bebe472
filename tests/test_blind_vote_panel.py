"""A vote is blind only if order and sides are random and nothing shown gives them away; and each must count right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.errors import ReaderError
from aigc_helpers.panels.blind_vote import EQUAL, LEFT, RIGHT, BlindVotePanel, Trial, blind_trials

COUNT = 40
TITLES = [f"prompt {number}" for number in range(COUNT)]
CANDIDATES, OTHERS = ([f"{name}{number}" for number in range(COUNT)] for name in "ab")


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, COUNT))
def test_every_pair_comes_once_and_the_candidate_stands_where_it_is_said_to(seed: int, count: int) -> None:
    trials = blind_trials(TITLES[:count], CANDIDATES[:count], OTHERS[:count], seed)
    assert sorted(trial.number for trial in trials) == list(range(count))
    for trial in trials:
        pair = {trial.candidate: CANDIDATES[trial.number], _other(trial.candidate): OTHERS[trial.number]}
        assert (trial.left, trial.right) == (pair[LEFT], pair[RIGHT])
        assert trial.title == TITLES[trial.number]


def test_order_and_sides_follow_the_seed_and_neither_side_is_favoured() -> None:
    trials = blind_trials(TITLES, CANDIDATES, OTHERS, 0)
    assert trials == blind_trials(TITLES, CANDIDATES, OTHERS, 0) != blind_trials(TITLES, CANDIDATES, OTHERS, 1)
    sides = [trial.candidate for seed in range(20) for trial in blind_trials(TITLES, CANDIDATES, OTHERS, seed)]
    assert 0.45 < sides.count(LEFT) / len(sides) < 0.55
    assert [trial.number for trial in trials] != list(range(COUNT))


@pytest.mark.parametrize("lists", [([], [], []), (["one"], ["a"], []), (["one", "two"], ["a"], ["b"])])
def test_pairs_that_are_none_are_refused(lists: tuple[list[str], ...]) -> None:
    with pytest.raises(ReaderError, match="one of each per pair"):
        blind_trials(*lists, seed=0)


def test_the_side_that_is_clicked_is_turned_into_a_vote() -> None:
    trial = Trial(0, "prompt", "x", "y", candidate=RIGHT)
    assert [trial.vote(choice) for choice in (LEFT, RIGHT, EQUAL)] == ["loss", "win", "tie"]


def test_who_always_clicks_the_better_side_gives_the_candidate_every_vote() -> None:
    panel = BlindVotePanel(blind_trials(TITLES[:8], CANDIDATES[:8], OTHERS[:8], 3), "guidance <4>", "guidance 1")
    for trial in panel.trials:
        assert "guidance" not in panel.view.value  # Blind until the end.
        assert trial.title in panel.view.value
        panel.buttons[trial.candidate].click()
    assert panel.votes == ["win"] * 8
    assert "8 won" in panel.view.value and "1.000 [0.676, 1.000]" in panel.view.value
    assert "guidance &lt;4&gt;" in panel.view.value
    assert all(button.disabled for button in panel.buttons.values())
    panel.buttons[LEFT].click()
    assert len(panel.votes) == 8


def test_nothing_but_ties_has_no_win_rate() -> None:
    panel = BlindVotePanel(blind_trials(TITLES[:2], CANDIDATES[:2], OTHERS[:2], 0), "a", "b")
    for _ in range(2):
        panel.buttons[EQUAL].click()
    assert "no win rate" in panel.view.value


def _other(side: str) -> str:
    return RIGHT if side == LEFT else LEFT
