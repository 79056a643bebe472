"""What a chapter's cells are checked with: ``chapters/exercises/NN.py`` and ``chapters/claims/NN.py``."""

from __future__ import annotations

import functools
import importlib.util
import sys
import types

from aigc_helpers.paths import in_checkout


def chapters_with(kind: str) -> list[str]:
    """Return the numbers of the chapters that have ``"exercises"`` or ``"claims"``.

    Raises:
        ReaderError: the package is installed without the checkout that holds the chapters.
    """
    return sorted(path.stem for path in in_checkout(f"chapters/{kind}").glob("*.py"))


@functools.cache
def content_module(kind: str, number: str) -> types.ModuleType | None:
    """Import and return ``chapters/<kind>/<number>.py``, or None where there is no such file."""
    if number not in chapters_with(kind):
        return None
    name = f"aigc_{kind}_{number}"
    specification = importlib.util.spec_from_file_location(name, in_checkout(f"chapters/{kind}/{number}.py"))
    if specification is None or specification.loader is None:
        return None
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
