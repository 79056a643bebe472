"""Which family a file belongs to and which part of a model it is, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from aigc_helpers.formats import escaped
from aigc_helpers.inspection.adapter_keys import Adapter, AdapterModule, Shaped
from aigc_helpers.inspection.family_table import (
    FAMILIES,
    FLUX1,
    LANGUAGE_MODELS,
    MINIATURE,
    MODEL_TYPES,
    SD1,
    SD2,
    SDXL,
    STABLE_DIFFUSION_3,
    TRANSFORMER,
    UNET_PART,
    Family,
)

# What attn2.to_k takes in: the width of the text encoder's output, which no two generations share.
CROSS_ATTENTION = {128: MINIATURE, 768: SD1, 1024: SD2, 2048: SDXL}
_CROSS_ATTENTION_NAME = re.compile(r"(^|\.)(\w+_blocks|mid_block|middle_block)\..*attn2\.to_[kv]\.")
_BLOCK = re.compile(r"([a-z_]+?)_(\d+)_")
_NUMBER_OF_BLOCK = re.compile(r"(blocks?|layers?|h)\.\d+\.")
_OF_T5 = ("encoder_block_",)
_OF_CLIP = ("encoder_layers_", "text_projection")
_ENCODERS_WORD = re.compile(r"clip_[lg]|t5(xxl)?|text_encoders_\d")  # A1111's and ComfyUI's names, and diffusers'.
_MOST_NAMED = 3  # Families in one answer; where more remain, it is not known.
# Single files in the layout of the original Stable Diffusion repositories.
ORIGINAL_UNET, _ORIGINAL_VAE = "model.diffusion_model.", "first_stage_model."
ORIGINAL_TEXT_ENCODERS = ("cond_stage_model.", "conditioner.embedders.")  # Some in OpenCLIP's layout.

CONTROLNET, IP_ADAPTER, T2I_ADAPTER, UPSCALER = "ControlNet", "IP-Adapter", "T2I-Adapter", "upscaler"
HYPERNETWORK, MLX_ADAPTER, VISION_ENCODER = "hypernetwork", "MLX LoRA", "vision encoder"
# Adapters that are no LoRA of PEFT's, by the names that only they have.
_OTHER_ADAPTERS = {
    MLX_ADAPTER: re.compile(r"(?<!\.weight)\.lora_a$"),  # llama.cpp's stand behind the name of a weight.
    "PEFT IA3": re.compile(r"\.ia3_l(\.|$)"),
    "PEFT PROMPT_TUNING": re.compile(r"^(prompt_encoder\.\w+\.)?prompt_embeddings$"),
}
# A1111's: two small networks for each width of what the UNet's attention takes in.
_OF_HYPERNETWORK = re.compile(r"\d+\.[01]\.linear(\d|\.\d+)\.(weight|bias)$")
# What is added to a model and is no LoRA, and what enlarges pictures: the names that each of them has.
_ADDED_PARTS = {
    # Whole, or as the LoRA that Stability made of one ("control-lora").
    CONTROLNET: (
        r"^(control_model\.|lora_controlnet$|controlnet_(cond_embedding|down_blocks|mid_block|blocks|x_embedder)\.)",
    ),
    IP_ADAPTER: (r"^(image_proj|image_proj_model)\.", r"^(ip_adapter|adapter_modules)\."),
    T2I_ADAPTER: (r"^(adapter\.)?body\.\d+\.(resnets\.\d+\.)?block1\.", r"^(adapter\.)?conv_in\."),
    # ESRGAN's, and Real-ESRGAN's, in the names of today and in the first ones.
    UPSCALER: (r"^(params(_ema)?\.)?(body\.\d+\.rdb\d\.conv1|model\.1\.sub\.\d+\.RDB\d\.conv1\.0)\.",),
}


def family_of_model(tensors: Mapping[str, Shaped]) -> str | None:
    """Return the family of a whole model or a part of one; None if nothing here is typical of a family.

    Example:
        >>> from aigc_helpers import install
        >>> from aigc_helpers.inspection import read_contents
        >>> family_of_model(read_contents(install("poet")).tensors)
        'GPT-2'
    """
    # One name for all blocks: a large model repeats each of a few dozen names for every block.
    names = list(dict.fromkeys(_NUMBER_OF_BLOCK.sub(r"\1.0.", name) for name in tensors))
    marked = next((family.name for family in FAMILIES if family.marks and _has_marks(family, names)), None)
    if marked:
        return marked
    for name, tensor in tensors.items():
        if _CROSS_ATTENTION_NAME.search(name) and name.endswith("weight") and len(tensor.shape) > 1:
            return CROSS_ATTENTION.get(tensor.shape[1])
    if any(name.startswith(ORIGINAL_UNET) for name in tensors):
        return None  # An all-in-one file: its text encoder's family is not the model's.
    return _language_model(names)


def family_of_adapter(adapter: Adapter, declared: str | None = None) -> str | None:
    """Return the family of the models that an adapter is made for; None if its names and widths do not tell.

    The names come first: each has to be one of the family's. Families that share the names are told apart by what the
    training metadata declare and by the widths and numbers of their layers. Up to three that remain are all named.

    Args:
        adapter: of ``sort_adapter_keys``.
        declared: what ``declared_family`` says; it only chooses among families that the layers allow.

    Example:
        >>> from aigc_helpers.inspection import read_contents, sort_adapter_keys
        >>> from aigc_helpers.paths import DATA
        >>> family_of_adapter(sort_adapter_keys(read_contents(DATA / "loras" / "koala.safetensors").tensors))
        'Stable Diffusion in miniature'
    """
    names = possible_families(adapter, declared)
    if names:
        return _either(names) if len(names) <= _MOST_NAMED else None
    layers = [module for module in adapter.modules if not module.component.startswith("text_encoder")]
    return _language_model(module.path for module in layers if not module.flattened)


def possible_families(adapter: Adapter, declared: str | None = None) -> tuple[str, ...]:
    """Return every family of models that draw that an adapter may be for, however many; none if no one's names fit.

    Args:
        adapter: of ``sort_adapter_keys``.
        declared: as for ``family_of_adapter``.

    Example:
        >>> from aigc_helpers.inspection import read_contents, sort_adapter_keys
        >>> from aigc_helpers.paths import DATA
        >>> possible_families(sort_adapter_keys(read_contents(DATA / "loras" / "koala.safetensors").tensors))
        ('Stable Diffusion in miniature',)
    """
    encoders = [module for module in adapter.modules if module.component.startswith("text_encoder")]
    layers = [module for module in adapter.modules if not module.component.startswith("text_encoder")]
    if not layers:
        return tuple(filter(None, [_family_of_text_encoders(encoders)]))
    flat = [(_flat(module), module) for module in layers]
    named = {
        grammar: all(map(pattern_of(grammar).fullmatch, [name for name, _ in flat]))
        for grammar in dict.fromkeys(family.layers for family in FAMILIES if family.layers)
    }
    found = [family for family in FAMILIES if named.get(family.layers) and _may_be_for(family, flat)]
    if encoders and len(found) > 1:  # Text encoders tell apart what shares the names of what draws.
        of_encoders = _family_of_text_encoders(encoders)
        found = [family for family in found if family.name == of_encoders] or found
    names = [family.name for family in found]
    if declared in names:
        return (declared,)
    return tuple([family.name for family in found if _has_just_as_many_blocks(family, flat)] or names)


def names_language_model(adapter: Adapter) -> bool:
    """Say whether an adapter's layers are called like those of a language model."""
    return _language_model(module.path for module in adapter.modules if not module.flattened) is not None


