"""Pictures of every kind become upright RGB; unreadable ones become one sentence."""

import numpy as np
import pytest
from PIL import Image

from dmt.errors import InputError
from dmt.face.image import BACKDROP, read_image


@pytest.fixture
def gradient():
    y, x = np.mgrid[0:80, 0:120]
    return np.stack([x * 2, y * 3, (x + y)], -1).clip(0, 255).astype(np.uint8)


def test_rgb_is_read_as_is(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read, gradient)
    assert read.flags.writeable and read.dtype == np.uint8


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "YCbCr"])
def test_other_modes_become_rgb(tmp_path, gradient, mode):
    picture = Image.fromarray(gradient).convert(mode)
    name = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    picture.save(name)
    read = read_image(name)
    assert read.shape == (80, 120, 3)
    expected = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(read.astype(int) - expected).mean() < 6


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    values = np.linspace(0, 65535, 80 * 90).reshape(80, 90).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.min() == 0 and read.max() == 255
    np.testing.assert_allclose(read[..., 0], values / 257, atol=1)


def test_transparency_lies_on_a_light_backdrop(tmp_path, gradient):
    alpha = np.zeros((80, 120, 1), np.uint8)
    alpha[:, 60:] = 255
    Image.fromarray(np.concatenate([gradient, alpha], 2)).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert (read[:, :60] == BACKDROP).all()
    np.testing.assert_array_equal(read[:, 60:], gradient[:, 60:])


def test_exif_rotation_is_applied(tmp_path, gradient):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(gradient, -1))


def test_bad_files_are_one_sentence(tmp_path, gradient):
    with pytest.raises(InputError, match="no such image"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(InputError, match="no such image"):
        read_image(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path / "text.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path / "empty.jpg")
    noise = np.random.default_rng(0).integers(0, 255, (80, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path / "half.png")
    Image.fromarray(gradient[:30]).save(tmp_path / "tiny.png")
    with pytest.raises(InputError, match=r"120 x 30 pixels; at least 64 x 64"):
        read_image(tmp_path / "tiny.png")
