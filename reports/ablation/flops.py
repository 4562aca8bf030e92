"""Multiply-adds of the decoders for one frame and one diffusion step, counted from the configuration.

Two forms are counted. `forward` is the plain network, all 11 tokens through both decoders, as DreamTalk runs it.
`step` is the form that sampling uses here: what steps share is done once, and the last layer sees the middle token
alone. In each: `nominal` counts every product; `executed` leaves out what a masked product skips (an element that
its threshold zeroed), which is what the operators do; `live` also leaves out zeroed elements that still run through a
dense product: the inputs of dynamic layers, and a dense network's own zeros after the ReLU.
A product and a sum are two floating-point operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from dmt.config import DenoiserConfig
from dmt.decoder import LOWER, UPPER
from dmt.model import MotionModel
from dmt.rates import WINDOW

REGIONS = {"upper": len(UPPER), "lower": len(LOWER)}


@dataclass(frozen=True)
class Count:
    """Floating-point operations for one frame and one step."""

    nominal: float = 0.0
    executed: float = 0.0
    live: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.nominal + other.nominal, self.executed + other.executed, self.live + other.live)


def dense(products: float) -> Count:
    return Count(2 * products, 2 * products, 2 * products)


def masked(products: float, kept: float, *, skipped: bool) -> Count:
    """skipped: the operator leaves zeros out, rather than multiplying by them."""
    return Count(2 * products, 2 * products * (kept if skipped else 1.0), 2 * products * kept)


def decoder_count(config: DenoiserConfig, kept: dict[str, float], form: str, *, thresholds: bool) -> Count:
    """Both decoders with their tails. kept: share by site, named as in `DecoupledDecoder`; absent sites count as 1."""
    total = Count()
    for region, out in REGIONS.items():
        total += dense(config.width * config.tail_width + config.tail_width**2 + config.tail_width * out)
        for layer in range(config.decoder_layers):
            last = layer + 1 == config.decoder_layers
            name = f"{region}_decoder.layers.{layer}"
            shares = [kept.get(f"{name}.{site}_threshold", 1.0) for site in ("input", "hidden")]
            tokens = 1 if form == "step" and last else WINDOW
            total += dense(_attention(config, form, layer, last))
            total += _feed_forward(config, tokens, *shares, by_frame=region == "lower", thresholds=thresholds)
            if config.decoder == "dynamic" and region == "lower" and form == "forward":
                hidden = config.width // config.reduction
                total += dense(hidden * (config.width + config.shared_matrices))  # who mixes; `prepare` does it once
    return total


def _attention(config: DenoiserConfig, form: str, layer: int, last: bool) -> float:
    """Products of self- and cross-attention of one layer for one frame."""
    square, scores = config.width**2, WINDOW * config.width
    whole = 4 * WINDOW * square + 2 * WINDOW * scores
    if form == "forward":
        return 2 * whole
    # One row: key and value matrices are moved out of the source, so scores are taken in full width by every head.
    one = 3 * square + 2 * config.heads * scores
    query = (1 if last else WINDOW) * square
    if layer == 0:  # its queries are the same for every frame
        return one if last else whole - query
    return 2 * (query + one) if last else 2 * whole


def _feed_forward(
    config: DenoiserConfig, tokens: int, inputs: float, hidden: float, *, by_frame: bool, thresholds: bool
) -> Count:
    product = tokens * config.width * config.feed_forward
    second = masked(product, hidden, skipped=thresholds)
    if config.decoder == "plain":
        return second + masked(product, inputs, skipped=thresholds)
    if not (by_frame and config.decoder == "dynamic"):
        mixing = config.shared_matrices * config.width * config.feed_forward / MotionModel.chunk_frames
        return second + masked(product, inputs, skipped=False) + dense(mixing)
    bias = config.shared_matrices * config.feed_forward
    return second + masked(config.shared_matrices * product, inputs, skipped=False) + dense(bias)
