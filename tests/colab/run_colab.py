#!/usr/bin/env python3
"""Runs the chapters as Google Colab would: its versions, an empty working folder, and the set-up cell does the rest.

    python tests/colab/run_colab.py                          every chapter, then those of the full profile
    python tests/colab/run_colab.py 05 07 --profile full     some of them; the other results stay as they are
    python tests/colab/run_colab.py --environment FOLDER     where the environment is, or will be made (6 GB)

The environment holds requirements.txt and a stub of ``google.colab``. A kernel finds a folder with one notebook in it;
the ``git clone`` of the set-up cell leads to the last commit of this repository, and what Colab lacks is installed by
pip and removed after the chapter. On the full profile a hub on 127.0.0.1 serves small stand-ins. The results go to
``data/results/colab.json``. Run it with a Python that has the project's extras ``book`` and ``test``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

COLAB = Path(__file__).resolve().parent
sys.path[:0] = [str(COLAB.parent.parent), str(COLAB.parent)]

from full_profile_lane import FETCHED, make_repositories, promising, serving, shorten  # noqa: E402
from nbformat import NotebookNode  # noqa: E402
from stand_in_files import Files  # noqa: E402

from aigc_helpers.files import write_text  # noqa: E402
from aigc_helpers.paths import DATA, REPOSITORY  # noqa: E402
from aigc_helpers.publishing.builder import assemble, execute_and_judge, new_client, serialise  # noqa: E402
from aigc_helpers.publishing.repository import repository_address  # noqa: E402
from aigc_helpers.publishing.source import Chapter, chapter_paths, find_chapters, read_chapter  # noqa: E402

RESULTS = DATA / "results" / "colab.json"
REQUIREMENTS = COLAB / "requirements.txt"
PACKAGES = "colab-packages.txt"  # in the environment's folder: what it was made with
PYTHON_VERSION = (3, 13)
PROFILES = ("embedded", "full")
CELL_TIMEOUT = 1800  # seconds; on a busy machine a training cell takes its time, and that is no fault of Colab's
LONGEST_WARNING = 300  # characters of it that are stored
# pip's remark on a package source that this machine's own settings name and that is not there.
OF_THIS_MACHINE = "WARNING: Location "
# What the kernel must not inherit: Colab knows none of the settings of whoever runs this.
OURS = ("AIGC_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "DIFFUSERS_", "PYTHON", "VIRTUAL_ENV", "JUPYTER", "GIT_")


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for, store the results, and return 0 if every chapter ran through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="numbers or names; all without")
    parser.add_argument("--profile", choices=[*PROFILES, "both"], default="both")
    parser.add_argument("--environment", type=Path, default=REPOSITORY / "build" / "colab", metavar="FOLDER")
    options = parser.parse_args(arguments)
    if uncommitted():
        print("colab: what is not committed is not tested: the set-up cell clones the last commit.", file=sys.stderr)
    environment = options.environment.absolute()
    python = make_environment(environment)
    chapters = [read_chapter(path) for path in find_chapters(options.chapters or None)]
    passed = True
    for profile in PROFILES if options.profile == "both" else [options.profile]:
        wanted = [chapter for chapter in chapters if profile == "embedded" or chapter.number in FETCHED]
        with clone_of_the_book(profile) as (book, settings):
            for chapter in wanted:
                restore_packages(environment)  # also what an interrupted run has left
                result = run_chapter(chapter, profile, python, book, settings)
                restore_packages(environment)
                store(result, python)
                passed = passed and result["passed"]
                verdict = "ok" if result["passed"] else f"FAILED: {result['error']}"
                print(f"{profile:<9} {chapter.name:<40} {result['seconds']:>6} s  {verdict}", flush=True)
                for warning in result["warnings"]:
                    print(f"          {warning}", flush=True)
    return 0 if passed else 1


def uncommitted() -> str:
    """Return what git calls changed in this repository; empty if all is committed."""
    command = ["git", "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def make_environment(folder: Path) -> Path:
    """Return the Python of an environment with Colab's packages, made in ``folder`` where it is not there yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([python_of_colab(), "-m", "venv", str(folder)], check=True)
    stamp = folder / "colab-requirements.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)], check=True)
        shutil.copy(REQUIREMENTS, stamp)
        (folder / PACKAGES).write_text("\n".join(sorted(installed_packages(python))) + "\n", encoding="utf-8")
    # As on Colab, every process of this Python finds google.colab, and not only the kernel.
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "google_colab_stub.pth").write_text(f"{COLAB / 'stubs'}\n", encoding="utf-8")
    return python


def python_of_colab() -> str:
    """Return a Python of Colab's minor version: this one, or one that is on the path."""
    if sys.version_info[:2] == PYTHON_VERSION:
        return sys.executable
    name = "python{}.{}".format(*PYTHON_VERSION)
    found = shutil.which(name)
    if found is None:
        sys.exit(f"colab: there is no {name} on the path, and Colab has that one. Install it first.")
    return found


