"""Names handed out by a package and imported on first use (PEP 562), so that importing the package costs nothing.

The library ``lazy_loader`` does the same; it cannot be used here, for ``import aigc_helpers`` comes before the
installation of anything: ``aigc doctor`` and the notebooks' set-up cell start from the standard library alone.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def hand_out(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names stand in the ``.pyi`` beside it.

    Type checkers read the same ``.pyi``, so each name stands in one place. A package within it, of ``from . import``
    there, is imported on first use as well, and is not in ``__all__``.

    Args:
        package: ``__name__`` of the package.
        file: its ``__file__``.

    Example:
        >>> getattr_, dir_, names = hand_out("aigc_helpers", importlib.import_module("aigc_helpers").__file__)
        >>> "install" in names
        True
    """
    imports = _imports(Path(file).with_suffix(".pyi"))
    homes, packages = _homes(imports), _packages_within(imports)
    names = sorted(homes)

    def __getattr__(name: str) -> Any:  # noqa: ANN401, N807 (whatever is handed out; Python's own name)
        if name in packages:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    def __dir__() -> list[str]:  # noqa: N807 (Python's own name)
        return sorted({*names, *packages})

    return __getattr__, __dir__, names


def handed_out(stub: Path) -> dict[str, str]:
    """Return the names in a ``.pyi`` of imports, each with the module that it comes from."""
    return _homes(_imports(stub))


def _imports(stub: Path) -> list[ast.ImportFrom]:
    statements = ast.parse(stub.read_text(encoding="utf-8")).body
    return [statement for statement in statements if isinstance(statement, ast.ImportFrom)]


def _homes(imports: list[ast.ImportFrom]) -> dict[str, str]:
    return {
        alias.asname or alias.name: statement.module
        for statement in imports
        if statement.module
        for alias in statement.names
    }


def _packages_within(imports: list[ast.ImportFrom]) -> set[str]:
    return {alias.name for statement in imports if not statement.module for alias in statement.names}
