"""The fast form of the denoiser: what diffusion steps share is computed once.

Hoisted out of the steps: both encoders; the content half of the input layer; the first
decoder layer up to its cross-attention queries, which depend on the style alone; shares
of the dynamic matrices. Inside a step: the memory and its keys and values are shared by
guided halves, and the last layer works on the middle token alone.

Two identities carry most of it. Attention weights sum to one, so what is constant over
the source rows (time, biases) leaves the keys altogether and passes the values as a
constant. And products of matrices can be formed ahead: the input MLP's last layer is
multiplied into the keys and values, so the memory itself is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoder import Attention, RegionDecoder

if TYPE_CHECKING:
    from .network import Denoiser


@dataclass(frozen=True)
class Cross:
    """Cross-attention of one layer, with the input MLP's last layer multiplied in.

    key, value [D, D]: from its hidden rows; offset [D] + time code @ from_time [D, D]: what the
    constants become after the output projection.
    """

    key: Tensor
    value: Tensor
    out: Tensor
    offset: Tensor
    from_time: Tensor


@dataclass(frozen=True)
class Region:
    """One region decoder's share of `Prepared` (G = 2 with guidance, else 1).

    first [G * B, P, D]: the first layer after its self-attention; mixtures: per layer
    [G * B, 1 or L, K] or None; crosses: one per layer.
    """

    first: Tensor
    mixtures: tuple[Tensor | None, ...]
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
    return Region(
        layer.norm1(queries + layer.self_attn(queries)),
        tuple(each.mixture(condition) for each in decoder.layers),
        tuple(_cross(each.multihead_attn, net.content_xt_to_decoder_input_wo_time[4]) for each in decoder.layers),
    )


def _cross(attention: Attention, last: torch.nn.Linear) -> Cross:
    """Products of matrices in float64: their own rounding then stays below that of one float32 product."""
    _, key, value = attention.in_proj_weight.double().chunk(3)
    out, memory, dtype = attention.out_proj.weight.double(), last.weight.double(), last.weight.dtype
    value_bias = attention.in_proj_bias.double().chunk(3)[2]
    offset = out @ (value @ last.bias.double() + value_bias) + attention.out_proj.bias.double()
    return Cross(
        (key @ memory).to(dtype),
        (value @ memory).to(dtype),
        attention.out_proj.weight,
        offset.to(dtype),
        (out @ value).t().to(dtype),
    )


def step(net: Denoiser, prepared: Prepared, x_t: Tensor, t: Tensor) -> Tensor:
    """x_t [B, L, 64], t [B] -> [G * B, L, 64], the null style's clips last."""
    mlp = net.content_xt_to_decoder_input_wo_time
    noisy = F.linear(x_t, mlp[0].weight[:, net.config.width :])  # [B, L, D]
    hidden = torch.relu(prepared.content + noisy[:, :, None])
    hidden = torch.relu(mlp[2](hidden))  # [B, L, 11, D], memory before the MLP's last layer
    time = net.encode_time(t)
    upper = _decode(net.decoder.upper_decoder, prepared.upper, hidden, time, t)
    lower = _decode(net.decoder.lower_decoder, prepared.lower, hidden, time, t)
    return net.decoder.join(upper, lower)


def _decode(decoder: RegionDecoder, region: Region, hidden: Tensor, time: Tensor, t: Tensor) -> Tensor:
    """hidden [B, L, 11, D], time codes [B, D] -> the middle token [G * B, L, D]."""
    copies = region.first.shape[0] // hidden.shape[0]
    times, middle = t.repeat(copies), hidden.shape[2] // 2
    y = region.first[:, None]  # [G * B, 1 (every frame alike), 11, D]
    for index, (layer, cross, mixture) in enumerate(zip(decoder.layers, region.crosses, region.mixtures, strict=True)):
        last = index + 1 == len(decoder.layers)
        if index and last:
            row = y[:, :, middle : middle + 1]
            y = layer.norm1(row + _one_self(layer.self_attn, row, y))
        elif index:
            mixed = layer.self_attn(y.flatten(0, 1)).unflatten(0, y.shape[:2])
            y = layer.norm1(y + mixed)
        elif last:
            y = y[:, :, middle : middle + 1]
        constant = (cross.offset + time @ cross.from_time).repeat(copies, 1)[:, None, None]
        query = layer.multihead_attn.query(y)
        attend = _one_cross if last else _all_cross
        y = layer.norm2(y + (attend(layer.multihead_attn, cross, query, hidden) + constant))
        y = layer.finish(y, times, mixture)
    return decoder.norm(y[:, :, 0])


