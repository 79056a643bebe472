"""A damaged weight file is refused with a sentence that names the fault; a sound one is read as the library reads it.

Else a reader meets a parser's message about byte 7,310 and does not know whether to download again or to give up.
"""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import read_header

HALF = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
IN_ONE_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def file_of(header: object, data: bytes = b"\0\0\0\0") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(**changed: object) -> bytes:
    return file_of({"a": {key: value for key, value in (HALF | changed).items() if value is not None}})


def nested(levels: int) -> list[object]:
    """Return a list within lists; a field's value stands two levels deep already."""
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def two(first: list[int], second: list[int], data: bytes = bytes(8)) -> bytes:
    return file_of({"a": HALF | {"data_offsets": first}, "b": HALF | {"data_offsets": second}}, data)


SOUND = file_of({"a": HALF})
HUGE = 2**63

# Every kind in the list of what safetensors refuses, and the words that name it.
MALFORMED = {
    "empty": (b"", "is empty: the download never began"),
    "below 8 bytes": (b"\x10\0\0", "has only 3 bytes"),
    "header above 100 MB": (struct.pack("<Q", 100_000_001) + b"{}", "announce a header of 100,000,001 bytes"),
    "header longer than the file": (SOUND[:30], "cut off inside the header: 61 bytes are announced, 22 are there"),
    "no UTF-8": (file_of(b'{"\xff": 1}'), "header is not UTF-8 text"),
    "half a surrogate pair": (file_of(b'{"\\ud800": {"dtype": "F16"}}'), "half a surrogate pair"),
    "no JSON": (file_of(b'{"a": }'), "header is not JSON"),
    "NaN in the JSON": (file_of(b'{"a": NaN}'), "NaN is no JSON number"),
    "no object": (file_of(b"       [1]"), "header is JSON, but no object"),
    "nested without end": (file_of(b'{"a": ' + (b"[" + b" " * 12) * 5000), "nested too deeply"),
    "nested one level too deep": (entry(x=nested(126)), "nested too deeply"),
    "mostly brackets": (file_of(b'{"a": [' + b"[]," * 9000 + b"[]]}"), "mostly brackets"),
    "truncated": (SOUND[:-1], "cut off: of the tensors' 4 bytes 1 are missing"),
    "trailing bytes": (SOUND + b"xyz", "3 bytes after the last tensor belong to no tensor"),
    "overlap": (two([0, 4], [2, 6], bytes(6)), "'a' and 'b' overlap"),
    "identical offsets": (two([0, 4], [0, 4], bytes(4)), "'a' and 'b' overlap"),
    "hole": (two([0, 4], [6, 10], bytes(10)), "hole: 2 bytes before tensor 'b'"),
    "shape and size": (entry(shape=[3]), r"shape \[3\] takes 6 bytes, but 4 are set aside"),
    "bits that fill no byte": (file_of({"a": HALF | {"dtype": "F4", "shape": [3]}}), "12 bits of tensor 'a'"),
    "shape overflow": (entry(shape=[HUGE, 4]), "too large for any file"),
    "shape overflow before a zero": (entry(shape=[HUGE, 4, 0], data_offsets=[0, 0]), "too large for any file"),
    "number overflow": (entry(shape=[2**64]), "number that is too large"),
    "negative offset": (entry(data_offsets=[-4, 0]), "data_offsets of tensor 'a' has a negative number"),
    "minus zero": (file_of(b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[-0,4]}}'), "no list of whole numbers"),
    "end before begin": (entry(data_offsets=[4, 0]), "ends \\(byte 0\\) before it begins \\(byte 4\\)"),
    "three offsets": (entry(data_offsets=[0, 2, 4]), "are 3 numbers instead of 2"),
    "unknown dtype": (entry(dtype="F17"), "dtype 'F17', which the format does not know"),
    "dtype no text": (entry(dtype=[[16]]), "dtype of tensor 'a' is no text"),
    "no dtype": (entry(dtype=None), "lacks the field dtype"),
    "no shape": (entry(shape=None), "lacks the field shape"),
    "no offsets": (entry(data_offsets=None), "lacks the field data_offsets"),
    "shape of texts": (entry(shape=["2"]), "no list of whole numbers"),
    "shape of booleans": (entry(shape=[True, 2]), "no list of whole numbers"),
    "entry no object": (file_of({"a": [1]}), "entry of tensor 'a' is no object"),
    "field twice": (file_of(b'{"a":{"dtype":"F16","dtype":"F16","shape":[2],"data_offsets":[0,4]}}'), "dtype twice"),
    "metadata no text": (file_of({"__metadata__": {"epoch": 3}, "a": HALF}), "value that is no text: 'epoch'"),
    "metadata no object": (file_of({"__metadata__": "pt", "a": HALF}), "__metadata__ is no object"),
    "metadata twice": (file_of(b'{"__metadata__":{},"__metadata__":{}}', b""), "two entries __metadata__"),
}

