"""The command ``aigc``. argparse, because ``aigc doctor`` must run before any package is installed."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from aigc_helpers.cli import convert, evaluate, generate, inspect, install, merge, pretrain, ranges, train
from aigc_helpers.cli.usage import as_typed
from aigc_helpers.colab import hide_old_torchao
from aigc_helpers.errors import ReaderError, UnknownNameError, WrongUsageError, first_line
from aigc_helpers.paths import in_checkout, only_the_package_is_here
from aigc_helpers.project import find_checkout, read_project, repository_address
from aigc_helpers.terminal import control_characters_escaped, visible

# What the extra "book" of pyproject.toml brings.
_BOOK_PACKAGES = {"bs4", "ipykernel", "jupytext", "nbclient", "nbconvert", "nbformat"}
_API = "api"  # In place of chapters.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 fine, 1 failed, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # A Windows console in a Western code page has no Chinese.
            stream.reconfigure(encoding="utf-8", errors="replace")
    hide_old_torchao()
    with control_characters_escaped():
        return _status_of(list(sys.argv[1:] if arguments is None else arguments))


def _status_of(arguments: list[str]) -> int:
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except (UnknownNameError, WrongUsageError) as error:
        return _failed(str(error), 2)
    except ReaderError as error:
        return _failed(str(error), 1)
    except ModuleNotFoundError as error:
        return _failed(_missing(error), 1)
    except KeyboardInterrupt:
        return _failed("stopped. What was finished is kept; run the same command again.", 130)
    except BrokenPipeError:
        _drop_standard_output()
        return _failed("the program that read this output stopped reading before the end.", 1)
    except OSError as error:
        _drop_standard_output()  # It may be the one that cannot be written.
        where = "" if error.filename is None else f": {error.filename}"
        return _failed(
            f"the system refused something ({error.strerror or _told(error)}){where}. Check that place, its "
            "permissions and its disk, then run the same command again.",
            1,
        )
    except MemoryError:
        return _failed("this machine's memory is used up. Close other programs, then run the same command again.", 1)
    except Exception as error:
        return _failed(_unforeseen(error), 1)


def _missing(error: ModuleNotFoundError) -> str:
    if error.name not in _BOOK_PACKAGES:
        return f"the package {error.name} is not installed here. What is missing, and how to get it, says: aigc doctor"
    return (
        f'{error.name} is not installed here, and making the book needs it. Run: pip install -e ".[book]", or let the '
        "bootstrap do it: python workbook.py run"
    )


def _drop_standard_output() -> None:
    """Give it somewhere to go: Python flushes it once more on its way out."""
    with suppress(OSError, ValueError):  # A test's, or a notebook's, has no file under it.
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unforeseen(error: Exception) -> str:
    """Say what a fault of our own was, where it arose, and where to report it: few readers can use a traceback."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "aigc_helpers" in frame.filename]
    return (
        f"a fault of this program itself: {type(error).__name__} in {Path(ours[-1].filename).name}, line "
        f"{ours[-1].lineno} ({_told(error)}). Please report this line and the command that you ran: "
        f"{repository_address()}/issues"
    )


def _told(error: Exception) -> str:
    """Return what an error says, without what the libraries put into it of an address: passwords and tokens."""
    from aigc_helpers.store import without_secrets

    return re.sub(r"\?\S+", "?…", without_secrets(first_line(error)))


