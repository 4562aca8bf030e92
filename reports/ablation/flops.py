"""Multiply-adds of the decoders for one frame and one diffusion step, counted from the configuration.

Two forms are counted. `forward` is the plain network, all 11 tokens through both decoders at every step, as DreamTalk
runs it. `step` is the form that sampling uses here: the last layer sees the middle token alone, and what steps share
is done once by `prepare` (matrices of a frame's own as well, where more than its last layer uses them), so it counts
with 1 / STEPS, and with 1 / CHUNK of that where all frames of a chunk share it.
In each: `nominal` counts every product; `executed` leaves out what a masked product skips (an element that its
threshold zeroed); `live` also leaves out zeroed elements that still run through a dense product: the inputs of dynamic
layers whose matrices are not formed, and a dense network's own zeros after the ReLU.
A product and a sum are two floating-point operations. On a CPU `sparse_linear` may choose the dense product where it is
the faster one; what is counted is what the mask lets it leave out.
"""

from __future__ import annotations

from dataclasses import dataclass

from dmt.config import DenoiserConfig, SparsityConfig
from dmt.decoder import LOWER, UPPER
from dmt.model import MotionModel
from dmt.rates import WINDOW

REGIONS = {"upper": len(UPPER), "lower": len(LOWER)}
CHUNK = MotionModel.chunk_frames
STEPS = 10
"""Diffusion steps of one sampling, over which `prepare` is spread."""


@dataclass(frozen=True)
class Count:
    """Floating-point operations for one frame and one step."""

    nominal: float = 0.0
    executed: float = 0.0
    live: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.nominal + other.nominal, self.executed + other.executed, self.live + other.live)

    def __mul__(self, share: float) -> Count:
        return Count(self.nominal * share, self.executed * share, self.live * share)


def dense(products: float) -> Count:
    return Count(2 * products, 2 * products, 2 * products)


def masked(products: float, kept: float, *, skipped: bool) -> Count:
    """skipped: the operator leaves zeros out, rather than multiplying by them."""
    return Count(2 * products, 2 * products * (kept if skipped else 1.0), 2 * products * kept)


