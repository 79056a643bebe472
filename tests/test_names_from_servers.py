"""A download has the name that the server means, whatever the header's form, and the suffix of what it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_server import Fault, FaultyServer
from safetensors.numpy import save

from aigc_helpers.errors import ReaderError
from aigc_helpers.store import install_address, install_file
from aigc_helpers.store.content_names import name_of_download

_LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
LORA = save(
    {
        f"{_LAYER}.lora_down.weight": np.ones((4, 768), np.float32),
        f"{_LAYER}.lora_up.weight": np.ones((1280, 4), np.float32),
        f"{_LAYER}.alpha": np.array(4.0, np.float32),
    }
)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    return tmp_path / "store"


def as_sent(header: str) -> str:
    """Return raw UTF-8 as the HTTP libraries give it."""
    return header.encode().decode("latin-1")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="Vector_V2.safetensors"', "Vector_V2.safetensors"),
        ("attachment; filename=Vector_V2.safetensors", "Vector_V2.safetensors"),
        ('inline; filename="Vector_V2.safetensors";', "Vector_V2.safetensors"),
        ('attachment; FileName = "Vector_V2.safetensors" ; size=3', "Vector_V2.safetensors"),
        (as_sent('attachment; filename="水墨.safetensors"'), "水墨.safetensors"),
        ("attachment; filename*=UTF-8''%E6%B0%B4%E5%A2%A8.safetensors", "水墨.safetensors"),
        ("attachment; filename=\"x.safetensors\"; filename*=UTF-8''%E6%B0%B4.safetensors", "水.safetensors"),
        ("attachment; filename*=utf-8'zh'%E6%B0%B4.safetensors; filename=\"x.safetensors\"", "水.safetensors"),
        ("attachment; filename*=ISO-8859-1''%e9t%e9.safetensors", "été.safetensors"),
        # What cannot be decoded leaves the plain name, or that of the address.
        ("attachment; filename=x.safetensors; filename*=UTF-8''%ff", "x.safetensors"),
        ("attachment; filename=x.safetensors; filename*=klingon''y", "x.safetensors"),
        ("attachment; filename*5*=x; filename*=y", "181248"),
        ("attachment; filename=", "181248"),
        ("attachment", "181248"),
        ("filename=" + "x" * 70_000, "181248"),
        ('attachment; filename="a;b.safetensors"', "a;b.safetensors"),
        (r'attachment; filename="a\"b.safetensors"', "a_b.safetensors"),
        ('attachment; filename="Detail: Tweaker.safetensors"', "Detail_ Tweaker.safetensors"),
        ('attachment; filename="NUL.bin"', "_NUL.bin"),
        ('attachment; filename="C:up.bin"', "C_up.bin"),
        (as_sent(f'attachment; filename="{"模" * 100}.safetensors"'), "模" * 81 + ".safetensors"),
    ],
)
def test_the_header_in_every_form(disposition: str, name: str) -> None:
    assert name_of_download("https://x/api/1?type=Model&token=t", "https://s/181248?sig=a", disposition) == name


def test_the_address_names_the_file_where_the_header_does_not() -> None:
    assert name_of_download("https://x/a%20b.ckpt?download=true", "https://cdn/0f3c", "") == "a b.ckpt"
    assert name_of_download("https://x/", "https://x/", "") == "download"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [(None, "4.safetensors"), ('attachment; filename="v1.5"', "v1.5.safetensors"), ("filename=x.PT", "4.safetensors")],
)
def test_a_name_without_a_suffix_gets_that_of_the_content(store: Path, disposition: str | None, name: str) -> None:
    headers = {"Content-Disposition": disposition}
    with FaultyServer(LORA, always=Fault(headers=headers)) as server:
        address = server.url("api/download/models/4?type=Model&format=SafeTensor&token=tOkEn")
        assert install_address(address).path == store / "loras" / name
        assert install_address(address).already_there


def test_a_server_that_redirects_to_its_store_gives_a_file_in_raw_utf8(store: Path) -> None:
    with FaultyServer(b"") as server:
        there = server.url("store/181248?X-Amz-Signature=abc")
        named = {"Content-Disposition": as_sent('attachment; filename="水墨.safetensors"')}
        server.waiting = [Fault(status=307, headers={"Location": there}), Fault(content=LORA, headers=named)]
        assert install_address(server.url("api/7?token=t")).path == store / "loras" / "水墨.safetensors"


@pytest.mark.parametrize(
    ("given", "name"), [("style.pt", "style"), ("style.ckpt", "style"), ("style", "style"), ("A.SAFETENSORS", "A")]
)
def test_a_file_of_this_disk_gets_the_suffix_of_its_content(tmp_path: Path, store: Path, given: str, name: str) -> None:
    (tmp_path / given).write_bytes(LORA)
    assert install_file(tmp_path / given).path == store / "loras" / f"{name}.safetensors"
    torch.save({"<cat-toy>": torch.ones(768)}, tmp_path / "learned_embeds")
    assert install_file(tmp_path / "learned_embeds").path.name == "learned_embeds.safetensors"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "1" + "0" * 400},
        {"Content-Length": "9" * 5_000},
        {"Content-Length": "-5"},
        {"Content-Length": "x"},
        {"Content-Length": "９" * 5},
        {"Content-Range": "bytes " + "9" * 5_000 + "-1/2"},
        {"Retry-After": "9" * 5_000},
        {"ETag": '"' + "x" * 60_000 + '"'},
        {"Content-Type": "text/html" * 1_000},
        {"Content-Encoding": "gzip"},
        {"Content-Disposition": 'attachment; filename="' + "a" * 60_000},
    ],
    ids=lambda headers: str(headers)[:40],
)
@pytest.mark.parametrize("status", [200, 206, 416, 429])
def test_headers_of_the_wrong_shape_are_a_sentence_or_nothing(
    monkeypatch: pytest.MonkeyPatch, store: Path, headers: dict[str, str], status: int
) -> None:
    monkeypatch.setattr("aigc_helpers.store.transfer._PAUSES", ())
    as_latin_1 = {name: as_sent(value) for name, value in headers.items()}
    with FaultyServer(LORA, always=Fault(status=status, headers=as_latin_1)) as server:
        try:
            installed = install_address(server.url("style.safetensors"))
        except ReaderError as error:
            assert len(str(error)) < 1_000
        else:
            assert installed.path.read_bytes() == LORA


def test_a_packed_answer_that_grows_without_end_is_stopped(store: Path) -> None:
    import gzip

    bomb = gzip.compress(bytes(1 << 26))
    with (
        FaultyServer(bomb, always=Fault(headers={"Content-Encoding": "gzip"})) as server,
        pytest.raises(ReaderError, match="is packed, and grows to more than 20 times"),
    ):
        install_address(server.url("style.safetensors"))
    assert not list(store.rglob("*.partial"))


def test_what_no_run_could_go_on_with_is_not_kept(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    monkeypatch.setattr("aigc_helpers.store.transfer._PAUSES", ())
    with (
        FaultyServer(LORA, always=Fault(cut_after=100, headers={"ETag": None})) as server,
        pytest.raises(ReaderError, match="broke off. It lets no download go on"),
    ):
        install_address(server.url("style.safetensors"))
    assert not list(store.rglob("*.partial"))
