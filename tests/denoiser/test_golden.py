"""The denoiser against outputs of the published network under weights that anyone can regenerate by name."""

import numpy as np
import pytest
import torch
from golden import golden_input, golden_keys, golden_parameters, golden_vectors, needs_golden

from dmt.config import DenoiserConfig, DiffusionConfig, SparsityConfig
from dmt.denoiser import Denoiser
from dmt.diffusion import NoiseSchedule, ddim, guided

pytestmark = needs_golden


@pytest.fixture(scope="module")
def golden():
    return golden_vectors()


def build(kind: str) -> Denoiser:
    net = Denoiser(DenoiserConfig(decoder=kind), SparsityConfig(enabled=False), 1024).eval()
    net.load_state_dict({k.removeprefix("net."): v for k, v in golden_parameters(net, "net.").items()}, strict=False)
    return net


@pytest.fixture(scope="module")
def plain():
    return build("plain")


@pytest.fixture(scope="module")
def inputs(golden):
    frames, clip = int(golden["L"]), int(golden["F"])
    style = torch.zeros(1, 256, 64)
    style[:, :clip] = golden_input("style", (1, clip, 64))
    return {
        "windows": golden_input("audio", (1, frames, 11, 1024)),
        "style": style,
        "padding": (torch.arange(256) >= clip)[None],
        "x_t": golden_input("x_t", (1, frames, 64)),
        "noise": golden_input("noise", (1, frames, 64)),
    }


def close(ours: torch.Tensor, reference: np.ndarray) -> None:
    assert ours.shape == reference.shape
    assert float((ours - torch.from_numpy(reference)).abs().max()) < 1e-5


def keys(file: str) -> dict[str, tuple[int, ...]]:
    """name -> shape of the `net.` rows of a key list."""
    return {n.removeprefix("net."): shape for n, shape in golden_keys(file).items() if n.startswith("net.")}


def test_parameter_names_are_the_published_ones(plain):
    ours = {name: tuple(value.shape) for name, value in plain.state_dict().items()}
    assert ours == keys("denoiser_keys.txt")


def test_parameter_names_of_the_dynamic_variant(golden):
    net = Denoiser(DenoiserConfig(decoder="styletalk"), SparsityConfig(enabled=False), 1024)
    ours = {name: tuple(v.shape) for name, v in net.state_dict().items()}
    listed = keys("denoiser_dynamicfc_variant_keys.txt")
    decoder = {name: shape for name, shape in ours.items() if name.startswith("decoder.")}
    decoder = {name: shape for name, shape in decoder.items() if name in listed or "pos_table" not in name}
    assert decoder == listed


@torch.no_grad()
def test_style_code(plain, inputs, golden):
    close(plain.encode_style(inputs["style"], inputs["padding"]), golden["style_code"])


@torch.no_grad()
@pytest.mark.parametrize("t", [1, 501, 901])
def test_one_call(plain, inputs, golden, t):
    args = inputs["windows"], inputs["style"], inputs["padding"]
    close(plain(inputs["x_t"], torch.tensor([t]), *args), golden[f"x0_t{t}"])
    close(plain.step(plain.prepare(*args), inputs["x_t"], torch.tensor([t])), golden[f"x0_t{t}"])


@torch.no_grad()
def test_one_call_of_the_dynamic_variant(inputs, golden):
    net = build("styletalk")
    args = inputs["windows"], inputs["style"], inputs["padding"]
    close(net(inputs["x_t"], torch.tensor([501]), *args), golden["dynamic_x0_t501"])
    close(net.step(net.prepare(*args), inputs["x_t"], torch.tensor([501])), golden["dynamic_x0_t501"])


@torch.no_grad()
@pytest.mark.parametrize(("steps", "scale"), [(10, 1.0), (10, 2.0), (25, 1.5)])
def test_sampling(plain, inputs, golden, steps, scale):
    prepared = plain.prepare(inputs["windows"], inputs["style"], inputs["padding"], guided=scale != 1)
    denoise = guided(
        lambda x, t: plain.step(prepared, x, torch.tensor([t])),
        lambda x, t: plain.step_pair(prepared, x, torch.tensor([t])),
        scale,
    )
    out = ddim(denoise, inputs["noise"], NoiseSchedule(DiffusionConfig()), steps)
    close(out, golden[f"ddim{steps}_cfg{scale}"])
