"""Names of layers: with dots as models write them, and flattened to underscores as kohya's trainer does.

``down_blocks_0_attentions_0_to_q`` does not say which underscores were dots. A list of the words that contain an
underscore tells, for the models of Stable Diffusion and for the transformers that diffusers names alike; a grammar of
whole names (``inspection/family_table.py``) then says whether any such model has the layer. What fits none is refused:
a name that is only likely makes a file that loads and does nothing. What the original repositories of other models
call their layers is a table (``original_layers.py``). diffusers' own way back
(``_convert_unet_lora_key``) makes ``add_embedding.linear`` of SDXL's ``add_embedding_linear_1``; so it is used only for
the names of the original SDXL repository (``input_blocks_4_1_…``), which need its arithmetic of block numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from aigc_helpers.compat import layer_of_sdxl
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted
from aigc_helpers.inspection import (
    CLIP_LAYERS,
    COMFYUI_PREFIX,
    TRANSFORMER_LAYERS,
    UNET_LAYERS,
    AdapterModule,
    pattern_of,
)
from aigc_helpers.lora.original_layers import Part, parts_of

# Which layers there are, per component of a pipeline ("" for a model of its own).
Layers = Mapping[str, Collection[str]]

# The words in diffusers' and CLIP's names that hold an underscore themselves; a longer one comes before its beginning.
_WITH_UNDERSCORE = (
    *("single_transformer_blocks", "norm1_context", "norm_out", "ff_context", "context_embedder", "x_embedder"),
    *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "to_qkv_mlp_proj", "proj_mlp", "linear_in", "linear_out"),
    *("time_text_embed", "time_guidance_embed", "timestep_embedder", "text_embedder", "guidance_embedder", "pos_embed"),
    *("caption_projection", "time_embed", "img_mlp", "txt_mlp", "img_mod", "txt_mod", "img_in", "txt_in"),
    *("down_blocks", "up_blocks", "mid_block", "transformer_blocks", "conv_in", "conv_out", "conv_shortcut"),
    *("to_q", "to_k", "to_v", "to_out", "proj_in", "proj_out", "time_emb_proj", "time_embedding", "add_embedding"),
    *("linear_1", "linear_2", "class_embedding", "encoder_hid_proj", "text_model", "self_attn"),
    *("q_proj", "k_proj", "v_proj", "out_proj", "text_projection"),
)
_WORD_OR_DOT = re.compile(rf"(?<![a-z])({'|'.join(_WITH_UNDERSCORE)})(?=_|$)|_")
_ORIGINAL_BLOCKS = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_2")
_UNET_BEGINNINGS = (
    *("down_blocks_", "mid_block_", "up_blocks_", "conv_in", "conv_out", "conv_norm_out", "time_", "add_", "class_"),
    *("encoder_hid_proj", "position_net"),
)
# The grammar of the whole names, by component; dots written as underscores.
_GRAMMARS = {"unet": UNET_LAYERS, "transformer": TRANSFORMER_LAYERS}
_GRAMMARS |= {"text_encoder": CLIP_LAYERS, "text_encoder_2": CLIP_LAYERS}
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
_CLIP_LAYER = re.compile(r"(text_model\.)?(encoder\.layers\.\d+\.(self_attn|mlp)\.|text_projection$)")
_OLD_ATTENTION = re.compile(r"(self_attn)\.(?:(?:q|k|v|out)_proj\.)?to_(q|k|v|out)(\.0)?$")
_KOHYA_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}


def parts_in_model(
    modules: Sequence[AdapterModule], layers: Layers, families: tuple[str, ...]
) -> list[tuple[Part, ...]]:
    """Return, for each module of a file, the layers that it is for as today's models name them: mostly one.

    Args:
        modules: of one file.
        layers: of the model, as ``plain_name`` gives them.
        families: that the file may be for, as ``possible_families`` gives them.

    Raises:
        ReaderError: no model is known that has a layer of such a name.
    """
    known = {component: {_flat(component, name): name for name in names} for component, names in layers.items()}
    return [
        _parts_of_original(module, families) or (Part(_name(module, known.get(module.component, {})), None),)
        for module in modules
    ]


def _parts_of_original(module: AdapterModule, families: tuple[str, ...]) -> tuple[Part, ...]:
    if module.component != "transformer" or module.sizes is None:
        return ()
    return parts_of(module.path.replace(".", "_"), *module.sizes, families)


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


def _name(module: AdapterModule, known: Mapping[str, str]) -> str:
    component, flat = module.component, module.path.replace(".", "_")
    if component == "unet" and flat.startswith(_ORIGINAL_BLOCKS) and _flat(component, flat) not in known:
        flat = _from_original_blocks(flat).replace(".", "_")
    elif not module.flattened and module.prefix != COMFYUI_PREFIX:
        # Dots are kept as they are; but what no UNet begins with is another model's, whatever stands before it.
        if component == "unet" and not known and not flat.startswith(_UNET_BEGINNINGS):
            raise ReaderError(_no_such_layer(module))
        return plain_name(component, module.path)
    found = known.get(_flat(component, flat))
    if found:
        return found
    likely = (
        _WORD_OR_DOT.sub(lambda dot: dot[1] or ".", flat) if module.flattened or component == "unet" else module.path
    )
    # What a given model does not have keeps the likeliest name: whoever compares the two says more than that.
    if not known and not _has_grammar(component, flat):
        raise ReaderError(_no_such_layer(module))
    return plain_name(component, likely)


def _has_grammar(component: str, flat: str) -> bool:
    grammar = _GRAMMARS.get(component)
    return bool(grammar and pattern_of(grammar).fullmatch(flat))


def _no_such_layer(module: AdapterModule) -> str:
    name = quoted(module.prefix + module.path)
    draws = module.component in ("unet", "transformer")
    models = {
        "unet": "the UNets of Stable Diffusion 1.x, 2.x and XL",
        "transformer": "the transformers that diffusers names transformer_blocks",
    }.get(module.component, "CLIP's text encoders")
    use = (
        "Load the file as it is: ComfyUI takes the names of the model's own repository (models/loras), and diffusers "
        "those it knows, with load_lora_weights of that model's pipeline."
        if draws
        else "Load the file as it is, with the program that its author names."
    )
    return (
        f"the layer {name} is none of {models}, so what other formats call it is not known. Nothing was written. {use}"
    )


def _flat(component: str, name: str) -> str:
    flat = name.replace(".", "_")
    return flat.removeprefix("text_model_") if component in _TEXT_ENCODERS else flat


def _from_original_blocks(path: str) -> str:
    try:
        return layer_of_sdxl(path)
    except (ValueError, IndexError, KeyError) as error:
        raise ReaderError(f"{quoted(path)} is no layer of Stable Diffusion XL's UNet.") from error
