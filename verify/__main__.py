"""`python -m asymptest.verify` is the command `asymptest`."""

import sys

from asymptest.verify.cli import main

if __name__ == "__main__":  # spawned workers load this file under another name
    sys.exit(main())
