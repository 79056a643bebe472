"""Pretends that other versions of packages are installed than are: what the doctor and the set-up speak of."""

from __future__ import annotations

import importlib.metadata

import pytest


def install_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Pretend that these versions are installed; None stands for a package that is not."""
    genuine = importlib.metadata.version

    def version(package: str) -> str:
        pretended = versions.get(package, genuine)
        if pretended is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return pretended if isinstance(pretended, str) else genuine(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
