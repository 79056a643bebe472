#!/usr/bin/env python3
"""Opens the AIGC workbook on a machine with nothing but Python 3.11, 3.12 or 3.13.

    python workbook.py run [05 …]   run the book, or some chapters, on the embedded profile; pages go to build/
    python workbook.py lab          open JupyterLab on chapter 00 (--no-browser prints the address)
    python workbook.py test         run every test, then chapters 00, 10 and the one that changed last
    python workbook.py doctor       look at this machine; works before anything is installed

The first call makes .venv and installs the pinned packages and models into it; that needs a network once, and an
interrupted set-up goes on where it stopped. Every other command of `aigc` works here too: python workbook.py catalog
"""

# Standard library only, and no syntax newer than Python 3.6: an old Python must be able to say that it is too old.

import collections.abc
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse

ROOT = os.path.dirname(os.path.abspath(__file__))
ENVIRONMENT = os.path.join(ROOT, ".venv")
STAMP = os.path.join(ENVIRONMENT, "installed.json")
PYTHON = os.path.join(ENVIRONMENT, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
SOURCES = os.path.join(ROOT, "chapters", "source")
ALWAYS_RUN = ("00", "10")
LOG = os.path.join(ROOT, "setup.log")  # Not in .venv, which may have to be emptied.
PROMPT = b"\n$ "  # Stands before each command in the log.
EMBEDDED_MODELS = ("bert", "reviews")
DISK_SPACE = "about 2 GB with a CPU build of torch, 6 GB with a CUDA build"
DISK_SPACE_ZH = "CPU 版 torch 约需 2 GB，CUDA 版约需 6 GB"


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
        return test(arguments[1:])
    return run_in(*in_environment("aigc_helpers.cli", *arguments))


def test(arguments: list) -> int:
    """Check style and types and run the tests; without arguments for pytest, the main command of the README as well."""
    # A process for each core, of about 2 GB; whole files go to one: a notebook's cells share a kernel.
    workers = ("--numprocesses=logical", "--maxprocesses=4", "--dist=loadfile")
    commands = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("pytest", *workers, *arguments))
    status = 0
    for command in commands:
        status = status or run_in(*in_environment(*command))
    if status or arguments:
        return status
    main_command = ("workbook.py", "run", *ALWAYS_RUN, chapter_changed_last())
    say("python " + " ".join(main_command))
    return run_in(sys.executable, *main_command)


def chapter_changed_last() -> str:
    """Return the number of the chapter whose source changed last, of equals the highest, of those not run anyway."""
    names = [name for name in os.listdir(SOURCES) if re.match(r"\d\d_.*\.py$", name) and name[:2] not in ALWAYS_RUN]
    return max((changed_by_git(os.path.join(SOURCES, name)), name[:2]) for name in names)[1]


def changed_by_git(path: str) -> float:
    """Return when a file was last committed, or, where git does not know it, last written."""
    try:
        command = ["git", "log", "-1", "--format=%ct", "--", os.path.basename(path)]
        return int(subprocess.check_output(command, cwd=os.path.dirname(path), stderr=subprocess.DEVNULL))
    except (OSError, subprocess.CalledProcessError, ValueError):
        return changed(path)


def refuse_unfit_python() -> None:
    """Stop with a sentence, where the packages would stop with a page of pip's."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        found = version_of_python()
        sys.exit(
            "workbook: this is Python " + found + "; the book needs 3.11, 3.12 or 3.13. Install one of them and start "
            "it by name, for example: python3.12 workbook.py run\n"
            "workbook：当前 Python 是 " + found + "，本书需要 3.11、3.12 或 3.13。请安装其中一个并指名启动，"
            "例如：python3.12 workbook.py run"
        )


def version_of_python() -> str:
    """Return the version that runs this file, such as 3.12: packages are installed for one of these."""
    return "{}.{}".format(*sys.version_info[:2])


def fingerprint() -> str:
    """Return a hash of all that decides what is installed, and of where: the packages hold the repository's path."""
    digest = hashlib.sha256((sys.version + ROOT).encode("utf-8", "surrogateescape"))
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as opened:
            digest.update(opened.read())
    return digest.hexdigest()


def is_installed(extras: list) -> bool:
    """Tell whether a set-up with these extras was finished, for today's pyproject.toml and constraints.txt."""
    try:
        with open(STAMP, encoding="utf-8") as opened:
            stamp = json.load(opened)
        finished = stamp["fingerprint"] == fingerprint() and set(extras) <= set(stamp["extras"])
    except (OSError, ValueError, TypeError, KeyError):  # None there, or none that set_up has written.
        return False
    return finished and os.path.exists(PYTHON)


