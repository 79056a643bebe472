"""What training programs write into a file's header, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aigc_helpers.bounded_json import parse_json
from aigc_helpers.inspection.adapter_settings import ADAPTER_METADATA, LARGEST_METADATA

_LONGEST = 200  # Characters; a header may hold a whole training configuration in one value.
_FREQUENT_TAGS = 8
_LONGEST_TAGS = 20_000_000  # Characters; those of ten thousand captioned pictures take about two million.
_LARGEST_COUNT = 1 << 63  # A number of pictures; Python refuses to print one of more than 4,300 digits.
_WORDS = {
    "modelspec.title": "title",
    "modelspec.author": "author",
    "modelspec.description": "description",
    "modelspec.license": "licence",
    "modelspec.date": "date",
    "modelspec.architecture": "architecture",
    "modelspec.trigger_phrase": "trigger phrase",
    "modelspec.resolution": "resolution",
    "ss_output_name": "name given by the trainer",
    "ss_base_model_version": "version of the base model",
    "ss_sd_model_name": "base model's file",
    "ss_network_module": "kind of network",
    "ss_network_dim": "rank asked for",
    "ss_network_alpha": "alpha asked for",
    "ss_resolution": "picture size in training",
    "ss_num_train_images": "training pictures",
    "ss_num_epochs": "passes over the pictures",
    "ss_steps": "training steps",
    "ss_total_batch_size": "pictures per step",
    "ss_optimizer": "optimizer",
    "ss_learning_rate": "learning rate",
    "ss_unet_lr": "learning rate of the UNet",
    "ss_text_encoder_lr": "learning rate of the text encoder",
    "ss_lr_scheduler": "learning-rate schedule",
    "ss_clip_skip": "text encoder's layers left out (clip skip)",
    "ss_mixed_precision": "precision in training",
    "ss_seed": "seed",
    "ss_training_comment": "comment",
}
_MOMENTS = {"ss_training_started_at": "training began", "ss_training_finished_at": "training ended"}
_LORA_WORDS = {"r": "rank", "lora_alpha": "alpha", "target_modules": "target modules", "use_dora": "DoRA"}


def in_plain_words(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what the header's metadata say about the training, in a fixed order; empty values are left out."""
    told = {words: printable(metadata[key]) for key, words in _WORDS.items() if metadata.get(key) not in (None, "None")}
    for key, words in _MOMENTS.items():
        moment = _moment(metadata.get(key, ""))
        if moment:
            told[words] = moment
    tags = _frequent_tags(metadata.get("ss_tag_frequency", ""))
    if tags:
        told["most frequent tags"] = tags
    return {words: text for words, text in told.items() if text} | _lora_settings(metadata)


def _object_in(text: str, longest: int) -> dict[str, Any]:
    """Return the JSON object that a text is; empty if it is none, or longer than a training program's."""
    try:
        found = parse_json(text) if 0 < len(text) <= longest else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def printable(text: str) -> str:
    """Return a text from a file on one line, without the control characters that could rule a terminal.

    Example:
        >>> printable("a style\\n  of mine \\x1b[31m")
        'a style of mine �[31m'
    """
    text = " ".join(text[: 4 * _LONGEST].split())
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _lora_settings(metadata: Mapping[str, str]) -> dict[str, str]:
    told = {}
    for key, value in _object_in(metadata.get(ADAPTER_METADATA, ""), LARGEST_METADATA).items():
        component, _, field = key.rpartition(".")
        values = value if isinstance(value, list) else [value]
        if field in _LORA_WORDS and value and all(isinstance(each, (int, float, str)) for each in values):
            of = f" of {component}" if component else ""
            listed = ", ".join(map(str, values))
            told[printable(f"{_LORA_WORDS[field]}{of}")] = printable(listed)
    return told


def _moment(text: str) -> str:
    try:
        return datetime.fromtimestamp(float(text), UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return ""


def _frequent_tags(text: str) -> str:
    counts: Counter[str] = Counter()
    for tags in _object_in(text, _LONGEST_TAGS).values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int and abs(count) < _LARGEST_COUNT:
                counts[tag.strip()] += count
    return printable(", ".join(f"{tag} {count}" for tag, count in counts.most_common(_FREQUENT_TAGS)))
