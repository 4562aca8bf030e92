"""ablation.md from ablation.json: every number and every verdict in the text is looked up, none is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmt.atomic import atomic

from .plots import common_seeds, draw, family, short
from .results import COMPARISONS, MEASURES, kept_shares
from .variants import CURVE, MAIN
from .verdicts import good_as, interval, verdict

QUALITY = (
    "voices.mouth",
    "voices.upper",
    "voices.velocity",
    "voices.aperture",
    "voices.closed",
    "languages.mouth",
    "languages.upper",
    "languages.velocity",
    "languages.aperture",
    "english.aperture",
)
PICTURES = ("frames.ssim", "frames.psnr", "frames.ssim_mouth", "frames.psnr_mouth")
ASKED = ("voices.mouth", "voices.upper", "voices.velocity", "voices.aperture", "languages.aperture", "english.aperture")
"""What a claim is judged by."""


def write_report(results: dict[str, Any], folder: Path) -> Path:
    """ablation.md and its plots in `folder`; returns the text's path."""
    draw(results, folder)
    parts = (_opening, _in_short, _goal, _claims, _quality, _pictures, _cost, _kept, _curve, _limits)
    path = folder / "ablation.md"
    with atomic(path) as part:
        part.write_text("\n\n".join(write(results) for write in parts) + "\n")
    return path


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- ", *[" ---: "] * (len(head) - 1)]) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(data: dict[str, Any], place: str, digits: int = 3, scale: float = 1.0) -> str:
    """mean ± sd of a measure, or a dash."""
    if place not in data:
        return "–"
    found = data[place]
    mean, sd = found["mean"] * scale, found["sd"] * scale
    return f"{mean:.{digits}f} ± {sd:.{digits}f}" if len(found["all"]) > 1 else f"{mean:.{digits}f}"


def _finished(results: dict[str, Any], variants) -> list[dict[str, Any]]:
    return [results["variants"][v.name] for v in variants if results["variants"][v.name]["seeds"]]


def _opening(results: dict[str, Any]) -> str:
    s = results["settings"]
    runs = sum(len(v["seeds"]) for v in results["variants"].values())
    planned = len(results["variants"]) * len(s["seeds"])
    return f"""# What the paper's parts do, each on its own

Written by `python -m reports.ablation RUNS --english FOLDER` from [ablation.json](ablation.json).
{runs} of {planned} planned runs are in it; the same command goes on where it stopped.

**Set-up.** The demo preset's denoiser (width 96, one layer in each encoder and decoder) is trained from the same rows
of finished speech encoders: {s["steps"]} steps of {s["clips"]} clips x {s["frames"]} frames at rate {s["rate"]}. In
every variant of a seed the clips, frames, times and noise are the same. Equal steps, not equal parameters: parameter
counts are given. The fusion is one trained module, shared by all variants that use it. Thresholds start at
theta' = {s["start"]} and learn; L_MI has weight {s["lambda"]}. Nothing is chosen by looking at held-out data.
Seeds: {", ".join(map(str, s["seeds"]))}; values are mean ± standard deviation over seeds.

**Measured on** 48 clips of 8 s in voices and sentences never trained on (languages known), 24 clips in six languages
that neither encoders nor denoiser met (in held-out voices), and 16 s of one filmed English speaker (aperture only, zero
lag, four starting noises; validation only). Errors are mean absolute differences in units of each coefficient's spread.
Motion is sampled in 10 DDIM steps."""


def _goal(results: dict[str, Any]) -> str:
    data = results["variants"]
    if not (data["all"]["seeds"] and data["dense"]["seeds"]):
        return "## The goal\n\nNot measured yet."
    gaps = results["comparisons"]["all against dense"]
    rows = []
    for place in ASKED:
        if place in gaps:
            gap = gaps[place]
            rows.append([MEASURES[place], number(data["dense"], place), number(data["all"], place), _gap(gap), ""])
            rows[-1][-1] = f"{'holds' if good_as(place, gap) else 'misses'} ({verdict(place, gap)})"
    for form in ("forward", "step"):
        share = _share(results, "all", f"flops.{form}.executed", "dense", f"flops.{form}.nominal")
        rows.append(
            [
                f"executed decoder FLOPs, {'plain' if form == 'forward' else 'step'} form",
                "100 %",
                f"{share:.0%}",
                "",
                _met(share),
            ]
        )
    mixed = _share(results, "all", "flops.step.executed", "dense", "flops.forward.nominal")
    rows.append(["step form of all / plain form of dense", "100 %", f"{mixed:.1%}", "", _met(mixed)])
    own = _share(results, "all", "flops.forward.executed", "all", "flops.forward.nominal")
    own_step = _share(results, "all", "flops.step.executed", "all", "flops.step.nominal")
    floor = results["floor"]
    return f"""## The goal: as good as dense with half of its decoder FLOPs

{table(["", "dense", "all", "difference (95 %)", "goal"], rows)}

Thresholds alone take the full model from 100 % to {own:.0%} of its own decoder products in the plain form and to
{own_step:.0%} in the step form. They sit at the feed-forward layers; attention and the tails stay dense: with *all*
feed-forward elements zeroed the dense baseline would still execute {floor["forward"]:.0%} of its FLOPs in the plain
form and {floor["step"]:.0%} in the step form. The full model has more to do, as the lower face's dynamic layer costs
as many products as it has shared matrices. The saving of the last row is algebra (what steps share is done once, and
the last layer sees the middle token alone), not sparsity: it is exact and would serve the dense model too."""


