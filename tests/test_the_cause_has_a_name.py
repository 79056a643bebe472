"""What is wrong with a file, or only looks so, is called by its cause: the reader can act on nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_weight_files import Tensors, inspect_saved, kohya_lora, zeros

from aigc_helpers import convert, inspect
from aigc_helpers.errors import ReaderError
from aigc_helpers.inspection import Inspection

LAYER = "base_model.model.bert.encoder.layer.0.attention.self.query"
BERT = {f"{LAYER}.lora_A.weight": zeros(8, 64), f"{LAYER}.lora_B.weight": zeros(64, 8)}
SETTINGS = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["query"]}


def peft_folder(folder: Path, tensors: Tensors, **settings: object) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(SETTINGS | settings))
    return folder


def remarks_on(inspection: Inspection) -> str:
    return " ".join(inspection.remarks)


@pytest.mark.parametrize("shape", [(0,), (0, 64)])
def test_empty_matrices_are_zero_3_s(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder = peft_folder(tmp_path / "adapter", dict.fromkeys(BERT, zeros(*shape)))
    base = tmp_path / "base.safetensors"
    save_file({"bert.encoder.layer.0.attention.self.query.weight": zeros(64, 64)}, base)
    inspection = inspect(folder, bases=[base])
    assert "ZeRO-3" in remarks_on(inspection)
    assert inspection.adapter.ranks == {}
    compared = inspection.compatibility[-1]
    assert (compared.compatible, compared.reason) == (False, "1 of its 1 layers hold no numbers")
    with pytest.raises(ReaderError, match="hold no numbers.*ZeRO-3"):
        convert(folder, tmp_path / "out", "peft")
    assert not (tmp_path / "out").exists()


def test_words_that_come_along_replace_nothing_and_the_lora_is_converted(tmp_path: Path) -> None:
    words = {"bundle_emb.some.word.clip_l": zeros(2, 768), "bundle_emb.some.word.clip_g": zeros(2, 1280)}
    inspection = inspect_saved(tmp_path, kohya_lora(2048) | words)
    assert inspection.adapter.saved_modules == ()
    assert "the embeddings of 'some.word' (bundle_emb)" in remarks_on(inspection)
    for target, to in ((tmp_path / "as_peft", "peft"), (tmp_path / "some_diffusers.safetensors", "diffusers")):
        done = convert(tmp_path / "some.safetensors", target, to)
        assert done.layers == {"unet": 2}
        assert any("'some.word'" in remark for remark in done.remarks)


def test_a_class_of_transformers_is_no_code_of_the_author_s_and_tells_the_task(tmp_path: Path) -> None:
    mapping = {"base_model_class": "BertForSequenceClassification", "parent_library": "transformers.models.bert.some"}
    folder = peft_folder(tmp_path / "adapter", BERT, task_type=None, auto_mapping=mapping)
    remarks = remarks_on(inspect(folder))
    assert "names code to import" not in remarks
    assert "lacks the head" in remarks
    assert not any("names code" in each for each in convert(folder, tmp_path / "out", "peft").remarks)
    foreign = peft_folder(tmp_path / "foreign", BERT, auto_mapping=mapping | {"parent_library": "transformers_evil"})
    assert "names code to import" in remarks_on(inspect(foreign))


@pytest.mark.parametrize(
    ("beside", "dtype", "words"),
    [
        ({"{}.absmax": "u1", "{}.quant_state.bitsandbytes__nf4": "u1"}, "u1", "bitsandbytes, NF4): one stored number"),
        ({"layer.SCB": "f4"}, "i1", "bitsandbytes, 8-bit): a weight is"),
        ({"layer.qweight": "i4", "layer.qzeros": "i4", "layer.scales": "f2"}, "f4", "GPTQ or AWQ): one stored number"),
        ({"layer.scales": "f2", "layer.biases": "f2"}, "u4", "MLX): one stored number"),
        ({"scaled_fp8": "f2", "layer.scale_weight": "f4"}, "f4", "8-bit with scales): a weight is"),
        ({"layer.bias": "f4"}, "f4", ""),
    ],
)
def test_quantised_weights_are_said_to_be(tmp_path: Path, beside: dict[str, str], dtype: str, words: str) -> None:
    tensors = {name.format("layer.weight"): np.zeros((4, 4), kind) for name, kind in beside.items()}
    inspection = inspect_saved(tmp_path, tensors | {"layer.weight": np.zeros((4, 4), dtype)})
    assert words in remarks_on(inspection)
    assert ("Quantised" in remarks_on(inspection)) == bool(words)


@pytest.mark.parametrize("packed", ["u1", "u4", "i4"])
def test_the_widths_of_packed_weights_are_not_compared(tmp_path: Path, packed: str) -> None:
    base = tmp_path / "base.safetensors"
    save_file({"bert.encoder.layer.0.attention.self.query.weight": np.zeros((64, 8), packed)}, base)
    compared = inspect(peft_folder(tmp_path / "adapter", BERT), bases=[base]).compatibility[-1]
    assert compared.compatible
    assert "their widths were not compared" in compared.reason


@pytest.mark.parametrize(
    ("tensors", "kind", "refusal"),
    [
        ({f"model.layers.0.self_attn.q_proj.lora_{part}": zeros(8, 8) for part in "ab"}, "MLX LoRA", "mlx_lm.fuse"),
        ({"prompt_embeddings": zeros(8, 768)}, "PEFT PROMPT_TUNING", "PEFT PROMPT_TUNING"),
        ({"base_model.model.encoder.layer.0.attention.self.key.ia3_l": zeros(8, 1)}, "PEFT IA3", "PEFT IA3"),
    ],
)
def test_other_adapters_are_named_and_not_converted(tmp_path: Path, tensors: Tensors, kind: str, refusal: str) -> None:
    assert inspect_saved(tmp_path, tensors).kind == kind
    with pytest.raises(ReaderError, match=refusal):
        convert(tmp_path / "some.safetensors", tmp_path / "out", "peft")


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    save_file(kohya_lora(768), tmp_path / "some.safetensors")
    marked = tmp_path / "marked.safetensors"
    marked.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "some.safetensors").read_bytes())
    with pytest.raises(ReaderError, match="begins with the byte-order mark"):
        inspect(marked)


def test_a_name_with_forty_thousand_endings_is_read_in_a_moment(tmp_path: Path) -> None:
    begun = time.process_time()
    inspect_saved(tmp_path, {".lora_magnitude_vector" * 40_000 + "..": zeros(1)})
    assert time.process_time() - begun < 5
