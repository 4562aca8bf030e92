"""`threshold_ema` in Triton, in two launches; it runs where the CUDA kernels are not built.

A program works on one strip of 64 columns and a run of rows. Partial sums are added by whichever program arrives last,
in the order of the programs, so results do not depend on scheduling.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...masked import STATE_SIZE
from ..mask_bits.reference import words
from .reference import EPSILON, work_dtype

COLUMNS = tl.constexpr(64)
TILE = 16  # rows at a time
SUM_BLOCK = 16  # words at a time
MAX_SUM_PROGRAMS = tl.constexpr(512)
_EPSILON = tl.constexpr(EPSILON)


@triton.jit
def sum_kernel(
    x, partial, to_zero, count, across, width, zeros, ZEROS: tl.constexpr, BLOCK: tl.constexpr, WORK: tl.constexpr
):
    """partial [programs, 2]: sum of |x| over finite elements, and their number, of this program's share of the `count`
    words of the mask, `across` to a row. The rule is that of reference.abs_sums; a sum of two has but one order."""
    program = tl.program_id(0)
    if program == 0:
        lanes = tl.arange(0, ZEROS)
        tl.store(to_zero + lanes, tl.zeros((ZEROS,), tl.int32), mask=lanes < zeros)
    total = tl.zeros((BLOCK, 8), tl.float64)
    finite_count = tl.zeros((BLOCK, COLUMNS), tl.int32)
    for start in range(program * BLOCK, count, tl.num_programs(0) * BLOCK):
        word = tl.arange(0, BLOCK).to(tl.int64) + start
        row, column = word // across, (word % across)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
        there = (word < count)[:, None] & (column < width)
        size = tl.abs(tl.load(x + row[:, None] * width + column, mask=there, other=float("nan")).to(WORK))
        finite = size < float("inf")
        finite_count += finite.to(tl.int32)
        folded = tl.where(finite, size, 0.0)
        folded = tl.sum(tl.reshape(folded, (BLOCK, 2, 32)), 1)
        folded = tl.sum(tl.reshape(folded, (BLOCK, 2, 16)), 1)
        total += tl.sum(tl.reshape(folded, (BLOCK, 2, 8)), 1).to(tl.float64)
    tl.store(partial + 2 * program, tl.sum(tl.sum(total, 1)))
    tl.store(partial + 2 * program + 1, tl.sum(tl.sum(finite_count.to(tl.int64), 1)).to(tl.float64))


@triton.jit
def total_of(partial, programs):
    lanes = tl.arange(0, MAX_SUM_PROGRAMS)
    inside = lanes < programs
    total = tl.sum(tl.load(partial + 2 * lanes, mask=inside, other=0.0))
    return total, tl.sum(tl.load(partial + 2 * lanes + 1, mask=inside, other=0.0))


@triton.jit
def finish_sums_kernel(partial, out, programs):
    total, count = total_of(partial, programs)
    tl.store(out, total)
    tl.store(out + 1, count)


@triton.jit
def last_to_arrive(ticket, programs):
    """True in the last of `programs` to come here; it sees what the others stored."""
    tl.debug_barrier()  # all threads have stored before the one that takes the ticket says so
    return tl.atomic_add(ticket, 1) == programs - 1


@triton.jit
def take_step(state, sums, programs, out, UPDATE: tl.constexpr, ALPHA: tl.constexpr, first):
    """Eq. 6; returns mu in float64 and lets the first program write the state."""
    mu, updates, step, seen = tl.load(state), tl.load(state + 1), tl.load(state + 2), tl.load(state + 3)
    if UPDATE:
        total, count = total_of(sums, programs)
        mean = total / count
        alpha = tl.full((), ALPHA, tl.float64)
        moved = tl.where(updates == 0.0, mean, alpha * mu.to(tl.float64) + (1.0 - alpha) * mean).to(tl.float32)
        absorb = (count > 0.0) & (mean < float("inf")) & ((step == 0.0) | (seen != step))
        mu = tl.where(absorb, moved, mu)
        updates = tl.where(absorb, updates + 1.0, updates)
        seen = tl.where(absorb, step, seen)
    if first:
        tl.store(out, mu)
        tl.store(out + 1, updates)
        tl.store(out + 2, step)
        tl.store(out + 3, seen)
    return mu.to(tl.float64)


@triton.jit
def _share(rows, run, runs):
    """Rows [begin, end) of a run; in 64 bits, since rows * runs may pass 2^31."""
    rows = tl.cast(rows, tl.int64)
    return rows * run // runs, rows * (run + 1) // runs


@triton.jit
def sigmoid(theta):
    return 1.0 / (1.0 + tl.exp(-theta.to(tl.float64)))


@triton.jit
def moments(offset_sum, squares, rows):
    offset = offset_sum / rows
    variance = squares / rows - offset * offset
    return offset, tl.where(variance < 0.0, 0.0, variance)


@triton.jit
def finish_strip(x, partial, statistics, strip, rows, width, runs, padded, column, inside):
    """Statistics of the strip's 64 features, and the sum of their terms of eq. 10."""
    q_sum = tl.zeros((COLUMNS,), tl.float64)
    q_squares = tl.zeros((COLUMNS,), tl.float64)
    p_sum = tl.zeros((COLUMNS,), tl.float64)
    p_squares = tl.zeros((COLUMNS,), tl.float64)
    p_count = tl.zeros((COLUMNS,), tl.float64)
    for run in range(runs):
        here = partial + run * 5 * padded + column
        q_sum += tl.load(here)
        q_squares += tl.load(here + padded)
        p_sum += tl.load(here + 2 * padded)
        p_squares += tl.load(here + 3 * padded)
        p_count += tl.load(here + 4 * padded)
    shift = tl.load(x + column, mask=inside & (rows > 0), other=0.0).to(tl.float64)
    count = tl.cast(tl.maximum(rows, 1), tl.float64)
    q_mean, q_variance = moments(q_sum, q_squares, count)
    live_offset, live_variance = moments(p_sum, p_squares, tl.maximum(p_count, 1.0))
    share = p_count / count
    q_mean += shift
    live_mean = live_offset + shift
    p_mean = share * live_mean
    p_variance = share * live_variance + share * (1.0 - share) * live_mean * live_mean
    tl.store(statistics + column, q_mean, mask=inside)
    tl.store(statistics + width + column, q_variance, mask=inside)
    tl.store(statistics + 2 * width + column, p_mean, mask=inside)
    tl.store(statistics + 3 * width + column, p_variance, mask=inside)
    q_variance += _EPSILON
    p_variance += _EPSILON
    ratio = (p_variance + (p_mean - q_mean) * (p_mean - q_mean)) / q_variance
    terms = 0.5 * (tl.log(q_variance / p_variance) + ratio - 1.0)
    tl.store(strip, tl.sum(tl.where(inside, terms, 0.0)))


