"""The conditions of a measurement, and what the machine can do at best."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import torch
import torch.nn.functional as F

from dmt_kernels import backends

from .. import __version__
from . import timing


def conditions() -> dict[str, object]:
    """What a figure is worth nothing without."""
    gpu = torch.cuda.is_available()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "isa": backends().isa,
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "architecture": "sm_{}{}".format(*torch.cuda.get_device_capability()) if gpu else None,
        "threads": torch.get_num_threads(),
        "clock": "processor time" if torch.get_num_threads() == 1 else "wall clock",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "dmt": __version__,
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }


def processor() -> str:
    """The model's name where the system gives one."""
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str | None:
    """The checkout this package runs from, with + where files differ from it; None for an installation."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        name = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "dmt", "dmt_kernels", "csrc")
    except (OSError, subprocess.CalledProcessError):
        return None
    return name + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def peak_gflops(dtype: torch.dtype = torch.float32, size: int = 1024, device: str = "cpu") -> float:
    """10^9 FLOPs a second of the best large product [size, size] x [size, size] at hand."""
    a, b = torch.randn(size, size, device=device).to(dtype), torch.randn(size, size, device=device).to(dtype)
    ways = {"linear": lambda: F.linear(a, b)}
    if device == "cpu" and torch.backends.mkldnn.is_available():
        ways["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return 2 * size**3 / _fastest(ways, device) / 1e3


def peak_gbps(megabytes: int = 256, device: str = "cpu") -> float:
    """10^9 bytes a second of memory: the better of a copy and a triad (a = b + s c), far larger than the caches."""
    n = megabytes * 2**18
    a, b, c = (torch.zeros(n, device=device) for _ in range(3))
    copy = _fastest({"copy": lambda: a.copy_(b)}, device)
    triad = _fastest({"triad": lambda: torch.add(b, c, alpha=0.5, out=a)}, device)
    return max(8 * n / copy, 12 * n / triad) / 1e3


def _fastest(ways: timing.Alternatives, device: str) -> float:
    """Microseconds: the p20 of the best, as a peak is not a median."""
    return min(t.p20 for t in timing.compare(ways, 0.5, device=device).values())