def _met(share: float) -> str:
    return "holds" if share <= 0.5 else "misses"


def _share(results: dict[str, Any], name: str, place: str, base: str, base_place: str) -> float:
    return results["variants"][name][place]["mean"] / results["variants"][base][base_place]["mean"]


def _gap(gap: dict[str, Any], digits: int = 3) -> str:
    half = interval(gap)
    return f"{gap['mean']:+.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def _claims(results: dict[str, Any]) -> str:
    head = ["claim (with − without)", "seeds", *[MEASURES[p] for p in ASKED]]
    rows = []
    for claim, pair in COMPARISONS.items():
        gaps = results["comparisons"][claim]
        if not gaps["seeds"]:
            continue
        cells = [f"{_gap(gaps[p])}<br>{verdict(p, gaps[p])}" if p in gaps else "–" for p in ASKED]
        rows.append([f"{claim}<br>`{pair[0]}` − `{pair[1]}`", str(len(gaps["seeds"])), *cells])
    return f"""## Claim by claim

Differences between runs of the same seed, with the 95 % interval of their mean (Student's t). *Better* and *worse* are
said where the interval excludes 0. With so few seeds it is wide, so it is also said where all seeds lean the same way;
chance alone does that in one case of four with three seeds, in every other one with two. Nothing is corrected for the
number of comparisons. Errors: lower is better. r: higher is better.

{table(head, rows)}"""


def _in_short(results: dict[str, Any]) -> str:
    """Each claim with at least two seeds as one line: on how many measures it holds, and what is kept."""
    lines = []
    for claim in COMPARISONS:
        gaps = results["comparisons"][claim]
        if len(gaps["seeds"]) < 2:
            continue
        words = [verdict(place, gaps[place]) for place in ASKED if place in gaps]
        count = {word: words.count(word) for word in ("better", "worse", "leans better", "leans worse")}
        line = (
            f"- **{claim}**: of {len(words)} measures {count['better']} better and {count['worse']} worse"
            f" (a further {count['leans better']} lean better, {count['leans worse']} worse)"
        )
        pair = [results["variants"][gaps[key]] for key in ("with", "without")]
        if all(v["start"] is not None for v in pair):
            shares = [f"{v['kept_mean']['mean']:.1%}" for v in pair]
            line += f"; keeps {shares[0]} of the decoders' elements, {shares[1]} without"
        lines.append(line + ".")
    if not lines:
        return "## In short\n\nNothing has been run with two seeds yet."
    return """## In short

The paper says: thresholds cut the computation; L_MI keeps the quality, and without it the model is faster but clearly
worse; fusion helps synchrony; decoupled dynamic decoders help detail. Here, with minus without (*better* and *worse*:
the 95 % interval of the mean difference excludes 0; *leaning*: it does not, but all seeds agree):

""" + "\n".join(lines)


def _quality(results: dict[str, Any]) -> str:
    rows = [[v["title"], *[number(v, place) for place in QUALITY]] for v in _finished(results, MAIN)]
    return "## Motion\n\n" + table(["variant", *[MEASURES[p] for p in QUALITY]], rows)


def _pictures(results: dict[str, Any]) -> str:
    rows = [
        [v["title"], *[number(v, place, 4 if "ssim" in place else 2) for place in PICTURES]]
        for v in _finished(results, MAIN)
    ]
    return f"""## Pictures

The bundled portrait at 256 x 256, moved by the warp renderer with made and with true coefficients: SSIM (Gaussian
window, sigma 1.5) and PSNR in dB, of the whole picture and of the lower face. The whole picture is mostly what no
variant moves. LPIPS is not given: its backbone's weights were not at hand.

{table(["variant", *[MEASURES[p] for p in PICTURES]], rows)}"""


