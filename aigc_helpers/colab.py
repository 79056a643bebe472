"""What is different on Google Colab, and what is done about it. Standard library only: the doctor asks here, too."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys

from aigc_helpers.paths import in_checkout
from aigc_helpers.versions import satisfies

# Colab has no command aigc: the workbook is cloned there, not installed.
COMMAND = "python -m aigc_helpers.cli"
# PEFT refuses older ones at the first LoRA, even if nobody asks for torchao; Colab brings 0.10.
TORCHAO_FOR_PEFT = ">=0.16"


def on_colab() -> bool:
    """Tell whether this process runs on Google Colab."""
    # Asking for google.colab where there is no package named google would raise.
    return bool(importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"))


def hide_old_torchao() -> bool:
    """Let this process do without a torchao that PEFT would refuse, and tell whether there was one.

    Nothing in the book needs torchao, so it is not replaced: that would take a restart. It stays on the disk, and only
    imports of it fail, as they do where it was never installed. To be called before PEFT looks for it.
    """
    if "torchao" in sys.modules:  # hidden already, or imported by somebody who needs it
        return False
    try:
        is_old = not satisfies(importlib.metadata.version("torchao"), TORCHAO_FOR_PEFT)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    if is_old:
        sys.modules["torchao"] = None  # type: ignore[assignment]  # Python's own mark of what cannot be imported.
    return is_old


def let_other_processes_find_the_book() -> None:
    """Put the workbook's folder into PYTHONPATH, so that ``!python -m aigc_helpers.cli`` works from any folder."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(in_checkout()) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(in_checkout()), *paths])


def advice(has_gpu: bool) -> list[str]:
    """Return what a reader on Colab may want to know, in both languages, a line each."""
    gpu = (
        "GPU: none. For the full-size models: Runtime → Change runtime type → T4 GPU, then run this cell. / "
        "没有 GPU。想用完整大小的模型：“代码执行程序”→“更改运行时类型”→ T4 GPU，再运行本单元格。"
    )
    return [
        f"command: where the book says aigc, write !{COMMAND} here. / 书中的 aigc 命令，在这里写作 !{COMMAND}。",
        *([] if has_gpu else [gpu]),
        "token: only for a gated model; put HF_TOKEN under Secrets (the key on the left). / "
        "只有下载受限模型才需要：在左侧钥匙图标（Secret）里添加 HF_TOKEN。",
        "files: gone with the runtime. To keep checkpoints, mount Drive (the folder on the left), and name a folder "
        "below /content/drive/MyDrive. / 运行时一结束，文件就没了。要保留检查点，请在左侧文件夹图标里装载云端硬盘，"
        "并把文件夹设在 /content/drive/MyDrive 下。",
    ]
