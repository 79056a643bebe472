"""From ``import aigc_helpers`` alone a stranger finds every room, and every error that may come out of a call."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import aigc_helpers
from aigc_helpers.lazy import handed_out
from aigc_helpers.paths import REPOSITORY

PACKAGE = REPOSITORY / "aigc_helpers"
ROOMS = sorted(stub.parent.name for stub in PACKAGE.glob("*/__init__.pyi"))
FACE = handed_out(PACKAGE / "__init__.pyi")
FUNCTIONS = sorted(name for name in FACE if inspect.isfunction(getattr(aigc_helpers, name)))


def test_a_room_is_an_attribute_before_anybody_has_imported_it() -> None:
    code = f"import aigc_helpers; print(*(getattr(aigc_helpers, room).__name__ for room in {ROOMS}))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == [f"aigc_helpers.{room}" for room in ROOMS]


def test_completion_offers_the_rooms_and_a_star_import_does_not_take_them() -> None:
    assert set(ROOMS) <= set(dir(aigc_helpers))
    assert not set(ROOMS) & set(aigc_helpers.__all__)


@pytest.mark.parametrize("name", sorted(FACE))
def test_what_the_face_hands_out_its_room_hands_out_as_well(name: str) -> None:
    room = FACE[name].split(".")[1]
    assert room not in ROOMS or name in handed_out(PACKAGE / room / "__init__.pyi")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_error_that_a_function_names_is_in_the_face(name: str) -> None:
    raised = set(re.findall(r"^ +(\w+Error): ", getattr(aigc_helpers, name).__doc__, re.MULTILINE))
    assert raised and raised <= set(aigc_helpers.__all__)
