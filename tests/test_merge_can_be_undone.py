"""After a merge is undone the base is back to the bit: subtracting the update again would not do that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from lora_files import make_for, save_kohya

from aigc_helpers.errors import ReaderError
from aigc_helpers.images import load_pipeline
from aigc_helpers.lora import load_adapter
from aigc_helpers.lora.merging import merge


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline()


@pytest.fixture(scope="module")
def lora(pipeline: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = make_for(pipeline.unet, "unet", ["to_q", "conv1"], 2, 4.0)
    layers += make_for(pipeline.text_encoder, "text_encoder", ["fc1"], 2, 2.0)
    return save_kohya(tmp_path_factory.mktemp("lora") / "some.safetensors", layers)


def weights(pipeline: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": parameter.detach().clone()
        for part, model in (("unet", pipeline.unet), ("text_encoder", pipeline.text_encoder))
        for name, parameter in model.named_parameters()
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_undo_and_the_end_of_the_block_restore_every_bit(pipeline: StableDiffusionPipeline, lora: Path) -> None:
    before = weights(pipeline)
    with merge(pipeline, lora) as merged:
        after = weights(pipeline)
        changed = {name.removesuffix(".weight") for name in after if not torch.equal(after[name], before[name])}
        assert changed == {f"{rounding.component}.{rounding.layer}" for rounding in merged.roundings}
    assert same(weights(pipeline), before)
    merged.undo()
    assert same(weights(pipeline), before)


def test_subtracting_what_was_added_would_not_restore_it(pipeline: StableDiffusionPipeline, lora: Path) -> None:
    before = weights(pipeline)
    with merge(pipeline, lora), merge(pipeline, lora, scale=-1.0):
        assert not same(weights(pipeline), before)
    assert same(weights(pipeline), before)


def test_an_error_within_the_block_restores_it_too(pipeline: StableDiffusionPipeline, lora: Path) -> None:
    before = weights(pipeline)
    with pytest.raises(ZeroDivisionError), merge(pipeline, lora):
        assert not same(weights(pipeline), before)
        1 / 0  # noqa: B018
    assert same(weights(pipeline), before)


def test_two_merges_are_undone_the_last_one_first(pipeline: StableDiffusionPipeline, lora: Path) -> None:
    before = weights(pipeline)
    with merge(pipeline, lora, scale=0.5):
        first = weights(pipeline)
        with merge(pipeline, lora, scale=-0.25):
            assert not same(weights(pipeline), first)
        assert same(weights(pipeline), first)
    assert same(weights(pipeline), before)


def test_the_first_of_two_merges_is_not_undone_under_the_second(pipeline: StableDiffusionPipeline, lora: Path) -> None:
    before = weights(pipeline)
    first, second = merge(pipeline, lora, scale=0.5), merge(pipeline, lora, scale=0.25)
    both = weights(pipeline)
    with pytest.raises(ReaderError, match="changed since this merge.*the last one first"):
        first.undo()
    assert same(weights(pipeline), both)
    second.undo()
    first.undo()
    assert same(weights(pipeline), before)


def test_a_merge_is_not_undone_under_a_fused_adapter(pipeline: StableDiffusionPipeline, lora: Path) -> None:
    before = weights(pipeline)
    load_adapter(pipeline, lora)
    merged = merge(pipeline, lora)
    pipeline.fuse_lora()
    with pytest.raises(ReaderError, match="changed since this merge"):
        merged.undo()
    pipeline.unload_lora_weights()
    with torch.no_grad():
        for part in (pipeline.unet, pipeline.text_encoder):
            prefix = "unet." if part is pipeline.unet else "text_encoder."
            for name, weight in part.named_parameters():
                weight.copy_(before[prefix + name])


def test_a_scale_of_one_is_what_the_loaded_adapter_does(pipeline: StableDiffusionPipeline, lora: Path) -> None:
    tokens = torch.arange(2, 10).unsqueeze(0)
    with torch.no_grad():
        plain = pipeline.text_encoder(tokens).last_hidden_state
        with merge(pipeline, lora):
            merged = pipeline.text_encoder(tokens).last_hidden_state
        load_adapter(pipeline, lora)
        loaded = pipeline.text_encoder(tokens).last_hidden_state
        # A merge under a loaded adapter goes into the layer beneath it.
        with merge(pipeline, lora, scale=-1.0):
            cancelled = pipeline.text_encoder(tokens).last_hidden_state
    pipeline.unload_lora_weights()
    assert not torch.allclose(merged, plain, atol=1e-3)
    assert torch.allclose(merged, loaded, atol=1e-4)
    assert torch.allclose(cancelled, plain, atol=1e-4)
