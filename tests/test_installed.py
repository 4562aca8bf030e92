"""`make test` asks for proof that it tested the installed package and its compiled operators, not their stand-ins."""

from __future__ import annotations

import os
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch

import dmt
import dmt_kernels
from dmt.rates import COEFFICIENTS, WINDOW
from dmt.scene import ASSETS, asset
from dmt.types import StyleClip
from dmt_kernels import backends

ROOT = Path(__file__).resolve().parents[1]
asked = pytest.mark.skipif(
    os.environ.get("DMT_EXPECT_COMPILED") != "1", reason="only `make test` promises an installed, compiled package"
)


@asked
def test_the_source_tree_is_not_what_is_imported():
    for package in (dmt, dmt_kernels):
        assert ROOT not in [*Path(package.__file__).resolve().parents][:2]
        assert "site-packages" in Path(package.__file__).parts
    assert not {str(ROOT), ""} & set(sys.path)


@asked
def test_the_compiled_module_is_loaded():
    assert backends().cpu.loaded and backends().on_cpu == "compiled", backends().cpu.reason


@asked
def test_the_compiled_module_ran_inside_the_model(tiny_model):
    before = counts()
    style = StyleClip(torch.randn(256, COEFFICIENTS), torch.zeros(256, dtype=torch.bool))
    tiny_model.sample(torch.randn(1, 3, WINDOW, tiny_model.config.speech.width), style, steps=1)
    after = counts()
    assert any(after[name] > before[name] for name in after if name.startswith("threshold_ema"))
    assert any(after[name] > before[name] for name in after if name.startswith("sparse_linear"))


def counts() -> dict[str, int]:
    """How often each operator of the compiled CPU module has run."""
    return dict(sys.modules["dmt_kernels._C"].calls())


@pytest.mark.parametrize("name", ASSETS)
def test_every_asset_is_installed(name):
    assert asset(name).stat().st_size > 100


def test_versions_agree():
    try:
        installed = distribution("dreamtalk-dmt").version
    except ModuleNotFoundError:
        pytest.skip("the package is not installed, only importable")
    assert installed == dmt.__version__
