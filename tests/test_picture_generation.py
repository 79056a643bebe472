"""The same call draws the same picture; what cannot be drawn as asked is refused with the reason."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_helpers.errors import ReaderError
from aigc_helpers.images import draw, draw_many, load_pipeline, read_shown_in_training, sd_folder
from aigc_helpers.paths import DATA
from aigc_helpers.store.catalog import CATALOG

pytestmark = pytest.mark.slow

PROMPT = "tiger, noto style, blue background"


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline()


def difference(one: Image.Image, other: Image.Image) -> int:
    """Return the largest difference of any channel of any pixel, of 255."""
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other)).max())


def test_the_same_call_draws_the_same_picture_and_another_seed_another() -> None:
    first, second = draw(PROMPT, count=2, steps=4)
    assert (first.size, first.mode) == ((64, 64), "RGB")
    assert difference(first, draw(PROMPT, count=2, steps=4)[0]) == 0
    assert difference(first, second) > 20
    # Drawn alone, it differs by rounding at most.
    assert difference(second, draw(PROMPT, seed=1, steps=4)[0]) <= 2


def test_a_picture_does_not_depend_on_the_others(pipeline) -> None:
    prompts = [PROMPT, "panda, twemoji style, red background", "狐狸，noto 风格，绿色背景"]
    together = draw_many(pipeline, prompts, 5, steps=4, guidance=4.0)
    for number, prompt in enumerate(prompts):
        assert difference(together[number], draw_many(pipeline, [prompt], 5 + number, 4, 4.0)[0]) <= 2


@pytest.mark.parametrize("changed", [{"steps": 6}, {"guidance": 1.0}, {"negative_prompt": "老虎"}])
def test_every_number_matters(changed: dict) -> None:
    assert difference(draw(PROMPT, steps=4)[0], draw(PROMPT, **{"steps": 4, **changed})[0]) > 2


def test_weights_are_full_precision_wherever_they_run(pipeline) -> None:
    for model in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_nothing_is_printed_on_the_way(capfd: pytest.CaptureFixture) -> None:
    draw(PROMPT, steps=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "tigre, noto style"}, "does not know tigre"),
        ({"prompt": "tiger " * 40}, "has 40 tokens"),
        ({"negative_prompt": "tigre"}, "does not know tigre"),
        ({"count": 0}, "0 pictures"),
        ({"count": 10**9}, "1,000,000,000 pictures"),
        ({"steps": 0}, "0 steps"),
        ({"steps": 1000}, "1000 steps"),
        ({"guidance": -0.1}, "guidance of -0.1"),
        ({"guidance": math.nan}, "guidance of nan"),
        ({"scale": math.inf}, "scale of inf"),
        ({"lora": DATA / "nowhere"}, "there is no file or folder .*nowhere"),
        ({"lora": DATA / "film_adapter"}, "film_adapter does not fit this model: the adapter is for BERT"),
        ({"lora": CATALOG}, "catalog.toml is not a weight file"),
        ({"lora": DATA / "emoji"}, "emoji holds no weight file"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong: dict, complaint: str) -> None:
    with pytest.raises(ReaderError, match=complaint):
        draw(**{"prompt": PROMPT, "steps": 1, **wrong})


def test_a_lora_in_kohyas_format_draws_too_and_at_scale_0_draws_as_the_base() -> None:
    base = draw(PROMPT, steps=4)[0]
    assert difference(base, draw(PROMPT, steps=4, lora=DATA / "loras" / "sepia.safetensors")[0]) > 20
    assert difference(base, draw(PROMPT, steps=4, lora=DATA / "loras" / "sepia.safetensors", scale=0)[0]) == 0


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="does not load as a Stable Diffusion pipeline"):
        load_pipeline(tmp_path)


def test_a_pipeline_with_a_cut_file_is_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sd_folder(), tmp_path / "sd"))
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ReaderError, match="does not load as a Stable Diffusion pipeline"):
        load_pipeline(copy)


def test_a_model_that_does_not_say_what_it_learned_is_refused(tmp_path: Path) -> None:
    assert "tiger" in read_shown_in_training().concepts
    (tmp_path / "training.json").write_text('{"concepts": ["tiger"]', encoding="utf-8")
    with pytest.raises(ReaderError, match=r"training.json does not say which concepts"):
        read_shown_in_training(tmp_path)
