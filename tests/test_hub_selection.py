"""Of a hub's repository only what an install needs is fetched: one set of weights, and the files beside it."""

from __future__ import annotations

import pytest

from aigc_helpers.store.catalog import SourceError
from aigc_helpers.store.hub_listing import HubFile
from aigc_helpers.store.hub_selection import needed_files


def chosen(*names: str) -> set[str]:
    return {file.name for file in needed_files("hub:someone/tiny", [HubFile(name, 1, None, "0") for name in names])}


def test_other_formats_and_what_no_program_reads_stay_where_they_are() -> None:
    needed = {"config.json", "tokenizer.model", "merges.txt", "LICENSE", "README.md", "model.safetensors"}
    others = {"pytorch_model.bin", "tf_model.h5", "model.gguf", "onnx/model.onnx", "flax_model.msgpack", "train.py"}
    others |= {".gitattributes", ".cache/config.json", "samples/1.png", "events.out.tfevents.1"}
    assert chosen(*needed, *others) == needed


def test_shards_come_with_their_index_and_without_the_pickles() -> None:
    needed = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"}
    others = {"pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin", "consolidated.safetensors"}
    assert chosen(*needed, *others) == needed


def test_a_variant_beside_the_usual_weights_is_left_out() -> None:
    variants = {"model.fp16.safetensors", "model.fp16-00001-of-00001.safetensors", "model.fp16.safetensors.index.json"}
    assert chosen("model.safetensors", *variants) == {"model.safetensors"}


def test_a_variant_alone_is_what_there_is() -> None:
    assert chosen("model.fp16.safetensors", "config.json") == {"model.fp16.safetensors", "config.json"}


@pytest.mark.parametrize(
    ("shard", "index"),
    [
        ("model-0000{}-of-00002.fp16.safetensors", "model.safetensors.fp16.index.json"),
        ("model.fp16-0000{}-of-00002.safetensors", "model.safetensors.index.fp16.json"),
        ("model.fp16-0000{}-of-00002.safetensors", "model.fp16.safetensors.index.json"),
    ],
)
def test_a_variant_s_shards_come_with_their_index_under_each_of_its_names(shard: str, index: str) -> None:
    variant = {shard.format(1), shard.format(2), index}
    assert chosen(*variant) == variant
    plain = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"}
    assert chosen(*variant, *plain) == plain


def test_a_pipeline_comes_without_the_same_weights_in_one_file() -> None:
    needed = {"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"}
    needed |= {"text_encoder/model.safetensors", "tokenizer/merges.txt", "scheduler/scheduler_config.json"}
    others = {"v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/x.bin"}
    assert chosen(*needed, *others) == needed


def test_a_component_with_two_sets_of_other_names_has_to_be_named() -> None:
    with pytest.raises(SourceError, match="unet/a.safetensors .*\n  hub:someone/tiny/unet/b.safetensors"):
        chosen("model_index.json", "unet/a.safetensors", "unet/b.safetensors")
