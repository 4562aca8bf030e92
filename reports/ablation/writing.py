"""ablation.md from ablation.json: every number and every verdict in the text is looked up, none is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmt.atomic import atomic

from .goal import finding, goal
from .pieces import ASKED, gap, number, table
from .plots import common_seeds, draw, family, short
from .results import COMPARISONS, MEASURES, kept_shares
from .variants import MAIN, TRIED, VARIANTS
from .verdicts import verdict

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
KEPT_SHOWN = ("dense", "all-dense", "thresholds", "thresholds-mi", "all-no-mi", "all", "all-pressed")
"""Variants whose kept shares are printed."""


def write_report(results: dict[str, Any], folder: Path) -> Path:
    """ablation.md and its plots in `folder`; returns the text's path."""
    draw(results, folder)
    parts = (_opening, _in_short, goal, _claims, _quality, _pictures, _cost, _kept, _curve, _tried, _limits)
    path = folder / "ablation.md"
    with atomic(path) as part:
        part.write_text("\n\n".join(write(results) for write in parts) + "\n")
    return path


def _finished(results: dict[str, Any], variants) -> list[dict[str, Any]]:
    return [results["variants"][v.name] for v in variants if results["variants"][v.name]["seeds"]]


def _opening(results: dict[str, Any]) -> str:
    s = results["settings"]
    runs = sum(len(v["seeds"]) for v in results["variants"].values())
    planned = len(results["variants"]) * len(s["seeds"])
    return f"""# What the paper's parts do, each on its own

Written by `python -m reports.ablation RUNS --english FOLDER{" --encoders FILE" if results["encoders"] else ""}` from
[ablation.json](ablation.json). {runs} of {planned} planned runs are in it; the same command goes on where it stopped.

**Set-up.** A small denoiser (width 96, one layer in each encoder and decoder) is trained from the same rows of finished
speech encoders: {s["steps"]} steps of {s["clips"]} clips x {s["frames"]} frames at rate {s["rate"]}. In every variant
of a seed the clips, frames, times and noise are the same. Equal steps, not equal parameters: their numbers are given.
{_encoders(results)}
Thresholds sit before every product of the decoders, and start at theta' = {s["start"]} ({s["tails"]} in the tails,
around whose masks no residual passes) and learn; L_MI has weight {s["lambda"]}.
Seeds: {", ".join(map(str, s["seeds"]))}; values are mean ± standard deviation over seeds.
Levels and weights were settled in trial runs of the first seed with 8 clips, by training losses and kept shares;
of three of these runs the held-out measures were seen as well.

**Measured on** the first 4 s of 48 clips in voices and sentences never trained on (languages known) and of 24 clips in
six languages that neither encoders nor denoiser met (in held-out voices), and 16 s of one filmed English speaker
(aperture only, zero lag, four starting noises; validation only). Errors are mean absolute differences in units of each
coefficient's spread. Motion is sampled in 10 DDIM steps."""


def _encoders(results: dict[str, Any]) -> str:
    found = results["encoders"]
    if found is None:
        return "The fusion is one trained module, shared by all variants that use it."
    return (
        f"Encoders and the fusion, which is shared by all variants that use it, are those of a finished model\n"
        f"(sha256 {found['sha256'][:16]}…), trained on {found['minutes']:.0f} minutes of speech by `dmt corpus`, "
        f"as the training clips\nand the held-out ones are; all as of commit {found['commit']}."
    )


def _claims(results: dict[str, Any]) -> str:
    head = ["claim (with − without)", "seeds", *[MEASURES[p] for p in ASKED]]
    rows = []
    for claim, pair in COMPARISONS.items():
        gaps = results["comparisons"][claim]
        if not gaps["seeds"]:
            continue
        cells = [f"{gap(gaps[p])}<br>{verdict(p, gaps[p])}" if p in gaps else "–" for p in ASKED]
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

""" + "\n".join([*lines, "", finding(results)])


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
            times = results["latency"]["times"].get(name)
            cells = [f"{v[p]['mean'] / 1e6:.3f}" for p in places]
            timed = [f"{times[k]:.1f}" for k in ("decoders", "sample")] if times else ["–", "–"]
            rows.append([v["title"], f"{v['parameters']:,}", f"{v['decoder_parameters']:,}", *cells, *timed])
    head = ["variant", "parameters", "of them decoders", *[MEASURES[p] for p in places], "decoders, ms", "motion, ms"]
    return f"""## Cost

