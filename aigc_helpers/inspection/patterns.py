"""Regular expressions that stand in a file: matched as PEFT matches them, and never for longer than a few seconds.

An adapter's settings name layers by regular expressions, and whoever wrote the file wrote those, too. ``(a+)+$`` on a
name of thirty letters takes Python's ``re`` hours, and ``re`` cannot be interrupted from within. Plain names, which is
what PEFT and diffusers write by themselves, are matched here; everything else in a child process with a deadline. So
every expression that PEFT takes is taken, with ``re``'s own meaning, and no list of forbidden symbols has to be right.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.formats import quoted

LONGEST = 1_000  # Characters of one expression; a layer's name has about a hundred.
_MOST = 20_000  # Expressions; no model has more layers than that.
SECONDS = 5  # Of computing; a file's own patterns take thousandths.
_PATIENCE = 60  # Seconds by the clock, for a machine that is busy with other things or cannot count the former.

# Letters, digits, dots, escaped punctuation, and marks of beginning and end: nothing in it repeats.
_PLAIN = re.compile(r"\^?(?:[\w.-]|\\[.\-_])*\$?")
_MATCHED_HERE = 300_000_000  # Characters of names times expressions: about a second.
_CHILD = """
import json, re, sys, warnings
warnings.simplefilter("ignore")
patterns, names, whole, seconds = json.load(sys.stdin)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
except (ImportError, ValueError, OSError):
    pass  # Windows has no such limit; whoever waits has a clock.
compiled = []
for number, pattern in enumerate(patterns):
    try:
        compiled.append(re.compile(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        json.dump({"broken": number, "because": str(error)[:100]}, sys.stdout)
        raise SystemExit
find = [one.fullmatch if whole else one.match for one in compiled]
found = [next((number for number, matches in enumerate(find) if matches(name)), None) for name in names]
json.dump({"found": found}, sys.stdout)
"""


def first_matches(
    patterns: Sequence[str], names: Sequence[str], source: object, form: str = "{}", *, whole: bool = False
) -> list[int | None]:
    """Return for each name the number of the first pattern that matches it, or None.

    Args:
        patterns: regular expressions, as they stand in a file.
        names: of layers.
        source: the file, for the message.
        form: the expression around each pattern, with ``{}`` in its place.
        whole: match the whole name (``re.fullmatch``), not its beginning (``re.match``).

    Raises:
        ReaderError: a pattern is no regular expression, is longer than ``LONGEST``, or has not been matched after
            ``SECONDS`` seconds of computing; or there are more than layers in any model.

    Example:
        >>> first_matches(["value", "query"], ["layer.0.query", "layer.0.key"], "a file", r"(.*\\.)?({})$")
        [1, None]
    """
    if len(patterns) > _MOST:
        raise ReaderError(
            f"{source} holds {len(patterns):,} regular expressions for layers, and no model has more than {_MOST:,} "
            "layers. Tell its author."
        )
    for pattern in patterns:
        if len(pattern) > LONGEST:
            raise ReaderError(
                f"{source} holds a regular expression of {len(pattern):,} characters, which begins "
                f"{quoted(pattern[:40])}. None is needed that is longer than {LONGEST:,}: write the layers' names."
            )
    answer = _first_matches(tuple(patterns), tuple(names), str(source), form, whole)
    if isinstance(answer, str):
        raise ReaderError(answer)
    return list(answer)


def is_plain(pattern: str) -> bool:
    """Return whether a pattern is a name: nothing in it repeats or chooses, so that matching it takes no time."""
    return len(pattern) <= LONGEST and bool(_PLAIN.fullmatch(pattern))


@lru_cache(maxsize=64)  # A report looks at the same settings several times; a refusal is not waited for twice.
def _first_matches(
    patterns: tuple[str, ...], names: tuple[str, ...], source: str, form: str, whole: bool
) -> tuple[int | None, ...] | str:
    if not patterns or not names:
        return (None,) * len(names)
    expressions = [form.replace("{}", pattern) for pattern in patterns]
    work = len(patterns) * sum(map(len, names))
    if work > _MATCHED_HERE or not all(map(is_plain, patterns)):
        return _match_in_child(patterns, expressions, names, source, whole)
    compiled = [re.compile(expression) for expression in expressions]
    find = [one.fullmatch if whole else one.match for one in compiled]
    return tuple(next((number for number, matches in enumerate(find) if matches(name)), None) for name in names)


def _match_in_child(
    patterns: Sequence[str], expressions: Sequence[str], names: Sequence[str], source: str, whole: bool
) -> tuple[int | None, ...] | str:
    """Return what ``first_matches`` returns, or the sentence that refuses the patterns."""
    try:
        # -I and -S: nothing of the folder or of the installed packages is imported.
        finished = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=json.dumps([expressions, names, whole, SECONDS]),
            capture_output=True,
            text=True,
            encoding="ascii",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _too_long(patterns, names, source)
    except OSError as error:
        return f"the regular expressions in {source} need a second Python, and none starts ({first_line(error)})."
    if finished.returncode < 0:  # Ended by the limit, or by whoever guards the machine's memory.
        return _too_long(patterns, names, source)
    answer = json.loads(finished.stdout)
    if "broken" in answer:
        return (
            f"{source} holds {quoted(patterns[answer['broken']])}, which is no regular expression "
            f"({answer['because']}). Mend it, or write the names of the layers in its place."
        )
    return tuple(answer["found"])


def _too_long(patterns: Sequence[str], names: Sequence[str], source: str) -> str:
    return (
        f"{source} holds regular expressions that had not been matched with its {len(names)} layers after {SECONDS} "
        f"seconds; the longest is {quoted(max(patterns, key=len))}. Such a file can be an attack. If you trust it, "
        "write the names of the layers in their place."
    )
