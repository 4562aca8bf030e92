"""The denoiser against outputs of the published network under weights that anyone can regenerate by name."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from dmt.config import DenoiserConfig, DiffusionConfig, SparsityConfig
from dmt.denoiser import Denoiser
from dmt.diffusion import NoiseSchedule, ddim, guided

SHARED = Path(os.environ.get("DMT_SHARED", Path(__file__).parents[3] / "shared"))
GOLDEN = SHARED / "dreamtalk" / "golden.npz"
pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason=f"reference vectors are not at {GOLDEN}")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def regenerate(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    rng = np.random.RandomState((zlib.crc32(name.encode()) ^ seed) & 0xFFFFFFFF)
    w = rng.standard_normal(shape)
    w = w / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else float(name.endswith("weight")) + 0.1 * w
    return torch.from_numpy(np.asarray(w, dtype=np.float32))


def build(seed: int, kind: str) -> Denoiser:
    net = Denoiser(DenoiserConfig(decoder=kind), SparsityConfig(enabled=False), 1024).eval()
    for name, parameter in net.named_parameters():
        parameter.data.copy_(regenerate(f"net.{name}", tuple(parameter.shape), seed))
    return net


@pytest.fixture(scope="module")
def plain(golden):
    return build(int(golden["seed"]), "plain")


@pytest.fixture(scope="module")
def inputs(golden):
    seed, frames, clip = (int(golden[k]) for k in ("seed", "L", "F"))

    def draw(name, *shape):
        rng = np.random.RandomState((zlib.crc32(name.encode()) ^ seed) & 0xFFFFFFFF)
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    style = torch.zeros(1, 256, 64)
    style[:, :clip] = draw("style", 1, clip, 64)
    return {
        "windows": draw("audio", 1, frames, 11, 1024),
        "style": style,
        "padding": (torch.arange(256) >= clip)[None],
        "x_t": draw("x_t", 1, frames, 64),
        "noise": draw("noise", 1, frames, 64),
    }


def close(ours: torch.Tensor, reference: np.ndarray) -> None:
    assert ours.shape == reference.shape
    assert float((ours - torch.from_numpy(reference)).abs().max()) < 1e-5


def keys(file: str) -> dict[str, str]:
    """name -> shape of the `net.` rows of a key list."""
    rows = [line.split("\t") for line in (SHARED / "dreamtalk" / file).read_text().splitlines() if line.strip()]
    return {row[0].removeprefix("net."): row[1].strip() for row in rows if row[0].startswith("net.")}


def test_parameter_names_are_the_published_ones(plain):
    ours = {name: str(tuple(value.shape)) for name, value in plain.state_dict().items()}
    assert ours == keys("denoiser_keys.txt")


def test_parameter_names_of_the_dynamic_variant(golden):
    net = Denoiser(DenoiserConfig(decoder="styletalk"), SparsityConfig(enabled=False), 1024)
    ours = {name: str(tuple(v.shape)) for name, v in net.state_dict().items()}
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
    net = build(int(golden["seed"]), "styletalk")
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
