"""A torch file's tensors arrive in safetensors bit by bit, under their names; what is left out or changed is said.

A weight that is lost or rounded on the way is found out by nobody: the model loads, and is a little worse.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from aigc_helpers import inspect
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import convert_torch_file

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
DTYPES += (torch.complex64,)
NEWER_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16)  # torch's legacy format has none of these.


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert bits(found[name]) == bits(tensor), name


def converted(tmp_path: Path, value: object, legacy: bool = False) -> tuple[dict[str, torch.Tensor], str]:
    """Return the tensors that the conversion wrote, and its remarks."""
    torch.save(value, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not legacy)
    remarks = convert_torch_file(tmp_path / "model.ckpt", tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt"}  # Without it transformers refuses the file.
    return load_file(tmp_path / "model.safetensors"), " ".join(remarks)


@st.composite
def state_dicts(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    kinds = st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(DTYPES + NEWER_DTYPES))
    named = draw(st.dictionaries(st.text("abc.é", min_size=1, max_size=8), kinds, min_size=1, max_size=5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    tensors = {}
    for name, (shape, dtype) in named.items():
        size = torch.empty(shape, dtype=dtype)
        # Any bits at all, NaN and infinity among them; a truth value has two.
        raw = torch.randint(2 if dtype == torch.bool else 256, (size.nbytes,), generator=generator, dtype=torch.uint8)
        tensors[name] = raw.view(dtype).reshape(shape)
    return tensors


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state_dicts(), st.booleans())
def test_every_bit_arrives(tmp_path: Path, tensors: dict[str, torch.Tensor], legacy: bool) -> None:
    if legacy:
        tensors = {name: each for name, each in tensors.items() if each.dtype in DTYPES} or {"a": torch.ones(2)}
    found, remarks = converted(tmp_path, tensors, legacy)
    assert_same(found, tensors)
    assert remarks == ""
    inspection, of_target = inspect(tmp_path / "model.ckpt"), inspect(tmp_path / "model.safetensors")
    assert inspection.dtypes == of_target.dtypes and inspection.parameters == of_target.parameters


@pytest.mark.parametrize("legacy", [True, False])
def test_tensors_that_share_memory_are_each_written_whole(tmp_path: Path, legacy: bool) -> None:
    weight = torch.randn(4, 6)
    tensors = {"embed": weight, "head": weight, "rows": weight[1:3], "turned": weight.t(), "own": torch.randn(2)}
    tensors["repeated"] = torch.full((1,), 2.5).expand(5)
    found, remarks = converted(tmp_path, tensors, legacy)
    assert_same(found, tensors)
    assert "'embed' = 'head' = 'rows' = 'turned'" in remarks and "'own'" not in remarks
    assert "Rearranged in memory, the numbers are the same: 'turned', 'repeated'" in remarks


@pytest.mark.parametrize("legacy", [True, False])
def test_a_model_s_state_dict_loads_again(tmp_path: Path, legacy: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 6))
    found, remarks = converted(tmp_path, model.state_dict(), legacy)
    torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 6)).load_state_dict(
        found, strict=True
    )
    assert_same(found, model.state_dict())
    assert remarks == ""


def test_the_weights_of_a_checkpoint_are_taken_and_the_rest_is_named(tmp_path: Path) -> None:
    weights = OrderedDict(a=torch.nn.Parameter(torch.ones(2)), inner={"b": torch.zeros(3), "note": "x"}, step=3)
    checkpoint = {"epoch": 7, "state_dict": weights, "optimizer_states": [{"m": torch.ones(2)}]}
    found, remarks = converted(tmp_path, checkpoint)
    assert_same(found, {"a": torch.ones(2), "inner.b": torch.zeros(3)})
    assert "entry 'state_dict' was taken. Left out beside it: 'epoch', 'optimizer_states'." in remarks
    assert "Left out, for they are no tensors: 'inner.note', 'step'." in remarks
    assert inspect(tmp_path / "model.ckpt").tensors == 2


def test_names_are_those_that_the_report_gives(tmp_path: Path) -> None:
    # An embedding as A1111 writes it.
    embedding = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(torch.ones(2, 768))}}
    found, remarks = converted(tmp_path, embedding | {"name": "cat"})
    assert list(found) == ["string_to_param.*"]
    assert "'string_to_token.*', 'name'" in remarks


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(2), "no named tensors (what stands in it is of type Tensor)"),
        ({"a": 1}, "no named tensors"),
        ({"a": torch.zeros(1).expand(10**6, 10**6)}, "would take 4,000,000,000,000 when written out"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, "safetensors has no place for"),
        ({"a": torch.eye(2).to_sparse()}, "'torch._utils._rebuild_sparse_tensor'"),
        ({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, "would both be called 'a.b'"),
        (torch.nn.Linear(2, 3), "'torch.nn.modules.linear.Linear'"),
    ],
)
def test_what_cannot_be_converted_is_refused_and_the_older_file_stays(
    tmp_path: Path, value: object, words: str
) -> None:
    source, target = tmp_path / "model.pt", tmp_path / "model.safetensors"
    target.write_bytes(b"older")
    torch.save(value, source)
    with pytest.raises(ReaderError) as caught:
        convert_torch_file(source, target)
    assert words in str(caught.value) and str(source) in str(caught.value)
    assert target.read_bytes() == b"older"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.pt", "model.safetensors"]


@pytest.mark.parametrize("legacy", [True, False])
def test_a_cut_or_changed_file_is_refused_or_converted_as_it_stands(tmp_path: Path, legacy: bool) -> None:
    source, target = tmp_path / "model.pt", tmp_path / "model.safetensors"
    torch.save({"a": torch.arange(12.0), "b": torch.ones(2, 2)}, source, _use_new_zipfile_serialization=not legacy)
    whole = source.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        cut, place, flip = (int(torch.randint(high, (), generator=generator)) for high in (len(whole), len(whole), 255))
        for content in (whole[: cut + 1], whole[:place] + bytes([whole[place] ^ (flip + 1)]) + whole[place + 1 :]):
            source.write_bytes(content)
            target.unlink(missing_ok=True)
            try:
                convert_torch_file(source, target)
                load_file(target)
            except ReaderError as error:
                assert str(error).startswith(str(source))
                assert not target.exists()


@pytest.mark.parametrize(
    "key", [b"N" + b"\x85" * 60, b"N" + b"q\x01h\x01\x86" * 41], ids=["60 levels", "41 pairs of one pair"]
)
def test_tuples_within_tuples_without_end_are_refused(tmp_path: Path, key: bytes) -> None:
    # As a key one is hashed: of a million levels that ends the process, and of 40 pairs of the same pair never ends.
    source, target = tmp_path / "model.bin", tmp_path / "model.safetensors"
    source.write_bytes(b"\x80\x02}" + key + b"Ns.")
    for read in (inspect, lambda path: convert_torch_file(path, target)):
        with pytest.raises(ReaderError, match="tuples within tuples without end"):
            read(source)


def test_tuples_within_tuples_as_programs_write_them_are_left_out(tmp_path: Path) -> None:
    vocabulary = tuple((f"word {number}", (number, number + 1)) for number in range(20_000))
    found, remarks = converted(tmp_path, {"a": torch.ones(2), "vocabulary": vocabulary})
    assert_same(found, {"a": torch.ones(2)})
    assert "'vocabulary'" in remarks


def test_a_parameter_around_calls_of_calls_is_no_tensor(tmp_path: Path) -> None:
    calls = b"ctorch\nSize\n" + b")R" * 5000
    (tmp_path / "model.bin").write_bytes(b"\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_parameter\n" + calls + b"\x85Rs.")
    assert inspect(tmp_path / "model.bin").tensors == 0
    with pytest.raises(ReaderError, match="cannot be opened by torch.load"):
        convert_torch_file(tmp_path / "model.bin", tmp_path / "model.safetensors")


def test_a_packed_zip_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(ReaderError, match="packed as torch never packs"):
        convert_torch_file(tmp_path / "model.pt", tmp_path / "model.safetensors")


def test_another_kind_of_file_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ReaderError, match="no torch file but has the beginning of a GGUF file"):
        convert_torch_file(tmp_path / "model.pt", tmp_path / "model.safetensors")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import convert_torch_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    convert_torch_file(Path("model.pt"), Path("model.safetensors"))
except ReaderError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process has a limit for files there")
def test_a_full_disk_leaves_nothing_and_is_called_so(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "model.pt")
    finished = subprocess.run(
        [sys.executable, "-c", FULL_DISK], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "free some space" in finished.stdout
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt"]
