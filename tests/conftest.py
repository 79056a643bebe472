"""What every test runs under: the embedded profile, no hub, and a miniature chapter for the tests of the builder."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# A machine that is busy with something else is no fault of the code.
hypothesis.settings.register_profile("book", deadline=None)
hypothesis.settings.load_profile("book")

# Before any test imports a library, and inherited by every kernel that a test starts.
os.environ["AIGC_PROFILE"] = "embedded"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("AIGC_COMMAND", None)  # Set where the tests were started with workbook.py; advice would name that.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # Each core has a process; more threads would stand in line.

MINIATURE = """\
# %% [markdown] lang="en"
# # A miniature
# {{badge}} The update is $\\Delta W = \\frac{\\alpha}{r} BA$. Next: [the other](97_other.ipynb).

# %% [markdown] lang="zh"
# # 微型章节
# {{badge}} 更新量为 $\\Delta W = \\frac{\\alpha}{r} BA$。

# %% tags=["nbval-check-output"]
import os
import sys

# cat is no command here
print("✓ first: 1")
print("100%|##| noise of a progress bar", file=sys.stderr)
print("✓ second: 2")

# %%
1 + 1

# %%
1 + 1

# %% tags=["panel"]
import ipywidgets
from IPython.display import display

print("beside the panel")
display(ipywidgets.IntSlider(description="rank"))

# %%
import base64

# A white pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP6DwABBQECz6AuzQAAAABJRU5ErkJggg=="
png = base64.b64decode(PIXEL)
display({"image/png": png}, metadata={"image/png": {"alt": "a white pixel"}}, raw=True)

# %% tags=["raises-exception"]
raise AssertionError("✗ shown on purpose, from " + os.path.expanduser("~") + "/somewhere")

# %% [markdown] lang="en"
# ## Try it

# %% [markdown] lang="zh"
# ## 试一试

# %%
def check_exercise(identifier, answer):
    print("○", identifier, answer)


# %% tags=["exercise"]
answer = None
for _ in range(1):
    # begin solution
    answer = 42
    # end solution

check_exercise("98-1", answer)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every notebook cell as slow: a chapter takes minutes."""
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    """Return a chapters folder whose one source is ``source/98_miniature.py``, not built yet."""
    return write_miniature(tmp_path)


@pytest.fixture(scope="session")
def built_miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same folder after one real build, kernel and all. Copy it before changing anything in it."""
    from aigc_helpers.publishing.builder import build

    folder = write_miniature(tmp_path_factory.mktemp("built"))
    assert [each.executed for each in build(folder=folder)] == [True]
    return folder


def write_miniature(parent: Path) -> Path:
    folder = parent / "chapters"
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "98_miniature.py").write_text(MINIATURE, encoding="utf-8")
    return folder
