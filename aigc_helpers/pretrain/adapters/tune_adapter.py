"""Builds data/tune_adapter: a LoRA that teaches the poet one tune of ci; chapters read it instead of training."""

from __future__ import annotations

from aigc_helpers.evaluation import share_in_form
from aigc_helpers.paths import DATA
from aigc_helpers.profile import choose_profile
from aigc_helpers.text import save_adapter, train_tune_adapter, tune_line_lengths, write_poems

ADAPTER_FOLDER = DATA / "tune_adapter"
TUNE = "浣溪沙"
_SAMPLED_POEMS = 200


def build_tune_adapter() -> str:
    """Train with the defaults of ``aigc train poet`` and save to data/tune_adapter; returns a line with its figures."""
    choose_profile("embedded")
    trained = train_tune_adapter(TUNE)
    save_adapter(trained.model, ADAPTER_FOLDER)
    kept = share_in_form(write_poems("", _SAMPLED_POEMS, 0, ADAPTER_FOLDER), tune_line_lengths(TUNE))
    size = (ADAPTER_FOLDER / "adapter_model.safetensors").stat().st_size
    return f"{ADAPTER_FOLDER}: {size:,} bytes; share of {_SAMPLED_POEMS} poems with the lines of {TUNE}: {kept}"
