"""Films as people have them: turned, of any rate, without pictures, damaged."""

import struct

import numpy as np
import pytest
import soundfile

from dmt.errors import InputError
from dmt.media.film import film_info, film_pictures


def halves(height=64, width=96):
    """Left half white, right half black."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2] = 255
    return picture


def turned_clockwise(path):
    """The same mp4 with a display matrix that says: show me a quarter turn clockwise."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # after version, times, id, duration, layer, volume: the matrix
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def test_rotation_is_applied(film):
    path = turned_clockwise(film([0.0, 0.04, 0.08], [halves()] * 3))
    info = film_info(path)
    assert (info.height, info.width) == (96, 64)
    for _, picture in film_pictures(path):
        assert picture.shape == (96, 64, 3)
        assert picture[:40].mean() > 240 and picture[56:].mean() < 15  # what was left is on top


def test_times_start_at_zero_and_increase(film):
    given = [0.4, 0.44, 0.5, 0.9, 1.0]
    times = [time for time, _ in film_pictures(film(given))]
    np.testing.assert_allclose(times, np.array(given) - 0.4, atol=2e-3)


def test_fast_films_are_thinned(film):
    times = [time for time, _ in film_pictures(film(np.arange(120) / 120))]
    assert 55 <= len(times) <= 61 and np.diff(times).min() > 0.9 / 60 - 1e-9


def test_60_a_second_is_kept_whole(film):
    assert len(list(film_pictures(film(np.arange(60) / 60)))) == 60


def test_no_pictures(tmp_path, film):
    soundfile.write(tmp_path / "s.wav", np.zeros(16000, np.float32), 16000)
    for wrong, said in (("s.wav", "no picture track"), ("absent.mp4", "no such file"), (".", "folder")):
        with pytest.raises(InputError, match=said):
            film_info(tmp_path / wrong)
    (tmp_path / "text.mp4").write_text("not a film " * 50)
    with pytest.raises(InputError, match="not a media file"):
        film_info(tmp_path / "text.mp4")


def test_a_truncated_film_is_refused_or_short(film):
    noise = [np.random.default_rng(k).integers(0, 255, (64, 64, 3), dtype=np.uint8) for k in range(50)]
    path = film(np.arange(50) / 25, noise, "n.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        assert len(list(film_pictures(path))) < 50
    except InputError as error:
        assert "damaged" in str(error)