def may_be_same(one: str, other: str) -> bool:
    """Say whether two answers about the family can both be right: one may name several.

    Example:
        >>> may_be_same("FLUX.1 or Chroma", "FLUX.1"), may_be_same("FLUX.1", "FLUX.2")
        (True, False)
    """
    return bool(set(families_in(one)) & set(families_in(other)))


def families_in(answer: str | None) -> tuple[str, ...]:
    """Return each family that an answer names.

    Example:
        >>> families_in("Chroma, HunyuanVideo or FLUX.1"), families_in(None)
        (('Chroma', 'HunyuanVideo', 'FLUX.1'), ())
    """
    return tuple(re.split(r", | or ", answer)) if answer else ()


def draws(family: str | None) -> bool:
    """Say whether models of this family make pictures or films; an answer may name several families.

    Example:
        >>> draws("FLUX.1 or Chroma"), draws("Llama"), draws(None)
        (True, False, False)
    """
    return family is not None and any(may_be_same(family, row.name) for row in FAMILIES)


def is_transformer(family: str | None) -> bool:
    """Say whether a diffusion transformer draws in models of this family; an answer may name several families.

    Example:
        >>> is_transformer("FLUX.1 or Chroma"), is_transformer("Stable Diffusion XL"), is_transformer("Llama")
        (True, False, False)
    """
    return family is not None and any(row.part == TRANSFORMER and may_be_same(family, row.name) for row in FAMILIES)