def _failed(text: str, status: int) -> int:
    print(visible(f"aigc: {as_typed(text, _parsers()[1])}"), file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> int:
    parser, commands = _parsers()
    _refuse_unknown("command", arguments[:1], commands)
    if arguments[:1] == ["train"]:
        _refuse_unknown("model to train", arguments[1:2], train.MODELS)
    options = parser.parse_args(arguments)
    return options.function(options)


def _refuse_unknown(what: str, words: list[str], valid: Sequence[str]) -> None:
    for word in words:
        if not word.startswith("-") and word not in valid:
            raise UnknownNameError(what, word, valid)


def _parsers() -> tuple[argparse.ArgumentParser, list[str]]:
    parser = _Parser(prog="aigc", description="The AIGC workbook, from the command line.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the workbook's version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="look at this machine and say what will work on it")
    doctor.add_argument("--json", action="store_true", help="print the report as JSON")
    doctor.set_defaults(function=_doctor)

    catalog = commands.add_parser("catalog", help="list the models and data sets that can be installed")
    catalog.add_argument("--json", action="store_true", help="print the list as JSON")
    catalog.set_defaults(function=_catalog)

    install.add_parser(commands)
    inspect.add_parser(commands)
    convert.add_parser(commands)
    merge.add_parser(commands)
    generate.add_parser(commands)
    evaluate.add_parser(commands)
    train.add_parser(commands)
    pretrain.add_parser(commands)
    ranges.add_parser(commands)

    build = commands.add_parser("build", help="build the notebooks of both languages from chapters/source")
    build.add_argument(
        "chapters", nargs="*", help=f"chapter numbers, such as 05; all by default. {_API}: the page of public names"
    )
    build.add_argument("--check", action="store_true", help="only say what is not as its source gives it")
    build.add_argument("--execute", action="store_true", help="execute the cells even where none has changed")
    build.set_defaults(function=_build)

    run = commands.add_parser("run", help="run chapters; executed copies and pages go to build/")
    run.add_argument("chapters", nargs="*", help="chapter numbers, such as 05; all by default")
    run.set_defaults(function=_run)

    lab = commands.add_parser("lab", help="open JupyterLab on chapter 00")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    lab.set_defaults(function=_lab)
    return parser, list(commands.choices)


class _Parser(argparse.ArgumentParser):
    """Shows what was typed as it may be shown: a pattern such as * stands for names that others gave."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit with status 2."""
        super().error(visible(message))


class _Version(argparse.Action):
    """Like argparse's own, which would look the version up for every other command, too."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and exit."""
        print(f"{parser.prog} {read_project().version}")
        parser.exit()


def _doctor(options: argparse.Namespace) -> int:
    from aigc_helpers.preflight import exit_code, format_report, report_as_json, run_checks

    checks = run_checks()
    print(report_as_json(checks) if options.json else format_report(checks))
    return exit_code(checks)


def _catalog(options: argparse.Namespace) -> int:
    from aigc_helpers.store import is_bundled, is_here, load_catalog

    assets = load_catalog()
    rows: list[dict[str, Any]] = [
        {
            "name": asset.name,
            "profile": asset.profile,
            "title": asset.title,
            "licence": asset.licence,
            "megabytes": round(asset.size / 1e6, 1),
            "sources": [str(source) for source in asset.sources],
            "installed": is_here(asset),
        }
        for asset in assets
    ]
    if options.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    is_elsewhere = find_checkout() is None
    for asset, row in zip(assets, rows, strict=True):
        state = "installed" if row["installed"] else "not installed"
        if is_bundled(asset) and is_elsewhere:
            state = "in the checkout"
        print(f"{row['name']:13} {row['profile']:9} {row['megabytes']:7.1f} MB  {row['licence']:11} {state}")
        print(f"{'':13} {row['title']}; from {', '.join(row['sources'])}")
    if is_elsewhere:
        print(f"\nThe folder data/ is in the workbook's checkout, and {only_the_package_is_here()}")
    return 0


def _build(options: argparse.Namespace) -> int:
    from aigc_helpers.publishing import build, check, write_api_page

    if options.chapters == [_API] and not options.check:
        print(f"✓ docs/api.md: {'written' if write_api_page() else 'unchanged'}")
        return 0
    if options.check:
        problems = check(options.chapters or None)
        for problem in problems:
            print(f"✗ {as_typed(problem, _parsers()[1])}")
        print(f"{len(problems)} problems." if problems else "✓ every notebook is what its source gives.")
        return 1 if problems else 0
    for built in build(options.chapters or None, execute=options.execute or None, report=print):
        print(f"✓ {built.chapter}: {'written' if built.changed else 'unchanged'}")
    return 0


def _run(options: argparse.Namespace) -> int:
    import time

    from aigc_helpers.publishing import closing_table, find_chapters, run

    asked = len(find_chapters(options.chapters or None, in_checkout("chapters")))
    begun, results = time.monotonic(), []
    try:
        for result in run(options.chapters or None):
            results.append(result)
    finally:  # A full disk or Ctrl-C stops a run; what was finished is said, too.
        if results:
            print(closing_table(results, time.monotonic() - begun, asked))
    return 0 if all(result.passed for result in results) else 1


def _lab(options: argparse.Namespace) -> int:
    import importlib.util
    import subprocess

    checkout = in_checkout()
    if importlib.util.find_spec("jupyterlab") is None:
        raise ReaderError(
            'JupyterLab is not installed here. Run: pip install -e ".[book]", or let the bootstrap do it: '
            "python workbook.py lab"
        )
    first_chapter = min(checkout.glob("chapters/00_*.ipynb")).relative_to(checkout).as_posix()
    command = [sys.executable, "-P", "-m", "jupyterlab", f"--ServerApp.root_dir={checkout}"]
    command.append(f"--LabApp.default_url=/lab/tree/{first_chapter}")  # The printed address leads there, too.
    # Without these, JupyterLab asks its home page for news and its package index for extensions at every start, and the
    # reader whether she wants news.
    command += ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    ours = str(Path(__file__).with_name("jupyter"))  # Its labconfig/ turns the question off.
    known = os.environ.get("JUPYTER_CONFIG_PATH")
    environment = {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join([ours, *([known] if known else [])])}
    command += ["--LabApp.extension_manager=readonly"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # Inside a container everybody is root, and Jupyter would refuse to start.
    if options.no_browser:
        command.append("--no-browser")
    return subprocess.call(command, env=environment)
