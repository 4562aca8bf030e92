"""espeak's timing, and shards that resume and repeat."""

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra [train]")

from dmt.corpus import Corpus, build, build_corpus
from dmt.corpus.clip import CLIP_FRAMES, TRAIN_VOICES, VALIDATION_VOICES, make_clip
from dmt.corpus.espeak import fresh_synthesiser, synthesiser
from dmt.corpus.sentences import LANGUAGES, sentence
from dmt.errors import InputError
from dmt.rates import SAMPLES_PER_FRAME


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(build, "SHARD_CLIPS", 2)


def test_phonemes_come_with_their_times():
    spoken = synthesiser().say("Mama", "en-us")
    symbols = [p.symbol for p in spoken.phonemes if p.symbol]
    assert symbols[0] == "m" and symbols.count("m") == 2
    starts = [p.start for p in spoken.phonemes]
    assert starts == sorted(starts) and starts[-1] <= len(spoken.wave) / spoken.rate + 0.01


def test_unknown_voice():
    with pytest.raises(InputError, match="no voice"):
        synthesiser().say("hello", "xx-nowhere")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_speaks(language):
    text = sentence(language, np.random.default_rng(0))
    spoken = fresh_synthesiser(0).say(text, f"{language}+m3")
    assert len(spoken.wave) > 0.4 * spoken.rate
    assert sum(bool(p.symbol) for p in spoken.phonemes) >= 5


def test_voices_of_the_splits_differ():
    assert not set(TRAIN_VOICES) & set(VALIDATION_VOICES)
    assert len(set(TRAIN_VOICES)) == len(TRAIN_VOICES) > 40


def test_clip_repeats_whatever_was_said_before():
    first = make_clip(np.random.default_rng([4, 2]))
    make_clip(np.random.default_rng([4, 3]))
    second = make_clip(np.random.default_rng([4, 2]))
    np.testing.assert_array_equal(first.wave, second.wave)
    np.testing.assert_array_equal(first.coefficients, second.coefficients)
    assert first.wave.shape == (CLIP_FRAMES * SAMPLES_PER_FRAME,)
    assert np.isfinite(first.coefficients).all()


def test_corpus_resumes_and_repeats(tmp_path, small_shards):
    minutes = 3 * 2 * 8 / 60  # three training shards of two clips
    made = build_corpus(tmp_path / "a", minutes=minutes, seed=1, workers=1)
    assert (made.shards, made.made) == (4, 4)
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").glob("*.npz")}
    (tmp_path / "a" / "train-0001.npz").unlink()
    again = build_corpus(tmp_path / "a", minutes=minutes, seed=1, workers=1)
    assert again.made == 1
    with np.load(tmp_path / "a" / "train-0001.npz") as data:
        first = data["wave"].copy()
    (tmp_path / "a" / "train-0001.npz").write_bytes(before["train-0001.npz"])
    corpus = Corpus.load(tmp_path / "a")
    assert len(corpus) == 6
    np.testing.assert_array_equal(corpus.wave[2:4], first)
    assert corpus.closures[:, 0].max() < 6
    assert len(Corpus.load(tmp_path / "a", "validation")) == 2


def test_another_seed_is_refused(tmp_path, small_shards):
    build_corpus(tmp_path, minutes=0.1, seed=1, workers=1)
    with pytest.raises(InputError, match="another seed"):
        build_corpus(tmp_path, minutes=0.1, seed=2, workers=1)


def test_bad_requests(tmp_path):
    with pytest.raises(InputError, match="positive"):
        build_corpus(tmp_path, minutes=0)
    with pytest.raises(InputError, match="no train shards"):
        Corpus.load(tmp_path)
