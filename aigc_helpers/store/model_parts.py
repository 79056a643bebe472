"""Which files a model's folder consists of, in formats that cannot run code when they are loaded."""

from __future__ import annotations

from pathlib import PurePath

# Configurations, vocabularies, texts.
BESIDE_WEIGHTS = {".json", ".txt", ".model", ".spm", ".bpe", ".vocab", ".tiktoken", ".jinja", ".md"}
_WEIGHTS = {".safetensors", ".gguf"}
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif"}
LICENCES = {"LICENSE", "LICENCE", "NOTICE"}
_PROGRAMS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # Pickles, and zips that may hold one.


def is_part(name: PurePath, first: bytes) -> bool:
    """Say whether a file belongs to a model, by its name and its first bytes; whatever is not known does not."""
    known = name.suffix.lower() in {*_WEIGHTS, *BESIDE_WEIGHTS, *_PICTURES} or name.name in LICENCES
    return known and (name.suffix.lower() in _WEIGHTS or not first.startswith(_PROGRAMS))
