"""``python -m aigc_helpers.cli`` is ``aigc``, also where the package was never installed."""

import sys

from aigc_helpers.cli import main

if __name__ == "__main__":
    sys.exit(main())
