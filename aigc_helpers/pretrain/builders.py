"""What ``aigc pretrain`` builds, by name."""

from __future__ import annotations

import importlib

# Name: the module within this room, and its function. Each function returns what it built, in words.
_BUILDERS = {
    "reviews": ("datasets.reviews", "build_reviews"),
    "poems": ("datasets.poems", "build_poems"),
    "emoji": ("datasets.emoji", "build_emoji"),
    "poet": ("models.poet", "build_poet"),
    "clip": ("models.clip", "build_clip"),
    "sd": ("models.sd", "build_sd"),
    "t5": ("models.t5", "build_t5"),
    "film-adapter": ("adapters.film_reviews", "build_film_adapter"),
    "price-adapter": ("adapters.price_adapter", "build_price_adapter"),
    "tune-adapter": ("adapters.tune_adapter", "build_tune_adapter"),
    "loras": ("adapters.loras", "build_loras"),
    "rank-sweep": ("adapters.film_reviews", "build_film_rank_sweep"),
    "film-update": ("experiments.film_update", "build_film_update"),
    "lora-variants": ("experiments.lora_variants", "build_lora_variants"),
    "lora-sweep": ("experiments.lora_sweep", "build_lora_sweep"),
    "picture-rank-sweep": ("experiments.picture_adapters", "build_picture_rank_sweep"),
    "picture-styles": ("experiments.picture_adapters", "build_style_runs"),
    "fid-curve": ("experiments.fid_curve", "build_fid_curve"),
    "full-profile-memory": ("experiments.full_profile_memory", "build_full_profile_memory"),
}
NAMES = tuple(_BUILDERS)


def build(name: str) -> str:
    """Build what is called ``name``, and return what was built, in words."""
    module, function = _BUILDERS[name]
    return str(getattr(importlib.import_module(f"aigc_helpers.pretrain.{module}"), function)())
