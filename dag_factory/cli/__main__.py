"""`python -m dag_factory.cli` is the `dataops` command."""

import sys

from dag_factory.cli import program

if __name__ == "__main__":
    sys.exit(program())
