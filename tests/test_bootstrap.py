"""workbook.py meets a reader before anything else does: it must explain an unfit Python and survive an interruption."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from aigc_helpers.paths import REPOSITORY


@pytest.fixture
def workbook(tmp_path: Path) -> types.ModuleType:
    """Return workbook.py as a module whose environment is not there yet; its Python is the one that runs the tests."""
    specification = importlib.util.spec_from_file_location("workbook", REPOSITORY / "workbook.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.ENVIRONMENT = str(tmp_path / ".venv")
    module.STAMP = str(tmp_path / ".venv" / "installed.json")
    module.PYTHON = sys.executable
    module.LOG = str(tmp_path / "setup.log")
    return module


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse((REPOSITORY / "workbook.py").read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_an_old_python_can_read_it() -> None:
    source = (REPOSITORY / "workbook.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    assert "from __future__ import annotations" not in source


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 14, 0), (2, 7, 18)])
def test_an_unfit_python_is_told_so_in_both_languages(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(workbook.sys, "version_info", version)
    with pytest.raises(SystemExit) as caught:
        workbook.refuse_unfit_python()
    assert f"Python {version[0]}.{version[1]}" in str(caught.value)
    assert "请安装" in str(caught.value)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 5), (3, 13, 1)])
def test_a_fit_python_passes(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(workbook.sys, "version_info", version)
    workbook.refuse_unfit_python()


def test_a_half_installed_package_is_forgotten_and_a_whole_one_kept(workbook: types.ModuleType, tmp_path: Path) -> None:
    packages = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    for name, record in (("whole-1.0.dist-info", True), ("half-2.0.dist-info", False)):
        (packages / name).mkdir(parents=True)
        (packages / name / "METADATA").touch()
        if record:
            (packages / name / "RECORD").touch()
    workbook.remove_half_installed()
    assert [path.name for path in packages.iterdir()] == ["whole-1.0.dist-info"]


def test_the_stamp_belongs_to_one_state_of_the_pins(workbook: types.ModuleType) -> None:
    stamp = Path(workbook.STAMP)
    assert not workbook.is_installed(["book"])
    stamp.parent.mkdir(parents=True)
    stamp.write_text(json.dumps({"fingerprint": workbook.fingerprint(), "extras": ["book"]}), encoding="utf-8")
    assert workbook.is_installed(["book"])
    assert not workbook.is_installed(["book", "test"])
    stamp.write_text(json.dumps({"fingerprint": "of another day", "extras": ["book"]}), encoding="utf-8")
    assert not workbook.is_installed(["book"])
    for garbage in ('{"finger', "[]", "7", "null", "{}", json.dumps({"fingerprint": workbook.fingerprint()})):
        stamp.write_text(garbage, encoding="utf-8")
        assert not workbook.is_installed(["book"])
    stamp.write_text(json.dumps({"fingerprint": workbook.fingerprint(), "extras": [["book"], 7]}), encoding="utf-8")
    assert not workbook.is_installed(["book"])


def test_a_stamp_without_its_python_or_of_a_moved_folder_does_not_count(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stamp = Path(workbook.STAMP)
    stamp.parent.mkdir(parents=True)
    stamp.write_text(json.dumps({"fingerprint": workbook.fingerprint(), "extras": ["book"]}), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(workbook, "PYTHON", str(tmp_path / "removed" / "python"))
        assert not workbook.is_installed(["book"])
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    monkeypatch.setattr(workbook, "ROOT", str(tmp_path))
    assert not workbook.is_installed(["book"])


def test_only_an_environment_of_the_running_version_is_used(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert workbook.is_usable()
    monkeypatch.setattr(workbook.sys, "version_info", (3, 99, 0))
    assert not workbook.is_usable()
    workbook.PYTHON = str(tmp_path / "nowhere" / "python")
    assert not workbook.is_usable()


@pytest.fixture
def set_up_without_packages(workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let set_up only note what it would do; the list is that of its notes."""
    notes: list[str] = []
    monkeypatch.setattr(workbook, "make_environment", lambda: notes.append("made anew"))
    monkeypatch.setattr(workbook, "install_packages", lambda extras: notes.append(f"packages: {extras}"))
    monkeypatch.setattr(workbook, "install_models", lambda: notes.append("models"))
    Path(workbook.ENVIRONMENT).mkdir()
    return notes


