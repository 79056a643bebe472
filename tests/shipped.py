"""Which of the models that ``aigc pretrain`` builds are there to be tested."""

from __future__ import annotations

import pytest

from aigc_helpers.paths import DATA

needs_sd = pytest.mark.skipif(not (DATA / "sd").is_dir(), reason="data/sd is not there yet; aigc pretrain sd builds it")
