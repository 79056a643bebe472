"""``adapter_config.json`` names modules to import and a model to download; a report does neither, and says so.

PEFT imports what auto_mapping and megatron_core name: a configuration file would then be a program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from small_weight_files import dotted_lora

PROGRAM = """
import json, socket, sys
from pathlib import Path
from aigc_helpers import inspect

def refuse(*arguments, **others):
    raise SystemExit("the network was asked")

inspect(Path("plain"))  # Whatever a report needs is imported now.
before = set(sys.modules)
socket.socket.connect = socket.getaddrinfo = refuse
inspection = inspect(Path("hostile"))
print(json.dumps([sorted(set(sys.modules) - before), inspection.remarks, inspection.training]))
"""
HOSTILE = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 4,
    "base_model_name_or_path": "stranger/enormous-model",
    "auto_mapping": {"base_model_class": "Model", "parent_library": "canary_module"},
    "megatron_core": "canary_module",
}


@pytest.fixture
def report(tmp_path: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Return what was imported for a hostile folder, the remarks, and the training's facts."""
    (tmp_path / "canary_module.py").write_text("open('canary', 'w')", encoding="utf-8")
    for name, config in {"plain": {"peft_type": "LORA", "r": 4, "lora_alpha": 4}, "hostile": HOSTILE}.items():
        (tmp_path / name).mkdir()
        tensors = dotted_lora("base_model.model.", ".lora_A.weight", ".lora_B.weight")
        save_file(tensors, tmp_path / name / "adapter_model.safetensors")
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not (tmp_path / "canary").exists()
    return json.loads(finished.stdout)


def test_the_report_imports_nothing_and_tells_what_peft_would_do(report) -> None:
    imported, remarks, training = report
    assert imported == []
    assert any("names code to import (auto_mapping)" in remark for remark in remarks)
    assert any("another module to import as megatron_core ('canary_module')" in remark for remark in remarks)
    assert training["made for"] == "stranger/enormous-model"
