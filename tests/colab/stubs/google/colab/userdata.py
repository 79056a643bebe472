"""Colab's secrets: there are none here."""


class SecretNotFoundError(Exception):
    """No secret has this name."""


def get(key: str) -> str:
    """Return a secret's value.

    Raises:
        SecretNotFoundError: always.
    """
    raise SecretNotFoundError(f"Secret {key} does not exist.")
