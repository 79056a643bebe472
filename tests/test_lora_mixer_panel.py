"""The mixer's sliders reach the pipeline: each LoRA gets its own scale, and the line of code shown is the one run.

A panel that mixed up two sliders would teach that the one LoRA does what the other does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from PIL import Image

from aigc_helpers.panels import lora_mixer

Call = tuple[list[str], list[float]]


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


@pytest.fixture
def calls() -> list[Call]:
    return []


@pytest.fixture
def panel(calls: list[Call]) -> lora_mixer.LoraMixerPanel:
    def paint(names: list[str], scales: list[float]) -> list[Image.Image]:
        calls.append((names, scales))
        brightness = int(100 * scales[0] + 10 * scales[1])
        return [Image.new("RGB", (8, 8), (brightness,) * 3)] * 2

    return lora_mixer.LoraMixerPanel({"sepia": 0.5, "koala": 1.0}, paint, ["a <fox>", "a koala"])


def test_run_hands_names_and_scales_on_and_says_the_call() -> None:
    picture = Image.new("RGB", (2, 2))
    mixture = lora_mixer.run({"a": 1, "b": 0.3}, lambda names, scales: [picture] * len(names))
    assert mixture.pictures == [picture, picture]
    assert mixture.code == "pipeline.set_adapters(['a', 'b'], [1.0, 0.3])"


def test_it_draws_at_once_with_the_scales_it_is_given(panel: lora_mixer.LoraMixerPanel, calls: list[Call]) -> None:
    assert calls == [(["sepia", "koala"], [0.5, 1.0])]
    assert panel.view.value.count("<img") == 2


def test_each_slider_moves_its_own_lora(panel: lora_mixer.LoraMixerPanel, calls: list[Call]) -> None:
    first = panel.view.value
    panel.sliders["koala"].value = 0.0
    second = panel.view.value
    panel.sliders["sepia"].value = 1.2
    assert [scales for _, scales in calls] == [[0.5, 1.0], [0.5, 0.0], [1.2, 0.0]]
    assert len({first, second, panel.view.value}) == 3


def test_round_numbers_are_shown_as_such(panel: lora_mixer.LoraMixerPanel, calls: list[Call]) -> None:
    panel.sliders["sepia"].value = 0.1 + 0.2
    assert calls[-1][1] == [0.3, 1.0]
    assert "pipeline.set_adapters([&#x27;sepia&#x27;, &#x27;koala&#x27;], [0.3, 1.0])" in panel.view.value


def test_pictures_say_what_they_are_to_those_who_do_not_see_them(panel: lora_mixer.LoraMixerPanel) -> None:
    assert re.findall('alt="([^"]+)"', panel.view.value) == [
        "a &lt;fox&gt;; sepia 0.5, koala 1.0",
        "a koala; sepia 0.5, koala 1.0",
    ]
