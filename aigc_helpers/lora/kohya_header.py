"""The header of a kohya file: what A1111 and ComfyUI read there, and the two hashes by which sites know a file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from aigc_helpers.formats import read_header
from aigc_helpers.inspection import ADAPTER_METADATA, SD1, SD2, SDXL
from aigc_helpers.lora.adapter import LoraAdapter

# Per family: kohya's name of it, whether A1111 is to take it for a 2.x, and the architecture of modelspec 1.0.1.
_VERSIONS = {
    SD1: ("sd_v1", "False", "stable-diffusion-v1/lora"),
    SD2: ("sd_v2", "True", "stable-diffusion-v2-512/lora"),
    SDXL: ("sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora"),
}
WRITTEN_BY = "written_by"  # Says of a PEFT or diffusers file that it was converted.
_NOT_KOHYAS = ("format", ADAPTER_METADATA, WRITTEN_BY)
_HASHES = {"sshs_model_hash": 64, "sshs_legacy_hash": 8}  # Hexadecimal digits.
_LEGACY_BEGIN, _LEGACY_LENGTH = 0x100000, 0x10000


def kohya_metadata(adapter: LoraAdapter, family: str | None, title: str) -> dict[str, str]:
    """Return the metadata of a kohya file; what the trainer wrote there itself is kept.

    The two hashes are only held a place for: they are computed from the file itself (``hashes_of``).

    Source: kohya-ss/sd-scripts (``ss_*``), A1111's ``extensions-builtin/Lora/network.py`` (which of them it reads),
    Stability AI's modelspec 1.0.1.
    """
    ranks = Counter(layer.rank for layer in adapter.layers)
    alphas = Counter(layer.alpha for layer in adapter.layers)
    metadata = {
        "ss_network_module": "networks.lora",
        # Where they differ, sd-scripts' own resizing writes this word, too.
        "ss_network_dim": str(next(iter(ranks))) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": f"{next(iter(alphas)):g}" if len(alphas) == 1 else "Dynamic",
        "ss_output_name": title,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "diffusers",
        "modelspec.title": title,
    }
    if family in _VERSIONS:
        metadata["ss_base_model_version"], metadata["ss_v2"], metadata["modelspec.architecture"] = _VERSIONS[family]
    metadata |= {key: value for key, value in adapter.metadata.items() if key not in _NOT_KOHYAS}
    return dict(sorted(metadata.items())) | {key: "0" * digits for key, digits in _HASHES.items()}


def hashes_of(path: Path) -> dict[str, str]:
    """Return the hashes of the tensors in a file whose header holds a place for them."""
    header = read_header(path)
    with path.open("rb") as opened:
        opened.seek(header.data_start)
        after_header = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "sshs_model_hash": after_header,
        "sshs_legacy_hash": _legacy_hash(path, header.metadata, header.data_start),
    }


def _legacy_hash(path: Path, metadata: Mapping[str, str], data_start: int) -> str:
    """Hash 64 KiB at 1 MiB, of the file as it would be with the trainer's metadata alone: so sd-scripts defines it."""
    with path.open("rb") as opened:
        opened.seek(8)
        header = json.loads(opened.read(data_start - 8))
        header["__metadata__"] = {key: value for key, value in metadata.items() if key.startswith("ss_")}
        start = 8 + -(-len(as_library_writes(header)) // 8) * 8  # It pads the header to a multiple of eight bytes.
        opened.seek(data_start + max(_LEGACY_BEGIN - start, 0))
        return hashlib.sha256(opened.read(_LEGACY_LENGTH)).hexdigest()[: _HASHES["sshs_legacy_hash"]]


def as_library_writes(header: Mapping[str, object]) -> bytes:
    """Return a safetensors header as the library spells JSON."""
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
