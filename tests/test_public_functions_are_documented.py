"""What the library hands out says what it takes and gives, with an example; and the example is true, for it is run.

An example that nobody runs is the first line of a documentation to go wrong.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import types
from pathlib import Path

import pytest

import aigc_helpers
from aigc_helpers.paths import REPOSITORY

PACKAGE = Path(aigc_helpers.__file__).parent
FACES = ["aigc_helpers", *sorted(f"aigc_helpers.{stub.parent.name}" for stub in PACKAGE.glob("*/__init__.pyi"))]
FUNCTIONS = [
    pytest.param(face, name, id=f"{face}.{name}")
    for face in FACES
    for name in importlib.import_module(face).__all__
    if name[0].islower()
]


def public(face: str, name: str) -> types.FunctionType | None:
    found = getattr(importlib.import_module(face), name)
    return found if inspect.isfunction(found) else None


@pytest.mark.parametrize("face", FACES)
def test_every_name_that_is_handed_out_is_there(face: str) -> None:
    package = importlib.import_module(face)
    assert package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
        # Else importing that module would put it in the name's place.
        is_module = (Path(str(package.__file__)).parent / f"{name}.py").exists()
        assert not is_module, f"{face}.{name} is called like a module of {face}"


@pytest.mark.parametrize(("face", "name"), FUNCTIONS)
def test_a_public_function_has_types_and_an_example_that_is_true(
    face: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = public(face, name)
    if function is None:
        pytest.skip("a class, a type or a constant")
    assert "return" in function.__annotations__, f"{name} does not say what it returns"
    assert ">>>" in (function.__doc__ or ""), f"{face}.{name} has no example"
    monkeypatch.chdir(tmp_path)  # An example may write; and none may depend on where it is run.
    examples = doctest.DocTestFinder(recurse=False).find(function, name, globs={name: function})
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    )
    report: list[str] = []
    for example in examples:
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)


def test_the_checkout_is_the_one_that_is_tested() -> None:
    assert PACKAGE.parent == REPOSITORY
