"""Writes the reference of the Python interface as HTML, out of the docstrings: `python docs/api.py build/docs`."""

from __future__ import annotations

import argparse
import pkgutil
import shutil
import warnings
from pathlib import Path

import pdoc
import pdoc.render

import dmt
import dmt_kernels

HERE = Path(__file__).parent
HIDDEN = ("dmt.cli", "dmt.__main__", "dmt_kernels._C")
"""The command line documents itself (`dmt --help`); the rest is run or compiled, not imported by users."""


def modules() -> list[str]:
    """Every module of both packages, by its dotted name."""
    found = ["dmt", "dmt_kernels"]
    for package in (dmt, dmt_kernels):
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in found if not name.startswith(HIDDEN) and not name.endswith("__main__")]


def write(folder: Path) -> int:
    """Write the pages and the gallery's pictures into `folder`; returns how many modules they describe."""
    names = modules()
    pdoc.render.configure(template_directory=HERE / "templates", search=True, footer_text=f"version {dmt.__version__}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error parsing type annotation")  # named tuples whose types are strings
        pdoc.pdoc(*names, output_directory=folder)
    for picture in HERE.glob("*.png"):
        shutil.copy(picture, folder)
    return len(names)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(f"{write(arguments.folder)} modules described in {arguments.folder / 'index.html'}")