@triton.jit
def mask_kernel(
    x, theta, state, sums, values, bits, counts, live, divergence, next_state, statistics, partial, strips, tickets,
    rows, width, sum_programs,
    ALPHA: tl.constexpr, UPDATE: tl.constexpr, PER_FEATURE: tl.constexpr, INFORMATION: tl.constexpr,
    STORE: tl.constexpr, ROWS: tl.constexpr, WORK: tl.constexpr,
):  # fmt: skip
    word, run = tl.program_id(0), tl.program_id(1)
    strips_count, runs = tl.num_programs(0), tl.num_programs(1)
    mu = take_step(state, sums, sum_programs, next_state, UPDATE, ALPHA, (word == 0) & (run == 0))
    lanes = tl.arange(0, COLUMNS)
    column = word * COLUMNS + lanes
    inside = column < width
    padded = strips_count * COLUMNS
    if PER_FEATURE:
        bound = (sigmoid(tl.load(theta + column, mask=inside, other=0.0)) * mu).to(WORK)
    else:
        bound = tl.full((COLUMNS,), 0.0, WORK) + (sigmoid(tl.load(theta)) * mu).to(WORK)
    begin, end = _share(rows, run, runs)
    shift = tl.load(x + column, mask=inside & (rows > 0), other=0.0).to(WORK)
    count = tl.zeros((ROWS,), tl.int64)
    q_sum = tl.zeros((COLUMNS,), tl.float64)
    q_squares = tl.zeros((COLUMNS,), tl.float64)
    p_sum = tl.zeros((COLUMNS,), tl.float64)
    p_squares = tl.zeros((COLUMNS,), tl.float64)
    p_count = tl.zeros((COLUMNS,), tl.float64)
    for top in range(begin, end, ROWS):
        row = tl.arange(0, ROWS).to(tl.int64) + top
        there = (row < end)[:, None] & inside[None, :]
        at = row[:, None] * width + column[None, :]
        raw = tl.load(x + at, mask=there, other=0.0)
        value = raw.to(WORK)
        alive = (tl.abs(value) > bound[None, :]) & there
        if STORE:
            tl.store(values + at, tl.where(alive, raw, 0.0), mask=there)
        packed = tl.sum(alive.to(tl.int64) << lanes.to(tl.int64)[None, :], axis=1)
        tl.store(bits + row * strips_count + word, packed, mask=row < end)
        count += tl.sum(alive.to(tl.int64), axis=1)
        if INFORMATION:
            d = tl.where(there, value - shift[None, :], 0.0)
            e = tl.where(alive, d, 0.0)
            q_sum += tl.sum(d, axis=0).to(tl.float64)
            q_squares += tl.sum(d * d, axis=0).to(tl.float64)
            p_sum += tl.sum(e, axis=0).to(tl.float64)
            p_squares += tl.sum(e * e, axis=0).to(tl.float64)
            p_count += tl.sum(alive.to(tl.float32), axis=0).to(tl.float64)
    tl.atomic_add(counts, tl.sum(count))
    if INFORMATION:
        here = partial + run * 5 * padded + column
        tl.store(here, q_sum)
        tl.store(here + padded, q_squares)
        tl.store(here + 2 * padded, p_sum)
        tl.store(here + 3 * padded, p_squares)
        tl.store(here + 4 * padded, p_count)
        if last_to_arrive(tickets + word, runs):
            finish_strip(x, partial, statistics, strips + word, rows, width, runs, padded, column, inside)
            if last_to_arrive(tickets + strips_count, strips_count):
                finish(counts, live, divergence, strips, rows, width, strips_count, INFORMATION)
    elif last_to_arrive(tickets + strips_count, strips_count * runs):
        finish(counts, live, divergence, strips, rows, width, strips_count, INFORMATION)


