"""The drop-in against our own plain paths: denoiser (128 frames, 10 steps) and renderer (256 x 256), one thread.

pytest benchmarks/bench_dreamtalk.py -s           times, speed-ups, FLOPs, errors
python benchmarks/bench_dreamtalk.py              the same, written to benchmarks/results/dreamtalk_cpu.{json,md}

Plain renderer: the released network's work, with the residual blocks' dead branch and expanded norm weights.
Weights are stand-ins regenerated from parameter names (the released ones are not public): "golden", a
random network, which multiplies every rounding, and "calm", the same with modulations a tenth as large.
The portrait is DreamTalk's published one where its samples are beside the checkout, else smooth noise.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from temporal_reuse import SAMPLE, stand_in
from torch.utils.flop_counter import FlopCounterMode

from dmt.bench.machine import conditions as machine
from dmt.bench.timing import Alternatives
from dmt.dreamtalk import DreamTalkDenoiser
from dmt.renderer.flow import motion_windows
from dmt.renderer.flow_blocks import ResidualBlock
from dmt.renderer.flow_fast import FastFlowRenderer, PreparedPortrait
from dmt.renderer.flow_frames import as_network_input, as_picture

FRAMES = 128
SIZE = 256
RESULTS = Path(__file__).parent / "results/dreamtalk_cpu.json"


@dataclass(frozen=True)
class Stage:
    """Alternatives to time, the first one plain; seconds of video one call makes; facts that go with the times."""

    name: str
    alternatives: Alternatives
    video: float
    facts: dict[str, object]


def gflop(run) -> float:
    """10^9 floating point operations of one call, as torch counts them (a product and a sum are two)."""
    with FlopCounterMode(display=False) as counter:
        run()
    return round(counter.get_total_flops() / 1e9, 1)


def denoiser_stage(guidance: float) -> Stage:
    torch.manual_seed(0)
    d = DreamTalkDenoiser()
    args = torch.randn(1, FRAMES, 11, 1024), torch.randn(1, 256, 64), torch.zeros(1, 256).bool()
    noise = torch.randn(1, FRAMES, 64)

    def sample(plain: bool) -> torch.Tensor:
        return d.sample(*args, guidance=guidance, noise=noise, exact_path=plain)

    runs = {"plain": lambda: sample(True), "exact": lambda: sample(False)}
    error = (sample(True) - sample(False)).abs().max().item()
    # Guidance s multiplies the two halves' roundings by s and s - 1.
    assert error < 2e-6 * (2 * guidance - 1)
    facts = {"largest_error": error, "gflop": {name: gflop(run) for name, run in runs.items()}}
    return Stage(f"denoiser, scale {guidance:g}, 128 frames, 10 steps", runs, FRAMES / 25, facts)


def renderer_stage(weights: str, patch: pytest.MonkeyPatch) -> Stage:
    renderer = stand_in(weights == "calm")
    portrait, motion = scene()
    exact = FastFlowRenderer(renderer)
    fast = FastFlowRenderer(renderer, torch.bfloat16, flow_dtype=torch.float32)
    all_low = FastFlowRenderer(renderer, torch.bfloat16)

    @torch.no_grad()
    def plain() -> torch.Tensor:
        with patch.context() as inside:
            inside.setattr(ResidualBlock, "forward", ResidualBlock.forward_with_dead_branch)
            return renderer(portrait, motion).image

    runs: dict[str, object] = {"plain": plain}
    for name, form in {"exact": exact, "fast": fast, "fast, flow in bfloat16 too": all_low}.items():
        runs[name] = partial(pictured, form, form.prepare(portrait), motion)
    reference = plain()
    error = (runs["exact"]() - reference).abs().max().item()
    assert error < 2e-5
    facts = {
        "largest_error": error,
        "gflop": {name: gflop(runs[name]) for name in ("plain", "exact")},
        "pictures": {name: compared(run(), reference) for name, run in runs.items() if name != "plain"},
    }
    return Stage(f"renderer, one {SIZE} x {SIZE} frame, {weights} weights", runs, 1 / 25, facts)


def pictured(form: FastFlowRenderer, prepared: PreparedPortrait, motion: torch.Tensor) -> torch.Tensor:
    return form(prepared, motion).image


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Portrait [1, 3, 256, 256] and one motion window [1, 73, 27], the published ones where present."""
    if SAMPLE.exists():
        picture = Image.open(SAMPLE / "portrait.png").convert("RGB").resize((SIZE, SIZE))
        windows = motion_windows(torch.from_numpy(np.load(SAMPLE / "facemotion.npy")))
        return as_network_input(np.asarray(picture)), windows[100:101].contiguous()
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, SIZE // 8, SIZE // 8, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")
    return torch.tanh(smooth), torch.randn(1, 73, 27, generator=random)


