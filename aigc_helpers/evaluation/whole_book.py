"""The whole book in one table: base against tuned for every task, each figure with its interval, sample and seed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

from aigc_helpers.evaluation.picture_adapters import evaluate_picture_adapter
from aigc_helpers.evaluation.poet import share_in_form
from aigc_helpers.evaluation.t5 import evaluate_t5
from aigc_helpers.images import load_pipeline, read_shown_in_training
from aigc_helpers.lora import load_adapter
from aigc_helpers.metrics import proportion_interval
from aigc_helpers.paths import in_checkout
from aigc_helpers.quiet import quiet
from aigc_helpers.store import install_asset
from aigc_helpers.text import LABEL_NAMES, load_reviews, predict_classes, tune_line_lengths, write_poems

SEED = 0
TUNE = "浣溪沙"
_POEMS = 200
_PICTURES = 64
_PAIRS = 200  # Of sentences, per domain.
_DOMAINS = {"price": "prices", "old": "old domain"}
_LANGUAGES = {"zh": "Chinese", "en": "English"}

Row = dict[str, Any]


def evaluate_book() -> list[Row]:
    """Measure every model of the book with and without its adapter, on the embedded models.

    Returns:
        Rows that JSON can hold: ``task``, ``measure``, ``model``, ``adapter``, ``base`` and ``tuned`` (each ``mean``,
        ``low`` and ``high`` of its 95 % interval: Wilson's for shares from 0 to 1, a bootstrap's for BLEU from 0 to
        100), ``sample`` (how many examples) and ``seed``.

    Raises:
        ReaderError: a model, an adapter or data are missing or altered.
    """
    return [*_film_reviews(), *_poems(), *_pictures(), *_translation()]


def format_book(rows: list[Row]) -> str:
    """Return the rows as a table, a line each.

    Example:
        >>> share = {"mean": 0.5, "low": 0.4, "high": 0.6}
        >>> row = {"task": "poems", "measure": "in form", "base": share, "tuned": share, "sample": 100, "seed": 0}
        >>> print(format_book([row]))
        task   measure  base                  tuned                 sample  seed
        poems  in form  0.500 [0.400, 0.600]  0.500 [0.400, 0.600]  100     0
    """
    header = ("task", "measure", "base", "tuned", "sample", "seed")
    lines = [header]
    for row in rows:
        digits = 1 if row["measure"].startswith("BLEU") else 3
        figures = (_as_text(row[model], digits) for model in ("base", "tuned"))
        lines.append((row["task"], row["measure"], *figures, f"{row['sample']:,}", str(row["seed"])))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _film_reviews() -> list[Row]:
    """BERT without the adapter has a head that was drawn at random: it can only guess."""
    adapter = install_asset("film-adapter")  # Before the base, which may be a long download.
    folder = install_asset("bert", "embedded")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    with quiet("transformers"):
        set_seed(SEED)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=len(LABEL_NAMES), trust_remote_code=False
        )
    test = load_reviews("test")
    texts, labels = test["text"].tolist(), test["label"].astype(int).to_numpy()

    def right() -> dict[str, float]:
        return proportion_interval(predict_classes(model, tokenizer, texts) == labels)

    base = right()
    load_adapter(model, adapter)
    return [_row("film reviews", "accuracy", "bert", "data/film_adapter", base, right(), len(test))]


def _poems() -> list[Row]:
    adapter, lengths = install_asset("tune-adapter"), tune_line_lengths(TUNE)
    base, tuned = (asdict(share_in_form(write_poems("", _POEMS, SEED, lora), lengths)) for lora in (None, adapter))
    return [_row("poems", "with the tune's line lengths", "poet", "data/tune_adapter", base, tuned, _POEMS)]


def _pictures() -> list[Row]:
    """The base draws the concept in a style of its own: that is what the look must not spoil.

    By pixels, and not by tiny-CLIP, which has never seen sepia and mistakes most of it.
    """
    pipeline = load_pipeline()
    load_adapter(pipeline, in_checkout("data/loras/sepia.safetensors"))
    figures = evaluate_picture_adapter(pipeline, "sepia", read_shown_in_training().concepts, _PICTURES, SEED)
    style, concept = "style by pixels", "concept by pixels"
    about = ("sd", "data/loras/sepia.safetensors")
    return [
        _row("pictures", "in sepia, by pixels", *about, figures["base"][style], figures["tuned"][style], _PICTURES),
        _row(
            "pictures",
            "concept right, by pixels",
            *about,
            figures["base in its own style"][concept],
            figures["tuned"][concept],
            _PICTURES,
        ),
    ]


def _translation() -> list[Row]:
    figures = evaluate_t5(_PAIRS, SEED)
    rows = []
    for domain, domain_name in _DOMAINS.items():
        for language, language_name in _LANGUAGES.items():
            base, tuned = (figures[model][domain][language] for model in ("base", "tuned"))
            measure = f"BLEU, {domain_name} into {language_name}"
            rows.append(
                _row("translation", measure, "t5", "data/price_adapter", base["bleu"], tuned["bleu"], base["sentences"])
            )
    return rows


def _row(
    task: str,
    measure: str,
    model: str,
    adapter: str,
    base: dict[str, float],
    tuned: dict[str, float],
    sample: int,
) -> Row:
    return {
        "task": task,
        "measure": measure,
        "model": model,
        "adapter": adapter,
        "base": base,
        "tuned": tuned,
        "sample": sample,
        "seed": SEED,
    }


def _as_text(figure: dict[str, float], digits: int) -> str:
    return "{mean:.{0}f} [{low:.{0}f}, {high:.{0}f}]".format(digits, **figure)
