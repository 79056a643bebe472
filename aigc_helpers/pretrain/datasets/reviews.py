"""Builds data/reviews/reviews.parquet from the data that comes with the source package of vaderSentiment.

Source: C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text", ICWSM 2014. Licence: MIT. Each snippet was rated by 20 people from −4 to 4; the file gives the mean.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import pandas

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import replacing
from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.datasets.packages import fetch_python_package

PACKAGE = "vaderSentiment"
VERSION = "3.3.2"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_MEMBERS = {
    "film": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "product": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
}
_TEST_SIZE = {"film": 1000, "product": 500}
_VALIDATION_SIZE = {"film": 1000, "product": 0}


def build_reviews(target: Path = DATA / "reviews" / "reviews.parquet") -> str:
    """Fetch the package, verify it, and write its film and product snippets; returns their number in words."""
    with TemporaryDirectory() as folder:
        archive = fetch_python_package(PACKAGE, VERSION, SHA256, Path(folder), binary=False)
        with tarfile.open(archive) as outer, tarfile.open(fileobj=_opened(outer, _INNER_ARCHIVE)) as inner:
            tables = [_read_table(_opened(inner, member).read(), kind) for kind, member in _MEMBERS.items()]
    table = pandas.concat(tables, ignore_index=True)
    with replacing(target) as temporary:
        table.to_parquet(temporary, compression="zstd", index=False)
    return f"{len(table):,} snippets"


def _opened(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise ReaderError(f"{name} is no file in the package {PACKAGE} {VERSION}, which holds the reviews.")
    return file


def _read_table(raw: bytes, kind: str) -> pandas.DataFrame:
    # quoting=3 (none): quotation marks belong to the snippets.
    table = pandas.read_csv(
        io.BytesIO(raw), sep="\t", names=["identifier", "rating", "text"], quoting=3, encoding="utf-8",
        dtype={"identifier": str},
    )  # fmt: skip
    table["text"] = table["text"].str.strip()
    table = table.drop_duplicates("text").assign(kind=kind)
    table["label"] = pandas.Series(pandas.NA, index=table.index, dtype="Int8")
    table.loc[table["rating"] >= 1, "label"] = 1
    table.loc[table["rating"] <= -1, "label"] = 0
    # The order by hash is as good as a shuffle, and it stays when rows are added or dropped.
    table = table.iloc[table["text"].map(_text_hash).argsort(kind="stable")]
    table["split"] = "neutral"
    labelled = table.index[table["label"].notna()]
    test_size, validation_size = _TEST_SIZE[kind], _VALIDATION_SIZE[kind]
    table.loc[labelled, "split"] = "train"
    table.loc[labelled[:test_size], "split"] = "test"
    table.loc[labelled[test_size : test_size + validation_size], "split"] = "validation"
    return table[["identifier", "kind", "split", "label", "rating", "text"]]


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
