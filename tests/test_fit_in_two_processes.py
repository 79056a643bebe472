"""Two processes train as one that takes twice as many batches a step; they log, save and resume as one does."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import SETTINGS, PlainModel, TinyBatches, squared_error, train_tiny

from aigc_helpers.errors import ReaderError
from aigc_helpers.training import FitSettings, fit, read_log
from aigc_helpers.training.checkpoint import load_newest_checkpoint
from aigc_helpers.training.loop import LOG_FILE

PROCESSES = 2
SHARED = FitSettings(epochs=1.5, learning_rate=5e-2, weight_decay=0.1)  # 15 batches: the last step needs another one.
_INTERRUPTED_AT = 6  # One step after a checkpoint and one before the next.


def train_plain(settings: FitSettings) -> tuple[dict[str, torch.Tensor], list[float], int]:
    model = PlainModel()
    result = fit(model, TinyBatches(), squared_error, settings)
    return model.state_dict(), result.curve("loss")[1], result.units


class InterruptedBatches(TinyBatches):
    """Stops each process at the same batch, as closing a notebook does."""

    def batch(self, epoch: int, position: int) -> dict[str, torch.Tensor]:
        if epoch * len(self) + position >= _INTERRUPTED_AT * PROCESSES:
            raise KeyboardInterrupt
        return super().batch(epoch, position)


def work(process: int, port: int, folder: Path) -> None:
    """Run everything in one of the processes; starting one takes far longer than the training."""
    os.environ |= {"RANK": str(process), "LOCAL_RANK": str(process)}
    os.environ |= {"WORLD_SIZE": str(PROCESSES), "LOCAL_WORLD_SIZE": str(PROCESSES)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    os.environ["OMP_NUM_THREADS"] = "1"

    def save(name: str, weights: dict[str, torch.Tensor], *figures: object) -> None:
        save_file(weights, folder / f"{name}-{process}.safetensors")
        (folder / f"{name}-{process}.json").write_text(json.dumps(figures), encoding="utf-8")

    for parts in (1, 2):
        save(f"plain{parts}", *train_plain(replace(SHARED, gradient_accumulation_steps=parts)))
    model, result = train_tiny(folder / "undisturbed")
    save("undisturbed", model.state_dict(), result.log, result.units)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tiny_training.TinyBatches", InterruptedBatches)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(folder / "resumed")
    model, result = train_tiny(folder / "resumed")
    save("resumed", model.state_dict(), result.log, result.units)
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder where two processes left what they trained."""
    folder = tmp_path_factory.mktemp("two")
    context, port = multiprocessing.get_context("spawn"), free_port()
    processes = [context.Process(target=work, args=(number, port, folder)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return folder


def figures_of(folder: Path, name: str) -> list[list]:
    texts = [(folder / f"{name}-{process}.json").read_text(encoding="utf-8") for process in range(PROCESSES)]
    return [json.loads(text) for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_two_processes_train_as_one_that_takes_the_same_batches(parts: int, folder: Path) -> None:
    together = PROCESSES * parts
    expected, losses, units = train_plain(replace(SHARED, gradient_accumulation_steps=together))
    assert len(losses) == -(-15 // together)
    for process in range(PROCESSES):
        found = load_file(folder / f"plain{parts}-{process}.safetensors")
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)
    for found_losses, found_units in figures_of(folder, f"plain{parts}"):
        torch.testing.assert_close(torch.tensor(found_losses), torch.tensor(losses), atol=1e-6, rtol=0)
        assert found_units == units == 8 * together * len(losses)


@pytest.mark.slow
def test_an_interrupted_run_of_two_processes_ends_with_the_same_bits(folder: Path) -> None:
    for process in range(PROCESSES):
        expected = load_file(folder / f"undisturbed-{process}.safetensors")
        found = load_file(folder / f"resumed-{process}.safetensors")
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    first, second = figures_of(folder, "resumed")
    assert first == second == figures_of(folder, "undisturbed")[0]
    assert [entry["step"] for entry in first[0] if "drawn" in entry] == [9, 15]


@pytest.mark.slow
def test_one_process_writes_the_log_and_the_random_state_of_both(folder: Path) -> None:
    log = read_log(folder / "undisturbed" / LOG_FILE)
    assert [log, 240] == figures_of(folder, "undisturbed")[0]
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 16))
    checkpoint = load_newest_checkpoint(folder / "undisturbed")
    states = [checkpoint.part(f"random.{process}")["torch"] for process in range(PROCESSES)]
    assert not torch.equal(*states), "each process draws its own noise"


@pytest.mark.slow
def test_one_process_does_not_go_on_with_the_checkpoint_of_two(folder: Path) -> None:
    with pytest.raises(ReaderError, match=r"processes differs \(2 there, 1 here\)"):
        train_tiny(folder / "undisturbed", SETTINGS)
