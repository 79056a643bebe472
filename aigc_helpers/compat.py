"""What other libraries do not promise and ours builds on: in one place, so that a new version is checked once.

PEFT: names and layers within a model that has adapters in it, and its rule for target modules. diffusers: the mark of
such a model, and block numbers of SDXL. Accelerate: what counts as out of memory. sacreBLEU: counts per sentence.
nbclient: what it does when the interpreter ends. torch: tensors that have a shape and no numbers, and what operations
return.

Each function imports its library when it is called. ``tests/test_library_internals.py`` has a test for each, which
names the version that it was read from.
"""

from __future__ import annotations

import atexit
import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from nbclient import NotebookClient
    from peft import LoraConfig
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper
    from sacrebleu.metrics.base import Metric

# What PEFT puts around a model's own layer, and into a name.
_AROUND = (".token_adapter.base_layer.", ".base_layer.", ".original_module.")
# What belongs to an adapter, and not to the model.
_ADDED = (".lora_", ".modules_to_save.", ".trainable_tokens_")
TOKEN_ROWS = ".token_adapter.trainable_tokens_delta"  # How the rows of an embedding end, in a file.
COPIED_ROWS = ".token_adapter.trainable_tokens_original"
COPIES = (".original_module.", ".modules_to_save.")  # In a file: biases=all writes these parts of a head, too.


def plain_key(key: str) -> str | None:
    """Return a parameter's name without PEFT's layers around it; None if it is an adapter's own.

    Example:
        >>> plain_key("bert.query.base_layer.weight"), plain_key("bert.query.lora_A.default.weight")
        ('bert.query.weight', None)
    """
    if any(added in key for added in _ADDED):
        return None
    for around in _AROUND:
        key = key.replace(around, ".")
    return key


def is_plain_module(name: str) -> bool:
    """Return whether a module of that name is the model's own, under the name that it has without PEFT."""
    dotted = f"{name}."
    return plain_key(dotted) == dotted and not name.endswith(".token_adapter") and ".lora_" not in name


def keys_of_layer(layer: str, name: str) -> dict[str, str]:
    """Return where the adapter ``name`` stands in a model's state: its ``down``, ``up`` and ``magnitude``."""
    return {
        "down": f"{layer}.lora_A.{name}.weight",
        "up": f"{layer}.lora_B.{name}.weight",
        "magnitude": f"{layer}.lora_magnitude_vector.{name}.weight",
    }


def key_of_copy(module: str, rest: str, name: str) -> str:
    """Return where a tensor of a module that the adapter ``name`` replaces stands in a model's state."""
    return f"{module}.modules_to_save.{name}.{rest}"


def key_of_rows(module: str, name: str) -> str:
    """Return where the rows of an embedding that the adapter ``name`` replaces stand in a model's state."""
    return f"{module}{TOKEN_ROWS}.{name}"


def wrapped_by(model: torch.nn.Module, name: str) -> set[str]:
    """Return the modules that the adapter ``name`` replaces as a whole or in rows."""
    from peft.utils.other import AuxiliaryTrainingWrapper

    return {
        key
        for key, module in model.named_modules()
        if isinstance(module, AuxiliaryTrainingWrapper) and name in module._adapters
        if not getattr(getattr(module, "token_adapter", None), "tied_adapter", None)
    }


def adapters_of(model: torch.nn.Module) -> dict[str, LoraConfig]:
    """Return the model's adapters by name, as PEFT keeps them: what is put in there or taken out counts for PEFT."""
    return getattr(model, "peft_config", {})


def merged_into(model: torch.nn.Module) -> set[str]:
    """Return the names of the adapters that are merged into the model's weights."""
    return {name for layer in layers_of_peft(model) for name in getattr(layer, "merged_adapters", ())}


def strengths_in(model: torch.nn.Module, name: str) -> dict[str, float]:
    """Return by what the adapter ``name`` multiplies the product of its matrices, for each layer that has any."""
    from peft.tuners.lora import LoraLayer

    layers = ((key, module) for key, module in model.named_modules() if isinstance(module, LoraLayer))
    return {key: layer.scaling[name] for key, layer in layers if name in layer.scaling}


def set_strength(layer: torch.nn.Module, name: str, alpha: float, strength: float) -> None:
    """Set alpha of the adapter ``name`` in one layer, and by what the product of its matrices is multiplied.

    Raises:
        TypeError: PEFT has put no LoRA there.
    """
    from peft.tuners.lora import LoraLayer

    if not isinstance(layer, LoraLayer):
        raise TypeError(f"a {type(layer).__name__} is no layer with a LoRA")
    layer.lora_alpha[name], layer.scaling[name] = alpha, strength


