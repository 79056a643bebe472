"""The project itself: the checkout that this package lies in, if any, and what the project says it needs.

Only the standard library is used, and tomllib only where it exists: the doctor asks this on a bare or an old Python.
"""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from aigc_helpers.errors import ReaderError

DISTRIBUTION = "aigc-workbook"


@dataclass(frozen=True)
class Requirement:
    """A package and the range of its versions, ``">=1.14,<2"``."""

    package: str
    version_range: str

    def __str__(self) -> str:
        """Write it as pip reads it."""
        return f"{self.package}{self.version_range}"


@dataclass(frozen=True)
class Project:
    """What the project says of itself.

    Attributes:
        version: of the workbook, such as ``"0.1.0"``; empty where the metadata has none.
        requires_python: the range of Python versions.
        dependencies: what the package needs.
        book: what opening and building the chapters needs besides.
        repository: the address of the repository on the web; empty where none is named.
    """

    version: str
    requires_python: str
    dependencies: list[Requirement]
    book: list[Requirement]
    repository: str


def find_checkout() -> Path | None:
    """Return the checkout that this package lies in; None where the package alone was installed, from a wheel.

    A checkout somewhere else does not count, such as the current folder: it may be of another version than the code.
    """
    folder = Path(__file__).resolve().parent.parent
    pyproject = folder / "pyproject.toml"
    # site-packages, too, may hold somebody's pyproject.toml.
    if pyproject.is_file() and f'name = "{DISTRIBUTION}"' in pyproject.read_text(encoding="utf-8"):
        return folder
    return None


def read_project() -> Project:
    """Read what the project says, from pyproject.toml in a checkout and from the metadata once installed.

    Raises:
        ReaderError: there is neither.
    """
    checkout = find_checkout()
    if checkout is not None:
        return _from_text((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    return _from_metadata()


def repository_address() -> str:
    """Return the repository's address on the web, without a slash at its end.

    It stands once, in ``[project.urls]`` of pyproject.toml; an installed copy carries it in its metadata.

    Raises:
        ReaderError: pyproject.toml names no repository.
    """
    address = read_project().repository
    if not address:
        raise ReaderError('pyproject.toml names no repository: add Repository = "https://…" under [project.urls].')
    return address.rstrip("/").removesuffix(".git")


def _from_text(text: str) -> Project:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10 or older: that it is too old is all there is to say.
        return Project(_line(text, "version"), _line(text, "requires-python"), [], [], "")
    project = tomllib.loads(text)["project"]
    return Project(
        project["version"],
        project["requires-python"],
        [_parse_requirement(line) for line in project["dependencies"]],
        [_parse_requirement(line) for line in project["optional-dependencies"]["book"]],
        project.get("urls", {}).get("Repository", ""),
    )


def _from_metadata() -> Project:
    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise ReaderError(
            f"{Path(__file__).parent} is neither installed nor part of a checkout, so nothing is known of what it "
            "needs. Install it with pip, or get the whole repository."
        ) from None
    dependencies, book = [], []
    for line in metadata.get_all("Requires-Dist") or []:
        requirement, _, marker = line.partition(";")
        if "extra" not in marker:
            dependencies.append(_parse_requirement(requirement))
        elif re.search(r"""extra\s*==\s*["']book["']""", marker):
            book.append(_parse_requirement(requirement))
    urls = dict(entry.split(", ", 1) for entry in metadata.get_all("Project-URL") or [])
    return Project(
        metadata["Version"] or "", metadata["Requires-Python"] or "", dependencies, book, urls.get("Repository", "")
    )


def _line(text: str, key: str) -> str:
    match = re.search(rf'^{key} = "([^"]+)"', text, flags=re.MULTILINE)
    return match[1] if match else ""


def _parse_requirement(line: str) -> Requirement:
    match = re.fullmatch(r"\s*([A-Za-z0-9._-]+)\s*([^;]*?)\s*(?:;.*)?", line)
    if match is None:
        raise ValueError(f"{line!r} is no requirement this workbook understands")
    return Requirement(match[1], match[2])
