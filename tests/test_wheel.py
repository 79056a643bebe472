"""The package as a wheel, installed outside the checkout: the command works, and says what only the checkout has.

The wheel is built from a copy of what it is made of, so that the checkout's build/ stays as it is, and without a
network: the backend is the one that is installed here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from aigc_helpers.paths import DATA, REPOSITORY
from aigc_helpers.project import repository_address

pytestmark = pytest.mark.slow

CLONE = f"git clone {repository_address()}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(REPOSITORY / "aigc_helpers", source / "aigc_helpers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    run_pip("wheel", str(source), "--no-build-isolation", "--wheel-dir", str(folder))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the folder that the wheel is installed in; whatever the tests did, it must be as it was."""
    folder = tmp_path_factory.mktemp("site")
    run_pip("install", str(wheel), "--target", str(folder))
    before = content(folder)
    yield folder
    assert content(folder) == before


def run_pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Elsewhere:
    """A folder that is no checkout, with a store of its own; Python finds the installed wheel and no other copy."""

    def __init__(self, site: Path, folder: Path) -> None:
        self.site, self.folder, self.store = site, folder / "work", folder / "store"
        self.folder.mkdir()

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.site),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8",
            "AIGC_HOME": str(self.store),
            # What would be a download fails at once.
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(self.folder),
        }
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, encoding="utf-8")

    def aigc(self, *arguments: str, status: int = 0) -> str:
        """Run the command; returns what it printed, or for another status than 0 its complaint."""
        finished = self.python("-m", "aigc_helpers.cli", *arguments)
        assert finished.returncode == status, finished.stdout + finished.stderr
        assert "Traceback" not in finished.stderr
        return finished.stderr if status else finished.stdout


@pytest.fixture
def elsewhere(site: Path, tmp_path: Path) -> Elsewhere:
    return Elsewhere(site, tmp_path)


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("aigc_helpers/")}
    files = (path for path in (REPOSITORY / "aigc_helpers").rglob("*") if path.is_file())
    assert packed == {path.relative_to(REPOSITORY).as_posix() for path in files if path.suffix != ".pyc"}


def test_it_is_the_wheel_that_is_tested_and_it_knows_what_it_needs(elsewhere: Elsewhere) -> None:
    program = (
        "import aigc_helpers\n"
        "from aigc_helpers.notebook.setup import missing_requirements\n"
        "from aigc_helpers.errors import ReaderError\n"
        "from aigc_helpers.project import repository_address\n"
        "print(aigc_helpers.__file__, missing_requirements(), repository_address(), sep='\\n')\n"
        "try:\n"
        "    from aigc_helpers.paths import DATA\n"
        "except ReaderError as error:\n"
        "    print(error)\n"
    )
    finished = elsewhere.python("-c", program)
    assert finished.returncode == 0, finished.stderr
    file, missing, address, refusal = finished.stdout.splitlines()
    assert Path(file) == elsewhere.site / "aigc_helpers" / "__init__.py"
    assert missing == "[]"
    assert address == repository_address()
    assert refusal.startswith("this needs data of the workbook's checkout") and CLONE in refusal


def test_the_command_is_installed_and_lists_the_commands(elsewhere: Elsewhere) -> None:
    command = shutil.which("aigc", path=str(elsewhere.site / "bin"))
    assert command
    environment = {**os.environ, "PYTHONPATH": str(elsewhere.site), "PYTHONDONTWRITEBYTECODE": "1"}
    finished = subprocess.run([command, "--help"], env=environment, cwd=elsewhere.folder, capture_output=True)
    assert finished.returncode == 0
    assert finished.stdout.decode("utf-8") == elsewhere.aigc("--help")
    assert {"doctor", "catalog", "inspect", "install", "convert"} <= set(elsewhere.aigc("--help").split())


def test_the_doctor_says_what_is_missing_without_a_checkout(elsewhere: Elsewhere) -> None:
    finished = elsewhere.python("-m", "aigc_helpers.cli", "doctor", "--json")
    report = json.loads(finished.stdout)
    assert finished.returncode == (1 if report["summary"]["fail"] else 0)
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["Python"]["status"] == checks["torch"]["status"] == "pass"
    assert checks["checkout"]["status"] == "warn"
    assert CLONE in checks["checkout"]["remedy_en"] and CLONE in checks["checkout"]["remedy_zh"]
    assert not [check for check in report["checks"] if check["found"].startswith("could not be checked")]


def test_the_catalog_is_there_and_says_what_lies_in_the_checkout(elsewhere: Elsewhere) -> None:
    rows = json.loads(elsewhere.aigc("catalog", "--json"))
    assert {"poet", "bert", "sd"} <= {row["name"] for row in rows}
    assert not any(row["installed"] for row in rows)
    *lines, last = elsewhere.aigc("catalog").splitlines()
    for row, line in zip(rows, lines[::2], strict=False):
        is_bundled = row["sources"][0].startswith("bundled")
        assert line.startswith(row["name"]) and line.endswith(" in the checkout" if is_bundled else " not installed")
    assert CLONE in last


def test_a_file_is_inspected(elsewhere: Elsewhere) -> None:
    save_file({"weight": numpy.zeros((2, 3), dtype=numpy.float32)}, elsewhere.folder / "small.safetensors")
    text = elsewhere.aigc("inspect", "small.safetensors")
    assert "1 with 6 parameters: 1 × F32" in text
    # There is nothing to compare a model with.
    assert CLONE not in text


def test_an_adapter_is_inspected_installed_and_converted(elsewhere: Elsewhere) -> None:
    shutil.copy(DATA / "loras" / "sepia.safetensors", elsewhere.folder / "brown.safetensors")
    inspected = elsewhere.aigc("inspect", "brown.safetensors")
    assert "Stable Diffusion in miniature" in inspected
    assert "Not compared with poet, t5, clip, sd (embedded)" in inspected and CLONE in inspected
    installed = elsewhere.store / "loras" / "brown.safetensors"
    assert str(installed) in elsewhere.aigc("install", "brown.safetensors")
    assert installed.read_bytes() == (DATA / "loras" / "sepia.safetensors").read_bytes()
    assert "✓ brown.safetensors to peft" in elsewhere.aigc("convert", "brown.safetensors", "brown", "--to", "peft")
    assert {path.name for path in (elsewhere.folder / "brown").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("install poet", "data/poet of"),
        ("convert nothing.safetensors new --to peft --base sd", "data/sd of"),
        ("generate tiger", "data/sd of"),
        ("train poet --tune 浣溪沙 -o new", "data/poems of"),
        ("train bert -o new", "data/reviews of"),
        ("evaluate book", "data/film_adapter of"),
        ("pretrain reviews", "data of"),
        ("build", "chapters of"),
        ("build --check", "chapters of"),
        ("run 00", "chapters of"),
        ("lab --no-browser", ""),
    ],
)
def test_what_needs_the_checkout_says_so_and_writes_nothing(elsewhere: Elsewhere, command: str, part: str) -> None:
    (elsewhere.folder / "nothing.safetensors").touch()
    complaint = elsewhere.aigc(*command.split(), status=1)
    assert complaint.startswith(f"aigc: this needs {part}{' ' if part else ''}the workbook's checkout"), complaint
    assert CLONE in complaint and len(complaint.splitlines()) == 1
    assert [path.name for path in elsewhere.folder.iterdir()] == ["nothing.safetensors"]
    assert not elsewhere.store.exists()
