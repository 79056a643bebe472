"""workbook.py meets a reader before anything else does: it must explain an unfit Python and survive an interruption."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from aigc_helpers.paths import REPOSITORY


@pytest.fixture
def workbook(tmp_path: Path) -> types.ModuleType:
    """Return workbook.py as a module whose environment is an empty folder."""
    specification = importlib.util.spec_from_file_location("workbook", REPOSITORY / "workbook.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.ENVIRONMENT = str(tmp_path / ".venv")
    module.STAMP = str(tmp_path / ".venv" / "installed.json")
    return module


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse((REPOSITORY / "workbook.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
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
    stamp.write_text('{"finger', encoding="utf-8")
    assert not workbook.is_installed(["book"])


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
