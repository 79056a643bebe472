"""Whether loading an adapter changed what a pipeline's UNet answers: the question that no loader's message settles."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

_TIME_STEP = 500  # Of 1,000: there both the prompt and the latents count.


class Outcome(NamedTuple):
    """What came of loading.

    Attributes:
        effect: how far the UNet's answer is from the base's; 1 is as far as with the sound adapter.
        said: what the loader returned as remarks, or raised; ``"loads"`` if nothing.
        log: what diffusers wrote to its log meanwhile.
    """

    effect: float
    said: str
    log: list[str]


class _Listener(logging.Handler):
    """Collects the messages of a log."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


class AdapterTrial:
    """Loads adapters into a pipeline, one at a time, measures, and takes them out again."""

    def __init__(self, pipeline: StableDiffusionPipeline, prompt: str, load_sound: Callable[[], object]) -> None:
        """Measure the base, and a sound adapter that is to count as 1.

        Args:
            pipeline: without adapters.
            prompt: asked for each time.
            load_sound: loads an adapter that is known to work.
        """
        self.pipeline, self.prompt = pipeline, prompt
        config = pipeline.unet.config
        shape = (1, config.in_channels, config.sample_size, config.sample_size)
        self.noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0))
        self.base, self.unit = self._answer(), 1.0
        self.unit = self.outcome(load_sound).effect

    def outcome(self, load: Callable[[], Any]) -> Outcome:
        """Call ``load``, which may fail, measure, and unload."""
        log: list[str] = []
        logger = logging.getLogger("diffusers")
        handlers, level, propagate = logger.handlers, logger.level, logger.propagate
        logger.handlers, logger.propagate = [_Listener(log)], False
        logger.setLevel(logging.WARNING)
        try:
            said = "; ".join(getattr(load(), "remarks", ())) or "loads"
        except Exception as error:  # Whatever a library raises is what is to be told.
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        finally:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        effect = float((self._answer() - self.base).abs().mean()) / self.unit
        self.pipeline.unload_lora_weights()
        return Outcome(effect, said, log)

    @torch.no_grad()
    def _answer(self) -> torch.Tensor:
        text = self.pipeline.encode_prompt(self.prompt, self.pipeline.device, 1, False)[0]
        noise = self.noise.to(self.pipeline.device, self.pipeline.unet.dtype)
        return self.pipeline.unet(noise, _TIME_STEP, encoder_hidden_states=text).sample.float()
