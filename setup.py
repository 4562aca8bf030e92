"""Builds the compiled kernels: `dmt_kernels._C` (CPU) and, where nvcc is, `dmt_kernels._C_cuda`.

Environment, read at build time only:
  DMT_BUILD=auto|cpu|cuda|none   auto (default): CPU, and CUDA if nvcc is found; cuda: both, an error without nvcc
  TORCH_CUDA_ARCH_LIST           for example "8.0;9.0"; default 8.0 8.9 9.0 and PTX for what comes after
  MAX_JOBS                       compilers at a time; default one per processor
  CXX                            the C++ compiler; default c++

Sources are found by name: csrc/*/*_cpu.cpp for any processor, *_cpu_avx2.cpp, *_cpu_avx512.cpp and *_cpu_amx.cpp with
those instruction sets (chosen at run time), csrc/*/*_cuda.cu for the GPU, *_sm90a_cuda.cu for Hopper alone. All use
torch's stable ABI alone, so one build serves later versions of torch.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
TORCH_TARGET = "0x020b000000000000"  # the stable ABI of torch 2.11
ARCHITECTURES = ("8.0", "8.9", "9.0")
HOPPER = ["-gencode=arch=compute_90a,code=sm_90a"]  # what only Hopper has is in sources of its own
X86 = platform.machine().lower() in ("x86_64", "amd64")
COMMON = ["-O3", "-std=c++17", f"-DTORCH_TARGET_VERSION={TORCH_TARGET}", "-DNDEBUG"]
# GCC 12 takes the deliberately undefined registers of its own intrinsics, and empty optionals, for mistakes.
QUIET = ["-Wno-unknown-pragmas", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
HOST = ["-fPIC", "-fvisibility=hidden", "-Wall", *QUIET]
AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mpopcnt", "-mlzcnt"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
AMX = [*AVX512, "-mavx512bf16", "-mavx512vbmi2"]  # the instructions of matrix tiles need no option
VECTORS = {"_avx2": AVX2, "_avx512": AVX512, "_amx": AMX}


def choice() -> str:
    """DMT_BUILD, checked."""
    build = os.environ.get("DMT_BUILD", "auto")
    if build not in ("auto", "cpu", "cuda", "none"):
        raise SystemExit(f"DMT_BUILD must be auto, cpu, cuda or none, got {build!r}")
    return build


def torch_folder() -> Path:
    """Where torch is installed, without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("building the kernels needs torch >= 2.11; install it, or set DMT_BUILD=none")
    return Path(next(iter(spec.submodule_search_locations)))


def cuda_home() -> Path | None:
    """The toolkit of nvcc. nvcc on the path may be a wrapper script, so nvcc itself is asked where it lives."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    # nvcc prints its variables even though there is no such file.
    printed = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True, check=False)
    here = re.search(r"_HERE_=(.+)", printed.stdout + printed.stderr)
    return Path(here.group(1).strip()).parent if here else None


def gencode() -> list[str]:
    """nvcc's architecture flags, from TORCH_CUDA_ARCH_LIST or the default."""
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split() or [*ARCHITECTURES[:-1], "9.0+PTX"]
    flags = []
    for entry in listed:
        match = re.fullmatch(r"(\d+)\.(\d+)([af]?)(\+PTX)?", entry)
        if match is None:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST: expected numbers such as 8.0 or 9.0+PTX, got {entry!r}")
        number = "".join(match.groups("")[:3])
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if match.group(4):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def cpu_sources() -> list[str]:
    found = [CSRC / "module.cpp", *sorted(CSRC.glob("*/*_cpu*.cpp"))]
    absent = () if takes_amx() else ("_amx",) if X86 else tuple(VECTORS)
    return [str(p.relative_to(ROOT)) for p in found if not p.stem.endswith(absent)]


@cache
def takes_amx() -> bool:
    """Whether the compiler, and its assembler, know the instructions of matrix tiles: GCC 10 and binutils 2.35 do."""
    if not X86:
        return False
    compiler = [os.environ.get("CXX", "c++"), *AMX, "-x", "c++", "-", "-c", "-o", os.devnull]
    source = '#include <immintrin.h>\nvoid f() { asm volatile("tilerelease"); }\n'
    try:
        return subprocess.run(compiler, input=source, capture_output=True, text=True, check=False).returncode == 0
    except OSError:
        return False  # compiling will say so


