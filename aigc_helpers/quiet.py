"""Loading models without the libraries' progress bars and advice, which say nothing about a small model on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Silence progress bars and log lines, such as that torchvision is not installed; errors are raised all the same.

    Args:
        libraries: of ``"diffusers"`` and ``"transformers"``.
    """
    loggers = [import_module(f"{library}.utils.logging") for library in libraries]
    before = [(logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]
    for logger in loggers:
        logger.set_verbosity(logger.CRITICAL)
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger, (verbosity, had_progress_bar) in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)
            if had_progress_bar:
                logger.enable_progress_bar()
