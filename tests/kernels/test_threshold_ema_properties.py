"""Properties of threshold_ema and of packed masks over shapes, strides, dtypes and sparsity."""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmt_kernels import ema_state, pack_mask, threshold_ema, unpack_mask
from dmt_kernels.ops.mask_bits import reference as bits_reference
from dmt_kernels.ops.threshold_ema import reference

OPS = torch.ops.dmt_kernels
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64])
LEADING = st.lists(st.integers(0, 6), max_size=3)
WIDTH = st.one_of(st.integers(0, 140), st.sampled_from([64, 128, 192]))


@st.composite
def strided(draw):
    """x of any layout: contiguous, with gaps between rows or elements, transposed, expanded."""
    shape = [*draw(LEADING), draw(WIDTH)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    dtype = draw(DTYPES)

    def fill(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    layout = draw(st.sampled_from(["contiguous", "row gap", "element gap", "transposed", "expanded"]))
    if layout == "row gap":
        return fill(*shape[:-1], shape[-1] + 5)[..., : shape[-1]]
    if layout == "element gap":
        return fill(*shape[:-1], 2 * shape[-1])[..., ::2]
    if layout == "transposed" and len(shape) > 1:
        return fill(*shape[:-2], shape[-1], shape[-2]).transpose(-1, -2)
    if layout == "expanded" and len(shape) > 1:
        return fill(1, *shape[1:]).expand(shape)
    return fill(*shape)


@settings(max_examples=120, deadline=None)
@given(x=strided(), mu=st.sampled_from([0.0, 0.3, 1.0, 3.0, 1e4]), information=st.booleans(), per_feature=st.booleans())
def test_any_layout_and_any_sparsity(x, mu, information, per_feature):
    state = ema_state()
    state[0], state[1] = mu, 1
    theta = torch.linspace(-1, 2, x.shape[-1]) if per_feature else torch.tensor(0.3)
    arguments = (x, theta, state, None, 0.9, False, information, True)
    got, want = OPS.threshold_ema(*arguments), reference.forward(*arguments)
    for name in ("values", "bits", "live", "state"):
        place = want._fields.index(name)
        assert torch.equal(got[place], want[place]), name
        assert got[place].is_contiguous()
    torch.testing.assert_close(got[3], want.information, rtol=2e-4, atol=1e-5)
    assert torch.equal(unpack_mask(got[1], x.shape[-1]), got[0] != 0) or mu == 0

    grads = [
        f(torch.ones_like(x), None, x, theta, got[4], want.statistics)
        for f in (OPS.threshold_ema_backward, reference.backward)
    ]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=2), width=st.integers(0, 200), share=st.sampled_from([0, 0.1, 0.5, 1])
)
def test_packing_is_lossless(shape, width, share):
    mask = torch.rand(*shape, width) < share
    bits = pack_mask(mask)
    assert bits.shape == (*shape, (width + 63) // 64)
    assert torch.equal(bits, bits_reference.pack_mask(mask))
    assert torch.equal(unpack_mask(bits, width), mask)
    assert torch.equal(bits_reference.unpack_mask(bits, width), mask)


def test_threads_do_not_disturb_one_another():
    def work(seed):
        x = torch.randn(200, 300, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        state, results = ema_state(), []
        for _ in range(5):
            masked = threshold_ema(x, torch.tensor(0.2), state, information=True)
            (gradient,) = torch.autograd.grad(masked.values.sum() + masked.information, x)
            results += [masked.values.detach(), masked.bits, gradient, state.clone()]
        return results

    alone = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(4)))
    for a, b in zip(alone, together, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def _rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    x = torch.load(f"{folder}/x.pt", weights_only=True)[rank]
    state = ema_state()
    for step in range(3):
        masked = threshold_ema(x * (step + 1), torch.tensor(0.0), state, group=torch.distributed.group.WORLD)
    torch.save({"state": state, "bits": masked.bits}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_share_one_average():
    x = torch.randn(2, 30, 70, generator=torch.Generator().manual_seed(0))
    x[1] *= 3
    whole, bits = ema_state(), None
    for step in range(3):
        bits = threshold_ema(x * (step + 1), torch.tensor(0.0), whole).bits
    with tempfile.TemporaryDirectory() as folder:
        torch.save(x, Path(folder) / "x.pt")
        # Fresh interpreters that run this file: the folder of the tests is no package that they could import.
        processes = [subprocess.Popen([sys.executable, __file__, str(rank), folder]) for rank in range(2)]
        try:
            assert [process.wait(timeout=240) for process in processes] == [0, 0]
        finally:
            for process in processes:
                process.kill()
        ranks = [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(ranks[0]["state"], ranks[1]["state"])
    torch.testing.assert_close(ranks[0]["state"], whole, rtol=1e-7, atol=0)
    assert torch.equal(torch.stack([r["bits"] for r in ranks]), bits)


if __name__ == "__main__":
    _rank(int(sys.argv[1]), sys.argv[2])
