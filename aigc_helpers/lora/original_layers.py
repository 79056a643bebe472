"""What diffusers calls the layers of diffusion transformers that their original repositories name otherwise, as data.

kohya's trainers, XLabs' and ai-toolkit write FLUX.1's, Wan's and other families' layers under the names of the
original repositories, where q, k and v are one layer. In diffusers they are three: each gets the whole first matrix and
its own rows of the second, so that what is added to the weights is the same to the bit.

Why not diffusers' own converters (``loaders/lora_conversion_utils.py``)? They multiply alpha into the matrices, which
rounds; drop what they have no name for, with a line in a log; want every layer of a model to be there; and leave the
halves of FLUX.2's last modulation in the wrong order. The names are those of its ``single_file_utils.py``, which
converts whole models: tests/test_original_names_become_the_models_own.py holds the table against both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted
from aigc_helpers.inspection import FLUX1, STABLE_DIFFUSION_3

Rows = tuple[tuple[int, int], ...]


class Original(NamedTuple):
    """A layer of an original repository.

    Attributes:
        targets: diffusers' layers that it is made of, ``#`` for the block's number.
        shares: of its rows, one for each target.
        swapped: whether its halves change places where it has two rows per input: shift and scale in the original,
            scale and shift in diffusers (``AdaLayerNormContinuous``).
    """

    targets: tuple[str, ...]
    shares: tuple[int, ...]
    swapped: bool = False


class Part(NamedTuple):
    """A layer in diffusers, and which rows of the original one it has (begin and end of each run); none if all."""

    path: str
    rows: Rows | None


class Place(NamedTuple):
    """Where a layer of diffusers stands in the original repository.

    Attributes:
        name: of the layer there, with underscores for dots.
        number: of this layer among those that it is made of.
        shares: of its rows, one for each of them.
        swapped: as in ``Original``.
    """

    name: str
    number: int
    shares: tuple[int, ...]
    swapped: bool


def _as(*targets: str, shares: tuple[int, ...] = (), swapped: bool = False) -> Original:
    return Original(targets, shares or (1,) * len(targets), swapped)


def _of(prefix: str, *names: str, shares: tuple[int, ...] = ()) -> Original:
    return _as(*(prefix + name for name in names), shares=shares)


_BLOCK = re.compile(r"(?<=_)\d+(?=_)")
_QKV, _ADDED_QKV = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")
_DOUBLE, _SINGLE = "transformer_blocks.#.", "single_transformer_blocks.#."
_STREAMS = {
    "double_blocks_#_img_attn_qkv": _of(f"{_DOUBLE}attn.", *_QKV),
    "double_blocks_#_txt_attn_qkv": _of(f"{_DOUBLE}attn.", *_ADDED_QKV),
    "double_blocks_#_img_attn_proj": _as(f"{_DOUBLE}attn.to_out.0"),
    "double_blocks_#_txt_attn_proj": _as(f"{_DOUBLE}attn.to_add_out"),
}
_ONE_STREAM = {
    "single_blocks_#_linear1": _of(_SINGLE, "attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", shares=(1, 1, 1, 4)),
    "single_blocks_#_linear2": _as(f"{_SINGLE}proj_out"),
}
_MLP = {
    "double_blocks_#_img_mlp_0": _as(f"{_DOUBLE}ff.net.0.proj"),
    "double_blocks_#_img_mlp_2": _as(f"{_DOUBLE}ff.net.2"),
    "double_blocks_#_txt_mlp_0": _as(f"{_DOUBLE}ff_context.net.0.proj"),
    "double_blocks_#_txt_mlp_2": _as(f"{_DOUBLE}ff_context.net.2"),
}
_ENDS = {
    "img_in": _as("x_embedder"),
    "txt_in": _as("context_embedder"),
    "final_layer_linear": _as("proj_out"),
    "final_layer_adaLN_modulation_1": _as("norm_out.linear", swapped=True),
}
_TIME_TEXT = {
    f"{original}_in_{layer}_layer": _as(f"time_text_embed.{name}_embedder.linear_{number}")
    for original, name in (("time", "timestep"), ("vector", "text"), ("guidance", "guidance"))
    for layer, number in (("in", 1), ("out", 2))
}
_FLUX = {
    **_STREAMS,
    **_ONE_STREAM,
    **_MLP,
    **_ENDS,
    **_TIME_TEXT,
    "double_blocks_#_img_mod_lin": _as(f"{_DOUBLE}norm1.linear"),
    "double_blocks_#_txt_mod_lin": _as(f"{_DOUBLE}norm1_context.linear"),
    "single_blocks_#_modulation_lin": _as(f"{_SINGLE}norm.linear"),
    # XLabs' trainer numbers the two streams, and adds nothing to the second half of linear1.
    "double_blocks_#_qkv_lora1": _of(f"{_DOUBLE}attn.", *_QKV),
    "double_blocks_#_qkv_lora2": _of(f"{_DOUBLE}attn.", *_ADDED_QKV),
    "double_blocks_#_proj_lora1": _as(f"{_DOUBLE}attn.to_out.0"),
    "double_blocks_#_proj_lora2": _as(f"{_DOUBLE}attn.to_add_out"),
    "single_blocks_#_qkv": _of(f"{_SINGLE}attn.", *_QKV),
    "single_blocks_#_proj": _as(f"{_SINGLE}proj_out"),
}
_CHROMA = {
    **_STREAMS,
    **_ONE_STREAM,
    **_MLP,
    **{name: _ENDS[name] for name in ("img_in", "txt_in", "final_layer_linear")},
    "distilled_guidance_layer_layers_#_in_layer": _as("distilled_guidance_layer.layers.#.linear_1"),
    "distilled_guidance_layer_layers_#_out_layer": _as("distilled_guidance_layer.layers.#.linear_2"),
    "distilled_guidance_layer_in_proj": _as("distilled_guidance_layer.in_proj"),
    "distilled_guidance_layer_out_proj": _as("distilled_guidance_layer.out_proj"),
}
_FLUX2 = {
    **_STREAMS,
    **_ENDS,
    "double_blocks_#_img_mlp_0": _as(f"{_DOUBLE}ff.linear_in"),
    "double_blocks_#_img_mlp_2": _as(f"{_DOUBLE}ff.linear_out"),
    "double_blocks_#_txt_mlp_0": _as(f"{_DOUBLE}ff_context.linear_in"),
    "double_blocks_#_txt_mlp_2": _as(f"{_DOUBLE}ff_context.linear_out"),
    "single_blocks_#_linear1": _as(f"{_SINGLE}attn.to_qkv_mlp_proj"),
    "single_blocks_#_linear2": _as(f"{_SINGLE}attn.to_out"),
    **{
        f"{original}_in_{layer}_layer": _as(f"time_guidance_embed.{name}_embedder.linear_{number}")
        for original, name in (("time", "timestep"), ("guidance", "guidance"))
        for layer, number in (("in", 1), ("out", 2))
    },
    **{
        f"{name}_lin": _as(f"{name}.linear")
        for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
    },
}
_REFINER, _OF_REFINER = "txt_in_individual_token_refiner_blocks_#_", "context_embedder.token_refiner.refiner_blocks.#."
_HUNYUAN_VIDEO = {
    **_STREAMS,
    **_ONE_STREAM,
    **{name: _ENDS[name] for name in ("final_layer_linear", "final_layer_adaLN_modulation_1")},
    "double_blocks_#_img_mlp_fc1": _MLP["double_blocks_#_img_mlp_0"],
    "double_blocks_#_img_mlp_fc2": _MLP["double_blocks_#_img_mlp_2"],
    "double_blocks_#_txt_mlp_fc1": _MLP["double_blocks_#_txt_mlp_0"],
    "double_blocks_#_txt_mlp_fc2": _MLP["double_blocks_#_txt_mlp_2"],
    "double_blocks_#_img_mod_linear": _as(f"{_DOUBLE}norm1.linear"),
    "double_blocks_#_txt_mod_linear": _as(f"{_DOUBLE}norm1_context.linear"),
    "single_blocks_#_modulation_linear": _as(f"{_SINGLE}norm.linear"),
    f"{_REFINER}self_attn_qkv": _of(f"{_OF_REFINER}attn.", *_QKV),
    f"{_REFINER}self_attn_proj": _as(f"{_OF_REFINER}attn.to_out.0"),
    f"{_REFINER}mlp_fc1": _as(f"{_OF_REFINER}ff.net.0.proj"),
    f"{_REFINER}mlp_fc2": _as(f"{_OF_REFINER}ff.net.2"),
    f"{_REFINER}adaLN_modulation_1": _as(f"{_OF_REFINER}norm_out.linear"),
    "txt_in_input_embedder": _as("context_embedder.proj_in"),
    "vector_in_in_layer": _as("time_text_embed.text_embedder.linear_1"),
    "vector_in_out_layer": _as("time_text_embed.text_embedder.linear_2"),
    **{
        f"{original}_{layer}": _as(f"{name}_embedder.linear_{number}")
        for original, name, layers in (
            ("time_in_mlp", "time_text_embed.timestep", "02"),
            ("guidance_in_mlp", "time_text_embed.guidance", "02"),
            ("txt_in_t_embedder_mlp", "context_embedder.time_text_embed.timestep", "02"),
            ("txt_in_c_embedder_linear", "context_embedder.time_text_embed.text", "12"),
        )
        for number, layer in enumerate(layers, start=1)
    },
}
_JOINT = "joint_blocks_#_"
_SD3 = {
    f"{_JOINT}x_block_attn_qkv": _of(f"{_DOUBLE}attn.", *_QKV),
    f"{_JOINT}x_block_attn2_qkv": _of(f"{_DOUBLE}attn2.", *_QKV),
    f"{_JOINT}context_block_attn_qkv": _of(f"{_DOUBLE}attn.", *_ADDED_QKV),
    f"{_JOINT}x_block_attn_proj": _as(f"{_DOUBLE}attn.to_out.0"),
    f"{_JOINT}x_block_attn2_proj": _as(f"{_DOUBLE}attn2.to_out.0"),
    f"{_JOINT}context_block_attn_proj": _as(f"{_DOUBLE}attn.to_add_out"),
    f"{_JOINT}x_block_mlp_fc1": _as(f"{_DOUBLE}ff.net.0.proj"),
    f"{_JOINT}x_block_mlp_fc2": _as(f"{_DOUBLE}ff.net.2"),
    f"{_JOINT}context_block_mlp_fc1": _as(f"{_DOUBLE}ff_context.net.0.proj"),
    f"{_JOINT}context_block_mlp_fc2": _as(f"{_DOUBLE}ff_context.net.2"),
    f"{_JOINT}x_block_adaLN_modulation_1": _as(f"{_DOUBLE}norm1.linear"),
    # The last block's has a scale and a shift alone, as the final layer has.
    f"{_JOINT}context_block_adaLN_modulation_1": _as(f"{_DOUBLE}norm1_context.linear", swapped=True),
    "context_embedder": _as("context_embedder"),
    "final_layer_linear": _ENDS["final_layer_linear"],
    "final_layer_adaLN_modulation_1": _ENDS["final_layer_adaLN_modulation_1"],
    **{
        f"{letter}_embedder_mlp_{layer}": _as(f"time_text_embed.{name}_embedder.linear_{number}")
        for letter, name in (("t", "timestep"), ("y", "text"))
        for layer, number in ((0, 1), (2, 2))
    },
}
_WAN = {
    **{
        f"blocks_#_{original}_attn_{letter}": _as(f"blocks.#.{name}.{layer}")
        for original, name in (("self", "attn1"), ("cross", "attn2"))
        for letter, layer in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))
    },
    "blocks_#_cross_attn_k_img": _as("blocks.#.attn2.add_k_proj"),
    "blocks_#_cross_attn_v_img": _as("blocks.#.attn2.add_v_proj"),
    "blocks_#_ffn_0": _as("blocks.#.ffn.net.0.proj"),
    "blocks_#_ffn_2": _as("blocks.#.ffn.net.2"),
    **{
        f"{name}_embedding_{layer}": _as(f"condition_embedder.{name}_embedder.linear_{number}")
        for name in ("text", "time")
        for layer, number in ((0, 1), (2, 2))
    },
    "time_projection_1": _as("condition_embedder.time_proj"),
    "img_emb_proj_1": _as("condition_embedder.image_embedder.ff.net.0.proj"),
    "img_emb_proj_3": _as("condition_embedder.image_embedder.ff.net.2"),
    "head_head": _as("proj_out"),
}
_STACKS = ("layers", "noise_refiner", "context_refiner")
_LUMINA2 = {
    name: original
    for stack in _STACKS
    for name, original in (
        # Eight heads of keys and values for 24 of queries.
        (f"{stack}_#_attention_qkv", _of(f"{stack}.#.attn.", *_QKV, shares=(3, 1, 1))),
        (f"{stack}_#_attention_out", _as(f"{stack}.#.attn.to_out.0")),
        (f"{stack}_#_adaLN_modulation_1", _as(f"{stack}.#.norm1.linear")),
        *((f"{stack}_#_feed_forward_w{number}", _as(f"{stack}.#.feed_forward.linear_{number}")) for number in "123"),
    )
} | {
    "x_embedder": _as("x_embedder"),
    "cap_embedder_1": _as("time_caption_embed.caption_embedder.1"),
    "t_embedder_mlp_0": _as("time_caption_embed.timestep_embedder.linear_1"),
    "t_embedder_mlp_2": _as("time_caption_embed.timestep_embedder.linear_2"),
    "final_layer_adaLN_modulation_1": _as("norm_out.linear_1"),
    "final_layer_linear": _as("norm_out.linear_2"),
}
_Z_IMAGE = {
    name: original
    for stack in _STACKS
    for name, original in (
        (f"{stack}_#_attention_qkv", _of(f"{stack}.#.attention.", *_QKV)),
        (f"{stack}_#_attention_out", _as(f"{stack}.#.attention.to_out.0")),
        # Trainers that know diffusers' model write its own names here, flattened or not.
        *((f"{stack}_#_attention_{name}", _as(f"{stack}.#.attention.{name}")) for name in _QKV),
        (f"{stack}_#_attention_to_out_0", _as(f"{stack}.#.attention.to_out.0")),
        (f"{stack}_#_adaLN_modulation_0", _as(f"{stack}.#.adaLN_modulation.0")),
        *((f"{stack}_#_feed_forward_w{number}", _as(f"{stack}.#.feed_forward.w{number}")) for number in "123"),
    )
} | {
    "x_embedder": _as("all_x_embedder.2-1"),
    "cap_embedder_1": _as("cap_embedder.1"),
    "t_embedder_mlp_0": _as("t_embedder.mlp.0"),
    "t_embedder_mlp_2": _as("t_embedder.mlp.2"),
    "final_layer_linear": _as("all_final_layer.2-1.linear"),
    "final_layer_adaLN_modulation_1": _as("all_final_layer.2-1.adaLN_modulation.1"),
}
_CROSS = {
    "blocks_#_attn_qkv": _of(f"{_DOUBLE}attn1.", *_QKV),
    "blocks_#_attn_proj": _as(f"{_DOUBLE}attn1.to_out.0"),
    "blocks_#_cross_attn_q_linear": _as(f"{_DOUBLE}attn2.to_q"),
    "blocks_#_cross_attn_kv_linear": _of(f"{_DOUBLE}attn2.", "to_k", "to_v"),
    "blocks_#_cross_attn_proj": _as(f"{_DOUBLE}attn2.to_out.0"),
}
_PIXART = _CROSS | {
    "blocks_#_mlp_fc1": _as(f"{_DOUBLE}ff.net.0.proj"),
    "blocks_#_mlp_fc2": _as(f"{_DOUBLE}ff.net.2"),
}
_LTX = {
    "patchify_proj": _as("proj_in"),
    "adaln_single_linear": _as("time_embed.linear"),
    "adaln_single_emb_timestep_embedder_linear_1": _as("time_embed.emb.timestep_embedder.linear_1"),
    "adaln_single_emb_timestep_embedder_linear_2": _as("time_embed.emb.timestep_embedder.linear_2"),
}

# By the name of the family; a layer that has no row here has the same name in both.
ORIGINAL_LAYERS: Mapping[str, Mapping[str, Original]] = {
    FLUX1: _FLUX,
    "Chroma": _CHROMA,
    "FLUX.2": _FLUX2,
    "HunyuanVideo": _HUNYUAN_VIDEO,
    STABLE_DIFFUSION_3: _SD3,
    "Wan 2.x": _WAN,
    "Lumina 2": _LUMINA2,
    "Z-Image": _Z_IMAGE,
    "PixArt": _PIXART,
    "SANA": _CROSS,
    "LTX-Video": _LTX,
}
# Families whose other layers are called in diffusers as they are in the original repository.
_SAME_OTHERWISE = ("LTX-Video", "Qwen-Image")


def parts_of(flat: str, outputs: int, inputs: int, families: tuple[str, ...]) -> tuple[Part, ...]:
    """Return the layers of diffusers that a layer of an original repository is made of; none if it has no row.

    Args:
        flat: its name, dots written as underscores.
        outputs: its rows.
        inputs: its columns.
        families: those that it may be of.

    Raises:
        ReaderError: they call it differently, or its rows cannot be divided.

    Example:
        >>> [part.path for part in parts_of("single_blocks_0_linear1", 14, 2, ("FLUX.1", "Chroma"))][2:]
        ['single_transformer_blocks.0.attn.to_v', 'single_transformer_blocks.0.proj_mlp']
    """
    found = {_parts(flat, outputs, inputs, family): family for family in families}
    if len(found) > 1:
        raise ReaderError(
            f"diffusers calls the layer {quoted(flat)} otherwise in a {' than in a '.join(found.values())} model, and "
            "nothing in the file tells which of them it is for. Nothing was written. Load the file as it is: ComfyUI "
            "does (models/loras)."
        )
    return next(iter(found), ())


def has_original_names(families: Sequence[str]) -> bool:
    """Say whether the names in the original repository of each of these families are known here."""
    return bool(families) and all(each in ORIGINAL_LAYERS or each in _SAME_OTHERWISE for each in families)


def place_in_original(path: str, family: str) -> Place | None:
    """Return where a layer of diffusers stands in the original repository of a family; None if that is not known.

    Example:
        >>> place_in_original("transformer_blocks.7.attn.to_v", "FLUX.1")
        Place(name='double_blocks_7_img_attn_qkv', number=2, shares=(1, 1, 1), swapped=False)
    """
    known = _places(family)
    block = re.search(r"(?<=\.)\d+(?=\.)", path)
    for wanted in (path, re.sub(r"(?<=\.)\d+(?=\.)", "#", path, count=1)):
        if wanted in known:
            place = known[wanted]
            return place._replace(name=place.name.replace("#", block[0] if block else ""))
    return Place(path.replace(".", "_"), 0, (1,), False) if family in _SAME_OTHERWISE else None


@cache
def _places(family: str) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for name, original in ORIGINAL_LAYERS.get(family, {}).items():
        for number, target in enumerate(original.targets):
            places.setdefault(target, Place(name, number, original.shares, original.swapped))
    return places


def _parts(flat: str, outputs: int, inputs: int, family: str) -> tuple[Part, ...]:
    block = _BLOCK.search(flat)
    original = ORIGINAL_LAYERS.get(family, {}).get(_BLOCK.sub("#", flat, count=1))
    if original is None:
        return ()
    paths = [target.replace("#", block[0] if block else "") for target in original.targets]
    if original.swapped and outputs == 2 * inputs:
        return (Part(paths[0], ((inputs, outputs), (0, inputs))),)
    if len(paths) == 1:
        return (Part(paths[0], None),)
    share, rest = divmod(outputs, sum(original.shares))
    if rest:
        raise ReaderError(
            f"the layer {quoted(flat)} holds {len(paths)} of diffusers' layers, and its {outputs} outputs cannot be "
            "divided among them. Tell the file's author."
        )
    ends = [share * sum(original.shares[: place + 1]) for place in range(len(paths))]
    begins = [0, *ends[:-1]]
    return tuple(Part(path, ((begin, end),)) for path, begin, end in zip(paths, begins, ends, strict=True))
