"""Measures by given networks: the mathematics on known features, the files they read and those they refuse."""

import numpy as np
import pytest
import torch

from dmt.errors import InputError
from dmt.evaluation import syncnet
from dmt.evaluation.frechet import (
    Moments,
    frechet_distance,
    picture_features,
    picture_network,
    video_features,
    video_network,
)
from dmt.evaluation.syncnet import SyncNet, lip_sync, mfcc, sync_scores


class Colour(torch.nn.Module):
    """Mean and spread of each colour: the least that can be called features."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        flat = x.float().flatten(2)
        return torch.cat([flat.mean(2), flat.std(2)], 1) if return_features else flat.mean(2)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "colour.pt"
    torch.jit.script(Colour()).save(str(path))
    return path


def moments(features, portions=3):
    found = Moments()
    for part in np.array_split(features, portions):
        found.add(part)
    return found


def test_frechet_distance_of_gaussians():
    """Diagonal covariances: squared differences of means and of standard deviations."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4000, 3)) * [1, 2, 3]
    b = rng.standard_normal((4000, 3)) * [2, 2, 1] + [1, 0, -2]
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(1 + 4 + 1 + 4, rel=0.05)
    assert frechet_distance(moments(a), moments(a, 7)) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_is_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics comes with the extra [evaluate]")
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((200, 8)), rng.standard_normal((150, 8)) @ rng.standard_normal((8, 8)) + 0.3
    theirs = fid._compute_fid(
        *(torch.from_numpy(f(x)) for x in (a, b) for f in (lambda v: v.mean(0), lambda v: np.cov(v.T)))
    )
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(float(theirs), rel=1e-6)


def test_one_feature_is_too_few():
    with pytest.raises(InputError, match="at least two"):
        frechet_distance(moments(np.zeros((1, 2)), 1), moments(np.zeros((5, 2))))


def test_features_of_pictures_and_of_stretches(colour):
    frames = np.random.default_rng(0).integers(0, 255, (19, 12, 10, 3), dtype=np.uint8)
    found = picture_features(picture_network(colour), frames)
    assert found.shape == (19, 6)  # six: it was called with return_features
    np.testing.assert_allclose(found[:, :3], frames.reshape(19, -1, 3).mean(1), rtol=1e-5)
    stretch = video_features(video_network(colour), frames[:16])
    np.testing.assert_allclose(stretch[0, :3], frames[:16].reshape(-1, 3).mean(0), rtol=1e-5)


def test_networks_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no feature network"):
        picture_network(tmp_path / "none.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(InputError, match="not a TorchScript"):
        picture_network(tmp_path / "junk.pt")


def test_mfcc_of_a_tone_and_of_silence():
    time = np.arange(16_000) / 16_000
    rows = mfcc(0.5 * np.sin(2 * np.pi * 440 * time))
    assert rows.shape == (99, 13)
    # Log energy of a pre-emphasised sine in one frame: amplitude^2 / 2 over half the spectrum.
    gain = abs(1 - 0.97 * np.exp(-2j * np.pi * 440 / 16_000))
    expected = np.log((0.5 * 32768 * gain) ** 2 / 2 * syncnet.LENGTH / 2)
    assert rows[50, 0] == pytest.approx(expected, abs=0.05)
    assert np.isfinite(mfcc(np.zeros(500))).all()
    assert mfcc(np.zeros(100)).shape == (1, 13)
    with pytest.raises(InputError, match="no sound"):
        mfcc(np.zeros(0))


@pytest.mark.parametrize("late", [-4, 0, 6])
def test_sync_scores_find_the_offset(late):
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(80, 32, generator=rng)
    seen, heard = features[20:60], features[20 - late : 60 - late]
    scores = sync_scores(seen, heard + 0.01)
    assert scores["lse_offset"] == late
    assert scores["lse_c"] > 3 and scores["lse_d"] < 3


def test_lip_sync_runs_the_published_towers(tmp_path):
    torch.manual_seed(0)
    network = SyncNet().eval()
    path = tmp_path / "syncnet_v2.model"
    torch.save(network.state_dict(), path)
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 255, (11, 224, 224, 3), dtype=np.uint8)
    wave = rng.standard_normal(11 * 640).astype(np.float32) * 0.1
    scores = lip_sync(SyncNet.load(path), iter(faces), wave)
    assert set(scores) == {"lse_c", "lse_d", "lse_offset"} and scores["lse_d"] > 0
    with torch.no_grad():
        first = network.lips(torch.from_numpy(faces[:5, :, :, ::-1].copy()).permute(3, 0, 1, 2)[None].float())
        lips = syncnet._lip_features(network, iter(faces))
    assert lips.shape == (7, 1024)
    torch.testing.assert_close(lips[:1], first, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="at least 10 frames"):
        lip_sync(network, iter(faces[:8]), wave)


def test_weights_of_another_network(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.model")
    with pytest.raises(InputError, match="another network"):
        SyncNet.load(tmp_path / "w.model")
    with pytest.raises(InputError, match="no SyncNet weights"):
        SyncNet.load(tmp_path / "none.model")
