"""What programs would read differently is refused: a harmless reading here must not hide a program for another reader.

Every file here is harmless: it would at most create a file called canary.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save, save_file
from small_weight_files import gguf, inspect_saved, kohya_lora, torch_zip, zip_around

from aigc_helpers import inspect
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import read_torch_file
from aigc_helpers.store import install_file

LORA = kohya_lora(768)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def payload(canary: Path) -> bytes:
    """Return opcodes that call ``open(canary, "w")``."""
    return b"cio\nopen\n(V" + str(canary).encode() + b"\nVw\ntR."


def program_of(canary: Path) -> bytes:
    return b"\x80\x02" + payload(canary)


def runs(path: Path, canary: Path, load: Callable[[Path], object]) -> bool:
    """Say whether loading the file runs its program, so that its refusal is no false alarm."""
    with contextlib.suppress(Exception):  # Whatever comes after the program has run.
        load(path)
    ran = canary.exists()
    canary.unlink(missing_ok=True)
    return ran


def by_torch(path: Path) -> object:
    return torch.load(path, weights_only=False)


def by_pickle(path: Path) -> object:
    return pickle.loads(path.read_bytes())


# --- a format without programs that is a pickle as well --------------------------------------------------------------


def safetensors_and_pickle(canary: Path) -> bytes:
    # As a pickle: a text up to the end of the header's line, which is thrown away, then the program.
    evil = b"0" + payload(canary)
    entry = {"dtype": "U8", "shape": [len(evil) + 1], "data_offsets": [0, len(evil) + 1]}
    header = json.dumps({f"{next(iter(LORA))}": entry}).encode().ljust(0x456)
    return b"V\x04" + bytes(6) + header + b"\n" + evil


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".safetensors"])
def test_safetensors_that_are_a_pickle_as_well_are_refused(tmp_path: Path, canary: Path, suffix: str) -> None:
    path = tmp_path / f"style{suffix}"
    path.write_bytes(safetensors_and_pickle(canary))
    assert runs(path, canary, by_pickle)
    assert runs(path, canary, by_torch) == (suffix != ".safetensors")  # torch, too, goes by that suffix.
    for look in (inspect, install_file):
        with pytest.raises(ReaderError, match="safetensors and a pickle in one.*would run 'io.open'"):
            look(path)
    assert not canary.exists()


def test_a_gguf_file_that_is_a_pickle_as_well_is_refused(tmp_path: Path, canary: Path) -> None:
    # G is the opcode of a float of eight bytes.
    path = tmp_path / "model.pt"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + b"\x00" + payload(canary) + gguf())
    assert runs(path, canary, by_pickle)
    with pytest.raises(ReaderError, match="GGUF and a pickle in one.*would run 'io.open'"):
        inspect(path)
    assert not canary.exists()


def test_headers_of_any_length_are_no_false_alarm(tmp_path: Path) -> None:
    # The length's lowest byte is the first opcode, if one reads it so: 0x82 is that of a registry, 0x63 an import's.
    content = save({"first": np.zeros((2, 2), "f4"), "second": np.zeros((2, 2), "f4")})
    (length,) = struct.unpack("<Q", content[:8])
    for longer in range(length, length + 256):
        path = tmp_path / "some.safetensors"
        header = content[8 : 8 + length].ljust(longer)
        path.write_bytes(struct.pack("<Q", longer) + header + content[8 + length :])
        assert inspect(path).tensors == 2, f"a header of {longer} bytes"


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin", ".pth"])
def test_safetensors_under_a_pickle_s_name_are_installed_under_their_own(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"style.v2{suffix}"
    save_file(LORA, path)
    ui = tmp_path / "ui"
    (ui / "models" / "checkpoints").mkdir(parents=True)
    done = install_file(path, layout="comfyui", to=ui)
    assert done.path == ui / "models" / "loras" / "style.v2.safetensors"
    assert any(f"its name ends in {suffix}" in remark for remark in done.remarks)
    assert [each.name for each in ui.rglob("*") if each.is_file()] == ["style.v2.safetensors"]


def test_gguf_under_another_name_is_installed_under_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    path = tmp_path / "model.ckpt"
    path.write_bytes(gguf())
    assert install_file(path).path.name == "model.gguf"


def test_a_remark_says_that_the_name_is_another_format_s(tmp_path: Path) -> None:
    assert not any("its name ends in" in remark for remark in inspect_saved(tmp_path, LORA).remarks)


# --- a zip of which Python and torch see different files -------------------------------------------------------------


def good() -> bytes:
    return pickle.dumps({"weight": 1}, 2)


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def two_lists(hidden: bytes, shown: bytes) -> bytes:
    """Return a zip whose end record leads torch to one list of files, and Python to another."""
    parts = []
    for content in (hidden, shown):
        end = content.rfind(b"PK\x05\x06")
        count, size, offset = struct.unpack("<HII", content[end + 10 : end + 20])
        parts.append((content[:offset], content[offset : offset + size], count))
    (first, first_list, count), (second, second_list, _) = parts
    assert len(first_list) == len(second_list)
    body = first + first_list + second
    moved = bytearray(second_list)
    position = 0
    while position < len(moved):
        lengths = struct.unpack("<HHH", moved[position + 28 : position + 34])
        (offset,) = struct.unpack("<I", moved[position + 42 : position + 46])
        real = offset + len(first) + len(first_list) - (len(body) - len(first))
        moved[position + 42 : position + 46] = struct.pack("<i", real)
        position += 46 + sum(lengths)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(moved), len(first), 0)
    return body + bytes(moved) + end


def with_extra(kind: int) -> bytes:
    """Return a zip whose data.pkl has an extra field, as Info-ZIP's for a second name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo("archive/data.pkl")
        member.extra = struct.pack("<HHBI", kind, 9, 1, 0) + b"name"
        archive.writestr(member, good())
    return buffer.getvalue()


