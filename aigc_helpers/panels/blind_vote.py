"""A panel that asks which of two is better without saying which is which, and counts the votes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ipywidgets import HTML, Button, HBox, VBox

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics import LOSS, TIE, WIN, win_rate
from aigc_helpers.terminal import in_html

LEFT, RIGHT, EQUAL = "left", "right", "equal"
_CHOICES = {LEFT: "Left / 左", EQUAL: "No difference / 分不出", RIGHT: "Right / 右"}


@dataclass(frozen=True)
class Trial:
    """One question.

    Attributes:
        number: of the pair, as it was given.
        title: what both were asked for, said to the voter.
        left: what stands on the left, HTML.
        right: what stands on the right, HTML.
        candidate: ``"left"`` or ``"right"``, not said to the voter.
    """

    number: int
    title: str
    left: str
    right: str
    candidate: str

    def vote(self, choice: str) -> str:
        """Turn ``"left"``, ``"right"`` or ``"equal"`` into ``"win"``, ``"loss"`` or ``"tie"`` of the candidate."""
        if choice == EQUAL:
            return TIE
        return WIN if choice == self.candidate else LOSS


def blind_trials(titles: Sequence[str], candidates: Sequence[str], others: Sequence[str], seed: int) -> list[Trial]:
    """Return the pairs in random order, each with the candidate on a random side.

    Args:
        titles: what both of a pair were asked for.
        candidates: what is on trial, HTML, one per title.
        others: what it is compared with, HTML, one per title.
        seed: of order and sides; the same seed, the same trials.

    Raises:
        ReaderError: there are no pairs, or the counts differ.

    Example:
        >>> trials = blind_trials(["a tiger", "a fox"], ["tiger 1", "fox 1"], ["tiger 2", "fox 2"], seed=0)
        >>> sorted(trial.title for trial in trials)
        ['a fox', 'a tiger']
        >>> trials[0].vote(trials[0].candidate), trials[0].vote("equal")
        ('win', 'tie')
    """
    if not len(titles) == len(candidates) == len(others) or not titles:
        raise ReaderError(
            f"{len(titles)} titles, {len(candidates)} candidates and {len(others)} others: there must be one of each "
            "per pair, and one pair at least."
        )
    generator = random.Random(seed)
    trials = []
    for number in generator.sample(range(len(titles)), len(titles)):
        side = generator.choice((LEFT, RIGHT))
        pair = (candidates[number], others[number])
        left, right = pair if side == LEFT else pair[::-1]
        trials.append(Trial(number, titles[number], left, right, side))
    return trials


class BlindVotePanel(VBox):
    """One pair after the other, three buttons, and the win rate once all votes are in."""

    def __init__(self, trials: Sequence[Trial], candidate: str, other: str) -> None:
        """Show the first trial.

        Args:
            trials: as ``blind_trials`` returns them.
            candidate: the name of what is on trial, said at the end.
            other: the name of what it is compared with.
        """
        self.trials, self.names = list(trials), (candidate, other)
        self.votes: list[str] = []
        self.view = HTML()
        self.buttons = {choice: Button(description=label) for choice, label in _CHOICES.items()}
        for choice, button in self.buttons.items():
            button.on_click(lambda _, choice=choice: self._vote(choice))
        self._show()
        super().__init__([self.view, HBox(list(self.buttons.values()))])

    def _vote(self, choice: str) -> None:
        if len(self.votes) < len(self.trials):  # A click may be under way when the last vote is counted.
            self.votes.append(self.trials[len(self.votes)].vote(choice))
            self._show()

    def _show(self) -> None:
        if len(self.votes) == len(self.trials):
            for button in self.buttons.values():
                button.disabled = True
            self.view.value = self._result()
            return
        trial = self.trials[len(self.votes)]
        self.view.value = (
            f"<p>{len(self.votes) + 1} / {len(self.trials)}: {in_html(trial.title)}</p>"
            f"<table><tr><td>{trial.left}</td><td>{trial.right}</td></tr>"
            "<tr><td>left / 左</td><td>right / 右</td></tr></table>"
        )

    def _result(self) -> str:
        candidate, other = map(in_html, self.names)
        try:
            result = win_rate(self.votes)
        except ReaderError:
            count = len(self.votes)
            return f"<p>All {count} votes are ties: no win rate. / {count} 票全是平局，没有胜率可言。</p>"
        return (
            f"<p><b>{candidate}</b> against / 对 <b>{other}</b>: {result.wins} won / 胜, {result.losses} lost / 负, "
            f"{result.ties} ties / 平<br>win rate / 胜率 {result.rate} (95 %), p = {result.p_value:.3f}</p>"
        )
