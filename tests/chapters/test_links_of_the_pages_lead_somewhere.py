"""Every link within the pages that ``run`` writes leads to a page that it writes, and to a place on it."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath

from bs4 import BeautifulSoup
from nbformat import v4

from aigc_helpers.paths import REPOSITORY
from aigc_helpers.publishing.builder import assemble, notebook_file
from aigc_helpers.publishing.pages import TEXTS, notebook_page, text_page
from aigc_helpers.publishing.source import LANGUAGES, chapter_paths, read_chapter

CHAPTERS = REPOSITORY / "chapters"


def prose(notebook):
    """The links stand in the prose; without the code a page is made in no time, and without formulas as well."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return v4.new_notebook(cells=[v4.new_markdown_cell(re.sub(r"\$[^$]*\$", "", cell)) for cell in cells])


def test_links_of_the_pages_lead_somewhere() -> None:
    pages = {f"{name}.html": BeautifulSoup(text_page(CHAPTERS / f"{name}.md"), "html.parser") for name in TEXTS}
    for chapter in map(read_chapter, chapter_paths()):
        for language in LANGUAGES:
            file = notebook_file(CHAPTERS, chapter.name, language)
            text = notebook_page(prose(assemble(chapter, language)), "", language, file.parent)
            name = file.relative_to(CHAPTERS).with_suffix(".html").as_posix()
            pages[name] = BeautifulSoup(text, "html.parser")
    places = {name: {element["id"] for element in soup.select("[id]")} for name, soup in pages.items()}
    lost = []
    for name, soup in pages.items():
        for link in (str(element["href"]) for element in soup.select("a[href]")):
            target, _, place = link.partition("#")
            if re.match(r"\w+:", link):
                continue
            page = posixpath.normpath((PurePosixPath(name).parent / target).as_posix()) if target else name
            if page not in pages or (place and place not in places[page]):
                lost.append(f"{name}: {link}")
    assert not lost
