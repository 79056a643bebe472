"""What is this machine, what will work on it, and what to do about the rest: the library behind ``aigc doctor``.

Only the standard library is used, and no package is imported to learn its version, so that the doctor runs before
anything is installed and answers in about a second.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from aigc_helpers.colab import on_colab
from aigc_helpers.errors import nearest_first
from aigc_helpers.profile import ENVIRONMENT_VARIABLE, PROFILE_NAMES
from aigc_helpers.project import DISTRIBUTION, Requirement, find_checkout, read_project, repository_address
from aigc_helpers.store import store_folder
from aigc_helpers.versions import satisfies

CONTROL_GROUP = Path("/sys/fs/cgroup")
HUB_TIMEOUT_SECONDS = 3.0
PROGRAM_TIMEOUT_SECONDS = 10.0

_GIGABYTE = 10**9
_SYMBOLS = {"pass": "✓", "warn": "!", "fail": "✗"}


@dataclass(frozen=True)
class Check:
    """One question asked of this machine, and the answer.

    Attributes:
        name: what was looked at.
        status: ``"pass"``, ``"warn"`` (something will be missing or slow) or ``"fail"`` (chapters will stop).
        found: what is there, in a few words.
        remedy_en: what to do about it, in English; empty for a pass.
        remedy_zh: the same in Chinese.
    """

    name: str
    status: Literal["pass", "warn", "fail"]
    found: str
    remedy_en: str = ""
    remedy_zh: str = ""


def run_checks() -> list[Check]:
    """Look at this machine and return what was found, in the order in which a reader would mend it.

    A check that cannot be carried out is reported as a warning; it never stops the others.
    """
    checks: list[Check] = []
    for name, function in _CHECKS:
        try:
            checks.extend(function())
        # Whatever a strange machine does to one check, the reader still gets the rest of the report.
        except Exception as error:
            checks.append(_could_not_check(name, error))
    return checks


def format_report(checks: list[Check]) -> str:
    """Return the checks as aligned lines, each warning and failure with its remedies, and the counts at the end.

    Neighbours that share their remedies (many missing packages, say) show them once, below the last of them.
    """
    width = max((len(check.name) for check in checks), default=0)
    lines: list[str] = []
    for position, check in enumerate(checks):
        lines.append(f"{_SYMBOLS[check.status]} {check.status}  {check.name:<{width}}  {check.found}")
        following = checks[position + 1] if position + 1 < len(checks) else None
        if check.status == "pass" or (following is not None and _remedies(following) == _remedies(check)):
            continue
        lines.extend(f"        → {remedy}" for remedy in _remedies(check))
    counts = _counts(checks)
    lines.append("")
    lines.append(
        f"{len(checks)} checks: {counts['pass']} pass, {counts['warn']} warn, {counts['fail']} fail · "
        f"共 {len(checks)} 项：通过 {counts['pass']}，警告 {counts['warn']}，失败 {counts['fail']}"
    )
    return "\n".join(lines)


def report_as_json(checks: list[Check]) -> str:
    """Return the checks and their counts as JSON with the keys ``checks`` and ``summary``."""
    report = {"checks": [asdict(check) for check in checks], "summary": _counts(checks)}
    return json.dumps(report, ensure_ascii=False, indent=2)


def exit_code(checks: list[Check]) -> int:
    """Return 1 if any check failed, else 0."""
    return 1 if any(check.status == "fail" for check in checks) else 0


def _installed_version(package: str) -> str | None:
    try:
        # A half-removed package may have a folder of metadata without a version: that counts as not installed.
        return importlib.metadata.version(package) or None
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return None


def _check_python() -> Iterator[Check]:
    needed = read_project().requires_python
    found = sys.version.split()[0]
    if satisfies(found.rstrip("+"), needed):
        yield Check("Python", "pass", f"{found} ({sys.executable})")
        return
    if find_checkout() is not None:
        remedy_en, remedy_zh = "start with that one: python workbook.py run", "启动：python workbook.py run"
    else:
        remedy_en, remedy_zh = "install this package with that one.", "重新安装本软件包。"
    yield Check(
        "Python",
        "fail",
        f"{found}, needs {needed} ({sys.executable})",
        f"Install a Python within {needed}, then {remedy_en}",
        f"请安装 {needed} 范围内的 Python，再用它{remedy_zh}",
    )


def _check_profile() -> Iterator[Check]:
    value = os.environ.get(ENVIRONMENT_VARIABLE)
    if not value:
        found = f"{ENVIRONMENT_VARIABLE} is not set: full where a GPU is present, else embedded"
        yield Check("profile", "pass", found)
    elif value in PROFILE_NAMES:
        yield Check("profile", "pass", f"{ENVIRONMENT_VARIABLE}={value}")
    else:
        nearest = nearest_first(value, PROFILE_NAMES)[0]
        yield Check(
            "profile",
            "fail",
            f"{ENVIRONMENT_VARIABLE}={value} is no profile",
            f"Did you mean {ENVIRONMENT_VARIABLE}={nearest}? Valid: {', '.join(PROFILE_NAMES)}. "
            "Or unset it, and the machine decides.",
            f"是不是想写 {ENVIRONMENT_VARIABLE}={nearest}？可选值：{'、'.join(PROFILE_NAMES)}。"
            "不设置这个变量也行，程序会按机器情况自动选择。",
        )


def _check_packages() -> Iterator[Check]:
    for requirement in read_project().dependencies:
        try:
            yield _check_package(requirement)
        except ValueError as error:  # An odd version number of one package says nothing about the others.
            yield _could_not_check(requirement.package, error)


def _check_package(requirement: Requirement) -> Check:
    version = _installed_version(requirement.package)
    if on_colab() and (version is None or not satisfies(version, requirement.version_range)):
        return Check(
            requirement.package,
            "fail",
            f"{version or 'not installed'}, needs {requirement.version_range}",
            "Run the notebook's set-up cell: it installs what is missing. Colab's own versions stay: if one "
            "does not fit, start anew (Runtime → Disconnect and delete runtime), or run the workbook outside Colab.",
            "请运行笔记本里的准备单元格，缺的包会自动装上。Colab 自带的版本不会改动：如果版本不合适，"
            "请断开并删除运行时、重新打开，或改在 Colab 之外运行本书。",
        )
    missing = f"not installed, needs {requirement.version_range}"
    if version is None and find_checkout() is not None:
        return Check(
            requirement.package,
            "fail",
            missing,
            f"Install everything at once: python workbook.py run (in an environment of your own: {_pip('-e', '.')})",
            f"一次装齐：python workbook.py run（想用自己的环境，就运行 {_pip('-e', '.')}）",
        )
    if version is None or not satisfies(version, requirement.version_range):
        command = _pip(str(requirement))
        return Check(
            requirement.package,
            "fail",
            missing if version is None else f"{version}, needs {requirement.version_range}",
            f"Run: {command}",
            f"请运行：{command}",
        )
    if requirement.package == "ipywidgets" and not satisfies(version, ">=8"):
        return Check(requirement.package, "pass", f"{version} (7.x, as on Colab: the panels work with it)")
    return Check(requirement.package, "pass", version)


def _check_book() -> Iterator[Check]:
    if on_colab():  # Another ipykernel than the one that runs would break the notebook.
        yield Check("extra: book", "pass", "not needed on Colab")
        return
    book = read_project().book
    if not book:
        return
    missing, problems = [], []
    for requirement in book:
        version = _installed_version(requirement.package)
        if version is None:
            missing.append(requirement.package)
        elif not satisfies(version, requirement.version_range):
            problems.append(f"{requirement.package} {version}, needs {requirement.version_range}")
    if missing:
        problems.insert(0, f"not installed: {', '.join(missing)}")
    if not problems:
        yield Check("extra: book", "pass", ", ".join(requirement.package for requirement in book))
        return
    # Without a checkout there is nothing that pip could take the extra from.
    command = _pip("-e", ".[book]") if find_checkout() else _pip(*map(str, book))
    yield Check(
        "extra: book",
        "warn",
        "; ".join(problems),
        f"Only needed to open and build the chapters outside Colab. Run: {command}",
        f"只有不在 Colab 上打开或构建章节时才用得到。请运行：{command}",
    )


def _check_checkout() -> Iterator[Check]:
    if find_checkout() is not None:
        return
    clone, install = f"git clone {repository_address()}", _pip("-e", ".")
    yield Check(
        "checkout",
        "warn",
        "none: the package is installed without chapters and data",
        "inspect, install, convert and catalog work without it; the chapters and the models in data/ lie in it. "
        f"Run: {clone}, and in the new folder: {install}",
        "没有它，inspect、install、convert、catalog 照样可用；各章和 data/ 里的模型都在仓库里。"
        f"请运行 {clone}，再进入新文件夹运行 {install}",
    )


def _check_gpu() -> Iterator[Check]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Check("GPU", "pass", "none: the embedded profile runs on the CPU")
        return
    try:
        answer = _output_of(program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits").strip()
        obstacle = None if "," in answer else answer or "it lists no device"
    except (OSError, subprocess.SubprocessError) as error:
        answer, obstacle = "", _one_line(error)
    if obstacle is not None:
        yield Check(
            "GPU",
            "warn",
            f"nvidia-smi is there but does not work: {obstacle}",
            "Run nvidia-smi yourself; usually a reboot or a new driver helps. The embedded profile needs no GPU.",
            "请自己运行一次 nvidia-smi；多半重启或重装驱动就好。embedded 配置不需要 GPU。",
        )
        return
    found = ", ".join(_describe_gpu(line) for line in answer.splitlines() if line.strip())
    torch_version = _installed_version("torch")
    if torch_version is not None and _torch_lacks_cuda(torch_version):
        uninstall = _python() + " -m pip uninstall torch"
        yield Check(
            "GPU",
            "warn",
            f"{found}, but torch {torch_version} is built without CUDA and cannot use it",
            f"Run: {uninstall}, then install the CUDA build with the command that pytorch.org/get-started gives you.",
            f"先运行 {uninstall}，再按 pytorch.org/get-started 给出的命令安装 CUDA 版。",
        )
        return
    yield Check("GPU", "pass", found)


def _describe_gpu(line: str) -> str:
    name, _, mebibytes = (part.strip() for part in line.rpartition(","))
    # Boards that share the computer's memory answer "[N/A]".
    memory = _gigabytes(int(mebibytes) * 2**20) if mebibytes.isdigit() else "memory unknown"
    return f"{name} ({memory})"


def _torch_lacks_cuda(torch_version: str) -> bool:
    """Tell from the files of the installed torch; importing it would take seconds."""
    if torch_version.endswith("+cpu"):
        return True
    # On Windows the CPU build carries no "+cpu" in its metadata, so look where torch itself keeps the answer.
    version_file = Path(str(importlib.metadata.distribution("torch").locate_file("torch/version.py")))
    if not version_file.is_file():
        return False
    return re.search(r"^cuda\b[^=]*=\s*None", version_file.read_text(encoding="utf-8"), flags=re.MULTILINE) is not None


def _check_memory() -> Iterator[Check]:
    total, available = _memory_of_windows() if sys.platform == "win32" else _memory_of_posix()
    found = _gigabytes(total)
    if available is not None:
        found += f", {_gigabytes(available)} available"
    if total < 3 * _GIGABYTE:
        yield Check(
            "memory",
            "fail",
            found,
            "Chapters need 3 GB. Use a larger machine, raise the container's limit, or open the chapters on Colab.",
            "运行章节至少要 3 GB 内存。请换内存更大的机器、调高容器的内存上限，或改用 Colab。",
        )
    elif total < 6 * _GIGABYTE:
        yield Check(
            "memory",
            "warn",
            found,
            "Stay with the embedded profile, run one chapter at a time, and close what else is open.",
            "请使用 embedded 配置，一次只运行一章，并关掉其他占内存的程序。",
        )
    else:
        yield Check("memory", "pass", found)


def _memory_of_posix() -> tuple[int, int | None]:
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    available = None
    information = Path("/proc/meminfo")
    # Linux counts as available what it only keeps as a cache of files; SC_AVPHYS_PAGES would leave that out.
    if information.is_file():
        match = re.search(r"^MemAvailable:\s*(\d+) kB", information.read_text(encoding="ascii"), flags=re.MULTILINE)
        available = int(match[1]) * 1024 if match else None
    elif "SC_AVPHYS_PAGES" in os.sysconf_names:
        available = page * os.sysconf("SC_AVPHYS_PAGES")
    limit_file = CONTROL_GROUP / "memory.max"
    limit = limit_file.read_text(encoding="ascii").strip() if limit_file.is_file() else "max"
    if limit == "max" or int(limit) >= total:
        return total, available
    # A container: the machine may have more, but this process will never get it.
    current_file = CONTROL_GROUP / "memory.current"
    if current_file.is_file():
        left = max(0, int(limit) - int(current_file.read_text(encoding="ascii")))
        available = left if available is None else min(left, available)
    return int(limit), available


def _memory_of_windows() -> tuple[int, int | None]:
    import ctypes

    class MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX, as the Windows headers lay it out."""

        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            ("total_physical", ctypes.c_ulonglong),
            ("available_physical", ctypes.c_ulonglong),
            ("total_page_file", ctypes.c_ulonglong),
            ("available_page_file", ctypes.c_ulonglong),
            ("total_virtual", ctypes.c_ulonglong),
            ("available_virtual", ctypes.c_ulonglong),
            ("available_extended_virtual", ctypes.c_ulonglong),
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]  # Windows alone has it.
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx gave no answer")
    return status.total_physical, status.available_physical


