"""DreamTalk's denoiser: its file, its numbers, and the fast path equal to the plain one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import golden_input, golden_keys, golden_parameters, golden_vectors, needs_golden
from safetensors.torch import save_file

from dmt.dreamtalk import DreamTalkDenoiser, export_denoiser, load_denoiser, load_renderer
from dmt.errors import InputError
from dmt.renderer.flow import FlowRenderer


def golden_state(dynamic: bool = False) -> dict[str, torch.Tensor]:
    """A released checkpoint's worth of tensors, with the golden weights."""
    model = DreamTalkDenoiser(dynamic=dynamic)
    return export_denoiser(model) | golden_parameters(model.net, "net.")


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    audio = golden_input("audio", (1, 6, 11, 1024))
    style = torch.zeros(1, 256, 64)
    style[:, :98] = golden_input("style", (1, 98, 64))
    return audio, style, torch.arange(256)[None] >= 98


@needs_golden
def test_golden_vectors() -> None:
    expected = golden_vectors()
    d = load_denoiser({"model_state_dict": {f"diff_net.{k}": v for k, v in golden_state().items()}})
    audio, style, padding = inputs()
    x_t, noise = golden_input("x_t", (1, 6, 64)), golden_input("noise", (1, 6, 64))
    results = {"style_code": d.encode_style(style, padding)}
    for t in (1, 501, 901):
        results[f"x0_t{t}"] = d.predict(x_t, torch.tensor([t]), audio, style, padding)
    for steps, guidance in ((10, 1.0), (10, 2.0), (25, 1.5)):
        results[f"ddim{steps}_cfg{guidance}"] = d.sample(
            audio, style, padding, steps=steps, guidance=guidance, noise=noise
        )
    for name, ours in results.items():
        assert np.abs(ours.numpy() - expected[name]).max() < 1e-5, name


@needs_golden
def test_golden_vectors_of_the_dynamic_variant() -> None:
    expected = golden_vectors()["dynamic_x0_t501"]
    d = load_denoiser(golden_state(dynamic=True))
    ours = d.predict(golden_input("x_t", (1, 6, 64)), torch.tensor([501]), *inputs())
    assert np.abs(ours.numpy() - expected).max() < 1e-5


@needs_golden
@pytest.mark.parametrize(
    ("dynamic", "file"), [(False, "denoiser_keys.txt"), (True, "denoiser_dynamicfc_variant_keys.txt")]
)
def test_keys_are_the_released_ones(dynamic: bool, file: str) -> None:
    ours = {k: tuple(v.shape) for k, v in export_denoiser(DreamTalkDenoiser(dynamic=dynamic)).items()}
    released = golden_keys(file)
    assert {k: ours[k] for k in released} == released
    # The list of the variant holds its decoder only; the rest is the plain file's.
    scope = "net.decoder." if dynamic else ""
    assert {k for k in ours if k.startswith(scope)} == {k for k in released if k.startswith(scope)}


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("frames", [1, 7])
def test_fast_sampling_equals_plain_sampling(guidance: float, frames: int) -> None:
    d = load_denoiser(golden_state())
    audio, style, padding = torch.randn(2, frames, 11, 1024), torch.randn(2, 256, 64), torch.zeros(2, 256).bool()
    noise = torch.randn(2, frames, 64)
    fast = d.sample(audio, style, padding, guidance=guidance, noise=noise)
    plain = d.sample(audio, style, padding, guidance=guidance, noise=noise, exact_path=True)
    # Guidance at scale s adds up s + (s - 1) roundings of a prediction of unit size.
    assert (fast - plain).abs().max() < 2e-6 * (2 * guidance - 1)


