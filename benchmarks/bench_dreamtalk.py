"""The drop-in against our own plain paths: denoiser (128 frames, 10 steps) and renderer (256 x 256), one thread.

pytest benchmarks/bench_dreamtalk.py -s           times, speed-ups, FLOPs, errors
python benchmarks/bench_dreamtalk.py              the same, written to benchmarks/results/dreamtalk_cpu.{json,md}

Plain renderer: the released network's work, with the residual blocks' dead branch and expanded norm weights.
Weights are stand-ins regenerated from parameter names (the released ones are not public): "golden", a
random network, which multiplies every rounding, and "calm", the same with modulations a tenth as large.
The portrait is DreamTalk's published one where its samples are beside the checkout, else smooth noise.

Stages and measuring are those of `dmt bench pipeline`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from temporal_reuse import SAMPLE, stand_in
from torch import Tensor

from dmt.bench import dreamtalk, machine, timing
from dmt.bench.stage import Stage, StageRow, measure
from dmt.renderer.flow import motion_windows
from dmt.renderer.flow_frames import as_network_input

FRAMES, SHORT = 128, 16
"""That the denoiser makes in one call; in the short form."""
RESULTS = Path(__file__).parent / "results/dreamtalk_cpu.json"


def renderer_stage(weights: str) -> Stage:
    """With golden or calm weights; the flow in 16 bits as well, as a path of its own."""
    return dreamtalk.renderer_stage(stand_in(weights == "calm"), *scene(), all_low=True)


def scene() -> tuple[Tensor | None, Tensor | None]:
    """Portrait [1, 3, 256, 256] and one motion window [1, 73, 27], the published ones; None where they are absent."""
    if not SAMPLE.exists():
        return None, None
    picture = Image.open(SAMPLE / "portrait.png").convert("RGB").resize((dreamtalk.SIZE, dreamtalk.SIZE))
    windows = motion_windows(torch.from_numpy(np.load(SAMPLE / "facemotion.npy")))
    return as_network_input(np.asarray(picture)), windows[100:101].contiguous()


STAGES: dict[str, Callable[[int], Stage]] = {
    "renderer, one 256 x 256 frame, golden weights": lambda frames: renderer_stage("golden"),
    "renderer, one 256 x 256 frame, calm weights": lambda frames: renderer_stage("calm"),
    "denoiser, scale 1, {frames} frames, 10 steps": partial(dreamtalk.denoiser_stage, 1.0),
    "denoiser, scale 2, {frames} frames, 10 steps": partial(dreamtalk.denoiser_stage, 2.0),
}
"""Built for a number of frames at once."""


@pytest.mark.parametrize("name", STAGES)
def test_stage(benchmark, request: pytest.FixtureRequest, name: str) -> None:
    full = request.config.getoption("--full")
    if "golden" in name and not full:
        pytest.skip("the short form has one set of weights; --full has both")
    frames = FRAMES if full else SHORT
    stage = STAGES[name](frames)
    row = measure(stage, rounds=3 if full else 1)
    print("", *lines(name.format(frames=frames), row), sep="\n")
    benchmark.extra_info.update(row.to_json(), conditions=machine.conditions())
    benchmark.pedantic(stage.runs["exact"], rounds=1, iterations=1)


def lines(name: str, row: StageRow) -> list[str]:
    """Of the Markdown table: one per path."""
    found = []
    for path, t in row.times.items():
        picture = row.facts.get("pictures", {}).get(path)
        found.append(
            f"| {name} | {path} | {t.p50 / 1e3:.1f} | {t.p20 / 1e3:.1f} - {t.p80 / 1e3:.1f} "
            f"| {row.times['plain'].p50 / t.p50:.2f} | {t.p50 / 1e6 / row.video:.3f} "
            f"| {f'{row.gflop[path]:.1f}' if path in row.gflop else ''} "
            f"| {'{psnr_db} dB, {largest_change}'.format(**picture) if picture else ''} |"
        )
    return [*found, f"| | | exact differs from plain by at most {row.facts['largest_error']:.1e} | | | | | |"]


def table(rows: dict[str, StageRow], conditions: dict[str, object]) -> str:
    """The results as Markdown."""
    return "\n".join(
        [
            "# Drop-in DreamTalk on a CPU",
            "",
            f"{conditions['processor']} ({conditions['capability']}), {conditions['threads']} thread, "
            f"torch {conditions['torch']}, commit {conditions['commit']}, load {conditions['load']:.1f} before. "
            f"{conditions['clock'].capitalize()}; medians of rounds after a warm-up, alternatives in turn.",
            "",
            "| stage | path | ms | p20 - p80 | times faster | s per s of video | GFLOP | PSNR, largest change of 255 |",
            "|---|---|---|---|---|---|---|---|",
            *(line for name, row in rows.items() for line in lines(name, row)),
            "",
            __doc__.split("\n\n")[2].replace("\n", " "),
            "",
        ]
    )


def main() -> None:
    torch.set_num_threads(1)
    timing.keep_freed_memory()
    conditions = {**machine.conditions(), "portrait": "published sample" if SAMPLE.exists() else "smooth noise"}
    rows: dict[str, StageRow] = {}
    for pattern, build in STAGES.items():
        name = pattern.format(frames=FRAMES)
        rows[name] = measure(build(FRAMES))
        print("\n".join(lines(name, rows[name])), flush=True)
        # after every stage, so that a later one that fails loses nothing
        content = {"conditions": conditions, "rows": [{**row.to_json(), "name": of} for of, row in rows.items()]}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(table(rows, conditions))


if __name__ == "__main__":
    main()
