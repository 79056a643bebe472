"""Which family a file belongs to and which part of a model it is, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from aigc_helpers.formats import quoted
from aigc_helpers.inspection.adapter_keys import Adapter, Shaped

SD1, SD2, SDXL, MINIATURE = (
    "Stable Diffusion 1.x",
    "Stable Diffusion 2.x",
    "Stable Diffusion XL",
    "Stable Diffusion in miniature",
)
# What attn2.to_k takes in: the width of the text encoder's output, which no two generations share.
CROSS_ATTENTION = {128: MINIATURE, 768: SD1, 1024: SD2, 2048: SDXL}
_CROSS_ATTENTION_NAME = re.compile(r"attn2[._]to_[kv]\b")
_LANGUAGE_MODELS = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"(^|[._])roberta\.", "RoBERTa"),
        (r"(^|\.)(encoder\.)?layer\.\d+\.attention\.(self|output)\.", "BERT"),
        (r"(^|\.)h\.\d+\.(attn|mlp)\.c_", "GPT-2"),
        (r"(^|\.)block\.\d+\.layer\.\d+\.(SelfAttention|EncDecAttention|DenseReluDense)\.", "T5"),
        (r"(^|\.)(text_model|vision_model)\.|(^|\.)embeddings\.token_embedding\.", "CLIP"),
        (r"(^|\.)layers\.\d+\.mlp\.(gate|up)_proj(\.|$)", "Llama"),
        (r"(^|\.)model\.layers\.\d+\.self_attn\.[qkvo]_proj(\.|$)", "Llama"),
    )
)
_MODEL_TYPES = {"bert": "BERT", "gpt2": "GPT-2", "t5": "T5", "llama": "Llama", "clip": "CLIP", "roberta": "RoBERTa"}
_MODEL_TYPES |= {"clip_text_model": "CLIP"}
_DECLARED = (
    (r"sdxl|stable-diffusion-xl", SDXL),
    (r"sd_v?1|stable-diffusion-v1", SD1),
    (r"sd_v?2|stable-diffusion-v2", SD2),
)
# Single files in the layout of the original Stable Diffusion repositories.
ORIGINAL_UNET, _ORIGINAL_VAE = "model.diffusion_model.", "first_stage_model."
ORIGINAL_TEXT_ENCODERS = ("cond_stage_model.", "conditioner.embedders.")  # Some in OpenCLIP's layout.


def family_of_model(tensors: Mapping[str, Shaped]) -> str | None:
    """Return the family of a whole model or a part of one; None if nothing here is typical of a family.

    Example:
        >>> from aigc_helpers import install
        >>> from aigc_helpers.inspection import read_contents
        >>> family_of_model(read_contents(install("poet")).tensors)
        'GPT-2'
    """
    for name, tensor in tensors.items():
        if _CROSS_ATTENTION_NAME.search(name) and name.endswith("weight") and len(tensor.shape) > 1:
            return CROSS_ATTENTION.get(tensor.shape[1])
    return _family_of_names(tensors)


def family_of_adapter(adapter: Adapter) -> str | None:
    """Return the family of the models that an adapter is made for; None if its names and widths do not tell.

    Example:
        >>> from aigc_helpers.inspection import read_contents, sort_adapter_keys
        >>> from aigc_helpers.paths import DATA
        >>> family_of_adapter(sort_adapter_keys(read_contents(DATA / "loras" / "koala.safetensors").tensors))
        'Stable Diffusion in miniature'
    """
    components = {module.component for module in adapter.modules}
    for module in adapter.modules:
        if _CROSS_ATTENTION_NAME.search(module.path) and module.sizes:
            return CROSS_ATTENTION.get(module.sizes[1])
    if "text_encoder_2" in components:
        return SDXL
    return _family_of_names(module.path for module in adapter.modules if not module.flattened)


def family_of_embedding(tensors: Mapping[str, Shaped]) -> str | None:
    """Return the family that a textual inversion is made for: its width is the text encoder's."""
    if {"clip_g", "clip_l"} <= set(tensors):
        return SDXL
    widths = {tensor.shape[-1] for tensor in tensors.values() if tensor.shape}
    return CROSS_ATTENTION.get(widths.pop()) if len(widths) == 1 else None


def family_of_type(model_type: object) -> str | None:
    """Return the family that a configuration's ``model_type`` or GGUF's architecture names."""
    return _MODEL_TYPES.get(model_type, quoted(model_type).strip("'\"")) if isinstance(model_type, str) else None


def declared_family(metadata: Mapping[str, str]) -> str | None:
    """Return the family that training metadata names; a name unknown here as it stands, None if there is none.

    Example:
        >>> declared_family({"ss_base_model_version": "sdxl_base_v1-0"})
        'Stable Diffusion XL'
    """
    for key in ("modelspec.architecture", "ss_base_model_version"):
        value = metadata.get(key, "").lower()
        if value and value != "none":
            known = (family for pattern, family in _DECLARED if re.match(pattern, value))
            return next(known, quoted(value).strip("'\""))
    return None


def part_of_model(tensors: Mapping[str, Shaped], family: str | None) -> str | None:
    """Return which part of a model the tensors are; None if their names are of no kind known here."""
    beginnings = {name.partition(".")[0] for name in tensors}
    if any(name.startswith(ORIGINAL_UNET) for name in tensors):
        others = (_ORIGINAL_VAE, *ORIGINAL_TEXT_ENCODERS)
        return "full checkpoint" if any(name.startswith(others) for name in tensors) else "UNet"
    if {"conv_in", "down_blocks", "up_blocks"} <= beginnings:
        return "UNet"
    if any(name.startswith(_ORIGINAL_VAE) for name in tensors) or _is_vae(tensors):
        return "VAE"
    if family == "CLIP" and not any(name.startswith(("vision_model.", "visual_projection.")) for name in tensors):
        return "text encoder"
    if family == "T5" and not any(name.startswith("decoder.") for name in tensors):
        return "text encoder"
    return "full checkpoint" if family else None


def is_textual_inversion(tensors: Mapping[str, Shaped]) -> bool:
    """Say whether the tensors are embeddings of new words, as A1111 or diffusers saves them."""
    names = set(tensors)
    if names in ({"emb_params"}, {"clip_g", "clip_l"}) or any(name.startswith("string_to_param.") for name in names):
        return True
    if len(names) != 1:
        return False
    (tensor,) = tensors.values()
    return "." not in names.pop() and 1 <= len(tensor.shape) <= 2 and tensor.shape[-1] in CROSS_ATTENTION


def _is_vae(tensors: Mapping[str, Shaped]) -> bool:
    return any(name.startswith(("decoder.up_blocks.", "decoder.up.")) for name in tensors) and any(
        name.startswith(("encoder.down_blocks.", "encoder.down.")) for name in tensors
    )


def _family_of_names(names: Iterable[str]) -> str | None:
    names = list(names)
    for pattern, family in _LANGUAGE_MODELS:
        if any(pattern.search(name) for name in names):
            return family
    return None
