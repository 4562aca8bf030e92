"""The fast form of the denoiser: what diffusion steps share is computed once.

Hoisted out of the steps: both encoders; the content half of the input layer; the first
decoder layer up to its cross-attention queries, which depend on the style alone; shares
of the dynamic matrices, or the matrices themselves. Inside a step: the memory and its keys and values are shared by
guided halves, and the last layer works on the middle token alone.

Two identities carry most of it. Attention weights sum to one, so what is constant over
the source rows (time, biases) leaves the keys altogether and passes the values as a
constant. And products of matrices can be formed ahead: the input MLP's last layer is
multiplied into the keys and values, so the memory itself is never formed. A threshold before
the output projection sees the whole of its input: the constant is then added in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dmt_kernels import sparse_linear

from ..decoder import Attention, Mixed, RegionDecoder, live_product
from ..sparsity import product

if TYPE_CHECKING:
    from .network import Denoiser


@dataclass(frozen=True)
class Cross:
    """Cross-attention of one layer, with the input MLP's last layer multiplied in.

    key, value [D, D]: from its hidden rows; offset [D] + time code @ from_time [D, D]: what the
    constants become after the output projection, or before it where that has a threshold.
    """

    key: Tensor
    value: Tensor
    offset: Tensor
    from_time: Tensor


@dataclass(frozen=True)
class Source:
    """Hidden rows [B, L, 11, D] that are attended to; bits: of what is not zero, where a threshold made zeros."""

    rows: Tensor
    bits: Tensor | None

    def project(self, weight: Tensor) -> Tensor:
        """rows @ weight.T, [B * L, 11, D]."""
        rows = self.rows.flatten(0, 1)
        return F.linear(rows, weight) if self.bits is None else sparse_linear(rows, self.bits.flatten(0, 1), weight)


@dataclass(frozen=True)
class Region:
    """One region decoder's share of `Prepared` (G = 2 with guidance, else 1).

    first [G * B, P, D]: the first layer after its self-attention; query: of its cross-attention, [G * B, 1, P, D], or
    [G * B, heads, 1, D] multiplied into the keys where it is the last layer too; mixtures: what each layer's
    `mixture` gives; crosses: one per layer.
    """

    first: Tensor
    query: Tensor
    mixtures: tuple[Tensor | Mixed | None, ...]
    crosses: tuple[Cross, ...]


@dataclass(frozen=True)
class Prepared:
    """What `Denoiser.prepare` hands to `step`.

    content [B, L, 11, D]: the content half of the input layer, with its bias.
    """

    content: Tensor
    upper: Region
    lower: Region
    guided: bool


def prepare(net: Denoiser, content: Tensor, style: Tensor, padding: Tensor, guided: bool) -> Prepared:
    """content: tokens [B, L, 11, D] of the content encoder; see `Denoiser.prepare`."""
    if net.training:
        raise RuntimeError("prepare() is for evaluation: call eval() first")
    code = net.encode_style(style, padding)
    middle = content[:, :, content.shape[2] // 2]
    if guided:
        null = net.encode_style(*net.null_style(1)).expand_as(code)
        code, middle = torch.cat([code, null]), torch.cat([middle, middle])
    first = net.content_xt_to_decoder_input_wo_time[0]
    width = net.config.width
    upper, lower = net.decoder.conditions(code, middle)
    queries = net.decoder.queries(code)
    return Prepared(
        F.linear(content, first.weight[:, :width], first.bias),
        _region(net, net.decoder.upper_decoder, queries, upper),
        _region(net, net.decoder.lower_decoder, queries, lower),
        guided,
    )


def _region(net: Denoiser, decoder: RegionDecoder, queries: Tensor, condition: Tensor) -> Region:
    layer = decoder.layers[0]
    first = layer.norm1(queries + layer.self_attn(queries))
    crosses = tuple(_cross(each.multihead_attn, net.content_xt_to_decoder_input_wo_time[4]) for each in decoder.layers)
    if len(decoder.layers) == 1:
        middle = first.shape[1] // 2
        row = layer.multihead_attn.split(layer.multihead_attn.query(first[:, middle : middle + 1]))
        # Twice, as a product with one row rounds otherwise than one with more: with and without guidance alike.
        query = _fold(torch.cat([row, row]), crosses[0].key)[: len(row)]
    else:
        query = layer.multihead_attn.query(first[:, None])
    rows = [first.shape[1]] * (len(decoder.layers) - 1) + [1]  # the last layer works on the middle token
    mixtures = tuple(each.mixture(condition, n) for each, n in zip(decoder.layers, rows, strict=True))
    return Region(first, query, mixtures, crosses)


def _cross(attention: Attention, last: torch.nn.Linear) -> Cross:
    """Products of matrices in float64: their own rounding then stays below that of one float32 product."""
    _, key, value = attention.in_proj_weight.double().chunk(3)
    out, memory, dtype = attention.out_proj.weight.double(), last.weight.double(), last.weight.dtype
    value_bias = attention.in_proj_bias.double().chunk(3)[2]
    offset, from_time = value @ last.bias.double() + value_bias, value
    if attention.output_threshold is None:
        offset, from_time = out @ offset + attention.out_proj.bias.double(), out @ value
    return Cross((key @ memory).to(dtype), (value @ memory).to(dtype), offset.to(dtype), from_time.t().to(dtype))


def step(net: Denoiser, prepared: Prepared, x_t: Tensor, t: Tensor) -> Tensor:
    """x_t [B, L, 64], t [B] -> [G * B, L, 64], the null style's clips last."""
    mlp = net.content_xt_to_decoder_input_wo_time
    noisy = F.linear(x_t, mlp[0].weight[:, net.config.width :])  # [B, L, D]
    hidden = torch.relu(prepared.content + noisy[:, :, None])
    sites = net.memory_thresholds or (None, None)
    hidden = torch.relu(product(sites[0], hidden, mlp[2].weight, mlp[2].bias, t))  # memory before the MLP's last layer
    source = Source(hidden, None)
    if sites[1] is not None:
        source = Source(*sites[1].masked(hidden, t))
    time = net.encode_time(t)
    upper = _decode(net.decoder.upper_decoder, prepared.upper, source, time, t)
    lower = _decode(net.decoder.lower_decoder, prepared.lower, source, time, t)
    return net.decoder.join(upper, lower, t.repeat(2 if prepared.guided else 1))


