"""Loading an adapter either does all that the file says, or raises: there is no silent half.

diffusers and PEFT log what they leave out, at best. Then the picture is the base's, or at the wrong strength, and the
reader looks for the fault everywhere else.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from lora_files import Made, make, make_for, save_kohya
from peft import get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification

from aigc_helpers.errors import ReaderError
from aigc_helpers.images import load_pipeline
from aigc_helpers.lora import convert, load_adapter
from aigc_helpers.lora.merging import merge
from aigc_helpers.lora.targets import check_target_modules
from aigc_helpers.paths import DATA
from aigc_helpers.store import install_asset

SDXL_LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
NOT_ITS_OWN = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline()


@pytest.fixture(autouse=True)
def _unload(pipeline: StableDiffusionPipeline) -> None:
    yield
    pipeline.unload_lora_weights()


@pytest.fixture(scope="module")
def layers(pipeline: StableDiffusionPipeline) -> list[Made]:
    unet = make_for(pipeline.unet, "unet", ["attn2.to_k", "conv1"], 2, 4.0)
    return unet + make_for(pipeline.text_encoder, "text_encoder", ["v_proj"], 2, 1.0)


def strengths(model: torch.nn.Module, name: str = "default") -> dict[str, float]:
    return {
        key: layer.scaling[name]
        for key, layer in model.named_modules()
        if isinstance(layer, LoraLayer) and name in layer.scaling
    }


def test_every_layer_gets_its_own_matrices_and_strength(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    made = [replace(layer, alpha=0.5 + number) for number, layer in enumerate(layers)]
    state = torch.get_rng_state()
    loaded = load_adapter(pipeline, save_kohya(tmp_path / "mixed.safetensors", made))
    assert torch.equal(torch.get_rng_state(), state)  # Loading draws no random number.
    assert sum(loaded.layers.values()) == len(made)
    assert loaded.alphas == {layer.alpha: 1 for layer in made}
    for model, component in ((pipeline.unet, "unet"), (pipeline.text_encoder, "text_encoder")):
        wanted = {layer.path: layer for layer in made if layer.component == component}
        found = strengths(model)
        assert found == {path: layer.alpha / 2 for path, layer in wanted.items()}
        for path, layer in wanted.items():
            module = model.get_submodule(path)
            assert torch.equal(module.lora_A["default"].weight, layer.down)
            assert torch.equal(module.lora_B["default"].weight, layer.up)
            assert not module.lora_A["default"].weight.requires_grad


@pytest.mark.parametrize("rank", [2, 3])
def test_one_of_the_same_name_is_replaced_in_place_or_anew(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path, rank: int
) -> None:
    load_adapter(pipeline, save_kohya(tmp_path / "first.safetensors", layers))
    second = [
        make(layer.component, layer.path, (len(layer.up), *layer.down.shape[1:]), rank, 6.0, seed=9) for layer in layers
    ]
    load_adapter(pipeline, save_kohya(tmp_path / "second.safetensors", second))
    assert set(strengths(pipeline.unet).values()) == {6.0 / rank}
    for layer in second:
        model = pipeline.unet if layer.component == "unet" else pipeline.text_encoder
        assert torch.equal(model.get_submodule(layer.path).lora_B["default"].weight, layer.up)


def test_no_half_of_an_older_adapter_stays_in_force(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    tokens = torch.arange(2, 10).unsqueeze(0)

    def text() -> torch.Tensor:
        with torch.no_grad():
            return pipeline.text_encoder(tokens).last_hidden_state

    plain = text()
    both = save_kohya(tmp_path / "both.safetensors", layers)
    unet = save_kohya(tmp_path / "unet.safetensors", [layer for layer in layers if layer.component == "unet"])
    for name in ("default", "another"):
        load_adapter(pipeline, both)
        assert not torch.equal(text(), plain)
        load_adapter(pipeline, unet, name)
        assert torch.equal(text(), plain)
    pipeline.set_adapters(["default"])
    assert not torch.equal(text(), plain)


def unet_weights(pipeline: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in pipeline.unet.named_parameters() if ".lora_" not in name}


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("name", ["default", "another"])
def test_nothing_is_loaded_over_an_adapter_that_is_fused_and_the_base_comes_back(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path, rank: int, name: str
) -> None:
    base = unet_weights(pipeline)
    unet = [replace(layer, up=layer.up * 50) for layer in layers if layer.component == "unet"]
    first = save_kohya(tmp_path / "first.safetensors", unet)
    second = save_kohya(
        tmp_path / "second.safetensors",
        [make("unet", one.path, (len(one.up), *one.down.shape[1:]), rank, 6.0, seed=9) for one in unet],
    )
    load_adapter(pipeline, first)
    pipeline.fuse_lora()
    for use in (lambda: load_adapter(pipeline, second, name), lambda: merge(pipeline, second)):
        with pytest.raises(ReaderError, match="'default' is merged .fused.*unfuse_lora"):
            use()
    pipeline.unfuse_lora()  # As the message says.
    load_adapter(pipeline, second, name)
    assert strengths(pipeline.unet, name) == {one.path: 6.0 / rank for one in unet}
    pipeline.unload_lora_weights()
    after = unet_weights(pipeline)
    assert all(torch.allclose(after[key], value, atol=1e-6) for key, value in base.items())
    with torch.no_grad():  # The other tests use the same pipeline.
        for key, value in pipeline.unet.named_parameters():
            value.copy_(base[key])


def test_an_adapter_that_is_loaded_while_others_are_switched_off_is_in_force(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    path = save_kohya(tmp_path / "some.safetensors", layers)
    tokens = torch.arange(2, 10).unsqueeze(0)

    def text() -> torch.Tensor:
        with torch.no_grad():
            return pipeline.text_encoder(tokens).last_hidden_state

    load_adapter(pipeline, path)
    wanted = text()
    pipeline.disable_lora()
    assert not torch.equal(text(), wanted)
    for name in ("default", "another"):
        load_adapter(pipeline, path, name)
        assert torch.equal(text(), wanted)
        pipeline.disable_lora()


def test_a_file_that_is_refused_leaves_the_older_adapter_in_place(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    load_adapter(pipeline, save_kohya(tmp_path / "good.safetensors", layers))
    before = strengths(pipeline.unet)
    with pytest.raises(ReaderError):
        load_adapter(
            pipeline, save_kohya(tmp_path / "other.safetensors", [make("unet", "conv_in", (4, 4, 3, 3), 1, 1.0)])
        )
    assert strengths(pipeline.unet) == before


@pytest.mark.parametrize(("width", "family"), [(768, "1.x"), (1024, "2.x"), (2048, "XL")])
def test_another_generations_adapter_is_said_to_be_one(
    pipeline: StableDiffusionPipeline, tmp_path: Path, width: int, family: str
) -> None:
    path = save_kohya(tmp_path / "other.safetensors", [make("unet", NOT_ITS_OWN, (160, width), 2, 2.0)])
    with pytest.raises(ReaderError, match=f"is for Stable Diffusion {family}, the model is .*miniature.*{width}"):
        load_adapter(pipeline, path)


def test_an_xl_file_with_its_second_text_encoder_is_said_to_be_one(
    pipeline: StableDiffusionPipeline, tmp_path: Path
) -> None:
    made = [
        make("text_encoder_2", "text_projection", (8, 8), 2, 2.0),
        make("unet", SDXL_LAYER, (640, 2048), 2, 2.0),
    ]
    with pytest.raises(ReaderError, match="is for Stable Diffusion XL"):
        load_adapter(pipeline, save_kohya(tmp_path / "xl.safetensors", made))


def test_a_layer_that_the_model_does_not_have_is_named(pipeline: StableDiffusionPipeline, tmp_path: Path) -> None:
    path = save_kohya(
        tmp_path / "deep.safetensors", [make("unet", "down_blocks.7.resnets.0.conv1", (4, 4, 3, 3), 1, 1.0)]
    )
    with pytest.raises(ReaderError, match="has no layer down_blocks.7.resnets.0.conv1"):
        load_adapter(pipeline, path)


def test_an_adapter_that_changes_nothing_is_an_error(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    still = [replace(layer, up=torch.zeros_like(layer.up)) for layer in layers]
    with pytest.raises(ReaderError, match=f"changes no output: in all {len(still)} layers"):
        load_adapter(pipeline, save_kohya(tmp_path / "still.safetensors", still))
    loaded = load_adapter(pipeline, save_kohya(tmp_path / "half.safetensors", [still[0], *layers[1:]]))
    assert f"1 of {len(layers)} layers are zero and change nothing." in loaded.remarks


def test_nan_is_an_error(pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path) -> None:
    broken = replace(layers[0], up=torch.full_like(layers[0].up, float("nan")))
    with pytest.raises(ReaderError, match="NaN or infinite"):
        load_adapter(pipeline, save_kohya(tmp_path / "broken.safetensors", [broken, *layers[1:]]))


def test_a_tensor_that_is_no_loras_is_an_error(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    tensors = load_file(save_kohya(tmp_path / "good.safetensors", layers))
    save_file(tensors | {"unet.something.weight": torch.ones(2)}, tmp_path / "more.safetensors")
    with pytest.raises(ReaderError, match="unet.something.weight.*matches nothing"):
        load_adapter(pipeline, tmp_path / "more.safetensors")


def test_layers_that_were_trained_and_are_missing_in_the_file_are_an_error(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    folder = tmp_path / "peft"
    convert(save_kohya(tmp_path / "some.safetensors", layers), folder, "peft")
    path = folder / "unet" / "adapter_model.safetensors"
    tensors = load_file(path)
    gone = next(iter(tensors)).partition(".lora_")[0]
    save_file({key: value for key, value in tensors.items() if not key.startswith(gone)}, path)
    with pytest.raises(ReaderError, match=f"{gone.removeprefix('base_model.model.')}.*gets nothing"):
        load_adapter(pipeline, folder)


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt"])
def test_a_pickle_is_refused_with_the_way_out(pipeline: StableDiffusionPipeline, tmp_path: Path, name: str) -> None:
    torch.save({"unet.conv_in.lora_A.weight": torch.ones(1)}, tmp_path / name)
    with pytest.raises(ReaderError, match=f"aigc install .*{name}"):
        load_adapter(pipeline, tmp_path / name)


def test_what_save_lora_adapter_wrote_loads_without_a_prefix(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    unet = [layer for layer in layers if layer.component == "unet"]
    load_adapter(pipeline, save_kohya(tmp_path / "source.safetensors", unet), "other")
    wanted = get_peft_model_state_dict(pipeline.unet, adapter_name="other")
    pipeline.unet.save_lora_adapter(tmp_path / "folder", adapter_name="other")
    pipeline.unload_lora_weights()
    assert load_adapter(pipeline, tmp_path / "folder").layers == {"unet": len(unet)}
    assert set(strengths(pipeline.unet).values()) == {2.0}
    found = get_peft_model_state_dict(pipeline.unet)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_the_pipelines_own_calls_go_on_from_there(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    path = save_kohya(tmp_path / "some.safetensors", layers)
    load_adapter(pipeline, path, "one")
    load_adapter(pipeline, path, "two")
    assert pipeline.get_active_adapters() == ["two"]
    pipeline.set_adapters(["one", "two"], [0.5, 0.25])
    assert set(strengths(pipeline.unet, "one").values()) == {1.0}
    pipeline.unload_lora_weights()
    assert not [name for name, _ in pipeline.unet.named_parameters() if ".lora_" in name]


def test_a_classifiers_head_is_loaded_with_its_adapter_or_refused() -> None:
    model = AutoModelForSequenceClassification.from_pretrained(install_asset("bert"), num_labels=2)
    loaded = load_adapter(model, DATA / "film_adapter")
    stored = load_file(DATA / "film_adapter" / "adapter_model.safetensors")
    assert loaded.layers == {"": 12}
    assert torch.equal(model.classifier.modules_to_save["default"].weight, stored["base_model.model.classifier.weight"])
    assert any("nothing was fetched" in remark for remark in loaded.remarks)
    with pytest.raises(ReaderError, match="classifier.*matches nothing"):
        load_adapter(AutoModel.from_pretrained(install_asset("bert")), DATA / "film_adapter")


def test_an_adapter_config_imports_nothing(
    pipeline: StableDiffusionPipeline, layers: list[Made], tmp_path: Path
) -> None:
    folder = tmp_path / "peft"
    text = [layer for layer in layers if layer.component == "text_encoder"]
    convert(save_kohya(tmp_path / "some.safetensors", text), folder, "peft")
    (tmp_path / "harm.py").write_text("raise SystemExit('imported')")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config |= {"megatron_core": "harm", "auto_mapping": {"parent_library": "harm", "base_model_class": "x"}}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = load_adapter(pipeline, folder)
    assert any("nothing was imported" in remark for remark in loaded.remarks)


def test_each_target_module_is_checked_by_itself(pipeline: StableDiffusionPipeline) -> None:
    matches = check_target_modules(pipeline.text_encoder, ["q_proj", "layers.0.mlp.fc1"])
    assert matches["q_proj"] == [f"encoder.layers.{number}.self_attn.q_proj" for number in range(3)]
    assert matches["layers.0.mlp.fc1"] == ["encoder.layers.0.mlp.fc1"]
    with pytest.raises(ReaderError, match="'query' matches no layer of this CLIPTextModel.*q_proj"):
        check_target_modules(pipeline.text_encoder, ["q_proj", "query"])
    with pytest.raises(ReaderError, match="is a CLIPAttention.*k_proj, out_proj, q_proj, v_proj"):
        check_target_modules(pipeline.text_encoder, ["self_attn"])
    with pytest.raises(ReaderError, match="Write \\['q_proj'\\]"):
        check_target_modules(pipeline.text_encoder, "q_proj")
