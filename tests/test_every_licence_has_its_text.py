"""A card in ``data/`` links each licence that it names to the licence's text in this repository.

MIT and BSD ask that their text and copyright line go with every copy. Whoever copies a folder copies what its card
names; a licence that is a mere word there gets lost on the way.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aigc_helpers.cli import main
from aigc_helpers.paths import DATA, REPOSITORY
from aigc_helpers.store import is_bundled, load_catalog

# What a card may call a licence, and a sentence that only the text of this licence has.
LICENCES = {
    "MIT": "Permission is hereby granted, free of charge, to any person obtaining a copy of this software",
    "BSD-3-Clause": "Redistribution and use in source and binary forms, with or without modification, are permitted",
    "Apache-2.0": "Apache License Version 2.0, January 2004",
    "CC BY 4.0": "Creative Commons Attribution 4.0 International Public License",
    "Unicode-3.0": "UNICODE LICENSE V3",
}
_NAME = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, LICENCES))})(?![\w-])")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_COPYRIGHT = re.compile(r"Copyright \(c\) \d{4} [^),;\n]+")

FOLDERS = sorted(path for path in DATA.iterdir() if path.is_dir())
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def named_licences(folder: Path) -> set[str]:
    return set(_NAME.findall(card(folder)))


def linked_texts(folder: Path) -> list[tuple[str, Path]]:
    """Return each licence that the card links to a file, with the file; it need not exist."""
    return [
        (name, (folder / target).resolve())
        for name, target in _LINK.findall(card(folder))
        if name in LICENCES and not target.startswith("https:")
    ]


def text_of(path: Path) -> str:
    """Return a text with every line break and run of spaces as one space."""
    return " ".join(path.read_text(encoding="utf-8").split())


@each_folder
def test_a_card_names_a_licence_and_links_each_to_a_text(folder: Path) -> None:
    named = named_licences(folder)
    assert named, "the card names no licence"
    assert named == {name for name, _ in linked_texts(folder)}


@each_folder
def test_what_is_linked_is_the_text_of_that_licence(folder: Path) -> None:
    for name, path in linked_texts(folder):
        assert path.is_relative_to(REPOSITORY.resolve()) and path.is_file(), f"{name}: {path} is not there"
        assert LICENCES[name] in text_of(path), f"{path} is not the text of {name}"


@each_folder
def test_a_copyright_line_of_the_card_stands_in_a_linked_text(folder: Path) -> None:
    texts = [text_of(path) for _, path in linked_texts(folder)]
    for line in _COPYRIGHT.findall(card(folder)):
        assert any(line in text for text in texts), f"{line!r} is in none of the linked texts"


@each_folder
def test_the_card_beside_a_text_links_it(folder: Path) -> None:
    assert set(folder.glob("LICENSE*")) <= {path for _, path in linked_texts(folder)}


@each_folder
def test_the_catalog_names_each_licence_whose_text_lies_beside_the_data(folder: Path) -> None:
    assets = [asset for asset in load_catalog() if str(asset.sources[0]) == f"bundled data/{folder.name}"]
    beside = {name.replace("CC BY ", "CC-BY-") for name, path in linked_texts(folder) if path.parent == folder}
    for asset in assets:
        assert beside <= set(re.findall(r"[\w.-]+", asset.licence)), f"the catalog says {asset.licence}"


def test_a_licence_of_what_comes_from_elsewhere_has_its_text_in_the_package() -> None:
    elsewhere = [asset for asset in load_catalog() if not is_bundled(asset)]
    assert elsewhere
    for asset in elsewhere:
        text = REPOSITORY / "aigc_helpers" / "store" / "licences" / f"{asset.licence}.txt"
        assert LICENCES[asset.licence] in text_of(text)


def test_the_card_names_the_licences_of_the_catalog(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "--json"]) == 0
    compared = 0
    for row in json.loads(capsys.readouterr().out):
        kind, _, place = row["sources"][0].partition(" ")
        if kind != "bundled":
            continue
        licences = {re.sub(r" \(.*\)", "", part).replace("CC-BY-", "CC BY ") for part in row["licence"].split(", ")}
        assert licences <= named_licences(REPOSITORY / place), f"{row['name']}: the catalog says {row['licence']}"
        compared += 1
    assert compared
