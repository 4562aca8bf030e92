"""What this machine has, what it lacks, and the command that mends each fault."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import __version__

SHOWN = ("torch", "torchaudio", "numpy", "scipy", "transformers", "safetensors", "av", "typer")
"""Distributions whose versions matter in a bug report."""

EXTRAS = {
    "face": (("mediapipe>=0.10.14,<0.10.30",), "exact landmarks: `dmt generate --image`, `dmt extract`"),
    "train": (
        (
            "espeakng-loader>=0.2",
            "matplotlib>=3.8",
            "tensorboard>=2.16",
        ),
        "`dmt corpus` and `dmt train`",
    ),
    "evaluate": (
        (
            "torchmetrics>=1.4",
            "scikit-image>=0.24",
            "matplotlib>=3.8",
        ),
        "`dmt evaluate videos` and `paper`",
    ),
    "lmdb": (("lmdb>=1.4",), "data sets in PIRender's layout"),
    "bench": (("matplotlib>=3.8",), "the plots of `dmt bench`"),
    "web": (
        (
            "gradio>=6",
            "fastapi>=0.115",
            "uvicorn>=0.30",
            "python-multipart>=0.0.18",
            "websockets>=13",
            "prometheus-client>=0.20",
        ),
        "`dmt web` and `dmt serve`",
    ),
    "ray": (("ray[data]>=2.40",), "`dmt batch --ray`"),
    "onnx": (
        (
            "onnx>=1.17",
            "onnxscript>=0.5",
            "onnxruntime>=1.20",
        ),
        "`dmt export`",
    ),
}
"""Extra -> (requirements, what needs them); a test holds it equal to pyproject.toml."""

NEEDED_MEMORY = 2e9
"""Bytes of free memory below which generation at 512 pixels is likely to fail."""

NEEDED_DISK = 200e6
"""Free bytes in the current folder below which a few minutes of video may not fit."""


@dataclass(frozen=True)
class Check:
    """One line of the report. mend: the command that mends it, empty where there is nothing to mend.

    good; warning: something works less well or one command is not there; bad: `dmt generate` cannot be trusted.
    """

    name: str
    found: str
    state: Literal["good", "warning", "bad"] = "good"
    mend: str = ""


def examine() -> list[Check]:
    """Every check, in the order of the report. Takes a few seconds; writes only to a temporary file."""
    parts = (
        _versions,
        _requirements,
        _extensions,
        _operators,
        _gpu,
        _landmarks,
        _encoders,
        _assets,
        _extras,
        _espeak,
        _memory,
        _disk,
    )
    return [check for part in parts for check in _safely(part)]


def _safely(part: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A check that breaks is a finding, not the end of the report."""
    try:
        yield from part()
    except Exception as error:
        name = part.__name__.strip("_")
        yield Check(name, f"{type(error).__name__}: {error}", "bad", "pip install --force-reinstall dreamtalk-dmt")


def _versions() -> Iterator[Check]:
    yield Check("dmt", f"{__version__}, {Path(__file__).parent}")
    yield Check("python", f"{platform.python_version()} on {platform.platform()}")
    for name in SHOWN:
        try:
            yield Check(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "not installed", "bad", f"pip install {name}")


def _requirements() -> Iterator[Check]:
    """Whether what is installed is as new as this package asks for."""
    from packaging.requirements import Requirement

    try:
        needs = importlib.metadata.requires("dreamtalk-dmt") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("installation", "run from its source tree, not installed; versions are not compared")
        return
    wrong = []
    for need in map(Requirement, needs):
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found is None or not need.specifier.contains(found, prereleases=True):
            wrong.append(need)
            mend = f"pip install '{need.name}{need.specifier}'"
            yield Check(f"needs {need.name}", f"{found or 'nothing'} where {need.specifier} is wanted", "bad", mend)
    if not wrong:
        yield Check("installation", "every package it needs is there and new enough")


def _extensions() -> Iterator[Check]:
    import torch

    import dmt_kernels

    found = dmt_kernels.backends()
    rebuild = "pip install --no-build-isolation --force-reinstall --no-deps ."
    yield _one("kernels, CPU", found.cpu.loaded, found.cpu.reason, f"DMT_BUILD=cpu {rebuild}")
    wanted = torch.cuda.is_available()
    for name, backend in (("kernels, CUDA", found.cuda), ("kernels, Triton", found.triton)):
        if backend.loaded or not wanted:
            yield Check(name, backend.reason)
        else:
            yield Check(name, backend.reason, "warning", f"DMT_BUILD=cuda {rebuild}")
    yield Check("what runs", f"CPU tensors: {found.on_cpu}; CUDA tensors: {found.on_cuda}")


def _one(name: str, good: bool, found: str, mend: str) -> Check:
    return Check(name, found) if good else Check(name, found, "warning", mend)


def _operators() -> Iterator[Check]:
    import torch

    from .selftest import operator_differences

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for name, difference, allowed in operator_differences(device):
            found = f"differs from its reference by {difference:.1e} (allowed {allowed:.0e})"
            good = difference <= allowed
            yield Check(
                f"{name} on {device}", found, "good" if good else "bad", "" if good else "DMT_BUILD=none pip install ."
            )


