"""The recipe under perfect and imperfect tracking: what was put in comes out, and what cannot be is said."""

import numpy as np
import pytest
from filmed import Performance, Scripted, opening, region_errors

from dmt.errors import InputError
from dmt.face.pose import REST
from dmt.tracking import Stretch, extract


def times(frames, rate=25.0):
    return np.arange(frames) / rate


def test_known_motion_comes_back(film):
    truth = Performance(120, noise=0.004)
    found = extract(film(times(120)), tracker=Scripted(truth.landmarks))
    assert found.expression.shape == (120, 64) and found.pose.shape == (120, 9)
    errors = region_errors(found.expression, truth.expression)
    assert errors["mouth"] < 0.008 and errors["brows"] < 0.004 and errors["lids"] < 0.004, errors
    made, wanted = opening(found.expression), opening(truth.expression)
    assert np.corrcoef(made, wanted)[0, 1] > 0.98
    assert np.abs(made - wanted).mean() < 0.015  # absolutely, whoever it is
    assert np.degrees(np.abs(found.pose[:, :3] - truth.angles)).mean() < 1.5
    assert found.notes == () and found.bridged == 0 and found.start == 0


def test_crop_columns_follow_the_head(film):
    truth = Performance(120)
    pose = extract(film(times(120)), tracker=Scripted(truth.landmarks)).pose
    assert np.median(pose[:, 6:], axis=0) == pytest.approx(REST[6:], abs=1e-3)
    assert np.corrcoef(1 / pose[:, 6], truth.size)[0, 1] > 0.99
    scale = 93.6 / np.median(truth.size)
    moved = truth.place - np.median(truth.place, axis=0)
    assert np.corrcoef(pose[:, 7], moved[:, 0])[0, 1] > 0.95
    assert np.ptp(pose[:, 7]) == pytest.approx(scale * np.ptp(moved[:, 0]), rel=0.6)
    assert np.all(pose[:, 3:6] == 0)


@pytest.mark.parametrize("rate", [12.5, 30.0, 50.0, 59.94])
def test_other_rates_come_out_at_25(film, rate):
    frames = round(4 * rate)
    truth, at_25 = Performance(frames, rate), Performance(100)
    found = extract(film(times(frames, rate)), tracker=Scripted(truth.landmarks))
    assert abs(len(found.expression) - 100) <= 2
    n = min(100, len(found.expression))
    assert np.corrcoef(opening(found.expression)[:n], opening(at_25.expression)[:n])[0, 1] > (
        0.8 if rate < 25 else 0.97
    )
    assert any("resampled to 25" in note for note in found.notes)


def test_variable_rate_goes_by_its_times(film):
    truth = Performance(150)
    kept = np.sort(np.random.default_rng(1).choice(150, 110, replace=False))
    kept[0] = 0
    found = extract(film(times(150)[kept]), tracker=Scripted(truth.landmarks[kept]))
    n = len(found.expression)
    assert np.corrcoef(opening(found.expression), opening(truth.expression)[:n])[0, 1] > 0.9
    assert any("frame rate varies" in note for note in found.notes)


def lost(landmarks, *gaps):
    frames = list(landmarks)
    for first, stop in gaps:
        frames[first:stop] = [None] * (stop - first)
    return frames


def test_short_gaps_are_bridged_and_said(film):
    truth = Performance(100)
    found = extract(film(times(100)), tracker=Scripted(lost(truth.landmarks, (40, 46), (70, 71))))
    assert found.bridged == 7 and len(found.expression) == 100
    assert any("lost in 7 pictures" in note for note in found.notes)
    assert np.isfinite(found.expression).all() and np.isfinite(found.pose).all()


def test_long_gaps_are_refused_with_their_place(film):
    truth = Performance(100)
    with pytest.raises(InputError, match=r"lost from 1.6 s to 2.4 s"):
        extract(film(times(100)), tracker=Scripted(lost(truth.landmarks, (40, 60))))


def test_ends_without_a_face_are_left_out(film):
    truth = Performance(100)
    found = extract(film(times(100)), tracker=Scripted(lost(truth.landmarks, (0, 30), (90, 100))))
    assert len(found.expression) == 60 and found.start == pytest.approx(1.2)
    assert any("left out" in note for note in found.notes)


@pytest.mark.parametrize(("seen", "said"), [(0, "no face found"), (5, "at least 0.5 s")])
def test_too_little_face(film, seen, said):
    truth = Performance(50)
    with pytest.raises(InputError, match=said):
        extract(film(times(50)), tracker=Scripted(lost(truth.landmarks, (seen, 50))))


def test_a_stretch(film):
    truth = Performance(100)
    found = extract(film(times(100)), Stretch(1.0, 2.0), tracker=Scripted(truth.landmarks[25:]))
    assert len(found.expression) == 50 and found.start == pytest.approx(1.0)
    with pytest.raises(InputError, match=r"nothing from 9.0 s on"):
        extract(film(times(100)), Stretch(9.0), tracker=Scripted([]))
    for bad in (Stretch(-1.0), Stretch(float("nan")), Stretch(0.0, 0.0)):
        with pytest.raises(InputError, match="must be"):
            extract(film(times(10)), bad, tracker=Scripted([]))


def test_several_faces_are_said(film):
    truth = Performance(30)
    found = extract(film(times(30)), tracker=Scripted(truth.landmarks, faces=3))
    assert any("3 faces" in note and "largest" in note for note in found.notes)


def test_small_and_turned_faces_are_said(film):
    truth = Performance(30)
    small = extract(film(times(30)), tracker=Scripted(truth.landmarks * 0.1))
    assert any("small" in note for note in small.notes)


def test_a_cut_is_said(film):
    truth = Performance(60)
    cut = truth.landmarks.copy()
    cut[30:, :, 0] += 300
    assert any("jumps 1 times" in note for note in extract(film(times(60)), tracker=Scripted(cut)).notes)