def compared(image: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    """PSNR in dB and largest change of a value, of pictures of 8 bits."""
    difference = as_picture(image).float() - as_picture(reference).float()
    square = difference.square().mean().item()
    psnr = 10 * float(np.log10(255**2 / square)) if square else float("inf")
    return {"psnr_db": round(psnr, 2), "largest_change": int(difference.abs().max())}


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_denoiser(compare, one_thread, guidance: float) -> None:
    stage = denoiser_stage(guidance)
    compare(stage.alternatives, rounds=3, **stage.facts)


@pytest.mark.parametrize("weights", ["golden", "calm"])
def test_renderer(compare, one_thread, monkeypatch, weights: str) -> None:
    stage = renderer_stage(weights, monkeypatch)
    compare(stage.alternatives, rounds=3, **stage.facts)


def table(rows: list[dict], conditions: dict) -> str:
    """The results as Markdown."""
    where = conditions["machine"]
    lines = [
        "# Drop-in DreamTalk on a CPU",
        "",
        f"{where['processor']} ({where['capability']}), {where['threads']} thread, torch {where['torch']}, "
        f"commit {conditions['commit']}, load {conditions['load_before']:.1f} before. {conditions['method']}",
        "",
        "| stage | path | ms | p20 - p80 | times faster | s per s of video | GFLOP | PSNR, largest change of 255 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for name, t in row["seconds"].items():
            picture = row["facts"].get("pictures", {}).get(name)
            lines.append(
                f"| {row['stage']} | {name} | {t['median'] * 1e3:.1f} | {t['p20'] * 1e3:.1f} - {t['p80'] * 1e3:.1f} "
                f"| {t['speedup']:.2f} | {t['median'] / row['video_seconds']:.3f} "
                f"| {row['facts']['gflop'].get(name, '')} "
                f"| {'{psnr_db} dB, {largest_change}'.format(**picture) if picture else ''} |"
            )
        lines.append(f"| | | exact differs from plain by at most {row['facts']['largest_error']:.1e} | | | | | |")
    lines += ["", __doc__.split("\n\n")[2].replace("\n", " ")]
    return "\n".join(lines) + "\n"


def thread_seconds(alternatives: Alternatives, rounds: int) -> dict[str, list[float]]:
    """`interleaved`, in CPU seconds of this thread: for one thread on a machine that others use too."""
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for number in range(rounds + 1):
        for name, run in alternatives.items():
            start = time.thread_time()
            run()
            if number:
                times[name].append(time.thread_time() - start)
    return times


def main() -> None:
    torch.set_num_threads(1)
    rounds, load, rows = 3, os.getloadavg()[0], []
    patch = pytest.MonkeyPatch()
    for make in (
        lambda: renderer_stage("golden", patch),
        lambda: renderer_stage("calm", patch),
        lambda: denoiser_stage(1.0),
        lambda: denoiser_stage(2.0),
    ):
        stage = make()
        times = thread_seconds(stage.alternatives, rounds)
        medians = {name: statistics.median(t) for name, t in times.items()}
        seconds = {}
        for name, t in times.items():
            t = sorted(t)
            low, high = t[int(0.2 * (len(t) - 1))], t[round(0.8 * (len(t) - 1))]
            speedup = medians["plain"] / medians[name]
            seconds[name] = {"median": medians[name], "p20": low, "p80": high, "speedup": speedup}
            print(f"{stage.name:50} {name:28} {medians[name] * 1e3:9.1f} ms {speedup:6.2f}x", flush=True)
        rows.append({"stage": stage.name, "seconds": seconds, "video_seconds": stage.video, "facts": stage.facts})
        write(rows, rounds, load)  # after every stage, so that a later one that fails loses nothing


def write(rows: list[dict], rounds: int, load: float) -> None:
    """The results so far, as JSON and Markdown."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent)
    conditions = {
        "machine": machine(),
        "commit": commit.stdout.strip(),
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "method": f"CPU time of the one thread, so that other work on the machine counts little; "
        f"medians of {rounds} rounds after a warm-up, alternatives in turn in one process.",
        "portrait": "published sample" if SAMPLE.exists() else "smooth noise",
    }
    RESULTS.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(table(rows, conditions))


if __name__ == "__main__":
    main()
