"""``aigc inspect``: what a weight file is, from its header alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from aigc_helpers.arguments import named
from aigc_helpers.errors import ReaderError

if TYPE_CHECKING:
    from aigc_helpers.inspection import Compatibility, Inspection

_UNKNOWN = "not known: neither names nor shapes nor metadata tell"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    inspect = commands.add_parser(
        "inspect", help="say what a weight file is, and for an adapter, for which models; nothing is loaded"
    )
    inspect.add_argument("path", type=named, metavar="FILE", help="a weight file, or a folder of a model or adapter")
    inspect.add_argument("--json", action="store_true", help="print the report as JSON")
    inspect.add_argument("--hash", action="store_true", help="read it all: sha256, kohya's hash, NaN and infinity")
    inspect.add_argument(
        "--base",
        type=named,
        action="append",
        default=[],
        metavar="PATH",
        help="a model to compare an adapter with, besides the installed ones; may be given several times",
    )
    inspect.set_defaults(function=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    from aigc_helpers import inspect

    try:
        inspection = inspect(options.path, read_numbers=options.hash, bases=options.base)
    except ReaderError as error:
        if options.json:
            print(json.dumps({"path": str(options.path), "refused": str(error)}, ensure_ascii=False, indent=2))
        raise
    print(_as_json(inspection) if options.json else format_inspection(inspection))
    return 0


def _as_json(inspection: Inspection) -> str:
    report = dataclasses.asdict(inspection) | {"path": str(inspection.path)}
    return json.dumps(report, ensure_ascii=False, indent=2)


def format_inspection(inspection: Inspection) -> str:
    """Return the report as lines of a name and what there is to say."""
    rows = [
        ("container", f"{inspection.container}, {_bytes(inspection.size)}"),
        ("kind", inspection.kind or "not known: the names of the tensors do not tell"),
        ("family", inspection.family or _UNKNOWN),
        ("tensors", f"{inspection.tensors:,} with {inspection.parameters:,} parameters: {_counts(inspection.dtypes)}"),
    ]
    rows += _adapter_rows(inspection)
    rows += _listed("training", [f"{words}: {text}" for words, text in inspection.training.items()])
    rows += _listed("imports", inspection.imports)
    rows += _listed("compatible", [_compared(each) for each in inspection.compatibility])
    for name, hashes in inspection.hashes.items():
        rows += [(kind, f"{value}  {name}") for kind, value in hashes.items()]
    rows += _listed("remarks", inspection.remarks)
    if not inspection.hashes:
        rows.append(("", "Read: the header. --hash reads the rest, too: sha256, NaN and infinite numbers."))
    width = max(len(name) for name, _ in rows)
    return "\n".join([str(inspection.path), *(f"  {name:{width}}  {text}" for name, text in rows)])


def _compared(with_model: Compatibility) -> str:
    return f"{'✓' if with_model.compatible else '✗'} {with_model.model}: {with_model.reason}"


def _adapter_rows(inspection: Inspection) -> list[tuple[str, str]]:
    from aigc_helpers.inspection import printable

    facts = inspection.adapter
    if facts is None:
        return []
    rows = [("names", f"as {inspection.key_format} writes them"), ("ranks", _per_layer(facts.ranks) or "none")]
    rows.append(("alphas", _per_layer(facts.alphas) or "none"))
    layers = [f"{block}: {_counts(kinds)}" for block, kinds in facts.layers.items()]
    rows += _listed("layers", [f"{facts.modules} in all", *layers])
    return rows + _listed("replaced", [printable(name) for name in facts.saved_modules[:8]])


def _per_layer(counts: dict[Any, int]) -> str:
    return ", ".join(f"{value:g} ({count} layers)" for value, count in counts.items())


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in counts.items()) or "none"


def _bytes(size: int) -> str:
    return f"{size:,} bytes"


def _listed(name: str, texts: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - a list or tuple of texts.
    return [(name if number == 0 else "", text) for number, text in enumerate(texts)]