def test_a_set_up_keeps_an_environment_of_its_own_version_and_replaces_that_of_another(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, set_up_without_packages: list[str]
) -> None:
    workbook.set_up(["book"])
    assert set_up_without_packages == ["packages: ['book']", "models"]
    assert workbook.is_installed(["book"])
    monkeypatch.setattr(workbook.sys, "version_info", (3, 99, 0))
    set_up_without_packages.clear()
    workbook.set_up(["book"])
    assert set_up_without_packages == ["made anew", "packages: ['book']", "models"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied", "/x/.venv"), "cannot read or write /x/.venv: Permission denied."),
        (OSError(28, "No space left on device"), "No space left on device. "),
        (shutil.Error("a folder could not be removed"), "a folder could not be removed. "),
    ],
)
def test_a_full_disk_or_a_folder_that_cannot_be_written_ends_in_a_sentence(
    workbook: types.ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    set_up_without_packages: list[str],
    error: OSError,
    expected: str,
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(workbook, "remove_half_installed", fail)
    with pytest.raises(SystemExit) as caught:
        workbook.set_up(["book"])
    assert expected in str(caught.value)
    assert "GB are free" in str(caught.value)
    assert not set_up_without_packages
    assert not workbook.is_installed(["book"])


@pytest.mark.slow
def test_the_environment_is_made_anew_with_pip(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left = tmp_path / ".venv" / "lib" / "python3.99" / "of_another_version.py"
    left.parent.mkdir(parents=True)
    left.touch()
    folder, program = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    monkeypatch.setattr(workbook, "PYTHON", str(tmp_path / ".venv" / folder / program))
    workbook.make_environment()
    assert workbook.is_usable()
    assert not left.exists()


def test_an_environment_that_cannot_be_made_ends_in_a_sentence(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A name that Python's venv refuses.
    monkeypatch.setattr(workbook, "ENVIRONMENT", str(tmp_path / f"a{os.pathsep}b" / ".venv"))
    with pytest.raises(SystemExit) as caught:
        workbook.make_environment()
    assert "    Error: Refusing to create a venv" in str(caught.value)
    assert f"sudo apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in str(caught.value)
    assert "Traceback" not in str(caught.value)


COLLECTING = """\
Obtaining file:///book
  Installing build dependencies: started
Collecting torch<3,>=2.10 (from aigc-workbook==0.1.0)
  Downloading torch-2.13.0%2Bcpu-cp312-cp312-linux_x86_64.whl.metadata (30 kB)
Requirement already satisfied: numpy<3,>=2.0 in ./.venv/lib/python3.12/site-packages (from aigc-workbook==0.1.0) (2.4)
Collecting torch (from peft)
"""
DOWNLOADING = "  Downloading https://127.0.0.1/cpu/torch-2.13.0%2Bcpu-cp312-cp312-linux_x86_64.whl (180.5 MB)\n"
PROCESSING = "Processing c:\\wheels\\zipp-4.1.2-py3-none-any.whl (from importlib_metadata)\n"
INSTALLING = "Installing collected packages: zipp, torch, aigc-workbook\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", ("fetching packages", "0 found")),
        (COLLECTING, ("fetching packages", "2 found")),
        (COLLECTING + DOWNLOADING, ("fetching packages", "2 found · torch 2.13.0+cpu (180.5 MB)")),
        (COLLECTING + DOWNLOADING + PROCESSING, ("fetching packages", "2 found · zipp 4.1.2")),
        (COLLECTING + DOWNLOADING + INSTALLING, ("installing packages", "1 of 3")),
    ],
)
def test_pips_lines_become_a_few_words(workbook: types.ModuleType, said: str, expected: tuple[str, str]) -> None:
    assert workbook.progress_of_pip(said, 1) == expected


def test_installed_packages_are_counted_by_what_was_written(workbook: types.ModuleType, tmp_path: Path) -> None:
    packages = tmp_path / ".venv" / "Lib" / "site-packages"
    for name in ("pip", "renewed", "half"):
        (packages / f"{name}-1.0.dist-info").mkdir(parents=True)
    for name in ("pip", "renewed"):
        (packages / f"{name}-1.0.dist-info" / "RECORD").touch()
    before = workbook.installed()
    assert len(before) == 2
    os.utime(packages / "renewed-1.0.dist-info" / "RECORD", (1, 1))
    (packages / "half-1.0.dist-info" / "RECORD").touch()
    assert len(workbook.installed() - before) == 2


