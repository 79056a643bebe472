"""Whatever a server, a network or a disk does: the exact file is in place or nothing is, and the message says why."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_server import Fault, FaultyServer

from aigc_helpers.errors import ReaderError
from aigc_helpers.store import download, transfer as module

CONTENT = random.Random(0).randbytes(20_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FLIPPED = CONTENT[:7_000] + bytes([CONTENT[7_000] ^ 1]) + CONTENT[7_001:]
KNOWN = {"sha256": SHA256, "size": len(CONTENT)}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    monkeypatch.setattr(module, "_PAUSES", (0.0,))
    return tmp_path / "store"


def refused(url: str, folder: Path, **known: object) -> str:
    """Download in vain; return the message. An older file must stay as it was."""
    with pytest.raises(ReaderError) as caught:
        download(url, folder / "file", **known)
    assert not (folder / "file").exists()
    (folder / "file").write_bytes(b"an older file")
    with pytest.raises(ReaderError):
        download(url, folder / "file", **known)
    assert (folder / "file").read_bytes() == b"an older file"
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["file"]
    (folder / "file").unlink()
    return str(caught.value)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"wants to know who asks \(401\).*hf auth login"),
        (403, r"does not give you this file \(403\).*licence"),
        (404, r"has no such file \(404\)"),
        (429, r"fewer requests \(429\).*the next try goes on"),
        (500, r"a fault of its own \(500\)"),
        (418, "answered with status 418"),
    ],
)
def test_a_refusing_server_is_explained(tmp_path: Path, status: int, words: str) -> None:
    with FaultyServer(CONTENT, always=Fault(status=status)) as server:
        message = refused(server.url(), tmp_path, **KNOWN)
    assert re.search(words, message), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("fault", "known", "words"),
    [
        (Fault(content=FLIPPED), KNOWN, hashlib.sha256(FLIPPED).hexdigest()),
        (Fault(content=CONTENT[:-1]), KNOWN, "has 19,999 bytes, expected 20,000"),
        (Fault(content=CONTENT + b"more"), KNOWN, "has 20,004 bytes, expected 20,000"),
        (Fault(content=CONTENT + b"more", headers={"Content-Length": None}), KNOWN, "more than 20,000 bytes"),
        (Fault(content=CONTENT[:-1], headers={"Content-Length": None}), KNOWN, "it has 19,999 bytes, expected 20,000"),
        (Fault(content=b"<!DOCTYPE html><p>Sign in"), {}, "is a web page, not a file"),
        (Fault(content=b"Sign in", headers={"Content-Type": "text/html; charset=utf-8"}), {}, "is a web page"),
        (Fault(cut_after=1_000, ignore_range=True), {}, "broke off"),
        (Fault(status=206, headers={"Content-Range": "bytes 5-9/10"}), {}, "is another file than before"),
    ],
    ids=range(9),
)
def test_another_file_is_thrown_away(tmp_path: Path, fault: Fault, known: dict[str, object], words: str) -> None:
    with FaultyServer(CONTENT, always=fault) as server:
        assert words in refused(server.url(), tmp_path, **known)


def test_after_a_wrong_file_the_right_one_is_fetched_whole(tmp_path: Path) -> None:
    with FaultyServer(CONTENT, Fault(content=FLIPPED)) as server:
        with pytest.raises(ReaderError, match="thrown away"):
            download(server.url(), tmp_path / "file", **KNOWN)
        assert download(server.url(), tmp_path / "file", **KNOWN).read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_nobody_there_is_said(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}/file.bin"
        assert "refused the connection" in refused(closed, tmp_path)
    assert "cannot be found" in refused("http://no-such-host.invalid/file.bin", tmp_path)


def test_a_redirect_is_followed_and_another_host_gets_no_password(tmp_path: Path) -> None:
    with FaultyServer(CONTENT) as other, FaultyServer(CONTENT) as server:
        away = {"Location": other.url(host="localhost")}
        server.always = Fault(status=302, headers=away)
        path = download(server.url(), tmp_path / "file", headers={"Authorization": "Bearer secret"}, **KNOWN)
    assert path.read_bytes() == CONTENT
    assert server.requests[0]["Authorization"] == "Bearer secret"
    assert "Authorization" not in other.requests[0]


@pytest.mark.parametrize(
    ("location", "words"), [("/file.bin", "redirects in a circle"), ("file:///etc/hostname", "is no address")]
)
def test_a_redirect_to_nowhere_is_said(tmp_path: Path, location: str, words: str) -> None:
    with FaultyServer(CONTENT, always=Fault(status=302, headers={"Location": location})) as server:
        assert words in refused(server.url(), tmp_path)


def test_no_message_and_no_note_holds_a_token(tmp_path: Path, store: Path) -> None:
    with FaultyServer(CONTENT, Fault(cut_after=5_000), Fault(status=404)) as server:
        url = server.url("file.bin?token=secret").replace("127.0.0.1", "user:password@127.0.0.1")
        with pytest.raises(ReaderError) as caught:
            download(url, tmp_path / "file")
    kept = [path for path in store.rglob("*") if path.is_file()]
    assert any(path.stat().st_size == 5_000 for path in kept)
    for text in (str(caught.value), *(str(path) for path in kept), *(path.read_text("latin-1") for path in kept)):
        assert "secret" not in text and "password" not in text


@pytest.mark.parametrize("name", ["../up.bin", "/etc/up.bin", "..\\up.bin", "a/b.bin", "up\x01.bin", "..", "up. "])
def test_a_name_from_a_server_leads_nowhere(tmp_path: Path, name: str) -> None:
    quoted = name.replace("\\", "\\\\")
    headers = {"Content-Disposition": f'attachment; filename="{quoted}"'}
    (tmp_path / "folder").mkdir()
    with FaultyServer(CONTENT, always=Fault(headers=headers)) as server, pytest.raises(ReaderError, match="names a fi"):
        download(server.url(), tmp_path / "folder")
    assert {path.name for path in tmp_path.rglob("*") if path.is_dir()} == {"folder", "store", "downloads", "locks"}
    assert list((tmp_path / "folder").iterdir()) == []


def test_the_server_may_name_the_file(tmp_path: Path) -> None:
    with FaultyServer(
        CONTENT, Fault(headers={"Content-Disposition": "attachment; filename*=UTF-8''%E8%99%8E.bin"})
    ) as server:
        assert download(server.url("api/download/7"), tmp_path) == tmp_path / "虎.bin"
        assert download(server.url("some/model.bin?version=7"), tmp_path) == tmp_path / "model.bin"


def test_a_full_disk_is_said_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1_000}))
    with FaultyServer(CONTENT) as server:
        assert "Free some space" in refused(server.url(), tmp_path)
    assert server.sent <= len(CONTENT) * len(server.requests)


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_a_disk_that_fills_up_on_the_way_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    class FullDisk(io.FileIO):
        def write(self, block: bytes) -> int:
            if self.tell() >= 10_000:
                raise OSError(number, os.strerror(number))
            return super().write(block[:1_000])

    real = Path.open

    def opened(self: Path, mode: str = "r", *rest: object, **options: object) -> object:
        if self.suffix != ".partial":
            return real(self, mode, *rest, **options)
        return io.BufferedWriter(FullDisk(str(self), "ab"), 1_000)

    with FaultyServer(CONTENT) as server:
        with monkeypatch.context() as full:
            full.setattr(Path, "open", opened)
            assert words in refused(server.url(), tmp_path)
        assert download(server.url(), tmp_path / "file", sha256=SHA256).read_bytes() == CONTENT
    assert 10_000 <= int(str(server.ranges[-1])[6:-1]) < len(CONTENT)


@pytest.mark.skipif(os.name == "nt", reason="limits of a process are POSIX")
def test_a_quota_is_said_and_the_rest_is_fetched_when_there_is_room(tmp_path: Path) -> None:
    program = (
        "import resource, sys, pathlib; from aigc_helpers.store.transfer import download\n"
        "from aigc_helpers.errors import ReaderError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))\n"
        "try: download(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "except ReaderError as error: print(error)\n"
    )
    with FaultyServer(CONTENT) as server:
        command = [sys.executable, "-c", program, server.url(), str(tmp_path / "file")]
        finished = subprocess.run(command, capture_output=True, text=True)
        assert "free some space" in finished.stdout, finished.stderr
        assert not (tmp_path / "file").exists()
        assert download(server.url(), tmp_path / "file", sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=8000-"]
