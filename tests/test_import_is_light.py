"""``import aigc_helpers`` is the first thing every notebook does: it must not wait for torch."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
import aigc_helpers
print(*sorted({"torch", "transformers", "numpy", "pandas", "matplotlib"} & set(sys.modules)))
"""


def test_import_brings_no_heavy_package() -> None:
    finished = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    heavy = finished.stdout.split()
    assert heavy == [], f"import aigc_helpers also imported {heavy}; import them where they are first used"