def set_up(extras: list) -> None:
    """Make .venv and install into it; what an earlier, interrupted call has done is kept."""
    say(
        f"setting up .venv for Python {version_of_python()} (once; a few minutes, most of it downloads) …  "
        "正在准备 .venv（只需一次，约几分钟）…"
    )
    started = time.time()
    try:
        with open(LOG, "w", encoding="utf-8"):
            pass  # The log of an earlier set-up would only mislead.
        if not is_usable():
            make_environment()
        remove_half_installed()
        install_packages(extras)
        install_models()
        with open(STAMP + ".part", "w", encoding="utf-8") as opened:
            json.dump({"fingerprint": fingerprint(), "extras": extras}, opened)
        os.replace(STAMP + ".part", STAMP)
    except OSError as error:
        sys.exit(
            f"workbook: the set-up cannot read or write {error.filename or ROOT}: {error.strerror or error}. "
            f"The workbook's folder must be writable, and the packages need room: {DISK_SPACE}; "
            f"{free_space()} GB are free.\n"
            "workbook：无法读写上述文件。教程文件夹必须可写，软件包也要有空间"
            f"（{DISK_SPACE_ZH}；现在剩余 {free_space()} GB）。"
        )
    say(f"set up in {minutes(time.time() - started)}.  准备完毕。")


def is_usable() -> bool:
    """Tell whether the Python of .venv starts, is of the version that runs now, and has pip.

    That of a half-made environment may not; and where another Python's packages lie, this one's do not belong.
    """
    command = in_environment("pip", "--version")
    try:
        answer = subprocess.check_output(command, stderr=subprocess.DEVNULL).decode("utf-8", "replace")
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.rstrip().endswith(f"(python {version_of_python()})")


def make_environment() -> None:
    """Make .venv anew, with nothing but pip in it."""
    # In two steps, because venv keeps to itself why it could not install pip.
    commands = (
        [sys.executable, "-P", "-m", "venv", "--clear", "--without-pip", ENVIRONMENT],
        in_environment("ensurepip", "--default-pip"),
    )
    if any(follow(command, lambda said: ("making .venv", "Python " + version_of_python())) for command in commands):
        package = f"python{version_of_python()}-venv"
        sys.exit(
            f"{tail_of_log()}\nworkbook: this Python could not make .venv with pip in it; the lines above say why. If "
            f"venv or ensurepip is missing, as on Debian and Ubuntu: sudo apt install {package}. If the disk is full: "
            f"{free_space()} GB are free. Then run the same command again.\n"
            "workbook：当前 Python 未能创建带 pip 的 .venv，原因见上面几行。"
            f"如果缺 venv 或 ensurepip（Debian、Ubuntu 常见）：sudo apt install {package}。"
            f"如果磁盘满了：现在剩余 {free_space()} GB。然后再运行同一条命令。"
        )


def remove_half_installed() -> None:
    """Forget packages whose installation was cut off.

    Without its RECORD pip would take the half package for a whole one, and leave it.
    """
    for record in records():
        if not os.path.exists(record):
            shutil.rmtree(os.path.dirname(record))


def records() -> list:
    """Return where the RECORD of every package in .venv lies, or would lie: pip writes it last."""
    for folder, names, _ in os.walk(ENVIRONMENT):
        if os.path.basename(folder) == "site-packages":
            return [os.path.join(folder, name, "RECORD") for name in names if name.endswith(".dist-info")]
    return []


def install_packages(extras: list) -> None:
    """Let pip install the repository with these extras, at the pinned versions."""
    command = in_environment("pip", "install", "--disable-pip-version-check", "--no-input", "--no-color")
    command += ["--progress-bar", "off", "--constraint", os.path.join(ROOT, "constraints.txt")]
    command += ["--editable", "{}[{}]".format(ROOT, ",".join(extras))]
    before = installed()
    if follow(command, lambda said: progress_of_pip(said, len(installed() - before))):
        sys.exit(
            f"{tail_of_log()}\nworkbook: pip could not install the packages; its last lines above say why, and the "
            f"whole text is in {LOG}. Check the connection and the free disk space (python workbook.py doctor; the "
            f"packages take {DISK_SPACE}, and {free_space()} GB are free), then run the same command again: what is "
            "installed stays.\n"
            "workbook：pip 未能装好软件包，原因见上面几行。请检查网络和磁盘空间"
            f"（{DISK_SPACE_ZH}；现在剩余 {free_space()} GB），再运行同一条命令；已经装好的会保留。"
        )


def install_models() -> None:
    """Install the models that the chapters use and that do not lie in the repository."""
    for name in EMBEDDED_MODELS:
        command = in_environment("aigc_helpers.cli", "install", name, "--profile", "embedded")
        if follow(command, lambda said, name=name: ("installing models", name)):
            sys.exit(
                f"{tail_of_log()}\nworkbook: the packages are installed, but a model is missing; the lines above say "
                "why. Run the same command again.\n"
                "workbook：软件包已装好，但还缺一个模型，原因见上面几行。请再运行同一条命令。"
            )


