"""The families of models, as data: what their layers are called, how wide they are, and what training metadata say.

A row of the table is one family. ``layers`` is the grammar of the names that an adapter's layers may have: every name
has to fit, so a family that merely shares a few names is not taken for another. Where several families remain, their
widths and their numbers of blocks decide between them, and what they share stays undecided.

Sources: the module names of diffusers' models at their default configuration (tests/test_families_are_known.py builds
them), diffusers' ``loaders/lora_conversion_utils.py`` and ``loaders/single_file_utils.py`` for the names of the
original repositories, kohya-ss/sd-scripts and musubi-tuner for what trainers declare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

SD1, SD2, SDXL, MINIATURE = (
    "Stable Diffusion 1.x",
    "Stable Diffusion 2.x",
    "Stable Diffusion XL",
    "Stable Diffusion in miniature",
)
REFINER, STABLE_DIFFUSION_3, FLUX1 = "Stable Diffusion XL refiner", "Stable Diffusion 3", "FLUX.1"

UNET_PART, TRANSFORMER = "UNet", "diffusion transformer"


@dataclass(frozen=True)
class Family:
    """How one family of models is recognised.

    Attributes:
        name: for people.
        layers: an adapter's layers, dots written as underscores and ``#`` for a number; every one of them fits.
        width: which of these layers tell the width, by what their names end with.
        widths: what such a layer may take in; empty if any.
        ratios: outputs per input of the layers whose names end so.
        blocks: how many blocks there may be at most, by what stands before their number; several sizes in rising order.
        marks: tensors of a whole model; each of them is found in one of its names.
        declared: what ``modelspec.architecture`` or ``ss_base_model_version`` begins with, in small letters.
        classes: diffusers' names of the model in a ``config.json``.
        part: what the pipeline calls the part that draws.
    """

    name: str
    layers: str = ""
    width: str = ""
    widths: tuple[int, ...] = ()
    ratios: Mapping[str, int] = field(default_factory=dict)
    blocks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    declared: str = ""
    classes: tuple[str, ...] = ()
    part: str = TRANSFORMER


_ATTENTION = "(to_[qkv]|to_out_0)"
_JOINT = "(to_[qkv]|to_out_0|add_[qkv]_proj|to_add_out)"
_FEED_FORWARD = "net_(0_proj|2)"
_EMBEDDER = r"[a-z_]*(timestep|text|guidance|resolution|aspect_ratio)_embedder_linear_[12]"
_ENDS = "|context_embedder|x_embedder|norm_out_linear|proj_(in|out)|pos_embed_proj"
_INNER = r"(^|_)(to_[qkv]|[qkv]|qkv|add_[qkv]_proj|linear1|mlp_0|mlp_fc1|(self|cross)_attn_q)"
# Stable Diffusion's UNet, as diffusers names it and as the original repositories do.
UNET_LAYERS = (
    "((down|up)_blocks_#|mid_block)_(resnets_#_(conv[12]|time_emb_proj|conv_shortcut|norm[12])|(down|up)samplers_0_conv"
    rf"|attentions_#_(proj_in|proj_out|norm|transformer_blocks_#_(attn[12]_{_ATTENTION}|ff_{_FEED_FORWARD}|norm[123])))"
    "|conv_in|conv_out|conv_norm_out|(time|add|class)_embedding(_linear_[12])?|encoder_hid_proj"
)
ORIGINAL_UNET_LAYERS = (
    "((input|output)_blocks_#_#|middle_block_#)_(in_layers_[02]|out_layers_[03]|emb_layers_1|skip_connection|op|conv"
    rf"|proj_in|proj_out|norm|transformer_blocks_#_(attn[12]_{_ATTENTION}|ff_{_FEED_FORWARD}|norm[123]))"
    "|(input_blocks_0|middle_block)_0|(input|output)_blocks_#_#|time_embed_[02]|label_emb_0_[02]|out_[02]"
)
_CROSS_ATTENTION = r"attn2_to_[kv]"
_UNET_NAMES = f"{UNET_LAYERS}|{ORIGINAL_UNET_LAYERS}"
_FLUX_ENDS = "|img_in|txt_in|(time|vector|guidance)_in_(in|out)_layer|final_layer_(linear|adaLN_modulation_1)"
_DOUBLE, _SINGLE = "double_blocks_#_(img|txt)_", "single_blocks_#_"
_TWO_STREAMS = (
    f"transformer_blocks_#_(attn_{_JOINT}|ff(_context)?_{_FEED_FORWARD})"
    "|single_transformer_blocks_#_(proj_mlp|proj_out|attn_to_[qkv])"
)
_MODULATED = "|transformer_blocks_#_norm1(_context)?_linear|single_transformer_blocks_#_norm_linear|" + _EMBEDDER
_FLUX_RATIOS = {"linear1": 7, "mlp_0": 4}
_FLUX_BLOCKS = {
    "single_transformer_blocks": (38,),
    "single_blocks": (38,),
    "transformer_blocks": (19,),
    "double_blocks": (19,),
}
_CROSS = f"transformer_blocks_#_(attn[12]_{_ATTENTION}|ff_{_FEED_FORWARD})|(caption_projection_linear_[12])|"
# What a CLIP's layers are called, and those of the diffusion transformers that diffusers names alike.
CLIP_LAYERS = (
    "(text_model_)?(encoder_layers_#_(self_attn_(q|k|v|out)_proj|mlp_fc[12]|layer_norm[12])|final_layer_norm"
    "|embeddings_(token|position)_embedding)|text_projection"
)
TRANSFORMER_LAYERS = (
    f"transformer_blocks_#_(attn[12]?_{_JOINT}|(ff(_context)?|img_mlp|txt_mlp)_{_FEED_FORWARD}"
    "|ff(_context)?_linear_(in|out)|norm1(_context)?_linear|(img|txt)_mod_1)|single_transformer_blocks_#_(proj_mlp"
    f"|proj_out|norm_linear|attn_to_([qkv]|out|qkv_mlp_proj))|{_EMBEDDER}|caption_projection_linear_[12]|img_in|txt_in"
    + _ENDS
)

FAMILIES = (
    *(
        Family(name, _UNET_NAMES, _CROSS_ATTENTION, (width,), declared=declared, part=UNET_PART)
        for name, width, declared in (
            (MINIATURE, 128, ""),
            (SD1, 768, r"sd_v?1|stable-diffusion-v1"),
            (SD2, 1024, r"sd_v?2|stable-diffusion-v2"),
            (SDXL, 2048, r"sdxl(?!.*refiner)|stable-diffusion-xl(?!.*refiner)"),
            (REFINER, 1280, r"(sdxl|stable-diffusion-xl).*refiner"),
        )
    ),
    Family(
        "Chroma",
        f"{_TWO_STREAMS}|{_DOUBLE}(attn_(qkv|proj)|mlp_[02])|{_SINGLE}linear[12]"
        f"|distilled_guidance_layer_.*{_FLUX_ENDS}{_ENDS}",
        _INNER,
        (3072,),
        _FLUX_RATIOS,
        _FLUX_BLOCKS,
        (r"(^|\.)distilled_guidance_layer\.",),
        "chroma",
        ("ChromaTransformer2DModel",),
    ),
    Family(
        "FLUX.2",
        f"transformer_blocks_#_(attn_{_JOINT}|ff(_context)?_linear_(in|out))"
        "|single_transformer_blocks_#_attn_(to_qkv_mlp_proj|to_out(_0)?)"
        f"|{_DOUBLE}(attn_(qkv|proj)|mlp_[02])|{_SINGLE}linear[12]"
        f"|((double|single)_stream_modulation(_img|_txt)?_lin(ear)?)|{_EMBEDDER}{_FLUX_ENDS}{_ENDS}",
        _INNER,
        (3072, 4096, 6144),
        {"linear1": 9, "mlp_0": 6},
        marks=(r"(^|\.)single_stream_modulation\.lin",),
        declared=r"flux[-_.]?2",
        classes=("Flux2Transformer2DModel",),
    ),
    Family(
        "HunyuanVideo",
        f"{_TWO_STREAMS}{_MODULATED}|{_DOUBLE}(attn_(qkv|proj)|mlp_fc[12]|mod_linear)"
        f"|{_SINGLE}(linear[12]|modulation_linear)|(txt_in|context_embedder)_.*{_FLUX_ENDS}|norm_out_linear|proj_out"
        "|(time|guidance)_in_mlp_[02]",
        _INNER,
        (3072,),
        {"linear1": 7, "mlp_fc1": 4},
        {
            "single_transformer_blocks": (40,),
            "single_blocks": (40,),
            "transformer_blocks": (20,),
            "double_blocks": (20,),
        },
        (
            r"individual_token_refiner\.blocks\.|context_embedder\.token_refiner\.",
            r"(^|\.)single_(transformer_)?blocks\.",
            r"(^|\.)(vector_in|time_text_embed\.text_embedder)\.",
        ),
        r"hunyuan[-_.]?video",
        ("HunyuanVideoTransformer3DModel",),
    ),
    Family(
        FLUX1,
        f"{_TWO_STREAMS}{_MODULATED}|{_DOUBLE}(attn_(qkv|proj)|mlp_[02]|mod_lin)"
        f"|{_SINGLE}(linear[12]|modulation_lin)"
        # XLabs' trainer, which numbers the two streams.
        f"|(double|single)_blocks_#_(qkv|proj)(_lora[12])?{_FLUX_ENDS}{_ENDS}",
        _INNER + "(_lora[12])?",
        (3072,),
        _FLUX_RATIOS,
        _FLUX_BLOCKS,
        (
            r"(^|\.)double_blocks\.\d+\.img_mod\.lin\.|(^|\.)transformer_blocks\.\d+\.norm1_context\.linear\.",
            r"(^|\.)single_(blocks|transformer_blocks)\.\d+\.(linear1|proj_mlp)\.",
            r"(^|\.)(vector_in|time_text_embed\.text_embedder)\.",
        ),
        r"flux[-_.]?1|flux$",
        ("FluxTransformer2DModel",),
    ),
    Family(
        STABLE_DIFFUSION_3,
        f"transformer_blocks_#_(attn2?_{_JOINT}|ff(_context)?_{_FEED_FORWARD}|norm1(_context)?_linear)"
        "|joint_blocks_#_(context|x)_block_(attn2?_(qkv|proj)|mlp_fc[12]|adaLN_modulation_1)"
        f"|[ty]_embedder_mlp_[02]|final_layer_(linear|adaLN_modulation_1)|{_EMBEDDER}{_ENDS}",
        _INNER,
        (1536, 2432),
        {"mlp_fc1": 4},
        {"transformer_blocks": (24, 38), "joint_blocks": (24, 38)},
        (
            r"(^|\.)joint_blocks\.\d+\.(context|x)_block\.|(^|\.)transformer_blocks\.\d+\.norm1_context\.linear\.",
            r"(^|\.)(context_embedder|y_embedder)\.",
            r"(^|\.)(pos_embed$|pos_embed\.proj\.)",
        ),
        r"sd_?v?3|stable-diffusion-3|stable-diffusion-v3",
        ("SD3Transformer2DModel",),
    ),
    Family(
        "Qwen-Image",
        f"transformer_blocks_#_(attn_{_JOINT}|(img|txt)_mlp_{_FEED_FORWARD}|(img|txt)_mod_1)"
        f"|{_EMBEDDER}|img_in|txt_in{_ENDS}",
        _INNER,
        (3072,),
        blocks={"transformer_blocks": (60,)},
        marks=(r"(^|\.)transformer_blocks\.\d+\.img_mod\.1\.", r"(^|\.)txt_in\."),
        declared=r"qwen[-_.]?image",
        classes=("QwenImageTransformer2DModel",),
    ),
    Family(
        "Z-Image",
        "(layers|noise_refiner|context_refiner)_#_(attention_(to_[qkv]|to_out_0|qkv|out)|feed_forward_w[123]"
        "|adaLN_modulation_[01])|t_embedder_mlp_[02]|cap_embedder_1|all_(x_embedder|final_layer)_.*|x_embedder"
        "|final_layer_.*",
        "attention_(to_[qkv]|qkv)",
        (3840,),
        {"attention_qkv": 3},
        {"layers": (30,)},
        (r"(^|\.)layers\.\d+\.adaLN_modulation\.0\.", r"(^|\.)context_refiner\."),
        r"z[-_.]?image",
        ("ZImageTransformer2DModel",),
    ),
    Family(
        "Lumina 2",
        "(layers|noise_refiner|context_refiner)_#_(attention_(qkv|out)|feed_forward_w[123]|adaLN_modulation_1"
        f"|attn_{_ATTENTION}|feed_forward_linear_[123]|norm1_linear)"
        rf"|t_embedder_mlp_[02]|cap_embedder_1|x_embedder|final_layer_.*|time_caption_embed_.*|norm_out_linear_[12]",
        "(attention_qkv|attn_to_[qkv])",
        (2304,),
        {},
        {"layers": (26,)},
        (
            r"(^|\.)layers\.\d+\.(adaLN_modulation\.1|norm1\.linear)\.",
            r"(^|\.)(cap_embedder|time_caption_embed)\.",
            r"(^|\.)context_refiner\.",
        ),
        r"lumina[-_.]?2",
        ("Lumina2Transformer2DModel",),
    ),
    Family(
        "Wan 2.x",
        f"blocks_#_(attn[12]_(to_[qkv]|to_out_0|add_[kv]_proj)|ffn_{_FEED_FORWARD}|(self|cross)_attn_([qkvo]|[kv]_img)"
        "|ffn_[02])|condition_embedder_.*|(text|time)_embedding_[02]|time_projection_1|head_head|img_emb_proj_[134]"
        "|patch_embedding|proj_out",
        "(attn1_to_[qkv]|self_attn_[qkv])",
        (1536, 3072, 5120),
        {},
        {"blocks": (30, 40)},
        (
            r"(^|\.)(head\.modulation$|condition_embedder\.time_proj\.)",
            r"(^|\.)blocks\.\d+\.(cross_attn|attn2)\.",
        ),
        r"wan[-_.]?(video)?[-_.]?2",
        ("WanTransformer3DModel", "WanVACETransformer3DModel", "WanAnimateTransformer3DModel"),
    ),
    Family(
        "LTX-2",
        _CROSS + r"transformer_blocks_#_(audio_.*|(audio|video)_to_(audio|video)_attn_.*)"
        rf"|(audio|av_ca|av_cross_attn)_.*|{_EMBEDDER}|(time_embed|adaln_single)_.*|patchify_proj{_ENDS}",
        "blocks_#_attn1_to_[qkv]",
        (4096,),
        {},
        {"transformer_blocks": (48,)},
        (r"(^|\.)(av_ca_a2v_gate_adaln_single|av_cross_attn_audio_scale_shift)\.",),
        r"ltx[-_.]?(video)?[-_.]?2",
        ("LTX2VideoTransformer3DModel",),
    ),
    Family(
        "LTX-Video",
        _CROSS + rf"{_EMBEDDER}|(time_embed|adaln_single)_.*|patchify_proj{_ENDS}",
        "attn1_to_[qkv]|attn2_to_[qkv]",
        (2048, 4096),
        {},
        {"transformer_blocks": (28, 48)},
        (
            r"(^|\.)(patchify_proj|proj_in)\.",
            r"(^|\.)transformer_blocks\.\d+\.scale_shift_table$",
            r"(^|\.)transformer_blocks\.\d+\.attn2\.",
        ),
        r"ltx[-_.]?v",
        ("LTXVideoTransformer3DModel",),
    ),
    Family(
        "SANA",
        f"transformer_blocks_#_(attn1_{_ATTENTION}|attn2_{_ATTENTION}|ff_conv_.*)|(caption_projection_linear_[12])"
        "|blocks_#_(attn_(qkv|proj)|cross_attn_(q_linear|kv_linear|proj)|mlp_(inverted|depth|point)_conv_conv)"
        f"|{_EMBEDDER}|time_embed_linear{_ENDS}",
        "attn1_to_[qkv]|attn_qkv|q_linear",
        (1152, 2240),
        {"attn_qkv": 3},
        {"transformer_blocks": (20, 28, 60)},
        (
            r"(^|\.)transformer_blocks\.\d+\.ff\.conv_inverted\.|(^|\.)blocks\.\d+\.mlp\.inverted_conv\.",
            r"(^|\.)(caption_projection|y_embedder)\.",
        ),
        "sana",
        ("SanaTransformer2DModel",),
    ),
    Family(
        "PixArt",
        _CROSS + "blocks_#_(attn_(qkv|proj)|cross_attn_(q_linear|kv_linear|proj)|mlp_fc[12])"
        rf"|{_EMBEDDER}|adaln_single_linear{_ENDS}",
        "attn1_to_[qkv]|attn_qkv|q_linear",
        (1152,),
        {"attn_qkv": 3},
        {"transformer_blocks": (28,), "blocks": (28,)},
        (r"(^|\.)blocks\.\d+\.cross_attn\.q_linear\.", r"(^|\.)blocks\.\d+\.mlp\.fc1\.", r"(^|\.)y_embedder\."),
        "pixart",
        ("PixArtTransformer2DModel",),
    ),
    Family(
        "Stable Cascade",
        "(down|up)_blocks_#_#_(attention_(to_[qkv]|to_out_0)|kv_mapper_1|channelwise_[04]|depthwise|mapper.*)"
        "|clip_(txt|txt_pooled|img)_mapper",
        marks=(r"(^|\.)(down_blocks\.\d+\.\d+\.channelwise\.0\.|clip_txt_mapper\.)",),
        declared="stable-cascade",
        classes=("StableCascadeUNet",),
        part=UNET_PART,
    ),
    # Not in diffusers' list of the families that people train most, but with names that others share.
    Family(
        "HunyuanDiT",
        f"blocks_#_(attn[12]_{_ATTENTION}|ff_{_FEED_FORWARD}|skip_linear|norm1_linear)",
        "attn1_to_[qkv]",
        (1408,),
        classes=("HunyuanDiT2DModel",),
        declared="hunyuan[-_.]?dit",
    ),
    Family(
        "CogVideoX",
        f"transformer_blocks_#_(attn1_{_ATTENTION}|ff_{_FEED_FORWARD}|norm[12]_linear)",
        "attn1_to_[qkv]",
        (1920, 3072),
        classes=("CogVideoXTransformer3DModel",),
    ),
    Family(
        "CogView4",
        f"transformer_blocks_#_(attn1_{_ATTENTION}|ff_{_FEED_FORWARD}|norm1_linear)",
        "attn1_to_[qkv]",
        (4096,),
        classes=("CogView4Transformer2DModel",),
    ),
    Family("Allegro", _CROSS[:-1], "attn1_to_[qkv]", (2304,), classes=("AllegroTransformer3DModel",)),
    Family("Latte", _CROSS[:-1], "attn1_to_[qkv]", (1152,), classes=("LatteTransformer3DModel",)),
    Family(
        "Mochi",
        f"transformer_blocks_#_(attn1_{_JOINT}|ff(_context)?_{_FEED_FORWARD}|norm1_linear)",
        "attn1_to_[qkv]",
        (3072,),
        marks=(r"(^|\.)blocks\.\d+\.attn\.qkv_x\.",),
        classes=("MochiTransformer3DModel",),
    ),
    Family(
        "AuraFlow",
        f"(joint|single)_transformer_blocks_#_(attn_{_JOINT}|ff(_context)?_.*|norm1(_context)?_linear)",
        marks=(r"(^|\.)(double_layers\.\d+\.attn\.w2q|joint_transformer_blocks\.\d+\.attn)\.",),
        declared="auraflow",
        classes=("AuraFlowTransformer2DModel",),
    ),
    Family(
        "HiDream",
        "(double|single)_stream_blocks_#_block_.*",
        marks=(r"(^|\.)double_stream_blocks\.\d+\.block\.",),
        declared="hidream",
        classes=("HiDreamImageTransformer2DModel",),
    ),
)

LLAMA_LIKE = "Llama, Mistral, Qwen or Gemma"  # They name their layers alike; a configuration tells them apart.
# Language models, and the encoders of text that pipelines share with them: the first row to fit, among names with dots.
LANGUAGE_MODELS = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"(^|[._])roberta\.", "RoBERTa"),
        (r"(^|\.)transformer\.layer\.\d+\.attention\.[qkv]_lin(\.|$)", "DistilBERT"),
        (r"(^|\.)(encoder\.)?layer\.\d+\.attention\.(self|output)\.", "BERT"),
        (r"(^|\.)h\.\d+\.(attn|mlp)\.c_", "GPT-2"),
        (r"(^|\.)block\.\d+\.layer\.\d+\.(SelfAttention|EncDecAttention|DenseReluDense)\.", "T5"),
        (r"(^|\.)(text_model|vision_model)\.|(^|\.)embeddings\.token_embedding\.", "CLIP"),
        (r"(^|\.)layers\.\d+\.(self_attn\.qkv_proj|mlp\.gate_up_proj)(\.|$)", "Phi-3"),
        (r"(^|\.)layers\.\d+\.(pre|post)_feedforward_layernorm(\.|$)", "Gemma 2 or 3"),
        (r"(^|\.)layers\.\d+\.mlp\.(gate|up)_proj(\.|$)", LLAMA_LIKE),
        (r"(^|\.)model\.(language_model\.)?layers\.\d+\.self_attn\.[qkvo]_proj(\.|$)", LLAMA_LIKE),
    )
)
# A configuration's model_type, or GGUF's architecture.
MODEL_TYPES = {"bert": "BERT", "gpt2": "GPT-2", "t5": "T5", "llama": "Llama", "clip": "CLIP", "roberta": "RoBERTa"}
MODEL_TYPES |= {"clip_text_model": "CLIP", "distilbert": "DistilBERT", "t5encoder": "T5"}
# As city96's ComfyUI-GGUF writes them; it calls every relation of FLUX.1 flux.
MODEL_TYPES |= {"flux": f"{FLUX1} or Chroma", "sd1": SD1, "sdxl": SDXL, "sd3": STABLE_DIFFUSION_3, "aura": "AuraFlow"}
MODEL_TYPES |= {"ltxv": "LTX-Video", "hyvid": "HunyuanVideo", "wan": "Wan 2.x", "qwen_image": "Qwen-Image"}
MODEL_TYPES |= {"hidream": "HiDream", "lumina2": "Lumina 2"}
