"""`python -m dmt.training ...` is `dmt train ...`: the door for torchrun, which starts modules."""

from __future__ import annotations

import sys

from ..cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