TALKATIVE = """\
import sys, time
for number in range(300):
    print(f"Collecting package{number} (from book)", file=sys.stderr if number % 2 else sys.stdout, flush=True)
time.sleep(1.2)
raise OSError("the last line")
"""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_talkative_command_fills_the_log_and_one_line_on_screen(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr(workbook.sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    command = [sys.executable, "-c", TALKATIVE]
    assert workbook.follow(command, lambda said: workbook.progress_of_pip(said, 0)) == 1
    assert len(workbook.text_of_log().splitlines()) > 300
    assert workbook.tail_of_log().endswith("(from book)\n    OSError: the last line")
    assert len(workbook.tail_of_log().splitlines()) == 15
    if terminal:
        assert "\n" not in screen.getvalue()
        assert "fetching packages … 300" in screen.getvalue()
        assert max(len(line) for line in screen.getvalue().split("\r")) == 39
        assert screen.getvalue().endswith("\r")
    else:
        assert 1 <= len(screen.getvalue().splitlines()) <= 2


def test_a_failing_pip_shows_its_last_lines_the_log_and_what_to_do(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "in_environment", lambda *arguments: [sys.executable, "-c", TALKATIVE])
    with pytest.raises(SystemExit) as caught:
        workbook.install_packages(["book"])
    message = str(caught.value)
    assert "    OSError: the last line\nworkbook: pip could not install" in message
    assert workbook.LOG in message
    assert "doctor" in message
    assert "再运行同一条命令" in message
    with pytest.raises(SystemExit, match="a model is missing"):
        workbook.install_models()


def test_the_set_up_runs_no_file_of_the_working_folder(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pip.py").write_text("print('not pip')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    answer = subprocess.check_output(workbook.in_environment("pip", "--version"), text=True)
    assert answer.startswith("pip ")


@pytest.mark.skipif(os.name == "nt", reason="there a console, not a signal, carries Ctrl-C")
def test_ctrl_c_in_the_set_up_stops_pip_and_says_so_in_one_sentence(tmp_path: Path) -> None:
    for name in ("workbook.py", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    # A pip that goes on for a minute, and takes its time over an interruption.
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    version = "{}.{}".format(*sys.version_info[:2])
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *--version) echo "pip 1 (python {version})"; exit;; esac\n'
        f"trap 'sleep 0.5; touch {tmp_path}/tidied; exit 2' INT\n"
        f"touch {tmp_path}/started\nfor second in $(seq 600); do sleep 0.1; done\n",
        encoding="utf-8",
    )
    python.chmod(0o755)
    # Tests that a shell runs in the background ignore SIGINT, and so would every process below them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "workbook.py", "run"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.stdout is not None
    next(line for line in process.stdout if re.match(r"workbook: \d+:\d\d ", line))  # So it waits for pip by now.
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to every process in the foreground.
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("workbook: stopped.")
    assert len(errors.splitlines()) == 2  # One in each language.
    assert (tmp_path / "tidied").exists()


@pytest.mark.skipif(os.name == "nt", reason="there a console, not a signal, carries Ctrl-C")
def test_ctrl_c_in_a_command_waits_for_what_it_still_has_to_say(tmp_path: Path) -> None:
    # A command that prints its closing table two seconds after the interruption, as a run does that ends its kernels.
    command = """
import pathlib, sys, time
pathlib.Path("started").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(2)
    print("the closing table")
    sys.exit(130)
"""
    workbook = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import workbook; workbook.ROOT = {str(tmp_path)!r}"
    )
    program = f"{workbook}; sys.exit(workbook.run_in(sys.executable, '-c', {command!r}))"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "the closing table\n")


def git(folder: Path, *arguments: str, at: int = 0) -> None:
    dates = {"GIT_AUTHOR_DATE": f"@{at} +0000", "GIT_COMMITTER_DATE": f"@{at} +0000"}
    named = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run([*named, *arguments], cwd=folder, check=True, env=os.environ | dates, capture_output=True)


