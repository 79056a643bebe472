"""Builds ``data/emoji``: the concepts that three emoji sets share, drawn at 64 × 64, with English and Chinese names."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import replacing
from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.datasets.packages import DEFAULT_FOLDER, fetch_npm_package, read_files

logger = logging.getLogger(__name__)

# Style: npm package, version, sha256 of its archive.
PACKAGES = {
    "noto": (
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    "fluent": (
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "twemoji": (
        "@iconify-json/twemoji",
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
}
SIZE = 64
# Share of a picture's side left free on each side. The other two sets have such a margin in their drawings; without it,
# 172 square twemoji would hide the background that their captions name.
MARGINS = {"noto": 0.0, "fluent": 0.0, "twemoji": 0.05}
# Flags are not drawn alike, and people come in thousands of variants of skin and hair.
EXCLUDED_GROUPS = ("People & Body", "Flags")

# Where the package emoji names another thing than the picture shows.
_CHINESE_CORRECTIONS = {
    "llama": "羊驼",  # 美洲鸵 is a bird, the rhea
    "plunger": "马桶搋",  # 活塞 is a piston
    "safety-vest": "安全背心",  # 救生衣 is a life jacket
    "sauropod": "蜥脚龙",  # 蜥蜴类 are lizards
}


@dataclass(frozen=True)
class EmojiReport:
    """What ``build_emoji`` wrote and what it left out.

    Attributes:
        concepts: how many concepts, each drawn once per style.
        left_out: the concepts that could not be drawn or lack a name, with the reason.
    """

    concepts: int
    left_out: dict[str, str]

    def __str__(self) -> str:
        """Say how many concepts were drawn."""
        return f"{self.concepts:,} concepts"


@dataclass(frozen=True)
class _IconSet:
    icons: dict[str, dict]
    default_size: tuple[float, float]
    groups: dict[str, str]
    code_points: dict[str, str]


def build_emoji(target: Path = DATA / "emoji", packages: Path = DEFAULT_FOLDER) -> EmojiReport:
    """Write ``emoji.parquet`` into ``target``, one row per concept and style; the same bytes every time.

    Raises:
        ReaderError: a source package cannot be fetched or has changed, or a tool for building is not installed.
    """
    import pyarrow as pa
    from pyarrow import parquet

    names = _names()
    sets = {style: _icon_set(fetch_npm_package(*package, packages)) for style, package in PACKAGES.items()}
    rows: list[dict[str, str | bytes]] = []
    left_out: dict[str, str] = {}
    concepts = shared_concepts([icon_set.groups for icon_set in sets.values()])
    for concept in concepts:
        english, chinese = names.get(_plain(sets["noto"].code_points.get(concept, "")), ("", ""))
        if not english or not chinese:
            left_out[concept] = "the package emoji has no name for it"
            continue
        tried = {style: _draw(icon_set, concept, MARGINS[style]) for style, icon_set in sets.items()}
        drawings = {style: png for style, png in tried.items() if png is not None}
        faulty = [style for style in tried if style not in drawings]
        if faulty:
            left_out[concept] = f"cannot be drawn in {', '.join(faulty)}"
            continue
        for style, png in drawings.items():
            rows.append(
                {
                    "name": concept,
                    "group": sets["noto"].groups[concept],
                    "style": style,
                    "english": english,
                    "chinese": _CHINESE_CORRECTIONS.get(concept, chinese),
                    "png": png,
                }
            )
    logger.info("emoji: %d concepts left out", len(left_out))
    for concept, reason in left_out.items():
        logger.warning("emoji: %s left out: %s", concept, reason)
    with replacing(target / "emoji.parquet") as temporary:
        parquet.write_table(pa.Table.from_pylist(rows), temporary, compression="zstd", write_statistics=False)
    written = len(rows) // len(sets)
    logger.info("emoji.parquet: %d concepts in %d styles", written, len(sets))
    return EmojiReport(concepts=written, left_out=left_out)


def shared_concepts(groups: list[dict[str, str]]) -> list[str]:
    """Return, sorted, the names that every set has outside the excluded groups; ``groups`` maps name to group."""
    kept = [{name for name, group in names.items() if group not in EXCLUDED_GROUPS} for names in groups]
    return sorted(set.intersection(*kept))


def _icon_set(archive: Path) -> _IconSet:
    files = {Path(name).name: json.loads(content) for name, content in read_files(archive, r"package/\w+\.json")}
    icons = files["icons.json"]
    return _IconSet(
        icons=icons["icons"],
        default_size=(icons["width"], icons["height"]),
        groups={
            name: group
            for group, names in files["metadata.json"]["categories"].items()
            for name in names
            if name in icons["icons"]
        },
        # Several sequences may lead to one icon (with and without the variation selector); any of them will do.
        code_points={
            name: "".join(chr(int(point, 16)) for point in points.split("-"))
            for points, name in files["chars.json"].items()
        },
    )


def _names() -> dict[str, tuple[str, str]]:
    """Map each emoji, less its variation selector, to its English and Chinese name."""
    try:
        import emoji
        import resvg_py  # noqa: F401  (asked for here so that nothing is fetched before it is known to be there)
    except ModuleNotFoundError as error:
        raise ReaderError(
            f"{error.name} is not installed, and building the emoji needs it. Run: "
            "pip install emoji==2.16.0 resvg-py==0.5.0"
        ) from error
    emoji.config.load_language("zh")
    return {
        _plain(character): (_readable(entry.get("en", "")), _readable(entry.get("zh", "")))
        for character, entry in emoji.EMOJI_DATA.items()
    }


def _plain(character: str) -> str:
    return character.replace("\ufe0f", "")


def _readable(name: str) -> str:
    """Turn ``":man’s_shoe:"`` into ``"man's shoe"``."""
    return name.strip(":").replace("_", " ").replace("’", "'")


def _draw(icon_set: _IconSet, concept: str, margin: float) -> bytes | None:
    """Render an icon as PNG, or return None where it cannot be."""
    import resvg_py

    icon = icon_set.icons[concept]
    width, height = icon.get("width", icon_set.default_size[0]), icon.get("height", icon_set.default_size[1])
    scale = 1 / (1 - 2 * margin)
    left, top = icon.get("left", 0) - width * scale * margin, icon.get("top", 0) - height * scale * margin
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="{left:g} {top:g} {width * scale:g} {height * scale:g}">'
        f"{icon['body']}</svg>"
    )
    try:
        # The machine's fonts stay out, so that every machine draws the same.
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))
    except ValueError:
        return None
    return _smallest(png)


def _smallest(png: bytes) -> bytes:
    """Encode the same pixels again: with a palette where 256 colours are enough, which loses nothing."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    encoded = io.BytesIO()
    colours = picture.getcolors(256)
    if colours is None:
        picture.save(encoded, "PNG", optimize=True)
    else:
        # Transparent colours first: the file then lists the opacity of those alone. In RGBA each colour is a tuple.
        palette = sorted(
            (colour for _, colour in colours if isinstance(colour, tuple)), key=lambda colour: (colour[3], colour)
        )
        place = {colour: index for index, colour in enumerate(palette)}
        pixels = picture.tobytes()
        indices = bytes(place[tuple(pixels[start : start + 4])] for start in range(0, len(pixels), 4))
        indexed = Image.frombytes("P", picture.size, indices)
        indexed.putpalette([value for colour in palette for value in colour[:3]])
        indexed.save(encoded, "PNG", optimize=True, transparency=bytes(colour[3] for colour in palette))
    return min(encoded.getvalue(), png, key=len)
