"""``aigc evaluate``: how good the models in ``data/`` are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from aigc_helpers.errors import UnknownNameError

MODELS = ("poet", "clip", "sd", "t5", "book")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    evaluate = commands.add_parser("evaluate", help="measure a model that ships in data/, or the whole book")
    evaluate.add_argument("model", help=f"{', '.join(MODELS[:-1])}; or book, base against tuned for every task")
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")
    evaluate.set_defaults(function=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    if options.model not in MODELS:
        raise UnknownNameError("model to evaluate", options.model, MODELS)
    if options.model == "book":
        from aigc_helpers.evaluation.whole_book import evaluate_book, format_book

        rows = evaluate_book()
        print(_as_json(rows) if options.json else format_book(rows))
        return 0
    evaluate = {"poet": _evaluate_poet, "clip": _evaluate_clip, "sd": _evaluate_sd, "t5": _evaluate_t5}[options.model]
    figures = evaluate()
    print(_as_json(figures) if options.json else format_figures(figures))
    return 0


def _as_json(figures: object) -> str:
    return json.dumps(figures, ensure_ascii=False, indent=2)


def _evaluate_poet() -> dict[str, Any]:
    from aigc_helpers.evaluation.poet import evaluate_poet

    return evaluate_poet()


def _evaluate_clip() -> dict[str, Any]:
    from aigc_helpers.evaluation.clip import evaluate_clip

    return evaluate_clip()


def _evaluate_sd() -> dict[str, Any]:
    from aigc_helpers.evaluation.sd import evaluate_sd

    return evaluate_sd()


def _evaluate_t5() -> dict[str, Any]:
    from aigc_helpers.evaluation.t5 import evaluate_t5

    return evaluate_t5()


def format_figures(figures: dict[str, Any]) -> str:
    """Return nested figures as a table: one line each, with the names that lead to it.

    An interval (``mean``, ``low`` and ``high``) takes one line, a list one line per entry.
    """
    rows = list(_rows(figures, ()))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}".rstrip() for name, value in rows)


def _rows(figures: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key, value in figures.items():
        name = " · ".join((*path, str(key).replace("_", " ")))
        if isinstance(value, dict) and set(value) == {"mean", "low", "high"}:
            yield name, f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
        elif isinstance(value, dict):
            yield from _rows(value, (*path, str(key).replace("_", " ")))
        elif isinstance(value, list):
            yield name, f"{len(value):,}"
            yield from (("", str(entry).replace("\n", "")) for entry in value)
        else:
            yield name, _as_text(value)


def _as_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