OTHER_FILES = {
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "git lfs pull"),
    "a web page": (b"\n<!DOCTYPE html><html><title>Sign in</title>", "Open the address in a browser"),
    "JSON text": (b'{"error": "Unauthorized"}', "server's error message"),
    "text that begins 'Invalid": (b"Invalid username or password.", "server's answer"),
    "text that begins '登录": (b"\xef\xbb\xbf" + "登录后才能下载。\u3000".encode() * 20, "server's answer"),
    "beginning of a zip file": (b"PK\x03\x04\x00\x00\x08\x08" + bytes(60), "renamed"),
    "beginning of a pickle file": (b"\x80\x02}q\x00.", "renamed"),
    "beginning of a GGUF file": (b"GGUF\x03\x00\x00\x00" + bytes(60), "renamed"),
    "beginning of a HDF5 file": (b"\x89HDF\r\n\x1a\n" + bytes(60), "renamed"),
    "a tar archive": (b"model.bin".ljust(257, b"\0") + b"ustar", "Unpack it"),
    "a gzip archive": (b"\x1f\x8b\x08\x00" + bytes(60), "Unpack it"),
    "600 zero bytes": (bytes(600), "never filled it"),
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("kind", MALFORMED)
def test_every_malformed_kind_is_refused_by_its_name(written: Path, kind: str) -> None:
    content, words = MALFORMED[kind]
    written.write_bytes(content)
    with pytest.raises(ReaderError, match=words) as caught:
        read_header(written)
    assert str(caught.value).startswith(str(written))
    assert "ownload it again" in str(caught.value)
    # The library refuses it, too: nothing here is stricter than what readers will meet.
    with pytest.raises((SafetensorError, OSError)), safe_open(written, "numpy"):
        pass


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_kind_of_file_is_called_what_it_is(written: Path, kind: str) -> None:
    content, remedy = OTHER_FILES[kind]
    written.write_bytes(content)
    with pytest.raises(ReaderError, match=kind.removeprefix("600 ")) as caught:
        read_header(written)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (file_of(b'{"a":%b,"a":%b}' % ((json.dumps(HALF).encode(),) * 2)), "'a' twice"),
        (entry(comment="hidden"), "fields that the format does not know: 'comment'"),
        (entry(comment=nested(125)), "fields that the format does not know: 'comment'"),
        (file_of(b"  " + json.dumps({"a": HALF}).encode()), "begins with white space"),
        (file_of(b'{"__metadata__":{"k":"1","k":"2"},"a":' + json.dumps(HALF).encode() + b"}"), "names a key twice"),
    ],
)  # fmt: skip
def test_what_the_library_lets_pass_is_remarked(written: Path, content: bytes, words: str) -> None:
    written.write_bytes(content)
    with safe_open(written, "numpy") as opened:
        assert list(opened.keys()) == ["a"]
    header = read_header(written)
    assert len(header.remarks) == 1 and words in header.remarks[0]


def test_a_sound_file_has_no_remarks(written: Path) -> None:
    written.write_bytes(SOUND)
    header = read_header(written)
    assert header.remarks == ()
    assert header.data_start == len(SOUND) - 4


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda n: n != "__metadata__")
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
DTYPES = st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?"])


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, np.ndarray]:
    kinds = draw(st.dictionaries(NAMES, st.tuples(SHAPES, DTYPES), min_size=1, max_size=5))
    return {name: np.ones(shape, dtype) for name, (shape, dtype) in kinds.items()}


# safetensors 0.8.0 writes invalid JSON for no tensors with metadata, so there is always one.
METADATA = st.none() | st.dictionaries(NAMES, NAMES, max_size=3)


@IN_ONE_FOLDER
@given(tensors(), METADATA)
def test_a_saved_file_is_read_as_the_library_reads_it(
    written: Path, saved: dict[str, np.ndarray], metadata: dict[str, str] | None
) -> None:
    save_file(saved, written, metadata)
    assert_equal_to_library(written)


