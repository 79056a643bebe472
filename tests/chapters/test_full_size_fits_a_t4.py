"""On the full profile every chapter stays under 14 of a T4's 15 GB, and its header says how much it takes.

The T4 is the GPU that Colab gives away. A chapter that runs out of memory there ends in its third cell for most of the
book's readers, and the machine that wrote it never sees it.
"""

from __future__ import annotations

import json

import pytest
from full_profile_lane import FETCHED

from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import REPOSITORY
from aigc_helpers.publishing.full_profile import ESTIMATES, fill_full_profile, gigabytes
from aigc_helpers.publishing.source import MarkdownPair, find_chapter, read_chapter

T4 = 14  # of 15 GB: the allocator's gaps need some, too.
# It fetches a configuration, no model.
NEEDS_NO_MODEL = {"02"}
CHAPTERS = sorted(set(FETCHED) - NEEDS_NO_MODEL)


@pytest.mark.parametrize("number", CHAPTERS)
def test_the_estimate_stays_under_a_t4s_memory(number: str):
    assert 0.5 < gigabytes(number) < T4


@pytest.mark.parametrize("number", CHAPTERS)
def test_the_header_says_how_much(number: str):
    header = next(cell for cell in read_chapter(find_chapter(number)).cells if isinstance(cell, MarkdownPair))
    for language, text in header.texts.items():
        assert "{{full_memory}}" in text
        assert f" {gigabytes(number):g} GB" in fill_full_profile(text, number, language)


@pytest.mark.slow
def test_the_stored_estimates_are_those_of_the_code():
    from aigc_helpers.pretrain.experiments.full_profile_memory import estimates

    stored = json.loads((REPOSITORY / ESTIMATES).read_text(encoding="utf-8"))
    for number, (what, memory) in estimates().items():
        assert stored[number]["step"] == what
        # Versions of the libraries differ by a buffer here and there.
        assert memory.total == pytest.approx(stored[number]["total"], rel=0.1), "run: aigc pretrain full-profile-memory"


def test_a_chapter_without_an_estimate_is_named():
    with pytest.raises(ReaderError, match="no estimate for chapter 99: .*aigc pretrain full-profile-memory"):
        gigabytes("99")
