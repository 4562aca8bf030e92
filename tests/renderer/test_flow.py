"""The learned renderer: keys, golden vectors and shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import golden_input, golden_keys, golden_parameters, golden_vectors, needs_golden

from dmt.errors import InputError
from dmt.renderer.flow import FlowRenderer, Rendered, motion_windows
from dmt.renderer.flow_fast import FastFlowRenderer
from dmt.renderer.flow_fast_blocks import QuickDescriptor
from dmt.renderer.flow_frames import fast_form
from dmt.renderer.flow_tiles import TileFlowRenderer
from dmt_kernels import tiles

FORMS = {"library": FastFlowRenderer, "tiles": TileFlowRenderer}
"""Of which the second runs anywhere, but slowly where there are no tiles."""
each_form = pytest.mark.parametrize("form", FORMS)


def golden_renderer() -> FlowRenderer:
    renderer = FlowRenderer().eval()
    renderer.load_state_dict(golden_parameters(renderer), strict=True)
    return renderer


@needs_golden
@pytest.mark.parametrize("form", ["plain", *FORMS])
def test_golden_vectors(form: str) -> None:
    golden = golden_vectors()
    image = torch.tanh(golden_input("image", (2, 3, 128, 128)))
    semantic = golden_input("semantic", (2, 73, 27))
    renderer = golden_renderer()
    with torch.no_grad():
        if form == "plain":
            out = renderer(image, semantic)
        else:
            fast = FORMS[form](renderer)
            parts = [fast(picture, motion) for picture, motion in zip(image.split(1), semantic.split(1), strict=True)]
            out = Rendered(*(torch.cat([getattr(p, f) for p in parts]) for f in ("image", "warped", "flow")))
    # The golden warped picture is itself 3.4e-5 from what float64 gives, as rounding of the flow moves steep pixels;
    # the rest depends on the processor, and on the order of sums, which the fast forms change.
    for ours, name, tolerance in [
        (out.flow, "render_flow_field", 1e-5),
        (out.warped, "render_warp_image", 5e-5 if form == "plain" else 7e-5),
        (out.image, "render_fake_image", 5e-5),
    ]:
        assert np.abs(ours.numpy() - golden[name]).max() < tolerance, name


@needs_golden
def test_keys_are_the_checkpoints() -> None:
    ours = {name: tuple(value.shape) for name, value in FlowRenderer().state_dict().items()}
    assert ours == golden_keys("renderer_keys.txt")


def test_dead_branch_changes_nothing() -> None:
    block = golden_renderer().editing_net.decoder.res0.res0
    x, z = torch.randn(1, 128, 8, 8), torch.randn(1, 256)
    assert torch.equal(block(x, z), block.forward_with_dead_branch(x, z))


def test_wrong_shapes_are_explained() -> None:
    renderer = FlowRenderer()
    with pytest.raises(InputError, match="multiples of 32"):
        renderer(torch.zeros(1, 3, 100, 128), torch.zeros(1, 73, 27))
    with pytest.raises(InputError, match=r"\[1, 73, 27\]"):
        renderer(torch.zeros(1, 3, 64, 64), torch.zeros(1, 73, 26))


def test_motion_windows_repeat_the_ends() -> None:
    motion = torch.arange(5.0)[:, None].expand(5, 73)
    windows = motion_windows(motion)
    assert windows.shape == (5, 73, 27)
    assert windows[0, 0, :14].eq(0).all() and windows[4, 0, 13:].eq(4).all()
    assert windows[2, 0, 11:16].tolist() == [0, 1, 2, 3, 4]


@each_form
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 96, 64), (2, 128, 128)])
def test_fast_form_equals_the_plain_one(batch: int, height: int, width: int, form: str) -> None:
    renderer = golden_renderer()
    # Smooth as pictures are: in white noise every rounding of the flow is a step of a pixel.
    coarse = torch.randn(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(1))
    portrait = torch.tanh(torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear"))
    motion = torch.randn(batch, 73, 27, generator=torch.Generator().manual_seed(2))
    fast = FORMS[form](renderer)
    prepared = fast.prepare(portrait)
    with torch.no_grad():
        plain = renderer(portrait.expand(batch, -1, -1, -1), motion)
    ours = fast(prepared, motion)
    assert (ours.flow - plain.flow).abs().max() < 2e-5
    assert (ours.warped - plain.warped).abs().max() < 2e-5
    assert (ours.image - plain.image).abs().max() < 2e-5


def test_fast_form_in_bfloat16_is_close() -> None:
    renderer = golden_renderer()
    portrait = torch.tanh(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    motion = torch.randn(2, 73, 27, generator=torch.Generator().manual_seed(2))
    exact = FastFlowRenderer(renderer)(portrait, motion)
    ours = FastFlowRenderer(renderer, torch.bfloat16, flow_dtype=torch.float32)(portrait, motion)
    assert ours.image.dtype == torch.float32 and torch.equal(ours.flow, exact.flow)
    error = ((ours.image - exact.image) / 2).square().mean()  # of a range of 1
    assert 0 < error < 1e-4  # above 40 dB


def test_fewer_bits_on_tiles_are_close() -> None:
    renderer = golden_renderer()
    coarse = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    portrait = torch.tanh(torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear"))
    motion = torch.randn(2, 73, 27, generator=torch.Generator().manual_seed(2))
    exact = FastFlowRenderer(renderer)(portrait, motion)
    ours = TileFlowRenderer(renderer, "medium", "high")(portrait, motion)
    assert (ours.flow - exact.flow).abs().max() < 2e-4
    error = ((ours.image - exact.image) / 2).square().mean()  # of a range of 1
    assert 0 < error < 1e-4  # above 40 dB
    library = FastFlowRenderer(renderer, torch.bfloat16, flow_dtype=torch.float32)(portrait, motion)
    assert error < ((library.image - exact.image) / 2).square().mean()


def test_the_fastest_form_is_chosen() -> None:
    for precision in ("exact", "fast"):
        form = fast_form(FlowRenderer(), precision)
        assert isinstance(form, TileFlowRenderer if tiles() else FastFlowRenderer)


def test_the_descriptor_in_products() -> None:
    mapping = golden_renderer().mapping_net
    motion = torch.randn(3, 73, 27)
    with torch.no_grad():
        torch.testing.assert_close(QuickDescriptor(mapping)(motion), mapping(motion), rtol=0, atol=1e-5)


def test_frames_do_not_depend_on_the_number_of_threads() -> None:
    """To the bit on tiles, where frames may each have a thread, or all of them."""
    if not tiles():
        pytest.skip("a processor without matrix tiles")
    renderer, threads, made = golden_renderer(), torch.get_num_threads(), []
    coarse = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    portrait = torch.nn.functional.interpolate(coarse, (128, 96), mode="bilinear")
    motion = torch.randn(1, 73, 27, generator=torch.Generator().manual_seed(2))
    for form in (TileFlowRenderer(renderer), TileFlowRenderer(renderer, "medium", "high")):
        prepared = form.prepare(portrait)
        try:
            for count in (1, 2, 3, 5, 8):
                torch.set_num_threads(count)
                made.append(form(prepared, motion))
        finally:
            torch.set_num_threads(threads)
        first = made.pop(0)
        while made:
            other = made.pop()
            assert torch.equal(first.flow, other.flow) and torch.equal(first.image, other.image)


@each_form
def test_frames_do_not_depend_on_their_batch(form: str) -> None:
    fast = FORMS[form](golden_renderer())
    prepared = fast.prepare(torch.zeros(1, 3, 32, 64))
    motion = torch.randn(3, 73, 27, generator=torch.Generator().manual_seed(2))
    assert torch.equal(fast(prepared, motion).image[1:2], fast(prepared, motion[1:2]).image)


@each_form
def test_a_batch_at_once_is_the_same_frames(form: str) -> None:
    """`render` takes all frames together, as a GPU does."""
    fast = FORMS[form](golden_renderer())
    prepared = fast.prepare(torch.zeros(1, 3, 64, 64))
    motion = torch.randn(2, 73, 27, generator=torch.Generator().manual_seed(2))
    together = fast.render(prepared, fast.describe(motion))
    assert (together.image - fast(prepared, motion).image).abs().max() < 5e-5
