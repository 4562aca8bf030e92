"""Speed against error of reuse in time, on real coefficients: which form, and which theta.

python benchmarks/temporal_reuse.py [--size 128] [--frames 414] [--sources golden calm published]

Motion and portrait are DreamTalk's published sample run, looked for in `../shared/dreamtalk/samples`.
The released weights are not public, so the frames come from
golden     a random network, its weights regenerated from parameter names;
calm       the same, modulations a tenth as large;
published  the sample run's own video, made by the released weights. Its flow is not known and is estimated
           (dense inverse search between frame and portrait, at a quarter of the size), which flatters the
           forms that use it: an estimate made from the frame knows more than the network's own flow.
Random networks hardly move the picture, so only the published frames tell forms apart. Forms:
frame   the key frame's picture is shown again (what `reuse` does);
still   new flow, the key frame's editing where it was;
carry   new flow, the key frame's editing moved along it.
Speed-ups follow from the frames counted and the seconds of each kind of frame, measured in turn on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from golden import golden_weight

from dmt import media
from dmt.bench.machine import conditions as machine
from dmt.renderer.flow import FlowRenderer, Rendered, deformation, motion_windows, warp
from dmt.renderer.flow_fast import FastFlowRenderer
from dmt.renderer.flow_frames import as_network_input, as_picture
from dmt.renderer.flow_reuse import TemporalReuse, carried

HERE = Path(__file__).parent
SAMPLE = Path(os.environ.get("DMT_SHARED", HERE.parents[1] / "shared")) / "dreamtalk/samples/published_english"
THETAS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SOURCES = ("golden", "calm", "published")
FORMS = ("frame", "still", "carry")


def stand_in(calm: bool) -> FlowRenderer:
    renderer = FlowRenderer().eval()
    state = {k: golden_weight(k, tuple(v.shape)) for k, v in renderer.state_dict().items()}
    for name in state:
        if calm and ("mlp_gamma" in name or "mlp_beta" in name):
            state[name] *= 0.1
    renderer.load_state_dict(state)
    return renderer


def shown(form: str, key: Rendered, exact: Rendered, portrait: torch.Tensor) -> Rendered:
    if form == "frame":
        return key
    if form == "still":
        return Rendered((exact.warped + key.image - key.warped).clamp(-1, 1), exact.warped, exact.flow)
    return carried(key, portrait, exact.flow)


def measure(form: str, theta: float, frames: list[Rendered], descriptors: list, portrait: torch.Tensor) -> dict:
    """Error of one form at one theta over the clip, and how many frames were computed."""
    reuse = TemporalReuse(theta)
    squares, largest, last, key = [], 0, frames[0], frames[0]
    for exact, descriptor in zip(frames, descriptors, strict=True):
        decision = reuse.decide(descriptor)
        if decision == "key":
            key = last = exact
        elif decision == "reuse":
            last = shown(form, key, exact, portrait)
        difference = (as_picture(last.image).float() - as_picture(exact.image).float()).abs()
        squares.append(difference.square().mean().item())
        largest = max(largest, int(difference.max()))
    return {
        "form": form,
        "theta": theta,
        **{k: v for k, v in reuse.counts.items()},
        "psnr_db": decibels(statistics.mean(squares)),
        "worst_frame_db": decibels(max(squares)),
        "largest_pixel_change": largest,
    }


def decibels(square: float) -> float | None:
    return None if square == 0 else round(10 * float(np.log10(255**2 / square)), 2)


def costs(fast: FastFlowRenderer, picture: torch.Tensor, window: torch.Tensor, rounds: int = 7) -> dict[str, float]:
    """Seconds (CPU time of this thread, median of rounds in turn) of a key frame, a carried one, a repeated one."""
    prepared = fast.prepare(picture)
    descriptor = fast.describe(window)
    key = fast.render(prepared, descriptor)

    def carry() -> None:
        flow = fast.flow(prepared, fast.modulations(fast.describe(window)))
        carried(key, prepared.image, flow)

    work = {
        "key": lambda: fast.render(prepared, fast.describe(window)),
        "carry": carry,
        "frame": lambda: fast.describe(window),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, run in work.items():
            start = time.thread_time()
            run()
            if number:
                times[name].append(time.thread_time() - start)
    return {name: round(statistics.median(t), 5) for name, t in times.items()}


def published(portrait: torch.Tensor, count: int) -> list[Rendered]:
    """The sample run's frames at the portrait's size, with an estimated flow."""
    import cv2

    size = portrait.shape[-1]
    shown = ((portrait[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rendered = []
    for frame in itertools.islice(media.read_frames(SAMPLE / "video.mp4"), count):
        small = cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
        moved = search.calc(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), None)
        here = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1)
        positions = torch.from_numpy((2 * (here + moved) + 1) / size - 1).float().permute(2, 0, 1)[None]
        positions = F.interpolate(positions, scale_factor=0.25, mode="area")
        side = positions.shape[-1]
        flow = (positions - deformation(torch.zeros_like(positions)).permute(0, 3, 1, 2)) * (side - 1) / 2
        image = as_network_input(small)
        rendered.append(Rendered(image, warp(portrait, flow), flow))
    return rendered


def speedup(row: dict, seconds: dict[str, float]) -> float:
    """Times faster than computing every frame: counts of frames times the seconds of their kind."""
    frames = row["key"] + row["reuse"] + row["repeat"]
    reused = seconds["frame" if row["form"] == "frame" else "carry"]
    spent = row["key"] * seconds["key"] + row["reuse"] * reused + row["repeat"] * seconds["frame"]
    return round(frames * seconds["key"] / spent, 2)


def table(rows: list[dict], conditions: dict) -> str:
    """The results as Markdown."""
    where = conditions["machine"]
    lines = [
        "# Reuse in time: speed against error",
        "",
        f"{conditions['frames']} frames at {conditions['size']} x {conditions['size']}, real coefficients; "
        f"{where['processor']}, torch {where['torch']}; {conditions['timing']}; commit {conditions['commit']}.",
        "",
        "| frames from | form | theta | computed in full | times faster | PSNR, dB | worst, dB | largest change |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['source']} | {r['form']} | {r['theta']:g} | {r['key']} of {conditions['frames']} "
            f"| {r['speedup']:.2f} | {r['psnr_db']} | {r['worst_frame_db']} | {r['largest_pixel_change']} of 255 |"
        )
    return "\n".join([*lines, "", "```", conditions["sources"].strip(), "```"]) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sources = sorted({r["source"] for r in rows})
    figure, axes = plt.subplots(1, len(sources), figsize=(5.5 * len(sources), 4), squeeze=False)
    for ax, name in zip(axes[0], sources, strict=True):
        for form in FORMS:
            line = [r for r in rows if r["source"] == name and r["form"] == form and r["psnr_db"] is not None]
            ax.plot([r["speedup"] for r in line], [r["psnr_db"] for r in line], "o-", label=form)
        ax.set(title=f"frames: {name}", xlabel="times faster than every frame exact", ylabel="PSNR, dB")
        ax.grid(alpha=0.3)
        ax.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=414)
    parser.add_argument("--sources", nargs="+", default=SOURCES, choices=SOURCES, help="others keep their old results")
    parser.add_argument("--output", type=Path, default=HERE / "results/temporal_reuse.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    picture = Image.open(SAMPLE / "portrait.png").convert("RGB").resize((chosen.size, chosen.size))
    portrait = as_network_input(np.asarray(picture))
    windows = motion_windows(torch.from_numpy(np.load(SAMPLE / "facemotion.npy"))[: chosen.frames])
    old = json.loads(chosen.output.read_text()) if chosen.output.exists() else {"rows": [], "conditions": {}}
    rows = [r for r in old["rows"] if r["source"] not in chosen.sources]
    seconds = old["conditions"].get("seconds_per_frame", {})
    for name in chosen.sources:
        fast = FastFlowRenderer(stand_in(name == "calm"))
        prepared = fast.prepare(portrait)
        descriptors = [fast.describe(w) for w in windows.split(1)]
        if name == "published":
            frames = published(portrait, len(windows))
        else:
            frames = [fast.render(prepared, d) for d in descriptors]
        seconds[name] = costs(fast, portrait, windows[:1])
        for form in FORMS:
            for theta in THETAS:
                row = measure(form, theta, frames, [d[0] for d in descriptors], portrait)
                row["speedup"] = speedup(row, seconds[name])
                rows.append({"source": name, **row})
                print(rows[-1], flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE)
    conditions = {
        "frames": len(windows),
        "size": chosen.size,
        "motion": "DreamTalk's published sample run (real coefficients, noise not smoothed)",
        "sources": __doc__.split("come from\n")[1],
        "seconds_per_frame": seconds,
        "timing": "CPU time of one thread, median of 7 rounds in turn",
        "load_at_the_end": os.getloadavg()[0],
        "machine": machine(),
        "commit": commit.stdout.strip(),
    }
    chosen.output.parent.mkdir(exist_ok=True)
    chosen.output.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")
    chosen.output.with_suffix(".md").write_text(table(rows, conditions))
    plot(rows, chosen.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
