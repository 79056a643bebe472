"""A hub's answers are taken only in their right shape and within bounds, and the token goes to no other host."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi
from loopback_hub import COMMIT, LoopbackHub
from safetensors.numpy import save

from aigc_helpers.cli import main
from aigc_helpers.notebook.loopback_server import Answer, LoopbackServer, Request
from aigc_helpers.store import refusal_under

BERT = save({"encoder.layer.0.attention.self.query.weight": np.zeros((8, 8), np.float32)})
REPOSITORY = {"config.json": b'{"model_type": "bert"}', "model.safetensors": BERT}
INFO = json.dumps({"sha": COMMIT}).encode()
ENTRY = {"type": "file", "path": "model.safetensors", "size": 1, "oid": "0" * 40}


class Pretender(LoopbackServer):
    """Says in place of a listing whatever ``tree`` gives for the number of the page."""

    def __init__(self, tree: Callable[[int], Answer], info: bytes = INFO) -> None:
        self.tree, self.info, self.pages = tree, info, 0
        super().__init__()

    def answer(self, request: Request) -> Answer:
        if "/tree/" not in request.path:
            return Answer(self.info)
        self.pages += 1
        return self.tree(self.pages)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("HF_TOKEN", "hf_sEcReT")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("aigc_helpers.store.hub_listing._PAUSES", ())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def refusal(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str = ""
) -> str:
    """Return what is said instead of an installation, within five seconds."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    begun = time.monotonic()
    assert main(["install", source or "hub:someone/tiny"]) == 1
    assert time.monotonic() - begun < 5
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "hf_sEcReT" not in message
    return message


@pytest.mark.parametrize(
    ("info", "tree", "words"),
    [
        (
            b"<html>sign in</html>",
            b"[]",
            "(a web page). Open the address in a browser: a network may ask you to sign in",
        ),
        (b"{}", b"[]", "no commit of a repository"),
        (b'{"sha": 5}', b"[]", "no commit of a repository"),
        (b'{"sha": "../../../x"}', b"[]", "no commit of a repository"),
        (INFO, b'{"error": "x"}', "a page of the listing that is no list of files"),
        (INFO, b"[5]", "an entry of the listing without a path"),
        (INFO, b'[{"type": "file", "path": 5}]', "an entry of the listing without a path"),
        (INFO, json.dumps([ENTRY | {"size": None}]).encode(), "no size of 'model.safetensors'"),
        (INFO, json.dumps([ENTRY | {"size": -1}]).encode(), "no size of 'model.safetensors'"),
        (INFO, json.dumps([ENTRY | {"size": True}]).encode(), "no size of 'model.safetensors'"),
        (INFO, json.dumps([ENTRY | {"size": "9"}]).encode(), "no size of 'model.safetensors'"),
        (INFO, json.dumps([ENTRY | {"oid": None}]).encode(), "no hash of 'model.safetensors'"),
        (INFO, json.dumps([ENTRY | {"lfs": [1]}]).encode(), "no hash of 'model.safetensors'"),
        (INFO, json.dumps([ENTRY | {"lfs": {"oid": "x"}}]).encode(), "no hash of 'model.safetensors'"),
        (INFO, b"[" * 100_000, "nested too deeply"),
        (INFO, b'[{"size": ' + b"9" * 5_000 + b"}]", "4300 digits"),
        (INFO, b"\xff", "codec can't decode"),
    ],
)
def test_a_listing_of_the_wrong_shape_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], info: bytes, tree: bytes, words: str
) -> None:
    with Pretender(lambda _: Answer(tree), info) as server:
        assert words in (message := refusal(server, monkeypatch, capsys))
        assert "gave something else" in message


@pytest.mark.parametrize(
    ("page", "following", "asked"),
    [
        ([], "same", 2),
        ([], "other", 2),
        ([ENTRY], "same", 2),
        ([ENTRY], "other", 2),
        ([ENTRY, {"type": "directory", "path": "onnx"}], "other", 2),
        ([ENTRY | {"path": "{number}.safetensors"}], "other", 5),
    ],
)
def test_a_listing_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    page: list[dict[str, object]],
    following: str,
    asked: int,
) -> None:
    monkeypatch.setattr("aigc_helpers.store.hub_listing._MOST_PAGES", 5)

    def tree(number: int) -> Answer:
        place = f"/api/models/someone/tiny/tree/{COMMIT}?page={number if following == 'other' else 0}"
        content = json.dumps(page).replace("{number}", str(number))
        return Answer(content.encode(), headers={"Link": f'<{place}>; rel="next"'})

    with Pretender(tree) as server:
        words = "a listing without end" if page else "no list of files"
        assert words in refusal(server, monkeypatch, capsys)
        assert server.pages == asked


