"""threshold_ema against its reference: values, bits, the moving average, gradients, tracing."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import dmt_kernels
from dmt_kernels import advance, backends, ema_state, threshold_ema, unpack_mask
from dmt_kernels.ops.threshold_ema import reference

SHAPES = [(64, 256), (3, 5, 70), (33, 63), (1, 1), (7,), (0, 64), (4, 0), (300, 3, 129)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
OPS = torch.ops.dmt_kernels


def start(mu: float = 0.7) -> torch.Tensor:
    state = ema_state()
    state[0], state[1] = mu, 3
    return state


def make(shape, dtype=torch.float32, seed=0, per_feature=False):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    theta = torch.randn(shape[-1:] if per_feature else (), generator=generator)
    return x, theta


@pytest.fixture
def unwritten_is_nan():
    """New tensors are filled with NaN or the largest integer, so that what a kernel forgets to write shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("information", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_is_the_reference(isa, unwritten_is_nan, shape, dtype, information, per_feature):
    x, theta = make(shape, dtype, per_feature=per_feature)
    arguments = (x, theta, start(), None, 0.9, True, information, True)
    got, want = OPS.threshold_ema(*arguments), reference.forward(*arguments)
    for name, ours, theirs in zip(want._fields, got, want, strict=True):
        exact = name in ("values", "bits", "state", "live")
        torch.testing.assert_close(ours, theirs, rtol=0 if exact else 2e-5, atol=0 if exact else 1e-6, msg=name)


@pytest.mark.parametrize("information", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_backward_is_the_reference(isa, unwritten_is_nan, shape, dtype, information):
    for per_feature in (False, True):
        x, theta = make(shape, dtype, per_feature=per_feature)
        grad, _ = make(shape, dtype, seed=1)
        forward = reference.forward(x, theta, start(), None, 0.9, True, information, True)
        upstream = torch.tensor(0.7, dtype=forward.information.dtype) if information else None
        arguments = (grad, upstream, x, theta, forward.state, forward.statistics)
        loose = 1e-2 if dtype == torch.bfloat16 else 2e-3 if dtype == torch.float16 else 1e-4
        for ours, theirs in zip(OPS.threshold_ema_backward(*arguments), reference.backward(*arguments), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=loose, atol=1e-4)


def surrogate(x, theta, mu):
    """The masked values as the gradient sees them: hard in x, the integral of the biweight window in theta."""
    t = torch.sigmoid(theta) * mu
    size = x.detach().abs()
    v = ((size - t) / t.detach()).clamp(-1, 1)
    soft = 0.5 + 15 / 16 * (v - 2 * v**3 / 3 + v**5 / 5)
    return torch.where(size > t, x, 0) + x.detach() * (soft - soft.detach())


@pytest.mark.parametrize("per_feature", [False, True])
def test_gradients_are_those_of_the_stated_function(per_feature):
    x, theta = make((40, 70), torch.float64, per_feature=per_feature)
    theta = theta.double()
    weight = torch.randn(40, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours = [t.clone().requires_grad_() for t in (x, theta)]
    masked = threshold_ema(*ours, start(), update=False, information=True)
    (masked.values * weight).sum().add(3 * masked.information).backward()

    theirs = [t.clone().requires_grad_() for t in (x, theta)]
    mu = float(start()[0])
    y = surrogate(*theirs, mu)
    moments = [m for t in (theirs[0], y) for m in (t.mean(0), t.var(0, unbiased=False))]
    ((y * weight).sum() + 3 * reference.gaussian_divergence(torch.stack(moments))).backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("information", [False, True])
def test_gradients_of_live_elements(information):
    """What the gradient holds where x is dead does not matter; masked x comes along where it is wanted."""
    x, theta = make((33, 70), torch.float64)
    done = reference.forward(x, theta, start(), None, 0.9, True, information, True)
    mask = unpack_mask(done.bits, 70)
    grad = make(x.shape, torch.float64, seed=1)[0]
    upstream = torch.tensor(0.7, dtype=torch.float64) if information else None
    rest = (upstream, x, theta, done.state, done.statistics)
    expected = reference.backward(grad * mask, *rest)
    got = OPS.threshold_ema_backward_live(grad.masked_fill(~mask, float("nan")), *rest, True)
    torch.testing.assert_close(got, (*expected, done.values))
    assert OPS.threshold_ema_backward_live(grad, *rest, False)[2].numel() == 0
    torch.library.opcheck(OPS.threshold_ema_backward_live, (grad, *rest, True))


def test_gradcheck_in_x():
    x, theta = make((6, 9), torch.float64)
    x.requires_grad_()

    def values_and_information(x):
        masked = threshold_ema(x, theta, start(), update=False, information=True)
        return masked.values, masked.information

    assert torch.autograd.gradcheck(values_and_information, (x,))


def test_only_live_elements_receive_gradient_of_the_values():
    x, theta = make((32, 100))
    x.requires_grad_()
    masked = threshold_ema(x, theta, start())
    masked.values.sum().backward()
    assert torch.equal(x.grad.bool(), unpack_mask(masked.bits, 100))
    assert 0 < masked.live < 1


def test_moving_average_follows_equation_6():
    state, theta = ema_state(), torch.tensor(0.0)
    expected = None
    for seed in range(4):
        x, _ = make((16, 32), seed=seed)
        threshold_ema(x, theta, state, alpha=0.8)
        mean = x.double().abs().mean()
        expected = mean if expected is None else 0.8 * expected + 0.2 * mean
        assert state[0].item() == pytest.approx(expected.item(), rel=1e-6)
    assert state[1] == 4


def test_frozen_state_is_left_alone():
    x, theta = make((16, 32))
    state = start(0.5)
    before = state.clone()
    masked = threshold_ema(x, theta, state, update=False)
    assert torch.equal(state, before)
    assert torch.equal(unpack_mask(masked.bits, 32), x.abs() > torch.sigmoid(theta) * 0.5)


def test_repeat_within_a_counted_step_changes_nothing():
    x, theta = make((16, 32))
    state = start()
    advance(state)
    first = threshold_ema(x, theta, state)
    after = state.clone()
    second = threshold_ema(x, theta, state)
    assert torch.equal(state, after) and torch.equal(first.bits, second.bits)
    advance(state)
    threshold_ema(x, theta, state)
    assert state[0] != after[0] and state[1] == 5


def test_advance_counts_on_past_the_largest_float_integer():
    states = torch.stack([ema_state(), ema_state()])
    states[:, 2] = 2**24 - 1
    advance(states)
    assert states[:, 2].tolist() == [1, 1]


def test_activation_checkpointing_gives_the_same_average_and_gradient():
    x, theta = make((24, 48))
    results = []
    for use in (False, True):
        state, leaf, free = start(), x.clone().requires_grad_(), theta.clone().requires_grad_()
        for _ in range(3):
            advance(state)

            def layer(a, free=free, state=state):
                return threshold_ema(a * 2, free, state).values * a

            y = checkpoint(layer, leaf, use_reentrant=False) if use else layer(leaf)
            y.square().sum().backward()
        results.append((state, leaf.grad, free.grad))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_not_a_number_and_infinity(isa, dtype):
    x, theta = make((8, 200), dtype)
    x[0, 0], x[1, 1], x[2, 2] = float("nan"), float("inf"), float("-inf")
    state = start()
    masked = threshold_ema(x, theta, state)
    finite = x[torch.isfinite(x)].double().abs().mean()
    assert state[0].item() == pytest.approx(0.9 * 0.7 + 0.1 * finite.item(), rel=1e-6)
    assert masked.values[0, 0] == 0 and masked.values[1, 1] == float("inf") and masked.values[2, 2] == -float("inf")
    assert not masked.values.isnan().any()
    assert threshold_ema(x, theta, start(), information=True).information.isnan()


def test_nothing_finite_leaves_the_average():
    state = start(0.25)
    threshold_ema(torch.full((4, 4), float("nan")), torch.tensor(0.0), state)
    assert state[0] == 0.25 and state[1] == 3


def test_all_dead_and_all_live_stay_finite():
    x = torch.rand(50, 66, generator=torch.Generator().manual_seed(0)) + 0.5
    for mu, live in ((100.0, 0.0), (1e-6, 1.0)):
        leaf, theta = x.clone().requires_grad_(), torch.tensor(0.0, requires_grad=True)
        masked = threshold_ema(leaf, theta, start(mu), update=False, information=True)
        assert masked.live == live and masked.information.isfinite()
        masked.information.backward()
        assert leaf.grad.isfinite().all() and theta.grad.isfinite()
    assert masked.information == 0  # nothing was masked, the two Gaussians are one


def test_variance_does_not_cancel_far_from_zero():
    x = 100 + 0.1 * torch.randn(257, 65, generator=torch.Generator().manual_seed(0))
    x[:, ::2] -= 200 * (torch.rand(257, 33, generator=torch.Generator().manual_seed(1)) < 0.5)
    theta, state = torch.tensor(9.0), start(100.0)
    got = threshold_ema(x, theta, state, update=False, information=True).information
    want = threshold_ema(x.double(), theta, state, update=False, information=True).information
    assert got.item() == pytest.approx(want.item(), rel=1e-3)


def test_half_precision_theta_keeps_its_dtype_in_the_gradient():
    x, _ = make((8, 64), torch.bfloat16)
    theta = torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True)
    threshold_ema(x.requires_grad_(), theta, start()).values.sum().backward()
    assert theta.grad.dtype == torch.bfloat16 and x.grad.dtype == torch.bfloat16


def test_result_does_not_depend_on_the_number_of_threads():
    x, theta = make((700, 300))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            state, leaf = start(), x.clone().requires_grad_()
            masked = threshold_ema(leaf, theta, state, information=True)
            (masked.values.sum() + masked.information).backward()
            results.append((masked.values, masked.information, state, leaf.grad))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(2, 3, dtype=torch.int64), torch.tensor(0.0), ema_state()), TypeError, "expects x in float32"),
        ((torch.zeros(2, 3), torch.tensor(0), ema_state()), TypeError, "floating-point theta"),
        ((torch.tensor(1.0), torch.tensor(0.0), ema_state()), ValueError, "without dimensions"),
        ((torch.zeros(2, 3), torch.zeros(4), ema_state()), ValueError, r"\[3\] as x has"),
        ((torch.zeros(2, 3), torch.tensor(0.0), torch.zeros(2)), ValueError, "from ema_state"),
        ((torch.zeros(2, 3), torch.tensor(0.0), torch.zeros(4, dtype=torch.float64)), ValueError, "from ema_state"),
        ((torch.zeros(2, 3), torch.tensor(0.0), ema_state("meta")), ValueError, "share a device"),
    ],
)
def test_misfits_are_said_clearly(arguments, error, message):
    with pytest.raises(error, match=message):
        threshold_ema(*arguments)
    if all(t.device.type == "cpu" for t in arguments):
        with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
            OPS.threshold_ema(*arguments, None, 0.9, True, False, True)


