"""Passwords and tokens of an address are printed in no message, and no other host is told them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faulty_server import Fault, FaultyServer

from aigc_helpers.cli import main
from aigc_helpers.store.http_faults import connection_fault, shown, without_secrets


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    monkeypatch.setattr("aigc_helpers.store.transfer._PAUSES", ())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


@pytest.mark.parametrize(
    "address",
    [
        "http://user:sEcReT@127.0.0.1:99999/f.safetensors?token=tOkEn",
        "http://user:sEcReT@127.0.0.1:port/f.safetensors?token=tOkEn",
        "http://user:sEcReT@/f?token=tOkEn",
        "http:///user:sEcReT@x?token=tOkEn",
        "http://user:sEcReT@[::1/f?token=tOkEn",
        "http://user:sEcReT@" + "a" * 70 + ".invalid/x?token=tOkEn",
        "http://user:sEcReT@127.0.0.1:9/f.safetensors?token=tOkEn#sEcReT",
        "ftp://user:sEcReT@127.0.0.1/f.safetensors?token=tOkEn",
        "htps://user:sEcReT@127.0.0.1/f.safetensors?token=tOkEn",
        "hub:https://user:sEcReT@127.0.0.1/f?token=tOkEn",
    ],
)
@pytest.mark.parametrize("json_too", [False, True])
def test_an_address_that_leads_nowhere_is_refused_without_its_secrets(
    address: str, json_too: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", address, *(["--json"] if json_too else [])]) in (1, 2)
    said = "".join(capsys.readouterr())
    assert "sEcReT" not in said and "tOkEn" not in said and said.count("\n") == 1 + json_too


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=302, headers={"Location": "http://[::1"}), "is no address, or leads to none"),
        (Fault(status=302, headers={"Location": "http://" + "a" * 70 + ".invalid/x"}), "is no address"),
        (Fault(status=302, headers={"Location": "http://x:99999/"}), "is no address"),
        (Fault(status=302, headers={"Location": "gopher://x/"}), "is no address"),
        (Fault(status=401), "wants to know who asks (401)"),
        (Fault(content=b"<!DOCTYPE html>Sign in"), "a web page"),
        (Fault(headers={"Content-Type": "text/html"}), "a web page"),
        (Fault(cut_after=3), "broke off"),
    ],
)
def test_no_fault_of_a_server_prints_the_token(fault: Fault, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyServer(b"0123456789", always=fault) as server:
        address = server.url("f.safetensors?token=tOkEn").replace("//", "//user:sEcReT@")
        assert main(["install", address, "--json"]) == 1
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1
    assert json.loads(captured.out)["source"].endswith("/f.safetensors?…")
    assert not any(secret in text for secret in ("tOkEn", "sEcReT") for text in captured)


def test_a_certificate_that_is_refused_is_told_in_the_systems_words() -> None:
    import ssl

    import requests
    import urllib3

    pool = urllib3.HTTPSConnectionPool("example.org", 443)
    reason = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed"))
    retries = urllib3.exceptions.MaxRetryError(pool, "/f?token=tOkEn", reason)
    said = str(connection_fault("https://example.org/f?token=tOkEn", requests.exceptions.SSLError(retries)))
    assert "certificate verify failed" in said and "tOkEn" not in said


def test_a_redirect_to_another_host_takes_no_password_along(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyServer(b"0123456789") as other:
        there = other.url("f.safetensors", host="localhost")
        with FaultyServer(b"", Fault(status=302, headers={"Location": there})) as server:
            main(["install", server.url("f.safetensors").replace("//", "//user:sEcReT@")])
    assert server.requests[0]["Authorization"] and other.requests
    assert not any("Authorization" in headers for headers in other.requests)


def test_what_may_be_printed_of_an_address() -> None:
    assert shown("https://u:p@example.org:8/a/b.ckpt?token=t#f") == "https://example.org:8/a/b.ckpt?…"
    assert shown("https://[::1") == "https://…"
    assert without_secrets("see 'https://u:p@x/y?t=1'!") == "see 'https://x/y?…'!"


@pytest.mark.parametrize("source", ["http://example.org/f.safetensors", "hub:someone/tiny"])
def test_a_socks_proxy_without_its_package_is_told(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    import huggingface_hub

    for package in ("socks", "socksio"):
        monkeypatch.setitem(sys.modules, package, None)
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "socks5h://user:sEcReT@127.0.0.1:9")
        monkeypatch.setenv(variable.lower(), "socks5h://user:sEcReT@127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    assert main(["install", source]) == 1
    said = capsys.readouterr().err
    assert "a SOCKS proxy" in said and "pip install PySocks socksio" in said and "sEcReT" not in said


def test_a_proxy_that_is_no_address_is_not_taken_for_the_address_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "sEcReT:")
    assert main(["install", "http://example.org/f.safetensors"]) == 1
    said = capsys.readouterr().err
    assert "is no address of a proxy" in said and "sEcReT" not in said