def progress_of_pip(said: str, done: int) -> tuple:
    """Return in a few words what pip is doing and how far it is, by what it has said so far.

    Args:
        said: all its output.
        done: how many packages it has put in place; it does not say so itself.
    """
    to_install = re.findall(r"^Installing collected packages: (.+)$", said, re.MULTILINE)
    if to_install:
        return "installing packages", "{} of {}".format(done, len(to_install[-1].split(", ")))
    found = set(re.findall(r"^(?:Collecting|Requirement already satisfied:) ([\w.-]+)", said, re.MULTILINE))
    # A wheel's name begins with its package and version; pip adds the size in brackets if it knows it.
    wheel = r"^ *(?:Downloading|Using cached|Processing) (\S+\.whl)(?= |$)(?: (\([\d.]+ \wB\)))?"
    wheels = re.findall(wheel, said, re.MULTILINE)
    detail = f"{len(found)} found"
    if wheels:
        address, size = wheels[-1]
        name, version = re.split(r"[/\\]", urllib.parse.unquote(address))[-1].split("-")[:2]
        detail += " · " + " ".join(part for part in (name, version, size) if part)
    return "fetching packages", detail


def installed() -> set:
    """Return what is installed: where the RECORD of each package lies, and when it was written."""
    return {(record, changed(record)) for record in records() if os.path.exists(record)}


def changed(path: str) -> float:
    """Return when a file was last written; 0 if it is not there."""
    try:
        return os.path.getmtime(path)
    except OSError:
        return 0


def follow(command: list, describe: collections.abc.Callable) -> int:
    """Run a command with its output going to the log, and one line on screen; returns its exit status.

    Args:
        command: the program and its arguments.
        describe: makes of all that the command has said what it is doing and how far it is.
    """
    line = ProgressLine()
    environment = dict(os.environ, PYTHONIOENCODING="utf-8")
    with open(LOG, "ab") as log:
        log.write(PROMPT + " ".join(command).encode("utf-8", "replace") + b"\n")
        log.flush()
        begin = os.path.getsize(LOG)
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while True:
            try:
                return process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                line.show(*describe(text_of_log(begin)))
    finally:
        if process.poll() is None:
            end(process)
        line.clear()


def end(process: subprocess.Popen) -> None:
    """Let a process that has got the same Ctrl-C put its things in order; kill it if it does not go."""
    try:
        process.wait(timeout=20)  # A run ends its kernels and prints what was finished.
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


class ProgressLine:
    """How far a command is: one line renewed in place on a terminal; elsewhere a line per phase and half-minute."""

    def __init__(self) -> None:
        """Start the clock."""
        self.started = self.printed = time.time()
        self.phase = self.shown = ""

    def show(self, phase: str, detail: str) -> None:
        """Say what is being done, how far it is, and how long it has taken."""
        now = time.time()
        text = f"workbook: {minutes(now - self.started)} {phase} … {detail}"
        if sys.stdout.isatty():
            self.replace(text[: shutil.get_terminal_size().columns - 1])
        elif phase != self.phase or now - self.printed >= 30:
            print(text, flush=True)
            self.phase, self.printed = phase, now

    def clear(self) -> None:
        """Leave nothing of the line on the terminal."""
        if self.shown:
            self.replace("")

    def replace(self, text: str) -> None:
        """Write over what was shown last."""
        blank = " " * len(self.shown)  # Not every console knows the code that clears a line.
        print("\r" + blank + "\r" + text, end="", flush=True)
        self.shown = text


def text_of_log(begin: int = 0) -> str:
    """Return what the log has from a byte on."""
    with open(LOG, "rb") as opened:
        opened.seek(begin)
        return opened.read().decode("utf-8", "replace").replace("\r\n", "\n")


def tail_of_log() -> str:
    """Return the last lines of what the last command said, indented; of a traceback only what it ends with."""
    said = text_of_log().split(PROMPT.decode())[-1]
    said = re.sub(r"^Traceback \(most recent call last\):\n(?: .*\n)+", "", said, flags=re.MULTILINE)
    lines = [line for line in said.splitlines()[1:] if line.strip()]
    return "\n".join("    " + (line if len(line) <= 300 else line[:300] + " …") for line in lines[-15:])


def free_space() -> str:
    """Return the gigabytes that are free where the workbook lies."""
    return f"{shutil.disk_usage(ROOT).free / 1e9:.1f}"


def minutes(seconds: float) -> str:
    """Return a time as 2:05."""
    return "{}:{:02d}".format(*divmod(int(seconds), 60))


def in_environment(module: str, *arguments: str) -> list:
    """Return the command that runs a module of .venv, never a file of that name in the working folder (-P)."""
    return [PYTHON, "-P", "-m", module, *arguments]


def run_in(*command: str) -> int:
    """Run a command in the repository; returns its exit status."""
    sys.stdout.flush()
    process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ, AIGC_COMMAND="python workbook.py"))
    try:
        return process.wait()
    except KeyboardInterrupt:
        end(process)
        return 130


def say(text: str) -> None:
    """Print a line of the bootstrap's own."""
    print("workbook: " + text, flush=True)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # A Windows console in a Western code page has no Chinese.
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print(
            "workbook: stopped. Run the same command again to go on; what is installed stays.\n"
            "workbook：已停止。再运行同一条命令即可继续，已经装好的会保留。",
            file=sys.stderr,
        )
        sys.exit(130)
