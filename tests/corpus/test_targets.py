"""Lip targets: closures close, rounding rounds, silence rests."""

import numpy as np
import pytest

from dmt.corpus.phonemes import VISEMES, Sound, is_stop, letters, stress
from dmt.corpus.spoken import Phoneme, Spoken
from dmt.corpus.targets import CLOSED, REST, Segment, lip_curves, segments, sound_rows


def spoken(text: str, *, each: float = 0.12, start: float = 0.4) -> list[Segment]:
    return [Segment(c, start + i * each, start + (i + 1) * each) for i, c in enumerate(text)]


@pytest.mark.parametrize("letter", "pbm")
@pytest.mark.parametrize("vowel", "aiu")
@pytest.mark.parametrize("each", [0.05, 0.08, 0.15])
def test_bilabials_close_between_vowels(letter, vowel, each):
    parts = spoken(vowel + letter + vowel, each=each)
    lips = lip_curves(parts, 50, vigour=1.3)
    (first, last), *others = lips.closures
    assert not others
    assert lips.opening[first : last + 1].max() < 0.02
    assert first / 25 >= parts[1].start - 0.03 and last / 25 <= parts[1].end + 0.03


def test_openness_follows_vowel_height():
    def peak(vowel):
        return lip_curves(spoken("t" + vowel + "t", each=0.2), 40).opening.max()

    assert peak("a") > peak("e") > peak("i") > 0.05


def test_rounding_narrows_and_spreading_widens():
    def width(vowel):
        return lip_curves(spoken(vowel, each=0.4), 40).width

    assert width("u").min() < -0.05
    assert width("i").max() > 0.02


def test_lips_anticipate_rounding():
    lips = lip_curves(spoken("stu", each=0.12), 40)
    before_vowel = int((0.4 + 0.2) * 25)
    assert lips.width[before_vowel] < -0.02


def test_silence_rests():
    lips = lip_curves([], 100)
    assert np.abs(lips.opening - REST).max() < 0.02
    assert len(lips.closures) == 0
    assert (lips.sounds == Sound.PAUSE).all()


def test_mouth_comes_to_rest_after_speech():
    lips = lip_curves(spoken("a", each=0.3), 125)
    assert lips.opening[-1] < 0.03
    assert abs(lips.width[-1]) < 0.005


def test_lead_moves_lips_but_not_sounds():
    parts = spoken("apaka")
    plain, early = lip_curves(parts, 60), lip_curves(parts, 60, lead=0.04)
    np.testing.assert_allclose(early.opening[:-1], plain.opening[1:], atol=1e-5)
    np.testing.assert_array_equal(early.sounds, plain.sounds)


def test_fast_speech_undershoots():
    slow = lip_curves(spoken("tatata", each=0.2), 60).opening.max()
    fast = lip_curves(spoken("tatata", each=0.05), 60).opening.max()
    assert fast < slow


def test_stop_takes_the_silence_before_it():
    rate = 1000
    wave = np.zeros(600, np.float32)
    wave[100:300] = 0.5  # the vowel; then 50 ms of closure, then the burst
    wave[350:] = 0.5
    found = segments(Spoken(wave, rate, (Phoneme("a", 0.1), Phoneme("p", 0.35), Phoneme("a", 0.4))))
    stop = found[1]
    assert stop.letter == "p"
    assert stop.start == pytest.approx(0.3, abs=0.011)
    assert found[0].end == stop.start


def test_segments_split_diphthongs_and_affricates():
    assert letters("ˈaɪ") == ["a", "ɪ"]
    assert letters("tʃ") == ["t", "ʃ"]
    assert letters("tɕh") == ["t", "ɕ"]
    assert letters("h") == ["h"]
    assert letters("ɔ̃") == ["ɔ"]
    assert letters("") == []
    assert stress("ˈa") > stress("ˌa") > stress("a")
    assert is_stop("p") and not is_stop("m")


def test_table_is_consistent():
    for letter, viseme in VISEMES.items():
        assert -0.03 <= viseme.opening <= 0.25, letter
        assert -0.1 <= viseme.width <= 0.06, letter
        assert 0 < viseme.opening_weight <= 1 and 0 < viseme.width_weight <= 1
    assert all(VISEMES[c].opening == CLOSED for c in "pbm")


def test_sound_rows_mark_every_segment():
    rows = sound_rows(spoken("ama"), 100)
    assert set(rows.tolist()) == {Sound.PAUSE, Sound.VOWEL_OPEN, Sound.BILABIAL}
