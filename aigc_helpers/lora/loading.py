"""``load_adapter()``: any LoRA file into a pipeline or a model, or an error that says why not.

The one loader for all: UNet and text encoder of a pipeline, BERT, GPT-2, T5, Llama. diffusers and PEFT load what
matches and log the rest, or not even that. Here a key that matches nothing is an error,
and so is a layer that gets nothing, another width, a lost alpha, or an adapter that changes no output.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_helpers.arguments import check_scale, existing
from aigc_helpers.compat import (
    activate,
    adapters_of,
    key_of_copy,
    key_of_rows,
    keys_of_layer,
    mark_adapted,
    remove,
    set_strength,
    strengths_in,
    wrapped_by,
)
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted
from aigc_helpers.lora.matching import MatchedLayer, match
from aigc_helpers.lora.models import models_of, plain_layer, plain_state, weight_of
from aigc_helpers.lora.saved_modules import SavedModules, refuse_company, replace_base, restore_base
from aigc_helpers.lora.settings import settings_for

if TYPE_CHECKING:
    import torch
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from peft import LoraConfig


@dataclass(frozen=True)
class LoadedAdapter:
    """What was loaded.

    Attributes:
        name: under which the model knows it.
        layers: how many got something, per component of the pipeline (``""`` for a model of its own).
        ranks: layers per rank.
        alphas: layers per alpha.
        remarks: sentences about what needs care.
    """

    name: str
    layers: dict[str, int]
    ranks: dict[int, int]
    alphas: dict[float, int]
    remarks: tuple[str, ...]


def load_adapter(
    target: DiffusionPipeline | torch.nn.Module, path: str | Path, name: str = "default", *, scale: float = 1.0
) -> LoadedAdapter:
    """Load a LoRA and make it the active one, frozen, each layer with its own rank and alpha.

    One of the same name is replaced once the new one has passed every check, in place if layers and ranks are equal.
    The model's own calls go on from there: ``set_adapters``, ``fuse_lora``, ``unload_lora_weights`` of a pipeline,
    ``disable_adapters`` of a model of transformers.

    Args:
        target: a Stable Diffusion pipeline, its UNet or text encoder, or a model of transformers.
        path: a PEFT folder, a file or folder of diffusers, or a kohya file; safetensors only. An adapter_config.json
            is read for ranks and alphas: nothing that it names is imported or fetched.
        name: of the adapter, for ``set_adapters``.
        scale: of what the LoRA adds: 0 leaves the base's output as it is, 1 is as trained. A head, an embedding or a
            bias that replaces the model's own is put in whole.

    Raises:
        WrongUsageError: there is no such file or folder, or the scale is no finite number.
        ReaderError: the file is no whole LoRA, is a pickle, is for another model (which one is said if widths tell), a
            tensor in it matches nothing, it changes no output, or its training changed the base's own weights; or an
            adapter is merged into the model. The model is as it was then.

    Example:
        >>> from aigc_helpers import install
        >>> from transformers import AutoModelForCausalLM
        >>> model = AutoModelForCausalLM.from_pretrained(install("poet"))
        >>> loaded = load_adapter(model, install("tune-adapter"))
        >>> loaded.layers, loaded.ranks, loaded.alphas
        ({'': 4}, {8: 4}, {16.0: 4})
    """
    path = existing(path)
    check_scale(scale)
    if not name:
        raise ReaderError(
            "the adapter's name is empty: the model knows its adapters by their names. Leave it out, or give one."
        )
    if "." in name:
        raise ReaderError(f"an adapter cannot be called {name!r}: PyTorch takes a dot for the end of a name.")
    found = match(target, path)
    models = models_of(target)
    for component, model in models.items():
        refuse_company(model, found.saved_modules.get(component, SavedModules()), name)
    for component, layers in found.layers.items():
        _put_in(models[component], layers, found.saved_modules[component], name, scale)
    for component in set(models) - set(found.layers):
        _switch_off(models[component], name)
    for component, layers in found.layers.items():
        _check_loaded(models[component], layers, found.saved_modules[component], name, scale, path)
    loaded = [one.layer for layers in found.layers.values() for one in layers]
    return LoadedAdapter(
        name=name,
        layers={component: len(some) for component, some in found.layers.items()},
        ranks=dict(sorted(Counter(layer.rank for layer in loaded).items())),
        alphas=dict(sorted(Counter(layer.alpha for layer in loaded).items())),
        remarks=found.remarks,
    )


def _put_in(model: torch.nn.Module, layers: list[MatchedLayer], saved: SavedModules, name: str, scale: float) -> None:
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    plain = [plain_layer(model.get_submodule(one.name)) for one in layers]
    config = LoraConfig(
        **settings_for(
            [replace(one.layer, path=one.name) for one in layers],
            use_dora=any(one.magnitude is not None for one in layers),
        ),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in plain),
        modules_to_save=sorted(saved.modules_to_save) or None,
        trainable_token_indices={module: list(rows.indices) for module, rows in saved.rows.items()} or None,
        inference_mode=True,
        init_lora_weights=False,  # They are about to be replaced.
    )
    restore_base(model)
    state = _state(model, layers, saved, name)
    if not _swap(model, config, state, name):
        _inject(model, config, layers, state, name)
    replace_base(model, saved, name)
    for one in layers:
        set_strength(model.get_submodule(one.name), name, one.layer.alpha, one.scale * scale)
    activate(model, name)


def _state(
    model: torch.nn.Module, layers: list[MatchedLayer], saved: SavedModules, name: str
) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors by the keys that they have in the model's state, in its dtypes and on its device."""
    own = plain_state(model)
    state = {}
    for one in layers:
        layer = plain_layer(model.get_submodule(one.name))
        for part, key in keys_of_layer(one.name, name).items():
            tensor = getattr(one, part)
            if tensor is not None:
                state[key] = _as_layer(tensor, part, layer)
    for module, tensors in saved.modules_to_save.items():
        for rest, tensor in tensors.items():
            state[key_of_copy(module, rest, name)] = tensor.to(own[f"{module}.{rest}"])
    for module, rows in saved.rows.items():
        state[key_of_rows(module, name)] = rows.values.to(own[f"{module}.weight"])
    return state


