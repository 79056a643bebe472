"""A Colab session ends without a word. A run that was killed and started again must end with the same bits.

Every run here is a process of its own, killed with SIGKILL at a random moment: during a step, while a checkpoint is
written, or before the first one.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import train_tiny

from aigc_helpers.training import read_log
from aigc_helpers.training.loop import LOG_FILE

_KILLS = 20
_SLOWED_STEP_SECONDS = 0.02


def _train_and_save(folder: Path, slowed: bool) -> None:
    if slowed:  # Leaves time to be killed in; the arithmetic is the same.
        import tiny_training

        plain_batch = tiny_training.TinyBatches.batch

        def slow_batch(*arguments: object) -> dict[str, torch.Tensor]:
            time.sleep(_SLOWED_STEP_SECONDS)
            return plain_batch(*arguments)

        tiny_training.TinyBatches.batch = slow_batch
    model, _ = train_tiny(folder / "run")
    save_file(model.state_dict(), folder / "final.safetensors")


@pytest.mark.slow
def test_twenty_kills_do_not_change_a_bit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "aigc_helpers.training.loop", "tiny_training"])
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    unbroken.mkdir()
    broken.mkdir()
    process = context.Process(target=_train_and_save, args=(unbroken, False))
    process.start()
    process.join()
    assert process.exitcode == 0

    draw = random.Random(0)
    kills_by_progress: list[str] = []
    while len(kills_by_progress) < _KILLS:
        process = context.Process(target=_train_and_save, args=(broken, True))
        process.start()
        process.join(timeout=draw.uniform(0.05, 0.9))
        if process.exitcode is not None:
            # It finished before it could be killed: the rest of the kills hit a fresh run.
            assert process.exitcode == 0
            _assert_equal_weights(unbroken, broken)
            for path in (broken / "run").iterdir():
                path.unlink()
            continue
        process.kill()
        process.join()
        newest = max((path.name for path in (broken / "run").glob("checkpoint-*")), default="none")
        kills_by_progress.append(newest)
    process = context.Process(target=_train_and_save, args=(broken, False))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert len(set(kills_by_progress)) >= 4, f"the kills all hit the same stage: {kills_by_progress}"
    _assert_equal_weights(unbroken, broken)
    left, right = (read_log(folder / "run" / LOG_FILE) for folder in (unbroken, broken))
    assert left == right
    assert not list((broken / "run").glob(".*part")), "half-written files of killed runs are still there"


def _assert_equal_weights(unbroken: Path, broken: Path) -> None:
    expected, found = load_file(unbroken / "final.safetensors"), load_file(broken / "final.safetensors")
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
