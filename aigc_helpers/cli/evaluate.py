"""``aigc evaluate``: how good the models in ``data/`` are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from aigc_helpers.evaluation import MODELS


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    evaluate = commands.add_parser("evaluate", help="measure a model that ships in data/, or the whole book")
    evaluate.add_argument("model", help=f"{', '.join(MODELS)} (base against tuned for every task)")
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")
    evaluate.set_defaults(function=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from aigc_helpers import evaluate

    figures = evaluate(options.model)
    if options.json:
        print(json.dumps(figures, ensure_ascii=False, indent=2))
    elif isinstance(figures, list):
        from aigc_helpers.evaluation import format_book

        print(format_book(figures))
    else:
        print(format_figures(figures))
    return 0


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
