"""`threshold_ema` and `masked_linear` with masks by column, row and tile."""

import math

import pytest
import torch
from interpreter import interpret

from dmt_kernels import advance, ema_state, masked_linear, pack_mask, sparse_linear, threshold_ema, unpack_mask
from dmt_kernels.ops.threshold_ema import reference as element
from dmt_kernels.ops.threshold_groups import reference
from dmt_kernels.structure import COLUMN, STRUCTURES, Cell, cell

OPS = torch.ops.dmt_kernels
STRUCTURED = STRUCTURES[1:]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [(1, 1), (3, 70, 130), (64, 64), (200, 65), (7,), (0, 5), (4, 0), (0, 0)]


def uneven(shape, dtype=torch.float32, seed=0):
    """Random values whose columns, rows and tiles differ in size, so that some groups live and some die."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    flat = reference.matrix(x)
    rows, width = flat.shape
    for structure in (1, 2, 3):
        size = cell(structure, rows, width)
        scale = torch.rand(size.grid(rows, width), generator=g, dtype=torch.float64) * 2
        flat = flat * reference.spread(scale, size, rows, width)
    return flat.reshape(shape).to(dtype)


def plain_mask(x, threshold, structure):
    """By loops: the group of each element, its mean size against its mean threshold."""
    flat = reference.matrix(x).double()
    rows, width = flat.shape
    size, mask = cell(structure, rows, width), torch.zeros(rows, width, dtype=torch.bool)
    t = threshold.expand(width)
    for top in range(0, rows, size.height):
        for left in range(0, width, size.width):
            place = slice(top, top + size.height), slice(left, left + size.width)
            mask[place] = flat[place].abs().mean() > t[place[1]].mean()
    return mask.reshape(x.shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("structure", [1, 2, 3])
def test_compiled_sums_are_the_reference(structure, shape, dtype):
    x = uneven(shape, dtype)
    if x.numel() > 50:
        x.view(-1)[3], x.view(-1)[17], x.view(-1)[-1] = float("nan"), float("inf"), -float("inf")
    got, expected = OPS.group_sums(x, structure), reference.group_sums(x, structure)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0, equal_nan=True)
    if x.dim() > 1:
        torch.testing.assert_close(OPS.group_sums(x.mT.contiguous().mT, structure), got, equal_nan=True)


@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("structure", STRUCTURED)
def test_mask_is_the_mean_size_against_the_mean_threshold(structure, shape, per_feature):
    x = uneven(shape)
    theta = torch.linspace(-1, 1, shape[-1]) if per_feature else torch.tensor(0.2)
    state = ema_state()
    masked = threshold_ema(x, theta, state, structure=structure)
    if x.numel():
        torch.testing.assert_close(state[0], x.abs().mean())
    mask = plain_mask(x, torch.sigmoid(theta.double()) * state[0].double(), STRUCTURES.index(structure))
    assert torch.equal(unpack_mask(masked.bits, shape[-1]), mask)
    assert torch.equal(masked.bits, pack_mask(mask))
    assert torch.equal(masked.values, torch.where(mask, x, 0))
    torch.testing.assert_close(masked.live, mask.float().sum() / max(mask.numel(), 1))


def test_groups_of_one_element_are_the_threshold_by_element(monkeypatch):
    x, theta, state = uneven((20, 70)), torch.linspace(-1, 1, 70), torch.tensor([0.7, 3.0, 0, 0])
    monkeypatch.setattr(reference, "cell", lambda structure, rows, width: Cell(1, 1))
    monkeypatch.setattr(reference, "spread_bits", lambda alive, *_: pack_mask(alive))
    sums = reference.group_sums(x, COLUMN)
    got = reference.forward(x, theta, state, sums, None, 0.9, True, True, True, COLUMN)
    want = element.forward(x, theta, state, None, 0.9, True, True, True)
    for name in want._fields:
        torch.testing.assert_close(getattr(got, name), getattr(want, name), msg=name)
    grad, outer = torch.randn(20, 70), torch.tensor(0.7)
    ours = reference.backward(grad, outer, x, theta, got.state, got.statistics, got.means, COLUMN)
    theirs = element.backward(grad, outer, x, theta, want.state, want.statistics)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("structure", STRUCTURED)
def test_gradients(structure):
    """x by the hard mask; theta by the derivative of the smoothed one, written out with autograd."""
    x, kind = uneven((90, 130), torch.float64).requires_grad_(), STRUCTURES.index(structure)
    theta = torch.linspace(-0.5, 0.5, 130, dtype=torch.float64).requires_grad_()
    state, grad = ema_state(), torch.randn(90, 130, dtype=torch.float64)
    masked = threshold_ema(x, theta, state, structure=structure)
    got = torch.autograd.grad(masked.values, (x, theta), grad)
    assert torch.equal(got[0], torch.where(unpack_mask(masked.bits, 130), grad, 0))

    size = cell(kind, 90, 130)
    t = (torch.sigmoid(theta) * state[0].double())[None]
    count = reference.gather(torch.ones(90, 130, dtype=torch.float64), size)
    bound = reference.gather(t.expand(90, 130), size) / count
    mean = reference.gather(x.detach().abs(), size) / count
    v = ((mean - bound) / bound.detach()).clamp(-1, 1)  # h is held fixed
    smooth = 15 / 16 * (v - 2 / 3 * v**3 + v**5 / 5)
    surrogate = (reference.spread(smooth, size, 90, 130) * x.detach() * grad).sum()
    torch.testing.assert_close(got[1], torch.autograd.grad(surrogate, theta)[0])


@pytest.mark.parametrize("structure", STRUCTURED)
def test_information_and_its_gradient(structure):
    """Eq. 10 from the masked values, differentiated by autograd with the mask held fixed."""
    x = uneven((90, 130), torch.float64).requires_grad_()
    masked = threshold_ema(x, torch.tensor(0.0), ema_state(), structure=structure, information=True)
    (got,) = torch.autograd.grad(masked.information, x)
    mask = unpack_mask(masked.bits, 130)
    parts = [m for t in (x, torch.where(mask, x, 0)) for m in (t.mean(0), t.var(0, correction=0))]
    expected = element.gaussian_divergence(torch.stack(parts))
    torch.testing.assert_close(masked.information, expected)
    torch.testing.assert_close(got, torch.autograd.grad(expected, x)[0])


def test_not_a_number_is_dead_and_infinity_lives():
    x = torch.ones(10, 130)
    x[2, 3], x[4, 5], x[6, 5], x[6, 6] = float("nan"), float("inf"), -float("inf"), float("nan")
    for structure, dead in (("column", [3, 6]), ("row", [2, 6])):
        state = ema_state()
        masked = threshold_ema(x, torch.tensor(0.0), state, structure=structure)
        live = unpack_mask(masked.bits, 130)
        assert (~live).any(0 if structure == "column" else 1).nonzero().flatten().tolist() == dead
        assert not masked.values.isnan().any() and state[0] == 1


@pytest.mark.parametrize("structure", STRUCTURED)
def test_repeated_steps_and_frozen_state(structure):
    x, state = uneven((40, 70)), ema_state()
    advance(state)
    first = threshold_ema(x, torch.tensor(0.0), state, structure=structure)
    after = state.clone()
    again = threshold_ema(x, torch.tensor(0.0), state, structure=structure)
    assert torch.equal(first.bits, again.bits) and torch.equal(state, after)
    threshold_ema(3 * x, torch.tensor(0.0), state, structure=structure, update=False)
    assert torch.equal(state, after)


@pytest.mark.parametrize("impl", ["auto", "dense", "sparse"])
@pytest.mark.parametrize("structure", STRUCTURED)
def test_masked_linear_is_threshold_then_product(structure, impl):
    x, theta = uneven((2, 80, 130), torch.float64).requires_grad_(), torch.tensor(0.1, requires_grad=True)
    weight = torch.randn(40, 130, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(40, dtype=torch.float64, requires_grad=True)
    grad, inputs = torch.randn(2, 80, 40, dtype=torch.float64), (x, theta, weight, bias)
    y, masked = masked_linear(x, theta, ema_state(), weight, bias, structure=structure, information=True, impl=impl)
    apart = threshold_ema(x, theta, ema_state(), structure=structure, information=True)
    z = sparse_linear(apart.values, apart.bits, weight, bias, structure=structure, impl=impl)
    assert 0 < masked.live < 1 and masked.values is None
    torch.testing.assert_close(y, z)
    assert torch.equal(masked.bits, apart.bits)
    ours = torch.autograd.grad((y * grad).sum() + masked.information, inputs)
    theirs = torch.autograd.grad((z * grad).sum() + apart.information, inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("structure", STRUCTURED)
def test_compile_without_graph_breaks(structure):
    x, theta = uneven((80, 130)).requires_grad_(), torch.tensor(0.1, requires_grad=True)
    weight = torch.randn(40, 130, requires_grad=True)

    def f(x, theta, state, weight):
        y, masked = masked_linear(x, theta, state, weight, structure=structure, information=True)
        return y.square().mean() + masked.information + threshold_ema(x, theta, state, structure=structure).values.sum()

    states, results = (ema_state(), ema_state()), []
    for run, state in zip((f, torch.compile(f, fullgraph=True, backend="aot_eager")), states, strict=True):
        loss = run(x, theta, state, weight)
        results.append((loss, *torch.autograd.grad(loss, (x, theta, weight)), state))
    torch.testing.assert_close(*results)


def test_opcheck():
    x, theta, state = uneven((70, 70)).requires_grad_(), torch.tensor(0.1, requires_grad=True), ema_state()
    sums = OPS.group_sums(x.detach(), 3)
    torch.library.opcheck(OPS.group_sums.default, (x.detach(), 3))
    inputs = (x, theta, state, sums, None, 0.9, True, True, True, 3)
    torch.library.opcheck(OPS.threshold_groups.default, inputs)


def test_values_are_those_of_a_low_precision_input():
    x = uneven((70, 130), torch.bfloat16)
    masked = threshold_ema(x, torch.tensor(0.0), ema_state(), structure="tile")
    assert masked.values.dtype == torch.bfloat16 and math.isfinite(masked.live)


def test_one_clear_error():
    with pytest.raises(ValueError, match="structure must be one of element, column, row, tile"):
        threshold_ema(torch.randn(3, 4), torch.tensor(0.0), ema_state(), structure="head")
    with pytest.raises(TypeError, match="float32, bfloat16"):
        threshold_ema(torch.ones(3, 4, dtype=torch.int32), torch.tensor(0.0), ema_state(), structure="row")


INTERPRETED = """
import torch
from dmt_kernels.testing import repair_interpreter, unwritten
repair_interpreter()
from dmt_kernels.ops.threshold_groups import reference, triton_kernels as kernels

