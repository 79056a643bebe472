"""What other libraries do not promise stands in aigc_helpers/compat.py alone, and was read in these versions.

If this fails because a version is new: read again in it what the functions below call, then write it here.
"""

from __future__ import annotations

import ast
import atexit
import inspect as look
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import PeftAdapterMixin, lora_conversion_utils
from nbclient import NotebookClient
from nbformat import v4
from peft import LoraConfig
from peft.functional import set_adapter
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key
from sacrebleu.metrics import BLEU, CHRF
from tiny_models import tiny, trained

from aigc_helpers import compat
from aigc_helpers.lora import load_adapter
from aigc_helpers.paths import REPOSITORY

# Each function of compat.py, with the library that it knows from within and the version in which that was read.
READ_FROM = {
    "plain_key": "peft==0.21.2",
    "is_plain_module": "peft==0.21.2",
    "keys_of_layer": "peft==0.21.2",
    "key_of_copy": "peft==0.21.2",
    "key_of_rows": "peft==0.21.2",
    "wrapped_by": "peft==0.21.2",
    "adapters_of": "peft==0.21.2",
    "merged_into": "peft==0.21.2",
    "strengths_in": "peft==0.21.2",
    "set_strength": "peft==0.21.2",
    "layers_of_peft": "peft==0.21.2",
    "activate": "peft==0.21.2",
    "remove": "peft==0.21.2",
    "is_target": "peft==0.21.2",
    "mark_adapted": "diffusers==0.42.1",
    "layer_of_sdxl": "diffusers==0.42.1",
    "is_out_of_memory": "accelerate==1.15.0",
    "counts_by_sentence": "sacrebleu==2.6.0",
    "score_of_counts": "sacrebleu==2.6.0",
    "forget_kernel_at_exit": "nbclient==0.11.0",
    "fake_tensors": "torch==2.13.0",
}
# Modules whose names have no underscore and which their libraries' documentation leaves out all the same.
UNDOCUMENTED = (
    "peft.tuners.tuners_utils",
    "peft.tuners.trainable_tokens",
    "peft.utils.other",
    "diffusers.loaders.lora_conversion_utils",
    "diffusers.utils.state_dict_utils",
    "accelerate.utils.memory",
)
# With an underscore, and meant for everybody: named tuples' methods, and the type of what argparse hands out.
MEANT_FOR_ALL = {"_replace", "_asdict", "_fields", "_SubParsersAction"}
SOURCES = [
    path
    for folder in ("aigc_helpers", "chapters", "benchmarks")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
    if path != Path(compat.__file__)
]
LAYER = "transformer.h.0.attn.c_attn"


@pytest.mark.parametrize("name", READ_FROM)
def test_the_version_that_was_read_is_the_one_that_is_installed(name: str) -> None:
    # By whoever installs the workbook; on Colab's own versions the tests below must hold all the same.
    assert READ_FROM[name] in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_every_function_has_its_line_and_its_test() -> None:
    functions = {name for name, one in vars(compat).items() if look.isfunction(one) and not name.startswith("_")}
    assert functions == set(READ_FROM)
    tests = Path(__file__).read_text(encoding="utf-8")
    assert not [name for name in functions if f"compat.{name}(" not in tests]


