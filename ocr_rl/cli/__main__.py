"""`python -m ocr_rl.cli`: as `ocr-rl`."""

import sys

from ocr_rl.cli import main

if __name__ == "__main__":
    sys.exit(main())