def cuda_sources() -> list[str]:
    return [str(p.relative_to(ROOT)) for p in (CSRC / "module_cuda.cpp", *sorted(CSRC.glob("*/*_cuda.cu")))]


def headers() -> list[str]:
    """A change in any header rebuilds everything: few files, short compile times."""
    return [str(p.relative_to(ROOT)) for suffix in ("h", "cuh") for p in CSRC.rglob(f"*.{suffix}")]


def extensions() -> list[Extension]:
    build = choice()
    if build == "none":
        return []
    cuda = None if build == "cpu" else cuda_home()
    if build == "cuda" and cuda is None:
        raise SystemExit("DMT_BUILD=cuda needs nvcc on the path; use auto to build for the CPU alone")
    modules = [Extension("dmt_kernels._C", cpu_sources(), depends=headers(), language="c++")]
    if cuda is not None:
        modules.append(Extension("dmt_kernels._C_cuda", cuda_sources(), depends=headers(), language="c++"))
    return modules


class Build(build_ext):
    """Compiles each source with the flags that its name asks for, several at a time."""

    def build_extension(self, ext: Extension) -> None:
        objects = Path(self.build_temp) / ext.name
        objects.mkdir(parents=True, exist_ok=True)
        stamp = max((ROOT / name).stat().st_mtime for name in [*ext.depends, "setup.py"])
        jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        with ThreadPoolExecutor(jobs) as pool:
            made = list(pool.map(lambda source: self.compile(ext.name, source, objects, stamp), ext.sources))
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        # A running process may have the old module mapped: replace the file, do not write into it.
        fresh = target.with_suffix(".new")
        linker = [os.environ.get("CXX", "c++"), "-shared", "-s"]
        self.call([*linker, *map(str, made), *self.libraries_of(ext.name), "-o", str(fresh)])
        fresh.replace(target)

    def compile(self, module: str, source: str, objects: Path, stamp: float) -> Path:
        made = objects / (source.replace("/", "-") + ".o")
        newest = max(stamp, (ROOT / source).stat().st_mtime)
        if made.exists() and made.stat().st_mtime > newest and not self.force:
            return made
        self.call([*self.compiler_for(source), *self.includes(module), "-c", str(ROOT / source), "-o", str(made)])
        return made

    def compiler_for(self, source: str) -> list[str]:
        if source.endswith(".cu"):
            host = [f"-Xcompiler={flag}" for flag in HOST]
            targets = HOPPER if source.endswith("_sm90a_cuda.cu") else gencode()
            return [str(cuda_home() / "bin" / "nvcc"), *COMMON, *targets, *host, "-DUSE_CUDA", "--threads=0"]
        stem = Path(source).stem
        isa = next((flags for end, flags in VECTORS.items() if stem.endswith(end)), [])
        known = [] if takes_amx() else ["-DDMT_NO_AMX"]
        return [os.environ.get("CXX", "c++"), *COMMON, *HOST, *isa, *known]

    def includes(self, module: str) -> list[str]:
        import pybind11

        # pybind11 first: torch brings a copy of its own that refuses to be used with the stable ABI.
        folders = [pybind11.get_include(), torch_folder() / "include", sysconfig.get_path("include")]
        if module.endswith("cuda"):
            folders.append(cuda_home() / "include")
        return [f"-I{CSRC}", *(part for folder in folders for part in ("-isystem", str(folder)))]

    def libraries_of(self, module: str) -> list[str]:
        folder = torch_folder() / "lib"
        libraries = [f"-L{folder}", "-Wl,--no-as-needed", "-ltorch_cpu"]
        if not module.endswith("cuda"):
            return libraries
        # The CUDA runtime is linked in statically: the module then loads beside whichever one torch brings.
        if (folder / "libtorch_cuda.so").exists():
            libraries.append("-ltorch_cuda")
        return [*libraries, f"-L{cuda_home() / 'lib64'}", "-lcudart_static", "-lrt", "-lpthread", "-ldl"]

    def call(self, command: list[str]) -> None:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"{' '.join(command)}\n{done.stdout}{done.stderr}\n"
                "building the kernels failed; DMT_BUILD=none installs without them, on the slow reference"
            )
        if done.stderr:
            print(done.stderr)


setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
