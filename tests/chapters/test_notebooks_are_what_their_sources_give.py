"""Every stored notebook is byte for byte what its source gives: no edits by hand, no forgotten build."""

from __future__ import annotations

from aigc_helpers.publishing.builder import check


def test_notebooks_are_what_their_sources_give():
    assert check() == []
