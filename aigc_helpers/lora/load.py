"""``load_adapter()``: any LoRA file into a pipeline or a model, or an error that says why not.

diffusers and PEFT load what matches and log the rest, or not even that. Here a key that matches nothing is an error,
and so is a layer that gets nothing, another width, a lost alpha, or an adapter that changes no output.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_helpers.errors import ReaderError
from aigc_helpers.lora.match import MatchedLayer, match
from aigc_helpers.lora.models import models_of, plain_layer
from aigc_helpers.lora.settings import settings_for
from aigc_helpers.weights.safetensors_header import quoted

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
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


def load_adapter(target: DiffusionPipeline | torch.nn.Module, path: Path, name: str = "default") -> LoadedAdapter:
    """Load a LoRA and make it the active one, frozen, each layer with its own rank and alpha.

    One of the same name is replaced once the new one has passed every check, in place if layers and ranks are equal.
    The pipeline's own calls go on from there: ``set_adapters``, ``fuse_lora``, ``unload_lora_weights``.

    Args:
        target: a Stable Diffusion pipeline, its UNet or text encoder, or a model of transformers.
        path: a PEFT folder, a file or folder of diffusers, or a kohya file; safetensors only. An adapter_config.json
            is read for ranks and alphas: nothing that it names is imported or fetched.
        name: of the adapter, for ``set_adapters``.

    Raises:
        ReaderError: the file is no whole LoRA, is a pickle, is for another model (which one is said if widths tell), a
            tensor in it matches nothing, or it changes no output. The model is as it was then.
    """
    path = Path(path)
    if not name or "." in name:
        raise ReaderError(f"an adapter cannot be called {name!r}: PyTorch takes a dot for the end of a name.")
    found = match(target, path)
    models = models_of(target)
    for component, layers in found.layers.items():
        _put_in(models[component], layers, found.whole_layers, name)
    for component in set(models) - set(found.layers):
        _switch_off(models[component], name)
    for component, layers in found.layers.items():
        _check_loaded(models[component], layers, name, path)
    layers = [one.layer for layers in found.layers.values() for one in layers]
    return LoadedAdapter(
        name=name,
        layers={component: len(some) for component, some in found.layers.items()},
        ranks=dict(sorted(Counter(layer.rank for layer in layers).items())),
        alphas=dict(sorted(Counter(layer.alpha for layer in layers).items())),
        remarks=found.remarks,
    )


def _put_in(
    model: torch.nn.Module, layers: list[MatchedLayer], whole_layers: dict[str, torch.Tensor], name: str
) -> None:
    from peft import LoraConfig
    from peft.functional import set_adapter
    from transformers.pytorch_utils import Conv1D

    plain = [plain_layer(model.get_submodule(one.name)) for one in layers]
    config = LoraConfig(
        **settings_for(
            [replace(one.layer, path=one.name) for one in layers],
            use_dora=any(one.magnitude is not None for one in layers),
        ),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in plain),
        modules_to_save=sorted({key.rpartition(".")[0] for key in whole_layers}) or None,
        inference_mode=True,
        init_lora_weights=False,  # They are about to be replaced.
    )
    state = dict(whole_layers)
    for one, layer in zip(layers, plain, strict=True):
        tensors = {"lora_A.weight": one.down, "lora_B.weight": one.up, "lora_magnitude_vector": one.magnitude}
        for ending, tensor in tensors.items():
            if tensor is not None:
                state[f"{one.name}.{ending}"] = _as_layer(tensor, ending, layer)
    if not _swap(model, config, layers, state, name):
        _inject(model, config, state, name)
    set_adapter(model, name, inference_mode=True)


def _swap(
    model: torch.nn.Module, config: LoraConfig, layers: list[MatchedLayer], state: dict[str, torch.Tensor], name: str
) -> bool:
    """Copy into the matrices of the adapter of that name, if they are as many and as large: much faster than anew."""
    import torch

    if name not in getattr(model, "peft_config", {}):
        return False
    old = {}
    for key, parameter in model.named_parameters():
        stem, _, rest = key.partition(".lora_")
        part, _, ending = rest.partition(f".{name}.")
        if ending:
            old[f"{stem}.lora_{part}.{ending}"] = parameter
    if config.use_dora or {key: one.shape for key, one in old.items()} != {
        key: one.shape for key, one in state.items()
    }:
        return False
    with torch.no_grad():
        for key, tensor in state.items():
            old[key].copy_(tensor)
    for one in layers:
        module = model.get_submodule(one.name)
        module.lora_alpha[name], module.scaling[name] = one.layer.alpha, one.scale
    model.peft_config[name] = config
    return True


def _inject(model: torch.nn.Module, config: LoraConfig, state: dict[str, torch.Tensor], name: str) -> None:
    from peft.functional import inject_adapter_in_model, set_peft_model_state_dict

    if name in getattr(model, "peft_config", {}):
        _remove(model, name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # A second adapter is no fault.
        # By the names of the tensors: a target such as proj_out would be matched in every block. On the meta device: no
        # random numbers are drawn for matrices that are about to be replaced.
        inject_adapter_in_model(config, model, name, low_cpu_mem_usage=True, state_dict=state)
    model._hf_peft_config_loaded = True  # As diffusers and transformers mark a model with adapters.
    set_peft_model_state_dict(model, state, name, low_cpu_mem_usage=True)


def _switch_off(model: torch.nn.Module, name: str) -> None:
    """Leave nothing active in a component that the new adapter does not touch: half of another would stay in force."""
    from peft.functional import set_adapter

    if name in getattr(model, "peft_config", {}):
        _remove(model, name)
    if getattr(model, "peft_config", {}):
        set_adapter(model, [], inference_mode=True)


def _as_layer(tensor: torch.Tensor, ending: str, layer: torch.nn.Module) -> torch.Tensor:
    if layer.weight.ndim == 2 and ending != "lora_magnitude_vector":
        tensor = tensor.reshape(tensor.shape[:2])  # Some files keep 1 × 1 kernels for layers that have become linear.
    return tensor.to(layer.weight.device, layer.weight.dtype)


def _remove(model: torch.nn.Module, name: str) -> None:
    from peft.functional import delete_adapter

    delete_adapter(model, name, prefix="lora_")
    model.peft_config.pop(name)


def _check_loaded(model: torch.nn.Module, layers: list[MatchedLayer], name: str, path: Path) -> None:
    """Look at the model itself: whether each layer has its matrices and its strength, and no other has any."""
    from peft.tuners.lora import LoraLayer as PeftLayer

    expected = {one.name: one for one in layers}
    having = {key for key, module in model.named_modules() if isinstance(module, PeftLayer) and name in module.scaling}
    wrong = having ^ set(expected)
    for key in having & set(expected):
        module, one = model.get_submodule(key), expected[key]
        up = module.lora_B[name].weight
        equal = bool((up.reshape(-1) == one.up.to(up.device, up.dtype).reshape(-1)).all())
        if not equal or not math.isclose(module.scaling[name], one.scale, rel_tol=1e-9):
            wrong.add(key)
    if wrong:
        _remove(model, name)
        raise ReaderError(
            f"{path}: {len(wrong)} layers did not get what the file says, the first being {quoted(min(wrong))}. The "
            "adapter was taken out again. Tell us: PEFT has changed."
        )
