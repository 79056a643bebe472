"""No pickle is ever run: what a torch file would import is read, named, and refused unless tensors need it.

A checkpoint that runs a program when it is loaded is the oldest trap of model-sharing sites.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_weight_files import torch_zip, zip_around

from aigc_helpers import inspect
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import convert_torch_file

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # torch's legacy format begins with it.


class Payload:
    """Unpickled, it calls a function. Harmless here: it would only create a file."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def payloads(marker: Path) -> dict[str, object]:
    return {
        "posix.system": Payload(os.system, f"touch {marker}"),
        "builtins.exec": Payload(exec, f"open({str(marker)!r}, 'w')"),
        "importlib.import_module": Payload(importlib.import_module, "this"),
        "builtins.getattr": Payload(getattr, "x", "y"),
    }


# --- programs written opcode by opcode: what they would call, and how they would come to call it ---------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def calls(canary: Path) -> dict[str, str]:
    """Return functions, and the one text that makes each create the canary file."""
    (canary.parent / "canary_module.py").write_text(f"open({str(canary)!r}, 'w')", encoding="utf-8")
    return {
        "os.system": f"touch {canary}",
        "builtins.exec": f"open({str(canary)!r}, 'w')",
        "builtins.eval": f"open({str(canary)!r}, 'w')",
        "importlib.import_module": "canary_module",
        "runpy.run_path": str(canary.parent / "canary_module.py"),
        "torch.hub.load": str(canary.parent),
    }


def globally(name: str) -> bytes:
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode()


def by_reduce(name: str, argument: str) -> bytes:
    return b"\x80\x02" + globally(name) + text(argument) + b"\x85R."


def by_stack_global(name: str, argument: str) -> bytes:
    module, _, function = name.rpartition(".")
    return b"\x80\x04" + text(module) + text(function) + b"\x93" + text(argument) + b"\x85R."


def by_inst(name: str, argument: str) -> bytes:
    return b"\x80\x02(" + text(argument) + b"i" + globally(name)[1:] + b"."


def by_obj(name: str, argument: str) -> bytes:
    return b"\x80\x02(" + globally(name) + text(argument) + b"o."


def by_build(name: str, argument: str) -> bytes:
    # The first BUILD gives an innocent object a __setstate__, which the second one calls.
    return (
        b"\x80\x02ccollections\nOrderedDict\n)R}"
        + text("__setstate__")
        + globally(name)
        + b"sb"
        + text(argument)
        + b"b."
    )


def within_tensors(name: str, argument: str) -> bytes:
    # In a dictionary beside an honest entry, its name hidden in the memo.
    module, _, function = name.rpartition(".")
    call = text(module) + b"q\x01" + text(function) + b"q\x0200h\x01h\x02\x93" + text(argument) + b"\x85R"
    return b"\x80\x04}(" + text("epoch") + b"K\x03" + text("weight") + call + b"u."


CALLED = ("os.system", "builtins.exec", "builtins.eval", "importlib.import_module", "runpy.run_path", "torch.hub.load")
WAYS = (by_reduce, by_stack_global, by_inst, by_obj, by_build, within_tensors)


def alone(path: Path, program: bytes) -> Path:
    path.write_bytes(program)
    return path


def in_a_row(path: Path, program: bytes, place: int = 3) -> Path:
    """Write torch's legacy format with ``program`` in place of one of its five pickles; its fourth holds the object."""
    row = [pickle.dumps(each, 2) for each in (MAGIC_NUMBER, 1001, {"little_endian": True}, {}, [])]
    row[place] = program
    path.write_bytes(b"".join(row))
    return path


CONTAINERS = (zip_around, alone, in_a_row)