def _check_disks() -> Iterator[Check]:
    folders = {"installed models": store_folder(), "hub cache": _hub_cache()}
    checkout = find_checkout()
    if checkout is not None:
        folders = {"workbook": checkout, **folders}
    names_by_device: dict[int, list[str]] = {}
    for name, folder in folders.items():
        names_by_device.setdefault(_nearest_existing(folder).stat().st_dev, []).append(name)
    for names in names_by_device.values():
        existing = _nearest_existing(folders[names[0]])
        free = shutil.disk_usage(existing).free
        found = f"{_gigabytes(free)} free ({', '.join(names)})"
        if free >= 5 * _GIGABYTE:
            yield Check("disk", "pass", found)
            continue
        remedy_en = f"Free some space on the disk of {existing}, or move the models: set AIGC_HOME and HF_HOME."
        remedy_zh = f"请清理 {existing} 所在的磁盘，或用 AIGC_HOME 和 HF_HOME 把模型放到别的磁盘上。"
        yield Check("disk", "fail" if free < _GIGABYTE else "warn", found, remedy_en, remedy_zh)


def _check_store() -> Iterator[Check]:
    # Without its own store the workbook cannot install what every chapter needs.
    yield _check_writing("installed models", store_folder(), "AIGC_HOME", "fail")


