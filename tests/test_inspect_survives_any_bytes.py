"""Whatever bytes a file holds, the report is a report or a sentence: no other error, no crash, no hang.

A download that stopped, a changed byte or a hostile file must never end in a traceback, or in a program that waits.
"""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from safetensors.numpy import save
from small_weight_files import gguf, torch_zip

from aigc_helpers import inspect
from aigc_helpers.errors import ReaderError

pytestmark = pytest.mark.slow

IN_ONE_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# What each format's reader must reach before it does anything: else random bytes test the first comparison only.
BEGINNINGS = {
    "safetensors": (b"", b"\x40\0\0\0\0\0\0\0{", b'\x20\0\0\0\0\0\0\0{"a":{"dtype":"F16",'),
    "gguf": (b"GGUF\x03\0\0\0", b"GGUF\x03\0\0\0" + b"\x01\0\0\0\0\0\0\0" * 2),
    "pt": (b"PK\x03\x04", b"PK\x05\x06"),
    "h5": (b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0"),
    "bin": (b"", b"\x80\x02", b"\x80\x04"),
}


def small_h5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["dense/dense/kernel:0"], file["dense/dense/bias:0"] = np.ones((3, 4), "f4"), np.ones(4, "f4")
        file["dense"].attrs["weight_names"] = np.array([b"dense/kernel:0", b"dense/bias:0"])
    return buffer.getvalue()


def small_zip() -> bytes:
    buffer = io.BytesIO()
    torch_zip(buffer, {"state_dict": {"a": np.zeros(3), "b": 1}, "epoch": 3})
    return buffer.getvalue()


def small_row() -> bytes:
    return b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {}, {"a": np.zeros(3)}, []))


SOUND: dict[str, Callable[[], bytes]] = {
    "safetensors": lambda: save({"layer.weight": np.ones((2, 3), "f4")}, {"format": "pt"}),
    "gguf": gguf,
    "pt": small_zip,
    "h5": small_h5,
    "bin": small_row,
}


def report_or_sentence(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        inspect(path)
    except ReaderError as error:
        assert str(error).startswith(str(path))
        return False
    return True


@pytest.mark.parametrize("suffix", SOUND)
def test_the_files_that_are_changed_below_are_sound(tmp_path: Path, suffix: str) -> None:
    assert report_or_sentence(tmp_path / f"model.{suffix}", SOUND[suffix]())


@pytest.mark.parametrize("suffix", BEGINNINGS)
@IN_ONE_FOLDER
@given(st.data(), st.binary(max_size=120))
def test_any_bytes_behind_an_honest_beginning(tmp_path: Path, suffix: str, data: st.DataObject, content: bytes) -> None:
    report_or_sentence(tmp_path / f"model.{suffix}", data.draw(st.sampled_from(BEGINNINGS[suffix])) + content)


@pytest.mark.parametrize("suffix", SOUND)
@IN_ONE_FOLDER
@given(st.data(), st.floats(0, 1), st.integers(1, 5))
def test_a_sound_file_cut_off_or_with_bits_flipped(
    tmp_path: Path, suffix: str, data: st.DataObject, kept: float, flips: int
) -> None:
    sound = SOUND[suffix]()
    content = bytearray(sound)
    # Headers stand at the beginning, but a zip's list of members at the end.
    places = st.integers(0, len(content) - 1) | st.integers(0, min(300, len(content) - 1))
    for _ in range(flips):
        content[data.draw(places)] ^= 1 << data.draw(st.integers(0, 7))
    report_or_sentence(tmp_path / f"model.{suffix}", bytes(content))
    report_or_sentence(tmp_path / f"model.{suffix}", sound[: int(kept * len(sound))])


@IN_ONE_FOLDER
@given(st.lists(st.tuples(st.integers(4, len(gguf()) - 1), st.integers(0, 255)), max_size=4), st.integers(5, 400))
def test_a_changed_or_cut_gguf_is_refused_or_read(tmp_path: Path, changes: list[tuple[int, int]], kept: int) -> None:
    content = bytearray(gguf())
    for place, value in changes:
        content[place] = value
    path = tmp_path / "model.gguf"
    path.write_bytes(content[:kept])
    try:
        inspect(path)
        assert changes or kept >= len(content)
    except ReaderError as error:
        assert str(error).startswith(f"{path} is no valid GGUF file")


@IN_ONE_FOLDER
@given(st.binary(max_size=80), st.sampled_from([b"", b"\x80\x02", b"\x80\x04"]))
@example(b"\x8c\x01a" * 20 + b"\x93R.", b"\x80\x04")
def test_any_pickle_is_refused_or_read(tmp_path: Path, content: bytes, beginning: bytes) -> None:
    report_or_sentence(tmp_path / "model.bin", beginning + content)


def test_a_name_in_a_zip_that_is_no_text(tmp_path: Path) -> None:
    # Found by flipping bits: zipfile raises UnicodeDecodeError, which is no BadZipFile.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/dätä.pkl", b"")
    content = buffer.getvalue().replace("ä".encode(), b"\xff\xff")
    assert not report_or_sentence(tmp_path / "model.pt", content)


@pytest.mark.parametrize(
    ("suffix", "filling"), [("gguf", b"\xff" * 8), ("bin", b"]" * 8), ("bin", b"(" * 8), ("bin", b"}q\x00h\x00h\x00s")]
)
def test_a_hostile_header_takes_memory_in_proportion_to_its_size(tmp_path: Path, suffix: str, filling: bytes) -> None:
    beginning = BEGINNINGS[suffix][-1]
    content = beginning + filling * (50_000 // len(filling))
    tracemalloc.start()
    try:
        report_or_sentence(tmp_path / f"model.{suffix}", content)
        # An empty list, which one byte makes, takes 56 bytes in Python, and 8 in the stack.
        assert tracemalloc.get_traced_memory()[1] < 100 * len(content)
    finally:
        tracemalloc.stop()
