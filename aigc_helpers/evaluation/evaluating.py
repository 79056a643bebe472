"""``evaluate()``: how good a model that ships in ``data/`` is, by name; or all of them."""

from __future__ import annotations

import importlib
from typing import Any, Literal, overload

from aigc_helpers.errors import UnknownNameError

# Where each is evaluated; a module is imported when its model is asked for.
_EVALUATIONS = {
    "poet": ("poet", "evaluate_poet"),
    "clip": ("clip", "evaluate_clip"),
    "sd": ("sd", "evaluate_sd"),
    "t5": ("t5", "evaluate_t5"),
    "book": ("whole_book", "evaluate_book"),
}
MODELS = tuple(_EVALUATIONS)


@overload
def evaluate(model: Literal["book"]) -> list[dict[str, Any]]: ...


@overload
def evaluate(model: Literal["poet", "clip", "sd", "t5"]) -> dict[str, Any]: ...


@overload
def evaluate(model: str) -> dict[str, Any] | list[dict[str, Any]]: ...


def evaluate(model: str) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the figures of a model, each with its interval where it has one.

    Args:
        model: ``"poet"``, ``"clip"``, ``"sd"`` or ``"t5"``; or ``"book"``, all of them with and without an adapter.

    Returns:
        Figures that JSON can hold: of a model nested by task; of the book a list of rows, which ``format_book`` lays
        out as a table.

    Raises:
        UnknownNameError: no model of that name ships.
        ReaderError: its files are missing or altered.

    Example:
        >>> evaluate("gpt-5")
        Traceback (most recent call last):
        ...
        aigc_helpers.errors.UnknownNameError: there is no model to evaluate 'gpt-5'. Valid: ...
    """
    if model not in _EVALUATIONS:
        raise UnknownNameError("model to evaluate", model, MODELS)
    module, function = _EVALUATIONS[model]
    return getattr(importlib.import_module(f"aigc_helpers.evaluation.{module}"), function)()
