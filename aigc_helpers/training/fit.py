"""``fit()``: one loop on Accelerate for every model of the book.

A run is a function of its settings: batch number n of epoch e is always the same batch, and the random generators
travel in the checkpoint. So a run that was killed at any moment and started again ends with the same bits as one that
was never disturbed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from accelerate.utils.memory import should_reduce_batch_size
from tqdm.auto import tqdm
from transformers import get_scheduler

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import remove_half_written
from aigc_helpers.profile import current_profile
from aigc_helpers.training.checkpoint import (
    Checkpoint,
    load_newest_checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from aigc_helpers.training.log import RunLog
from aigc_helpers.training.random_state import capture_random_state, random_state_kept, restore_random_state

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

Batch = TypeVar("Batch")

LOG_FILE = "log.jsonl"
_FLUSH_EVERY = 10  # Steps between reading the losses back: on a GPU each reading waits for the queue to drain.


class Batches(Protocol[Batch]):
    """The training data, by position. The same position always gives the same batch: that makes resuming exact."""

    unit_name: str  # What throughput counts: "tokens" or "pictures".

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""

    def batch(self, epoch: int, position: int) -> Batch:
        """Return batch ``position`` (from 0) of ``epoch`` (from 0), on the CPU."""

    def count(self, batch: Batch) -> int:
        """Return how many units (tokens without padding, or pictures) a batch holds."""


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        epochs: passes over the data; may be a fraction, such as 0.5.
        learning_rate: the peak of the schedule.
        schedule: ``"linear"`` or ``"cosine"`` decay to 0, or ``"constant_with_warmup"``, as transformers names them.
        warmup: the share of all steps during which the learning rate climbs from 0.
        weight_decay: AdamW's decoupled decay (Loshchilov & Hutter 2019).
        gradient_clip: the largest allowed norm of the gradient.
        seed: for the order of the batches' contents and for everything drawn during training.
        evaluate_every: steps between evaluations; None evaluates once, at the end.
        checkpoint_every: steps between checkpoints (only with a folder).
    """

    epochs: float
    learning_rate: float
    schedule: str = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    seed: int = 0
    evaluate_every: int | None = None
    checkpoint_every: int = 50