@triton.jit
def finish(counts, live, divergence, strips, rows, width, strips_count, INFORMATION: tl.constexpr):
    total = tl.atomic_add(counts, 0).to(tl.float64)  # reads what the others added
    elements = tl.cast(rows, tl.float64) * width
    tl.store(live, tl.where(elements > 0.0, total / tl.maximum(elements, 1.0), 0.0).to(tl.float32))
    information = tl.full((), 0.0, tl.float64)
    if INFORMATION:
        for word in range(strips_count):
            information += tl.load(strips + word)
        information = information / tl.cast(tl.maximum(width, 1), tl.float64)
    tl.store(divergence, information)


@triton.jit
def backward_kernel(
    grad, grad_information, x, theta, state, statistics, grad_x, grad_theta, partial, strips, tickets,
    rows, width,
    PER_FEATURE: tl.constexpr, GRAD: tl.constexpr, INFORMATION: tl.constexpr, ROWS: tl.constexpr, WORK: tl.constexpr,
):  # fmt: skip
    word, run = tl.program_id(0), tl.program_id(1)
    strips_count, runs = tl.num_programs(0), tl.num_programs(1)
    column = word * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    padded = strips_count * COLUMNS
    mu = tl.load(state).to(tl.float64)
    if PER_FEATURE:
        s = sigmoid(tl.load(theta + column, mask=inside, other=0.0))
    else:
        s = tl.full((COLUMNS,), 0.0, tl.float64) + sigmoid(tl.load(theta))
    bound = (s * mu).to(WORK)
    inverse = tl.where(bound > 0.0, 1.0 / bound, 0.0)
    if INFORMATION:
        q_mean = tl.load(statistics + column, mask=inside, other=0.0).to(tl.float64)
        q_variance = tl.load(statistics + width + column, mask=inside, other=1.0).to(tl.float64) + _EPSILON
        p_mean = tl.load(statistics + 2 * width + column, mask=inside, other=0.0).to(tl.float64)
        p_variance = tl.load(statistics + 3 * width + column, mask=inside, other=1.0).to(tl.float64) + _EPSILON
        scale = tl.load(grad_information).to(tl.float64) / (tl.cast(rows, tl.float64) * width)
        distance = p_mean - q_mean
        spread = (p_variance + distance * distance) / (q_variance * q_variance)
        slope_q = (1.0 / q_variance - spread) * scale
        slope_p = (1.0 / q_variance - 1.0 / p_variance) * scale
        push = (distance / q_variance * scale).to(WORK)[None, :]
        slope_q, slope_p = slope_q.to(WORK)[None, :], slope_p.to(WORK)[None, :]
        center_q, center_p = q_mean.to(WORK)[None, :], p_mean.to(WORK)[None, :]
    begin, end = _share(rows, run, runs)
    pulled = tl.zeros((COLUMNS,), tl.float64)
    for top in range(begin, end, ROWS):
        row = tl.arange(0, ROWS).to(tl.int64) + top
        there = (row < end)[:, None] & inside[None, :]
        at = row[:, None] * width + column[None, :]
        value = tl.load(x + at, mask=there, other=0.0).to(WORK)
        size = tl.abs(value)
        alive = size > bound[None, :]
        g = tl.zeros_like(value)
        if GRAD:
            g = tl.load(grad + at, mask=there, other=0.0).to(WORK)
        if INFORMATION:
            g += push + slope_p * (tl.where(alive, value, 0.0) - center_p)
        out = tl.where(alive, g, 0.0)
        if INFORMATION:
            out += slope_q * (value - center_q) - push
        tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=there)
        v = size * inverse[None, :] - 1.0
        bump = 1.0 - v * v
        near = (bump > 0.0) & (inverse[None, :] > 0.0) & there
        pulled += tl.sum(tl.where(near, g * value * bump * bump, 0.0), axis=0).to(tl.float64)
    tl.store(partial + run * padded + column, pulled)
    if last_to_arrive(tickets + word, runs):
        total = tl.zeros((COLUMNS,), tl.float64)
        for other in range(runs):
            total += tl.load(partial + other * padded + column)
        slope = -0.9375 * inverse.to(tl.float64) * s * (1.0 - s) * mu  # 15/16 of the window, dt / dtheta
        if PER_FEATURE:
            tl.store(grad_theta + column, total * slope, mask=inside)
        else:
            tl.store(strips + word, tl.sum(total * slope))
            if last_to_arrive(tickets + strips_count, strips_count):
                gathered = tl.full((), 0.0, tl.float64)
                for other in range(strips_count):
                    gathered += tl.load(strips + other)
                tl.store(grad_theta, gathered)


