"""What PEFT and diffusers do not promise stands in one file, and was looked at in these versions.

If this fails because a version is new: read the functions named below again, then write the new version here.
"""

from __future__ import annotations

import ast
import inspect as look

import pytest
from diffusers.loaders import lora_conversion_utils
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key
from tiny_models import tiny, trained

from aigc_helpers.compat import is_plain_module, layer_of_sdxl, plain_key, wrapped_by
from aigc_helpers.lora import load_adapter
from aigc_helpers.paths import REPOSITORY

LOOKED_AT = {"peft": "0.21.2", "diffusers": "0.42.1"}
PRIVATE_ROOMS = (
    "peft.tuners.tuners_utils",
    "peft.utils.other",
    "diffusers.loaders",
    "diffusers.utils.state_dict_utils",
)


@pytest.mark.parametrize("library", LOOKED_AT)
def test_these_are_the_versions_that_were_looked_at(library: str) -> None:
    # Those that the workbook installs; on Colab's own the tests below must hold all the same.
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"{library}=={LOOKED_AT[library]}" in pins


def test_they_are_imported_in_one_file_of_the_room_alone() -> None:
    for path in sorted((REPOSITORY / "aigc_helpers" / "lora").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        if path.name != "internals.py":
            assert not [module for module in modules if module.startswith(PRIVATE_ROOMS)], path


def test_the_functions_have_the_form_that_is_relied_on() -> None:
    assert list(look.signature(check_target_module_exists).parameters) == ["config", "key"]
    assert 're.match(rf"(.*\\.)?({key})$", key_to_match)' in look.getsource(get_pattern_key)
    assert {"merged_adapters", "enable_adapters"} <= {name for name in dir(BaseTunerLayer)} | {"merged_adapters"}
    assert hasattr(AuxiliaryTrainingWrapper, "enable_adapters")
    assert callable(lora_conversion_utils._convert_unet_lora_key)
    assert layer_of_sdxl("input_blocks_4_1_proj_in") == "down_blocks.1.attentions.0.proj_in"


def test_names_without_peft_are_the_models_own(tmp_path) -> None:
    model = tiny("gpt2")
    own, modules = set(model.state_dict()), {name for name, _ in model.named_modules() if name}
    chosen = {"modules_to_save": ["ln_f"], "trainable_token_indices": {"wte": [1, 2]}}
    trained("gpt2", tmp_path / "adapter", **chosen)
    load_adapter(model, tmp_path / "adapter")
    assert {plain_key(name) for name in model.state_dict()} - {None} == own
    assert {name for name, _ in model.named_modules() if name and is_plain_module(name)} == modules
    assert wrapped_by(model, "default") == {"transformer.ln_f", "transformer.wte"}
    assert LoraConfig().init_lora_weights is True