def family_of_class(class_name: object) -> str | None:
    """Return the family of a model whose configuration names this class of diffusers."""
    return next((family.name for family in FAMILIES if class_name in family.classes), None)


def family_of_embedding(tensors: Mapping[str, Shaped]) -> str | None:
    """Return the family that a textual inversion is made for: its width is the text encoder's."""
    widths = {tensor.shape[-1] for tensor in tensors.values() if tensor.shape}
    by_encoders = {SDXL: {768, 1280}, FLUX1: {768, 4096}, STABLE_DIFFUSION_3: {768, 1280, 4096}}
    several = next((family for family, encoders in by_encoders.items() if encoders == widths), None)
    return CROSS_ATTENTION.get(widths.pop()) if len(widths) == 1 else several


def family_of_type(model_type: object) -> str | None:
    """Return the family that a configuration's ``model_type`` or GGUF's architecture names.

    Example:
        >>> family_of_type("llama"), family_of_type(None)
        ('Llama', None)
    """
    return MODEL_TYPES.get(model_type, escaped(model_type)) if isinstance(model_type, str) else None


def declared_family(metadata: Mapping[str, str]) -> str | None:
    """Return the family that training metadata names; a name unknown here as it stands, None if there is none.

    Example:
        >>> declared_family({"ss_base_model_version": "sdxl_base_v1-0"})
        'Stable Diffusion XL'
    """
    for key in ("modelspec.architecture", "ss_base_model_version"):
        value = metadata.get(key, "").lower()
        if value and value != "none":
            known = (family.name for family in FAMILIES if family.declared and re.match(family.declared, value))
            return next(known, escaped(value))
    return None


def added_part(tensors: Mapping[str, Shaped]) -> str | None:
    """Return what is added to a model and is no adapter, though layers of a LoRA may be in it; None if it is not that.

    Example:
        >>> added_part({"image_proj.norm.weight": None, "ip_adapter.1.to_k_ip.weight": None})
        'IP-Adapter'
    """
    for part, marks in _ADDED_PARTS.items():
        if all(any(pattern_of(mark).search(name) for name in tensors) for mark in marks):
            return part
    return next((kind for kind, mark in _OTHER_ADAPTERS.items() if any(map(mark.search, tensors))), None)


def part_of_model(tensors: Mapping[str, Shaped], family: str | None) -> str | None:
    """Return which part of a model the tensors are; None if their names are of no kind known here."""
    added = added_part(tensors)
    if added:
        return added
    if tensors and all(map(_OF_HYPERNETWORK.match, tensors)):
        return HYPERNETWORK
    beginnings = {name.partition(".")[0] for name in tensors}
    drawing = next((row.part for row in FAMILIES if family and may_be_same(row.name, family)), None)
    if any(name.startswith(ORIGINAL_UNET) for name in tensors):
        others = (_ORIGINAL_VAE, *ORIGINAL_TEXT_ENCODERS, "text_encoders.", "vae.")
        return "full checkpoint" if any(name.startswith(others) for name in tensors) else drawing or UNET_PART
    if {"conv_in", "down_blocks", "up_blocks"} <= beginnings or {"input_blocks", "output_blocks"} <= beginnings:
        return UNET_PART
    if any(name.startswith(_ORIGINAL_VAE) for name in tensors) or _is_vae(tensors):
        return "VAE"
    if drawing == TRANSFORMER:
        return drawing
    if family == "CLIP" and not any(name.startswith(("vision_model.", "visual_projection.")) for name in tensors):
        return "text encoder"
    if family == "CLIP" and not any("text_model." in name for name in tensors):
        return VISION_ENCODER
    if family == "T5" and not any(name.startswith("decoder.") for name in tensors):
        return "text encoder"
    return "full checkpoint" if family else None


