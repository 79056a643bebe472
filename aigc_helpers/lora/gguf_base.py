"""The base of an adapter, as GGUF needs to know it: its architecture, its heads, and the shape of each layer.

An adapter's file says none of that. It stands in the base's ``config.json``, or in the base itself if that is GGUF.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.formats import GGUF, GgufFile, quoted, read_gguf
from aigc_helpers.inspection import CONFIG, read_contents, read_object
from aigc_helpers.lora.adapter import LoraAdapter

# transformers' model_type, and what GGUF calls it. For each of them llama.cpp has been held against PEFT
# (tests/test_llama_cpp_says_what_peft_says.py): what others do to their weights on the way to GGUF is not known here.
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_MOST_BLOCKS = 10_000  # For each of them a name is made; the deepest models have some hundred.


@dataclass(frozen=True)
class GgufBase:
    """A base model.

    Attributes:
        path: the file, or the folder.
        weights: the GGUF file; None if only the configuration was read.
        architecture: as GGUF calls it.
        heads: of its attention, by which the outputs of q are grouped.
        key_value_heads: by which those of k and v are; several heads may share one (grouped-query attention).
        blocks: how many.
        shapes: outputs and inputs of each layer, by its name in GGUF, without ``.weight``.
    """

    path: Path
    weights: Path | None
    architecture: str
    heads: int
    key_value_heads: int
    blocks: int
    shapes: Mapping[str, tuple[int, ...]]


def find_base(adapter: LoraAdapter) -> Path:
    """Return where the model lies that the adapter says it was made for: a folder, or transformers' cache.

    Raises:
        ReaderError: it names none, or it is not on this machine. Nothing is fetched.
    """
    name = adapter.settings.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ReaderError(
            f"{adapter.source} does not say which model it was made for, and the number of heads stands there. Name "
            f"that model as the base: its folder with {CONFIG}, or its GGUF file. Nothing was written."
        )
    with suppress(OSError, ValueError):  # No path, or none of this system's.
        if Path(name).exists():
            return Path(name)
    cached = _in_cache(name)
    if cached is None:
        raise ReaderError(
            f"{adapter.source} was made for {quoted(name)}, which is not on this machine, and the number of heads "
            f"stands there. Name that model as the base: its folder with {CONFIG}, or its GGUF file. Nothing was "
            "written."
        )
    return cached


def _in_cache(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, CONFIG)
    except HFValidationError:  # Somebody's folder.
        return None
    return Path(found).parent if isinstance(found, str) else None


def read_base(path: Path) -> GgufBase:
    """Read a base from its configuration or its GGUF file; its weights are not read.

    Args:
        path: a folder with ``config.json``, or a GGUF file, or a folder with one.

    Raises:
        ReaderError: it is neither, or of an architecture that is not known here, or says no sizes.
    """
    config = read_object(path / CONFIG) if path.is_dir() else {}
    if not config:
        contents = read_contents(path)
        (file, *_) = contents.files
        if file not in contents.headers and contents.container.endswith(GGUF):
            return _from_gguf(file, read_gguf(file))
        config = contents.config
    if not config:
        raise ReaderError(
            f"{path} does not say what kind of model it is: there is no {CONFIG} beside the weights. Name the model's "
            "own folder, or its GGUF file, as the base."
        )
    return _from_config(path, config)


def _from_gguf(path: Path, file: GgufFile) -> GgufBase:
    architecture = file.values.get("general.architecture")
    if file.values.get("general.type", "model") != "model":
        raise ReaderError(f"{path} is no model but {quoted(file.values['general.type'])}. Name a model as the base.")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES.values():
        raise _unknown(path, architecture)
    heads = file.values.get(f"{architecture}.attention.head_count")
    key_value_heads = file.values.get(f"{architecture}.attention.head_count_kv", heads)
    blocks = file.values.get(f"{architecture}.block_count")
    if not _is_size(heads) or not _is_size(key_value_heads) or not _is_size(blocks, _MOST_BLOCKS):
        raise ReaderError(f"{path} does not say how many heads and blocks it has. Take it from another author.")
    shapes = {name.removesuffix(".weight"): tensor.shape for name, tensor in file.tensors.items()}
    return GgufBase(path, path, architecture, heads, key_value_heads, blocks, shapes)


def _from_config(path: Path, settings: Mapping[str, Any]) -> GgufBase:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    model_type = settings.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise _unknown(path, model_type)
    try:
        config = AutoConfig.for_model(**settings)  # It knows what is meant by what is left out.
        width, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
        key_value_heads, blocks = config.num_key_value_heads, config.num_hidden_layers
        sizes = (width, inner, heads, key_value_heads, config.vocab_size)
        if not all(map(_is_size, sizes)) or not _is_size(blocks, _MOST_BLOCKS):
            raise ValueError("a size is no number, or no model has so many blocks")
        size = getattr(config, "head_dim", None) or width // heads
    except (StrictDataclassError, ValueError, TypeError, AttributeError) as error:
        raise ReaderError(
            f"{path}: its {CONFIG} is not one that transformers takes ({first_line(error)}). Download it again."
        ) from error
    of_block = {
        "attn_q": (heads * size, width),
        "attn_k": (key_value_heads * size, width),
        "attn_v": (key_value_heads * size, width),
        "attn_output": (width, heads * size),
        "ffn_gate": (inner, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    shapes = {f"blk.{block}.{name}": shape for block in range(blocks) for name, shape in of_block.items()}
    if not config.tie_word_embeddings:
        shapes["output"] = (config.vocab_size, width)
    return GgufBase(path, None, ARCHITECTURES[model_type], heads, key_value_heads, blocks, shapes)


def _is_size(value: object, most: int = 2**31) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _unknown(path: Path, architecture: object) -> ReaderError:
    return ReaderError(
        f"{path} is a model of the kind {quoted(architecture)}. How its weights stand in GGUF is not known here, but "
        f"only those of {', '.join(ARCHITECTURES)}. llama.cpp's convert_lora_to_gguf.py knows others. Nothing was "
        "written."
    )
