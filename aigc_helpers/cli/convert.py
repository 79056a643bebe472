"""``aigc convert``: a LoRA file from one format into another, without loss."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_helpers.arguments import named

if TYPE_CHECKING:
    from aigc_helpers.lora import Conversion

_FORMATS = ("peft", "diffusers", "kohya", "gguf")  # As aigc_helpers.lora.conversion has them; that would import torch.
_COMPONENTS = {"unet": "UNet", "text_encoder": "text encoder", "text_encoder_2": "second text encoder", "": "model"}
_COMPONENTS |= {"transformer": "diffusion transformer"}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    convert = commands.add_parser(
        "convert", help="convert a LoRA between PEFT, diffusers and kohya (A1111, ComfyUI), or to GGUF (llama.cpp)"
    )
    convert.add_argument("source", type=named, metavar="SRC", help="a .safetensors file, or a folder of an adapter")
    convert.add_argument("target", type=named, metavar="DST", help="a .safetensors or .gguf file; for PEFT a folder")
    convert.add_argument(
        "--to",
        required=True,
        choices=_FORMATS,
        help="the format; kohya is A1111's and ComfyUI's, gguf llama.cpp's and Ollama's",
    )
    convert.add_argument(
        "--base",
        metavar="NAME_OR_PATH",
        help="the model it is for, to compare each layer with: a name from aigc catalog; GGUF needs it, too",
    )
    convert.set_defaults(function=_convert)


def _convert(options: argparse.Namespace) -> int:
    from aigc_helpers import convert

    base = None if options.base is None else _base(options.base)
    print(format_conversion(options.source, options.to, convert(options.source, options.target, options.to, base)))
    return 0


def _base(name: str) -> Path:
    from aigc_helpers.store import install_asset

    return path if (path := named(name)).exists() else install_asset(name)


def format_conversion(source: Path, to: str, conversion: Conversion) -> str:
    """Return the report as lines of a name and what there is to say."""
    layers = ", ".join(f"{count} of the {_COMPONENTS[part]}" for part, count in conversion.layers.items())
    rows = [
        ("read", f"as {', '.join(conversion.read_as)} writes it"),
        ("for", conversion.family or "not known: neither widths nor metadata tell"),
        ("layers", layers),
        ("ranks", _per_layer(conversion.ranks)),
        ("alphas", _per_layer(conversion.alphas)),
        *(("written", str(path)) for path in conversion.files),
        *(("remark", remark) for remark in conversion.remarks),
    ]
    return "\n".join([f"✓ {source} to {to}", *(f"  {name:8} {text}" for name, text in rows)])


def _per_layer(counts: dict[Any, int]) -> str:
    return ", ".join(f"{value:g} ({count} layers)" for value, count in counts.items())
