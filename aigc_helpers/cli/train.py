"""``aigc train``: a LoRA of one's own, with the chapters' settings as defaults."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_helpers.arguments import named
from aigc_helpers.cli.evaluate import format_figures
from aigc_helpers.errors import ReaderError
from aigc_helpers.text import REVIEWS, TUNE

if TYPE_CHECKING:
    from aigc_helpers.text import TextAdapterSettings
    from aigc_helpers.training import FitResult

MODELS = ("bert", "poet", "sd")
_SAMPLED_POEMS = 30
_JUDGED_PICTURES = 64


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    train = commands.add_parser("train", help="train a LoRA adapter")
    models = train.add_subparsers(required=True, metavar="MODEL", help=", ".join(MODELS))

    bert = models.add_parser("bert", help="praise or blame in film reviews, as in chapter 05")
    bert.set_defaults(function=_train_bert)

    poet = models.add_parser("poet", help="one tune of ci")
    poet.add_argument("--tune", required=True, help="such as 浣溪沙")
    poet.set_defaults(function=_train_poet)

    for model, recipe in ((bert, REVIEWS), (poet, TUNE)):
        model.add_argument("--epochs", type=float, help=f"passes over the texts (default {recipe.epochs:g})")
        model.add_argument("--rank", type=int, help=f"(default {recipe.rank})")
        model.add_argument("--learning-rate", type=float, help=f"the peak (default {_rates(recipe)})")

    sd = models.add_parser("sd", help="a look, a style or a concept for pictures")
    sd.add_argument(
        "what",
        metavar="WHAT",
        help="sepia, fluent, a concept the base has not seen, or a folder of pictures with captions",
    )
    sd.add_argument("--steps", type=int, help="of training (by default what suits WHAT, as with the next two)")
    sd.add_argument("--rank", type=int)
    sd.add_argument("--learning-rate", type=float, help="the peak")
    sd.add_argument("--skip-faulty", action="store_true", help="leave out pictures of the folder that have a fault")
    sd.set_defaults(function=_train_sd)

    for model in (bert, poet, sd):
        model.add_argument("-o", dest="output", type=named, required=True, metavar="FOLDER", help="for the adapter")
        model.add_argument("--seed", type=int, default=0, help="(default 0)")


def _rates(recipe: TextAdapterSettings) -> str:
    usual, full = (recipe.learning_rates[profile] for profile in ("embedded", "full"))
    return f"{usual:g}" if usual == full else f"{usual:g}; on the full profile {full:g}"


def _train_bert(options: argparse.Namespace) -> int:
    _refuse_file(options.output)
    from aigc_helpers.metrics import accuracy_interval
    from aigc_helpers.text import load_reviews, predict_classes, save_adapter, train_review_adapter

    settings = _given(options, "epochs", "rank", "learning_rate", "seed")
    checkpoints = _checkpoints(options.output)
    trained = train_review_adapter(**settings, checkpoints=checkpoints)
    save_adapter(trained.model, options.output)
    _finish(trained.result, options.output, checkpoints)
    test = load_reviews("test")
    predictions = predict_classes(trained.model, trained.tokenizer, test["text"].tolist())
    print(f"accuracy on {len(test):,} test snippets: {accuracy_interval(predictions, test['label'].tolist())}")
    return 0


def _train_poet(options: argparse.Namespace) -> int:
    _refuse_file(options.output)
    from aigc_helpers.evaluation import share_in_form
    from aigc_helpers.text import save_adapter, train_tune_adapter, tune_line_lengths, write_poems

    settings = _given(options, "tune", "epochs", "rank", "learning_rate", "seed")
    line_lengths = tune_line_lengths(options.tune)
    checkpoints = _checkpoints(options.output, options.tune)
    trained = train_tune_adapter(**settings, checkpoints=checkpoints)
    save_adapter(trained.model, options.output)
    _finish(trained.result, options.output, checkpoints)
    print(f"share of {_SAMPLED_POEMS} poems with the lines of {options.tune} ({line_lengths}):")
    for name, lora in (("without the adapter", None), ("with it", options.output)):
        poems = write_poems("", _SAMPLED_POEMS, options.seed, lora)
        print(f"  {name}: {share_in_form(poems, line_lengths)}")
    return 0


def _train_sd(options: argparse.Namespace) -> int:
    _refuse_file(options.output)
    from aigc_helpers.evaluation import evaluate_picture_adapter
    from aigc_helpers.images import (
        is_picture_folder,
        read_shown_in_training,
        save_picture_adapter,
        train_picture_adapter,
    )

    settings = _given(options, "what", "rank", "learning_rate", "steps", "seed", "skip_faulty")
    checkpoints = _checkpoints(options.output, Path(options.what).resolve().name)
    trained = train_picture_adapter(**settings, checkpoints=checkpoints)
    save_picture_adapter(trained.pipeline, options.output)
    _finish(trained.result, options.output, checkpoints)
    if is_picture_folder(options.what):
        return 0  # What is in the reader's pictures nobody knows, so nothing can be judged.
    concepts = read_shown_in_training().concepts
    figures = evaluate_picture_adapter(trained.pipeline, options.what, concepts, _JUDGED_PICTURES, options.seed)
    print(f"shares of {_JUDGED_PICTURES} pictures\n{format_figures(figures)}")
    return 0


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that were given; for the others the chapters' settings hold."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _checkpoints(output: Path, *what: str) -> Path:
    """Return the folder beside the output; ``what`` keeps runs apart that differ in their data alone."""
    output = output.resolve()
    return output.with_name(".".join((output.name, *what, "checkpoints")))


def _finish(result: FitResult, output: Path, checkpoints: Path) -> None:
    shutil.rmtree(checkpoints)
    print(f"{result}\n✓ {output}")


def _refuse_file(output: Path) -> None:
    if not output.resolve().name:
        raise ReaderError(f"{output} is the root of all folders. An adapter is a folder of its own: name one below it.")
    if output.exists() and not output.is_dir():
        raise ReaderError(f"{output} is a file. An adapter is a folder: name another one.")
