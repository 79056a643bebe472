"""The set-up cell leaves Colab's runtime fit for every chapter: PEFT imports, the command works, advice fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pretended_versions import install_versions

from aigc_helpers import colab, preflight, profile
from aigc_helpers.notebook import setup
from aigc_helpers.paths import DATA, REPOSITORY


@pytest.fixture
def on_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that takes itself for one on Colab, and forgets afterwards what the set-up did to it."""
    for module in (colab, setup, preflight):
        monkeypatch.setattr(module, "on_colab", lambda: True)
    monkeypatch.setattr(setup, "install_missing", list)
    monkeypatch.setattr(profile, "_chosen", profile.current_profile())
    monkeypatch.setenv("PYTHONPATH", "/env/python")
    monkeypatch.setenv("AIGC_PROFILE", "embedded")


# torchao


@pytest.mark.parametrize(("version", "hidden"), [("0.10.0", True), ("0.15.0", True), ("0.16.0", False), (None, False)])
def test_only_a_torchao_that_peft_refuses_is_hidden(
    monkeypatch: pytest.MonkeyPatch, version: str | None, hidden: bool
) -> None:
    install_versions(monkeypatch, torchao=version)
    monkeypatch.delitem(sys.modules, "torchao", raising=False)
    assert colab.hide_old_torchao() is hidden
    assert ("torchao" in sys.modules) is hidden
    assert colab.hide_old_torchao() is False
    sys.modules.pop("torchao", None)


_WITH_OLD_TORCHAO = """
import sys
sys.path.insert(0, {folder!r})
from peft.import_utils import is_torchao_available
try:
    is_torchao_available()
except ImportError as error:
    print(error)
is_torchao_available.cache_clear()
from aigc_helpers.cli import main
main(["catalog", "--json"])
print(is_torchao_available())
"""


def test_peft_takes_a_hidden_torchao_for_none_in_a_process_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "torchao").mkdir()
    (tmp_path / "torchao" / "__init__.py").write_text("")
    (tmp_path / "torchao-0.10.0.dist-info").mkdir()
    (tmp_path / "torchao-0.10.0.dist-info" / "METADATA").write_text("Name: torchao\nVersion: 0.10.0\n")
    command = [sys.executable, "-c", _WITH_OLD_TORCHAO.format(folder=str(tmp_path))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "incompatible version of torchao" in lines[0]
    assert lines[-1] == "False"


# What prepare() says and leaves behind


def test_the_command_works_from_any_folder_after_the_set_up(
    on_colab: None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    setup.prepare()
    setup.prepare()  # A reader runs the cell again.
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(REPOSITORY), "/env/python"]
    assert f"!{colab.COMMAND}" in capsys.readouterr().out
    command = [sys.executable, *colab.COMMAND.split()[1:], "catalog", "--json"]
    assert json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)


def test_on_colab_a_reader_is_told_of_gpu_token_and_drive_in_both_languages(
    on_colab: None, capsys: pytest.CaptureFixture
) -> None:
    setup.prepare()
    lines = [line for line in capsys.readouterr().out.splitlines() if " / " in line]
    for word in ("aigc", "T4 GPU", "HF_TOKEN", "/content/drive/MyDrive"):
        (line,) = [line for line in lines if word in line]
        english, _, chinese = line.partition(" / ")
        assert word in english and word in chinese


def test_with_a_gpu_nobody_is_sent_for_one() -> None:
    assert any("GPU" in line for line in colab.advice(has_gpu=False))
    assert not any("GPU" in line for line in colab.advice(has_gpu=True))


def test_running_the_set_up_again_chooses_the_profile_anew(
    on_colab: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    setup.prepare()
    assert profile.current_profile().name == "embedded"
    monkeypatch.setenv("AIGC_PROFILE", "full")  # As %env does.
    setup.prepare()
    assert profile.current_profile().name == "full"
    assert "profile: full · " in capsys.readouterr().out


def test_versions_outside_the_ranges_are_named_and_missing_or_odd_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert setup.outside_ranges() == []
    install_versions(monkeypatch, transformers="5.10.0", peft="1.0", evaluate=None, scipy="unreadable")
    peft, transformers = setup.outside_ranges()
    assert peft.startswith("! peft 1.0 is outside the book's range >=0.20,<1;")
    assert transformers.startswith("! transformers 5.10.0 ") and "超出本书支持的范围" in transformers


def test_the_versions_seen_on_colab_are_within_the_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = (REPOSITORY / "tests" / "colab" / "requirements.txt").read_text(encoding="utf-8").split()
    versions = dict(each.split("==") for each in pinned if "==" in each)
    assert len(versions) > 10
    install_versions(monkeypatch, **versions)
    assert setup.outside_ranges() == []


# The doctor


def test_the_doctor_never_advises_on_colab_what_would_break_the_notebook(
    on_colab: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_versions(monkeypatch, ipykernel="6.17.1", jupytext=None, evaluate=None, torch="2.0", scipy="unreadable")
    checks = {check.name: check for check in preflight.run_checks()}
    assert checks["extra: book"].status == "pass"
    assert checks["evaluate"].found.startswith("not installed") and "set-up cell" in checks["evaluate"].remedy_en
    assert "new" in checks["torch"].remedy_en or "anew" in checks["torch"].remedy_en
    for name in ("evaluate", "torch"):
        assert checks[name].status == "fail" and "pip install" not in checks[name].remedy_en + checks[name].remedy_zh
    assert checks["scipy"].status == "warn"


# Adapters' configurations


@pytest.mark.parametrize("name", ["film", "price", "tune"])
def test_a_shipped_configuration_has_no_field_that_an_older_peft_warns_of(name: str) -> None:
    from aigc_helpers.lora import drop_null_settings

    settings = json.loads((DATA / f"{name}_adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert "kasa_config" not in settings
    assert settings == drop_null_settings(settings)


def test_a_field_is_left_out_only_where_null_is_what_peft_assumes() -> None:
    from aigc_helpers.lora import drop_null_settings

    settings = {"kasa_config": None, "a_field_of_tomorrow": None, "r": 8, "use_dora": False, "megatron_core": None}
    assert drop_null_settings(settings) == {"r": 8, "use_dora": False, "megatron_core": None}


# The GPU's memory


def test_on_a_gpu_the_free_memory_is_said(on_colab: None, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import torch

    monkeypatch.setattr(profile, "_device_and_dtype", lambda: ("cuda", "float16"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (14_700_000_000, 15_000_000_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    setup.prepare()
    assert "GPU: Tesla T4 · 14.7 of 15.0 GB free" in capsys.readouterr().out
