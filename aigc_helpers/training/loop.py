"""``fit()``: one loop on Accelerate for every model of the book.

A run is a function of its settings: batch number n of epoch e is always the same batch, and the random generators
travel in the checkpoint. So a run that was killed at any moment and started again ends with the same bits as one that
was never disturbed.

Started several times by ``torchrun`` or ``accelerate launch``, the processes share the batches and average their
gradients: two processes train as one that takes twice as many batches a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    broadcast_object_list,
    gather_object,
    send_to_device,
    set_seed,
)
from tqdm.auto import tqdm
from transformers import get_scheduler

from aigc_helpers.arguments import check_seed
from aigc_helpers.compat import is_out_of_memory
from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.files import make_folder, remove_half_written
from aigc_helpers.profile import current_profile
from aigc_helpers.training.checkpoint import (
    Checkpoint,
    check_form,
    damage_explained,
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
_MOST_EPOCHS = 1_000_000
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


Schedule = Literal["linear", "cosine", "constant_with_warmup"]


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        epochs: passes over the data, at most a million; may be a fraction, such as 0.5.
        learning_rate: the peak of the schedule.
        schedule: ``"linear"`` or ``"cosine"`` decay to 0, or ``"constant_with_warmup"``, as transformers names them.
        warmup: the share of all steps during which the learning rate climbs from 0.
        weight_decay: AdamW's decoupled decay (Loshchilov & Hutter 2019).
        gradient_clip: the largest allowed norm of the gradient; infinity leaves it as it is.
        seed: for everything drawn during training; process number n takes ``seed + n``.
        evaluate_every: steps between evaluations; None evaluates once, at the end.
        checkpoint_every: steps between checkpoints (only with a folder).
        gradient_accumulation_steps: batches that each process takes for one optimizer step, one after the other. Four
            batches of 8 train as one of 32, in the memory of 8.

    Raises:
        ReaderError: a number out of its range; the message says which one.
        UnknownNameError: there is no such schedule.
    """

    epochs: float
    learning_rate: float
    schedule: Schedule = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    seed: int = 0
    evaluate_every: int | None = None
    checkpoint_every: int = 50
    gradient_accumulation_steps: int = 1

    def __post_init__(self) -> None:
        """Refuse what nobody can train with, before a model is touched."""
        if self.schedule not in get_args(Schedule):
            raise UnknownNameError("schedule", self.schedule, get_args(Schedule))
        check_seed(self.seed)
        # A comparison with NaN is never true.
        for name, is_possible, must_be in (
            ("epochs", 0 < self.epochs <= _MOST_EPOCHS, f"a number above 0, at most {_MOST_EPOCHS:,}"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a finite number above 0"),
            ("warmup", 0 <= self.warmup <= 1, "a share of all steps, from 0 to 1"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "a finite number of at least 0"),
            ("gradient_clip", self.gradient_clip > 0, "a number above 0"),
            (
                "evaluate_every",
                self.evaluate_every is None or _is_count(self.evaluate_every),
                "1 or more steps, or None",
            ),
            ("checkpoint_every", _is_count(self.checkpoint_every), "1 or more steps"),
            ("gradient_accumulation_steps", _is_count(self.gradient_accumulation_steps), "1 or more batches"),
        ):
            if not is_possible:
                raise ReaderError(f"{name} is {getattr(self, name)}: it must be {must_be}.")


def _is_count(value: int) -> bool:
    return isinstance(value, Integral) and value >= 1


@dataclass(frozen=True)
class FitResult:
    """What a run did.

    Attributes:
        steps: optimizer steps in all.
        seconds: time spent in training steps and evaluation, all resumed parts together.
        training_seconds: the same without evaluation.
        units: tokens (without padding) or pictures trained on, by all processes together.
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


MakeOptimizer = Callable[[torch.nn.Module, FitSettings], torch.optim.Optimizer]


def adamw(model: torch.nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """Return AdamW over what requires a gradient, with the learning rate and the weight decay of ``settings``.

    Example:
        >>> import torch
        >>> from aigc_helpers import FitSettings
        >>> adamw(torch.nn.Linear(2, 1), FitSettings(epochs=1, learning_rate=1e-3)).defaults["lr"]
        0.001
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def fit(
    model: torch.nn.Module,
    batches: Batches[Batch],
    loss: Callable[[torch.nn.Module, Batch], torch.Tensor],
    settings: FitSettings,
    *,
    optimizer: MakeOptimizer = adamw,
    evaluate: Callable[[], dict[str, float]] | None = None,
    folder: str | Path | None = None,
) -> FitResult:
    """Train the parameters of ``model`` that require a gradient, in place.

    An optimizer step takes ``gradient_accumulation_steps`` batches in each process. Its gradient, and the loss in the
    log, is the mean over them of each batch's own mean, as Accelerate does it: a smaller batch weighs as much as a
    larger one. The batches of all epochs stand in one row and each step takes the next ones, so there are
    ``ceil(round(epochs * len(batches)) / batches per step)`` steps, and the last one is filled up from the epoch that
    follows.

    With several processes the first one alone evaluates and writes, all resume, and all return the same log. They must
    share the folder's file system.

    Args:
        model: any torch module; frozen parameters stay as they are and are not saved.
        batches: the training data by position.
        loss: takes the model and a batch on the model's device, returns a scalar tensor.
        settings: how to train.
        optimizer: makes the optimizer from the model and the settings. Its parameter groups may differ in learning
            rate, as in LoRA+; the schedule scales each of them, and the log has the first one's.
        evaluate: called in evaluation mode, without gradients and without mixed precision: the model computes there as
            it does after the training. Its figures go into the log.
        folder: where checkpoints and the log go. If it holds a checkpoint of the same run, the run goes on from there.

    Raises:
        ReaderError: nothing is trainable, there is no data, the loss is not finite, the folder cannot be made or
            belongs to a run with other settings, or its newest checkpoint is damaged.

    Example:
        >>> import torch
        >>> from aigc_helpers import FitSettings
        >>> class Numbers:
        ...     unit_name = "numbers"
        ...     def __len__(self): return 4
        ...     def batch(self, epoch, position): return torch.linspace(-1, 1, 8)[:, None] * (position + 1)
        ...     def count(self, batch): return len(batch)
        >>> def loss(model, batch): return (model(batch) - 2 * batch).square().mean()
        >>> result = fit(torch.nn.Linear(1, 1), Numbers(), loss, FitSettings(epochs=5, learning_rate=0.1))
        >>> result.steps, result.units, len(result.curve("loss")[0])
        (20, 160, 20)
    """
    checkpoints = None if folder is None else Path(folder)
    return _Run(model, batches, loss, settings, optimizer, evaluate, checkpoints).train()


class _Run(Generic[Batch]):
    """The parts of one call of ``fit``, so that each step of it can be a short method."""

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Batches[Batch],
        loss: Callable[[torch.nn.Module, Batch], torch.Tensor],
        settings: FitSettings,
        make_optimizer: MakeOptimizer,
        evaluate: Callable[[], dict[str, float]] | None,
        folder: Path | None,
    ) -> None:
        profile = current_profile()
        self.model, self.batches, self.settings = model, batches, settings
        self.evaluate, self.folder = evaluate, folder
        total_batches = _count_batches(settings, len(batches))
        if folder is not None:
            make_folder(folder)
        self.accelerator = Accelerator(
            mixed_precision=profile.mixed_precision,
            cpu=profile.device == "cpu",
            # A trainable parameter that the loss does not use is no fault in one process, so it is none in two.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        batches_per_step = settings.gradient_accumulation_steps * self.accelerator.num_processes
        self.total_steps = math.ceil(total_batches / batches_per_step)
        set_seed(settings.seed, device_specific=True)  # Two processes must not draw the same noise.
        _keep_trained_in_float32(model)
        optimizer = make_optimizer(model, settings)
        self.scheduler: LRScheduler = get_scheduler(
            settings.schedule, optimizer, round(settings.warmup * self.total_steps), self.total_steps
        )
        self.objective, self.optimizer = self.accelerator.prepare(_Objective(model, loss), optimizer)
        self.step, self.units, self.training_seconds, self.evaluation_seconds = 0, 0, 0.0, 0.0
        self._resume()
        log_file = folder / LOG_FILE if folder else None
        self.log = RunLog(log_file, self.step, writes=self.accelerator.is_main_process)
        self._unlogged: list[tuple[int, torch.Tensor, float]] = []
        self._uncounted_units = 0  # Of this process, since the log was last written.

    def train(self) -> FitResult:
        self.model.train()
        # Once a second: a notebook's channel drops messages, also the last one, when a thousand of them wait.
        progress = tqdm(
            total=self.total_steps,
            initial=self.step,
            desc="fit",
            unit="step",
            leave=False,
            mininterval=1.0,
            disable=not self.accelerator.is_main_process,
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
        self.accelerator.wait_for_everyone()  # Whoever returns finds the last checkpoint and the log written.
        seconds = self.training_seconds + self.evaluation_seconds
        return FitResult(
            self.total_steps, seconds, self.training_seconds, self.units, self.batches.unit_name, self.log.entries
        )

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0

    def _train_one_step(self) -> None:
        started = time.perf_counter()
        learning_rate = float(self.scheduler.get_last_lr()[0])
        parts = self.settings.gradient_accumulation_steps
        losses = []
        for part in range(parts):
            # Averaging over the processes is worth its time only once the gradient is complete.
            with nullcontext() if part == parts - 1 else self.accelerator.no_sync(self.objective):
                losses.append(self._forward_and_backward(self._batch(part)))
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:  # In float16 a gradient may overflow; the scaler then lets the step be.
            self.scheduler.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._unlogged.append((self.step, torch.stack(losses).mean(), learning_rate))
        self.training_seconds += time.perf_counter() - started

    def _batch(self, part: int) -> Any:  # noqa: ANN401 - whatever the loss takes
        """Return batch number ``part`` of this step and process; the processes take neighbours out of the row."""
        number = self.step * self.settings.gradient_accumulation_steps + part
        number = number * self.accelerator.num_processes + self.accelerator.process_index
        return self.batches.batch(*divmod(number, len(self.batches)))

    def _forward_and_backward(self, batch: Any) -> torch.Tensor:  # noqa: ANN401 - whatever the loss takes
        """Add the batch's share to the gradient and return its loss, a scalar without gradient."""
        try:
            loss = self.objective(send_to_device(batch, self.accelerator.device))
            self.accelerator.backward(loss / self.settings.gradient_accumulation_steps)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ReaderError(
                f"out of memory at step {self.step + 1}, with {self.batches.count(batch):,} "
                f"{self.batches.unit_name} at once. Lower the batch size first, and raise gradient_accumulation_steps "
                "by the same factor, which keeps the training as it was; then the side of the pictures or the length "
                "of the texts; then the rank. Gradient checkpointing takes a third more time and far less memory: "
                "model.enable_gradient_checkpointing() in diffusers, model.gradient_checkpointing_enable() in "
                "transformers. Checkpoints from before stay as they are."
            ) from error
        self._uncounted_units += self.batches.count(batch)
        return loss.detach()

    def _flush_log(self, progress: tqdm) -> None:
        if not self._unlogged:
            return
        # Means and sums over all processes, so that all of them stop at a loss that is not finite.
        losses = self.accelerator.reduce(torch.stack([loss for _, loss, _ in self._unlogged]), "mean").tolist()
        entries = [
            {"step": step, "loss": loss, "learning_rate": learning_rate}
            for (step, _, learning_rate), loss in zip(self._unlogged, losses, strict=True)
        ]
        self._unlogged.clear()
        units = torch.tensor(self._uncounted_units, device=self.accelerator.device)
        self.units += int(self.accelerator.reduce(units, "sum"))
        self._uncounted_units = 0
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
        figures: dict[str, float] = {}
        if self.accelerator.is_main_process:
            self.model.eval()
            with random_state_kept(), torch.no_grad():
                figures = self.evaluate()
            self.model.train()
        [figures] = broadcast_object_list([figures])
        self.evaluation_seconds += time.perf_counter() - started
        self.log.add([{"step": self.step, **figures}])

    def _save(self) -> None:
        if self.folder is None:
            return
        random_states = gather_object([capture_random_state()])
        if not self.accelerator.is_main_process:
            return
        moments, groups = pack_optimizer(_innermost(self.optimizer))
        tensors = {f"model.{name}": tensor for name, tensor in self._changing_tensors().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in moments.items()}
        for process, state in enumerate(random_states):
            tensors |= {f"random.{process}.{name}": tensor for name, tensor in state.items()}
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
        if self.accelerator.is_main_process:
            remove_half_written(self.folder)
        checkpoint = load_newest_checkpoint(self.folder)
        if checkpoint is None:
            return
        self._refuse_another_run(checkpoint.settings)
        with damage_explained(self.folder):
            self._restore(checkpoint)

    def _restore(self, checkpoint: Checkpoint) -> None:
        with torch.no_grad():
            for name, tensor in self._changing_tensors().items():
                tensor.copy_(checkpoint.tensors[f"model.{name}"])
        counters = checkpoint.counters
        unpack_optimizer(_innermost(self.optimizer), checkpoint.part("optimizer"), counters["optimizer_groups"])
        check_form(counters["scheduler"], _plain_values(self.scheduler.state_dict()))
        self.scheduler.load_state_dict(counters["scheduler"])
        if self.accelerator.scaler and counters["gradient_scaler"]:
            self.accelerator.scaler.load_state_dict(counters["gradient_scaler"])
        self.step, self.units = checkpoint.step, counters["units"]
        self.training_seconds, self.evaluation_seconds = counters["training_seconds"], counters["evaluation_seconds"]
        restore_random_state(checkpoint.part(f"random.{self.accelerator.process_index}"))

    def _changing_tensors(self) -> dict[str, torch.Tensor]:
        """Trainable parameters and persistent buffers: all of the model that training can change."""
        frozen = {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        return {name: tensor for name, tensor in self.model.state_dict().items() if name not in frozen}

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to belong to this run."""
        shapes = {name: list(tensor.shape) for name, tensor in self._changing_tensors().items()}
        optimizer = _innermost(self.optimizer)
        settings = asdict(self.settings)
        del settings["checkpoint_every"]  # How often one saves does not change the result.
        return {
            **settings,
            "optimizer": type(optimizer).__name__,
            "parameter groups": [[len(group["params"]), group["initial_lr"]] for group in optimizer.param_groups],
            "processes": self.accelerator.num_processes,
            "batches per epoch": len(self.batches),
            "trained tensors": shapes,
        }

    def _refuse_another_run(self, found: dict[str, Any]) -> None:
        wanted = self._identity()
        for name in wanted:
            if found.get(name) != wanted[name]:
                difference = "" if name == "trained tensors" else f" ({found.get(name)} there, {wanted[name]} here)"
                raise ReaderError(
                    f"{self.folder} holds the checkpoint of another run: {name} differs{difference}. "
                    "Choose another folder, or delete this one to start over."
                )


def _count_batches(settings: FitSettings, batches_per_epoch: int) -> int:
    """Return how many batches the epochs hold; raise ReaderError for settings that leave no step to take."""
    count = round(settings.epochs * batches_per_epoch)
    if count < 1:
        raise ReaderError(f"there is nothing to train on: {settings.epochs} epochs of {batches_per_epoch} batches.")
    return count


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


def _keep_trained_in_float32(model: torch.nn.Module) -> None:
    """Half-precision steps of a small learning rate round to nothing, and fp16 gradients cannot be unscaled."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ReaderError(
            "nothing in this model requires a gradient. For an adapter that was loaded from a file, pass "
            "is_trainable=True to PeftModel.from_pretrained."
        )
    for parameter in trained:
        parameter.data = parameter.data.float()


def _innermost(optimizer: Any) -> torch.optim.Optimizer:  # noqa: ANN401 - Accelerate's wrapper is no Optimizer
    return getattr(optimizer, "optimizer", optimizer)


def _plain_values(state: dict[str, Any]) -> dict[str, Any]:
    """Keep a scheduler's JSON-able counters; its functions are rebuilt from the settings."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | bool | list | str)}
