"""One loader for every family: what PEFT trained and saved computes the same again, or is refused in a sentence.

PEFT loads what has a place and is silent about the rest; a loader of our own for poems did so as well, and took the
neighbour's adapter for a name that did not exist.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, WORDS, change_settings, output, tiny, trained

from aigc_helpers import inspect
from aigc_helpers.errors import ReaderError
from aigc_helpers.lora import convert, load_adapter, merge
from aigc_helpers.paths import DATA

WORD_ROWS = {"bert": "word_embeddings", "gpt2": "wte", "t5": "shared", "llama": "embed_tokens"}


def by_peft(family: str, folder: Path, rows: int | None = None) -> torch.Tensor:
    """Return the output of the model as PEFT loads it from a folder."""
    base = tiny(family)
    if rows:
        base.resize_token_embeddings(rows, mean_resizing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return output(PeftModel.from_pretrained(base, folder).eval(), family)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "alphas": {"alpha_pattern": {".*(q|k|query|c_attn|q_lin|q_proj|to_q)": 1}, "use_rslora": True},
    "ranks": {"rank_pattern": {".*(q|k|query|c_attn|q_lin|q_proj|to_q)": 4}},
    "DoRA": {"use_dora": True},
    "all biases": {"bias": "all"},
    "biases of LoRA's layers": {"bias": "lora_only"},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_what_peft_saved_computes_the_same_and_can_be_taken_out(tmp_path: Path, family: str, case: str) -> None:
    wanted = output(trained(family, tmp_path / "adapter", **CASES[case]), family)
    model = tiny(family)
    before = output(model, family)
    loaded = load_adapter(model, tmp_path / "adapter")
    assert torch.equal(output(model, family), wanted)
    assert not torch.allclose(wanted, before, atol=1e-4)
    assert sum(loaded.layers.values()) == sum(loaded.ranks.values()) == sum(loaded.alphas.values())
    # PEFT's own format takes it back, and PEFT computes the same from it.
    convert(tmp_path / "adapter", tmp_path / "converted", "peft")
    inner = [path for path in (tmp_path / "converted").iterdir() if path.is_dir()]
    assert torch.equal(by_peft(family, inner[0] if len(inner) == 1 else tmp_path / "converted"), wanted)
    # A merge computes the same up to rounding, and is undone to the bit.
    base = tiny(family)
    with merge(base, tmp_path / "adapter"):
        assert torch.allclose(output(base, family), wanted, atol=1e-4)
    assert torch.equal(output(base, family), before)


@pytest.mark.parametrize("family", WORD_ROWS)
def test_rows_of_an_embedding_find_their_place(tmp_path: Path, family: str) -> None:
    model = trained(family, tmp_path / "adapter", trainable_token_indices={WORD_ROWS[family]: [3, 5]})
    fresh = tiny(family)
    load_adapter(fresh, tmp_path / "adapter")
    assert torch.equal(output(fresh, family), output(model, family))
    # Anew, beside it, and under the same name once more; and nothing of it stays when another takes its name.
    load_adapter(fresh, tmp_path / "adapter", "second")
    load_adapter(fresh, tmp_path / "adapter")
    assert torch.equal(output(fresh, family), output(model, family))
    plain = trained(family, tmp_path / "plain")
    for name in ("default", "third"):
        load_adapter(fresh, tmp_path / "plain", name)
        assert torch.equal(output(fresh, family), output(plain, family))
    merged = tiny(family)
    with merge(merged, tmp_path / "adapter"):
        assert torch.allclose(output(merged, family), output(model, family), atol=1e-4)
    convert(tmp_path / "adapter", tmp_path / "converted", "peft")
    assert torch.equal(by_peft(family, tmp_path / "converted"), output(model, family))
    # Rows that the model does not have are a sentence.
    change_settings(tmp_path / "adapter", trainable_token_indices={WORD_ROWS[family]: [3, WORDS]})
    with pytest.raises(ReaderError, match=rf"trains row {WORDS} .*has {WORDS} rows.*resize_token_embeddings"):
        load_adapter(tiny(family), tmp_path / "adapter")
    change_settings(tmp_path / "adapter", trainable_token_indices={WORD_ROWS[family]: [3, 5, 6]})
    with pytest.raises(ReaderError, match="of the shape"):
        load_adapter(tiny(family), tmp_path / "adapter")


@pytest.mark.parametrize("family", ["gpt2", "llama", "tied llama", "t5"])
def test_a_resized_embedding_is_compared_by_shape(tmp_path: Path, family: str) -> None:
    def more_words(base: torch.nn.Module) -> None:
        base.resize_token_embeddings(WORDS + 3, mean_resizing=False)

    wanted = output(trained(family, tmp_path / "adapter", more_words), family)
    with pytest.raises(ReaderError, match=rf"resize_token_embeddings\({WORDS + 3}\)"):
        load_adapter(tiny(family), tmp_path / "adapter")
    model = tiny(family)
    more_words(model)
    before = output(model, family)
    loaded = load_adapter(model, tmp_path / "adapter")
    assert torch.equal(output(model, family), wanted)
    assert any("tensors of the base itself are replaced" in remark for remark in loaded.remarks)
    convert(tmp_path / "adapter", tmp_path / "converted", "peft")
    assert torch.equal(by_peft(family, tmp_path / "converted", WORDS + 3), wanted)
    # Another in its place finds the base as it was.
    trained(family, tmp_path / "plain")
    with pytest.raises(ReaderError, match="has replaced tensors of the base itself"):
        load_adapter(model, tmp_path / "plain", "other")
    load_adapter(model, tmp_path / "plain")
    assert not torch.equal(before, output(model, family))
    model.disable_adapters()
    assert torch.equal(output(model, family), before)
    # And no second adapter runs on the base of a first.
    model.enable_adapters()
    with pytest.raises(ReaderError, match="would then run on another base"):
        load_adapter(model, tmp_path / "adapter", "other")


@pytest.mark.parametrize("family", ["gpt2", "llama", "tied llama"])
def test_modules_that_were_trained_whole_are_put_in(tmp_path: Path, family: str) -> None:
    wanted = output(trained(family, tmp_path / "adapter", modules_to_save=["lm_head"]), family)
    model = tiny(family)
    before = output(model, family)
    load_adapter(model, tmp_path / "adapter")
    assert torch.equal(output(model, family), wanted)
    plain = trained(family, tmp_path / "plain")
    load_adapter(model, tmp_path / "plain")  # Of the same name and the same ranks: and the old head is gone.
    assert torch.equal(output(model, family), output(plain, family))
    model.disable_adapters()
    assert torch.equal(output(model, family), before)
    load_adapter(model, tmp_path / "adapter")  # Whatever was switched off.
    assert torch.equal(output(model, family), wanted)
    if family == "llama":
        merged = tiny(family)
        with merge(merged, tmp_path / "adapter"):
            assert torch.allclose(output(merged, family), wanted, atol=1e-4)
        return
    with pytest.raises(ReaderError, match="tied weights"):  # Merged, the words going in would be others as well.
        merge(tiny(family), tmp_path / "adapter")


@pytest.mark.parametrize("scale", [0.0, 0.5, -1.0])
def test_a_scale_multiplies_what_the_lora_adds(tmp_path: Path, scale: float) -> None:
    model = trained("gpt2", tmp_path / "adapter")
    for layer in model.modules():
        if hasattr(layer, "set_scale"):
            layer.set_scale("default", scale)
    loaded = tiny("gpt2")
    load_adapter(loaded, tmp_path / "adapter", scale=scale)
    assert torch.equal(output(loaded, "gpt2"), output(model, "gpt2"))
    with pytest.raises(ReaderError, match="a scale of inf is not possible"):
        load_adapter(loaded, tmp_path / "adapter", scale=float("inf"))


def test_a_classifier_without_its_head_is_refused_and_reported(tmp_path: Path) -> None:
    trained("bert", tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor for name, tensor in tensors.items() if "classifier" not in name}, path)
    assert any("lacks the head" in remark for remark in inspect(tmp_path / "adapter").remarks)
    with pytest.raises(ReaderError, match="'classifier.weight' was trained"):
        load_adapter(tiny("bert"), tmp_path / "adapter")
    change_settings(tmp_path / "adapter", modules_to_save=None)
    for use in (load_adapter, merge):
        with pytest.raises(ReaderError, match="SEQ_CLS and lacks the head"):
            use(tiny("bert"), tmp_path / "adapter")
    # Trained without one, it loads, and the reader is told whose head it is.
    change_settings(tmp_path / "adapter", task_type=None)
    assert any(
        "own (classifier) stays" in remark for remark in load_adapter(tiny("bert"), tmp_path / "adapter").remarks
    )


def saved(folder: Path, change: dict[str, torch.Tensor | None], **chosen: Any) -> Path:
    """Return the folder of an adapter for GPT-2, with tensors added or taken out, and other settings."""
    trained("gpt2", folder)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first = {
        name.replace("h.0", "h.7"): tensor.clone() for name, tensor in tensors.items() if "h.0.attn.c_attn" in name
    }
    added = first if change == {"h.7": None} else change
    tensors |= {name: tensor for name, tensor in added.items() if tensor is not None}
    save_file({name: tensor for name, tensor in tensors.items() if added.get(name, tensor) is not None}, path)
    return change_settings(folder, **chosen) if chosen else folder


FIRST = "base_model.model.transformer.h.0.attn.c_attn.lora_{}.weight"
REFUSED: dict[str, tuple[dict[str, torch.Tensor | None], dict[str, Any], str]] = {
    "layers beyond the model": ({"h.7": None}, {}, "has no layer transformer.h.7.attn.c_attn"),
    "a stranger": ({"base_model.model.transformer.mystery": torch.ones(2)}, {}, "mystery.*matches nothing"),
    "a norm": ({"base_model.model.transformer.ln_f.weight": torch.ones(16)}, {}, "ln_f.weight.*matches nothing"),
    "one layer less": (
        {FIRST.format("A"): None, FIRST.format("B"): None},
        {},
        "'transformer.h.0.attn.c_attn' gets nothing",
    ),
    "one layer less, targets as a pattern": (
        {FIRST.format("A"): None, FIRST.format("B"): None},
        {"target_modules": r".*\.h\.\d+\..*c_(attn|proj)"},
        "'transformer.h.0.attn.c_attn' gets nothing",
    ),
    "half a layer": ({FIRST.format("B"): None}, {}, "lacks a matrix"),
    "a head that is not there": ({}, {"modules_to_save": ["lm_head"]}, "'lm_head.weight' was trained"),
    "rows that are not there": ({}, {"trainable_token_indices": [1]}, "rows of an embedding were trained"),
    "biases that are not there": ({}, {"bias": "all"}, "was trained .modules_to_save, bias."),
    "magnitudes that are not there": ({}, {"use_dora": True}, "have no magnitudes"),
    "a bias of another kind": ({}, {"bias": "some"}, "bias is 'some'"),
    "another rank": ({}, {"r": 3}, "the rank 3, and its matrices have 2"),
    "NaN in a head": (
        {"base_model.model.lm_head.weight": torch.full((WORDS, 16), float("nan"))},
        {"modules_to_save": ["lm_head"]},
        "NaN",
    ),
    "a head of another shape": (
        {
            "base_model.model.transformer.ln_f.weight": torch.ones(5),
            "base_model.model.transformer.ln_f.bias": torch.ones(16),
        },
        {"modules_to_save": ["ln_f"]},
        r"shape \[5\], and \[16\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_half_an_adapter_is_refused_and_the_model_stays_as_it_was(tmp_path: Path, name: str) -> None:
    change, chosen, message = REFUSED[name]
    folder = saved(tmp_path / "adapter", change, **chosen)
    model = tiny("gpt2")
    before = output(model, "gpt2")
    for use in (load_adapter, merge):
        with pytest.raises(ReaderError, match=message):
            use(model, folder)
        assert torch.equal(output(model, "gpt2"), before)
        assert not getattr(model, "peft_config", {})


HOSTILE: list[dict[str, Any]] = [
    {"modules_to_save": 3},
    {"modules_to_save": "lm_head"},
    {"modules_to_save": [["lm_head"], None]},
    {"trainable_token_indices": {"wte": [{}, 1]}},
    {"trainable_token_indices": "all"},
    {"task_type": ["SEQ_CLS"]},
    {"bias": ["all"]},
    {"target_modules": [1, None]},
    {"target_modules": {"c_attn": 1}},
    {"layers_to_transform": "all"},
    {"layers_to_transform": [0, 1], "layers_pattern": "(a+)+"},
    {"exclude_modules": 7},
    {"init_lora_weights": {"pissa": 1}},
    {"rank_pattern": 7},
    {"r": None},
    {"lora_alpha": None},
    {"lora_alpha": True},
    {"peft_type": None},
    {"use_dora": "no"},
    {"target_modules": "((((c_attn"},
]


@pytest.mark.parametrize("chosen", HOSTILE, ids=str)
def test_settings_of_any_kind_load_or_are_a_sentence(tmp_path: Path, chosen: dict[str, Any]) -> None:
    folder = saved(tmp_path / "adapter", {})
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | chosen), encoding="utf-8")
    inspect(folder)
    for use in (load_adapter, merge, lambda _, source: convert(source, tmp_path / "converted", "peft")):
        with suppress(ReaderError):
            use(tiny("gpt2"), folder)


def test_a_base_with_another_embedding_is_said_before_a_conversion(tmp_path: Path) -> None:
    def more_words(base: torch.nn.Module) -> None:
        base.resize_token_embeddings(WORDS + 3, mean_resizing=False)

    trained("llama", tmp_path / "adapter", more_words)
    tiny("llama").save_pretrained(tmp_path / "base")
    message = f"{WORDS + 3} × 16 in the adapter and {WORDS} × 16 there"
    with pytest.raises(ReaderError, match=message):
        convert(tmp_path / "adapter", tmp_path / "converted", "peft", tmp_path / "base")
    (one,) = [
        one
        for one in inspect(tmp_path / "adapter", bases=[tmp_path / "base"]).compatibility
        if str(tmp_path) in one.model
    ]
    assert not one.compatible and message in one.reason


def test_a_quantised_layer_gets_matrices_that_can_be_multiplied_and_no_merge(tmp_path: Path) -> None:
    trained("llama", tmp_path / "adapter")
    model = tiny("llama")
    for name, layer in model.named_modules():
        if name.endswith(("q_proj", "down_proj")):
            layer.weight = torch.nn.Parameter((layer.weight * 100).to(torch.int8), requires_grad=False)
    with pytest.raises(ReaderError, match="is quantised .int8."):
        merge(model, tmp_path / "adapter")
    load_adapter(model, tmp_path / "adapter")
    matrices = {value.dtype for name, value in model.named_parameters() if ".lora_" in name}
    assert matrices == {torch.float32}


def test_a_name_that_does_not_exist_is_not_its_neighbour(tmp_path: Path) -> None:
    folder = saved(tmp_path / "adapter", {})
    (folder / "README.md").write_text("An adapter.", encoding="utf-8")
    for name in ("TYPO.safetensors", "README.md", "adapter_config.json"):
        with pytest.raises(ReaderError, match=name):
            load_adapter(tiny("gpt2"), folder / name)
    shutil.copy(folder / "adapter_model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(ReaderError, match=r"adapter_config.json is missing"):
        load_adapter(tiny("gpt2"), tmp_path / "alone.safetensors")


def test_two_layers_for_one_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "adapter", {})
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {name.replace("transformer.", ""): tensor.clone() for name, tensor in tensors.items()}, path)
    with pytest.raises(ReaderError, match="both belong to 'transformer.h.0.attn.c_attn'"):
        load_adapter(tiny("gpt2"), folder)


@pytest.mark.parametrize("use", [load_adapter, merge])
@pytest.mark.parametrize("target", [None, "gpt2"])
def test_what_is_no_model_is_called_so(use: Callable[..., object], target: object) -> None:
    with pytest.raises(ReaderError, match=rf"a {type(target).__name__} is none\. Give a Stable Diffusion pipeline"):
        use(target, DATA / "tune_adapter")


def test_an_adapter_has_a_name() -> None:
    with pytest.raises(ReaderError, match="name is empty"):
        load_adapter(torch.nn.Linear(1, 1), DATA / "tune_adapter", "")


def test_who_merges_is_told_of_the_model_and_of_no_loading() -> None:
    with pytest.raises(ReaderError, match=r"The model is as it was\.$"):
        merge(torch.nn.Linear(1, 1), DATA / "tune_adapter")
