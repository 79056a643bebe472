"""A panel over the stored grid of rank, alpha, learning rate and target modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipywidgets import HTML, Image, SelectionSlider, ToggleButtons, VBox

from aigc_helpers.figures import as_png, new_figure

Rows = Sequence[Mapping[str, Any]]  # Keys as in data/results/lora_sweep.jsonl.
Curves = dict[int, list[tuple[float, float]]]  # From alpha to (learning rate, accuracy), both rising.

SETTINGS = ("targets", "rank", "alpha", "learning_rate")


def sweep_curves(rows: Rows, targets: str, rank: int) -> Curves:
    """Return, for one rank and one choice of targets, the accuracy over the learning rate for each alpha.

    Args:
        rows: of a grid, with the keys of ``data/results/lora_sweep.jsonl``.
        targets: as the rows name them, such as ``"query, value"``.
        rank: one of the rows'.

    Example:
        >>> tried = ((2e-3, 0.80), (5e-4, 0.75))
        >>> setting = {"targets": "query, value", "rank": 8, "alpha": 16}
        >>> rows = [{**setting, "learning_rate": rate, "accuracy": accuracy} for rate, accuracy in tried]
        >>> sweep_curves(rows, "query, value", rank=8)
        {16: [(0.0005, 0.75), (0.002, 0.8)]}
    """
    chosen = [row for row in rows if row["targets"] == targets and row["rank"] == rank]
    return {
        alpha: sorted((row["learning_rate"], row["accuracy"]) for row in chosen if row["alpha"] == alpha)
        for alpha in sorted({row["alpha"] for row in chosen})
    }


def draw_curves(curves: Curves, limits: tuple[float, float], chosen: tuple[float, float] | None = None) -> bytes:
    """Draw a line per alpha, accuracy from ``limits[0]`` to ``limits[1]``, the chosen point ringed; returns a PNG."""
    figure, (axes,) = new_figure()
    for alpha, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=f"α = {alpha}")
    if chosen:
        axes.plot(*chosen, "o", markersize=22, markerfacecolor="none", color="#D55E00")
    rates = sorted({rate for points in curves.values() for rate, _ in points})
    axes.set(xscale="log", ylim=limits, xlabel="learning rate", ylabel="validation accuracy")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return as_png(figure)


class SweepPanel(VBox):
    """A choice of targets, a slider for each other setting; the picture and a sentence follow."""

    def __init__(self, rows: Rows) -> None:
        """Show the panel for the rows of a full grid; each combination occurs once."""
        self.rows = {tuple(row[name] for name in SETTINGS): row for row in rows}
        accuracies = [row["accuracy"] for row in rows]
        self.limits = (min(accuracies) - 0.02, max(accuracies) + 0.02)
        values = {name: sorted({row[name] for row in rows}) for name in SETTINGS}
        wide = {"style": {"description_width": "150px"}, "layout": {"width": "420px"}, "continuous_update": False}
        self.targets = ToggleButtons(options=values["targets"][::-1], description="targets / 目标")
        self.rank = SelectionSlider(options=values["rank"], description="rank / 秩 r", **wide)
        self.alpha = SelectionSlider(options=values["alpha"], description="α", **wide)
        rates = [(f"{rate:g}", rate) for rate in values["learning_rate"]]
        self.learning_rate = SelectionSlider(options=rates, description="learning rate / 学习率", **wide)
        self.picture, self.sentence = Image(format="png"), HTML()
        controls = [self.targets, self.rank, self.alpha, self.learning_rate]
        for control in controls:
            control.observe(lambda _: self._show(), names="value")
        self._show()
        super().__init__([*controls, self.picture, self.sentence])

    def _show(self) -> None:
        targets, rank, alpha, rate = (getattr(self, name).value for name in SETTINGS)
        row = self.rows[targets, rank, alpha, rate]
        curves = sweep_curves(list(self.rows.values()), targets, rank)
        self.picture.value = draw_curves(curves, self.limits, (rate, row["accuracy"]))
        self.sentence.value = (
            f"α / r = {alpha / rank:g}, learning rate / 学习率 {rate:g}: "
            f"accuracy / 准确率 {row['accuracy']:.3f}, "
            f"{row['trainable_parameters']:,} trainable parameters / 可训练参数, "
            f"{row['cpu_seconds']:.0f} CPU s / CPU 秒"
        )
