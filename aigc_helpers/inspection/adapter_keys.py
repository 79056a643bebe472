"""The names of tensors in LoRA files: five programs name the same matrices in five ways.

PEFT writes ``base_model.model.encoder…query.lora_A.weight``, diffusers ``unet.….to_q.lora_A.weight`` (formerly
``.lora.down.weight``), kohya's trainer ``lora_unet_…_to_q.lora_down.weight``, with
underscores where the model has dots, and llama.cpp ``blk.0.attn_q.weight.lora_a``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

KOHYA, PEFT, DIFFUSERS, LEGACY, COMFYUI, XLABS, LLAMA_CPP, UNPREFIXED = (
    "kohya",
    "PEFT",
    "diffusers",
    "diffusers legacy",
    "ComfyUI (the original repository's names)",
    "XLabs",
    "llama.cpp",
    "unprefixed (save_lora_adapter)",
)


class Shaped(Protocol):
    """Anything with a dtype and a shape."""

    @property
    def dtype(self) -> str:
        """As the file names it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dimensions."""


# What a name ends with, the matrix it is, and which format writes it so (None: several do).
_ENDINGS: tuple[tuple[re.Pattern[str], str, str | None], ...] = tuple(
    (re.compile(pattern + "$"), part, written_by)
    for pattern, part, written_by in (
        (r"\.lora_A(\.[^.]+)?\.weight", "down", None),
        (r"\.lora_B(\.[^.]+)?\.weight", "up", None),
        (r"\.lora_embedding_A(\.[^.]+)?", "down", None),
        (r"\.lora_embedding_B(\.[^.]+)?", "up", None),
        (r"\.lora_magnitude_vector(\.[^.]+){0,2}", "magnitude", None),
        (r"\.lora_down\.weight", "down", KOHYA),
        (r"\.lora_up\.weight", "up", KOHYA),
        (r"\.lora_mid\.weight", "mid", KOHYA),
        (r"\.dora_scale", "magnitude", None),
        (r"\.alpha", "alpha", None),
        (r"\.(?:lora|lora_linear_layer)\.down\.weight", "down", LEGACY),
        (r"\.(?:lora|lora_linear_layer)\.up\.weight", "up", LEGACY),
        (r"_lora\.down\.weight", "down", LEGACY),
        (r"_lora\.up\.weight", "up", LEGACY),
        (r"(?<=_lora[12])\.down\.weight", "down", XLABS),
        (r"(?<=_lora[12])\.up\.weight", "up", XLABS),
        (r"\.weight\.lora_a", "down", LLAMA_CPP),
        (r"\.weight\.lora_b", "up", LLAMA_CPP),
        (r"\.hada_w1_a", "w1_a", None),
        (r"\.hada_w1_b", "w1_b", None),
        (r"\.hada_w2_a", "w2_a", None),
        (r"\.hada_w2_b", "w2_b", None),
        (r"\.hada_t[12]", "core", None),
        (r"\.lokr_w1", "w1", None),
        (r"\.lokr_w2", "w2", None),
        (r"\.lokr_w1_a", "w1_a", None),
        (r"\.lokr_w1_b", "w1_b", None),
        (r"\.lokr_w2_a", "w2_a", None),
        (r"\.lokr_w2_b", "w2_b", None),
        (r"\.lokr_t2", "core", None),
        (r"\.oft_blocks(\.\d+)?", "oft", None),
        (r"\.oft_diag", "oft", None),
        (r"\.oft_R(\.[^.]+)?\.weight", "oft", None),
        (r"\.oft_[RS](\.[^.]+)?", "oft", None),
    )
)
# These stand in names of ordinary models, too, so they count only after a prefix of kohya's.
_ENDINGS_AFTER_PREFIX: tuple[tuple[re.Pattern[str], str, str | None], ...] = tuple(
    (re.compile(pattern + "$"), part, KOHYA)
    for pattern, part in (
        (r"\.a1\.weight", "a1"),
        (r"\.a2\.weight", "a2"),
        (r"\.b1\.weight", "b1"),
        (r"\.b2\.weight", "b2"),
        (r"\.diff", "diff"),
        (r"\.diff_b", "diff_b"),
        (r"\.w_norm", "diff"),
        (r"\.b_norm", "diff_b"),
    )
)
_WORDS = ("lora", "hada_", "lokr_", "dora_", "alpha", "oft_")  # One of them stands in every such name.
_KOHYA_COMPONENTS = {
    "lora_unet_": "unet",
    "lora_transformer_": "transformer",
    "oft_unet_": "unet",
    "lycoris_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lycoris_": "unet",
}
PIPELINE_COMPONENTS = ("unet", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer")  # Of a pipeline.
COMFYUI_PREFIX = "diffusion_model."  # Whatever draws, as its original repository names the layers.
_COMFYUI_ENCODERS = {
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
}
_COMPILED = re.compile(r"(^|(?<=[._]))_orig_mod[._]")  # torch.compile puts this into the names of what it wraps.
_BUNDLED = re.compile(r"bundle_emb\.(?P<word>.+)\.(clip_[lg]|t5(xxl)?|string_to_param\.\*|emb_params)$", re.DOTALL)
PEFT_PREFIX = "base_model.model."  # What PEFT puts before the names of a model's own layers.
_ORIGINAL_UNET_BLOCKS = ("input_blocks", "middle_block", "output_blocks", "time_embed.", "label_emb.", "out.")
# What a diffusion transformer's layers begin with, whoever names them; trainers put lora_unet_ before them, too.
_TRANSFORMER_BLOCKS = (
    *("double_blocks", "single_blocks", "joint_blocks", "transformer_blocks", "single_transformer_blocks", "blocks"),
    *("layers", "noise_refiner", "context_refiner", "joint_transformer_blocks", "double_stream_blocks"),
    *("single_stream_blocks", "distilled_guidance_layer", "img_in", "txt_in", "time_in", "vector_in", "final_layer"),
)
_FLAT_TRANSFORMER_BLOCKS = tuple(f"{block}_" for block in _TRANSFORMER_BLOCKS)
_XLABS_BLOCKS = ("double_blocks.", "single_blocks.")  # Without any prefix.
_UNET_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in", "conv_out", "time_embedding.")


@dataclass
class AdapterModule:
    """What an adapter adds to one layer of a model.

    Attributes:
        component: of a pipeline (``"unet"``, ``"text_encoder"`` …), empty for a model of its own.
        path: the layer, as the model names it; as kohya flattens it if ``flattened``.
        prefix: what stands before the path in the file.
        flattened: underscores stand for dots.
        method: LoRA, LoHa, LoKr, OFT, GLoRA or full difference.
        parts: its matrices.
        names: their names in the file.
    """

    component: str
    path: str
    prefix: str
    flattened: bool
    method: str = "LoRA"
    parts: dict[str, Shaped] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> int | None:
        """The rank, or None for a LoKr whose factors are whole."""
        part = {"LoRA": self._shape("down"), "LoHa": self._shape("w1_b")}.get(self.method)
        if self.method == "LoKr":
            part = self._shape("w2_b") or self._shape("w1_b")
        return part[0] if part else None

    @property
    def is_empty(self) -> bool:
        """Whether a matrix holds no number: DeepSpeed's ZeRO-3 saves them so, if nobody gathers the parts first."""
        return any(0 in tensor.shape for tensor in self.parts.values())

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Outputs and inputs of the layer it is for (a convolution's inputs: channels × kernel); None if unknown."""
        if self.is_empty:
            return None
        if "diff" in self.parts:
            shape = self._shape("diff")
            return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else None
        if "core" in self.parts:
            return None  # A Tucker decomposition: its kernel stands in a third matrix, in one of several orders.
        if self.method == "LoKr":
            first = self._shape("w1") or self._product("w1")
            second = self._shape("w2") or self._product("w2")
            if not first or not second or min(len(first), len(second)) < 2:
                return None
            return first[0] * second[0], math.prod(first[1:]) * math.prod(second[1:])
        up, down = ("w1_a", "w1_b") if self.method == "LoHa" else ("up", "down")
        outputs, inputs = self._shape(up), self._shape(down)
        if not outputs or not inputs:
            return None
        kernel = math.prod(self._shape("mid")[2:]) if self._shape("mid") else 1
        return outputs[0], math.prod(inputs[1:]) * kernel

    def missing_part(self) -> str | None:
        """Return the matrix without which the others do nothing; None if the module is whole."""
        needed = {"LoRA": ("down", "up"), "LoHa": ("w1_a", "w1_b", "w2_a", "w2_b")}.get(self.method, ())
        return next((part for part in needed if part not in self.parts), None)

    def _shape(self, part: str) -> tuple[int, ...]:
        return self.parts[part].shape if part in self.parts else ()

    def _product(self, factor: str) -> tuple[int, ...]:
        left, right = self._shape(f"{factor}_a"), self._shape(f"{factor}_b")
        return (left[0], *right[1:]) if left and right else ()


@dataclass(frozen=True)
class Adapter:
    """The tensors of a LoRA file, sorted.

    Attributes:
        key_formats: whose names the file has, the most frequent first.
        modules: by the layer that each is for.
        saved_modules: tensors by name that are no LoRA's and replace the model's own, such as a classifier's head.
        words: that come along, each with its embeddings (``bundle_emb``).
    """

    key_formats: tuple[str, ...]
    modules: tuple[AdapterModule, ...]
    saved_modules: Mapping[str, Shaped]
    words: tuple[str, ...] = ()

    @property
    def methods(self) -> Counter[str]:
        """The modules by method; a LoRA with magnitudes is a DoRA."""
        return Counter(
            "DoRA" if module.method == "LoRA" and "magnitude" in module.parts else module.method
            for module in self.modules
        )


def sort_adapter_keys(tensors: Mapping[str, Shaped]) -> Adapter | None:
    """Return the adapter that these tensors are, or None if no name is one of a LoRA or of its relatives.

    Example:
        >>> from aigc_helpers import install
        >>> from aigc_helpers.inspection import read_contents
        >>> adapter = sort_adapter_keys(read_contents(install("tune-adapter")).tensors)
        >>> adapter.key_formats, adapter.modules[0].path, adapter.modules[0].rank
        (('PEFT',), 'transformer.h.0.attn.c_attn', 8)
    """
    modules: dict[str, AdapterModule] = {}
    formats: Counter[str] = Counter()
    saved_modules: dict[str, Shaped] = {}
    words: dict[str, None] = {}
    for name, tensor in tensors.items():
        word = _BUNDLED.match(name)
        if word:
            words[word["word"]] = None
            continue
        ending = _ending(name)
        if ending is None:
            saved_modules[name] = tensor
            continue
        stem, part, written_by = ending
        module = modules.get(stem) or modules.setdefault(stem, _module(stem))
        module.parts[part] = tensor
        module.names[part] = name
        module.method = _method(module, name, part)
        if part not in ("alpha", "magnitude"):
            formats[_key_format(module, written_by)] += 1
    found = [module for module in modules.values() if set(module.parts) - {"alpha", "magnitude"}]
    if not found:
        return None
    _agree_on_what_draws(modules.values())
    key_formats = tuple(each for each, _ in formats.most_common())
    return Adapter(key_formats, tuple(modules.values()), saved_modules, tuple(words))


def _agree_on_what_draws(modules: Iterable[AdapterModule]) -> None:
    """Give one component to what stands behind one prefix: a transformer's first and last layers do not say it."""
    modules = list(modules)
    prefixes = {module.prefix for module in modules if module.component == "transformer"}
    for module in modules:
        if module.component == "unet" and module.prefix in prefixes:
            module.component = "transformer"


def _ending(name: str) -> tuple[str, str, str | None] | None:
    after_prefix = name.startswith((*_KOHYA_COMPONENTS, COMFYUI_PREFIX))
    if not after_prefix and not any(word in name for word in _WORDS):
        return None
    endings = (*_ENDINGS, *_ENDINGS_AFTER_PREFIX) if after_prefix else _ENDINGS
    for pattern, part, written_by in endings:
        match = pattern.search(name)
        if match:
            return name[: match.start()], part, written_by
    return None


def _method(module: AdapterModule, name: str, part: str) -> str:
    """Return the method of a module that gets one more matrix; what a bias gets besides is no method of its own."""
    if ".hada_" in name:
        return "LoHa"
    if ".lokr_" in name:
        return "LoKr"
    if part == "oft":
        return "OFT"
    if part in ("a1", "a2", "b1", "b2"):
        return "GLoRA"
    if part in ("down", "up"):
        return "LoRA"
    return "full difference" if part in ("diff", "diff_b") and not {"down", "up"} & set(module.parts) else module.method


def _module(stem: str) -> AdapterModule:
    plain = _COMPILED.sub("", stem)
    for prefix, component in _KOHYA_COMPONENTS.items():
        if plain.startswith(prefix):
            path = plain.removeprefix(prefix)
            draws = "transformer" if component == "unet" and path.startswith(_FLAT_TRANSFORMER_BLOCKS) else component
            return AdapterModule(draws, path, prefix, flattened=True)
    if plain.startswith(PEFT_PREFIX):
        path = plain
        while path.startswith(PEFT_PREFIX):  # Twice, where a model that had an adapter was given another around it.
            path = path.removeprefix(PEFT_PREFIX)
        return AdapterModule(_component_of(path), path, PEFT_PREFIX, flattened=False)
    if plain.startswith(COMFYUI_PREFIX):
        path = plain.removeprefix(COMFYUI_PREFIX)
        component = "unet" if path.startswith((*_ORIGINAL_UNET_BLOCKS, *_UNET_BLOCKS)) else "transformer"
        return AdapterModule(component, path.replace(".processor.", "."), COMFYUI_PREFIX, flattened=False)
    for prefix, encoder in _COMFYUI_ENCODERS.items():
        if plain.startswith(prefix):
            return AdapterModule(encoder, plain.removeprefix(prefix), prefix, flattened=False)
    # diffusers' old attention processors: ….attn1.processor.to_q_lora.down.weight
    path = plain.replace(".processor.", ".")
    path = path + ".0" if path.endswith(".to_out") else path
    component, _, rest = path.partition(".")
    if component in PIPELINE_COMPONENTS and rest:
        return AdapterModule(component, rest, component + ".", flattened=False)
    draws = "transformer" if path.startswith(_XLABS_BLOCKS) else _component_of(path)
    return AdapterModule(draws, path, "", flattened=False)


def _component_of(path: str) -> str:
    return "unet" if path.startswith(_UNET_BLOCKS) else ""


def _key_format(module: AdapterModule, written_by: str | None) -> str:
    if module.flattened:
        return KOHYA
    if module.prefix == PEFT_PREFIX:
        return PEFT
    if module.prefix in (COMFYUI_PREFIX, *_COMFYUI_ENCODERS):
        return COMFYUI
    if written_by in (LEGACY, XLABS, LLAMA_CPP):
        return written_by
    if written_by == KOHYA:
        return "kohya's endings on dotted names"
    return DIFFUSERS if module.prefix else UNPREFIXED
