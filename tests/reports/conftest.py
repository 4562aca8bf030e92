"""Reports are scripts of the checkout, not part of the installed package, and the checkout stays out of sys.path."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "reports"

if "reports" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "reports", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    sys.modules["reports"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["reports"])
