#!/usr/bin/env python3
"""Opens the AIGC workbook on a machine with nothing but Python 3.11, 3.12 or 3.13.

    python workbook.py run [05 …]   run the book, or some chapters, on the embedded profile; pages go to build/
    python workbook.py lab          open JupyterLab on chapter 00 (--no-browser prints the address)
    python workbook.py test         run every test
    python workbook.py doctor       look at this machine; works before anything is installed

The first call makes .venv and installs the pinned packages and models into it; that needs a network once, and an
interrupted set-up goes on where it stopped. Every other command of `aigc` works here too: python workbook.py catalog
"""

# Standard library only, and no syntax newer than Python 3.6: an old Python must be able to say that it is too old.

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv

ROOT = os.path.dirname(os.path.abspath(__file__))
ENVIRONMENT = os.path.join(ROOT, ".venv")
STAMP = os.path.join(ENVIRONMENT, "installed.json")
PYTHON = os.path.join(ENVIRONMENT, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
EMBEDDED_MODELS = ("bert", "reviews")


def main(arguments: list) -> int:
    """Set up what the command needs, then run it; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    extras = ["book", "test"] if arguments[0] == "test" else ["book"]
    if arguments[0] == "doctor" and not is_installed(["book"]):
        return run_in(sys.executable, "-m", "aigc_helpers.cli", *arguments)
    refuse_unfit_python()
    if not is_installed(extras):
        set_up(extras)
    if arguments[0] == "test":
        # A process for each core, of about 2 GB; whole files go to one: a notebook's cells share a kernel.
        workers = ("--numprocesses=logical", "--maxprocesses=4", "--dist=loadfile")
        pytest = (PYTHON, "-m", "pytest", *workers, *arguments[1:])
        return run_in(PYTHON, "-m", "ruff", "check", ".") or run_in(*pytest)
    return run_in(PYTHON, "-m", "aigc_helpers.cli", *arguments)


def refuse_unfit_python() -> None:
    """Stop with a sentence, where the packages would stop with a page of pip's."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        found = "{}.{}".format(*sys.version_info[:2])
        sys.exit(
            "workbook: this is Python " + found + "; the book needs 3.11, 3.12 or 3.13. Install one of them and start "
            "it by name, for example: python3.12 workbook.py run\n"
            "workbook：当前 Python 是 " + found + "，本书需要 3.11、3.12 或 3.13。请安装其中一个并指名启动，"
            "例如：python3.12 workbook.py run"
        )


def fingerprint() -> str:
    """Return a hash of all that decides what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as opened:
            digest.update(opened.read())
    return digest.hexdigest()


def is_installed(extras: list) -> bool:
    """Tell whether a set-up with these extras was finished, for today's pyproject.toml and constraints.txt."""
    try:
        with open(STAMP, encoding="utf-8") as opened:
            stamp = json.load(opened)
    except (OSError, ValueError):
        return False
    return stamp["fingerprint"] == fingerprint() and set(extras) <= set(stamp["extras"])


def set_up(extras: list) -> None:
    """Make .venv and install into it; what an earlier, interrupted call has done is kept."""
    say("setting up .venv (once; a few minutes, most of it downloads) …  正在准备 .venv（只需一次，约几分钟）…")
    if not works(PYTHON):
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    remove_half_installed()
    requirement = "{}[{}]".format(ROOT, ",".join(extras))
    constraints = os.path.join(ROOT, "constraints.txt")
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if run_in(*pip, "--constraint", constraints, "--editable", requirement):
        sys.exit(
            "workbook: pip could not install the packages; its last lines above say why. Check the connection and the "
            "free disk space (python workbook.py doctor), then run the same command again: what is installed stays."
        )
    for name in EMBEDDED_MODELS:
        if run_in(PYTHON, "-m", "aigc_helpers.cli", "install", name, "--profile", "embedded"):
            sys.exit("workbook: the packages are installed, but a model is missing (see above). Run the command again.")
    with open(STAMP + ".part", "w", encoding="utf-8") as opened:
        json.dump({"fingerprint": fingerprint(), "extras": extras}, opened)
    os.replace(STAMP + ".part", STAMP)
    say("set up.  准备完毕。")


def works(python: str) -> bool:
    """Tell whether this interpreter starts and has pip; a half-made environment may not."""
    try:
        return subprocess.call([python, "-m", "pip", "--version"], stdout=subprocess.DEVNULL) == 0
    except OSError:
        return False


def remove_half_installed() -> None:
    """Forget packages whose installation was cut off.

    pip writes a package's RECORD last. Without it pip would take the half package for a whole one, and leave it.
    """
    for folder, names, _ in os.walk(ENVIRONMENT):
        if os.path.basename(folder) == "site-packages":
            for name in names:
                info = os.path.join(folder, name)
                if name.endswith(".dist-info") and not os.path.exists(os.path.join(info, "RECORD")):
                    shutil.rmtree(info)
            return


def run_in(*command: str) -> int:
    """Run a command in the repository; returns its exit status."""
    sys.stdout.flush()
    try:
        return subprocess.call(command, cwd=ROOT)
    except KeyboardInterrupt:
        return 130


def say(text: str) -> None:
    """Print a line of the bootstrap's own."""
    print("workbook: " + text, flush=True)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # A Windows console in a Western code page has no Chinese.
            stream.reconfigure(encoding="utf-8", errors="replace")
    sys.exit(main(sys.argv[1:]))
