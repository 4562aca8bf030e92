"""Files of weights: ours, DreamTalk's, and ones that only look like it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ..checkpoint import FORMAT
from ..errors import InputError, damaged
from .finding import Finding

DENOISER = ("diff_net.", "net.content_encoder.")
RENDERER = "mapping_net."
PARTS = 12
"""Parts of a network whose sizes are drawn."""
SHOWN = 3
"""Names of tensors that are shown of a file of unknown origin."""


def from_safetensors(path: Path) -> Finding:
    """Our checkpoints, DreamTalk's weights as `dmt convert` writes them, or any tensors by name."""
    with damaged(path, "a safetensors file"), safe_open(path, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    if metadata.get("format") != FORMAT:
        return _weights(path, shapes)
    with damaged(path, f"a {FORMAT}"):
        config, record = json.loads(metadata["config"]), json.loads(metadata.get("record", "{}"))
        facts = [("preset", str(config["name"])), ("version", metadata.get("version", "?")), *_counts(shapes)]
        speech = config.get("speech", {}).get("pretrained")
        facts.append(("speech encoder", f"pretrained: {speech}" if speech else "in the file"))
        facts += [(f"record: {key}", str(value)[:100]) for key, value in list(record.items())[:8]]
    takes = ("dmt generate --checkpoint {}", "dmt evaluate ... --checkpoint {}")
    return Finding(FORMAT, tuple(facts), takes, parts=_parts(shapes))


def from_torch(path: Path) -> Finding:
    """A .pth or .pt, read without unpickling objects."""
    import torch

    with damaged(path, "a checkpoint of plain tensors"):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    shapes = dict(_tensors(content))
    if not shapes:
        raise InputError(f"{path} is a PyTorch file but holds no tensors; expected a checkpoint")
    return _weights(path, shapes)


def from_onnx(path: Path) -> Finding:
    """A network as `dmt export` writes it, or any other ONNX file: what goes in and what comes out."""
    try:
        import onnx
    except ImportError:
        raise InputError(f'{path}: looking into ONNX files needs onnx: pip install "dreamtalk-dmt[onnx]"') from None
    with damaged(path, "an ONNX file"):
        network = onnx.load(path, load_external_data=False)
        ours = any(entry.key == "dmt" for entry in network.metadata_props)
        shapes = {_text(weight.name): tuple(weight.dims) for weight in network.graph.initializer}
        facts = [(f"takes {_text(value.name)}", _signature(value)) for value in network.graph.input]
        facts += [(f"gives {_text(value.name)}", _signature(value)) for value in network.graph.output]
        facts += [("operators", str(len(network.graph.node))), *_counts(shapes)]
    kind = "ONNX network, by dmt export" if ours else "ONNX network"
    return Finding(kind, tuple(facts), parts=_parts(shapes))


def _text(name: str | bytes) -> str:
    """A name in an ONNX file, which comes as bytes where it is not UTF-8."""
    return name if isinstance(name, str) else name.decode(errors="replace")


def _signature(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    axes = [_text(axis.dim_param) or str(axis.dim_value) for axis in tensor.shape.dim]
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{', '.join(axes)}]"


def _weights(path: Path, shapes: dict[str, tuple[int, ...]]) -> Finding:
    names = [name.removeprefix("model_state_dict.").removeprefix("net_G_ema.") for name in shapes]
    use: tuple[str, ...] = ()
    if any(name.startswith(DENOISER) for name in names):
        kind, use = "DreamTalk's denoiser", ("dreamtalk (as checkpoints/denoising_network.pth)",)
    elif any(name.startswith(RENDERER) for name in names):
        kind, use = "DreamTalk's renderer", ("dreamtalk (as checkpoints/renderer.pt)",)
    else:
        kind = "tensors of unknown use"
    if use and path.suffix in (".pth", ".pt"):
        use += ("dmt convert {} OUT.safetensors",)
    facts = _counts(shapes)
    if not use:
        facts.append(("first tensors", ", ".join(f"{n} {list(s)}" for n, s in list(shapes.items())[:SHOWN])[:300]))
    return Finding(kind, tuple(facts), use, parts=_parts(dict(zip(names, shapes.values(), strict=True))))


def _parts(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Numbers by the first part of the names, or the first that tells them apart; the `PARTS` largest."""
    depth = 1
    while depth < 4 and len({_start(name, depth) for name in shapes}) < 3:
        depth += 1
    parts: Counter[str] = Counter()
    for name, shape in shapes.items():
        parts[_start(name, depth)] += prod(shape)
    return dict(parts.most_common(PARTS))


def _start(name: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])


def _counts(shapes: dict[str, tuple[int, ...]]) -> list[tuple[str, str]]:
    return [("tensors", str(len(shapes))), ("numbers", f"{sum(prod(s) for s in shapes.values()):,}")]


def _tensors(content: object, prefix: str = "", depth: int = 0) -> list[tuple[str, tuple[int, ...]]]:
    """(dotted name, shape) of every tensor in nested dictionaries."""
    import torch

    if isinstance(content, torch.Tensor):
        return [(prefix.removesuffix(".") or "tensor", tuple(content.shape))]
    if not isinstance(content, Mapping) or depth > 4:
        return []
    return [pair for key, value in content.items() for pair in _tensors(value, f"{prefix}{key}.", depth + 1)]


def _is_zip(path: Path) -> bool:
    """Whether torch can map the file; older ones must be read whole."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"
