"""A download goes on where it stopped, across dropped connections, killed processes and runs; bytes are paid for once.

And it goes on only with the same file: a server that has another one by now gives it from its beginning.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty_server import Fault, FaultyServer

from aigc_helpers.errors import ReaderError
from aigc_helpers.store import download, transfer as module

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = random.Random(1).randbytes(280_000)
DOWNLOAD = (
    "import sys, pathlib; from aigc_helpers.store.transfer import download; "
    "download(sys.argv[1], pathlib.Path(sys.argv[2]), sha256=sys.argv[3])"
)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0))
    return tmp_path / "store"


def interrupt(url: str, target: Path, **known: str) -> None:
    """Let one run of three tries fail."""
    with pytest.raises(ReaderError, match="broke off"):
        download(url, target, **known)
    assert not target.exists()


def test_a_connection_cut_at_50_random_places_costs_no_byte_twice(tmp_path: Path) -> None:
    places = random.Random(2).sample(range(len(CONTENT)), 50)
    for place in places:
        with FaultyServer(CONTENT, Fault(cut_after=place)) as server:
            assert download(server.url(), tmp_path / "file", sha256=SHA256).read_bytes() == CONTENT
        (tmp_path / "file").unlink()
        assert server.ranges == [None, f"bytes={place}-" if place else None]
        assert server.sent == len(CONTENT)


def test_the_next_run_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    cuts = [Fault(cut_after=100_000), Fault(cut_after=0), Fault(cut_after=50_000)]
    with FaultyServer(CONTENT, *cuts) as server:
        interrupt(server.url(), tmp_path / "file")
        assert download(server.url(), tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]
    assert server.sent == len(CONTENT)


def test_last_modified_is_a_validator_too(tmp_path: Path) -> None:
    dated = {"ETag": 'W/"weak"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    with FaultyServer(CONTENT, Fault(cut_after=100_000, headers=dated)) as server:
        server.etag = dated["Last-Modified"]  # What the server compares If-Range with.
        assert download(server.url(), tmp_path / "file").read_bytes() == CONTENT
    assert server.requests[1]["If-Range"] == dated["Last-Modified"]
    assert server.sent == len(CONTENT)


def test_without_a_validator_the_file_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    with FaultyServer(CONTENT, Fault(cut_after=100_000, headers={"ETag": None})) as server:
        assert download(server.url(), tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_what_no_run_could_go_on_with_is_not_kept(tmp_path: Path, store: Path) -> None:
    with FaultyServer(CONTENT, always=Fault(cut_after=100_000, headers={"ETag": None})) as server:
        interrupt(server.url(), tmp_path / "file")
    assert not list((store / "downloads").iterdir())


@pytest.mark.parametrize(
    "fault",
    [
        Fault(content=OTHER, etag='"second"'),
        # Two that do not hold to the rules: one sends a part of another file, one sends the wrong part.
        Fault(status=206, content=OTHER, headers={"Content-Range": f"bytes 100000-279999/{len(OTHER)}"}),
        Fault(status=206, content=OTHER, headers={"Content-Range": f"bytes 5-299999/{len(CONTENT)}"}),
        Fault(status=416),
    ],
    ids=["changed", "part of another file", "wrong part", "416"],
)
def test_no_two_files_are_ever_mixed(tmp_path: Path, fault: Fault) -> None:
    with FaultyServer(CONTENT, Fault(cut_after=100_000), fault) as server:
        if fault.etag:
            server.always = Fault(content=OTHER)
        whole = download(server.url(), tmp_path / "file").read_bytes()
    assert whole == (OTHER if fault.etag else CONTENT)
    assert server.ranges[1] == "bytes=100000-"


def test_a_file_that_changes_midway_again_is_fetched_again(tmp_path: Path) -> None:
    faults = [Fault(cut_after=100_000), Fault(content=OTHER, etag='"second"', cut_after=90_000)]
    with FaultyServer(CONTENT, *faults, always=Fault(content=OTHER)) as server:
        assert download(server.url(), tmp_path / "file").read_bytes() == OTHER
    assert server.ranges == [None, "bytes=100000-", "bytes=90000-"]


def test_a_server_that_ignores_ranges_gives_the_whole_file(tmp_path: Path) -> None:
    with FaultyServer(CONTENT, Fault(cut_after=100_000), Fault(ignore_range=True)) as server:
        assert download(server.url(), tmp_path / "file", sha256=SHA256).read_bytes() == CONTENT


def test_a_slow_server_is_waited_for(tmp_path: Path) -> None:
    with FaultyServer(CONTENT[:2_000], Fault(block=20, pause=0.002)) as server:
        assert download(server.url(), tmp_path / "file").read_bytes() == CONTENT[:2_000]
    assert len(server.requests) == 1


def test_a_server_that_falls_silent_is_named_and_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.2)
    silent = Fault(block=1_000, pause=1.0)
    with FaultyServer(CONTENT, silent) as server:
        assert download(server.url(), tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]
    with FaultyServer(CONTENT, always=silent) as server, pytest.raises(ReaderError, match="sent nothing for"):
        download(server.url(), tmp_path / "other")


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with FaultyServer(CONTENT, Fault(status=503), Fault(status=429, headers={"Retry-After": "0"})) as server:
        assert download(server.url(), tmp_path / "file").read_bytes() == CONTENT


def test_a_flaky_line_is_followed_to_the_end_as_long_as_it_gives_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MUCH", 40_000)
    with FaultyServer(CONTENT, always=Fault(cut_after=50_000)) as server:
        assert download(server.url(), tmp_path / "file").read_bytes() == CONTENT
    assert len(server.requests) == 6


def test_what_had_arrived_whole_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with FaultyServer(CONTENT) as server:
        with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
            killed.setattr(module, "_verify", die)
            download(server.url(), tmp_path / "file", sha256=SHA256)
        assert download(server.url(), tmp_path / "file", sha256=SHA256).read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_killed_download_repeats_nothing(tmp_path: Path, store: Path) -> None:
    """Kill -9 twenty times, then let one run end."""
    chance = random.Random(3)
    command = [sys.executable, "-c", DOWNLOAD]
    with FaultyServer(CONTENT) as server:
        for number in range(20):
            # Every second process dies at any moment, the others when all that was sent has reached the disk.
            at_any_moment = number % 2 == 1
            arrived, length = held(store), 1_000 if at_any_moment else chance.randrange(5_000, 20_000)
            server.always = Fault(block=length, pause=600)
            process = subprocess.Popen([*command, server.url(), str(tmp_path / "file"), SHA256])
            while len(server.requests) <= number if at_any_moment else held(store) < arrived + length:
                assert process.poll() is None
                time.sleep(0.005)
            time.sleep(chance.uniform(0.0, 0.02) if at_any_moment else 0.0)
            process.kill()
            process.wait()
            assert not (tmp_path / "file").exists()
        server.always = Fault()
        assert download(server.url(), tmp_path / "file", sha256=SHA256).read_bytes() == CONTENT
    begins = [int((given or "bytes=0-")[6:-1]) for given in server.ranges]
    assert begins == sorted(begins)
    assert begins[-1] > 50_000
    # Sent twice is at most what the ten were given that died at any moment.
    assert len(CONTENT) <= server.sent <= len(CONTENT) + 10 * 1_000


def held(store: Path) -> int:
    return sum(path.stat().st_size for path in store.glob("downloads/*.partial"))


def test_eight_processes_at_once_download_it_once(tmp_path: Path) -> None:
    with FaultyServer(CONTENT, always=Fault(block=10_000, pause=0.02)) as server:
        command = [sys.executable, "-c", DOWNLOAD, server.url(), str(tmp_path / "file"), SHA256]
        running = [subprocess.Popen(command) for _ in range(8)]
        assert [process.wait() for process in running] == [0] * 8
    assert len(server.requests) == 1
    assert (tmp_path / "file").read_bytes() == CONTENT
