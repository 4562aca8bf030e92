"""The layer rules, enforced by walking the imports of every module (lazy imports inside functions included)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ROOMS = {"features", "fusion", "sparsity", "denoiser", "decoder", "diffusion", "face", "renderer"}
FOUNDATION = {"config", "types", "rates", "errors", "atomic", "process"}
BETWEEN = {"model", "checkpoint", "hub"}
"""Where the rooms meet, and how the meeting is saved and shared."""
PIPELINE = {"pipeline", "conventions", "driving", "scene", "progress", "provenance"}
"""The recipe and its parts."""
TOP = {"batch", "bench", "cli", "inspection", "service", "web", "doctor", "selftest", "export"}

ALLOWED_BETWEEN_ROOMS = {
    ("denoiser", "decoder"): "the denoiser's last layers are the two decoders",
    ("denoiser", "sparsity"): "thresholds sit inside its feed-forward layers",
    ("decoder", "sparsity"): "thresholds sit inside its feed-forward layers",
    ("renderer", "face"): "the warp renderer reads face.basis",
}
STANDARD_LIBRARY = sys.stdlib_module_names
CODECS = {"av", "imageio", "moviepy", "ffmpeg", "torchcodec", "decord"}


def modules(package: str) -> dict[str, set[str]]:
    """dotted module -> absolute dotted names it imports."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        base = parts[:-1]
        found[name] = set(imported(ast.parse(path.read_text(encoding="utf-8")), base))
    return found


def imported(tree: ast.AST, package: tuple[str, ...]) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*above, *(node.module.split(".") if node.module else [])])
            names += [f"{stem}.{alias.name}" for alias in node.names]
    return names


def room(name: str) -> str | None:
    """The second part of a name inside dmt: its room or top-level module."""
    parts = name.split(".")
    return parts[1] if parts[0] == "dmt" and len(parts) > 1 else None


DMT = modules("dmt")
KERNELS = modules("dmt_kernels")
EDGES = sorted(
    {
        (room(module), room(target), module)
        for module, targets in DMT.items()
        if not module.endswith(".__main__")
        for target in targets
        if room(target)
    },
    key=str,
)
"""A package's `__main__` is a door for the command line and no part of the package."""


def offenders(forbidden) -> list[str]:
    return [f"{module} imports dmt.{target}" for source, target, module in EDGES if forbidden(source, target)]


def test_the_walk_sees_the_house():
    assert {"dmt.pipeline", "dmt.media.reading", "dmt.features.extractor"} <= set(DMT)
    assert ("pipeline", "media", "dmt.pipeline") in EDGES
    assert "dmt_kernels" in KERNELS


def test_rooms_do_not_import_one_another():
    def forbidden(source, target):
        different = source in ROOMS and target in ROOMS and source != target
        return different and (source, target) not in ALLOWED_BETWEEN_ROOMS

    assert not offenders(forbidden)


def test_renderer_reads_nothing_of_face_but_its_basis():
    wrong = [
        (module, target)
        for module, targets in DMT.items()
        if room(module) == "renderer"
        for target in targets
        if room(target) == "face" and not target.startswith("dmt.face.basis")
    ]
    assert not wrong


def test_rooms_import_nothing_above_them():
    assert not offenders(lambda source, target: source in ROOMS and target not in ROOMS | FOUNDATION | {source})


def test_the_foundation_imports_only_itself():
    assert not offenders(lambda source, target: source in FOUNDATION and target not in FOUNDATION)


def test_the_model_imports_only_what_is_below_it():
    allowed = ROOMS | FOUNDATION | BETWEEN
    assert not offenders(lambda source, target: source in BETWEEN and target not in allowed)


def test_pipeline_and_training_do_not_import_one_another():
    learning = {"training", "corpus", "data"}
    assert not offenders(lambda source, target: source in PIPELINE and target in learning)
    assert not offenders(lambda source, target: source in learning and target in PIPELINE)


def test_data_knows_neither_training_nor_evaluation():
    assert not offenders(lambda source, target: source == "data" and target in {"training", "evaluation", "model"})


def test_tracking_and_pipeline_do_not_import_one_another():
    assert not offenders(lambda source, target: {source, target} & {"tracking"} and {source, target} & PIPELINE)


def test_nothing_below_imports_the_top():
    below = ROOMS | FOUNDATION | BETWEEN | PIPELINE | {"media", "tracking", "training", "corpus", "data", "evaluation"}
    assert not offenders(lambda source, target: source in below and target in TOP)


def test_only_media_touches_containers_and_codecs():
    wrong = [
        (module, target)
        for module, targets in DMT.items()
        if room(module) != "media"
        for target in targets
        if target.split(".")[0] in CODECS
    ]
    assert not wrong


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_kernels_know_nothing_of_faces_or_speech(name):
    known = {"torch", "triton", "dmt_kernels"}
    outside = {target.split(".")[0] for target in KERNELS[name]}
    standard = {part for part in outside if part in STANDARD_LIBRARY}
    assert outside - standard <= known


def test_each_exception_is_used():
    used = {(source, target) for source, target, _ in EDGES}
    assert set(ALLOWED_BETWEEN_ROOMS) <= used
