"""Two panels for chapter 02: what an uploaded weight file is, and how large a model is and what fits a card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ipywidgets import HTML, Dropdown, FileUpload, FloatSlider, VBox

from aigc_helpers.errors import ReaderError
from aigc_helpers.inspection import Inspection
from aigc_helpers.store import inspect
from aigc_helpers.terminal import in_html

BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8, "int4": 4}
CARD = 15e9  # Bytes: what a T4, the card that Colab lends, has about.
# Per parameter in float32: weight and gradient, and the two moving averages of Adam.
_TRAINED = 4 + 4 + 8

_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".h5")


@dataclass(frozen=True)
class Size:
    """How much memory a model takes, in bytes; activations come on top.

    Attributes:
        weights: in the dtype chosen.
        training: weights, gradients and Adam's two moving averages, all in float32.
        most_parameters: of a model whose weights alone fill the card in that dtype.
    """

    weights: float
    training: float
    most_parameters: float


def run_size(parameters: float, dtype: str, card: float = CARD) -> Size:
    """Return how much memory ``parameters`` take.

    Args:
        parameters: how many numbers the model has.
        dtype: a key of ``BITS``.
        card: memory of the card in bytes.
    """
    return Size(parameters * BITS[dtype] / 8, parameters * _TRAINED, card * 8 / BITS[dtype])


def run_inspection(name: str, content: bytes) -> Inspection | str:
    """Return what an uploaded file is, or the sentence that says why it is refused; nothing in it is run.

    Args:
        name: the file's name as the browser tells it; only its last part counts.
        content: its bytes.
    """
    own_name = name.replace("\\", "/").rpartition("/")[2].strip(". ") or "upload"
    with TemporaryDirectory() as folder:
        path = Path(folder) / own_name
        path.write_bytes(content)
        try:
            return inspect(path)
        except ReaderError as error:
            return str(error).replace(str(path), own_name)


def inspection_rows(inspection: Inspection) -> dict[str, str]:
    """Return the report in both languages: what is told, and the text."""
    dtypes = ", ".join(f"{count} × {dtype}" for dtype, count in inspection.dtypes.items())
    rows = {
        "container / 容器格式": f"{inspection.container}, {inspection.size:,} bytes",
        "kind / 种类": inspection.kind or "?",
        "family / 模型家族": inspection.family or "?",
        "tensors / 张量": f"{inspection.tensors:,}: {dtypes}",
        "parameters / 参数": f"{inspection.parameters:,}",
    }
    if inspection.adapter:
        rows["ranks / 秩"] = ", ".join(f"{rank:g}" for rank in inspection.adapter.ranks)
        models = [each.model for each in inspection.compatibility if each.compatible]
        rows["compatible with / 适用于"] = ", ".join(models) or "–"
    if inspection.remarks:
        rows["remarks / 备注"] = " ".join(inspection.remarks)
    return rows


class InspectorPanel(VBox):
    """A button that takes a file, and what ``inspect`` says about it."""

    def __init__(self, path: Path) -> None:
        """Show the panel, with the report on the file ``path`` to begin with."""
        self.upload = FileUpload(
            description="weight file / 权重文件", multiple=False, accept=",".join(_SUFFIXES), layout={"width": "240px"}
        )
        self.report = HTML(_as_html(path.name, inspect(path)))
        self.upload.observe(self._show, names="value")
        super().__init__([self.upload, self.report])

    def _show(self, change: Mapping[str, Any]) -> None:
        for name, content in _uploaded(change["new"]):
            self.report.value = _as_html(name, run_inspection(name, content))


class SizePanel(VBox):
    """A slider for the parameters, a choice of dtype, and a sentence about memory."""

    def __init__(self, parameters: float = 7e9, dtype: str = "float16") -> None:
        """Show the panel; both settings are those to begin with."""
        wide = {"style": {"description_width": "180px"}, "layout": {"width": "480px"}}
        self.millions = FloatSlider(
            parameters / 1e6,
            min=0.0,
            max=20_000.0,
            step=100.0,
            readout_format=",.0f",
            description="parameters / 参数 (M, 百万)",
            continuous_update=False,
            **wide,
        )
        self.dtype = Dropdown(options=list(BITS), value=dtype, description="dtype", **wide)
        self.report = HTML()
        for control in (self.millions, self.dtype):
            control.observe(lambda _: self._show(), names="value")
        self._show()
        super().__init__([self.millions, self.dtype, self.report])

    def _show(self) -> None:
        size = run_size(self.millions.value * 1e6, self.dtype.value)
        self.report.value = _table(
            {
                "weights / 权重": _on_card(size.weights),
                "training with Adam, float32 / 用 Adam 全量训练": _on_card(size.training),
                "largest model on the card / 显卡放得下的最大模型": (
                    f"{size.most_parameters / 1e9:.2f} × 10⁹ parameters / 参数"
                ),
            }
        )


def _on_card(needed: float) -> str:
    verdict = "✓ fits / 放得下" if needed <= CARD else "✗ does not fit / 放不下"
    return f"{needed / 1e6:,.0f} MB: {verdict} ({CARD / 1e6:,.0f} MB)"


def _uploaded(value: Any) -> Iterable[tuple[str, bytes]]:  # noqa: ANN401 - its type is that of the ipywidgets at hand.
    # ipywidgets 8: a tuple of files. ipywidgets 7, which Colab has: a dictionary by name.
    if isinstance(value, Mapping):
        return [(name, bytes(file["content"])) for name, file in value.items()]
    return [(file["name"], bytes(file["content"])) for file in value]


def _as_html(name: str, found: Inspection | str) -> str:
    if isinstance(found, str):
        return f"<p><b>✗ refused / 拒绝</b>: {in_html(found)}</p>"
    return f"<p><b>✓ {in_html(name)}</b></p>{_table(inspection_rows(found))}"


def _table(rows: Mapping[str, str]) -> str:
    cells = "".join(
        f'<tr><th style="text-align:left;padding-right:1em">{in_html(name)}</th><td>{in_html(text)}</td></tr>'
        for name, text in rows.items()
    )
    return f"<table>{cells}</table>"
