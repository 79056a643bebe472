"""What the set-up cell of every chapter calls: install what Colab lacks, quiet the libraries, report versions."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from aigc_helpers.colab import advice, hide_old_torchao, let_other_processes_find_the_book, on_colab
from aigc_helpers.errors import ReaderError
from aigc_helpers.project import read_project
from aigc_helpers.versions import satisfies

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# Read once, when the libraries are imported; whoever has set one already keeps it. The hub's progress bars stay on:
# on the full profile a chapter downloads hundreds of megabytes, and a silent cell looks like a broken one.
ENVIRONMENT = {
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
# Already loaded, or bound to the page's JavaScript: another version on disk than in memory breaks a live kernel.
NEVER_INSTALLED = ("torch", "numpy", "ipywidgets")
REPORTED = ("torch", "transformers", "peft")


def prepare() -> None:
    """Make a fresh kernel ready for any chapter, and print which versions and which profile it runs with.

    Only on Colab is anything installed. No seed is set: each chapter sets its own where a reader can see it. The
    profile is chosen anew, so that ``%env AIGC_PROFILE=…`` counts once the set-up cell is run again.

    Raises:
        ReaderError: on Colab, pip could not install what is missing.
        UnknownNameError: ``AIGC_PROFILE`` holds something else than a profile's name.

    Example:
        >>> prepare()
        torch ... · transformers ... · peft ...
        profile: embedded · ...
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if on_colab():
        install_missing()
        let_other_processes_find_the_book()
    hide_old_torchao()
    quieten()
    explain_refusals()

    from aigc_helpers.profile import ENVIRONMENT_VARIABLE, choose_profile

    print(" · ".join(f"{name} {_version(name) or 'is missing'}" for name in REPORTED))
    profile = choose_profile(os.environ.get(ENVIRONMENT_VARIABLE))
    print(f"profile: {profile.name} · {profile.device} · {profile.dtype_name}")
    if profile.device == "cuda":
        print(gpu_memory())
    for line in [*outside_ranges(), *(advice(has_gpu=profile.device != "cpu") if on_colab() else [])]:
        print(line)


def gpu_memory() -> str:
    """Return, in both languages, which GPU there is and how much of its memory is free.

    What another notebook holds is not: better to see it here than in the middle of a training.
    """
    import torch

    free, total = (size / 1e9 for size in torch.cuda.mem_get_info())
    return (
        f"GPU: {torch.cuda.get_device_name()} · {free:.1f} of {total:.1f} GB free; what the chapter needs stands in "
        f"its table above. / 显存空闲 {free:.1f} GB，共 {total:.1f} GB；本章需要多少，见上面的表格。"
    )


def quieten() -> None:
    """Leave out what a reader can do nothing about; downloads keep their progress bars.

    Both would also go to stderr, and differ from run to run: no cell that writes there can be compared.
    """
    import warnings

    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for every model that is read from the disk; it also takes the downloads' bars
    enable_progress_bars()
    # One library using another's old names is for their authors to mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|diffusers)\.")


def explain_refusals() -> None:
    """Have a cell that the model hub turns away end in what to accept and how to sign in, whoever asked the hub.

    Outside of a notebook there is nothing to do.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((OSError,), _show_with_reason)


def _show_with_reason(
    shell: InteractiveShell,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
    tb_offset: int | None = None,
) -> None:
    from aigc_helpers.store import refusal_under

    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    reason = refusal_under(error)
    if reason:
        print(f"{reason}. Then run this cell again. / 请照上面的网址接受许可或登录，再运行本单元格。")


def missing_requirements() -> list[str]:
    """Return those of the project's dependencies, with their ranges, that are not installed here in any version."""
    return [
        str(requirement)
        for requirement in read_project().dependencies
        if requirement.package not in NEVER_INSTALLED and _version(requirement.package) is None
    ]


def outside_ranges() -> list[str]:
    """Return a line in both languages for each installed package whose version the book was not made for."""
    lines = []
    for requirement in read_project().dependencies:
        name, version_range = requirement.package, requirement.version_range
        version = _version(name)
        try:
            fits = version is None or satisfies(version, version_range)
        except ValueError:  # a version number of somebody's own making; the doctor speaks of it
            continue
        if not fits:
            lines.append(
                f"! {name} {version} is outside the book's range {version_range}; a chapter may stop or differ. / "
                f"{name} {version} 超出本书支持的范围 {version_range}，章节可能报错，结果也可能不同。"
            )
    return lines


def install_missing() -> list[str]:
    """Install what ``missing_requirements`` names with pip, and return it.

    A package that is there stays as it is, even outside our range: it may be imported already. What is missing may
    need packages of its own, so pip resolves dependencies; the constraints file keeps it from replacing torch, numpy
    or ipywidgets on the way.

    Raises:
        ReaderError: pip failed; its own message is printed above.
    """
    missing = missing_requirements()
    if not missing:
        return []
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        installed = {name: _version(name) for name in NEVER_INSTALLED}
        lines = [f"{name}=={version}\n" for name, version in installed.items() if version]
        constraints.write_text("".join(lines), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *missing]
        if subprocess.run(command).returncode:
            raise ReaderError(
                f"pip could not install {', '.join(missing)}. Run the cell again; if it fails again, restart the "
                "runtime first. / 安装失败：请重新运行本单元格，必要时先重启运行时。"
            )
    importlib.invalidate_caches()
    return missing


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
