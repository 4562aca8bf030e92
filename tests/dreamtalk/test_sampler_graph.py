"""The captured sampler: nothing of the host in it; equal to the eager one where there is a GPU."""

from __future__ import annotations

import pytest
import torch
from capture import host_work

from dmt.dreamtalk import DreamTalkDenoiser
from dmt.dreamtalk.sampler_graph import GraphedSampler
from dmt.errors import InputError


def arguments(clips: int, frames: int) -> list[torch.Tensor]:
    """audio, style, padding, noise."""
    padding = torch.zeros(clips, 256, dtype=torch.bool)
    padding[:, 90:] = True
    audio, noise = torch.randn(clips, frames, 11, 1024), torch.randn(clips, frames, 64)
    return [audio, torch.randn(clips, 256, 64), padding, noise]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_sampler_needs_nothing_of_the_host(guidance: float) -> None:
    d = DreamTalkDenoiser()
    assert host_work(lambda *args: d.run(*args, steps=1, guidance=guidance), *arguments(1, 3)) == []


def test_what_needs_the_host_is_found() -> None:
    d = DreamTalkDenoiser()
    audio, style, padding, noise = arguments(1, 3)
    with pytest.raises(Exception, match=r"(?i)data-dependent|item|bool"):
        host_work(lambda *args: d.sample(*args[:3], noise=args[3], steps=1), audio, style, padding, noise)
    found = host_work(lambda *args: d.run(*args, steps=1) * torch.tensor([2.0]), audio, style, padding, noise)
    assert len(found) == 1 and "lift_fresh" in found[0]


def test_a_denoiser_on_the_cpu_is_refused() -> None:
    _, style, padding, _ = arguments(1, 1)
    with pytest.raises(InputError, match="CUDA device"):
        GraphedSampler(DreamTalkDenoiser(), style, padding)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_graph_equals_eager(guidance: float) -> None:
    torch.manual_seed(0)
    d = DreamTalkDenoiser().cuda()
    audio, style, padding, noise = (a.cuda() for a in arguments(2, 9))
    graphed = GraphedSampler(d, style, padding, frames=5, guidance=guidance)
    for cut in (slice(0, 5), slice(5, 9), slice(3, 4)):
        expected = d.sample(audio[:, cut], style, padding, guidance=guidance, noise=noise[:, cut])
        assert (graphed(audio[:, cut], noise[:, cut]) - expected).abs().max() < 1e-4
    with pytest.raises(InputError, match="1 to 5 frames"):
        graphed(audio, noise)
