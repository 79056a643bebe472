"""The tune adapter that ships loads strictly and keeps its form; the whole-book table rests on it."""

from __future__ import annotations

import pytest

from aigc_helpers.evaluation import share_in_form
from aigc_helpers.pretrain.adapters.tune_adapter import ADAPTER_FOLDER, TUNE
from aigc_helpers.text import tune_line_lengths, write_poems


def test_it_is_small_and_has_a_card() -> None:
    files = {path.name: path.stat().st_size for path in ADAPTER_FOLDER.iterdir()}
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert sum(files.values()) <= 200_000


@pytest.mark.slow
def test_with_it_the_poet_keeps_the_tune_and_without_it_does_not() -> None:
    lengths = tune_line_lengths(TUNE)
    assert share_in_form(write_poems("", 40, 1, ADAPTER_FOLDER), lengths).low > 0.75
    assert share_in_form(write_poems("", 40, 1), lengths).high < 0.1