def test_alpha_outside_its_range():
    with pytest.raises(ValueError, match="alpha must lie in"):
        threshold_ema(torch.zeros(2, 3), torch.tensor(0.0), ema_state(), alpha=1.5)


@pytest.mark.parametrize("information", [False, True])
def test_opcheck(information):
    x, theta = make((5, 70))
    inputs = (x.requires_grad_(), theta.requires_grad_(), start(), None, 0.9, True, information, True)
    torch.library.opcheck(OPS.threshold_ema, inputs)
    forward = reference.forward(*(t.detach() if torch.is_tensor(t) else t for t in inputs))
    upstream = torch.tensor(1.0) if information else None
    torch.library.opcheck(
        OPS.threshold_ema_backward,
        (torch.ones(5, 70), upstream, x.detach(), theta.detach(), forward.state, forward.statistics),
    )
    torch.library.opcheck(OPS.abs_sums, (x.detach(),))


def test_compiles_in_one_graph():
    x, theta = make((12, 70))

    def step(x, theta, state):
        advance(state)
        masked = threshold_ema(x, theta, state, information=True)
        return masked.values, masked.bits, masked.live, masked.information

    outcomes = []
    for call in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        leaf, free, state = x.clone().requires_grad_(), theta.clone().requires_grad_(), start()
        results = call(leaf, free, state)
        (results[0].sum() + results[3]).backward()
        outcomes.append((*results, state, leaf.grad, free.grad))
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_autocast_leaves_dtypes_alone():
    x, theta = make((8, 64), torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        masked = threshold_ema(x, theta, start(), information=True)
    assert masked.values.dtype == torch.bfloat16 and masked.information.dtype == torch.float32


def test_the_compiled_operator_ran():
    if backends().on_cpu != "compiled":
        pytest.skip("no compiled CPU kernels")
    from dmt_kernels.backends import calls

    before = calls("threshold_ema"), calls("threshold_ema_backward")
    x, theta = make((8, 64))
    threshold_ema(x.requires_grad_(), theta, start()).values.sum().backward()
    assert (calls("threshold_ema"), calls("threshold_ema_backward")) == (before[0] + 1, before[1] + 1)
    assert dmt_kernels.threshold_ema is threshold_ema
