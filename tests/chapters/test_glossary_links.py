"""Links to the glossary and the references lead to an entry; else a reader who asks "what is that?" lands nowhere.

A wrong anchor raises no error anywhere: the page opens at its top, and the reader has to search.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from aigc_helpers.paths import CHAPTERS
from aigc_helpers.publishing.source import LANGUAGES, Chapter, MarkdownPair, chapter_paths, read_chapter

PAGES = ("GLOSSARY.md", "REFERENCES.md")
FOLDER_TO_PAGES = {"en": "", "zh": "../"}  # As seen from the built notebook: chapters/ and chapters/zh/.
LEAST_TERMS = 3
# Written before there was a glossary, and 00, which sends readers on. This list is to shrink.
WITHOUT_TERMS = {"00", "05", "06", "09"}

_ANCHOR = re.compile(r'<a id="([^"]*)"></a>')
_LINK = re.compile(r"\]\(([^)\s]*?)(GLOSSARY\.md|REFERENCES\.md)(?:#([^)\s]*))?\)")

SOURCES = [read_chapter(path) for path in chapter_paths()]


def anchors(page: str) -> list[str]:
    return _ANCHOR.findall((CHAPTERS / page).read_text(encoding="utf-8"))


def links(chapter: Chapter, language: str) -> list[tuple[str, str, str]]:
    """Return every link of one language as folder, page and anchor."""
    texts = [cell.texts[language] for cell in chapter.cells if isinstance(cell, MarkdownPair)]
    return [match for text in texts for match in _LINK.findall(text)]


each_chapter = pytest.mark.parametrize("chapter", SOURCES, ids=lambda chapter: chapter.name)
each_language = pytest.mark.parametrize("language", LANGUAGES)


@pytest.mark.parametrize("page", PAGES)
def test_no_anchor_stands_twice_and_each_is_a_lower_case_slug(page: str):
    found = Counter(anchors(page))
    assert found
    assert not [anchor for anchor, times in found.items() if times > 1]
    assert not [anchor for anchor in found if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", anchor)]


@pytest.mark.parametrize("page", PAGES)
def test_every_entry_is_said_in_both_languages(page: str):
    text = (CHAPTERS / page).read_text(encoding="utf-8")
    for entry in _ANCHOR.split(text)[2::2]:  # What follows each anchor, up to the next.
        head, english, chinese = (part.strip() for part in entry.strip().split("\n\n")[:3])
        assert head.startswith("**"), entry
        assert not re.search("[\u4e00-\u9fff]{4}", english), entry  # A Chinese word in brackets may stand there.
        assert re.search("[\u4e00-\u9fff]", chinese), entry


@each_language
@each_chapter
def test_every_link_leads_to_an_entry(chapter: Chapter, language: str):
    for folder, page, anchor in links(chapter, language):
        where = f"{chapter.name}, {language}: ({folder}{page}#{anchor})"
        assert folder == FOLDER_TO_PAGES[language], where
        assert anchor in anchors(page), where


@each_language
@each_chapter
def test_a_chapter_links_its_terms(chapter: Chapter, language: str):
    terms = {anchor for _, page, anchor in links(chapter, language) if page == "GLOSSARY.md"}
    if chapter.number in WITHOUT_TERMS:
        pytest.skip("written before there was a glossary")
    assert len(terms) >= LEAST_TERMS, f"{chapter.name}, {language}: links {len(terms)} terms"


@each_chapter
def test_both_languages_link_the_same_entries(chapter: Chapter):
    english, chinese = ({(page, anchor) for _, page, anchor in links(chapter, one)} for one in LANGUAGES)
    assert english == chinese