def _check_hub_cache() -> Iterator[Check]:
    note_en, note_zh = " The embedded profile does not use it.", "embedded 配置用不到它。"
    yield _check_writing("hub cache", _hub_cache(), "HF_HOME", "warn", note_en, note_zh)


def _check_writing(
    name: str, folder: Path, variable: str, status: Literal["warn", "fail"], note_en: str = "", note_zh: str = ""
) -> Check:
    obstacle = _obstacle_to_writing(folder)
    if obstacle is None:
        return Check(name, "pass", _describe_folder(folder))
    return Check(
        name,
        status,
        f"{folder} cannot be written: {obstacle}",
        f"Set {variable} to a folder of your own before starting Python.{note_en}",
        f"请在启动 Python 之前，把 {variable} 设为一个自己有写权限的文件夹。{note_zh}",
    )


def _check_hub() -> Iterator[Check]:
    # Either variable, and these spellings of "yes": huggingface_hub reads them the same way.
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    if offline.upper() in {"1", "ON", "YES", "TRUE"}:
        yield Check("hub", "pass", "offline by choice")
        return
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    # Reports get pasted into questions: a password in the address must not go along.
    endpoint = re.sub(r"//[^/]*@", "//", endpoint)
    obstacle = _obstacle_to_reaching(endpoint)
    if obstacle is None:
        yield Check("hub", "pass", f"{endpoint} answers")
        return
    yield Check(
        "hub",
        "warn",
        f"{endpoint}: {obstacle}",
        "The embedded profile needs no hub. For the full one, set HF_ENDPOINT to the address (https://…) of a mirror "
        "before starting Python.",
        "embedded 配置不需要访问 hub。要用 full 配置，请在启动 Python 之前把 HF_ENDPOINT 设为镜像站的地址（https://…）。",
    )


