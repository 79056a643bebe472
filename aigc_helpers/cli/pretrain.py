"""``aigc pretrain``: build again what ships in ``data/``."""

from __future__ import annotations

import argparse
import logging
import sys

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.paths import in_checkout


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    pretrain = commands.add_parser("pretrain", help="build again what ships in data/")
    pretrain.add_argument("name", help=", ".join(_BUILDERS))
    pretrain.set_defaults(function=_pretrain)


def _pretrain(options: argparse.Namespace) -> int:
    if options.name not in _BUILDERS:
        raise UnknownNameError("builder", options.name, _BUILDERS)
    in_checkout("data")  # Whatever is built goes there.
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("aigc_helpers").setLevel(logging.INFO)  # The builders' own messages, not those of the libraries.
    print(f"✓ {_BUILDERS[options.name]()}")
    return 0


def _build_reviews() -> str:
    from aigc_helpers.pretrain.reviews import build_reviews

    return f"{len(build_reviews(in_checkout('data/reviews/reviews.parquet'))):,} snippets in data/reviews"


def _build_poems() -> str:
    from aigc_helpers.pretrain.poems import build_poems

    return f"{build_poems(in_checkout('data/poems')).written} poems in data/poems"


def _build_emoji() -> str:
    from aigc_helpers.pretrain.emoji import build_emoji

    return f"{build_emoji(in_checkout('data/emoji')).concepts:,} concepts in data/emoji"


def _build_poet() -> str:
    from aigc_helpers.pretrain.poet import build_poet

    return f"{build_poet()}; the model is in data/poet"


def _build_clip() -> str:
    from aigc_helpers.pretrain.clip import build_clip

    return f"{build_clip()}; the model is in data/clip"


def _build_sd() -> str:
    from aigc_helpers.pretrain.sd import build_sd

    return f"{build_sd()}; the pipeline is in data/sd"


def _build_t5() -> str:
    from aigc_helpers.pretrain.t5 import build_t5

    return f"{build_t5()}; the model is in data/t5"


def _build_price_adapter() -> str:
    from aigc_helpers.pretrain.price_adapter import build_price_adapter

    return build_price_adapter()


def _build_tune_adapter() -> str:
    from aigc_helpers.pretrain.tune_adapter import build_tune_adapter

    return build_tune_adapter()


def _build_fid_curve() -> str:
    from aigc_helpers.pretrain.fid_curve import build_fid_curve

    return build_fid_curve()


def _build_film_adapter() -> str:
    from aigc_helpers.pretrain.film_reviews import build_film_adapter

    return build_film_adapter()


def _build_rank_sweep() -> str:
    from aigc_helpers.pretrain.film_reviews import build_rank_sweep

    return build_rank_sweep()


def _build_picture_rank_sweep() -> str:
    from aigc_helpers.pretrain.picture_adapters import build_rank_sweep

    return build_rank_sweep()


def _build_picture_styles() -> str:
    from aigc_helpers.pretrain.picture_adapters import build_style_runs

    return build_style_runs()


def _build_film_update() -> str:
    from aigc_helpers.pretrain.film_update import build_film_update

    return build_film_update()


def _build_lora_relatives() -> str:
    from aigc_helpers.pretrain.lora_relatives import build_relatives

    return build_relatives()


def _build_lora_sweep() -> str:
    from aigc_helpers.pretrain.lora_sweep import build_lora_sweep

    return build_lora_sweep()


def _build_loras() -> str:
    from aigc_helpers.pretrain.loras import build_loras

    return build_loras()


_BUILDERS = {
    "reviews": _build_reviews,
    "poems": _build_poems,
    "emoji": _build_emoji,
    "poet": _build_poet,
    "clip": _build_clip,
    "sd": _build_sd,
    "t5": _build_t5,
    "film-adapter": _build_film_adapter,
    "price-adapter": _build_price_adapter,
    "tune-adapter": _build_tune_adapter,
    "rank-sweep": _build_rank_sweep,
    "film-update": _build_film_update,
    "lora-relatives": _build_lora_relatives,
    "lora-sweep": _build_lora_sweep,
    "picture-rank-sweep": _build_picture_rank_sweep,
    "picture-styles": _build_picture_styles,
    "fid-curve": _build_fid_curve,
    "loras": _build_loras,
}
