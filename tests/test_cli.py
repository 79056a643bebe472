"""The command line is read by people and by programs: wrong names get the nearest, statuses mean what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from email.message import Message

import pytest

from aigc_helpers.cli import main
from aigc_helpers.paths import REPOSITORY


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aigc_helpers.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["isntall", "bert"], "there is no command 'isntall'. Valid: install"),
        (["install", "brt"], "there is no asset 'brt'. Valid: bert"),
        (["install", "bert", "--profile", "ful"], "there is no profile 'ful'. Valid: full"),
        (["run", "77"], "there is no chapter '77'. Valid: 0"),
        (["run", "05_lora_on_brt"], "there is no chapter '05_lora_on_brt'. Valid: 05_lora_on_bert"),
        (["pretrain", "review"], "there is no builder 'review'. Valid: reviews"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_an_unknown_profile_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    finished = run("install", "reviews", env={**os.environ, "AIGC_PROFILE": "embeded"})
    assert finished.returncode == 2
    assert "there is no profile 'embeded'. Valid: embedded, full." in finished.stderr


def test_the_catalog_lists_every_source_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog"]) == 0
    text = capsys.readouterr().out
    assert main(["catalog", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {("bert", "embedded"), ("bert", "full"), ("reviews", "any")} <= {
        (row["name"], row["profile"]) for row in rows
    }
    for row in rows:
        assert row["title"] in text and row["licence"] in text


def test_install_of_a_shipped_asset_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "reviews", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"].endswith("reviews")


def test_a_reader_that_closes_the_pipe_gets_a_status_and_no_traceback() -> None:
    # The child waits for the pipe to be closed, so that its first write meets no reader.
    program = (
        "import sys, time; time.sleep(1); from aigc_helpers.cli import main; sys.exit(main(['catalog', '--json']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    complaint = process.stderr.read()
    assert process.wait() == 1
    assert "stopped reading before the end" in complaint
    assert "Traceback" not in complaint


def test_doctor_as_json_counts_its_checks() -> None:
    finished = run("doctor", "--json")
    report = json.loads(finished.stdout)
    assert sum(report["summary"].values()) == len(report["checks"])
    assert finished.returncode == (1 if report["summary"]["fail"] else 0)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")
def test_lab_prints_an_address_that_opens_chapter_00() -> None:
    command = [sys.executable, "-m", "aigc_helpers.cli", "lab", "--no-browser"]
    # A session of its own, so that the server ends together with the command that started it.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))
    deadline.start()
    try:
        address = next((line for line in process.stderr if "http://" in line), "no address was printed")
        assert "/lab/tree/chapters/00_start_here.ipynb?token=" in address
        # Nobody is asked whether she wants news.
        assert '"@jupyterlab/apputils-extension:announcements"' in page_of(address.split()[-1], process)
    finally:
        deadline.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def page_of(address: str, server: subprocess.Popen[str]) -> str:
    """Return what a server answers; it prints its address before it listens."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(address) as page:
                return page.read().decode()
        except urllib.error.URLError:
            time.sleep(0.2)
    raise AssertionError("the server ended")


def test_the_version_stands_in_one_place(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stated = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert version_printed(capsys) == f"aigc {stated}\n"
    # Installed from a wheel there is no pyproject.toml, and the distribution's metadata say it.
    monkeypatch.setattr("aigc_helpers.project.find_checkout", lambda: None)
    metadata = Message()
    metadata["Version"] = "9.8.7"
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: metadata)
    assert version_printed(capsys) == "aigc 9.8.7\n"


def version_printed(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert not left.value.code
    return capsys.readouterr().out


def test_no_command_is_wrong_usage() -> None:
    finished = run()
    assert finished.returncode == 2
    assert "usage: aigc" in finished.stderr
