"""`python -m nanogpt` runs the command line in `cli/`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