def _swap(model: torch.nn.Module, config: LoraConfig, state: dict[str, torch.Tensor], name: str) -> bool:
    """Copy into the matrices of the adapter of that name, if they are as many and as large: much faster than anew."""
    import torch

    if name not in adapters_of(model) or config.use_dora or wrapped_by(model, name):
        return False
    ends = (f".{name}.weight", f".{name}.bias", f".{name}")
    old = {key: one for key, one in model.named_parameters() if ".lora_" in key and key.endswith(ends)}
    if {key: one.shape for key, one in old.items()} != {key: one.shape for key, one in state.items()}:
        return False
    with torch.no_grad():
        for key, tensor in state.items():
            old[key].copy_(tensor)
    adapters_of(model)[name] = config
    return True


def _inject(
    model: torch.nn.Module,
    config: LoraConfig,
    layers: list[MatchedLayer],
    state: dict[str, torch.Tensor],
    name: str,
) -> None:
    from peft.functional import inject_adapter_in_model

    if name in adapters_of(model):
        remove(model, name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # A second adapter is no fault.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")  # merge() refuses by itself.
        # By the names of the tensors: a target such as proj_out would be matched in every block. On the meta device: no
        # random numbers are drawn for matrices that are about to be replaced.
        names = {f"{one.name}.lora_A.weight": one.down for one in layers}
        inject_adapter_in_model(config, model, name, low_cpu_mem_usage=True, state_dict=names)
    mark_adapted(model)
    # Not with PEFT's set_peft_model_state_dict: it stops at the first embedding that another adapter has rows of.
    model.load_state_dict(state, strict=False, assign=True)


def _switch_off(model: torch.nn.Module, name: str) -> None:
    """Leave nothing active in a component that the new adapter does not touch: half of another would stay in force."""
    if name in adapters_of(model):
        restore_base(model)
        remove(model, name)
    if adapters_of(model):
        activate(model, None)


def _as_layer(tensor: torch.Tensor, part: str, layer: torch.nn.Module) -> torch.Tensor:
    import torch

    weight = weight_of(layer)
    if weight.ndim == 2 and part != "magnitude":
        tensor = tensor.reshape(tensor.shape[:2])  # Some files keep 1 × 1 kernels for layers that have become linear.
    # A quantised layer computes in another dtype than it stores.
    computes = weight.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    return tensor.to(weight.device, weight.dtype if computes else torch.float32)


def _check_loaded(
    model: torch.nn.Module, layers: list[MatchedLayer], saved: SavedModules, name: str, scale: float, path: Path
) -> None:
    """Look at the model itself: whether each place has its tensor and its strength, and no other has any."""
    import torch

    wanted = {one.name: one.scale * scale for one in layers}
    strengths = strengths_in(model, name)
    wrong = strengths.keys() ^ wanted.keys()
    wrong |= {key for key in strengths.keys() & wanted.keys() if not _are_equal(strengths[key], wanted[key])}
    wrong |= wrapped_by(model, name) ^ {*saved.modules_to_save, *saved.rows}
    loaded = model.state_dict()
    for key, tensor in _state(model, layers, saved, name).items():
        if key not in loaded or not torch.equal(loaded[key], tensor):
            wrong.add(key)
    if wrong:
        restore_base(model)
        remove(model, name)
        raise ReaderError(
            f"{path}: {len(wrong)} layers did not get what the file says, the first being {quoted(min(wrong))}. The "
            "adapter was taken out again. Tell us: PEFT has changed."
        )


def _are_equal(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9)
