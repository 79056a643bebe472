"""What ``aigc pretrain`` writes loads in the libraries unchanged, and an interrupted build ends with the same bytes.

A model that only our own code can open, or that nobody can build again, would be worth little. The builds here take a
few steps instead of thousands; what the shipped models can do is measured elsewhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import AutoTokenizer, CLIPModel, GPT2LMHeadModel

from aigc_helpers.cli import main
from aigc_helpers.files import sha256_of
from aigc_helpers.images import LANGUAGES, load_emoji
from aigc_helpers.pretrain.models import clip, poet, sd
from aigc_helpers.text import load_regular_shi

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep checkpoints away from those of a real build."""
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))


@pytest.fixture
def few_poems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build with 1,000 poems; the tokenizer still counts all characters of these."""
    monkeypatch.setattr(poet, "load_regular_shi", lambda split, longest: load_regular_shi(split, longest).head(1000))


@pytest.fixture
def few_concepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build with 70 concepts, enough for one batch."""
    emoji = load_emoji()
    monkeypatch.setattr(clip, "load_emoji", lambda: emoji.only(emoji.names[:70]))


def hashes(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def interrupt(build: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``build`` until its first checkpoint is written, and stop it there as Ctrl-C does."""
    from aigc_helpers.training import loop as fitting

    def save_and_stop(*arguments: object) -> None:
        saved(*arguments)
        raise KeyboardInterrupt

    saved = fitting.save_checkpoint
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(fitting, "save_checkpoint", save_and_stop)
        build()


@pytest.mark.usefixtures("few_poems")
def test_a_poet_loads_and_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(poet.SETTINGS, epochs=4 / 63, evaluate_every=None, checkpoint_every=2)
    poet.build_poet(tmp_path / "whole", settings)
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "another store"))
    interrupt(lambda: poet.build_poet(tmp_path / "resumed", settings), monkeypatch)
    assert not (tmp_path / "resumed").exists()
    poet.build_poet(tmp_path / "resumed", settings)
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "resumed")

    model = GPT2LMHeadModel.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)


@pytest.mark.usefixtures("few_concepts")
def test_a_clip_loads_and_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(clip.SETTINGS, epochs=4, checkpoint_every=2)
    clip.build_clip(tmp_path / "whole", settings)
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "another store"))
    interrupt(lambda: clip.build_clip(tmp_path / "resumed", settings), monkeypatch)
    clip.build_clip(tmp_path / "resumed", settings)
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "resumed")

    model = CLIPModel.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    assert model.text_model.get_input_embeddings().num_embeddings == len(tokenizer)
    emoji = load_emoji()
    for language in LANGUAGES:
        assert tokenizer.unk_token_id not in tokenizer(emoji.caption(69, "fluent", "cyan", language))["input_ids"]


def test_a_pipeline_loads_unchanged_and_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emoji = load_emoji().only(("tiger", "tiger-face", "red-apple", "rocket", "koala"))
    for module in (clip, sd):
        monkeypatch.setattr(module, "load_emoji", lambda: emoji)
    monkeypatch.setattr(clip, "BATCH_SIZE", 15)  # One batch.
    clip.build_clip(tmp_path / "clip", replace(clip.SETTINGS, epochs=1))
    monkeypatch.setattr(sd, "CLIP_FOLDER", tmp_path / "clip")
    settings = replace(sd.SETTINGS, epochs=2, checkpoint_every=1)
    sd.build_sd(tmp_path / "whole", settings)
    # The autoencoder's checkpoints stay; only the UNet is built twice.
    shutil.rmtree(tmp_path / "store" / "pretrain" / "sd")
    interrupt(lambda: sd.build_sd(tmp_path / "resumed", settings), monkeypatch)
    assert not (tmp_path / "resumed").exists()
    sd.build_sd(tmp_path / "resumed", settings)
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "resumed")

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    assert pipeline.unet.config.sample_size == 8 and pipeline.unet.config.in_channels == 16
    pictures = pipeline(["tiger, noto style, blue background"], num_inference_steps=2, output_type="np").images
    assert pictures.shape == (1, 64, 64, 3)
    shown = json.loads((tmp_path / "whole" / sd.TRAINING_FILE).read_text(encoding="utf-8"))
    assert shown["concepts"] == ["tiger", "tiger-face", "red-apple", "rocket"], "koala is held out"
    assert shown["styles"] == ["noto", "twemoji"]


def test_sd_without_its_text_encoder_says_what_to_build_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sd, "CLIP_FOLDER", tmp_path / "clip")
    assert main(["pretrain", "sd"]) == 1
    assert "aigc pretrain clip" in capsys.readouterr().err
    assert not (tmp_path / "store").exists(), "no hour was spent before that was noticed"