def _obstacle_to_reaching(endpoint: str) -> str | None:
    """Return what keeps a request to ``endpoint`` from being answered, or None."""
    if not endpoint.startswith(("https://", "http://")):
        return "no address that starts with https://"
    outcome: list[str | None] = []
    # Looking up a name takes no time-out and can hang for long: in a thread, the doctor need not wait for it.
    thread = threading.Thread(target=lambda: outcome.append(_request(endpoint)), daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_SECONDS + 0.2)
    return outcome[0] if outcome else f"no answer within {HUB_TIMEOUT_SECONDS:.0f} s"


def _request(endpoint: str) -> str | None:
    request = urllib.request.Request(endpoint, headers={"User-Agent": DISTRIBUTION})
    try:
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        # A mirror may have no front page or ask who is there; but these come from a proxy, or from a server in trouble.
        return f"HTTP {error.code} {error.reason}" if error.code in (403, 407) or error.code >= 500 else None
    except urllib.error.URLError as error:
        return f"not reachable ({error.reason})"
    except Exception as error:  # A malformed address, a server that speaks something else: the reader wants the text.
        return f"not reachable ({_one_line(error)})"


def _check_fonts() -> Iterator[Check]:
    font = _chinese_font()
    if font is not None:
        yield Check("Chinese font", "pass", font)
        return
    yield Check(
        "Chinese font",
        "warn",
        "none found",
        "Nothing breaks: plots are labelled in English. For Chinese text in plots of your own, install Noto Sans CJK "
        "(Debian, Ubuntu: sudo apt install fonts-noto-cjk).",
        "不影响使用：书中图表的标注都是英文。想在自己的图里显示中文，请安装思源黑体 Noto Sans CJK"
        "（Debian、Ubuntu：sudo apt install fonts-noto-cjk）。",
    )


