"""What runs the operators: compiled modules, Triton, or the reference; and why something is absent."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from dataclasses import dataclass
from types import ModuleType

import torch


@dataclass(frozen=True)
class Backend:
    """One way to run the operators."""

    loaded: bool
    reason: str
    """What is loaded, or why it is not; one sentence."""


@dataclass(frozen=True)
class Backends:
    """The state of all of them; `str()` prints it for people."""

    cpu: Backend
    cuda: Backend
    triton: Backend
    isa: str | None
    """Instruction set that the CPU kernels use: amx (AVX-512 and matrix tiles), avx512, avx2, baseline, or None."""
    on_cpu: str
    """What runs for CPU tensors: compiled or reference."""
    on_cuda: str
    """What runs for CUDA tensors: compiled, triton or reference."""

    def __str__(self) -> str:
        lines = [f"{name}: {getattr(self, name).reason}" for name in ("cpu", "cuda", "triton")]
        return "\n".join([*lines, f"CPU tensors: {self.on_cpu}; CUDA tensors: {self.on_cuda}"])


_modules: dict[str, ModuleType] = {}
_absent: dict[str, str] = {}


def _load(name: str) -> None:
    """Import a compiled module, which registers its kernels; remember why not."""
    full = f"{__package__}.{name}"
    if importlib.util.find_spec(full) is None:
        _absent[name] = f"not built (no module {full}); install with a compiler at hand and without DMT_BUILD=none"
        return
    try:
        _modules[name] = importlib.import_module(full)
    except ImportError as error:
        _absent[name] = f"built, but does not load: {error}"


def load() -> None:
    """Load what was built and fits this torch; called once, when the package is imported."""
    _load("_C")
    if torch.version.cuda is None:
        _absent["_C_cuda"] = "this build of torch has no CUDA"
    else:
        _load("_C_cuda")
    if "_C" not in _modules:
        warnings.warn(f"dmt_kernels runs its slow reference on the CPU: {_absent['_C']}", RuntimeWarning, stacklevel=3)
    if _triton().loaded:
        from .ops import triton_registration

        triton_registration.register()
    elif "_C_cuda" in _modules:
        _structures_by_element()


def _structures_by_element() -> None:
    """Without Triton the compiled products by element, which pass over dead tiles, serve the structures too."""
    from .registry import LIBRARY

    for name in ("linear", "linear_grad_input", "linear_grad_weight"):
        LIBRARY.impl(f"structured_{name}", getattr(torch.ops.dmt_kernels, f"sparse_{name}"), "CUDA")


def _triton() -> Backend:
    if importlib.util.find_spec("triton") is None:
        return Backend(False, "triton is not installed")
    if torch.version.cuda is None:
        return Backend(False, "this build of torch has no CUDA")
    return Backend(True, "available")


def on_cuda() -> str:
    """What runs for CUDA tensors."""
    if "_C_cuda" in _modules:
        return "compiled"
    return "triton" if _triton().loaded else "reference"


def tiles() -> bool:
    """Whether the CPU kernels multiply on matrix tiles (AMX)."""
    return "_C" in _modules and _modules["_C"].isa() == "amx"


def calls(name: str) -> int:
    """How often the compiled modules ran operator `name` in this process."""
    return sum(module.calls().get(name, 0) for module in _modules.values())


def backends() -> Backends:
    """Which of cpu, cuda and triton are loaded, what runs on which device, and why something is absent."""
    cpu, cuda = _modules.get("_C"), _modules.get("_C_cuda")
    isa = cpu.isa() if cpu else None
    return Backends(
        cpu=Backend(True, f"compiled, {isa}") if cpu else Backend(False, _absent["_C"]),
        cuda=Backend(True, "compiled") if cuda else Backend(False, _absent["_C_cuda"]),
        triton=_triton(),
        isa=isa,
        on_cpu="compiled" if cpu else "reference",
        on_cuda=on_cuda(),
    )