class DecoderCount:
    """Both decoders with their tails. kept: share by site, named as in `DecoupledDecoder`, with `memory_thresholds.1`
    of the denoiser for what is attended to; absent sites count as 1."""

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig, kept: dict[str, float]) -> None:
        self.config, self.kept = config, kept
        self.thresholds = sparsity.enabled
        self.everywhere = sparsity.enabled and sparsity.reach == "decoders"
        self.square, self.scores = config.width**2, WINDOW * config.width

    def total(self, form: str) -> Count:
        """`forward` or `step`."""
        if form == "forward":
            return self.forward()
        return self.step() + self.prepare() * (1 / STEPS)

    def forward(self) -> Count:
        """The plain network."""
        total = self._tails()
        for region in REGIONS:
            total += self._mixture_nets(region) + self._matrices(region, self.config.decoder_layers, self.everywhere)
            for layer in range(self.config.decoder_layers):
                name = f"{region}_decoder.layers.{layer}"
                total += self._whole_self(name) + self._whole_cross(name, memory=1.0)
                total += self._feed_forward(region, name, WINDOW)
        return total

    def step(self) -> Count:
        """One step alone, without what `prepare` did."""
        total, layers = self._tails(), self.config.decoder_layers
        memory = self._share("memory_thresholds.1")
        for region in REGIONS:
            for layer in range(layers):
                name, last = f"{region}_decoder.layers.{layer}", layer + 1 == layers
                if layer:
                    total += self._one_self(name) if last else self._whole_self(name)
                if last:
                    total += self._one_cross(name, memory, query=layer > 0)
                else:
                    total += self._whole_cross(name, memory, query=layer > 0)
                total += self._feed_forward(region, name, 1 if last else WINDOW, formed=not last)
            if not self.everywhere:
                total += self._matrices(region, 1, formed=False)
        return total

    def prepare(self) -> Count:
        """What is done once for all steps: the style's rows, who mixes, and formed matrices."""
        total = Count()
        for region in REGIONS:
            name, alone = f"{region}_decoder.layers.0", self.config.decoder_layers == 1
            rows = self._whole_self(name)
            rows += self._masked((1 if alone else WINDOW) * self.square, f"{name}.multihead_attn.input_threshold")
            total += (rows + dense(self.square if alone else 0)) * (1 / CHUNK) + self._mixture_nets(region)
            total += self._matrices(region, self.config.decoder_layers - (not self.everywhere), formed=True)
        return total

    def _share(self, site: str) -> float:
        return self.kept.get(site, 1.0) if self.everywhere else 1.0

    def _masked(self, products: float, site: str) -> Count:
        return masked(products, self._share(site), skipped=self.everywhere)

    def _whole_self(self, name: str) -> Count:
        into = self._masked(3 * WINDOW * self.square, f"{name}.self_attn.input_threshold")
        out = self._masked(WINDOW * self.square, f"{name}.self_attn.output_threshold")
        return into + out + dense(2 * WINDOW * self.scores)

    def _whole_cross(self, name: str, memory: float, *, query: bool = True) -> Count:
        into = self._masked(query * WINDOW * self.square, f"{name}.multihead_attn.input_threshold")
        out = self._masked(WINDOW * self.square, f"{name}.multihead_attn.output_threshold")
        attended = masked(2 * WINDOW * self.square, memory, skipped=True)
        return into + attended + out + dense(2 * WINDOW * self.scores)

    def _one_self(self, name: str) -> Count:
        """One row: key and value matrices are moved out of the source, so every head scores in full width."""
        site = f"{name}.self_attn.input_threshold"
        into, out = self._masked(self.square, site), self._masked(self.square, f"{name}.self_attn.output_threshold")
        scores = masked(2 * self.config.heads * self.scores, self._share(site), skipped=True)
        return into + out + scores + dense(2 * self.square)

    def _one_cross(self, name: str, memory: float, *, query: bool) -> Count:
        """The same; without a query of its own (`prepare` folded it) the key matrix is done with, too."""
        into = self._masked(query * self.square, f"{name}.multihead_attn.input_threshold")
        out = self._masked(self.square, f"{name}.multihead_attn.output_threshold")
        scores = masked(2 * self.config.heads * self.scores, memory, skipped=True)
        return into + out + scores + dense((1 + query) * self.square)

    def _mixture_nets(self, region: str) -> Count:
        """Who mixes, for one layer of each region all layers alike: the upper face's once per chunk."""
        if self.config.decoder == "plain":
            return Count()
        hidden = max(1, self.config.width // self.config.reduction)
        products = self.config.decoder_layers * hidden * (self.config.width + self.config.shared_matrices)
        return dense(products) * (1 if self._by_frame(region) else 1 / CHUNK)

    def _matrices(self, region: str, layers: int, formed: bool) -> Count:
        """Mixed matrices and biases of some layers; matrices of a frame's own only where they are formed."""
        if self.config.decoder == "plain":
            return Count()
        by_frame = self._by_frame(region)
        width = self.config.width if formed or not by_frame else 0
        products = layers * self.config.shared_matrices * self.config.feed_forward * (width + 1)
        return dense(products) * (1 if by_frame else 1 / CHUNK)

    def _by_frame(self, region: str) -> bool:
        return region == "lower" and self.config.decoder == "dynamic"

    def _feed_forward(self, region: str, name: str, tokens: int, *, formed: bool = False) -> Count:
        product = tokens * self.config.width * self.config.feed_forward
        inputs, hidden = (self.kept.get(f"{name}.{site}_threshold", 1.0) for site in ("input", "hidden"))
        ordinary = self.config.decoder == "plain" or self.everywhere or formed
        copies = 1 if ordinary or not self._by_frame(region) else self.config.shared_matrices
        first = masked(copies * product, inputs, skipped=self.thresholds and ordinary)
        return first + masked(product, hidden, skipped=self.thresholds)

    def _tails(self) -> Count:
        total, hidden = Count(), self.config.tail_width
        for region, out in REGIONS.items():
            for index, products in enumerate((self.config.width * hidden, hidden**2, hidden * out)):
                total += self._masked(products, f"{region}_tail_thresholds.{index}")
        return total