def changed(content: bytes, old: bytes, new: bytes, which: int = 0) -> bytes:
    """Replace one of several places, for the length of the file must stay."""
    position = -1
    for _ in range(which + 1):
        position = content.index(old, position + 1)
    return content[:position] + new + content[position + len(new) :]


_ONE = zipped([("archive/data.pkl", good()), ("archive/version", b"3\n")])
AMBIGUOUS = {
    "names that differ by case": (
        zipped([("archive/data.pkl", good()), ("archive/DATA.PKL", good())]),
        "take 'archive/data.pkl' and 'archive/DATA.PKL' in it for one",
    ),
    "two lists of files": (two_lists(zipped([("a/data.pkl", good())]), zipped([("a/data.pkl", good())])), "list"),
    "a second name": (with_extra(0x7075), "a second name"),
    "bytes after the end": (_ONE + b"more", "bytes follow its end record"),
    "bytes before the beginning": (b"PK\x03\x04" + bytes(8) + _ONE, "list of files does not lie where"),
    "another name at the file's place": (
        changed(_ONE, b"archive/data.pkl", b"archive/dota.pkl"),
        "cannot be read|something else of 'archive/data.pkl'",
    ),
    "another count": (changed(_ONE, b"\x02\x00\x02\x00", b"\x01\x00\x02\x00", 0), "announces 2 files"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_a_zip_that_two_programs_read_differently_is_refused(tmp_path: Path, case: str) -> None:
    content, words = AMBIGUOUS[case]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ReaderError, match=words):
        inspect(path)


def test_a_pickle_is_read_whatever_the_case_of_its_name(tmp_path: Path, canary: Path) -> None:
    path = tmp_path / "model.pt"
    # torch takes the folder of the first file, and finds data.pkl there in any case.
    path.write_bytes(zipped([("b/DATA.PKL", program_of(canary)), ("a/data.pkl", good()), ("b/version", b"3\n")]))
    with pytest.raises(ReaderError, match=r"would run 'io\.open'"):
        inspect(path)


@pytest.mark.parametrize("wrap", [False, True])
def test_what_torch_itself_writes_is_read(tmp_path: Path, wrap: bool) -> None:
    path = tmp_path / "model.pt"
    tensors = {f"layer.{number}.weight": torch.zeros(number + 1) for number in range(40)}
    torch.save({"state_dict": tensors} if wrap else tensors, path)
    assert len(read_torch_file(path, "zip").tensors) == 40


# --- a row of pickles ------------------------------------------------------------------------------------------------


def test_all_five_pickles_are_read_where_the_first_computes_its_magic_number(tmp_path: Path, canary: Path) -> None:
    number = str(0x1950A86A20F9469CFC6C).encode()
    computed = b"\x80\x02c__builtin__\nint\n(X" + struct.pack("<I", len(number)) + number + b"tR."
    row = [computed, pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), program_of(canary)]
    path = tmp_path / "model.bin"
    path.write_bytes(b"".join(row) + pickle.dumps([], 2))
    assert runs(path, canary, by_torch)
    with pytest.raises(ReaderError, match=r"would run 'io\.open'"):
        inspect(path)
    assert not canary.exists()


def test_a_tar_archive_that_begins_as_a_pickle_is_called_a_tar_archive(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("\x02.")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    block = bytearray(path.read_bytes()[:512])
    block[0], block[257:265] = 0x80, bytes(8)  # As tar was before it had a mark of its own.
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path.write_bytes(bytes(block) + path.read_bytes()[512:])
    with pytest.raises(ReaderError, match="not a weight file but a tar archive"):
        inspect(path)


# --- work without a bound ---------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<I", len(raw)) + raw


_TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
) + (b"K\x10tQK\x00%s(K\x01t\x89NtR")


