"""A panel over the stored rank sweep: what a rank costs, and what it brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipywidgets import HTML, Image, SelectionSlider, VBox

from aigc_helpers.figures import as_png, new_figure


@dataclass(frozen=True)
class RankSummary:
    """The runs of one rank, over all seeds: accuracy from worst to best, and what the adapter weighs."""

    rank: int
    accuracies: tuple[float, ...]
    trainable_parameters: int
    adapter_bytes: int

    @property
    def mean_accuracy(self) -> float:
        """The mean over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)


def rank_summaries(rows: Sequence[Mapping[str, Any]]) -> list[RankSummary]:
    """Gather a sweep's rows by rank, smallest first.

    Args:
        rows: with ``rank``, ``accuracy`` (0 to 1), ``trainable_parameters`` and ``adapter_bytes``, such as those of
            ``data/results/film_rank_sweep.jsonl``.

    Example:
        >>> sizes = {"trainable_parameters": 73728, "adapter_bytes": 300000}
        >>> rows = [{"rank": 8, "accuracy": accuracy, **sizes} for accuracy in (0.75, 0.25)]
        >>> rank_summaries(rows)[0].accuracies, rank_summaries(rows)[0].mean_accuracy
        ((0.25, 0.75), 0.5)
    """
    summaries = []
    for rank in sorted({row["rank"] for row in rows}):
        chosen = [row for row in rows if row["rank"] == rank]
        accuracies = tuple(sorted(row["accuracy"] for row in chosen))
        summaries.append(RankSummary(rank, accuracies, chosen[0]["trainable_parameters"], chosen[0]["adapter_bytes"]))
    return summaries


def draw_ranks(summaries: Sequence[RankSummary], chosen: int | None = None) -> bytes:
    """Draw accuracy over rank, every seed a dot, the chosen rank ringed; returns a PNG.

    Example:
        >>> from aigc_helpers.panels import rank_summaries
        >>> rows = [{"rank": 8, "accuracy": 0.75, "trainable_parameters": 73728, "adapter_bytes": 300000}]
        >>> draw_ranks(rank_summaries(rows), chosen=8)[:4]
        b'\\x89PNG'
    """
    figure, (axes,) = new_figure()
    for position, summary in enumerate(summaries):
        axes.plot([position] * len(summary.accuracies), summary.accuracies, "o", color="#56B4E9")
        if summary.rank == chosen:
            axes.plot(position, summary.mean_accuracy, "o", markersize=22, markerfacecolor="none", color="#D55E00")
    axes.plot([summary.mean_accuracy for summary in summaries], color="#0072B2", marker="D", label="mean of the seeds")
    axes.set_xticks(range(len(summaries)), [str(summary.rank) for summary in summaries])
    axes.set_xlabel("rank r")
    axes.set_ylabel("test accuracy")
    axes.legend(frameon=False)
    return as_png(figure)


class RankPanel(VBox):
    """A slider over the ranks; the picture and a sentence follow."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show the panel for the rows of a sweep."""
        self.summaries = {summary.rank: summary for summary in rank_summaries(rows)}
        ranks = list(self.summaries)
        self.rank = SelectionSlider(options=ranks, value=ranks[0], description="rank / 秩 r", continuous_update=False)
        self.picture, self.sentence = Image(format="png"), HTML()
        self.rank.observe(lambda change: self._show(change["new"]), names="value")
        self._show(ranks[0])
        super().__init__([self.rank, self.picture, self.sentence])

    def _show(self, rank: int) -> None:
        summary = self.summaries[rank]
        self.picture.value = draw_ranks(list(self.summaries.values()), rank)
        self.sentence.value = (
            f"r = {rank}: {summary.trainable_parameters:,} trainable parameters / 可训练参数, "
            f"file / 文件 {summary.adapter_bytes / 1000:,.0f} kB, accuracy / 准确率 {summary.mean_accuracy:.3f} "
            f"({summary.accuracies[0]:.3f}–{summary.accuracies[-1]:.3f})"
        )
