"""What looks like a LoRA file and cannot be read as one: refused by name, with what to do instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import GGUF, HDF5, escaped, quoted
from aigc_helpers.inspection import EMPTY_MATRICES, MLX_ADAPTER, Adapter, Contents, added_part, targeted

_TRAINED_WITH = {"LoHa": "peft.LoHaConfig", "LoKr": "peft.LoKrConfig", "OFT": "peft.OFTConfig"}
_FLOATING = re.compile("F\\d|BF16")  # Of safetensors' dtypes.


def refuse_pickle(contents: Contents) -> None:
    """Refuse what torch.load would run.

    Raises:
        ReaderError: it is a pickle; the message names the command that checks and converts it.
    """
    pickles = [file for file in contents.files if file not in contents.headers]
    if pickles and contents.container not in (GGUF, HDF5):
        folder = pickles[0].parent
        # PEFT's alphas stand beside the pickle: install would take the pickle alone.
        with_settings = f"aigc convert {folder} {folder}_safe --to peft"
        raise ReaderError(
            f"{contents.path} is a pickle, which can run code when it is loaded. Check it and convert it first: "
            f"{with_settings if contents.adapter_config else f'aigc install {pickles[0]}'}"
        )


def refuse_gguf(contents: Contents) -> None:
    """Refuse what is llama.cpp's already.

    Raises:
        ReaderError: it is GGUF.
    """
    if any(file not in contents.headers and file.suffix == ".gguf" for file in contents.files):
        raise ReaderError(
            f"{contents.path} is GGUF, and out of that nothing is converted, loaded or merged here: LoRAs are read "
            f"from safetensors files. Use the PEFT folder that it was made of. aigc inspect {contents.path} says what "
            "it is."
        )


def refuse_other_programs(contents: Contents) -> None:
    """Refuse adapters that are not named, or not laid out, as PEFT, diffusers and kohya do.

    Raises:
        ReaderError: it is another program's; the message says whose, and what reads it.
    """
    kind = added_part(contents.tensors)
    if kind == MLX_ADAPTER:
        raise ReaderError(
            f"{contents.path} is an adapter of MLX (mlx-lm): its matrices lie the other way round, and its strength is "
            "a scale in its own settings. mlx_lm.fuse makes a whole model of it and its base."
        )
    if kind:
        raise ReaderError(
            f"{contents.path} is no LoRA but another addition to a model: {kind}. It has only one format."
        )


def refuse_other_methods(path: Path, adapter: Adapter) -> None:
    """Refuse LyCORIS' other methods, and layers without two matrices that can be multiplied.

    Raises:
        ReaderError: the message names the method or the layer, and what reads it.
    """
    others = {method for method in adapter.methods if method not in ("LoRA", "DoRA")}
    if others:
        names = sorted(others)
        draws = {module.component for module in adapter.modules}
        readers = "ComfyUI loads it as it is (models/loras)"
        if "transformer" not in draws:
            readers = "A1111 and ComfyUI load it as it is (models/Lora, models/loras)"
        trained = [_TRAINED_WITH[name] for name in names if name in _TRAINED_WITH]
        raise ReaderError(
            f"{path} is {'a LyCORIS ' if others - {'OFT'} else 'an '}{' and '.join(names)}, wholly or in part: its "
            f"update is no product of two matrices, so that a LoRA could hold it only in part. {readers}"
            f"{f'; PEFT trains one with {trained[0]}' if trained else ''}."
        )
    for module in adapter.modules:
        name = quoted(module.path)
        if module.is_empty:
            raise ReaderError(f"{path}: the matrices of layer {name} hold no numbers. {EMPTY_MATRICES}")
        if {"diff", "diff_b"} & set(module.parts):
            raise ReaderError(
                f"{path}: layer {name} also has a whole difference of its weight or bias (diff, diff_b), for which "
                "PEFT, diffusers and kohya's LoRA have no name. ComfyUI loads the file as it is (models/loras)."
            )
        if "core" in module.parts or "mid" in module.parts:
            raise ReaderError(
                f"{path}: layer {name} is a Tucker decomposition (lora_mid), three matrices where a LoRA has two. "
                "A1111 and ComfyUI load it as it is."
            )
        if "lora_embedding" in module.names.get("down", ""):
            raise ReaderError(
                f"{path}: layer {name} is a LoRA on an embedding, for which only PEFT has names. Load it with "
                "peft.PeftModel.from_pretrained."
            )
        if module.missing_part():
            raise ReaderError(
                f"{path}: layer {name} lacks a matrix ({module.missing_part()}), so that it would change nothing. The "
                "file is not whole: download it again, or ask its author."
            )
        whole = next((part for part in ("down", "up") if not _FLOATING.match(module.parts[part].dtype)), None)
        if whole:
            raise ReaderError(
                f"{path}: the matrices of layer {name} are whole numbers ({escaped(module.parts[whole].dtype)}), "
                "so they are quantised, and how is not known. Ask its author for the file before it was quantised."
            )
        down, up = module.parts["down"].shape, module.parts["up"].shape
        if len(down) < 2 or len(up) < 2 or down[0] != up[1]:
            raise ReaderError(
                f"{path}: the two matrices of layer {name} cannot be multiplied ({list(up)} and {list(down)}): the "
                "rank of one is not that of the other. Tell the file's author."
            )


def refuse_left_out(settings: Mapping[str, Any], layers: Sequence[str], found: Collection[str], source: object) -> None:
    """Refuse an adapter without matrices for a layer that its settings say was trained.

    Args:
        settings: of the adapter.
        layers: of the model, that a LoRA can be for.
        found: those of them that the adapter has matrices for.
        source: the adapter's file, for the message.

    Raises:
        ReaderError: a layer would get nothing.
    """
    without = sorted(targeted(settings, layers, source) - set(found))
    if without:
        raise ReaderError(
            f"{source} was trained on {len(found) + len(without)} layers of this model and has matrices for "
            f"{len(found)}: {quoted(without[0])} gets nothing. The file is not whole, or the model has more layers "
            "than the one it was trained on."
        )