def _decode(decoder: RegionDecoder, region: Region, source: Source, time: Tensor, t: Tensor) -> Tensor:
    """source of B clips, time codes [B, D] -> the middle token [G * B, L, D]."""
    copies = region.first.shape[0] // source.rows.shape[0]
    times, middle = t.repeat(copies), source.rows.shape[2] // 2
    y = region.first[:, None]  # [G * B, 1 (every frame alike), 11, D]
    for index, (layer, cross, mixture) in enumerate(zip(decoder.layers, region.crosses, region.mixtures, strict=True)):
        last = index + 1 == len(decoder.layers)
        if index and last:
            row = y[:, :, middle : middle + 1]
            y = layer.norm1(row + _one_self(layer.self_attn, row, y, times))
        elif index:
            frame_times = times[:, None].expand(-1, y.shape[1]).flatten()
            y = layer.norm1(y + layer.self_attn(y.flatten(0, 1), t=frame_times).unflatten(0, y.shape[:2]))
        elif last:
            y = y[:, :, middle : middle + 1]
        constant = (cross.offset + time @ cross.from_time).repeat(copies, 1)[:, None, None]
        query = layer.multihead_attn.query(y, times) if index else region.query
        if last:
            rows, heads = source.rows, layer.multihead_attn.heads
            folded = _fold(_by_frame(query, rows, heads), cross.key) if index else _folded_by_frame(query, rows)
            mixed = _by_clip(_mix_one(folded, rows.flatten(0, 1), cross.value, source.bits is not None), rows, 1)
        else:
            mixed = _all_cross(layer.multihead_attn, cross, query, source)
        y = layer.norm2(y + _project(layer.multihead_attn, mixed, constant, times))
        y = layer.finish(y, times, mixture)
    return decoder.norm(y[:, :, 0])


def _project(attention: Attention, mixed: Tensor, constant: Tensor, times: Tensor) -> Tensor:
    """mixed [G * B, L, P, D] through the output projection, with what is constant over the source rows."""
    if attention.output_threshold is None:
        return F.linear(mixed, attention.out_proj.weight) + constant
    return attention.project(mixed + constant, times)


