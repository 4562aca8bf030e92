"""Style clips: DreamTalk's files, bundled emotions, intensity, bad input."""

import numpy as np
import pytest
import scipy.io
import torch

from dmt.errors import InputError
from dmt.face.basis import neutral_mean
from dmt.face.styles import emotion_names, load_style


def save(path, frames, seed=0):
    coeff = np.random.default_rng(seed).standard_normal((frames, 257)).astype(np.float32)
    scipy.io.savemat(path, {"coeff": coeff})
    return coeff[:, 80:144]


@pytest.mark.parametrize("frames", [1, 98, 256, 300])
def test_mat_clip_is_cut_and_padded(tmp_path, frames):
    rows = save(tmp_path / "s.mat", frames)
    clip = load_style(tmp_path / "s.mat")
    kept = min(frames, 256)
    np.testing.assert_array_equal(clip.coefficients[:kept].numpy(), rows[:kept])
    assert clip.coefficients.shape == (256, 64) and not clip.coefficients[kept:].any()
    assert torch.equal(clip.padding, torch.arange(256) >= kept)


def test_text_clip(tmp_path):
    rows = np.random.default_rng(1).standard_normal((3, 64))
    np.savetxt(tmp_path / "s.TXT", rows)
    np.testing.assert_allclose(load_style(tmp_path / "s.TXT").coefficients[:3], rows, rtol=1e-6)
    np.savetxt(tmp_path / "one.txt", rows[:1])
    assert load_style(tmp_path / "one.txt").padding.sum() == 255


def test_intensity_scales_about_neutral_and_keeps_padding(tmp_path):
    rows = save(tmp_path / "s.mat", 10)
    zero, double = load_style(tmp_path / "s.mat", 0.0), load_style(tmp_path / "s.mat", 2.0)
    np.testing.assert_allclose(zero.coefficients[:10], np.tile(neutral_mean().numpy(), (10, 1)), rtol=1e-6)
    np.testing.assert_allclose(double.coefficients[:10], 2 * rows - neutral_mean().numpy(), atol=1e-5)
    assert not double.coefficients[10:].any() and double.padding[10:].all()


def test_bundled_emotions_differ():
    names = emotion_names()
    assert {"angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised"} <= set(names)
    means = {}
    for name in names:
        clip = load_style(name)
        assert not clip.padding.all()
        means[name] = clip.coefficients[~clip.padding].mean(0)
    for a in names:
        assert all((means[a] - means[b]).norm() > 0.05 for b in names if b != a)


def test_bad_input_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"unknown emotion 'joyful'.*happy.*sad"):
        load_style("joyful")
    with pytest.raises(InputError, match="no such"):
        load_style(tmp_path / "absent.mat")
    with pytest.raises(InputError, match="no such"):
        load_style(tmp_path / "absent.txt")
    scipy.io.savemat(tmp_path / "w.mat", {"coeff": np.zeros((5, 64))})
    with pytest.raises(InputError, match="257"):
        load_style(tmp_path / "w.mat")
    scipy.io.savemat(tmp_path / "k.mat", {"other": np.zeros((5, 257))})
    with pytest.raises(InputError, match="coeff"):
        load_style(tmp_path / "k.mat")
    (tmp_path / "t.txt").write_text("happy face\n")
    with pytest.raises(InputError, match="64 numbers"):
        load_style(tmp_path / "t.txt")
    (tmp_path / "t.wav").write_text("x")
    with pytest.raises(InputError, match=r"\.mat or \.txt"):
        load_style(tmp_path / "t.wav")
    with pytest.raises(InputError, match="intensity"):
        load_style("happy", float("nan"))
