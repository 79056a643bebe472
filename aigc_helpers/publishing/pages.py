"""An executed notebook as one readable HTML file: no scripts, nothing fetched from anywhere, alt text on every picture.

nbconvert's own pages load MathJax, RequireJS and jQuery from the web. Here formulas become pictures drawn by
matplotlib, and the rest of the page needs no script.
"""

from __future__ import annotations

import base64
import html
import io
import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from nbformat import NotebookNode

TEXTS = ("GLOSSARY", "REFERENCES")  # They lie beside the chapters, whose links lead to them.
_PAGE = re.compile(rf"^((?:\.\./|zh/|\./)*(?:\d\d_\w+(?=\.ipynb)|(?:{'|'.join(TEXTS)})(?=\.md)))\.(?:ipynb|md)(#.*)?$")
HTML_LANGUAGE = {"en": "en", "zh": "zh-Hans"}
_STOPPED = {"en": "This chapter stopped before its end:", "zh": "本章没有运行完："}

# nbconvert's basic template, with the alt text that it leaves out on SVG.
_TEMPLATE = """\
{%- extends 'basic/index.html.j2' -%}
{% block in_prompt %}{% endblock in_prompt %}
{% block output_area_prompt %}{% endblock output_area_prompt %}
{% block empty_in_prompt %}{% endblock empty_in_prompt %}
{% block data_svg scoped -%}
<div class="output_svg output_subarea"><img
  src="data:image/svg+xml;base64,{{ output.data['image/svg+xml'] | text_base64 }}"
  alt="{{ (output | get_metadata('alt', 'image/svg+xml') or '') | escape_html }}"></div>
{%- endblock data_svg %}
"""

_STYLE = """\
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { max-width: 58rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.6;
  font-family: system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
pre, code { font-family: ui-monospace, "Cascadia Code", Menlo, Consolas, monospace; font-size: .9em; }
pre { overflow-x: auto; margin: 0; padding: .6rem .8rem; line-height: 1.45; }
.input_area, div.highlight, .text_cell_render > pre { background: var(--soft); border: 1px solid var(--line);
  border-radius: 4px; margin: .8rem 0 0; }
.input_area div.highlight { border: 0; margin: 0; background: none; }
.output_area { border-left: 3px solid var(--line); margin: .3rem 0; padding-left: .3rem; overflow-x: auto; }
.output_stream pre, .output_error pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.output_error { border-left: 3px solid #c33; }
.stopped { border: 1px solid #c33; padding: .5rem .8rem; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: right; }
.text_cell_render th, .text_cell_render td { text-align: left; }
img { max-width: 100%; height: auto; }
.output_png img, .output_jpeg img, .output_svg img { background: #fff; }
img.formula { background: none; }
@media (prefers-color-scheme: dark) { img.formula { filter: invert(1); } }
.formula-block { text-align: center; margin: .8rem 0; overflow-x: auto; }
a.anchor-link { text-decoration: none; margin-left: .3rem; opacity: .3; }
"""


def notebook_page(notebook: NotebookNode, title: str, language: str, folder: Path, error: str | None = None) -> str:
    """Return the page of one executed notebook.

    Args:
        notebook: cells with outputs.
        title: the page's title, as plain text.
        language: ``"en"`` or ``"zh"``; becomes the page's ``lang`` attribute.
        folder: the folder that relative links in the Markdown start from; pictures found there are embedded.
        error: what stopped the chapter, in one line; the page begins with it.
    """
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return formula(body)

        def block_math(self, body: str) -> str:
            return f'<div class="formula-block">{formula(body)}</div>'

        def block_mermaidjs(self, code: str) -> str:
            return f"<pre>{html.escape(code)}</pre>"

    class Exporter(HTMLExporter):
        def default_filters(self):  # noqa: ANN202 (nbconvert's own)
            yield from super().default_filters()
            yield "markdown2html", lambda text: MarkdownWithMath(renderer=Renderer(escape=False)).render(text)

    exporter = Exporter(raw_template=_TEMPLATE)
    # A widget's view needs its live kernel; without it, the picture or the text beside it is shown.
    body, _ = exporter.from_notebook_node(notebook)
    soup = BeautifulSoup(body, "html.parser")
    _make_self_contained(soup, folder)
    stopped = f'<p class="stopped"><strong>{_STOPPED[language]}</strong> {html.escape(error)}</p>\n' if error else ""
    return page(title, HTML_LANGUAGE[language], stopped + str(soup), _colours_of_code())


def text_page(file: Path) -> str:
    """Return the page of a Markdown file."""
    from nbformat import v4

    text = v4.new_notebook(cells=[v4.new_markdown_cell(file.read_text(encoding="utf-8"))])
    return notebook_page(text, file.stem.capitalize(), "en", file.parent)


def page(title: str, language: str, body: str, style: str = "") -> str:
    """Return a whole HTML document around ``body``, with the book's style."""
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def formula(latex: str) -> str:
    """Return a picture of a formula as an ``<img>`` whose alt text is the LaTeX, or the LaTeX if it is beyond us.

    matplotlib draws what people write in prose (fractions, Greek letters, sub- and superscripts), not environments.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    text = " ".join(latex.split())
    drawing = io.BytesIO()
    try:
        # A fixed salt keeps the picture's bytes the same on every run.
        with matplotlib.rc_context({"svg.hashsalt": "formula", "mathtext.fontset": "cm"}):
            depth = math_to_image(f"${text}$", drawing, prop=FontProperties(size=12), dpi=72, format="svg")
    except (ValueError, RuntimeError):
        return f"<code>{html.escape(text)}</code>"
    # The metadata holds the time of drawing.
    svg = re.sub(rb"<metadata>.*?</metadata>\s*", b"", drawing.getvalue(), flags=re.DOTALL)
    encoded = base64.b64encode(svg).decode()
    return (
        f'<img class="formula" src="data:image/svg+xml;base64,{encoded}" alt="{html.escape(text)}" '
        f'style="vertical-align: {-float(depth):.1f}pt">'
    )


def _colours_of_code() -> str:
    from pygments.formatters import HtmlFormatter

    dark = HtmlFormatter(style="github-dark", nobackground=True).get_style_defs(".highlight")
    light = HtmlFormatter(style="default", nobackground=True).get_style_defs(".highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _make_self_contained(soup: BeautifulSoup, folder: Path) -> None:
    """Take out, in place, whatever a browser would fetch, and let links within the book lead to its pages."""
    for element in soup.select("script, link, iframe[src^=http], object, embed"):
        element.decompose()
    for image in soup.select("img"):
        source = str(image.get("src", ""))
        if source.startswith("data:"):
            continue
        file = folder / unquote(source)
        kind = mimetypes.guess_type(file.name)[0]
        if not re.match(r"\w+:|//", source) and file.is_file() and kind:
            image["src"] = f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
        else:
            image.replace_with(str(image.get("alt") or source))
    for link in soup.select("a[href]"):
        link["href"] = _PAGE.sub(r"\1.html\2", str(link["href"]))