new_empty = torch.Tensor.new_empty
torch.Tensor.new_empty = lambda self, *sizes, **how: unwritten(new_empty(self, *sizes, **how))
for structure in (1, 2, 3):
    float32, others = torch.float32, (torch.bfloat16, torch.float16, torch.float64)
    cases = [(float32, (2, 300, 130)), (float32, (7,)), (float32, (0, 5)), (float32, (4, 0))]
    for dtype, shape in cases + [(dtype, (70, 65)) for dtype in others]:
        x = torch.randn(shape, dtype=torch.float64).to(dtype)
        if x.numel() > 50:
            x.view(-1)[3], x.view(-1)[17], x.view(-1)[-1] = float("nan"), float("inf"), -float("inf")
        for view in (x, x.mT) if x.dim() > 1 else (x,):
            got, expected = kernels.group_sums(view, structure), reference.group_sums(view, structure)
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=0, equal_nan=True)
print("sums are right")
"""


def test_sums_in_the_interpreter():
    pytest.importorskip("triton")
    done = interpret(INTERPRETED)
    assert done.stdout.strip() == "sums are right", done.stderr[-3000:]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("structure", STRUCTURED)
def test_on_a_gpu_as_on_the_cpu(structure):
    for shape in SHAPES:
        x, theta = uneven(shape), torch.linspace(-1, 1, shape[-1])
        here, there = ema_state(), ema_state("cuda")
        ours = threshold_ema(x.cuda(), theta.cuda(), there, structure=structure, information=True)
        theirs = threshold_ema(x, theta, here, structure=structure, information=True)
        torch.testing.assert_close(there.cpu(), here)
        assert torch.equal(ours.bits.cpu(), theirs.bits) and torch.equal(ours.values.cpu(), theirs.values)
        torch.testing.assert_close(ours.information.cpu(), theirs.information, rtol=2e-4, atol=1e-5)
