"""The goal, looked up: as good as the dense baseline with half of its decoder FLOPs, or what is missing."""

from __future__ import annotations

from typing import Any

from .pieces import ASKED, gap, number, share, table
from .results import MEASURES
from .verdicts import good_as, verdict


def goal(results: dict[str, Any]) -> str:
    """The section of the report."""
    data = results["variants"]
    if not (data["all"]["seeds"] and data["dense"]["seeds"]):
        return "## The goal\n\nNot measured yet."
    parts = [_table_of(results, "all", "all against dense")]
    if data["all-pressed"]["seeds"]:
        parts.append(
            "With our own pressure towards few large elements in the loss "
            f"(weight {results['settings']['crowding']}; not the paper's):\n\n"
            + _table_of(results, "all-pressed", "all with our pressure against dense")
        )
    floor = results["floor"]
    own, own_step = (
        share(results, "all", f"flops.{form}.executed", "all", f"flops.{form}.nominal") for form in ("forward", "step")
    )
    tables = "\n\n".join(parts)
    return f"""## The goal: as good as dense with half of its decoder FLOPs

{tables}

{_origin(results)}

Thresholds take *all* from 100 % to {own:.0%} of its own decoder products in the plain form and to {own_step:.0%} in the
step form. Were everything masked, {floor["all"]["forward"]:.0%} and {floor["all"]["step"]:.0%} of the dense baseline's
FLOPs would still be executed: keys and values of the memory (plain form), what attention mixes (step form), and the
lower face's mixed matrices, which are formed per frame (plain form: at every step; step form: once for ten). With
thresholds at the feed-forward layers alone it would be {floor["all-feed-forward"]["forward"]:.0%} and
{floor["all-feed-forward"]["step"]:.0%}. That the step form costs a fraction of the plain one is algebra (what steps
share is done once, and the last layer sees the middle token alone), not sparsity: it serves the dense model too, so
each form is compared with itself.{_times(results)}"""


def _times(results: dict[str, Any]) -> str:
    """What fewer operations are worth in time, where that was measured."""
    times = results["latency"]["times"]
    if not {"all", "dense"} <= times.keys():
        return ""
    pairs = [f"{times['all'][kind]:.1f} ms against {times['dense'][kind]:.1f} ms" for kind in ("decoders", "sample")]
    return f"""

**Operations are not time.** *All* against dense, on one CPU thread and at these sizes: the decoders' plain form
{pairs[0]}, sampling in 10 steps {pairs[1]}. Thresholds, and
finding what is alive, cost more here than the products they save."""


def finding(results: dict[str, Any]) -> str:
    """Whether the paper's finding on L_MI shows: that without it the model is faster and clearly worse."""
    gaps = results["comparisons"]["L_MI in the full model"]
    if not gaps["seeds"]:
        return ""
    words = [verdict(place, gaps[place]) for place in ASKED if place in gaps]
    executed = [
        share(results, name, "flops.forward.executed", "dense", "flops.forward.nominal")
        for name in ("all-no-mi", "all")
    ]
    found = [
        f"without it *all* executes {executed[0]:.1%} of the dense baseline's decoder FLOPs (plain form), with it "
        f"{executed[1]:.1%}",
        f"with it {words.count('better')} of {len(words)} measures are better and {words.count('worse')} worse",
    ]
    holds = executed[0] < executed[1] and "better" in words and "worse" not in words
    outcome = "is reproduced" if holds else "is not reproduced"
    return (
        "The paper's finding on L_MI, that without it the model is faster and clearly worse, "
        f"{outcome} here:\n{found[0]};\n{found[1]}."
    )


def _origin(results: dict[str, Any]) -> str:
    """What the full model's lead owes to fusion: the same comparison with baselines that have it."""
    lines = []
    for claim, other in (
        ("all against dense with fusion", "the dense baseline with fusion"),
        ("thresholds and L_MI in the full model", "the full model without thresholds"),
    ):
        gaps = results["comparisons"][claim]
        if gaps["seeds"]:
            found = [place for place in ASKED if place in gaps]
            held = sum(good_as(place, gaps[place]) for place in found)
            words = "; ".join(f"{MEASURES[p]} {gap(gaps[p])} ({verdict(p, gaps[p])})" for p in found)
            lines.append(f"- against {other}: at least as good in {held} of {len(found)} measures: {words}.")
    intro = "The baseline reads acoustic rows alone, so most of the lead is fusion's. Against fairer ones *all* is"
    return "\n".join([f"{intro}:", "", *lines]) if lines else ""


def _table_of(results: dict[str, Any], name: str, claim: str) -> str:
    """The table of one variant, and whether it reaches the goal."""
    data, gaps = results["variants"], results["comparisons"][claim]
    rows, met = [], []
    for place in ASKED:
        if place in gaps:
            met.append(good_as(place, gaps[place]))
            rows.append([MEASURES[place], number(data["dense"], place), number(data[name], place), gap(gaps[place])])
            rows[-1].append(f"{'holds' if met[-1] else 'misses'} ({verdict(place, gaps[place])})")
    for form, words in (("forward", "plain"), ("step", "step")):
        executed = share(results, name, f"flops.{form}.executed", "dense", f"flops.{form}.nominal")
        met.append(executed <= 0.5)
        base = data["dense"][f"flops.{form}.nominal"]["mean"]
        each = ", ".join(f"{x / base:.1%}" for x in data[name][f"flops.{form}.executed"]["all"])
        reached = "holds" if met[-1] else "misses"
        rows.append([f"executed decoder FLOPs, {words} form", "100 %", f"{executed:.1%}", f"by seed: {each}", reached])
    seeds = len(gaps["seeds"])
    summary = f"*{name}*: {sum(met)} of {len(met)} hold, over {seeds} seed{'s' if seeds > 1 else ''}"
    summary += ": the goal is met." if all(met) else ": the goal is missed."
    return table(["", "dense", name, "difference (95 %)", "goal"], rows) + "\n\n" + summary
