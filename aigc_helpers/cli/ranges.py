"""``aigc ranges``: run chapters several times, and hold their ranges against what was found."""

from __future__ import annotations

import argparse

from aigc_helpers.cli.usage import as_typed, whole_number


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``aigc``."""
    parser = commands.add_parser("ranges", help="run chapters with other seeds and threads, and check their ranges")
    parser.add_argument("chapters", nargs="*", help="chapter numbers, such as 05; all by default")
    parser.add_argument("--runs", type=whole_number, help="runs for each chapter (6)")
    parser.add_argument("--check", action="store_true", help="run nothing: only say which ranges do not hold")
    parser.set_defaults(function=_ranges)


def _ranges(options: argparse.Namespace) -> int:
    from aigc_helpers.publishing import RUNS, measure_ranges, range_problems

    failed = False
    if not options.check:
        for chapter, run in measure_ranges(options.chapters or None, options.runs or RUNS):
            kind = f"seeds + {run.plan.seeds}" if run.plan.trained else "nothing trained"
            outcome = "; ".join(run.errors) or f"{len(run.values)} values stored"
            print(f"{chapter}: {kind}, threads {run.plan.threads}, {run.seconds:.0f} s: {outcome}", flush=True)
            failed |= bool(run.errors)
    found = range_problems(options.chapters or None)
    for problem in found:
        print(as_typed(problem, ["ranges", "build"]))
    if failed:
        print("Some runs failed: the ranges were held against the others only.")
    print(f"{len(found)} problems." if found else "Every range holds the values that are stored.")
    return 1 if found or failed else 0