def _gpu() -> Iterator[Check]:
    import torch

    if not torch.cuda.is_available():
        yield _no_gpu(torch.version.cuda)
        return
    from dmt_kernels import backends

    kernels = backends().on_cuda
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        capability = ".".join(map(str, torch.cuda.get_device_capability(index)))
        found = f"{torch.cuda.get_device_name(index)}, sm {capability}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        mend = "" if free >= NEEDED_MEMORY else "close what uses it (nvidia-smi names it), or use --device cpu"
        yield Check(f"GPU {index}", f"{found}; operators: {kernels}", "warning" if mend else "good", mend)


def _no_gpu(cuda: str | None) -> Check:
    """Why torch sees no GPU, where the machine has a driver for one."""
    if not (Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")):
        return Check("GPU", "none; everything runs on the CPU")
    if cuda is None:
        mend = "pip install --force-reinstall torch torchaudio --index-url https://download.pytorch.org/whl/cu130"
        return Check("GPU", "a driver is there, but this build of torch has no CUDA", "warning", mend)
    found = f"a driver is there, but torch (CUDA {cuda}) finds no GPU: none is visible here, or it is too old"
    return Check("GPU", found, "warning", "nvidia-smi; unset CUDA_VISIBLE_DEVICES; or update the driver")


def _landmarks() -> Iterator[Check]:
    from .face.landmarks import why_no_mesh

    missing = why_no_mesh()
    if missing is None:
        yield Check("landmarks", f"mediapipe {importlib.metadata.version('mediapipe')}")
        return
    found = f"MediaPipe {missing}; a face box and the mean face stand in for it"
    # OpenCV's ordinary build wants a desktop's libraries, the headless one does not
    headless = "pip install --force-reinstall --no-deps opencv-python-headless==4.11.0.86"
    mend = headless if "cannot be loaded" in missing else "pip install 'mediapipe>=0.10.14,<0.10.30'"
    yield Check("landmarks", found, "warning", mend)


def _encoders() -> Iterator[Check]:
    from . import media

    for name, present in media.encoders().items():
        yield (
            Check(f"encoder {name}", "in PyAV")
            if present
            else Check(
                f"encoder {name}",
                "not in this build of PyAV",
                "bad",
                "pip install --force-reinstall --only-binary :all: av",
            )
        )
    yield _trial()


def _trial() -> Check:
    """Three frames and their sound, written and read back."""
    import numpy as np

    from . import media
    from .errors import InputError

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.mp4"
        try:
            with media.VideoWriter(path, 64, 64) as writer:
                writer.write(np.zeros((3, 64, 64, 3), np.uint8))
                writer.write_audio(np.zeros(1920, np.float32))
            frames, sound = len(list(media.read_frames(path))), media.check_audio(path).samples
        except (InputError, OSError) as error:
            frames, sound = str(error), 0
    if frames == 3 and sound >= 1920:
        return Check("encoding", "a video of three frames was written and read back")
    found = f"of a video of three frames came back: {frames}"
    return Check("encoding", found, "bad", "pip install --force-reinstall --only-binary :all: av")


def _assets() -> Iterator[Check]:
    from .scene import ASSETS, asset

    missing = []
    for name in ASSETS:
        try:
            asset(name)
        except ValueError:
            missing.append(name)
    if missing:
        yield Check("assets", f"missing: {', '.join(missing)}", "bad", "pip install --force-reinstall dreamtalk-dmt")
    else:
        yield Check("assets", f"all {len(ASSETS)} present")


def _extras() -> Iterator[Check]:
    """Which commands lack a package, by extra."""
    for extra, (packages, purpose) in EXTRAS.items():
        versions, missing = [], []
        for requirement in packages:
            package = re.match(r"[\w-]+", requirement)[0]
            try:
                versions.append(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                missing.append(requirement)
        if missing:
            found = f"without {', '.join(missing)}; for {purpose}"
            yield Check(f"extra {extra}", found, "warning", "pip install " + " ".join(f"'{need}'" for need in missing))
        else:
            yield Check(f"extra {extra}", ", ".join(versions))


def _espeak() -> Iterator[Check]:
    if importlib.util.find_spec("espeakng_loader") is None:
        return  # the extra `train` has said so
    loader = importlib.import_module("espeakng_loader")
    library = Path(loader.get_library_path())
    good = library.is_file()
    yield _one("espeak-ng", good, str(library), "pip install --force-reinstall espeakng-loader")


def _memory() -> Iterator[Check]:
    free = free_memory()
    if free is None:
        yield Check("free memory", "this system does not say")
    elif free < NEEDED_MEMORY:
        yield Check("free memory", f"{free / 1e9:.1f} GB", "warning", "close other programs, or use --size 256")
    else:
        yield Check("free memory", f"{free / 1e9:.1f} GB")


def free_memory() -> int | None:
    """Bytes that a new program can have, None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return found["MemAvailable"]
    except (OSError, KeyError, IndexError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # macOS and Windows know neither name
        return None


def _disk() -> Iterator[Check]:
    for name, folder in (("current folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        good = free >= NEEDED_DISK
        yield _one(f"disk, {name}", good, f"{free / 1e9:.1f} GB free in {folder}", "free some space, or change folder")
    if not sys.flags.utf8_mode and sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        yield Check("file names", f"encoded as {sys.getfilesystemencoding()}", "warning", "export PYTHONUTF8=1")
