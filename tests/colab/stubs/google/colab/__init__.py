"""What the book may touch of Colab's own package; that it can be found is how Colab is recognised."""

from google.colab import drive, files, userdata

__all__ = ["drive", "files", "userdata"]
