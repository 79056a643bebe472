"""Loading and hot-swapping a LoRA on sd, with every check, beside what diffusers takes.

Run with:  python benchmarks/adapter_hotswap.py

Two adapters of one shape (attention and convolutions of the UNet, as ``aigc train sd sepia`` makes them) take each
other's place twenty times. The median counts; the target is 100 ms.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

_ROUNDS = 20
_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")
_RANK = 16


def main() -> None:
    """Print a line per way."""
    from aigc_helpers.images import load_pipeline
    from aigc_helpers.lora import load_adapter
    from aigc_helpers.profile import choose_profile
    from aigc_helpers.quiet import quiet

    choose_profile("embedded")
    pipeline = load_pipeline()
    # diffusers logs a line per call if the text encoder has no LoRA.
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings(), quiet("diffusers", "transformers"):
        warnings.simplefilter("ignore")
        files = [_make(pipeline, Path(temporary) / f"{name}.safetensors", name) for name in (1, 2)]

        def fresh(path: Path) -> None:
            load_adapter(pipeline, path, "ours")

        def fresh_theirs(path: Path) -> None:
            pipeline.load_lora_weights(str(path), adapter_name="theirs", use_safetensors=True)

        def swap_theirs(path: Path) -> None:
            pipeline.load_lora_weights(str(path), adapter_name="theirs", use_safetensors=True, hotswap=True)

        unload = pipeline.unload_lora_weights
        _report("load_adapter into the bare pipeline", files, fresh, before=unload)
        _report("pipe.load_lora_weights into the bare pipeline", files, fresh_theirs, before=unload)
        unload()
        fresh(files[0])
        _report("load_adapter in the place of another", files, fresh)
        unload()
        fresh_theirs(files[0])
        _report("pipe.load_lora_weights(hotswap=True)", files, swap_theirs)


def _make(pipeline: StableDiffusionPipeline, path: Path, seed: int) -> Path:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, layer in pipeline.unet.named_modules():
        if name.endswith(_TARGETS):
            outputs, inputs, *kernel = layer.weight.shape
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(_RANK, inputs, *kernel, generator=generator)
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(outputs, _RANK, *[1] * len(kernel), generator=generator)
    save_file(tensors, path)
    return path


def _report(
    what: str, files: list[Path], call: Callable[[Path], None], before: Callable[[], object] = lambda: None
) -> None:
    seconds = []
    for number in range(_ROUNDS + 1):  # The first one also pays for what is set up once.
        before()
        started = time.perf_counter()
        call(files[(number + 1) % 2])
        seconds.append(time.perf_counter() - started)
    milliseconds = sorted(1000 * each for each in seconds[1:])
    print(
        f"{what:46} median {statistics.median(milliseconds):6.0f} ms, {milliseconds[0]:.0f} to {milliseconds[-1]:.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