def test_a_listing_takes_no_longer_than_all_its_answers_may(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aigc_helpers.store.hub_listing.MOST_SECONDS", -1)
    with Pretender(lambda _: Answer(b"[]")) as server:
        assert "an answer without end" in refusal(server, monkeypatch, capsys)


def test_a_page_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("aigc_helpers.store.hub_listing._LARGEST_PAGE", 1_000_000)
    with Pretender(lambda _: Answer(b" " * 2_000_000)) as server:
        assert "an answer without end" in refusal(server, monkeypatch, capsys)


def test_another_host_continues_a_listing_without_being_told_who_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Pretender(lambda _: Answer(b"[]")) as other:
        there = f"{other.address}/tree/"
        with Pretender(lambda _: Answer(b"[]", headers={"Link": f'<{there}>; rel="next"'})) as server:
            refusal(server, monkeypatch, capsys)
    assert [request.headers["Authorization"] for request in server.received] == ["Bearer hf_sEcReT"] * 2
    assert [request.headers["Authorization"] for request in other.received] == [None]


def test_no_link_of_a_file_makes_another_host_see_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Link: rel="xet-auth"`` names where huggingface_hub would ask for a second token, with the first."""

    class Hub(LoopbackHub):
        def answer(self, request: Request) -> Answer:
            answer = super().answer(request)
            link = {"X-Xet-Hash": "0" * 64, "Link": f'<{other.address}/auth>; rel="xet-auth"'}
            return Answer(answer.content, answer.tag, answer.status, {**answer.headers, **link})

    with Pretender(lambda _: Answer(b"[]")) as other, Hub(REPOSITORY) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny"]) == 0
        assert other.received == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_names_the_page_to_accept(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if status == 401:
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "none")
    with Pretender(lambda _: Answer(status=status, headers={"X-Error-Code": "GatedRepo"})) as server:
        message = refusal(server, monkeypatch, capsys)
    assert f"it is gated ({status}). Accept its licence at {server.address}/someone/tiny" in message


@pytest.mark.parametrize("name", ["someone/tiny", "tiny"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_another_library_makes_of_a_refusal_is_told_with_what_to_do(
    name: str, wrapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "none")
    with Pretender(lambda _: Answer(), INFO) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        monkeypatch.setattr(server, "answer", lambda _: Answer(status=401, headers={"X-Error-Code": "GatedRepo"}))
        with pytest.raises(OSError) as raised:
            try:
                HfApi(endpoint=server.address).model_info(name)
            except OSError:
                if wrapped:
                    raise OSError("cannot load the model") from None
                raise
    page = f"{server.address}/{name}"
    assert refusal_under(raised.value) == (
        f"the hub did not give {name}: it is gated (401). Accept its licence at {page}, and sign in: hf auth login, or "
        "HF_TOKEN"
    )


def test_an_endpoint_without_its_scheme_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "hub.example.org")
    assert main(["install", "hub:someone/tiny"]) == 1
    assert "Write HF_ENDPOINT=https://hub.example.org" in (message := capsys.readouterr().err)
    assert message.count("\n") == 1


def test_a_name_that_some_system_cannot_store_is_left_out_and_said(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ["runs/Llama3.1:bf16-mp8.txt", "aux.json", "what?.md", "ends with a dot."]
    with LoopbackHub(REPOSITORY | dict.fromkeys(bad, b"log")) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny"]) == 0
        said = capsys.readouterr().out
        assert main(["install", f"hub:someone/tiny/{bad[0]}"]) == 1
        assert "is no name on some system" in capsys.readouterr().err
    assert f"Left out, for it is no name on some system: {', '.join(map(repr, bad))}." in said
    assert {path.name for path in (store / "checkpoints" / "someone--tiny").iterdir()} == set(REPOSITORY)


def test_a_program_that_reads_single_files_is_told_which_there_are(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models" / "Stable-diffusion").mkdir(parents=True)
    with LoopbackHub({"lcm/a.safetensors": BERT, "b.safetensors": BERT, "README.md": b""}) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny", "--layout", "a1111", "--to", "."]) == 1
        assert not hub.fetched
    message = capsys.readouterr().err
    assert "reads single files" in message and "\n  hub:someone/tiny/lcm/a.safetensors  (0.0 MB)\n" in message


@pytest.mark.parametrize("token", [None, "hf_without_access"])
@pytest.mark.parametrize("source", ["hub:someone/tiny", "hub:someone/tiny/model.safetensors"])
def test_a_gated_repository_whose_list_is_open_names_the_page_to_accept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Path, source: str, token: str | None
) -> None:
    # As huggingface.co does it: everybody may see the list, and the files are for those who accepted.
    class Gated(LoopbackHub):
        def answer(self, request: Request) -> Answer:
            if "/resolve/" not in request.path or request.headers.get("Authorization") == "Bearer hf_mine":
                return super().answer(request)
            status = 403 if request.headers.get("Authorization") else 401
            return Answer(status=status, headers={"X-Error-Code": "GatedRepo"})

    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "none")
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with Gated(REPOSITORY, large={"model.safetensors"}) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", source]) == 1
        message = capsys.readouterr().err
        assert f"it is gated ({403 if token else 401}). Accept its licence at {hub.address}/someone/tiny" in message
        assert "hf auth login" in message and message.count("\n") == 1 and not (store / "checkpoints").exists()
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        assert main(["install", source]) == 0
