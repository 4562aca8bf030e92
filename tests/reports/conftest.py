"""Reports are scripts of the checkout, not part of the installed package: found behind everything installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