def is_textual_inversion(tensors: Mapping[str, Shaped]) -> bool:
    """Say whether the tensors are embeddings of new words, as A1111 or diffusers saves them."""
    names = set(tensors)
    if names == {"emb_params"} or any(name.startswith("string_to_param.") for name in names):
        return True
    if len(names) > 1:  # One for each text encoder of the pipeline.
        return all(map(_ENCODERS_WORD.fullmatch, names)) and all(len(each.shape) in (1, 2) for each in tensors.values())
    if len(names) != 1 or added_part(tensors):
        return False
    (tensor,) = tensors.values()
    return "." not in names.pop() and 1 <= len(tensor.shape) <= 2 and tensor.shape[-1] in CROSS_ATTENTION


def _is_vae(tensors: Mapping[str, Shaped]) -> bool:  # diffusers', the original repositories', or Wan's.
    return any(
        name.startswith(("decoder.up_blocks.", "decoder.up.", "decoder.upsamples.")) for name in tensors
    ) and any(name.startswith(("encoder.down_blocks.", "encoder.down.", "encoder.downsamples.")) for name in tensors)


def _language_model(names: Iterable[str]) -> str | None:
    names = list(names)
    for pattern, family in LANGUAGE_MODELS:
        if any(pattern.search(name) for name in names):
            return family
    return None


def _family_of_text_encoders(modules: Sequence[AdapterModule]) -> str | None:
    if any(module.component == "text_encoder_3" for module in modules):
        return STABLE_DIFFUSION_3
    second = [module for module in modules if module.component == "text_encoder_2"]
    if second:
        is_clip = all(_flat(module).removeprefix("text_model_").startswith(_OF_CLIP) for module in second)
        return SDXL if is_clip else FLUX1 if all(_flat(module).startswith(_OF_T5) for module in second) else None
    return _language_model(module.path for module in modules if not module.flattened)


def _has_marks(family: Family, names: Sequence[str]) -> bool:
    return all(any(pattern_of(mark).search(name) for name in names) for mark in family.marks)


def _may_be_for(family: Family, layers: Sequence[tuple[str, AdapterModule]]) -> bool:
    """Say whether widths and numbers of blocks, too, are the family's."""
    width = pattern_of(f"({family.width})$")
    for flat, module in layers:
        sizes = module.sizes
        if sizes is None or not sizes[1]:
            continue
        if family.widths and width.search(flat) and sizes[1] not in family.widths:
            return False
        if any(flat.endswith(end) and sizes[0] != ratio * sizes[1] for end, ratio in family.ratios.items()):
            return False
    return all(count <= max(family.blocks[block]) for block, count in _blocks(family, layers).items())


def _has_just_as_many_blocks(family: Family, layers: Sequence[tuple[str, AdapterModule]]) -> bool:
    found = _blocks(family, layers)
    return bool(found) and all(count in family.blocks[block] for block, count in found.items())


def _blocks(family: Family, layers: Sequence[tuple[str, AdapterModule]]) -> dict[str, int]:
    """Return how many blocks a model must have for these layers, by what stands before the blocks' numbers."""
    found: dict[str, int] = {}
    for flat, _ in layers:
        match = _BLOCK.match(flat)
        if match and match[1] in family.blocks:
            found[match[1]] = max(found.get(match[1], 0), int(match[2]) + 1)
    return found


@cache
def pattern_of(grammar: str) -> re.Pattern[str]:
    """Return a grammar of the table, in which ``#`` is a number, as a regular expression.

    Example:
        >>> bool(pattern_of("blocks_#_attn").fullmatch("blocks_12_attn"))
        True
    """
    return re.compile(grammar.replace("#", r"\d+"))


def _flat(module: AdapterModule) -> str:
    return module.path.replace(".", "_")


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
