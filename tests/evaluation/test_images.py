"""Picture measures against scikit-image and torchmetrics on the same pictures, and against what they must do."""

import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics", reason="picture measures come with the extra [evaluate]")
pytest.importorskip("skimage", reason="picture measures come with the extra [evaluate]")

from scipy import ndimage
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from torchmetrics.functional.image import lpips as their_lpips
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from dmt.errors import InputError
from dmt.evaluation import images
from dmt.evaluation import lpips as lpips_module
from dmt.evaluation.cpbd import cpbd, edge_widths
from dmt.evaluation.images import picture_curves, psnr, squared_error, ssim
from dmt.evaluation.lpips import Lpips, alexnet_features, vgg16_features


@pytest.fixture(scope="module")
def frames():
    """Three photographs of 150 x 131 pixels, and the same blurred and noisy."""
    photographs = np.stack([data.astronaut()[i : i + 150, 150 : 150 + 131] for i in (0, 60, 120)])
    rng = np.random.default_rng(0)
    blurred = ndimage.gaussian_filter(photographs.astype(float), (0, 1.2, 1.2, 0))
    worse = np.clip(blurred + rng.normal(0, 4, photographs.shape), 0, 255).astype(np.uint8)
    return worse, photographs


def test_gaussian_ssim_is_torchmetrics_away_from_the_borders(frames):
    """Two libraries that share no code: torchmetrics' map without its reflected border is our mean."""
    made, reference = frames
    pair = (torch.from_numpy(f.copy()).permute(0, 3, 1, 2).double() / 255 for f in frames)
    _, full = structural_similarity_index_measure(
        *pair, sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    theirs = full[..., 5:-5, 5:-5].mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(ssim(made, reference, "gaussian11"), theirs, atol=1e-7)


def test_the_variants_differ_and_say_so(frames):
    made, reference = frames
    values = np.stack([ssim(made, reference, v) for v in ("gaussian11", "uniform7", "torchmetrics")])
    assert np.abs(values[1:] - values[0]).min() > 1e-4 and np.ptp(values, axis=0).max() < 0.03
    pair = (torch.from_numpy(f.copy()).permute(0, 3, 1, 2).float() for f in frames)
    whole = StructuralSimilarityIndexMeasure(data_range=255.0)(*pair)
    assert values[2].mean() == pytest.approx(float(whole), abs=1e-5)
    with pytest.raises(InputError, match="gaussian11, uniform7"):
        ssim(made, reference, "ms")


def test_portions_do_not_change_the_numbers(frames, monkeypatch):
    made, reference = frames
    whole = ssim(made, reference, "torchmetrics")
    monkeypatch.setattr(images, "PORTION", 2)
    np.testing.assert_allclose(ssim(made, reference, "torchmetrics"), whole, atol=1e-6)


def test_psnr_per_frame_and_pooled(frames):
    made, reference = frames
    theirs = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(made, reference, strict=True)]
    np.testing.assert_allclose(psnr(made, reference), theirs, atol=1e-9)
    pooled = PeakSignalNoiseRatio(data_range=255.0)(torch.from_numpy(made).float(), torch.from_numpy(reference).float())
    assert images.decibels(squared_error(made, reference).mean()) == pytest.approx(float(pooled), abs=1e-4)


def test_identical_frames(frames):
    _, same = frames
    assert np.all(psnr(same, same) == images.PSNR_CEILING)
    np.testing.assert_allclose(ssim(same, same), 1.0)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_torchmetrics_lpips(frames, tmp_path, monkeypatch, net):
    """Same random backbone, the published heads: torchmetrics' own network and ours agree."""
    torch.manual_seed(0)
    backbone = (alexnet_features if net == "alex" else vgg16_features)()
    weights = tmp_path / "backbone.pth"
    torch.save({f"features.{k}": v for k, v in backbone.state_dict().items()}, weights)
    monkeypatch.setattr(their_lpips, "_get_tv_model_features", lambda *_: backbone)
    theirs = their_lpips._LPIPS(pretrained=True, net=net, eval_mode=True)
    made, reference = (f[:2, :96, :101] for f in frames)
    ours = Lpips.load(weights, net).frames(made, reference)
    pair = (torch.from_numpy(f.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1 for f in (made, reference))
    with torch.no_grad():
        expected = theirs(*pair).flatten().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert ours.min() > 0
    np.testing.assert_allclose(Lpips.load(weights, net).frames(reference, reference), 0, atol=1e-7)


def test_lpips_reads_safetensors_and_refuses_others(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {f"features.{k}": v for k, v in alexnet_features().state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    assert Lpips.load(tmp_path / "a.safetensors").net == "alex"
    with pytest.raises(InputError, match="not torchvision's vgg16"):
        Lpips.load(tmp_path / "a.safetensors", "vgg")
    with pytest.raises(InputError, match="no LPIPS backbone"):
        Lpips.load(tmp_path / "none.pth")
    (tmp_path / "junk.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read"):
        Lpips.load(tmp_path / "junk.pth")
    with pytest.raises(InputError, match="unknown LPIPS backbone"):
        Lpips.load("hub", "squeeze")

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(lpips_module.torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(InputError, match="could not be fetched"):
        Lpips.load("hub")


def test_cpbd_falls_with_blur():
    picture = data.camera()[:256, 128:384]
    scores = [cpbd(ndimage.gaussian_filter(picture, s) if s else picture) for s in (0, 1.0, 2.0, 4.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.5 and scores[-1] < 0.1


def test_edge_widths_of_a_ramp():
    """A ramp of n steps is n pixels wide, whichever way it goes; an edge and its neighbours are 2."""
    for width in (1, 2, 5, 9):
        row = np.concatenate([np.zeros(20), np.linspace(0, 200, width + 1), np.full(20, 200.0)])
        for line in (row, row[::-1]):
            found = edge_widths(np.tile(line, (16, 1)))
            assert set(found[found > 0]) == {max(2, width)}


def test_cpbd_of_pictures_without_edges():
    assert cpbd(np.full((70, 70, 3), 90, np.uint8)) == 0.0
    assert cpbd(np.zeros((3, 5), np.uint8)) == 0.0


def test_curves_have_a_number_for_each_frame(frames):
    made, reference = frames
    curves = picture_curves(made, reference)
    assert {len(c) for c in curves.values()} == {3}
    assert "lpips_alex" not in curves
    assert (curves["cpbd"] < curves["cpbd_reference"]).all()


def test_pairs_that_cannot_be_compared(frames):
    made, reference = frames
    with pytest.raises(InputError, match="different shapes"):
        ssim(made[:2], reference)
    with pytest.raises(InputError, match="uint8"):
        psnr(made.astype(float), reference)
    with pytest.raises(InputError, match="at least one frame"):
        psnr(made[:0], reference[:0])
    with pytest.raises(InputError, match="smaller than the window"):
        ssim(made[:, :9, :9], reference[:, :9, :9])
