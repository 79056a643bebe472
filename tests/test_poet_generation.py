"""The poet keeps to the prompt, the seed and the adapter it is given, and says what it cannot read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import sha256_of
from aigc_helpers.paths import DATA
from aigc_helpers.store import install_asset
from aigc_helpers.text import load_poet, write_poems
from aigc_helpers.text.generate import check_prompt

pytestmark = pytest.mark.slow

POET = DATA / "poet"


@pytest.fixture(scope="module")
def poet():
    return load_poet()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """Return the folder of an adapter that changes much: its B is drawn, not zero."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    adapted = get_peft_model(load_poet()[1], config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.save_pretrained(folder)
    return folder


def test_the_files_are_the_catalogs_and_the_cards_small_and_in_half_precision():
    assert install_asset("poet") == POET
    assert {tensor.dtype for tensor in load_file(POET / "model.safetensors").values()} == {torch.float16}
    files = [path for path in POET.iterdir() if path.name != "README.md"]
    assert sum(path.stat().st_size for path in files) <= 10 * 2**20
    card = (POET / "README.md").read_text(encoding="utf-8")
    for path in files:
        assert sha256_of(path) in card, f"the card has another hash for {path.name}"


def test_the_same_seed_gives_the_same_poems_and_another_seed_others():
    random_before = torch.get_rng_state()
    poems = write_poems("春", 3, seed=0)
    assert torch.equal(torch.get_rng_state(), random_before), "looking must not change what comes after"
    assert poems == write_poems("春", 3, seed=0)
    assert poems != write_poems("春", 3, seed=1)
    assert len(poems) == 3
    assert all(poem.startswith("春") for poem in poems)


def test_poems_have_one_verse_per_line_and_no_marks():
    for poem in write_poems("白日依山尽，", 4, seed=0):
        lines = poem.split("\n")
        assert lines[0] == "白日依山尽，"
        assert len(lines) > 1
        assert "<" not in poem


def test_more_poems_than_go_at_once_are_all_written():
    assert len(write_poems("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多", 101, seed=0)) == 101


def test_characters_the_tokenizer_does_not_know_are_named_once():
    with pytest.raises(ReaderError, match="does not know 龘 A b"):
        write_poems("龘春Ab龘", 1, seed=0)


def test_a_prompt_with_no_room_for_another_character_is_refused(poet):
    tokenizer, model = poet
    context = model.config.n_positions
    check_prompt("春\n" * (context - 2), tokenizer, context)  # White space does not count.
    with pytest.raises(ReaderError, match="has 95 characters, and the model takes 94 at most. Leave out 1 or more"):
        check_prompt("春" * (context - 1), tokenizer, context)


def test_marks_of_the_tokenizer_are_no_prompt():
    with pytest.raises(ReaderError, match="<eos>, a mark of the tokenizer"):
        write_poems("春<eos>", 1, seed=0)


def test_no_poems_cannot_be_written():
    for count in (0, 10**9):
        with pytest.raises(ReaderError, match=f"{count:,} poems cannot be written: ask for 1 to 10,000"):
            write_poems("春", count, seed=0)


def test_an_adapter_changes_what_is_written_by_its_scale(adapter):
    base = write_poems("春", 2, seed=0)
    assert write_poems("春", 2, seed=0, lora=adapter, scale=0.0) == base
    tuned = write_poems("春", 2, seed=0, lora=adapter)
    assert tuned != base
    assert write_poems("春", 2, seed=0, lora=adapter / "adapter_model.safetensors") == tuned
    assert write_poems("春", 2, seed=0, lora=adapter, scale=0.5) not in (base, tuned)


def test_what_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(ReaderError, match="there is no file or folder .*nowhere"):
        write_poems("春", 1, seed=0, lora=tmp_path / "nowhere")


def test_an_adapter_for_another_model_is_refused(adapter, tmp_path):
    other_rank = shutil.copytree(adapter, tmp_path / "other_rank")
    config = (adapter / "adapter_config.json").read_text(encoding="utf-8")
    (other_rank / "adapter_config.json").write_text(config.replace('"r": 2', '"r": 3'), encoding="utf-8")
    with pytest.raises(ReaderError, match="the rank 3, and its matrices have 2"):
        write_poems("春", 1, seed=0, lora=other_rank)
    with pytest.raises(ReaderError, match="does not fit this model"):
        write_poems("春", 1, seed=0, lora=install_asset("film-adapter"))


def test_an_adapter_that_lacks_weights_is_refused(adapter, tmp_path):
    lacking = shutil.copytree(adapter, tmp_path / "lacking")
    weights = load_file(lacking / "adapter_model.safetensors")
    weights.pop(next(name for name in weights if "h.3" in name))
    save_file(weights, lacking / "adapter_model.safetensors")
    with pytest.raises(ReaderError, match="lacks a matrix"):
        write_poems("春", 1, seed=0, lora=lacking)


def test_a_damaged_adapter_is_refused(adapter, tmp_path):
    damaged = shutil.copytree(adapter, tmp_path / "damaged")
    (damaged / "adapter_model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ReaderError, match="adapter_model.safetensors"):
        write_poems("春", 1, seed=0, lora=damaged)


def test_a_scale_that_is_no_number_is_refused(adapter):
    with pytest.raises(ReaderError, match="a scale of nan is not possible"):
        write_poems("春", 1, seed=0, lora=adapter, scale=float("nan"))
