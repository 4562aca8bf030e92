"""packed_conv2d and modulate: on matrix tiles where there are any, and by their reference, against float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dmt_kernels import measured_conv2d, modulate, pack_conv2d, packed_conv2d, tiles
from dmt_kernels.backends import calls

from .conftest import instruction_set

PRECISIONS = {"highest": 1e-6, "high": 3 * 2**-16, "medium": 1e-2}
"""Errors, of the size of what is summed at the worst place."""


@pytest.fixture(params=["tiles", "reference"])
def way(request):
    """On tiles (skipped where there are none), or without."""
    with instruction_set("amx" if request.param == "tiles" else "baseline"):
        assert tiles() == (request.param == "tiles")
        yield request.param


def operands(batch, channels, outputs, height, width, kernel, transposed=False, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, height, width, generator=g)
    shape = (channels, outputs) if transposed else (outputs, channels)
    return x, torch.randn(*shape, *kernel, generator=g), torch.randn(outputs, generator=g)


def library(x, weight, bias, *, stride=1, padding=0, output_padding=0, transposed=False, upsample=1):
    """The same by PyTorch."""
    if transposed:
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding)
    return F.conv2d(F.interpolate(x, scale_factor=upsample) if upsample > 1 else x, weight, bias, stride, padding)


def close(found, x, weight, bias, precision, **kind):
    wide = [None if t is None else t.double() for t in (x, weight, bias)]
    expected = library(*wide, **kind)
    size = library(*(None if t is None else t.abs() for t in wide), **kind)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert ((found - expected).abs() <= PRECISIONS[precision] * size + 1e-30).all()


KINDS = {
    "3 x 3": ((3, 3), dict(padding=1)),
    "1 x 1": ((1, 1), dict()),
    "7 x 1": ((7, 1), dict(padding=(3, 0))),
    "2 x 5, wide rim": ((2, 5), dict(padding=(3, 6))),
    "stride 2": ((4, 4), dict(stride=2, padding=1)),
    "stride 3": ((5, 5), dict(stride=3, padding=2)),
    "transposed": ((3, 3), dict(stride=2, padding=1, output_padding=1, transposed=True)),
    "transposed, gaps": ((2, 2), dict(stride=3, output_padding=2, transposed=True)),
    "transposed, stride 1": ((3, 3), dict(padding=1, transposed=True)),
    "upsampled": ((3, 3), dict(padding=1, upsample=2)),
    "upsampled 3 times": ((5, 5), dict(padding=2, upsample=3)),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 32, 32, 9, 14), (2, 70, 45, 7, 5), (1, 3, 100, 40, 33)], ids=str)
def test_kinds(way, shape, kind, precision):
    kernel, how = KINDS[kind]
    batch, channels, outputs, height, width = shape
    x, weight, bias = operands(batch, channels, outputs, height, width, kernel, how.get("transposed", False))
    before = calls("tile_conv2d")
    packed = pack_conv2d(weight, bias, precision=precision, **how)
    close(packed_conv2d(x, packed), x, weight, bias, precision, **how)
    last = x.contiguous(memory_format=torch.channels_last)
    close(packed_conv2d(last, pack_conv2d(weight, precision=precision, **how)), x, weight, None, precision, **how)
    assert calls("tile_conv2d") - before == (2 if way == "tiles" else 0)


@given(
    st.integers(1, 3),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_any_shape(batch, channels, outputs, height, width, down, across, padding, stride):
    x, weight, bias = operands(batch, channels, outputs, height, width, (down, across))
    packed = pack_conv2d(weight, bias, stride=stride, padding=padding)
    if height + 2 * padding < down or width + 2 * padding < across:
        with pytest.raises(ValueError, match="too small"):
            packed_conv2d(x, packed)
        return
    close(packed_conv2d(x, packed), x, weight, bias, "highest", stride=stride, padding=padding)


def test_what_comes_before_and_after(way):
    """Scale, shift and leaky ReLU go before the rim of zeros; what is added, after."""
    x, weight, bias = operands(2, 40, 50, 12, 11, (3, 3))
    scale, shift, add = torch.randn(2, 40), torch.randn(2, 40), torch.randn(2, 50, 12, 11)
    packed = pack_conv2d(weight, bias, padding=1)
    found = packed_conv2d(x, packed, scale, shift, 0.1, add=add)
    before = F.leaky_relu(x.double() * scale[..., None, None] + shift[..., None, None], 0.1)
    expected = F.conv2d(before, weight.double(), bias.double(), padding=1) + add
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()
    measured = measured_conv2d(x, packed, scale, shift, 0.1, add=add)
    assert torch.equal(measured.y, found)
    variance, mean = torch.var_mean(expected, (2, 3), correction=0)
    torch.testing.assert_close(measured.mean.double(), mean, rtol=0, atol=2e-5)
    torch.testing.assert_close(measured.variance.double(), variance, rtol=1e-5, atol=0)


def test_a_variance_far_from_zero(way):
    """Sums of squares are float64: a mean a thousand times the spread leaves the variance."""
    x, weight, _ = operands(1, 8, 33, 40, 50, (1, 1))
    measured = measured_conv2d(x, pack_conv2d(weight, torch.full((33,), 3e3)))
    variance = measured.y.double().var((2, 3), correction=0)
    torch.testing.assert_close(measured.variance.double(), variance, rtol=1e-4, atol=0)


def test_operands_that_lie_anywhere(way):
    """Crops, pictures whose pixels overlap, expanded batches; what lies beside them is NaN."""
    x, weight, bias = operands(2, 35, 20, 9, 10, (3, 3))
    packed = pack_conv2d(weight, bias, padding=1)
    expected = packed_conv2d(x, packed)
    canvas = torch.full((2, 13, 15, 40), float("nan"))
    crop = canvas[:, 2:11, 3:13, 4:39].permute(0, 3, 1, 2).copy_(x)
    assert torch.equal(packed_conv2d(crop, packed), expected)
    assert torch.equal(packed_conv2d(x.transpose(2, 3).contiguous().transpose(2, 3), packed), expected)
    one = x[:1].contiguous(memory_format=torch.channels_last)
    assert torch.equal(packed_conv2d(one.expand(3, -1, -1, -1), packed)[2], packed_conv2d(one, packed)[0])
    pixels = x[:1, :5].permute(0, 2, 3, 1).contiguous()
    wide = pixels.as_strided((1, 15, 9, 8), (0, 1, 50, 5))
    column = torch.randn(20, 15, 3, 1)
    close(packed_conv2d(wide, pack_conv2d(column)), wide, column, None, "highest")


def test_results_are_written_everywhere(way):
    """Memory that was NaN before, small results and some that go past the caches."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills what is not initialised
    try:
        for size in ((5, 6), (130, 131)):
            x, weight, bias = operands(1, 16, 32, *size, (3, 3))
            close(packed_conv2d(x, pack_conv2d(weight, bias, padding=1)), x, weight, bias, "highest", padding=1)
            assert modulate(x, torch.ones(1, 16), torch.zeros(1, 16)).equal(x)
    finally:
        torch.use_deterministic_algorithms(deterministic)


