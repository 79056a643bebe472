"""Names of layers: with dots as models write them, and flattened to underscores as kohya's trainer does.

``down_blocks_0_attentions_0_to_q`` does not say which underscores were dots. A list of the names that contain an
underscore tells, for the models of Stable Diffusion. diffusers' own way back (``_convert_unet_lora_key``) makes
``add_embedding.linear`` of SDXL's ``add_embedding_linear_1``; so it is used only for the names of the original SDXL
repository (``input_blocks_4_1_…``), which need its arithmetic of block numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from aigc_helpers.compat import layer_of_sdxl
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted
from aigc_helpers.inspection import AdapterModule

# Which layers there are, per component of a pipeline ("" for a model of its own).
Layers = Mapping[str, Collection[str]]

# The names in UNet2DConditionModel and CLIPTextModel that hold an underscore themselves.
_WITH_UNDERSCORE = (
    *("down_blocks", "up_blocks", "mid_block", "transformer_blocks", "conv_in", "conv_out", "conv_shortcut"),
    *("to_q", "to_k", "to_v", "to_out", "proj_in", "proj_out", "time_emb_proj", "time_embedding", "add_embedding"),
    *("linear_1", "linear_2", "class_embedding", "encoder_hid_proj", "text_model", "self_attn"),
    *("q_proj", "k_proj", "v_proj", "out_proj", "text_projection"),
)
_WORD_OR_DOT = re.compile(rf"(?<![a-z])({'|'.join(_WITH_UNDERSCORE)})(?=_|$)|_")
_ORIGINAL_BLOCKS = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_2")
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
_CLIP_LAYER = re.compile(r"(text_model\.)?(encoder\.layers\.\d+\.(self_attn|mlp)\.|text_projection$)")
_OLD_ATTENTION = re.compile(r"(self_attn)\.to_(q|k|v|out)(\.0)?$")
_KOHYA_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}


def with_dots(modules: Sequence[AdapterModule], layers: Layers) -> list[str]:
    """Return the layers that the modules of a file are for, as today's models name them.

    Args:
        modules: of one file.
        layers: of the model, as ``plain_name`` gives them.

    Raises:
        ReaderError: a name of the original SDXL repository is none.
    """
    known = {component: {_flat(component, name): name for name in names} for component, names in layers.items()}
    return [
        _from_flattened(module, known.get(module.component, {}))
        if module.flattened
        else plain_name(module.component, module.path)
        for module in modules
    ]


def component_of(module: AdapterModule) -> str:
    """Return the component of a pipeline that a module is for; names of PEFT do not say it, but layers do."""
    if not module.component and not module.flattened and _CLIP_LAYER.match(module.path):
        return "text_encoder"
    return module.component


def plain_name(component: str, path: str) -> str:
    """Return a layer's name as transformers 5 and diffusers have it.

    CLIPTextModel has lost its inner ``text_model`` there; CLIPTextModelWithProjection, SDXL's second, has kept it.
    """
    if component not in _TEXT_ENCODERS:
        return path
    path = _OLD_ATTENTION.sub(r"\1.\2_proj", path)
    bare = path.removeprefix("text_model.")
    return f"text_model.{bare}" if component == "text_encoder_2" and bare.startswith("encoder.") else bare


def kohya_name(component: str, path: str, *, is_sdxl: bool) -> str:
    """Return the name under which A1111 and ComfyUI look for a layer, without the ending of the matrix."""
    prefix = "lora_te1_" if component == "text_encoder" and is_sdxl else _KOHYA_PREFIXES[component]
    inner = "text_model." if component == "text_encoder" and path.startswith("encoder.") else ""
    return prefix + (inner + path).replace(".", "_")


def _from_flattened(module: AdapterModule, known: Mapping[str, str]) -> str:
    path, component = module.path, module.component
    if component == "unet" and path.startswith(_ORIGINAL_BLOCKS):
        path = _from_original_blocks(path).replace(".", "_")
    # What the model does not have keeps the likeliest name: whoever compares the two says more than that.
    return known.get(_flat(component, path)) or plain_name(component, _WORD_OR_DOT.sub(lambda dot: dot[1] or ".", path))


def _flat(component: str, name: str) -> str:
    flat = name.replace(".", "_")
    return flat.removeprefix("text_model_") if component in _TEXT_ENCODERS else flat


def _from_original_blocks(path: str) -> str:
    try:
        return layer_of_sdxl(path)
    except (ValueError, IndexError, KeyError) as error:
        raise ReaderError(f"{quoted(path)} is no layer of Stable Diffusion XL's UNet.") from error
