"""The emoji that ship: every concept in every style, drawn, with names and captions in two languages."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.files import sha256_of
from aigc_helpers.images import BACKGROUNDS, background, caption
from aigc_helpers.images.backgrounds import chinese_caption, compose
from aigc_helpers.pretrain.datasets.emoji import EXCLUDED_GROUPS, PACKAGES, shared_concepts

FILE = Path(__file__).resolve().parents[1] / "data" / "emoji" / "emoji.parquet"
CONCEPTS = 1234


@pytest.fixture(scope="module")
def rows():
    return parquet.read_table(FILE).to_pylist()


@pytest.fixture(scope="module")
def pictures(rows):
    opened = [Image.open(io.BytesIO(row["png"])) for row in rows]
    assert {picture.format for picture in opened} == {"PNG"}
    return np.stack([np.asarray(picture.convert("RGBA")) for picture in opened])


def test_every_concept_in_every_style(rows):
    assert list(rows[0]) == ["name", "group", "style", "english", "chinese", "png"]
    seen = Counter((row["name"], row["style"]) for row in rows)
    names = {row["name"] for row in rows}
    assert len(names) == CONCEPTS
    assert seen == Counter((name, style) for name in names for style in ("noto", "fluent", "twemoji"))
    assert not {row["group"] for row in rows} & set(EXCLUDED_GROUPS)
    assert set(PACKAGES) == {row["style"] for row in rows}


def test_names_belong_to_the_concept(rows):
    facts = {(row["name"], row["group"], row["english"], row["chinese"]) for row in rows}
    assert len(facts) == CONCEPTS
    assert ("tiger", "Animals & Nature", "tiger", "老虎") in facts
    assert ("mans-shoe", "Objects", "man's shoe", "男鞋") in facts
    assert ("llama", "Animals & Nature", "llama", "羊驼") in facts


def test_size_stays_within_its_share_of_data():
    assert FILE.stat().st_size <= 12 * 2**20


def test_card_names_hashes_and_licences():
    card = (FILE.parent / "README.md").read_text(encoding="utf-8")
    assert sha256_of(FILE) in card
    for style, (package, version, sha256) in PACKAGES.items():
        assert f"| `{style}` | `{package}` {version} |" in card and sha256 in card
    assert all(licence in card for licence in ("Apache-2.0", "MIT", "CC BY 4.0"))


def test_pictures_are_drawn(rows, pictures):
    assert pictures.shape == (3 * CONCEPTS, 64, 64, 4)
    opacity = pictures[..., 3].mean(axis=(1, 2)) / 255
    assert opacity.min() > 0.05
    hidden = [(row["name"], row["style"]) for row, share in zip(rows, opacity, strict=True) if share > 0.9]
    # Fluent fills the whole square with this one's clouds; everywhere else a background shows.
    assert hidden == [("face-in-clouds", "fluent")]
    # Edges are smooth, which takes opacities between the extremes.
    assert ((pictures[..., 3] > 0) & (pictures[..., 3] < 255)).any(axis=(1, 2)).mean() > 0.99


def test_styles_and_concepts_look_different(rows, pictures):
    by_look = {}
    for row, picture in zip(rows, pictures, strict=True):
        by_look.setdefault(picture.tobytes(), []).append((row["name"], row["style"]))
    assert [alike for alike in by_look.values() if len(alike) > 1] == [
        [("cat-face", "fluent"), ("grinning-cat", "fluent")]  # one drawing in the source
    ]


def test_known_pictures_have_their_colours(rows, pictures):
    place = {(row["name"], row["style"]): index for index, row in enumerate(rows)}
    for style in PACKAGES:
        for name, strongest in (("red-heart", 0), ("green-circle", 1), ("blue-square", 2)):
            picture = pictures[place[name, style]].astype(float)
            mean = (picture[..., :3] * picture[..., 3:]).sum(axis=(0, 1))
            assert mean.argmax() == strongest, (name, style)


def test_captions_are_unique_in_both_languages(rows):
    english = [caption(row["english"], row["style"], colour.name) for row in rows for colour in BACKGROUNDS]
    chinese = [chinese_caption(row["chinese"], row["style"], colour.name) for row in rows for colour in BACKGROUNDS]
    assert all(row["english"].strip() and row["chinese"].strip() for row in rows)
    # Tokenizers of CLIP fold the case, so names may not differ in that alone.
    assert len({text.lower() for text in english}) == len(english) == 3 * CONCEPTS * 10
    assert len({text.lower() for text in chinese}) == len(chinese)
    # A comma or an underscore in a name would blur the three facts.
    assert not any(mark in row["english"] + row["chinese"] for row in rows for mark in ",，_:")


def test_captions_as_the_issue_spells_them():
    assert caption("tiger", "noto", "blue") == "tiger, noto style, blue background"
    assert chinese_caption("老虎", "noto", "blue") == "老虎，noto 风格，蓝色背景"
    assert chinese_caption("老虎", "noto", "蓝色") == "老虎，noto 风格，蓝色背景"


def test_ten_colours_that_can_be_told_apart():
    assert len(BACKGROUNDS) == len({colour.name for colour in BACKGROUNDS}) == 10
    assert len({colour.chinese for colour in BACKGROUNDS}) == 10
    colours = np.array([colour.rgb for colour in BACKGROUNDS], dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1000 * np.eye(10)
    assert distances.min() > 80


def test_unknown_colour_names_the_nearest():
    with pytest.raises(UnknownNameError, match="'blu'. Valid: blue,"):
        background("blu")


def test_compose_shows_the_background_where_the_picture_is_clear():
    picture = np.zeros((1, 3, 4), dtype=np.uint8)
    picture[0, 1] = (255, 255, 255, 255)
    picture[0, 2] = (255, 255, 255, 128)
    composed = compose(picture, "black")
    assert composed.dtype == np.uint8 and composed.shape == (1, 3, 3)
    assert composed[0].tolist() == [[20] * 3, [255] * 3, [138] * 3]


def test_shared_concepts_leave_out_people_and_flags():
    groups = [
        {"tiger": "Animals & Nature", "cook": "People & Body", "crab": "Animals & Nature"},
        {"tiger": "Animals & Nature", "cook": "Objects", "crab": "Food & Drink", "flag": "Flags"},
    ]
    assert shared_concepts(groups) == ["crab", "tiger"]