@pytest.mark.parametrize("kind", ["3 x 3", "stride 2", "transposed"])
def test_any_number_of_threads(way, kind):
    kernel, how = KINDS[kind]
    x, weight, bias = operands(1, 64, 96, 60, 70, kernel, how.get("transposed", False))
    packed = pack_conv2d(weight, bias, precision="medium", **how)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            y = measured_conv2d(x, packed)
            results.append((*y, modulate(y.y, y.mean, y.variance, 0.1, add=y.y)))
    finally:
        torch.set_num_threads(threads)
    if way == "tiles":  # the reference's sums are PyTorch's
        assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_highest_is_as_exact_as_the_library(way):
    x, weight, bias = operands(1, 256, 64, 16, 16, (3, 3))
    exact = library(*(t.double() for t in (x, weight, bias)), padding=1)
    errors = [
        (y - exact).square().mean().sqrt()
        for y in (packed_conv2d(x, pack_conv2d(weight, bias, padding=1)), library(x, weight, bias, padding=1))
    ]
    assert errors[0] < 2 * errors[1]


@pytest.mark.parametrize("shape", [(1, 64, 10, 12), (2, 33, 6, 8), (1, 7, 2, 2), (1, 256, 64, 62)], ids=str)
def test_modulate(way, shape):
    g = torch.Generator().manual_seed(0)
    x, other = (torch.randn(shape, generator=g) for _ in range(2))
    affine, second = ([torch.randn(shape[:2], generator=g) for _ in range(2)] for _ in range(2))

    def affine_of(x, scale, shift):
        return F.leaky_relu(x.double() * scale[..., None, None] + shift[..., None, None], 0.1)

    before = calls("modulate")
    plain = affine_of(x, *affine)
    for found, expected in (
        (modulate(x, *affine, 0.1), plain),
        (modulate(x, *affine, 0.1, pool=True), F.avg_pool2d(plain, 2)),
        (modulate(x, *affine, 0.1, add=other), plain + other),
        (modulate(x, *affine, 0.1, add=other, add_affine=tuple(second)), plain + affine_of(other, *second)),
    ):
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)
    assert calls("modulate") - before == (4 if way == "tiles" else 0)


