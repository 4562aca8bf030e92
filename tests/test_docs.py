"""The public interface describes itself: what docs/api.py turns into pages is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for package in ("dmt", "dmt_kernels") for path in (ROOT / package).rglob("*.py"))
SOURCES = [path for path in SOURCES if path.name not in ("__main__.py", "triton_kernels.py")]  # run, or traced


def undocumented(path: Path) -> list[str]:
    """Public modules, classes and functions (methods too) of a file without a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    missing = [] if ast.get_docstring(tree) or not body else ["the module"]
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            missing += [] if ast.get_docstring(node) else [node.name]
    return missing


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    assert not undocumented(path)


def test_pictures_of_the_documents_exist() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), f"{page.name} shows {picture}, which is not there"
