"""The Dockerfiles name what the project has; building them needs Docker and a network, which tests do without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")
ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def test_there_are_two() -> None:
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "cuda.Dockerfile"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_it_installs_exists(path: Path) -> None:
    text = path.read_text()
    extras = set(re.search(r'"\.\[([a-z,]+)\]"', text).group(1).split(","))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras <= declared["optional-dependencies"].keys()
    entry = re.search(r'ENTRYPOINT \["(\w+)"\]', text).group(1)
    assert entry in declared["scripts"]
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+]+)$", (ROOT / "constraints.txt").read_text(), re.M))
    for name, version in re.findall(r"\b(torch|torchaudio)==([\d.]+)", text):
        assert pins[name] == version
    assert re.search(r"^USER (?!root)", text, re.M)