def _by_frame(query: Tensor, hidden: Tensor, heads: int) -> Tensor:
    """Queries [G * B, L or 1, P, D] of all guided halves beside one another: [B * L, heads, G * P, D / heads]."""
    clips, frames = hidden.shape[:2]
    query = query.unflatten(0, (-1, clips)).expand(-1, -1, frames, -1, -1)  # [G, B, L, P, D]
    query = query.unflatten(-1, (heads, -1)).permute(1, 2, 4, 0, 3, 5)  # [B, L, heads, G, P, d]
    return query.flatten(3, 4).flatten(0, 1)


def _by_clip(mixed: Tensor, hidden: Tensor, rows: int) -> Tensor:
    """The inverse of `_by_frame`: [B * L, heads, G * P, d] -> [G * B, L, P, D]."""
    mixed = mixed.unflatten(0, hidden.shape[:2]).unflatten(3, (-1, rows))  # [B, L, heads, G, P, d]
    return mixed.permute(3, 0, 1, 4, 2, 5).flatten(4, 5).flatten(0, 1)


def _all_cross(attention: Attention, cross: Cross, query: Tensor, hidden: Tensor) -> Tensor:
    """Cross-attention of all rows, without its constant: [G * B, L, P, D]."""
    source = hidden.flatten(0, 1)  # [B * L, 11, D]
    key, value = attention.split(F.linear(source, cross.key)), attention.split(F.linear(source, cross.value))
    mixed = F.scaled_dot_product_attention(_by_frame(query, hidden, attention.heads), key, value)
    return F.linear(_by_clip(mixed, hidden, query.shape[2]), cross.out)


def _one_cross(attention: Attention, cross: Cross, query: Tensor, hidden: Tensor) -> Tensor:
    """The same for one row per frame: keys are multiplied into the query, values after the mix."""
    mixed = _mix_one(_by_frame(query, hidden, attention.heads), hidden.flatten(0, 1), cross.key, cross.value)
    return F.linear(_by_clip(mixed, hidden, query.shape[2]), cross.out)


def _one_self(attention: Attention, row: Tensor, y: Tensor) -> Tensor:
    """Self-attention of one row [G * B, L, 1, D] over its frame's rows y [G * B, L, 11, D]."""
    _, key, value = attention.in_proj_weight.chunk(3)
    query = attention.split(attention.query(row).flatten(0, 1))
    mixed = _mix_one(query, y.flatten(0, 1), key, value).transpose(1, 2).flatten(-2)  # [N, 1, D]
    mixed = mixed + attention.in_proj_bias.chunk(3)[2]
    return attention.out_proj(mixed).unflatten(0, row.shape[:2])


def _mix_one(query: Tensor, source: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q (K s)^T) V s with K and V moved out of the source: few queries, many source rows.

    query [N, heads, Q, d], source [N, P, D], key and value [heads * d, D] -> [N, heads, Q, d].
    """
    items, heads, few, width = query.shape
    by_head = query.permute(1, 0, 2, 3).reshape(heads, items * few, width) * width**-0.5
    folded = torch.bmm(by_head, key.unflatten(0, (heads, width)))  # [heads, N * Q, D]
    folded = folded.unflatten(1, (items, few)).permute(1, 0, 2, 3).flatten(1, 2)  # [N, heads * Q, D]
    shares = torch.softmax(torch.bmm(folded, source.transpose(1, 2)), dim=-1)
    mixed = torch.bmm(shares, source).unflatten(1, (heads, few)).permute(1, 0, 2, 3).flatten(1, 2)
    out = torch.bmm(mixed, value.unflatten(0, (heads, width)).transpose(1, 2))  # [heads, N * Q, d]
    return out.unflatten(1, (items, few)).permute(1, 0, 2, 3)
