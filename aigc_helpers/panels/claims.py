"""A panel that asks for a verdict on each tested claim before it shows the test's answers, and keeps the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ipywidgets import HTML, Button, Dropdown, ToggleButtons, VBox

from aigc_helpers.terminal import in_html

VERDICTS = {"true / 对": "true", "half true / 对一半": "half true", "false / 错": "false"}
_LONGEST = 70  # Characters of a claim in the list.


class InBothLanguages(Protocol):
    """A text in English and Chinese."""

    en: str
    zh: str


class Claim(Protocol):
    """What an article says, and what is right."""

    said: InBothLanguages
    right: InBothLanguages


class Tested(Protocol):
    """A claim with what its test answered, question by question, and the verdict that follows."""

    claim: Claim
    answers: Mapping[str, bool]
    verdict: str


@dataclass(frozen=True)
class Score:
    """How a reader did: the numbers of the claims judged rightly, and of those judged wrongly, in the order given."""

    right: tuple[int, ...]
    wrong: tuple[int, ...]

    def __str__(self) -> str:
        """Format as ``3 of 5``."""
        return f"{len(self.right)} of {len(self.right) + len(self.wrong)}"


def run(tested: Mapping[int, Tested], guesses: Mapping[int, str]) -> Score:
    """Compare the reader's verdicts with those of the tests.

    Args:
        tested: by number.
        guesses: ``"true"``, ``"half true"`` or ``"false"`` by the number of the claim; claims may be left out.
    """
    right = tuple(number for number, guess in guesses.items() if tested[number].verdict == guess)
    return Score(right, tuple(number for number in guesses if number not in right))


class ClaimsPanel(VBox):
    """A list of claims, three verdicts to choose from, a button; the first guess on each claim counts."""

    def __init__(self, tested: Mapping[int, Tested]) -> None:
        """Show the panel for the claims in the order of their numbers; there is at least one."""
        self.tested = dict(sorted(tested.items()))
        self.guesses: dict[int, str] = {}
        options = [(f"{number} · {_short(one.claim.said.en)}", number) for number, one in self.tested.items()]
        self.number = Dropdown(options=options, description="claim / 说法", layout={"width": "640px"})
        self.said, self.answer, self.score = HTML(), HTML(), HTML()
        self.guess = ToggleButtons(options=list(VERDICTS.items()), value="false", description="guess / 你猜")
        self.button = Button(description="Check / 核对", button_style="primary")
        self.number.observe(lambda _: self._choose(), names="value")
        self.button.on_click(lambda _: self._check())
        self._choose()
        super().__init__([self.number, self.said, self.guess, self.button, self.answer, self.score])

    def _choose(self) -> None:
        said = self.tested[self.number.value].claim.said
        self.said.value = f"<p><b>{_both(said)}</b></p>"
        self.answer.value = ""

    def _check(self) -> None:
        number = self.number.value
        self.guesses.setdefault(number, self.guess.value)
        found = self.tested[number]
        hit = "✓ right / 猜对了" if found.verdict == self.guess.value else "✗ not quite / 没猜对"
        in_words = next(words for words, verdict in VERDICTS.items() if verdict == found.verdict)
        seen = "".join(
            f"<li>{'yes' if is_so else 'no'}: {_escaped(said)}</li>" for said, is_so in found.answers.items()
        )
        self.answer.value = (
            f"<p>{hit}: {in_words}</p><ul>{seen}</ul><p>right / 正确的说法：<br>{_both(found.claim.right)}</p>"
        )
        self.score.value = f"<p>score / 得分：{run(self.tested, self.guesses)}</p>"


def _short(text: str) -> str:
    text = text.replace("`", "")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _both(text: InBothLanguages) -> str:
    return "<br>".join(_escaped(one) for one in dict.fromkeys((text.en, text.zh)))


def _escaped(text: str) -> str:
    return in_html(text).replace("`", "")
