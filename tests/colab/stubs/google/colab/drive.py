"""Google Drive: not mounted here."""


def mount(mountpoint: str, force_remount: bool = False) -> None:
    """Ask a person for permission.

    Raises:
        RuntimeError: always; no chapter may need a Drive.
    """
    raise RuntimeError(f"nobody is here to let a Drive be mounted at {mountpoint}")