@dataclass(frozen=True)
class FitResult:
    """What a run did.

    Attributes:
        steps: optimizer steps in all.
        seconds: time spent in training steps and evaluation, all resumed parts together.
        training_seconds: the same without evaluation.
        units: tokens (without padding) or pictures trained on.
        unit_name: ``"tokens"`` or ``"pictures"``.
        log: one entry per step (``step``, ``loss``, ``learning_rate``) and per evaluation (``step`` and its figures).
    """

    steps: int
    seconds: float
    training_seconds: float
    units: int
    unit_name: str
    log: list[dict[str, Any]] = field(repr=False)

    @property
    def throughput(self) -> float:
        """Units per second of training, evaluation left out."""
        return self.units / self.training_seconds if self.training_seconds else 0.0

    def __str__(self) -> str:
        """Format as ``126 steps, 71 s, 1,506 tokens/s``."""
        return f"{self.steps} steps, {self.training_seconds:.0f} s, {self.throughput:,.0f} {self.unit_name}/s"

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Return the steps at which ``name`` was logged, and its values there."""
        points = [(entry["step"], entry[name]) for entry in self.log if name in entry]
        return [step for step, _ in points], [value for _, value in points]


def fit(
    model: torch.nn.Module,
    batches: Batches[Batch],
    loss: Callable[[torch.nn.Module, Batch], torch.Tensor],
    settings: FitSettings,
    *,
    evaluate: Callable[[], dict[str, float]] | None = None,
    folder: Path | None = None,
) -> FitResult:
    """Train the parameters of ``model`` that require a gradient, in place.

    Args:
        model: any torch module; frozen parameters stay as they are and are not saved.
        batches: the training data by position.
        loss: takes the model and a batch on the model's device, returns a scalar tensor.
        settings: how to train.
        evaluate: called in evaluation mode, without gradients and without mixed precision: the model computes there as
            it does after the training. Its figures go into the log.
        folder: where checkpoints and the log go. If it holds a checkpoint of the same run, the run goes on from there.

    Raises:
        ReaderError: nothing is trainable, there is no data, the loss is not finite, the folder belongs to a run with
            other settings, or its newest checkpoint is damaged.
    """
    return _Run(model, batches, loss, settings, evaluate, folder).train()


class _Run(Generic[Batch]):
    """The parts of one call of ``fit``, so that each step of it can be a short method."""

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Batches[Batch],
        loss: Callable[[torch.nn.Module, Batch], torch.Tensor],
        settings: FitSettings,
        evaluate: Callable[[], dict[str, float]] | None,
        folder: Path | None,
    ) -> None:
        profile = current_profile()
        self.model, self.batches, self.settings = model, batches, settings
        self.evaluate, self.folder = evaluate, folder
        self.total_steps = round(settings.epochs * len(batches))
        if self.total_steps < 1:
            raise ReaderError(f"there is nothing to train on: {settings.epochs} epochs of {len(batches)} batches.")
        self.accelerator = Accelerator(mixed_precision=profile.mixed_precision, cpu=profile.device == "cpu")
        set_seed(settings.seed)
        parameters = _trainable_parameters(model)
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.scheduler: LRScheduler = get_scheduler(
            settings.schedule, optimizer, round(settings.warmup * self.total_steps), self.total_steps
        )
        self.objective, self.optimizer = self.accelerator.prepare(_Objective(model, loss), optimizer)
        self.step, self.units, self.training_seconds, self.evaluation_seconds = 0, 0, 0.0, 0.0
        self._resume()
        self.log = RunLog(folder / LOG_FILE if folder else None, self.step)
        self._unlogged: list[tuple[int, torch.Tensor, float]] = []

    def train(self) -> FitResult:
        self.model.train()
        # Once a second: a notebook's channel drops messages, also the last one, when a thousand of them wait.
        progress = tqdm(
            total=self.total_steps, initial=self.step, desc="fit", unit="step", leave=False, mininterval=1.0
        )
        with progress:
            while self.step < self.total_steps:
                self._train_one_step()
                at_the_end = self.step == self.total_steps
                if at_the_end or self.step % _FLUSH_EVERY == 0:
                    self._flush_log(progress)
                if at_the_end or self._is_due(self.settings.evaluate_every):
                    self._flush_log(progress)
                    self._evaluate()
                if at_the_end or self._is_due(self.settings.checkpoint_every):
                    self._flush_log(progress)
                    self._save()
                progress.update()
        self.model.eval()
        seconds = self.training_seconds + self.evaluation_seconds
        return FitResult(
            self.total_steps, seconds, self.training_seconds, self.units, self.batches.unit_name, self.log.entries
        )

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0

    def _train_one_step(self) -> None:
        started = time.perf_counter()
        # Each process takes its own batches of a common round, so that together they see what one alone would.
        number = self.step * self.accelerator.num_processes + self.accelerator.process_index
        epoch, position = divmod(number, len(self.batches))
        batch = self.batches.batch(epoch, position)
        learning_rate = self.scheduler.get_last_lr()[0]
        loss = self._forward_and_backward(batch)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.units += self.batches.count(batch)
        self._unlogged.append((self.step, loss.detach(), learning_rate))
        self.training_seconds += time.perf_counter() - started

    def _forward_and_backward(self, batch: Any) -> torch.Tensor:  # noqa: ANN401 - whatever the loss takes
        try:
            loss = self.objective(send_to_device(batch, self.accelerator.device))
            self.accelerator.backward(loss)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            raise ReaderError(
                f"out of memory at step {self.step + 1}, with {self.batches.count(batch):,} "
                f"{self.batches.unit_name} at once. Lower the batch size first; then the side of the pictures or the "
                "length of the texts; then the rank. Gradient checkpointing takes a third more time and far less "
                "memory: model.enable_gradient_checkpointing() in diffusers, model.gradient_checkpointing_enable() in "
                "transformers. Checkpoints from before stay as they are."
            ) from error
        return loss

    def _flush_log(self, progress: tqdm) -> None:
        if not self._unlogged:
            return
        entries = [
            {"step": step, "loss": loss.item(), "learning_rate": learning_rate}
            for step, loss, learning_rate in self._unlogged
        ]
        self._unlogged.clear()
        self.log.add(entries)
        for entry in entries:
            if not abs(entry["loss"]) < float("inf"):
                raise ReaderError(
                    f"the loss at step {entry['step']} is {entry['loss']}. Lower the learning rate "
                    f"({self.settings.learning_rate:g}), or on a GPU keep the trained weights in float32. "
                    "Checkpoints from before stay as they are."
                )
        rate = self.units / self.training_seconds
        note = f"loss {entries[-1]['loss']:.3f}, {rate:,.0f} {self.batches.unit_name}/s"
        progress.set_postfix_str(note, refresh=False)

    def _evaluate(self) -> None:
        if self.evaluate is None:
            return
        started = time.perf_counter()
        self.model.eval()
        with random_state_kept(), torch.no_grad():
            figures = self.evaluate()
        self.model.train()
        self.evaluation_seconds += time.perf_counter() - started
        self.log.add([{"step": self.step, **figures}])

    def _save(self) -> None:
        if self.folder is None or not self.accelerator.is_main_process:
            return
        moments, groups = pack_optimizer(_innermost(self.optimizer))
        tensors = {f"model.{name}": tensor for name, tensor in self._changing_tensors().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in moments.items()}
        tensors |= {f"random.{name}": tensor for name, tensor in capture_random_state().items()}
        scaler = self.accelerator.scaler
        counters = {
            "optimizer_groups": groups,
            "scheduler": _plain_values(self.scheduler.state_dict()),
            "gradient_scaler": scaler.state_dict() if scaler else None,
            "units": self.units,
            "training_seconds": self.training_seconds,
            "evaluation_seconds": self.evaluation_seconds,
        }
        save_checkpoint(self.folder, Checkpoint(self.step, self._identity(), tensors, counters))

    def _resume(self) -> None:
        if self.folder is None:
            return
        remove_half_written(self.folder)
        checkpoint = load_newest_checkpoint(self.folder)
        if checkpoint is None:
            return
        self._refuse_another_run(checkpoint.settings)
        with torch.no_grad():
            for name, tensor in self._changing_tensors().items():
                tensor.copy_(checkpoint.tensors[f"model.{name}"])
        counters = checkpoint.counters
        unpack_optimizer(_innermost(self.optimizer), checkpoint.part("optimizer"), counters["optimizer_groups"])
        self.scheduler.load_state_dict(counters["scheduler"])
        if self.accelerator.scaler and counters["gradient_scaler"]:
            self.accelerator.scaler.load_state_dict(counters["gradient_scaler"])
        self.step, self.units = checkpoint.step, counters["units"]
        self.training_seconds, self.evaluation_seconds = counters["training_seconds"], counters["evaluation_seconds"]
        restore_random_state(checkpoint.part("random"))

    def _changing_tensors(self) -> dict[str, torch.Tensor]:
        """Trainable parameters and persistent buffers: all of the model that training can change."""
        frozen = {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        return {name: tensor for name, tensor in self.model.state_dict().items() if name not in frozen}

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to belong to this run."""
        shapes = {name: list(tensor.shape) for name, tensor in self._changing_tensors().items()}
        settings = asdict(self.settings)
        del settings["checkpoint_every"]  # How often one saves does not change the result.
        return {**settings, "batches per epoch": len(self.batches), "trained tensors": shapes}

    def _refuse_another_run(self, found: dict[str, Any]) -> None:
        wanted = self._identity()
        for name in wanted:
            if found.get(name) != wanted[name]:
                difference = "" if name == "trained tensors" else f" ({found.get(name)} there, {wanted[name]} here)"
                raise ReaderError(
                    f"{self.folder} holds the checkpoint of another run: {name} differs{difference}. "
                    "Choose another folder, or delete this one to start over."
                )


class _Objective(torch.nn.Module):
    """The loss of a batch, as the module that Accelerate wraps.

    Accelerate replaces the forward of what it prepares by one in mixed precision with float32 outputs. The model keeps
    its own, so that a pipeline in half precision can draw with it between two steps.
    """

    def __init__(self, model: torch.nn.Module, loss: Callable[[torch.nn.Module, Any], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any) -> torch.Tensor:  # noqa: ANN401 - whatever the loss takes
        return self.loss(self.model, batch)


def _trainable_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ReaderError(
            "nothing in this model requires a gradient. For an adapter that was loaded from a file, pass "
            "is_trainable=True to PeftModel.from_pretrained."
        )
    for parameter in parameters:
        # Half-precision steps of a small learning rate round to nothing, and fp16 gradients cannot be unscaled.
        parameter.data = parameter.data.float()
    return parameters


def _innermost(optimizer: Any) -> torch.optim.Optimizer:  # noqa: ANN401 - Accelerate's wrapper is no Optimizer
    return getattr(optimizer, "optimizer", optimizer)


def _plain_values(state: dict[str, Any]) -> dict[str, Any]:
    """Keep a scheduler's JSON-able counters; its functions are rebuilt from the settings."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | bool | list | str)}
