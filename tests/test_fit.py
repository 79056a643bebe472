"""fit() trains every model of the book: it must learn, log, leave frozen weights alone, refuse what cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_training import SETTINGS, PlainModel, TinyBatches, squared_error, tiny_loss, tiny_model, train_tiny

from aigc_helpers.errors import ReaderError
from aigc_helpers.training import FitSettings, fit, read_log
from aigc_helpers.training.loop import LOG_FILE


def test_the_loss_falls_and_frozen_weights_keep_every_bit() -> None:
    model, result = train_tiny(None)
    _, losses = result.curve("loss")
    assert len(losses) == result.steps == 30
    assert sum(losses[-5:]) < sum(losses[:5]) / 2
    assert torch.equal(model[0].weight, tiny_model()[0].weight)
    assert not torch.equal(model[3].weight, tiny_model()[3].weight)
    assert result.units == 240
    assert not model.training


def test_evaluation_happens_when_asked_and_at_the_end() -> None:
    _, result = train_tiny(None)
    assert result.curve("drawn")[0] == [9, 18, 27, 30]


def test_looking_does_not_change_the_run() -> None:
    looked_at, _ = train_tiny(None)
    undisturbed = tiny_model()
    fit(undisturbed, TinyBatches(), tiny_loss, SETTINGS)
    for left, right in zip(looked_at.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(left, right)


def test_the_log_is_one_json_object_per_step_and_evaluation(tmp_path: Path) -> None:
    _, result = train_tiny(tmp_path)
    assert read_log(tmp_path / LOG_FILE) == result.log
    assert [entry["step"] for entry in result.log if "loss" in entry] == list(range(1, 31))


class JoinedBatches(TinyBatches):
    """Two epochs of the ten batches of 8, as five of 32."""

    def __len__(self) -> int:
        return 5

    def batch(self, epoch: int, position: int) -> dict[str, torch.Tensor]:
        parts = [super(JoinedBatches, self).batch(*divmod(4 * position + part, 10)) for part in range(4)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def test_four_batches_of_8_train_as_one_of_32() -> None:
    settings = FitSettings(epochs=2, learning_rate=5e-2, weight_decay=0.1, gradient_accumulation_steps=4)
    accumulated, joined = PlainModel(), PlainModel()
    found = fit(accumulated, TinyBatches(), squared_error, settings)
    expected = fit(joined, JoinedBatches(), squared_error, replace(settings, epochs=1, gradient_accumulation_steps=1))
    for one, other in zip(accumulated.parameters(), joined.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert found.steps == expected.steps == 5
    assert found.units == expected.units == 160
    for name in ("loss", "learning_rate"):
        steps, values = found.curve(name)
        assert steps == [1, 2, 3, 4, 5]
        torch.testing.assert_close(torch.tensor(values), torch.tensor(expected.curve(name)[1]), atol=1e-6, rtol=0)


def test_the_last_step_is_filled_up_from_the_next_epoch() -> None:
    asked: list[tuple[int, int]] = []

    class Watched(TinyBatches):
        def batch(self, epoch: int, position: int) -> dict[str, torch.Tensor]:
            asked.append((epoch, position))
            return super().batch(epoch, position)

    settings = replace(SETTINGS, epochs=1, gradient_accumulation_steps=4)
    assert fit(tiny_model(), Watched(), tiny_loss, settings).steps == 3
    assert asked == [(0, position) for position in range(10)] + [(1, 0), (1, 1)]


def test_a_run_stopped_within_an_accumulated_step_ends_with_the_same_bits(tmp_path: Path) -> None:
    class Interrupted(TinyBatches):
        def batch(self, epoch: int, position: int) -> dict[str, torch.Tensor]:
            if (epoch, position) == (2, 2):  # The third batch of the sixth step; the checkpoint is of the fourth.
                raise KeyboardInterrupt
            return super().batch(epoch, position)

    settings = replace(SETTINGS, gradient_accumulation_steps=4)
    undisturbed, expected = train_tiny(None, settings)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_model(), Interrupted(), tiny_loss, settings, folder=tmp_path)
    resumed, found = train_tiny(tmp_path, settings)
    assert all(map(torch.equal, resumed.state_dict().values(), undisturbed.state_dict().values()))
    assert found.log == expected.log
    assert found.units == expected.units == 8 * 4 * 8


def test_an_optimizer_of_ones_own_keeps_its_groups_and_resumes_exactly(tmp_path: Path) -> None:
    def two_rates(model: torch.nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
        groups = [{"params": model[1].parameters(), "lr": 0}, {"params": model[3].parameters()}]
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9)

    class Interrupted(TinyBatches):
        def batch(self, epoch: int, position: int) -> dict[str, torch.Tensor]:
            if (epoch, position) == (1, 5):
                raise KeyboardInterrupt
            return super().batch(epoch, position)

    undisturbed, resumed = tiny_model(), tiny_model()
    fit(undisturbed, TinyBatches(), tiny_loss, SETTINGS, optimizer=two_rates)
    assert torch.equal(undisturbed[1].weight, tiny_model()[1].weight)
    assert not torch.equal(undisturbed[3].weight, tiny_model()[3].weight)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_model(), Interrupted(), tiny_loss, SETTINGS, optimizer=two_rates, folder=tmp_path)
    fit(resumed, TinyBatches(), tiny_loss, SETTINGS, optimizer=two_rates, folder=tmp_path)
    assert all(map(torch.equal, resumed.state_dict().values(), undisturbed.state_dict().values()))
    with pytest.raises(ReaderError, match=r"optimizer differs \(SGD there, AdamW here\)"):
        fit(tiny_model(), TinyBatches(), tiny_loss, SETTINGS, folder=tmp_path)


def test_out_of_memory_says_what_to_lower_first() -> None:
    def greedy_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return tiny_loss(model, batch) + torch.ones(2**50).sum()  # A petabyte.

    with pytest.raises(ReaderError, match="at step 1, with 8 pictures at once.*raise gradient_accumulation_steps"):
        fit(tiny_model(), TinyBatches(), greedy_loss, SETTINGS)


def test_other_faults_of_the_loss_are_not_taken_for_it() -> None:
    def wrong_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(batch["inputs"][:, :4]).mean()

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(tiny_model(), TinyBatches(), wrong_loss, SETTINGS)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, _ = train_tiny(tmp_path)
    again, result = train_tiny(tmp_path)
    assert torch.equal(first[3].weight, again[3].weight)
    assert result.steps == 30
    assert len(result.curve("loss")[0]) == 30


def test_another_runs_folder_is_refused_with_the_difference(tmp_path: Path) -> None:
    train_tiny(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ReaderError, match=r"learning_rate differs \(0.05 there, 0.1 here\)"):
        train_tiny(tmp_path, replace(SETTINGS, learning_rate=0.1))
    assert sorted(tmp_path.iterdir()) == before


def test_a_checkpoint_cut_in_half_is_named_and_the_older_one_kept(tmp_path: Path) -> None:
    train_tiny(tmp_path)
    older, newest = sorted(tmp_path.glob("checkpoint-*"))
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReaderError, match=f"{newest.name} is damaged.*continue from {older.name}"):
        train_tiny(tmp_path)
    newest.unlink()
    _, result = train_tiny(tmp_path)
    assert result.steps == 30


def rewrite(checkpoint: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> None:
    """Change what a checkpoint says; only then is it still a sound safetensors file."""
    with safe_open(checkpoint, "pt") as opened:
        header = json.loads(opened.metadata()["checkpoint"])
    tensors = load_file(checkpoint)
    change(header, tensors)
    save_file(tensors, checkpoint, {"checkpoint": json.dumps(header)})


DAMAGE: dict[str, Callable[[dict[str, Any], dict[str, torch.Tensor]], object]] = {
    "no step": lambda header, _: header.pop("step"),
    "a step that is a text": lambda header, _: header.update(step="9"),
    "a step below zero": lambda header, _: header.update(step=-1),
    "settings that are none": lambda header, _: header.update(settings=[]),
    "counters that are none": lambda header, _: header.update(counters=5),
    "no units": lambda header, _: header["counters"].pop("units"),
    "seconds that are no number": lambda header, _: header["counters"].update(training_seconds=None),
    "no schedule": lambda header, _: header["counters"].pop("scheduler"),
    "another schedule": lambda header, _: header["counters"]["scheduler"].update(last_epoch="x"),
    "no optimizer": lambda header, _: header["counters"].pop("optimizer_groups"),
    "another optimizer": lambda header, _: header["counters"]["optimizer_groups"][0].update(lr="x"),
    "a group too few": lambda header, _: header["counters"]["optimizer_groups"].pop(),
    "a group of other parameters": lambda header, _: header["counters"]["optimizer_groups"][0]["params"].pop(),
    "a tensor missing": lambda _, tensors: tensors.pop("model.3.weight"),
    "a tensor of another shape": lambda _, tensors: tensors.update({"model.3.weight": torch.ones(7)}),
    "a generator's state missing": lambda _, tensors: tensors.pop("random.0.torch"),
    "a generator's state of another kind": lambda _, tensors: tensors.update({"random.0.torch": torch.ones(3)}),
    "a moment of no parameter": lambda _, tensors: tensors.update({"optimizer.x.exp_avg": torch.ones(1)}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_that_does_not_hold_what_a_run_needs_is_called_damaged(damage: str, tmp_path: Path) -> None:
    train_tiny(tmp_path)
    newest = max(tmp_path.glob("checkpoint-*"))
    rewrite(newest, DAMAGE[damage])
    with pytest.raises(ReaderError, match=f"the checkpoint .*{newest.name} is damaged"):
        train_tiny(tmp_path)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b"5\n{}\n", "has a line 1 that is no JSON object"),
        (b"[]\n", "has a line 1 that is no JSON object"),
        (b"{\n{}\n", "has a line 1 that is no JSON"),
        (b"\xff\n{}\n", "has a line 1 that is no JSON"),
        (b"[" * 200 + b"\n{}\n", "has a line 1 that is no JSON"),
        (b"{}\n", "has a line 1 without the number of a step"),
        (b'{"step": "1"}\n', "has a line 1 without the number of a step"),
    ],
)
def test_a_log_that_something_else_wrote_into_is_named(tmp_path: Path, lines: bytes, words: str) -> None:
    (tmp_path / LOG_FILE).write_bytes(lines)
    with pytest.raises(ReaderError, match=f"{LOG_FILE} {words}"):
        train_tiny(tmp_path)
    assert (tmp_path / LOG_FILE).read_bytes() == lines


def test_the_last_line_of_a_log_may_be_cut_anywhere(tmp_path: Path) -> None:
    whole = '{"step": 1, "said": "春\u2028眠"}\n'.encode()
    for length in range(len(whole)):
        (tmp_path / "log.jsonl").write_bytes(whole * 2 + whole[:length])
        assert len(read_log(tmp_path / "log.jsonl")) in (2, 3)


def test_a_model_without_trainable_parameters_is_refused() -> None:
    model = tiny_model().requires_grad_(False)
    with pytest.raises(ReaderError, match="is_trainable=True"):
        fit(model, TinyBatches(), tiny_loss, SETTINGS)


def test_epochs_without_a_whole_batch_are_refused() -> None:
    with pytest.raises(ReaderError, match="nothing to train on"):
        fit(tiny_model(), TinyBatches(), tiny_loss, replace(SETTINGS, epochs=0.04))


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path: Path) -> None:
    train_tiny(tmp_path, replace(SETTINGS, epochs=1))
    assert list(tmp_path.glob("checkpoint-*"))

    def bad_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return tiny_loss(model, batch) * float("nan")

    folder = tmp_path / "bad"
    with pytest.raises(ReaderError, match="loss at step 1 is nan"):
        fit(tiny_model(), TinyBatches(), bad_loss, SETTINGS, folder=folder)
    assert not list(folder.glob("checkpoint-*"))


def test_a_full_disk_leaves_the_older_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_tiny(tmp_path, replace(SETTINGS, epochs=1))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("checkpoint-*")}

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aigc_helpers.training.checkpoint.save_file", no_space)
    folder = tmp_path / "second"
    with pytest.raises(ReaderError, match="disk is full"):
        train_tiny(folder)
    assert not list(folder.glob("checkpoint-*")) and not list(folder.glob(".*"))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("checkpoint-*")} == before