def test_operators_are_whole(way):
    """Schemas, shapes for tracing; a batch of none."""
    x, weight, bias = operands(2, 40, 50, 12, 11, (3, 3))
    packed = pack_conv2d(weight, bias, padding=1)
    vectors = torch.randn(2, 40), torch.randn(2, 40)
    last, taps = x.permute(0, 2, 3, 1).contiguous(), [n for tap in packed.taps for n in tap]
    rest = (packed.outputs, taps, list(packed.ends), 1, 1, [12, 11])
    if way == "tiles":
        checks = ("test_schema", "test_faketensor")
        op = torch.ops.dmt_kernels.tile_conv2d.default
        for measured in (False, True):
            torch.library.opcheck(
                op, (last, packed.weight, packed.bias, *vectors, 0.1, None, *rest, measured), test_utils=checks
            )
        args = (last[:, :, 1:], *vectors, 0.1, None, None, None, True)
        torch.library.opcheck(torch.ops.dmt_kernels.modulate.default, args, test_utils=checks)
    empty = measured_conv2d(x[:0], packed)
    assert empty.y.shape == (0, 50, 12, 11) and empty.mean.shape == (0, 50)
    assert modulate(x[:0], vectors[0][:0], vectors[1][:0]).shape == (0, 40, 12, 11)


def test_what_does_not_fit_is_explained(way):
    x, weight, bias = operands(1, 4, 6, 5, 5, (3, 3))
    packed, ones = pack_conv2d(weight, bias), torch.ones(1, 4)
    for error, message, call in (
        (TypeError, "float32, got torch.float64", lambda: packed_conv2d(x.double(), packed)),
        (ValueError, r"x \[B, 4, H, W\], got \(1, 3, 5, 5\)", lambda: packed_conv2d(x[:, :3], packed)),
        (ValueError, "2 x 5 pixels is too small", lambda: packed_conv2d(x[:, :, :2], packed)),
        (ValueError, "scale and shift, or neither", lambda: packed_conv2d(x, packed, ones)),
        (ValueError, r"scale \[1, 4\]", lambda: packed_conv2d(x, packed, ones[:, :3], ones)),
        (ValueError, r"add \[1, 6, 3, 3\]", lambda: packed_conv2d(x, packed, add=x)),
        (RuntimeError, "no gradient", lambda: packed_conv2d(x.clone().requires_grad_(), packed)),
        (TypeError, "float32, got torch.float16", lambda: pack_conv2d(weight.half())),
        (ValueError, "highest, high, medium, got 'low'", lambda: pack_conv2d(weight, precision="low")),
        (ValueError, "four dimensions", lambda: pack_conv2d(weight[0])),
        (ValueError, r"bias \[6\], got \(5,\)", lambda: pack_conv2d(weight, bias[:5])),
        (ValueError, "upsample is for stride 1", lambda: pack_conv2d(weight, stride=2, upsample=2)),
        (ValueError, "output_padding for transposed", lambda: pack_conv2d(weight, output_padding=1)),
        (TypeError, "float32, got torch.float64", lambda: modulate(x.double(), ones, ones)),
        (ValueError, "even sides", lambda: modulate(x, ones, ones, pool=True)),
        (ValueError, r"shift \[1, 4\]", lambda: modulate(x, ones, ones[:, :2])),
        (ValueError, r"\[1, 4, 5, 5\] of float32 to add", lambda: modulate(x, ones, ones, add=x[:, :2])),
        (ValueError, "something to add", lambda: modulate(x, ones, ones, add_affine=(ones, ones))),
        (RuntimeError, "no gradient", lambda: modulate(x.clone().requires_grad_(), ones, ones)),
    ):
        with pytest.raises(error, match=message):
            call()
