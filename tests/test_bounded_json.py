"""JSON from a stranger is refused for its depth at the same level on every Python, whatever stands in its strings.

Python's own limit moved from some 1,000 levels to some 10,000 between 3.11 and 3.13; a test that relies on it passes
for one reader and not for the next.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from safetensors.numpy import save_file
from small_weight_files import diffusers_folder, dotted_lora, inspect_saved

from aigc_helpers import inspect
from aigc_helpers.bounded_json import DEEPEST, parse_json
from aigc_helpers.errors import ReaderError
from aigc_helpers.images import read_shown_in_training
from aigc_helpers.training.checkpoint import load_newest_checkpoint

# Strings of the very characters that a count of brackets could stumble over.
TEXTS = st.text('[]{}"\\ a,:\n/é😀')
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def levels(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


@settings(deadline=None)
@given(VALUES, st.booleans())
def test_the_deepest_is_read_and_one_level_more_is_refused(value: object, as_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=as_ascii)
    around = DEEPEST - levels(value)
    wrapped = "[" * around + text + "]" * around
    assert parse_json(wrapped) == json.loads(wrapped)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(f"[{wrapped}]")


@settings(deadline=None)
@given(st.text('[]{}"\\a:,1', max_size=30))
def test_what_is_no_json_is_called_so(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            parse_json(text)
    else:
        assert parse_json(text) == expected


@pytest.mark.parametrize("unit", ['"",', '"\\"",', '"[",', '"ab\\\\",', '{"a":1},'])
def test_counting_levels_takes_memory_in_proportion(unit: str) -> None:
    text = "[" * 200 + unit * (1_000_000 // len(unit))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(text)
    finally:
        tracemalloc.stop()


def too_deep(key: str, before: str = "") -> str:
    return f'{{{before}"{key}": {"[" * DEEPEST}{"]" * DEEPEST}}}'


def adapter_config(folder: Path) -> Path:
    save_file(dotted_lora("", ".lora_A.weight", ".lora_B.weight"), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(too_deep("peft_type"), encoding="utf-8")
    return folder


def pipeline_index(folder: Path) -> Path:
    (diffusers_folder(folder) / "model_index.json").write_text(too_deep("unet"), encoding="utf-8")
    return folder


def shard_index(folder: Path) -> Path:
    save_file({"a": np.zeros(2, "f4")}, folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(too_deep("weight_map"), encoding="utf-8")
    return folder


def model_config(folder: Path) -> Path:
    save_file({"a": np.zeros(2, "f4")}, folder / "model.safetensors")
    (folder / "config.json").write_text(too_deep("model_type"), encoding="utf-8")
    return folder / "model.safetensors"


@pytest.mark.parametrize("write", [adapter_config, pipeline_index, shard_index, model_config])
def test_a_configuration_nested_too_deeply_is_refused(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    with pytest.raises(ReaderError, match=r"\.json is not valid JSON \(nested too deeply.* Download it again"):
        inspect(write(tmp_path))


@pytest.mark.parametrize(
    ("key", "told"), [("lora_adapter_metadata", '"unet.r": 4,'), ("ss_tag_frequency", '"10_cat": {"cat": 20},')]
)
def test_metadata_nested_too_deeply_tell_nothing(tmp_path: Path, key: str, told: str) -> None:
    tensors = dotted_lora("unet.", ".lora_A.weight", ".lora_B.weight")
    assert inspect_saved(tmp_path, tensors, {key: f"{{{told[:-1]}}}"}).training
    assert not inspect_saved(tmp_path, tensors, {key: too_deep("x", told)}).training


def test_metadata_longer_than_any_training_program_s_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigc_helpers.inspection.training_metadata._LONGEST_TAGS", 1_000)
    tensors = dotted_lora("unet.", ".lora_A.weight", ".lora_B.weight")
    settings = json.dumps({"unet.r": 4, "unet.lora_alpha": 2, "unet.more": "x" * 2_000_000})
    tags = json.dumps({"10_cat": {"cat": 20, "x" * 1_000: 1}})
    report = inspect_saved(tmp_path, tensors, {"lora_adapter_metadata": settings, "ss_tag_frequency": tags})
    assert not report.training
    assert "take 2,000,052 characters, more than those of any LoRA" in " ".join(report.remarks)


def test_a_checkpoint_nested_too_deeply_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-000001.safetensors"
    save_file({"a": np.zeros(2, "f4")}, path, {"checkpoint": too_deep("settings")})
    with pytest.raises(ReaderError, match=r"is damaged \(nested too deeply"):
        load_newest_checkpoint(tmp_path)


def test_what_a_picture_model_was_shown_is_not_read_beyond_the_depth(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(too_deep("concepts"), encoding="utf-8")
    with pytest.raises(ReaderError, match=r"does not say which concepts .* \(nested too deeply"):
        read_shown_in_training(tmp_path)