def private_names(tree: ast.AST) -> Iterator[str]:
    """Yield what a source takes from other modules under a name that begins with one underscore."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            names = [] if is_own else [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [word for alias in node.names for word in alias.name.split(".")]
        else:
            continue
        yield from (
            name for name in names if name.startswith("_") and not name.startswith("__") and name not in MEANT_FOR_ALL
        )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_nobody_else_uses_them(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not list(private_names(tree))
    assert not [module for module in modules if module.startswith(UNDOCUMENTED)]


@pytest.fixture
def adapted(tmp_path: Path) -> torch.nn.Module:
    """A GPT-2 with an adapter that has matrices, a copy of a module, and rows of an embedding."""
    trained("gpt2", tmp_path / "adapter", modules_to_save=["ln_f"], trainable_token_indices={"wte": [1, 2]})
    model = tiny("gpt2")
    load_adapter(model, tmp_path / "adapter")
    return model


def test_names_without_peft_are_the_models_own(adapted: torch.nn.Module) -> None:
    plain = tiny("gpt2")
    modules = {name for name, _ in plain.named_modules() if name}
    assert {compat.plain_key(name) for name in adapted.state_dict()} - {None} == set(plain.state_dict())
    assert {name for name, _ in adapted.named_modules() if name and compat.is_plain_module(name)} == modules


def test_names_within_an_adapted_model(adapted: torch.nn.Module) -> None:
    state = set(adapted.state_dict())
    keys = compat.keys_of_layer(LAYER, "default")
    assert {keys["down"], keys["up"]} <= state and keys["magnitude"] not in state  # No DoRA.
    assert compat.key_of_copy("transformer.ln_f", "weight", "default") in state
    assert compat.key_of_rows("transformer.wte", "default") in state
    assert compat.wrapped_by(adapted, "default") == {"transformer.ln_f", "transformer.wte"}
    assert compat.wrapped_by(adapted, "another") == set()


def test_what_peft_keeps_of_an_adapter(adapted: torch.nn.Module) -> None:
    assert {name: type(config) for name, config in compat.adapters_of(adapted).items()} == {"default": LoraConfig}
    assert compat.adapters_of(tiny("gpt2")) == {}
    strengths = compat.strengths_in(adapted, "default")
    assert LAYER in strengths and compat.strengths_in(adapted, "another") == {}
    compat.set_strength(adapted.get_submodule(LAYER), "default", 16.0, 5.0)
    assert compat.strengths_in(adapted, "default") == strengths | {LAYER: 5.0}
    with pytest.raises(TypeError, match="no layer with a LoRA"):
        compat.set_strength(torch.nn.Linear(1, 1), "default", 16.0, 5.0)
    assert compat.merged_into(adapted) == set()
    layers = [layer for layer in compat.layers_of_peft(adapted) if isinstance(layer, LoraLayer)]
    layers[0].merge()
    assert compat.merged_into(adapted) == {"default"}


def test_adapters_are_switched_on_and_off_and_taken_out(adapted: torch.nn.Module) -> None:
    def active() -> set[str]:
        return {name for layer in compat.layers_of_peft(adapted) for name in layer.active_adapters}

    assert active() == {"default"}
    compat.activate(adapted, None)
    assert active() == set()
    for layer in compat.layers_of_peft(adapted):
        layer.enable_adapters(False)
    compat.activate(adapted, "default")
    assert active() == {"default"} and not any(layer.disable_adapters for layer in compat.layers_of_peft(adapted))
    assert not any(one.requires_grad for name, one in adapted.named_parameters() if ".lora_" in name)
    compat.remove(adapted, "default")
    assert compat.adapters_of(adapted) == {} and compat.strengths_in(adapted, "default") == {}
    assert "inference_mode" in look.signature(set_adapter).parameters
    assert {"enable_adapters", "disable_adapters", "active_adapters"} <= set(dir(BaseTunerLayer))
    assert {"enable_adapters", "disable_adapters", "active_adapters"} <= set(dir(AuxiliaryTrainingWrapper))


def test_target_modules_are_the_whole_name_or_its_end() -> None:
    config = LoraConfig(target_modules=["attn.c_attn"])
    assert compat.is_target(config, LAYER) and not compat.is_target(config, LAYER.replace("attn.c", "tattn.c"))
    assert list(look.signature(check_target_module_exists).parameters) == ["config", "key"]
    # inspection.adapter_settings follows this rule without PEFT.
    assert 're.match(rf"(.*\\.)?({key})$", key_to_match)' in look.getsource(get_pattern_key)
    assert LoraConfig().init_lora_weights is True


def test_diffusers_takes_a_marked_model_for_one_with_adapters() -> None:
    assert PeftAdapterMixin._hf_peft_config_loaded is False
    model = torch.nn.Linear(1, 1)
    compat.mark_adapted(model)
    assert model._hf_peft_config_loaded is True
    assert "if not self._hf_peft_config_loaded:" in look.getsource(UNet2DConditionModel.set_adapter)


def test_layers_of_the_original_sdxl_repository() -> None:
    assert callable(lora_conversion_utils._convert_unet_lora_key)
    assert compat.layer_of_sdxl("input_blocks_4_1_proj_in") == "down_blocks.1.attentions.0.proj_in"
    with pytest.raises((ValueError, IndexError, KeyError)):
        compat.layer_of_sdxl("input_blocks_a_1_proj_in")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, said: bool) -> None:
    assert compat.is_out_of_memory(error) is said


@pytest.mark.parametrize("metric", [BLEU(), CHRF()])
def test_the_sum_of_all_counts_has_the_score_of_the_set(metric: BLEU | CHRF) -> None:
    references = ["the cat sat on the mat", "a tiger is in the garden", "no dog barked at all"]
    translations = ["the cat sat on a mat", "a tiger was in the garden", "no dog barked"]
    counts = compat.counts_by_sentence(metric, translations, references)
    assert len(counts) == 3
    summed = [float(sum(column)) for column in zip(*counts, strict=True)]
    wanted = metric.corpus_score(translations, [references]).score
    assert compat.score_of_counts(metric, summed) == pytest.approx(wanted)


def test_no_kernel_is_cleaned_up_when_the_interpreter_ends() -> None:
    client = NotebookClient(v4.new_notebook())
    with mock.patch.object(atexit, "unregister") as unregister:
        compat.forget_kernel_at_exit(client)
    unregister.assert_called_once_with(client._cleanup_kernel)
    assert "atexit.register(self._cleanup_kernel)" in look.getsource(look.unwrap(NotebookClient.async_setup_kernel))


def test_fake_tensors_have_a_shape_and_no_memory_and_their_storages_keep_their_identity() -> None:
    seen: list[int] = []
    with compat.fake_tensors(lambda storage: seen.append(id(storage))):
        made = torch.zeros(10**7, 10**7)
        view = made[0] + 1
        made.add_(1)
    assert (made.shape, view.shape) == ((10**7, 10**7), (10**7,))
    # Made, a view of it, the sum, and made again: memory is counted by this.
    assert [each == id(made.untyped_storage()) for each in seen] == [True, True, False, True]
