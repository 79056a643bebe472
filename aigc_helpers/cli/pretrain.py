"""``aigc pretrain``: build again what ships in ``data/``."""

from __future__ import annotations

import argparse
import logging
import sys

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.paths import in_checkout
from aigc_helpers.pretrain.builders import NAMES, build


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    pretrain = commands.add_parser("pretrain", help="build again what ships in data/")
    pretrain.add_argument("name", help=", ".join(NAMES))
    pretrain.set_defaults(function=_pretrain)


def _pretrain(options: argparse.Namespace) -> int:
    if options.name not in NAMES:
        raise UnknownNameError("builder", options.name, NAMES)
    in_checkout("data")  # Whatever is built goes there.
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("aigc_helpers").setLevel(logging.INFO)  # The builders' own messages, not those of the libraries.
    print(f"✓ {build(options.name)}")
    return 0