def _chinese_font() -> str | None:
    program = shutil.which("fc-list")
    if program is not None:
        try:
            families = _output_of(program, ":lang=zh", "family").splitlines()
        except (OSError, subprocess.SubprocessError):
            pass  # The folders below tell as much.
        else:
            return min((family.split(",")[0].strip() for family in families if family.strip()), default=None)
    for folder in _font_folders():
        for path in folder.rglob("*.[to]t[fc]"):
            if _CHINESE_FONT_FILE.match(re.sub(r"[\s_-]", "", path.name.lower())):
                return path.name
    return None


# How the files of Noto Sans CJK, Source Han, WenQuanYi, Droid, LXGW WenKai, Microsoft YaHei, SimHei, SimSun, DengXian,
# PingFang, Hiragino Sans GB and STHeiti begin, in small letters without spaces and dashes.
_CHINESE_FONT_FILE = re.compile(
    r"noto(sans|serif)(mono)?(cjk|sc|tc|hk)|sourcehan|siyuan|wqy|droidsansfallback|lxgw"
    r"|msyh|simhei|simsun|deng|pingfang|hiraginosansgb|stheiti"
)


def _font_folders() -> list[Path]:
    if sys.platform == "win32":
        windows = Path(os.environ.get("WINDIR") or r"C:\Windows")
        own = Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser()
        return [windows / "Fonts", own / "Microsoft" / "Windows" / "Fonts"]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), Path("~/Library/Fonts").expanduser()]
    own_folders = [Path("~/.fonts").expanduser(), Path("~/.local/share/fonts").expanduser()]
    return [*own_folders, Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]