10^6 floating-point operations of both decoders for one frame and one diffusion step. *Plain form*: all 11 tokens, every
step, as DreamTalk runs it. *Step form*: what sampling here runs. *Executed* leaves out what meets a masked element in a
product that can skip it (where zeros are few or a matrix is narrow, multiplying them all the same is faster, and is
what happens); *live* also what is zero but still multiplied (inputs of dynamic layers that are not formed; the dense
network's own zeros after the ReLU). Times: processor time of one CPU thread, 64 frames: both decoders once in their
plain form; all motion in 10 steps. {_machine(results)}

{table(head, rows)}"""


def _machine(results: dict[str, Any]) -> str:
    machine = results["latency"]["machine"]
    if not machine:
        return "Times have not been measured yet."
    return (
        f"Machine: {machine['processor']}, {machine['capability']}, torch {machine['torch']}, load "
        f"{machine['load']:.1f} at the end of timing. Not yet run on a GPU."
    )


def _kept(results: dict[str, Any]) -> str:
    shown = [v for v in VARIANTS if results["variants"][v.name]["seeds"] and v.name in KEPT_SHOWN]
    shares = [
        {short(site): share for site, share in kept_shares(results["variants"][v.name]["kept"]).items()} for v in shown
    ]
    rows = [
        [site, *[f"{of[site]:.1%}" if site in of else "–" for of in shares]]
        for site in dict.fromkeys(site for of in shares for site in of)
    ]
    rows.append(["mean", *[number(results["variants"][v.name], "kept_mean", 1, 100) + " %" for v in shown]])
    learned = [
        f"{name}: {min(t):.2f}–{max(t):.2f}"
        for name, sites in results["thresholds"].items()
        if results["variants"][name]["mask"] == "dynamic" and (t := [s["theta"] for s in sites.values()])
    ]
    return f"""## What is kept

Share of live elements at the decoders' sites and at the two that make their memory, mean over diffusion steps; for
variants without thresholds, what the ReLU leaves. All variants are in the JSON. By step:
[ablation_kept.png](ablation_kept.png).

{table(["site", *[v.name for v in shown]], rows)}

![kept share by diffusion time](ablation_kept.png)

Along the diffusion steps no site's share in a variant with thresholds changes by more than
{_drift(results):.1%} of all elements (mean over seeds).

Learned theta' at the end (least to greatest over all sites): {"; ".join(learned)}.

Eq. 5 bounds what thresholds can do: theta' < 1, so a threshold never exceeds the mean |x|. Normally distributed inputs
(after a layer norm) would keep at least 42 % whatever theta learns; what keeps less has been shaped by training: by
L_MI, which is smallest where few large elements carry the variance, and by our pressure, which asks for just that."""


def _drift(results: dict[str, Any]) -> float:
    """The greatest difference of a site's kept share between two diffusion steps."""
    dynamic = [v for v in _finished(results, MAIN) if v["start"] is not None and v["kept"]]
    ranges = [max(rows.values()) - min(rows.values()) for v in dynamic for rows in v["kept"].values()]
    return max(ranges, default=0.0)


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


def _tried(results: dict[str, Any]) -> str:
    names = ["all", *[v.name for v in TRIED], "all-pressed"]
    places = ("voices.mouth", "voices.upper", "voices.aperture", "english.aperture")
    rows = []
    for v in [results["variants"][name] for name in names if results["variants"][name]["seeds"]]:
        cells = [f"{v[f'flops.{f}.executed']['mean'] / _dense(results, f):.1%}" for f in ("forward", "step")]
        rows.append([v["title"], str(len(v["seeds"])), *cells, *[number(v, place) for place in places]])
    if len(rows) < 2:
        return "## What else was tried\n\nNot measured yet."
    head = ["variant", "seeds", "executed / dense, plain", "executed / dense, step", *[MEASURES[p] for p in places]]
    return f"""## What else was tried

Other places and levels for the thresholds of the full model, and pressure on it. Executed FLOPs of its decoders as a
share of the dense baseline's, each form by itself; each row over its own seeds.

{table(head, rows)}"""


def _dense(results: dict[str, Any], form: str) -> float:
    return results["variants"]["dense"][f"flops.{form}.nominal"]["mean"]


def _limits(results: dict[str, Any]) -> str:
    return """## What this does not show

- A small model, synthetic speech, few steps and three seeds: differences under the intervals above are not findings,
  and the paper's sizes, data and training were not at hand.
- The acoustic encoder was trained for fewer steps than the prosodic one (it costs more), so fusion is also measured
  against the prosodic rows alone, which is the fairer question.
- FLOPs are not time: at these sizes a product of 96 x 96 is hardly worth skipping zeros in; the times are above."""