def _cost(results: dict[str, Any]) -> str:
    places = [f"flops.{form}.{kind}" for form in ("forward", "step") for kind in ("nominal", "executed", "live")]
    rows = []
    for name, v in results["variants"].items():
        if v["seeds"]:
            times = results["latency"].get(name)
            cells = [f"{v[p]['mean'] / 1e6:.3f}" for p in places]
            timed = [f"{times[k]:.1f}" for k in ("decoders", "sample")] if times else ["–", "–"]
            rows.append([v["title"], f"{v['parameters']:,}", f"{v['decoder_parameters']:,}", *cells, *timed])
    head = ["variant", "parameters", "of them decoders", *[MEASURES[p] for p in places], "decoders, ms", "motion, ms"]
    return f"""## Cost

10^6 floating-point operations of both decoders for one frame and one diffusion step. *Plain form*: all 11 tokens, every
step, as DreamTalk runs it. *Step form*: what sampling here runs. *Executed* leaves out what the masked products skip;
*live* also what is zero but still multiplied (inputs of dynamic layers; the dense network's own zeros after the ReLU).
Times: one CPU thread, 64 frames: both decoders once in their plain form; all motion in 10 steps.

{table(head, rows)}"""


def _kept(results: dict[str, Any]) -> str:
    rows = []
    for v in _finished(results, (*MAIN, *CURVE)):
        shares = {short(site): share for site, share in kept_shares(v["kept"]).items()}
        cells = [f"{shares[s]:.1%}" if s in shares else "–" for s in _sites(results)]
        rows.append([v["title"], *cells])
    learned = [
        f"{name}: {min(t):.2f}–{max(t):.2f}"
        for name, sites in results["thresholds"].items()
        if results["variants"][name]["mask"] == "dynamic" and (t := [s["theta"] for s in sites.values()])
    ]
    return f"""## What is kept

Share of live elements at the decoders' sites, mean over diffusion steps; for variants without thresholds, what the
ReLU leaves. By step: [ablation_kept.png](ablation_kept.png).

{table(["variant", *_sites(results)], rows)}

![kept share by diffusion time](ablation_kept.png)

Along the diffusion steps no site's share in a variant with thresholds changes by more than
{_drift(results):.1%} of all elements (mean over seeds).

Learned theta' at the end (least to greatest over all sites): {"; ".join(learned)}.

Eq. 5 bounds what thresholds can do: theta' < 1, so a threshold never exceeds the mean |x|. Normally distributed inputs
(after a layer norm) would keep at least 42 % whatever theta learns; hidden values start with the ReLU's zeros."""


def _drift(results: dict[str, Any]) -> float:
    """The greatest difference of a site's kept share between two diffusion steps."""
    dynamic = [v for v in _finished(results, MAIN) if v["start"] is not None]
    ranges = [max(rows.values()) - min(rows.values()) for v in dynamic for rows in v["kept"].values()]
    return max(ranges, default=0.0)


def _sites(results: dict[str, Any]) -> list[str]:
    names: dict[str, None] = {}
    for v in results["variants"].values():
        names |= {short(site): None for site in v.get("kept", {})}
    return sorted(names)


def _curve(results: dict[str, Any]) -> str:
    places = ("voices.mouth", "voices.upper", "voices.velocity", "voices.aperture", "english.aperture")
    rows = []
    for first in ("all-no-mi", "all", "fixed", "top_k"):
        for _, v in family(results, first):
            cells = [number(v, place) for place in places]
            information = v["information_left"]
            rows.append(
                [v["title"], str(len(v["seeds"])), number(v, "kept_mean", 1, 100), f"{information:.4f}", *cells]
            )
    if not rows:
        return "## Sparsity against quality\n\nNot measured yet."
    return f"""## Sparsity against quality

The full model with theta' starting lower and higher, with and without L_MI; constant thresholds and top-k trained from
the start at the levels that the dynamic thresholds without L_MI ended at (top-k: the same share of every row).
Only seeds that all of these have: {", ".join(map(str, common_seeds(results)))}. Eq. 10: in the last steps of training,
mean over all sites, whether or not it was part of the loss.

{table(["variant", "seeds", "kept, %", "eq. 10", *[MEASURES[p] for p in places]], rows)}

![sparsity against quality](ablation_curve.png)"""


def _limits(results: dict[str, Any]) -> str:
    return """## What this does not show

- A small model, synthetic speech, few steps and three seeds: differences under the intervals above are not findings,
  and the paper's sizes, data and training were not at hand.
- The acoustic encoder was trained for fewer steps than the prosodic one (it costs more), so fusion is also measured
  against the prosodic rows alone, which is the fairer question.
- Times are of one CPU thread and of a small network, where a product of 96 x 256 is hardly worth skipping zeros in."""