def _by_frame(query: Tensor, rows: Tensor, heads: int) -> Tensor:
    """Queries [G * B, L or 1, P, D] of all guided halves beside one another: [B * L, heads, G * P, D / heads]."""
    clips, frames = rows.shape[:2]
    query = query.unflatten(0, (-1, clips)).expand(-1, -1, frames, -1, -1)  # [G, B, L, P, D]
    query = query.unflatten(-1, (heads, -1)).permute(1, 2, 4, 0, 3, 5)  # [B, L, heads, G, P, d]
    return query.flatten(3, 4).flatten(0, 1)


def _folded_by_frame(folded: Tensor, rows: Tensor) -> Tensor:
    """Folded queries [G * B, heads, 1, D], the same for every frame, beside one another: [B * L, heads, G, D]."""
    clips, frames = rows.shape[:2]
    folded = folded.unflatten(0, (-1, clips))[:, :, None, :, 0].expand(-1, -1, frames, -1, -1)  # [G, B, L, heads, D]
    return folded.permute(1, 2, 3, 0, 4).flatten(0, 1)


def _by_clip(mixed: Tensor, rows: Tensor, tokens: int) -> Tensor:
    """The inverse of `_by_frame`: [B * L, heads, G * P, d] -> [G * B, L, P, D]."""
    mixed = mixed.unflatten(0, rows.shape[:2]).unflatten(3, (-1, tokens))  # [B, L, heads, G, P, d]
    return mixed.permute(3, 0, 1, 4, 2, 5).flatten(4, 5).flatten(0, 1)


def _all_cross(attention: Attention, cross: Cross, query: Tensor, source: Source) -> Tensor:
    """Cross-attention of all rows, before its constant and the output projection: [G * B, L, P, D]."""
    key, value = (attention.split(source.project(weight)) for weight in (cross.key, cross.value))
    mixed = F.scaled_dot_product_attention(_by_frame(query, source.rows, attention.heads), key, value)
    return _by_clip(mixed, source.rows, query.shape[2])


def _one_self(attention: Attention, row: Tensor, y: Tensor, times: Tensor) -> Tensor:
    """Self-attention of one row [G * B, L, 1, D] over its frame's rows y [G * B, L, 11, D]."""
    _, key, value = attention.in_proj_weight.chunk(3)
    query = attention.split(attention.query(row, times).flatten(0, 1))
    if attention.input_threshold is not None:
        y = attention.input_threshold(y, times)
    masked = attention.input_threshold is not None
    mixed = _mix_one(_fold(query, key), y.flatten(0, 1), value, masked).transpose(1, 2).flatten(-2)  # [N, 1, D]
    mixed = mixed + attention.in_proj_bias.chunk(3)[2]
    return attention.project(mixed.unflatten(0, row.shape[:2]), times)


def _fold(query: Tensor, key: Tensor) -> Tensor:
    """A query times the key matrix, so that keys need not be made: [N, heads, Q, d], [heads * d, D] -> [.., Q, D]."""
    items, heads, few, width = query.shape
    by_head = query.permute(1, 0, 2, 3).reshape(heads, items * few, width) * width**-0.5
    folded = torch.bmm(by_head, key.unflatten(0, (heads, width)))  # [heads, N * Q, D]
    return folded.unflatten(1, (items, few)).permute(1, 0, 2, 3)


def _mix_one(folded: Tensor, source: Tensor, value: Tensor, masked: bool) -> Tensor:
    """softmax(folded s^T) V s with V moved out of the source: few queries, many source rows.

    folded [N, heads, Q, D], source [N, P, D], value [heads * d, D] -> [N, heads, Q, d]. masked: the source has zeros
    worth skipping, in both products.
    """
    items, heads, few, _ = folded.shape
    folded = folded.flatten(1, 2)
    if masked:
        shares = torch.softmax(live_product(source, folded.transpose(1, 2)).transpose(1, 2), dim=-1)
        mixed = live_product(source.transpose(1, 2), shares.transpose(1, 2)).transpose(1, 2)
    else:
        shares = torch.softmax(torch.bmm(folded, source.transpose(1, 2)), dim=-1)
        mixed = torch.bmm(shares, source)
    mixed = mixed.unflatten(1, (heads, few)).permute(1, 0, 2, 3).flatten(1, 2)
    out = torch.bmm(mixed, value.unflatten(0, (heads, -1)).transpose(1, 2))  # [heads, N * Q, d]
    return out.unflatten(1, (items, few)).permute(1, 0, 2, 3)
