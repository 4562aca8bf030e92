"""Time of sampling and of the decoders alone on one CPU thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from dmt.bench import machine
from dmt.face.styles import style_clip
from dmt.features import windows
from dmt.model import MotionModel

from .sampling import Part, sample
from .training import Workplace, load_trained, save_json, trained
from .variants import SEEDS, VARIANTS, Variant

ROUNDS = 7
"""The variants take turns, so that a slow moment of the machine meets all of them alike."""

FRAMES = 64


def measure_latency(place: Workplace) -> None:
    """Writes `latency.json`: the machine, and milliseconds of processor time for each variant of the first seed,
    median of ROUNDS after a warm-up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        variants = [v for v in VARIANTS if trained(place, v.name, SEEDS[0])]
        calls = {v.name: _calls(place, v) for v in variants}
        times: dict[str, dict[str, list[float]]] = {n: {k: [] for k in c} for n, c in calls.items()}
        for _ in range(ROUNDS + 1):
            for name, some in calls.items():
                for kind, call in some.items():
                    times[name][kind].append(_milliseconds(call))
        conditions = machine.conditions()
    finally:
        torch.set_num_threads(threads)
    medians = {n: {k: statistics.median(v[1:]) for k, v in some.items()} for n, some in times.items()}
    save_json({"machine": conditions, "times": medians}, place.folder / "latency.json")


def _calls(place: Workplace, variant: Variant) -> dict[str, Callable[[], object]]:
    """What is timed: motion for FRAMES frames in ten steps; both decoders once, in their plain form."""
    model = load_trained(place, variant, SEEDS[0])
    part = Part.load(place, "voices", variant.condition)
    few = Part(part.rows[:1, : 2 * FRAMES], part.coefficients[:1], part.style[:1], None, None)
    return {"sample": lambda: sample(model, few), "decoders": _decoders(model, few)}


def _decoders(model: MotionModel, part: Part) -> Callable[[], object]:
    """The decoders on what they are given in a plain pass of the network halfway through the noise."""
    given: list[tuple[torch.Tensor, ...]] = []
    net = model.denoiser
    handle = net.decoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    noise = torch.randn(1, FRAMES, 64, generator=torch.Generator().manual_seed(0))
    clip = style_clip(part.style[0])
    with torch.inference_mode():
        style = model.normalise(clip.coefficients)[None]
        net(noise, torch.tensor([500]), windows(part.rows, 0, FRAMES), style, clip.padding[None])
    handle.remove()

    @torch.inference_mode()
    def run() -> object:
        return net.decoder(*given[0])

    return run


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return 1000 * (time.process_time() - started)
