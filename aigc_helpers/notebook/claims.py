"""Claims of articles, each put to yes-or-no questions by a test that runs, and the table of what came out.

A test answers every question as the claim would have it answered: all yes, and the claim is true; some yes, and it is
half true; none, and it is false. A claim that nobody has tested, or a test that raises, stops the chapter.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.notebook.checks import FAILED, NOT_BINDING, fail, record
from aigc_helpers.notebook.content import content_module
from aigc_helpers.notebook.exercises import Text
from aigc_helpers.profile import current_profile

TRUE, HALF_TRUE, FALSE = "true", "half true", "false"
IN_CHINESE = {TRUE: "对", HALF_TRUE: "对一半", FALSE: "错"}

Answers = Mapping[str, bool]


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        number: counts from 1.
        said: as articles put it.
        verdict: what the test is known to find on the embedded profile.
        right: what is right, in a sentence or two.
    """

    number: int
    said: Text
    verdict: str
    right: Text


@dataclass(frozen=True)
class TestedClaim:
    """A claim with what its test found.

    Attributes:
        claim: what was tested.
        answers: whether the claim is right, question by question.
    """

    __test__ = False  # pytest would collect it by its name.

    claim: Claim
    answers: Answers

    @property
    def verdict(self) -> str:
        """``"true"``, ``"half true"`` or ``"false"``, from the answers alone."""
        return verdict_of(self.answers)


def verdict_of(answers: Answers) -> str:
    """Return what the answers make of a claim.

    Raises:
        ReaderError: there is no answer.
    """
    if not answers:
        raise ReaderError("a claim needs at least one question, and none was answered.")
    if all(answers.values()):
        return TRUE
    return HALF_TRUE if any(answers.values()) else FALSE


def runs(call: Callable[[], object], *unless: str) -> bool:
    """Tell whether a call runs, or fails as it is known to fail; then the known part of the message is printed.

    Args:
        call: without arguments.
        unless: a part of the error's message; several, where the releases of a library put it differently. An error
            with none of them is raised: it is not the one that was meant.

    Example:
        >>> from peft import LoraConfig
        >>> runs(lambda: LoraConfig(rank=8), "unexpected keyword argument 'rank'")
            TypeError: … unexpected keyword argument 'rank'...
        False
        >>> runs(lambda: LoraConfig(r=8))
        True
    """
    try:
        call()
    except Exception as error:
        message = str(error)
        known = next((part for part in unless if part in message), None)
        if known is None:
            raise
        before, _, after = message.partition(known)
        print(f"    {type(error).__name__}: {'… ' if before else ''}{known}{' …' if after else ''}")
        return False
    return True


def claims_of_chapter(number: str) -> list[Claim]:
    """Return the claims of chapter ``"15"``, or an empty list if the chapter has none.

    Raises:
        ReaderError: the package is installed without the checkout that holds the chapters.

    Example:
        >>> claims = claims_of_chapter("15")
        >>> claims[0].number, claims[0].verdict in ("true", "half true", "false")
        (1, True)
        >>> claims_of_chapter("00")
        []
    """
    module = content_module("claims", number)
    return list(module.CLAIMS) if module else []


class Claims:
    """The claims of a chapter, and what has come out so far.

    Attributes:
        tested: by number, in the order of the tests.
    """

    def __init__(self, claims: Sequence[Claim]) -> None:
        """Take the claims that are to be tested, each number once."""
        self._claims = {claim.number: claim for claim in claims}
        self.tested: dict[int, TestedClaim] = {}

    def test(self, number: int) -> Callable[[Callable[[], Answers]], Callable[[], Answers]]:
        """Make a decorator that runs the function below it at once, and prints what it answered.

        Raises:
            UnknownNameError: there is no claim of that number.
        """
        if number not in self._claims:
            raise UnknownNameError("claim", str(number), [str(each) for each in self._claims])
        claim = self._claims[number]

        def run(function: Callable[[], Answers]) -> Callable[[], Answers]:
            self.tested.pop(number, None)  # A test that fails now must not count as the one that passed before.
            print(f"claim {number} / 说法 {number}")
            found = TestedClaim(claim, dict(function()))
            for question, answer in found.answers.items():
                print(f"    {'yes' if answer else 'no '}  {question}")
            _compare(found)
            self.tested[number] = found
            return function

        return run

    def check_all(self) -> None:
        """Check that every claim has been tested.

        Raises:
            AssertionError: one has not.
        """
        missing = sorted(set(self._claims) - set(self.tested))
        if missing:
            raise AssertionError(f"{FAILED} not tested: claim {', '.join(map(str, missing))}")

    def count(self, verdict: str) -> int:
        """Return how many of the tested claims have this verdict."""
        return sum(found.verdict == verdict for found in self.tested.values())

    def __repr__(self) -> str:
        """Return the table as text, one line per claim, in English."""
        return "\n".join(
            f"{number:2} {found.verdict:9} {found.claim.said.en}" for number, found in sorted(self.tested.items())
        )

    def _repr_html_(self) -> str:
        """Return the table as Jupyter shows it, in both languages."""
        widths = {"": 4, "claim / 说法": 28, "verdict / 结论": 10, "seen / 所见": 28, "right / 正确的说法": 30}
        heads = "".join(f'<th style="width:{width}%;text-align:left">{head}</th>' for head, width in widths.items())
        rows = "".join(_row(found) for _, found in sorted(self.tested.items()))
        # Columns of fixed widths: long names of functions would make the table wider than the page.
        return f'<table style="table-layout:fixed;width:100%"><tr>{heads}</tr>{rows}</table>'


def _compare(found: TestedClaim) -> None:
    stored = found.claim.verdict
    print(f"  → {found.verdict} / {IN_CHINESE[found.verdict]}")
    binding = current_profile().name == "embedded"
    record(f"claim {found.claim.number}", found.verdict == stored or not binding)
    if found.verdict == stored:
        return
    if binding:
        fail(f"claim {found.claim.number} is {found.verdict} here, and was {stored}")
    else:
        print(f"  {NOT_BINDING} on the embedded profile: {stored}")


def _row(found: TestedClaim) -> str:
    claim = found.claim
    seen = "<br>".join(f"{'yes' if answer else 'no'}: {_escaped(said)}" for said, answer in found.answers.items())
    verdict = f"{found.verdict}<br>{IN_CHINESE[found.verdict]}"
    fields = (str(claim.number), _both(claim.said), verdict, seen, _both(claim.right))
    style = "text-align:left;vertical-align:top;overflow-wrap:anywhere"
    cells = "".join(f'<td style="{style}">{field}</td>' for field in fields)
    return f"<tr>{cells}</tr>"


def _both(text: Text) -> str:
    return "<br>".join(_escaped(one) for one in dict.fromkeys((text.en, text.zh)))


def _escaped(text: str) -> str:
    """Return text as HTML; pairs of backticks become code."""
    parts = html.escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
