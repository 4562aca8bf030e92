"""ONNX files say in onnxruntime what the networks say here."""

from __future__ import annotations

import json

import pytest
import torch

from dmt.cli.app import run
from dmt.config import ModelConfig, SparsityConfig, from_dict, to_dict
from dmt.diffusion import NoiseSchedule, ddim
from dmt.errors import InputError
from dmt.export import export_denoiser, export_renderer
from dmt.inspection import draw, inspect
from dmt.model import MotionModel
from dmt.renderer.flow import FlowRenderer

ort = pytest.importorskip("onnxruntime", reason="onnxruntime comes with the extra [onnx]")
pytest.importorskip("onnxscript", reason="onnxscript comes with the extra [onnx]")


def session(path):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def denoiser_inputs(model, clips: int, frames: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    padding = torch.zeros(clips, 256, dtype=torch.bool)
    padding[:, 100:] = True
    return {
        "x_t": torch.randn(clips, frames, 64, generator=generator),
        "t": torch.randint(1, 1001, (clips,), generator=generator),
        "windows": torch.randn(clips, frames, 11, model.config.speech.width, generator=generator),
        "style": torch.randn(clips, 256, 64, generator=generator),
        "padding": padding,
    }


def settled(model: MotionModel, sparsity: SparsityConfig) -> MotionModel:
    """The tiny model with `sparsity`, its running means moved by a training pass, so that the masks do something."""
    config = from_dict(ModelConfig, to_dict(model.config) | {"sparsity": to_dict(sparsity)})
    torch.manual_seed(1)
    model = MotionModel(config)
    inputs = denoiser_inputs(model, 6, 4, seed=9)
    inputs["t"] = torch.tensor([1, 100, 300, 600, 800, 1000])
    with torch.no_grad():
        model.train().denoiser(*inputs.values())
    return model.eval()


@pytest.fixture(scope="module", params=["one threshold a site", "per feature and time bucket", "all of the decoders"])
def exported(request, tiny_model, tmp_path_factory):
    sparsity = {
        "one threshold a site": SparsityConfig(initial_threshold=0.6),
        "per feature and time bucket": SparsityConfig(initial_threshold=0.6, per_feature=True, time_buckets=4),
        "all of the decoders": SparsityConfig(initial_threshold=0.6, reach="decoders", time_buckets=2),
    }[request.param]
    model = settled(tiny_model, sparsity)
    path = export_denoiser(model, tmp_path_factory.mktemp("onnx") / "denoiser.onnx")
    return model, session(path)


@pytest.mark.parametrize(("clips", "frames"), [(1, 1), (2, 3), (3, 17)])
def test_one_step_is_the_network(exported, clips: int, frames: int) -> None:
    model, runtime = exported
    inputs = denoiser_inputs(model, clips, frames)
    (ours,) = runtime.run(None, {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        expected = model.denoiser(*inputs.values())
    # A threshold is a step: where rounding lifts an element over it, one unit's share changes.
    assert (torch.from_numpy(ours) - expected).abs().median() < 1e-6
    assert (torch.from_numpy(ours) - expected).abs().max() < 1e-2


def test_sampling_needs_nothing_but_the_file(exported) -> None:
    model, runtime = exported
    facts = json.loads(runtime.get_modelmeta().custom_metadata_map["dmt"])
    schedule = NoiseSchedule(model.config.diffusion)
    assert torch.equal(torch.tensor(facts["alpha_bars"]), schedule.alpha_bars)
    inputs = denoiser_inputs(model, 1, 5)

    def step(x: torch.Tensor, t: int) -> torch.Tensor:
        fed = {name: value.numpy() for name, value in (inputs | {"x_t": x, "t": torch.tensor([t])}).items()}
        return torch.from_numpy(runtime.run(["x0"], fed)[0])

    def reference(x: torch.Tensor, t: int) -> torch.Tensor:
        return model.denoiser(*(inputs | {"x_t": x, "t": torch.tensor([t])}).values())

    assert facts["prediction"] == "x0"
    with torch.no_grad():
        difference = ddim(step, inputs["x_t"], schedule, 5) - ddim(reference, inputs["x_t"], schedule, 5)
    assert difference.abs().median() < 1e-5


def test_renderer(tmp_path) -> None:
    torch.manual_seed(0)
    renderer = FlowRenderer().eval()
    runtime = session(export_renderer(renderer, tmp_path / "renderer.onnx", size=64))
    for batch in (1, 3):
        coarse = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
        portrait = torch.tanh(torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear"))
        motion = torch.randn(batch, 73, 27, generator=torch.Generator().manual_seed(2))
        ours = runtime.run(None, {"portrait": portrait.numpy(), "motion": motion.numpy()})
        with torch.no_grad():
            expected = renderer(portrait, motion)
        for mine, theirs in zip(ours, (expected.image, expected.warped, expected.flow), strict=True):
            assert (torch.from_numpy(mine) - theirs).abs().max() < 1e-4


def test_refusals_leave_nothing(tiny_model, tmp_path) -> None:
    with pytest.raises(InputError, match=r"ends in \.onnx"):
        export_denoiser(tiny_model, tmp_path / "denoiser.bin")
    with pytest.raises(InputError, match="does not exist"):
        export_denoiser(tiny_model, tmp_path / "no" / "denoiser.onnx")
    with pytest.raises(InputError, match="multiple of 32"):
        export_renderer(FlowRenderer(), tmp_path / "renderer.onnx", size=100)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(tiny_checkpoint, tmp_path, capsys) -> None:
    path = tmp_path / "step.onnx"
    assert run(["export", "--checkpoint", str(tiny_checkpoint), "-o", str(path)]) == 0
    said = capsys.readouterr().out
    assert "takes x_t        float [batch, frames, 64]" in said and f"wrote {path}" in said
    found = inspect(path)
    assert found.kind == "ONNX network, by dmt export" and dict(found.facts)["gives x0"] == "float [batch, frames, 64]"
    assert draw(found).width == 960
