"""What is built from the repository's address on the web: badges and the set-up cell."""

from __future__ import annotations

from aigc_helpers.project import repository_address

COLAB_BADGE_IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
BADGE_ALT_TEXT = {"en": "Open in Colab", "zh": "在 Colab 中打开"}

# Readable by someone who has never seen the project: it stands at the top of every chapter.
_SETUP_CELL = """\
# Set-up, the same in every chapter: finds the workbook, on Colab fetches it. / 准备单元格，每章相同。
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
if find_spec("aigc_helpers") is None:
    folders = [Path.cwd(), *Path.cwd().parents, Path.cwd() / "{folder}"]
    folder = next((folder for folder in folders if (folder / "aigc_helpers").is_dir()), None)
    if folder is None and find_spec("google") and find_spec("google.colab"):
        folder, address = folders[-1], "{address}"
        subprocess.run(["git", "clone", "--depth", "1", address, str(folder)], check=True)
    assert folder, "Open this notebook inside the workbook's folder. / 请在教程文件夹中打开本笔记本。"
    sys.path.insert(0, str(folder))
from aigc_helpers.notebook import prepare
prepare()"""


def notebook_path(chapter_name: str, language: str) -> str:
    """Return a notebook's path inside the repository: ``chapters/05_x.ipynb``, or ``chapters/zh/05_x.ipynb``."""
    return f"chapters/{'' if language == 'en' else language + '/'}{chapter_name}.ipynb"


def colab_badge(chapter_name: str, language: str) -> str:
    """Return the Markdown of a picture with alt text that opens one language's notebook in Colab."""
    repository = repository_address().removeprefix("https://github.com/")
    target = f"https://colab.research.google.com/github/{repository}/blob/main/{notebook_path(chapter_name, language)}"
    return f"[![{BADGE_ALT_TEXT[language]}]({COLAB_BADGE_IMAGE})]({target})"


def setup_cell() -> str:
    """Return the source of the set-up cell: at most 15 lines, the same in every chapter and language."""
    address = repository_address()
    return _SETUP_CELL.format(address=address, folder=address.rsplit("/", 1)[-1])