def tuples_that_double() -> bytes:
    return b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s."


def integers_of_one_hash() -> bytes:
    return b"\x80\x02}(" + b"".join(integer((2**61 - 1) * number) + b"K\x01" for number in range(1, 1_500)) + b"u."


def members_of_one_hash() -> bytes:
    listed = b"".join(integer((2**61 - 1) * number) for number in range(1, 1_500))
    return b"\x80\x02c__builtin__\nset\n](" + listed + b"e\x85R."


def one_list_given_a_thousand_times() -> bytes:
    listed = b"](" + b"".join(b"](" + text(f"{number}") + b"K\x01e" for number in range(3_000)) + b"e\x85q\x000"
    return b"\x80\x02" + listed + b"ccollections\nOrderedDict\nq\x010" + b"h\x01h\x00R0" * 1_000 + b"N."


def an_integer_of_many_digits() -> bytes:
    return b"\x80\x02}" + text("epoch") + integer(10**5_000) + b"s."


def a_shape_of_large_numbers() -> bytes:
    return b"\x80\x02}" + text("w.x") + _TENSOR.replace(b"%s", b"(" + integer(2**63) * 3 + b"t") + b"s."


def a_shape_of_many_dimensions() -> bytes:
    return b"\x80\x02}" + text("w.x") + _TENSOR.replace(b"%s", b"(" + b"K\x01" * 100_000 + b"t") + b"s."


def a_long_name_before_many_tensors() -> bytes:
    tensor = _TENSOR.replace(b"%s", b"(K\x04t")
    below = b"".join(text(f"{number}") + b"h\x00" for number in range(4_000))
    return b"\x80\x02" + tensor + b"q\x000}" + text("k" * 1_000_000) + b"}(" + below + b"us."


BOMBS = {
    tuples_that_double: "tuples within tuples",
    integers_of_one_hash: "keys without end",
    members_of_one_hash: "keys without end",
    one_list_given_a_thousand_times: "keys without end",
    an_integer_of_many_digits: "an integer of 16,610 bits",
    a_shape_of_large_numbers: "is that of no tensor",
    a_shape_of_many_dimensions: "is that of no tensor",
    a_long_name_before_many_tensors: "names of its tensors take more than",
}


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("write", [zip_around, lambda path, program: path.write_bytes(program)])
def test_a_pickle_that_would_work_without_end_is_refused(
    tmp_path: Path, bomb: Callable[[], bytes], write: Callable[[Path, bytes], object]
) -> None:
    path = tmp_path / "model.pt"
    write(path, bomb())
    for look in (inspect, install_file):
        with pytest.raises(ReaderError, match=BOMBS[bomb]):
            look(path)


def test_keys_of_honest_checkpoints_are_no_false_alarm(tmp_path: Path) -> None:
    state = {number: {"step": number} for number in range(5_000)} | {(1, 2): 3, 0.5: 1, None: 2, 2**127: 4}
    path = torch_zip(tmp_path / "model.pt", {"state": state, "seeds": [sys.maxsize - n for n in range(50)]})
    assert inspect(path).tensors == 0


def test_an_ordered_dictionary_as_python_2_pickled_it_keeps_its_tensors(tmp_path: Path) -> None:
    tensor = _TENSOR.replace(b"%s", b"(K\x04t")
    entries = b"](](U\x01a" + tensor + b"e](U\x01b" + tensor + b"ee"
    path = zip_around(tmp_path / "model.pt", b"\x80\x02ccollections\nOrderedDict\n" + entries + b"\x85R.")
    assert sorted(read_torch_file(path, "zip").tensors) == ["a", "b"]


def test_counts_that_sum_to_more_digits_than_python_prints_are_left_out(tmp_path: Path) -> None:
    digits = "9" * 4_300
    tags = f'{{"a": {{"tiger": {digits}, "cat": 3}}, "b": {{"tiger": {digits}}}}}'
    training = inspect_saved(tmp_path, LORA, {"ss_tag_frequency": tags}).training
    assert training["most frequent tags"] == "cat 3"


def test_zips_as_other_programs_write_them_are_no_false_alarm(tmp_path: Path) -> None:
    members = [("archive/data.pkl", good()), ("archive/version", b"3\n"), ("archive/水.txt", b"x")]
    for name, packed, large in (("plain", 0, False), ("packed", 8, False), ("large", 0, True)):
        path = tmp_path / f"{name}.pt"
        with zipfile.ZipFile(path, "w", packed) as archive:
            for member, content in members:
                with archive.open(member, "w", force_zip64=large) as opened:
                    opened.write(content)
        assert inspect(path).container == "torch zip"