def test_a_seed_means_the_default_generators_seed() -> None:
    d = DreamTalkDenoiser()
    args = torch.randn(1, 3, 11, 1024), torch.randn(1, 256, 64), torch.zeros(1, 256).bool()
    torch.manual_seed(7)
    implicit = d.sample(*args, steps=2)
    assert torch.equal(implicit, d.sample(*args, steps=2, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("form", ["pth", "bare.pt", "safetensors", "half.pt"])
def test_file_forms(tmp_path: Path, form: str) -> None:
    state = golden_state()
    path = tmp_path / f"naïve name.{form}"
    if form == "pth":
        torch.save({"model_state_dict": {f"diff_net.{k}": v for k, v in state.items()}, "epoch": 3}, path)
    elif form == "safetensors":
        save_file(state, path)
    elif form == "half.pt":
        torch.save(
            {k: v.half() if v.is_floating_point() and "var_sched" not in k else v for k, v in state.items()}, path
        )
    else:
        torch.save(state, path)
    loaded = load_denoiser(path)
    key = "decoder.lower_decoder.layers.1.linear1.weight"
    assert torch.allclose(loaded.net.state_dict()[key], state[f"net.{key}"], atol=1e-3)
    assert loaded.net.state_dict()[key].dtype == torch.float32


class Evil:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_bad_files_are_explained(tmp_path: Path) -> None:
    good = tmp_path / "good.pth"
    torch.save(golden_state(), good)
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:100_000])
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"model_state_dict": golden_state(), "hook": Evil()}, tmp_path / "evil.pth")
    torch.save({"optimizer": {"lr": 1}}, tmp_path / "foreign.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 20)
    for name, words in {
        "cut.pth": "cut short|damaged",
        "text.pth": "not a (plain|readable) checkpoint",
        "empty.pth": "not a readable checkpoint",
        "evil.pth": "could run code",
        "foreign.pth": "holds no tensors",
        "list.pth": "holds a list",
        "bad.safetensors": "not a readable safetensors",
        "absent.pth": "no such checkpoint",
    }.items():
        with pytest.raises(InputError, match=words):
            load_denoiser(tmp_path / name)


def test_wrong_contents_are_explained() -> None:
    state = golden_state()
    with pytest.raises(InputError, match="renderer checkpoint"):
        load_denoiser(FlowRenderer().state_dict())
    with pytest.raises(InputError, match="denoiser checkpoint"):
        load_renderer(state)
    broken = dict(state)
    del broken["net.decoder.upper_tail_fc.0.bias"]
    broken["net.surprise"] = torch.zeros(1)
    broken["net.decoder.upper_tail_fc.4.weight"] = torch.zeros(50, 128)
    with pytest.raises(InputError) as caught:
        load_denoiser(broken)
    for words in (
        "1 missing (decoder.upper_tail_fc.0.bias)",
        "1 unexpected (surprise)",
        "[50, 128] instead of [51, 128]",
    ):
        assert words in str(caught.value)
    nan = dict(state)
    nan["net.decoder.upper_tail_fc.0.bias"] = torch.full((128,), float("nan"))
    with pytest.raises(InputError, match="not finite"):
        load_denoiser(nan)


def test_wrong_inputs_are_explained() -> None:
    d = DreamTalkDenoiser()
    audio, style, padding = torch.zeros(1, 2, 11, 1024), torch.zeros(1, 256, 64), torch.zeros(1, 256).bool()
    with pytest.raises(InputError, match="divide 1000"):
        d.sample(audio, style, padding, steps=3)
    with pytest.raises(InputError, match="speech windows"):
        d.sample(audio[..., :512], style, padding)
    with pytest.raises(InputError, match="at least one frame"):
        d.sample(audio, style, ~padding)
    with pytest.raises(InputError, match="expected noise"):
        d.sample(audio, style, padding, noise=torch.zeros(1, 3, 64))


def test_renderer_file_forms(tmp_path: Path) -> None:
    state = FlowRenderer().state_dict()
    torch.save({"net_G_ema": state, "net_G": {}}, tmp_path / "renderer.pt")
    loaded = load_renderer(tmp_path / "renderer.pt").state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())