@pytest.fixture
def sources(workbook: types.ModuleType, tmp_path: Path) -> Path:
    """Return a folder of chapters' sources in a little repository; 03 was committed last, but written first."""
    folder = tmp_path / "chapters" / "source"
    folder.mkdir(parents=True)
    workbook.SOURCES = str(folder)
    git(tmp_path, "init", "-q")
    for second, number in enumerate(("00", "05", "07", "10", "03", "04")):
        path = folder / f"{number}_chapter.py"
        path.write_text(number, encoding="utf-8")
        os.utime(path, (1000 - second, 1000 - second))
        if number != "04":
            git(tmp_path, "add", "-A")
            git(tmp_path, "commit", "-q", "-m", number, at=2000 + second)
    (folder / "04_chapter.py").unlink()
    (folder / "notes.py").touch()
    return folder


def test_the_chapter_changed_last_is_the_one_committed_last(workbook: types.ModuleType, sources: Path) -> None:
    assert workbook.chapter_changed_last() == "03"
    for number in ("00", "05", "07"):
        (sources / f"{number}_chapter.py").write_text("changed", encoding="utf-8")
    git(sources, "commit", "-q", "-a", "-m", "of equals the highest", at=3000)
    assert workbook.chapter_changed_last() == "07"
    for number in ("00", "10"):  # Run in any case: the third is another one.
        (sources / f"{number}_chapter.py").write_text("changed again", encoding="utf-8")
    git(sources, "commit", "-q", "-a", "-m", "of those run anyway", at=4000)
    assert workbook.chapter_changed_last() == "07"


def test_without_git_it_is_the_one_written_last(
    workbook: types.ModuleType, monkeypatch: pytest.MonkeyPatch, sources: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    assert workbook.chapter_changed_last() == "05"


CHECKS = ["ruff check", "ruff format --check", "mypy"]


@pytest.mark.parametrize(
    ("arguments", "failing", "status", "parts"),
    [
        ([], None, 0, [*CHECKS, "pytest", "workbook.py run 00 10 07"]),
        ([], "workbook.py", 4, [*CHECKS, "pytest", "workbook.py run 00 10 07"]),
        ([], "pytest", 4, [*CHECKS, "pytest"]),
        ([], "mypy", 4, CHECKS),
        ([], "ruff check", 4, CHECKS[:1]),
        (["-k", "x"], None, 0, [*CHECKS, "pytest"]),
    ],
)
def test_test_ends_with_the_main_command_on_three_chapters(
    workbook: types.ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    failing: str | None,
    status: int,
    parts: list[str],
) -> None:
    ran = []

    def run_in(*command: str) -> int:
        ran.append(" ".join(command).removeprefix(sys.executable).removeprefix(" -P -m").strip())
        return 4 if failing and ran[-1].startswith(failing) else 0

    monkeypatch.setattr(workbook, "run_in", run_in)
    monkeypatch.setattr(workbook, "chapter_changed_last", lambda: "07")
    monkeypatch.setattr(workbook, "is_installed", lambda extras: True)
    assert workbook.main(["test", *arguments]) == status
    assert len(ran) == len(parts)
    assert all(command.startswith(part) for command, part in zip(ran, parts, strict=True))
    assert ("python workbook.py run 00 10 07" in capsys.readouterr().out) == (len(parts) == 5)


def test_without_arguments_it_says_what_it_can_do() -> None:
    finished = subprocess.run([sys.executable, "workbook.py"], cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 2
    for command in ("run", "lab", "test", "doctor"):
        assert f"python workbook.py {command}" in finished.stdout


def test_every_dependency_is_pinned_inside_its_range() -> None:
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["book"], *extras["test"]]:
        requirement = Requirement(text)
        pin = pins.get(requirement.name.lower().replace("_", "-"))
        assert pin, f"{requirement.name} has no pin in constraints.txt"
        assert pin in requirement.specifier, f"{requirement.name}=={pin} is outside {requirement.specifier}"


# Colab's image of 2026-08-19: the ranges must admit it, or the set-up cell would replace what a live kernel uses.
COLAB = {
    "torch": "2.11.0",
    "transformers": "5.15.0",
    "diffusers": "0.39.0",
    "accelerate": "1.14.0",
    "peft": "0.20.0",
    "huggingface-hub": "1.27.0",
    "ipywidgets": "7.7.1",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "matplotlib": "3.10.0",
}


def test_the_ranges_admit_colabs_image() -> None:
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = {}
    for text in project["dependencies"]:
        requirement = Requirement(text)
        ranges[requirement.name.replace("_", "-")] = requirement.specifier
    for name, version in COLAB.items():
        assert version in ranges[name], f"{name} {version} of Colab is outside {ranges[name]}"