def layers_of_peft(model: torch.nn.Module) -> Iterator[BaseTunerLayer | AuxiliaryTrainingWrapper]:
    """Yield every module that PEFT has put into the model, and that can be switched off or merged."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for module in model.modules():
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            yield module


def activate(model: torch.nn.Module, name: str | None) -> None:
    """Make one adapter the only active one, frozen, or none at all, and switch on what was switched off.

    PEFT's own ``set_adapter`` takes no empty list where a head was copied, and lets an embedding look for rows of an
    adapter that has none.
    """
    from peft.functional import set_adapter
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    for layer in layers_of_peft(model):
        if layer.disable_adapters:
            layer.enable_adapters(True)
    if name is not None:
        set_adapter(model, name, inference_mode=True)
    for layer in layers_of_peft(model):
        if name is None or (isinstance(layer, TrainableTokensLayer) and name not in layer.trainable_tokens_delta):
            layer.set_adapter([], inference_mode=True)


def remove(model: torch.nn.Module, name: str) -> None:
    """Take an adapter out. Which one is active then is chosen by whoever calls, so PEFT's word on it is not printed."""
    from peft.functional import delete_adapter

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was active which is now deleted")
        delete_adapter(model, name, prefix="lora_")
    del adapters_of(model)[name]


def mark_adapted(model: torch.nn.Module) -> None:
    """Mark a model as diffusers and transformers mark one with adapters in it."""
    setattr(model, "_hf_peft_config_loaded", True)  # noqa: B010 (torch.nn.Module declares no such attribute)


def is_target(config: LoraConfig, name: str) -> bool:
    """Return whether PEFT would put a LoRA on the layer of that name."""
    from peft.tuners.tuners_utils import check_target_module_exists

    return bool(check_target_module_exists(config, name))


def layer_of_sdxl(path: str) -> str:
    """Return a layer's name in diffusers' UNet for one of the original SDXL repository (``input_blocks_4_1_…``).

    Raises:
        ValueError, IndexError, KeyError: there is no such layer.
    """
    from diffusers.loaders.lora_conversion_utils import _convert_unet_lora_key, _maybe_map_sgm_blocks_to_diffusers
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

    settings = SimpleNamespace(layers_per_block=2)  # Of all Stable Diffusions whose files are named so.
    mapped = _maybe_map_sgm_blocks_to_diffusers({f"lora_unet_{path}.lora_down.weight": ""}, settings)
    (name,) = convert_unet_state_dict_to_peft({_convert_unet_lora_key(key): "" for key in mapped})
    return name.removesuffix(".lora_A.weight")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a device had too little memory, as Accelerate tells it from the error's class and text.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
        True
    """
    from accelerate.utils.memory import should_reduce_batch_size

    return should_reduce_batch_size(error)


def counts_by_sentence(metric: Metric, translations: Sequence[str], references: Sequence[str]) -> list[list[float]]:
    """Return what sacreBLEU counts in each translation: a row each, of as many numbers as the metric needs.

    The rows of a set of sentences are added up, and the sum has a score (``score_of_counts``): so resampled sets are
    scored without counting anew.
    """
    return metric._extract_corpus_statistics(list(translations), [list(references)])


def score_of_counts(metric: Metric, counts: Sequence[float]) -> float:
    """Return a set's score, 0 to 100, from the sum of its rows of ``counts_by_sentence``."""
    return metric._compute_score_from_stats(list(counts)).score


def forget_kernel_at_exit(client: NotebookClient) -> None:
    """Keep nbclient from cleaning up once more when the interpreter ends: it fails aloud if no kernel ever started."""
    atexit.unregister(client._cleanup_kernel)


@contextlib.contextmanager
def fake_tensors(seen: Callable[[torch.UntypedStorage], None]) -> Iterator[None]:
    """Let torch calculate with shapes alone, and hand each storage that an operation returns to ``seen``."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self,
            function: Callable[..., object],
            types: Iterable[type],
            args: tuple[Any, ...] = (),
            kwargs: Mapping[str, Any] | None = None,
        ) -> object:
            result = function(*args, **(kwargs or {}))
            for value in tree_leaves(result):
                if isinstance(value, torch.Tensor):
                    seen(value.untyped_storage())
            return result

    with FakeTensorMode(), Watch():
        yield