def _triton_dtype(x: Tensor) -> tl.dtype:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _sum(x: Tensor, partial: Tensor, to_zero: Tensor) -> int:
    """Launch the sums of a contiguous x; returns the number of programs."""
    width, across = x.shape[-1], words(x.shape[-1])
    count = x.numel() // max(width, 1) * across
    programs = min(max(count // (4 * SUM_BLOCK), 1), MAX_SUM_PROGRAMS.value)
    zeros = triton.next_power_of_2(to_zero.numel())
    sum_kernel[(programs,)](
        x, partial, to_zero, count, across, width, to_zero.numel(),
        ZEROS=zeros, BLOCK=SUM_BLOCK, WORK=_triton_dtype(x),
    )  # fmt: skip
    return programs


def _grid(rows: int, strips: int) -> tuple[int, int]:
    strips = max(strips, 1)
    return strips, min(max(rows // 32, 1), max(1024 // strips, 1))


def abs_sums(x: Tensor) -> Tensor:
    """See reference.abs_sums."""
    partial = x.new_empty((MAX_SUM_PROGRAMS.value, 2), dtype=torch.float64)
    out = x.new_empty(2, dtype=torch.float64)
    programs = _sum(x.contiguous(), partial, x.new_empty(1, dtype=torch.int32))
    finish_sums_kernel[(1,)](partial, out, programs)
    return out


def forward(x, theta, state, sums, alpha, update, information, store):
    """See reference.forward."""
    x, width, dtype = x.contiguous(), x.shape[-1], work_dtype(x)
    rows, strips = x.numel() // max(width, 1), words(width)
    grid = _grid(rows, strips)
    information_here = information and width > 0
    values = torch.empty_like(x) if store else x.new_empty(0)
    bits = x.new_empty((*x.shape[:-1], strips), dtype=torch.int64)
    live, divergence = state.new_empty(()), x.new_empty((), dtype=dtype)
    moved, statistics = state.new_empty(STATE_SIZE), x.new_empty((4, width if information else 0), dtype=dtype)
    padded = grid[0] * COLUMNS.value
    partial = x.new_empty((grid[1] * 5 * padded if information_here else 1) + grid[0], dtype=torch.float64)
    zeroed = x.new_empty(2 + grid[0] + 2, dtype=torch.int32)  # the live count (int64), then the tickets
    programs = 1
    if update and sums is None:
        sums = x.new_empty((MAX_SUM_PROGRAMS.value, 2), dtype=torch.float64)
        programs = _sum(x, sums, zeroed)
    else:
        zeroed.zero_()
    even = zeroed[: zeroed.numel() // 2 * 2].view(torch.int64)
    theta = theta.float() if theta.dtype in (torch.float16, torch.bfloat16) else theta
    mask_kernel[grid](
        x, theta.contiguous(), state.contiguous(), partial if sums is None else sums.contiguous(), values, bits, even,
        live, divergence, moved, statistics, partial[grid[0] :], partial, zeroed[2:], rows, width, programs,
        ALPHA=alpha, UPDATE=update, PER_FEATURE=theta.dim() == 1, INFORMATION=information_here, STORE=store,
        ROWS=TILE, WORK=_triton_dtype(x),
    )  # fmt: skip
    return values, bits, live, divergence, moved, statistics


def backward(grad, grad_information, x, theta, state, statistics):
    """See reference.backward."""
    x, width = x.contiguous(), x.shape[-1]
    rows, strips = x.numel() // max(width, 1), words(width)
    wide = theta.float() if theta.dtype in (torch.float16, torch.bfloat16) else theta
    grad_x, grad_theta = torch.empty_like(x), torch.empty_like(wide, memory_format=torch.contiguous_format)
    if x.numel() == 0:
        return grad_x, torch.zeros_like(theta)
    grid = _grid(rows, strips)
    information = grad_information is not None and statistics.shape[1] > 0
    partial = x.new_empty(grid[1] * grid[0] * COLUMNS.value + grid[0], dtype=torch.float64)
    tickets = torch.zeros(grid[0] + 1, dtype=torch.int32, device=x.device)
    backward_kernel[grid](
        x if grad is None else grad.contiguous(), grad_information if information else partial, x, wide.contiguous(),
        state.contiguous(), statistics.contiguous(), grad_x, grad_theta, partial[grid[0] :], partial, tickets,
        rows, width, PER_FEATURE=theta.dim() == 1, GRAD=grad is not None, INFORMATION=information,
        ROWS=TILE, WORK=_triton_dtype(x),
    )  # fmt: skip
    return grad_x, grad_theta.to(theta.dtype)


KERNELS = (sum_kernel, finish_sums_kernel, mask_kernel, backward_kernel)
IMPLEMENTATIONS = {"abs_sums": abs_sums, "threshold_ema": forward, "threshold_ema_backward": backward}
