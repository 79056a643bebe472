"""Uploads and downloads by way of the browser: there is none here."""


def upload() -> dict[str, bytes]:
    """Ask a person for files.

    Raises:
        RuntimeError: always; no chapter may need an upload.
    """
    raise RuntimeError("nobody is here to upload a file")


def download(filename: str) -> None:
    """Do nothing."""
