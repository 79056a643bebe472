"""The LoRAs in data/loras are what their card says: sound kohya files for the base that ships, and no other.

Chapter 10 teaches readers to check a download against its card; its own files must stand that test.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from aigc_helpers import inspect
from aigc_helpers.inspection import Inspection
from aigc_helpers.lora import convert
from aigc_helpers.paths import DATA
from aigc_helpers.store import install_asset

LORAS = DATA / "loras"
FILES = sorted(LORAS.glob("*.safetensors"))
MOST_BYTES = 512 * 1024


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def inspection(request: pytest.FixtureRequest) -> Inspection:
    return inspect(request.param, read_numbers=True)


def test_both_are_there_and_small() -> None:
    assert [path.stem for path in FILES] == ["koala", "sepia"]
    assert sum(path.stat().st_size for path in FILES) <= MOST_BYTES


def test_the_card_names_size_hash_and_trigger(inspection: Inspection) -> None:
    card = (LORAS / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if line.startswith(f"| `{inspection.path.name}`")]
    assert f"{inspection.size:,}" in row
    assert inspection.hashes[inspection.path.name]["sha256"] in row
    assert f"`{inspection.training['trigger phrase']}`" in row


def test_the_inspector_finds_a_lora_for_the_base_and_no_fault(inspection: Inspection) -> None:
    assert (inspection.kind, inspection.key_format, inspection.remarks) == ("LoRA", "kohya", ())
    assert [one.model for one in inspection.compatibility if one.compatible] == ["sd (embedded)"]
    assert inspection.training["licence"].startswith("Apache-2.0")


def test_the_header_says_the_hash_of_the_numbers(inspection: Inspection, tmp_path: Path) -> None:
    # Written anew from the same numbers, the file is the same to the byte: so its header is the converter's own.
    convert(inspection.path, tmp_path / inspection.path.name, "kohya", base=install_asset("sd", "embedded"))
    assert (tmp_path / inspection.path.name).read_bytes() == inspection.path.read_bytes()