def refusals(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what ``aigc inspect`` and the conversion say of a file that both refuse; nothing is written."""
    target = path.with_name("converted.safetensors")
    assert main(["inspect", str(path)]) == 1
    with pytest.raises(ReaderError) as caught:
        convert_torch_file(path, target)
    assert not target.exists()
    return [capsys.readouterr().err, str(caught.value)]


@pytest.mark.parametrize("write", CONTAINERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("way", WAYS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", CALLED)
def test_every_way_to_call_is_refused_with_module_and_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, way: Callable, write: Callable
) -> None:
    canary = tmp_path / "canary"
    path = write(tmp_path / "model.ckpt", way(name, calls(canary)[name]))
    for message in refusals(path, capsys):
        assert str(path) in message and f"unsafe: loading it would run '{name}'" in message
    assert not canary.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no touch")
@pytest.mark.parametrize("way", WAYS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["os.system", "builtins.exec", "builtins.eval", "runpy.run_path"])
def test_the_same_programs_do_run_when_pickle_loads_them(tmp_path: Path, name: str, way: Callable) -> None:
    # Else the tests above would prove nothing.
    canary = tmp_path / "canary"
    pickle.loads(way(name, calls(canary)[name]))
    assert canary.exists()


@pytest.mark.parametrize("loader", ["pickle.loads", "_pickle.loads", "torch.load", "torch.serialization.load"])
@pytest.mark.parametrize("write", CONTAINERS, ids=lambda each: each.__name__)
def test_a_pickle_inside_a_pickle_is_refused_by_what_would_open_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loader: str, write: Callable
) -> None:
    canary = tmp_path / "canary"
    inner = by_reduce("os.system", f"touch {canary}")
    program = b"\x80\x03" + globally(loader) + b"B" + struct.pack("<I", len(inner)) + inner + b"\x85R."
    for message in refusals(write(tmp_path / "model.pt", program), capsys):
        assert f"'{loader}'" in message
    assert not canary.exists()


@pytest.mark.parametrize("place", range(5))
def test_each_pickle_of_the_legacy_format_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    canary = tmp_path / "canary"
    path = in_a_row(tmp_path / "model.pt", by_reduce("os.system", f"touch {canary}"), place)
    for message in refusals(path, capsys):
        assert "'os.system'" in message
    assert not canary.exists()


@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/constants.pkl", "archive/code/other.pkl"])
def test_each_pickle_of_a_zip_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    canary = tmp_path / "canary"
    path = torch_zip(tmp_path / "model.pt", {"a": 1})
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A second data.pkl: which of the two a program reads is its own affair.
        archive.writestr(name, by_reduce("os.system", f"touch {canary}"))
    for message in refusals(path, capsys):
        assert "'os.system'" in message
    assert not canary.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [({"loss": np.float64(0.5)}, "multiarray.scalar"), ({"seen": 3j}, "__builtin__.complex")],
)
def test_the_scanner_s_strict_mode_refuses_what_is_harmless_but_no_part_of_tensors(
    tmp_path: Path, value: object, name: str
) -> None:
    path = torch_zip(tmp_path / "model.pt", value)
    inspect(path)
    with pytest.raises(ReaderError, match=f"picklescan, in its strict mode, does not know .*{name}"):
        convert_torch_file(path, tmp_path / "model.safetensors")
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt"]


# --- programs that pickle itself writes, and ways to hide ------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="os.system is nt.system there")
@pytest.mark.parametrize("name", ["posix.system", "builtins.exec", "importlib.import_module", "builtins.getattr"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_not_run(
    tmp_path: Path, name: str, protocol: int, zipped: bool
) -> None:
    marker, path = tmp_path / "was_run", tmp_path / "model.ckpt"
    value = {"state_dict": {"a": 1}, "more": payloads(marker)[name]}
    if zipped:
        torch_zip(path, value, protocol)
    else:
        path.write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(ReaderError, match=f"unsafe.*{name.replace('builtins', '(builtins|__builtin__)')}"):
        inspect(path)
    with pytest.raises(ReaderError, match="unsafe"):
        convert_torch_file(path, tmp_path / "model.safetensors")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        # The name comes out of the memo, where a scanner that looks at the strings before the opcode misses it.
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.", "os.system"),
        # The module's name is what a call returns.
        (b"\x80\x04c_codecs\nencode\n\x8c\x02os\x85R\x8c\x06system\x93.", "computed while the pickle runs"),
        (b"\x80\x02\x82\x01.", "extension registry"),
        # Damaged after the import: Python would have run it by then.
        (b"\x80\x02cos\nsystem\nU\x02lsR\xff\xff", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R", "os.system"),
        (b"(S'ls'\nios\nsystem\n.", "os.system"),
        (b"\x80\x02(cos\nsystem\nU\x02lso.", "os.system"),
    ],
)
def test_ways_to_hide_an_import_do_not_hide_it(tmp_path: Path, program: bytes, words: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(program)
    with pytest.raises(ReaderError, match=f"unsafe.*{words}"):
        inspect(path)
    with pytest.raises(ReaderError, match=f"unsafe.*{words}"):
        convert_torch_file(path, tmp_path / "model.safetensors")


def test_a_pickle_longer_than_any_of_torch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x" * 100)
    with pytest.raises(ReaderError, match="more than 20,000,000 bytes"):
        inspect(path)


def test_a_pickle_packed_into_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as opened:
        for _ in range(21):
            opened.write(bytes(1_000_000))
    with pytest.raises(ReaderError, match="21,000,000 bytes"):
        inspect(path)


def test_dictionaries_inside_each_other_do_not_take_for_ever(tmp_path: Path) -> None:
    # Each level holds the one below a thousand times: walked naively, these are 10**12 steps.
    level: dict[str, object] = {}
    for _ in range(4):
        level = {str(number): level for number in range(1000)}
    buffer = io.BytesIO()
    pickle.Pickler(buffer, 4).dump(level)
    path = tmp_path / "model.bin"
    path.write_bytes(buffer.getvalue())
    assert inspect(path).tensors == 0
