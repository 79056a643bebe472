"""PiSSA, OLoRA and others take a part out of the base's weights before training: the matrices alone are another model.

Loaded on the base as it was, that part counts twice, and nothing fails. So such an adapter is refused by name, and the
advice is tried here: whoever follows it gets the model that was trained.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import change_settings, move, output, tiny, trained

from aigc_helpers import inspect
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.lora import convert, load_adapter
from aigc_helpers.lora.merging import merge

CHANGES = ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "something new", 3]


@pytest.mark.parametrize("initial", CHANGES)
def test_they_are_refused_by_name_wherever_they_are_read(tmp_path: Path, initial: object, capsys) -> None:
    trained("bert", tmp_path / "adapter")
    change_settings(tmp_path / "adapter", init_lora_weights=initial)
    words = rf"{initial}.*\(init_lora_weights\)"
    for use in (load_adapter, merge):
        with pytest.raises(ReaderError, match=words):
            use(tiny("bert"), tmp_path / "adapter")
    with pytest.raises(ReaderError, match=words):
        convert(tmp_path / "adapter", tmp_path / "converted", "peft")
    assert any(
        str(initial) in remark and "init_lora_weights" in remark for remark in inspect(tmp_path / "adapter").remarks
    )
    assert main(["convert", str(tmp_path / "adapter"), str(tmp_path / "converted"), "--to", "peft"]) == 1
    assert "init_lora_weights" in capsys.readouterr().err
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize("initial", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_a_beginning_that_leaves_the_base_alone_loads(tmp_path: Path, initial: object) -> None:
    chosen = {} if initial is None else {"init_lora_weights": initial}
    wanted = output(trained("bert", tmp_path / "adapter", **chosen), "bert")
    if initial is None:
        change_settings(tmp_path / "adapter", init_lora_weights=None)
    model = tiny("bert")
    load_adapter(model, tmp_path / "adapter")
    assert torch.equal(output(model, "bert"), wanted)


@pytest.mark.parametrize("initial", ["pissa", "olora"])
def test_the_advice_for_those_that_can_be_computed_again_works(tmp_path: Path, initial: str) -> None:
    wanted = output(trained("llama", tmp_path / "adapter", init_lora_weights=initial), "llama")
    base = tiny("llama")
    before = output(base, "llama")
    # What a loader that does not know the setting makes of it, in units of what the adapter changes.
    change_settings(tmp_path / "adapter", init_lora_weights=True)
    load_adapter(base, tmp_path / "adapter")
    assert (output(base, "llama") - wanted).norm() > 0.05 * (wanted - before).norm()
    change_settings(tmp_path / "adapter", init_lora_weights=initial)
    loaded = PeftModel.from_pretrained(tiny("llama"), tmp_path / "adapter").eval()
    assert torch.allclose(output(loaded, "llama"), wanted, atol=1e-5)
    assert torch.allclose(output(loaded.merge_and_unload(), "llama"), wanted, atol=1e-5)


def test_the_advice_for_the_author_works(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LoraConfig(
        r=2,
        lora_alpha=6,
        target_modules=["q_proj", "down_proj"],
        task_type="CAUSAL_LM",
        init_lora_weights="pissa_niter_4",
    )
    model = get_peft_model(tiny("llama"), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "initial")
    model.peft_config["default"].init_lora_weights = "pissa_niter_4"
    move(model)
    wanted = output(model.eval(), "llama")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    loaded = tiny("llama")
    assert load_adapter(loaded, tmp_path / "plain").ranks == {4: 4}
    assert torch.allclose(output(loaded, "llama"), wanted, atol=1e-5)


def test_nothing_is_loaded_beside_one_that_peft_has_loaded(tmp_path: Path) -> None:
    trained("bert", tmp_path / "pissa", init_lora_weights="pissa")
    trained("bert", tmp_path / "plain")
    model = PeftModel.from_pretrained(tiny("bert"), tmp_path / "pissa").base_model.model
    for use in (load_adapter, merge):
        with pytest.raises(ReaderError, match="no other adapter is right on them"):
            use(model, tmp_path / "plain")
