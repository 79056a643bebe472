"""Builds what chapter 11 reads instead of training it: LoRAs of an artist's style, step by step, and a rank sweep.

Both train and draw as the chapter does, and ask for concepts that the LoRA was not shown. A run's lines are written
when it has ended, so that an interrupted build goes on with the next run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from aigc_helpers.evaluation import References, judge
from aigc_helpers.files import make_folder, replacing
from aigc_helpers.images import (
    ATTENTION,
    BASE_STYLES,
    COLOURS,
    CONVOLUTIONS,
    SEPIA,
    STYLES,
    CaptionedPictures,
    EmojiSet,
    Facts,
    PictureAdapterSettings,
    draw_many,
    embed_pictures,
    fit_adapter,
    held_out_colours,
    load_clip,
    load_emoji,
    load_pipeline,
    pictures_for,
    read_shown_in_training,
    save_picture_adapter,
    to_array,
    training_colours,
    unseen_concepts,
)
from aigc_helpers.paths import DATA
from aigc_helpers.profile import choose_profile
from aigc_helpers.training import read_log, run_sweep

RANK_FILE = DATA / "results" / "sepia_rank_sweep.jsonl"
STYLE_FILE = DATA / "results" / "fluent_runs.jsonl"
STYLE_PICTURES = DATA / "results" / "fluent_pictures.webp"

RANKS = (1, 2, 4, 8, 16)
_DRAWING_STEPS, _GUIDANCE = 10, 4.0  # The chapter's own.
_JUDGED = 40  # Concepts of a look, on one background each.
_BACKGROUNDS = 2  # For each of the 40 concepts that a style is judged on.
_EVALUATE_EVERY = 100
_SCALES = (0.4, 0.55, 0.7, 0.85)  # At which a finished LoRA of a style is judged, besides 1.
_SHOWN_SCALE = 0.7
_EVERYTHING = (*ATTENTION, *CONVOLUTIONS, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj")
# Four that no run is shown; their pictures before and after each run go into the chapter.
_WATCHED = (("rabbit", "blue"), ("watermelon", "pink"), ("rooster", "white"), ("teapot", "yellow"))


@dataclass(frozen=True)
class StyleRun:
    """A training of the style fluent.

    Attributes:
        name: in the chapter.
        concepts: how many it is shown, on eight backgrounds each.
        settings: of the LoRA and its training.
        regularised: with as many pictures in the base's own styles (Ruiz et al. 2023 call it prior preservation).
    """

    name: str
    concepts: int
    settings: PictureAdapterSettings
    regularised: bool = False


STYLE_RUNS = (
    StyleRun("careless", 50, PictureAdapterSettings(16, _EVERYTHING, learning_rate=1e-3, steps=400)),
    StyleRun("gentle", 50, PictureAdapterSettings(4, ATTENTION, learning_rate=5e-4, steps=400)),
    StyleRun("more concepts", 266, PictureAdapterSettings(16, _EVERYTHING, learning_rate=1e-3, steps=400)),
    StyleRun("regularised", 266, PictureAdapterSettings(16, _EVERYTHING, learning_rate=1e-3, steps=600), True),
)


def build_picture_rank_sweep() -> str:
    """Train the look sepia with the ranks that data/results lacks, a line each; returns a closing line."""
    rows = run_sweep(RANK_FILE, [{"rank": rank} for rank in RANKS], _Studio().run_rank)
    return f"{RANK_FILE}: {len(rows)} runs"


def build_style_runs() -> str:
    """Train the style fluent with the settings that data/results lacks; returns a closing line.

    The pictures of the runs lie below each other in one file: four of the base, the same four after the run, and with
    the LoRA at a scale of 0.7.
    """
    done = {row["run"] for row in _rows(STYLE_FILE)}
    studio = _Studio()
    probe = _StyleProbe(studio)
    for run in STYLE_RUNS:
        if run.name not in done:
            rows, strip = studio.run_style(run, probe)
            _add_strip(strip)
            _append(STYLE_FILE, rows)
    return f"{STYLE_FILE}: {len(STYLE_RUNS)} runs"


class _Studio:
    """What the runs share: the base, and the pictures that drawings are compared with."""

    def __init__(self) -> None:
        choose_profile("embedded")
        self.emoji, self.base_concepts = load_emoji(), read_shown_in_training().concepts
        self.known = self.emoji.only(self.base_concepts)
        self.pipeline = load_pipeline()
        self.references = References(self.known, load_clip()[0])
        self.test_concepts = unseen_concepts("fluent", self.base_concepts)

    def run_rank(self, rank: int) -> dict[str, Any]:
        shown = pictures_for("sepia", self.emoji, self.base_concepts)
        self._unload()
        fit_adapter(self.pipeline, shown, replace(SEPIA, rank=rank))
        facts = self._facts("sepia", unseen_concepts("sepia", self.base_concepts))
        figures = judge(self._draw(facts), facts, self.references, (*BASE_STYLES, "sepia"))
        with TemporaryDirectory() as folder:
            save_picture_adapter(self.pipeline, Path(folder) / "lora")
            file_bytes = sum(path.stat().st_size for path in (Path(folder) / "lora").iterdir())
        return {
            "rank": rank,
            "trainable_parameters": self._trainable_parameters(),
            "file_bytes": file_bytes,
            "pictures": len(facts),
            "style": figures["style by pixels"]["mean"],
            "concept": figures["concept by pixels"]["mean"],
        }

    def run_style(self, run: StyleRun, probe: _StyleProbe) -> tuple[list[dict[str, Any]], Image.Image]:
        asked = self._facts("fluent", self.test_concepts, _BACKGROUNDS * len(self.test_concepts))
        watched = [Facts(self.known.number_of[name], "fluent", colour) for name, colour in _WATCHED]
        figures: list[dict[str, Any]] = []
        strips: list[np.ndarray] = []

        def evaluate(scale: float = 1.0) -> dict[str, float]:
            pictures = self._draw(asked)
            figures.append(
                {
                    "step": min(_EVALUATE_EVERY * len(figures), run.settings.steps),
                    "scale": scale,
                    "pictures": len(asked),
                    "style": probe.share(pictures, "fluent"),
                    "concept": self._share_of_concepts(pictures, asked),
                }
            )
            strips.append(np.concatenate(list(self._draw(watched)), axis=1))
            return {}

        self._unload()
        evaluate()
        shown = self._fluent(run)
        fit_adapter(self.pipeline, shown, run.settings, evaluate=evaluate, evaluate_every=_EVALUATE_EVERY)
        for scale in _SCALES:
            self.pipeline.set_adapters(self.pipeline.get_active_adapters(), [scale])
            evaluate(scale)
        base, tuned, weaker = strips[0], strips[-1 - len(_SCALES)], strips[_SCALES.index(_SHOWN_SCALE) - len(_SCALES)]
        strip = Image.fromarray(np.concatenate([base, tuned, weaker], axis=1))
        settings = {
            "run": run.name,
            "concepts": run.concepts,
            "pictures_shown": len(shown.pictures),
            "rank": run.settings.rank,
            "trainable_parameters": self._trainable_parameters(),
            "learning_rate": run.settings.learning_rate,
            "probe_accuracy": probe.accuracy,
        }
        return [settings | one for one in figures], strip

    def _fluent(self, run: StyleRun) -> CaptionedPictures:
        everything = pictures_for("fluent", self.emoji, self.base_concepts)
        count = run.concepts * len(everything.pictures) // (len(self.base_concepts) - len(self.test_concepts))
        pictures, captions = everything.pictures[:count], everything.captions[:count]
        if run.regularised:
            possible = self.known.facts(BASE_STYLES, training_colours)
            numbers = np.random.default_rng(0).choice(len(possible), count, replace=False)
            facts = [possible[number] for number in numbers]
            pictures = np.concatenate([pictures, self.known.pictures(facts)])
            captions = captions + self.known.captions(facts)
        return CaptionedPictures(pictures, captions)

    def _unload(self) -> None:
        if self.pipeline.get_list_adapters():
            self.pipeline.unload_lora_weights()

    def _trainable_parameters(self) -> int:
        return sum(each.numel() for each in self.pipeline.unet.parameters() if each.requires_grad)

    def _facts(self, style: str, names: Sequence[str], count: int = _JUDGED) -> list[Facts]:
        """Return facts about evenly chosen names, on all backgrounds in turn."""
        numbers = np.linspace(0, len(names), count, endpoint=False).astype(int)
        return [
            Facts(self.known.number_of[names[number]], style, COLOURS[place % len(COLOURS)])
            for place, number in enumerate(numbers)
        ]

    def _share_of_concepts(self, pictures: np.ndarray, facts: Sequence[Facts]) -> float:
        """Return how often the drawing nearest by tiny-CLIP, of all concepts in all styles, is of the named concept.

        In all styles: a picture that keeps its concept and misses the style must not count as a lost concept.
        """
        right = []
        for embedding, fact in zip(embed_pictures(self.references.clip, pictures), facts, strict=True):
            distances = [self.references.clip_distances(embedding, style, fact.colour) for style in STYLES]
            right.append(np.min(distances, axis=0).argmin() == fact.concept)
        return float(np.mean(right))

    def _draw(self, facts: Sequence[Facts]) -> np.ndarray:
        prompts = [self.known.caption(*fact, "en") for fact in facts]
        return to_array(draw_many(self.pipeline, prompts, 0, _DRAWING_STEPS, _GUIDANCE))


class _StyleProbe:
    """Tells by tiny-CLIP's embedding in which of the three artists' styles a picture is drawn, as in the chapter."""

    def __init__(self, studio: _Studio) -> None:
        self.clip = studio.references.clip
        self.classifier = LogisticRegression(max_iter=1000)
        fitted = tuple(name for name in studio.base_concepts if name not in studio.test_concepts)
        self.classifier.fit(*self._embedded(studio.emoji.only(fitted)))
        self.accuracy = float(self.classifier.score(*self._embedded(studio.emoji.only(studio.test_concepts))))

    def share(self, pictures: np.ndarray, style: str) -> float:
        return float((self.classifier.predict(embed_pictures(self.clip, pictures).numpy()) == style).mean())

    def _embedded(self, emoji: EmojiSet) -> tuple[np.ndarray, list[str]]:
        facts = emoji.facts(STYLES, lambda name: held_out_colours(name)[:1])
        return embed_pictures(self.clip, emoji.pictures(facts)).numpy(), [fact.style for fact in facts]


def _rows(file: Path) -> list[dict[str, Any]]:
    return read_log(file) if file.exists() else []


def _append(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    make_folder(file.parent)
    with file.open("a", encoding="utf-8", newline="\n") as opened:
        opened.write("".join(json.dumps(row) + "\n" for row in rows))
    print(*rows, sep="\n", flush=True)


def _add_strip(strip: Image.Image) -> None:
    above = [Image.open(STYLE_PICTURES).convert("RGB")] if STYLE_PICTURES.exists() and _rows(STYLE_FILE) else []
    together = np.concatenate([np.asarray(each) for each in (*above, strip)])
    with replacing(STYLE_PICTURES) as unfinished:
        Image.fromarray(together).save(unfinished, format="WEBP", lossless=True)
