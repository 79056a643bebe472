"""Figures in one style: colours that colour-blind readers can tell apart, and alt text on every picture.

Labels are English, because Colab has no Chinese font; the alt text is in both languages.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike
    from PIL.Image import Image

# Okabe & Ito, "Color Universal Design", 2008: told apart with every common kind of colour blindness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")  # Form says the same as colour.
_DOTS_PER_INCH = 100


def new_figure(width: float = 6.4, height: float = 3.4, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``width`` × ``height`` inches in the book's style, and its axes from left to right."""
    # A Figure of its own, and not pyplot's: pyplot keeps figures alive and shows them a second time.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.set_prop_cycle(color=COLOURS, marker=MARKERS)
        one.grid(axis="y", color="0.9")
        one.set_axisbelow(True)
    return figure, axes


def as_png(figure: Figure) -> bytes:
    """Draw ``figure`` and return the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, alt_en: str, alt_zh: str) -> None:
    """Display ``figure`` in the notebook with alt text: what a reader who cannot see it needs to know."""
    from base64 import b64encode

    from IPython.display import display

    alt = f"{alt_en} / {alt_zh}"
    picture = {"image/png": b64encode(as_png(figure)).decode(), "text/plain": alt}
    display(picture, raw=True, metadata={"image/png": {"alt": alt}})


def show_pictures(pictures: Mapping[str, Image | ArrayLike], alt_en: str, alt_zh: str, columns: int = 4) -> None:
    """Display pictures under their titles, row by row, pixels enlarged and not smoothed."""
    from matplotlib.figure import Figure

    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.8 * columns, 2.0 * rows), layout="constrained")
    for place, (title, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    show(figure, alt_en, alt_zh)


def draw_matrix(axes: Axes, values: Sequence[Sequence[float]], number_format: str = ".2f") -> None:
    """Draw a table of numbers from 0 up, darker where larger, with each number written in its field."""
    axes.grid(False)
    axes.imshow(values, cmap="Blues", vmin=0)
    half = max(max(row) for row in values) / 2
    for row, numbers in enumerate(values):
        for column, number in enumerate(numbers):
            colour = "white" if number > half else "black"
            axes.text(column, row, format(number, number_format), ha="center", va="center", color=colour)


def draw_confusion_matrix(axes: Axes, counts: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Draw ``counts`` (rows: the truth, columns: the prediction) with each number written in its field."""
    draw_matrix(axes, counts, number_format="d")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("human rating")


def draw_intervals(axes: Axes, names: Sequence[str], intervals: Sequence[tuple[float, float, float]]) -> None:
    """Draw one horizontal line per (low, mean, high) with a dot at the mean, the first name on top."""
    for position, (low, mean, high) in enumerate(intervals):
        colour = COLOURS[position % len(COLOURS)]
        axes.plot([low, high], [position, position], color=colour, linewidth=3, marker="|", markersize=12)
        axes.plot(mean, position, color=colour, marker=MARKERS[position % len(MARKERS)], markersize=8)
        axes.text(mean, position - 0.18, f"{mean:.3f}", ha="center", va="bottom", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.grid(axis="x", color="0.9")
    axes.grid(axis="y", visible=False)
