"""`python -m dmt.training ...` is `dmt train ...`: the door for torchrun, which starts modules."""

from __future__ import annotations

import sys

from ..cli.app import run

if __name__ == "__main__":
    sys.exit(run(["train", *sys.argv[1:]]))