_CHECKS: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
    ("Python", _check_python),
    ("profile", _check_profile),
    ("packages", _check_packages),
    ("extra: book", _check_book),
    ("checkout", _check_checkout),
    ("GPU", _check_gpu),
    ("memory", _check_memory),
    ("disk", _check_disks),
    ("installed models", _check_store),
    ("hub cache", _check_hub_cache),
    ("hub", _check_hub),
    ("Chinese font", _check_fonts),
)


def _remedies(check: Check) -> tuple[str, str]:
    return check.remedy_en, check.remedy_zh


def _counts(checks: list[Check]) -> dict[str, int]:
    return {status: sum(check.status == status for check in checks) for status in _SYMBOLS}


def _could_not_check(name: str, error: Exception) -> Check:
    return Check(
        name,
        "warn",
        f"could not be checked: {_one_line(error)}",
        "Nothing is known to be wrong. If a chapter stops later, quote this line when you ask for help.",
        "这不代表有问题。如果之后某一章运行出错，求助时请附上这一行。",
    )


def _one_line(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = " ".join((error.stderr or error.stdout or "").split())
        return f"exit status {error.returncode}" + (f" ({said[:200]})" if said else "")
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:.0f} s"
    return " ".join(str(error).split()) or type(error).__name__


def _output_of(program: str, *arguments: str) -> str:
    finished = subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        encoding="utf-8",
        errors="replace",
        timeout=PROGRAM_TIMEOUT_SECONDS,
    )
    return finished.stdout


def _python() -> str:
    """Return how this very Python is called from a shell: ``python`` where that is the one, else its full path."""
    on_path = shutil.which("python")
    if on_path is not None and os.path.normcase(on_path) == os.path.normcase(sys.executable):
        return "python"
    return f'"{sys.executable}"' if " " in sys.executable else sys.executable


def _pip(*arguments: str) -> str:
    # Unquoted, a shell takes "<" for a redirection and "[" for a pattern; Windows knows double quotes only.
    quoted = (f'"{argument}"' if re.search(r"[<>=[]", argument) else argument for argument in arguments)
    return " ".join([_python(), "-m", "pip", "install", *quoted])


def _gigabytes(size: int) -> str:
    return f"{size / _GIGABYTE:.1f} GB"


def _hub_cache() -> Path:
    """Return the folder that huggingface_hub downloads to, from the variables it reads, in its order."""
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if chosen:
        return Path(os.path.expandvars(chosen)).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(os.path.expandvars(home)).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def _describe_folder(folder: Path) -> str:
    return f"{folder}, writable" if os.path.isdir(folder) else f"{folder}, made at the first download"


def _nearest_existing(folder: Path) -> Path:
    # os.path.exists answers False, where Path.exists raises, if a folder on the way may not be read.
    return next(candidate for candidate in (folder.absolute(), *folder.absolute().parents) if os.path.exists(candidate))


def _obstacle_to_writing(folder: Path) -> str | None:
    """Return what keeps files from being written to ``folder``, or to where it would be made, or None."""
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        return f"{existing} is a file"
    try:
        # Only trying tells: permissions say nothing about read-only disks, quotas or Windows.
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return error.strerror or str(error)