def assert_equal_to_library(written: Path) -> None:
    header = read_header(written)
    content = written.read_bytes()[header.data_start :]
    with safe_open(written, "numpy") as opened:
        assert sorted(opened.keys()) == sorted(header.tensors)
        assert (opened.metadata() or {}) == header.metadata
        for name, tensor in header.tensors.items():
            piece = opened.get_slice(name)
            assert (tuple(piece.get_shape()), piece.get_dtype()) == (tensor.shape, tensor.dtype)
            if tensor.dtype[0] in "IU" or tensor.dtype in ("F16", "F32", "F64", "BOOL"):
                assert opened.get_tensor(name).tobytes() == content[tensor.begin : tensor.end]


@IN_ONE_FOLDER
@given(st.binary(max_size=200))
def test_any_bytes_give_a_result_or_a_sentence(written: Path, content: bytes) -> None:
    written.write_bytes(content)
    read_or_refuse(written)


SCRAPS = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b",", b":", b"-", b"0", b"9", b"e9", b"null", b"\\u", b" ", b"\xff"]
)
BASE = save({"layer.weight": np.ones((2, 3), "f4"), "layer.bias": np.ones(3, "f2")}, {"format": "pt"})


@IN_ONE_FOLDER
@given(st.lists(st.tuples(st.integers(0, len(BASE)), st.integers(0, 3), SCRAPS), max_size=4), st.booleans())
def test_a_changed_header_is_refused_or_opens_in_the_library_too(
    written: Path, changes: list[tuple[int, int, bytes]], keep_length: bool
) -> None:
    content = BASE
    for place, removed, scrap in changes:
        content = content[:place] + scrap + content[place + removed :]
    if keep_length and len(content) > 8 + 30:  # The header's length follows the changes: so its inside is tested.
        content = struct.pack("<Q", len(content) - 8 - 30) + content[8:]
    written.write_bytes(content)
    if read_or_refuse(written):
        assert_equal_to_library(written)


def read_or_refuse(path: Path) -> bool:
    try:
        read_header(path)
    except ReaderError as error:
        assert str(error).startswith(str(path))
        return False
    return True


@pytest.mark.parametrize("filling", [b"7,", b'"x",', b'{"x":7},', b"[],", b"9999,"])
def test_a_hostile_header_takes_memory_in_proportion_to_its_size(written: Path, filling: bytes) -> None:
    # A header that announces a megabyte costs some megabytes, not gigabytes: 20 times is what Python's objects take.
    raw = b'{"a": [' + filling * (1_000_000 // len(filling)) + b"7]}"
    written.write_bytes(file_of(raw))
    tracemalloc.start()
    try:
        with pytest.raises(ReaderError):
            read_header(written)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(raw)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "filling", [b'"a":%b,' % json.dumps(HALF).encode(), b'"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4],"x":0},']
)
def test_remarks_on_a_hostile_header_do_not_outgrow_it(written: Path, filling: bytes) -> None:
    # Here every entry deserves a remark: one tensor's name again and again, the second time with a field unknown.
    raw = b"{" + filling * (200_000 // len(filling)) + filling.rstrip(b",") + b"}"
    written.write_bytes(file_of(raw))
    tracemalloc.start()
    try:
        assert len(read_header(written).tensors) == 1
        assert tracemalloc.get_traced_memory()[1] < 20 * len(raw)
    finally:
        tracemalloc.stop()


@IN_ONE_FOLDER
@given(st.integers(0, 2**64 - 1), st.binary(max_size=60))
@example(length=690353986, content=b"")  # As a pickle: a string of 2.7 MB.
def test_no_announced_length_is_believed_beyond_the_file(written: Path, length: int, content: bytes) -> None:
    written.write_bytes(struct.pack("<Q", length) + content)
    tracemalloc.start()
    try:
        read_or_refuse(written)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_only_the_header_is_held_in_memory_whatever_the_file_takes(written: Path) -> None:
    size = 4_000_000_000
    written.write_bytes(file_of({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}, b""))
    with written.open("rb+") as opened:
        opened.truncate(written.stat().st_size + size)  # Sparse: it takes no disk.
    tracemalloc.start()
    try:
        assert read_header(written).tensors["a"].shape == (size,)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
