"""`python -m asymptest.verify.training` trains the models of a profile."""

import sys

from asymptest.verify.training.command import main

if __name__ == "__main__":  # spawned workers load this file under another name
    sys.exit(main())
