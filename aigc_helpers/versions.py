"""Version numbers compared as pip compares them (PEP 440), before ``packaging`` is installed."""

from __future__ import annotations

import re

# Release, phase (alpha, beta, candidate, final), post-release, development release.
VersionKey = tuple[tuple[int, ...], tuple[int, int], tuple[int, int], tuple[int, int]]


def version_key(version: str) -> VersionKey:
    """Return a key by which versions sort as pip sorts them: 5.0.0.dev1, 5.0.0rc1, 5.0.0, 5.0.0.post1, 26.1.

    The local part (``+cpu``) says how a package was built, not how new it is, and is left out.

    Raises:
        ValueError: this is no version number.
    """
    match = _VERSION.fullmatch(version.strip().lower())
    if match is None:
        raise ValueError(f"{version!r} is no version number")
    numbers = [int(number) for number in match["release"].split(".")]
    while numbers and numbers[-1] == 0:  # 5.0 and 5.0.0 are the same version.
        numbers.pop()
    release = (int(match["epoch"] or 0), *numbers)
    is_development = match["development"] is not None
    if match["phase"]:
        phase = (("a", "b", "rc").index(match["phase"]), int(match["phase_number"] or 0))
    elif is_development and match["post"] is None:
        phase = (-1, 0)  # 5.0.dev1 comes before 5.0a1.
    else:
        phase = (_FINAL_PHASE, 0)
    post = (1, int(match["post"] or 0)) if match["post"] is not None else (0, 0)
    development = (0, int(match["development"] or 0)) if is_development else (1, 0)
    return release, phase, post, development


def satisfies(version: str, version_range: str) -> bool:
    """Tell whether ``version`` lies within a range such as ``">=2.10,<3"``; an empty range admits every version.

    Raises:
        ValueError: the version is no version number, or the range uses another operator than ``>=``, ``<``, ``==``.
    """
    found = version_key(version)
    for part in filter(None, (part.strip() for part in version_range.split(","))):
        match = re.fullmatch(r"(>=|<|==)\s*([^\s=*]+)", part)
        if match is None:
            raise ValueError(f"{part!r} is no range this workbook understands (>=, < or == and a version)")
        operator, bound = match[1], version_key(match[2])
        if operator == ">=":
            within = found >= bound
        elif operator == "==":
            within = found == bound
        else:
            # As pip has it: 6.0rc1 is no version "below 6", unless the bound is itself a pre-release.
            leads_up_to_bound = found[0] == bound[0] and _is_prerelease(found) and not _is_prerelease(bound)
            within = found < bound and not leads_up_to_bound
        if not within:
            return False
    return True


_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<phase>a|b|rc)[-_.]?(?P<phase_number>\d*))?"
    r"(?:\.post(?P<post>\d*))?"
    r"(?:\.dev(?P<development>\d*))?"
    r"(?:\+[a-z0-9._-]+)?"
)
_FINAL_PHASE = 3


def _is_prerelease(key: VersionKey) -> bool:
    _, phase, _, development = key
    return phase[0] < _FINAL_PHASE or development[0] == 0