@contextmanager
def clone_of_the_book(profile: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield a git repository for the set-up cell to clone, and what the kernel's environment needs besides.

    On the full profile its catalog promises the stand-ins, and a hub serves them. On the embedded profile nothing asks
    for the full one: that is what a runtime without a GPU gets.
    """
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "book"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(book)], check=True)
        # The embedded profile needs no hub: there the hub has nothing. Colab is never offline, so neither is this.
        repositories = make_repositories() if profile == "full" else {}
        promise_the_stand_ins(book, repositories)
        with serving(repositories) as hub:
            local = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
            chosen = {"AIGC_PROFILE": "full"} if profile == "full" else {}
            yield book, {"HF_ENDPOINT": hub.address, **chosen, **local}


def promise_the_stand_ins(book: Path, repositories: dict[str, Files]) -> None:
    """Commit a catalog with the stand-ins' sizes and hashes to the clone ``book``; without any it stays as it is."""
    if not repositories:
        return
    git = ["git", "-C", str(book), "-c", "user.name=colab", "-c", "user.email=colab@localhost"]
    listed = subprocess.run([*git, "ls-files", "*catalog.toml"], capture_output=True, text=True, check=True).stdout
    catalog = book / listed.strip()
    catalog.write_text(promising(catalog.read_text(encoding="utf-8"), repositories), encoding="utf-8")
    subprocess.run([*git, "commit", "--quiet", "--all", "--message", "Promise the stand-ins"], check=True)


def run_chapter(chapter: Chapter, profile: str, python: Path, book: Path, settings: dict[str, str]) -> dict[str, Any]:
    """Run one chapter in a new folder with nothing but its notebook, and return its result."""
    notebook = assemble(chapter, "en")
    if profile == "full":
        shorten(chapter.number, notebook)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        content, home = Path(folder) / "content", Path(folder) / "home"
        content.mkdir(), home.mkdir()
        write_text(content / f"{chapter.name}.ipynb", serialise(notebook))
        environment = colab_environment(python, book, home) | settings
        client = new_client(notebook, content, timeout=CELL_TIMEOUT)
        with kernel_of(python) as client.kernel_name:
            error_line = execute_and_judge(client, environment)
    seconds = round(time.monotonic() - begun)
    return {
        "profile": profile,
        "chapter": chapter.name,
        "passed": error_line is None,
        "error": error_line,
        "seconds": seconds,
        "warnings": warnings_of(notebook, [Path(folder), python.parent.parent]),
        "date": datetime.now(tz=UTC).date().isoformat(),
    }


@contextmanager
def kernel_of(python: Path) -> Iterator[str]:
    """Yield the name by which jupyter_client starts a kernel with this Python."""
    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernels" / "colab").mkdir(parents=True)
        command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel = {"argv": command, "display_name": "Colab", "language": "python"}
        (Path(folder) / "kernels" / "colab" / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
        os.environ["JUPYTER_PATH"] = folder
        try:
            yield "colab"
        finally:
            os.environ.pop("JUPYTER_PATH")
            if before is not None:
                os.environ["JUPYTER_PATH"] = before


def colab_environment(python: Path, book: Path, home: Path) -> dict[str, str]:
    """Return the kernel's environment: nothing of this project, and the book's address leads to ``book``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {
        "COLAB_RELEASE_TAG": "release-colab",
        "CUDA_VISIBLE_DEVICES": "",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{book}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository_address(),
        "AIGC_HOME": str(home / "store"),
        "HF_HOME": str(home / "hub"),
        "HF_HUB_CACHE": str(home / "hub"),
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": "/env/python",  # Colab's own value, which the set-up has to leave in place.
    }


def installed_packages(python: Path) -> set[str]:
    """Return ``name==version`` of what is installed."""
    command = [python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def restore_packages(environment: Path) -> None:
    """Bring the environment back to what it was made with: every chapter begins with what Colab has."""
    python = environment / "bin" / "python"
    made_with, now = set((environment / PACKAGES).read_text(encoding="utf-8").split()), installed_packages(python)
    names = {package.partition("==")[0] for package in made_with}
    added = sorted({package.partition("==")[0] for package in now} - names)
    if added:
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *added], check=True)
    lost = sorted(made_with - now)
    if lost:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *lost], check=True)


def warnings_of(notebook: NotebookNode, folders: Sequence[Path]) -> list[str]:
    """Return the lines on stderr that speak of a warning, each once and shortened, without the names of ``folders``."""
    lines: dict[str, None] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                for line in output["text"].replace("\r", "\n").splitlines():
                    # The line after a warning shows the code that gave it.
                    if "warn" not in line.lower() or line.startswith(OF_THIS_MACHINE) or line[:1].isspace():
                        continue
                    for path in folders:
                        line = line.replace(str(path), "…")
                    lines[line[:LONGEST_WARNING]] = None
    return list(lines)


def store(result: dict[str, Any], python: Path) -> None:
    """Put one chapter's result in the place of the older one, in the order of the chapters; see ``RESULTS``."""
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"chapters": []}
    key = result["profile"], result["chapter"]
    others = [each for each in stored["chapters"] if (each["profile"], each["chapter"]) != key]
    known = {path.stem for path in chapter_paths()}
    chapters = [each for each in [*others, result] if each["chapter"] in known]
    chapters.sort(key=lambda each: (PROFILES.index(each["profile"]), each["chapter"]))
    wanted = REQUIREMENTS.read_text(encoding="utf-8").split()
    names = {word.partition("==")[0] for word in wanted if "==" in word}
    versions = dict(package.split("==") for package in installed_packages(python) if "==" in package)
    command = [python, "-c", "import platform; print(platform.python_version())"]
    python_version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    report = {
        "date": min(each["date"] for each in chapters),  # no result is older
        "made_by": "python tests/colab/run_colab.py",
        "versions": {"python": python_version} | {name: versions[name] for name in sorted(versions) if name in names},
        "chapters": chapters,
    }
    write_text(RESULTS, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
