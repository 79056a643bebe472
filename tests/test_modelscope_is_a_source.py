"""A repository of ModelScope is installed as one of the hub is: listed first, verified, chosen from before a byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save

from aigc_helpers.cli import main
from aigc_helpers.notebook.loopback_server import Answer, LoopbackServer, Request

BERT = save({"encoder.layer.0.attention.self.query.weight": np.zeros((8, 8), np.float32)})
MODEL = {
    "README.md": b"a model",
    "config.json": b'{"model_type": "bert"}',
    "sub/notes.txt": b"x",
    "model.safetensors": BERT,
}


class ModelScope(LoopbackServer):
    """Answers as ModelScope does: a listing, and the files of ``someone/tiny``."""

    def __init__(self, files: dict[str, bytes], status: int = 200, page: bytes | None = None) -> None:
        self.files, self.status, self.page, self.damaged = files, status, page, ""
        super().__init__()

    def answer(self, request: Request) -> Answer:
        parts = urlsplit(request.path)
        asked = parse_qs(parts.query)
        if self.page is not None:
            return Answer(self.page, headers={"Content-Type": "text/html"})
        if self.status != 200 or not parts.path.startswith("/api/v1/models/someone/tiny/repo"):
            return Answer(status=self.status if self.status != 200 else 404)
        if asked["Revision"] != ["master"]:
            return Answer(status=404)
        if parts.path.endswith("/files"):
            entries = [{"Path": "sub", "Name": "sub", "Type": "tree", "Size": 0, "Sha256": ""}]
            for name, content in self.files.items():
                entry = {"Path": name, "Name": name.rpartition("/")[2], "Type": "blob", "Size": len(content)}
                entries.append(entry | {"Sha256": hashlib.sha256(content).hexdigest()})
            return Answer(json.dumps({"Code": 200, "Data": {"Files": entries}, "Success": True}).encode())
        (name,) = asked["FilePath"]
        content = self.files[name]
        if name == self.damaged:
            content = content[:-1] + b"!"
        return Answer(content, hashlib.sha256(content).hexdigest())

    def fetched(self) -> list[str]:
        """Return the names of the files that were asked for."""
        queries = [parse_qs(urlsplit(request.path).query) for request in self.received]
        return [query["FilePath"][0] for query in queries if "FilePath" in query]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("HF_TOKEN", "hf_sEcReT")
    monkeypatch.setattr("aigc_helpers.store.hub_listing._PAUSES", ())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def served(monkeypatch: pytest.MonkeyPatch, server: ModelScope) -> ModelScope:
    monkeypatch.setattr("aigc_helpers.store.modelscope.ENDPOINT", server.address)
    return server


@pytest.mark.parametrize("source", ["modelscope:someone/tiny", "https://www.modelscope.cn/models/someone/tiny/files"])
def test_a_repository_is_installed_as_a_whole(store: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    with served(monkeypatch, ModelScope(MODEL)) as server:
        assert main(["install", source]) == 0
        folder = store / "checkpoints" / "someone--tiny"
        assert (folder / "model.safetensors").read_bytes() == BERT
        assert (folder / "config.json").is_file()
        before = len(server.fetched())
        assert main(["install", source]) == 0  # Nothing is fetched again.
        assert len(server.fetched()) == before
        assert not any("sEcReT" in str(request.headers) for request in server.received)
    assert {path.name for path in (store / "downloads").iterdir()} <= {"locks"}


@pytest.mark.parametrize(
    "source",
    [
        "modelscope:someone/tiny@master/model.safetensors",
        "https://modelscope.cn/models/someone/tiny/resolve/master/model.safetensors",
    ],
)
def test_one_file_is_installed(store: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    with served(monkeypatch, ModelScope(MODEL)) as server:
        assert main(["install", source]) == 0
        assert server.fetched() == ["model.safetensors"]
        assert main(["install", source]) == 0
        assert server.fetched() == ["model.safetensors"]
    assert (store / "checkpoints" / "model.safetensors").read_bytes() == BERT


def test_several_files_are_named_before_a_byte_and_the_command_works(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(monkeypatch, ModelScope({"a.safetensors": BERT, "b.safetensors": BERT})) as server:
        assert main(["install", "modelscope:someone/tiny"]) == 1
        message = capsys.readouterr().err
        assert "\n  modelscope:someone/tiny/b.safetensors  (" in message and server.fetched() == []
        command = message.partition("aigc ")[2].partition("\n")[0]
        assert command == "install modelscope:someone/tiny/a.safetensors"
        assert main(command.split()) == 0
    assert (store / "checkpoints" / "a.safetensors").is_file()


def test_another_file_than_the_listed_one_is_thrown_away(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(monkeypatch, ModelScope(MODEL)) as server:
        server.damaged = "model.safetensors"
        assert main(["install", "modelscope:someone/tiny"]) == 1
        assert "is not the file that was asked for: its sha256 is" in capsys.readouterr().err
    assert not (store / "checkpoints").exists()


@pytest.mark.parametrize(
    ("server", "source", "words"),
    [
        (lambda: ModelScope(MODEL), "modelscope:someone/else", "there is no such repository or revision (404). Check"),
        (lambda: ModelScope(MODEL), "modelscope:someone/tiny@v9", "there is no such repository or revision (404)"),
        (
            lambda: ModelScope(MODEL, status=403),
            "modelscope:someone/tiny",
            "private or gated (403).*/models/someone/tiny",
        ),
        (lambda: ModelScope(MODEL, page=b"<html>"), "modelscope:someone/tiny", "something else than .*a web page"),
        (lambda: ModelScope({"../a.safetensors": BERT}), "modelscope:someone/tiny", "out of its folder|outside"),
        (lambda: ModelScope(MODEL), "modelscope:tiny", "no address on the hub. They look so: modelscope:owner/name"),
        (lambda: ModelScope(MODEL), "modelscope:someone/tiny/none.bin", "has no file none.bin. It has: README.md"),
    ],
)
def test_each_fault_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server, source: str, words: str
) -> None:
    import re

    with served(monkeypatch, server()):
        assert main(["install", source]) == 1
    message = capsys.readouterr().err
    assert re.search(words.replace("(", r"\(").replace(")", r"\)"), message) and message.count("\n") == 1, message
