"""``aigc merge``: a LoRA into a copy of its base in GGUF, for llama.cpp, Ollama and LM Studio."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aigc_helpers.arguments import named

if TYPE_CHECKING:
    from pathlib import Path

    from aigc_helpers.lora import MergedGguf

_DTYPES = ("f16", "q8_0")  # As aigc_helpers.lora.gguf_merging has them; that would import torch.


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the others."""
    merge = commands.add_parser(
        "merge", help="merge a LoRA of a language model into a copy of its base in GGUF (llama.cpp, Ollama, LM Studio)"
    )
    merge.add_argument("source", type=named, metavar="SRC", help="a folder of an adapter, or a .safetensors file")
    merge.add_argument("target", type=named, metavar="DST", help="the .gguf file to write")
    merge.add_argument(
        "--base", type=named, required=True, metavar="PATH", help="the model that it is for, as a GGUF file"
    )
    merge.add_argument(
        "--dtype",
        choices=_DTYPES,
        default="f16",
        help="of the tensors that the LoRA changes (default: f16); q8_0 takes half of that and rounds more",
    )
    merge.set_defaults(function=_merge)


def _merge(options: argparse.Namespace) -> int:
    from aigc_helpers.lora import merge_gguf

    print(format_merged(options.source, merge_gguf(options.source, options.target, options.base, options.dtype)))
    return 0


def format_merged(source: Path, merged: MergedGguf) -> str:
    """Return the report as lines of a name and what there is to say."""
    errors = merged.relative_errors
    worst = max(errors, key=errors.__getitem__)
    rows = [
        ("changed", f"{len(errors)} tensors, stored as {merged.dtype}"),
        ("kept", f"{merged.kept} tensors, byte by byte, and every key, the tokenizer's among them"),
        ("rounding", f"takes at most {errors[worst]:.1%} of what the LoRA adds ({worst})"),
        ("written", str(merged.path)),
        *(("remark", remark) for remark in merged.remarks),
    ]
    return "\n".join([f"✓ {source} merged", *(f"  {name:8} {text}" for name, text in rows)])
