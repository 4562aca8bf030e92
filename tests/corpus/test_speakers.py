"""Voices made from recordings: phone sets, times, and what happens where the programs are missing."""

import json
import subprocess

import numpy as np
import pytest

from dmt.cli.app import run
from dmt.corpus import Corpus, build_corpus, phones, speakers
from dmt.corpus.phonemes import VISEMES, Sound, letters, stress
from dmt.corpus.sentences import LANGUAGES, OTHERS, language_number, sentence
from dmt.corpus.speakers import SPEAKERS, VALIDATION_SPEAKERS, not_installed, say
from dmt.corpus.targets import segments
from dmt.errors import InputError

HERE = [s for s in SPEAKERS + VALIDATION_SPEAKERS if s not in not_installed()]


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(speakers, "_installed", lambda program: frozenset())


def test_every_phone_is_a_pause_or_moves_the_lips():
    for phone_set in phones.SETS:
        for name, ipa in phone_set.items():
            assert not ipa or letters(ipa), name
            assert all(letter in VISEMES for letter in ipa.strip("ˈˌ")), name


def test_phone_sets_know_their_closures_and_stress():
    assert [name for name, ipa in phones.ENGLISH.items() if "m" in ipa] == ["m", "em"]
    assert VISEMES[letters(phones.ITALIAN["nf"])[0]].sound == Sound.LABIODENTAL
    assert stress(phones.ITALIAN["a1"]) > stress(phones.ITALIAN["a"])
    assert stress(phones.ENGLISH["aa"]) > stress(phones.ENGLISH["ax"])
    assert phones.FINNISH["m:"] == "m" and phones.RUSSIAN["pp"] == "p" and phones.CZECH["a:"] == "a"


def test_a_corpus_names_its_speakers(tmp_path):
    assert Corpus.speakers(tmp_path) == []
    (tmp_path / "corpus.json").write_text('{"speakers": ["rms", "slt"]}')
    assert Corpus.speakers(tmp_path) == ["rms", "slt"]


def test_splits_share_nobody():
    assert not {s.name for s in SPEAKERS} & {s.name for s in VALIDATION_SPEAKERS}
    names = [s.name for s in SPEAKERS + VALIDATION_SPEAKERS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("language", sorted({s.language for s in SPEAKERS}))
def test_every_language_has_sentences_and_a_number(language):
    assert len(sentence(language, np.random.default_rng(0)).split()) >= 3
    assert 0 <= language_number(language) < len(LANGUAGES) + len(OTHERS)
    assert language_number("en") == LANGUAGES.index("en-us")


@pytest.mark.parametrize("speaker", HERE, ids=lambda s: s.name)
def test_speakers_time_their_phones(speaker):
    """Every phone is known, times fit the sound, and plosives are silent where vowels are loud."""
    text = sentence(speaker.language, np.random.default_rng(3))
    spoken = say(text, speaker, stretch=1.2)
    parts = segments(spoken)
    assert len([p for p in parts if p.letter]) >= 8
    assert abs(spoken.phonemes[-1].start - len(spoken.wave) / spoken.rate) < 0.8

    def level(part, first, last):
        span = slice(*(int((part.start + share * (part.end - part.start)) * spoken.rate) for share in (first, last)))
        return np.mean(spoken.wave[span].astype(float) ** 2)

    closed = [level(p, 0.1, 0.5) for p in parts if p.letter in ("p", "t", "k")]
    loud = [level(p, 0.25, 0.75) for p in parts if p.letter and p.viseme.sound >= Sound.VOWEL_CLOSE_SPREAD]
    assert np.median(closed) < 0.05 * np.median(loud)


@pytest.mark.parametrize("speaker", HERE[:1] + HERE[-1:], ids=lambda s: s.name)
def test_speakers_repeat_themselves_and_heed_the_pace(speaker):
    text = sentence(speaker.language, np.random.default_rng(5))
    first, second, slow = say(text, speaker), say(text, speaker), say(text, speaker, stretch=1.5)
    np.testing.assert_array_equal(first.wave, second.wave)
    assert first.phonemes == second.phonemes
    assert len(slow.wave) > 1.2 * len(first.wave)


def test_flite_is_read_as_it_prints(monkeypatch):
    """Without the program: its lines of phones and ends, and a phone that no set has."""
    import soundfile

    printed = "pau:0.200 m:0.300 aa:0.450 pau:0.700 \n"

    def pretended(command, **_):
        soundfile.write(command[-1], np.zeros(11200, np.float32), 16000)
        return subprocess.CompletedProcess(command, 0, printed.encode(), b"")

    monkeypatch.setattr(speakers.subprocess, "run", pretended)
    spoken = say("ma", SPEAKERS[0])
    assert [(p.symbol, p.start) for p in spoken.phonemes] == [("", 0.0), ("m", 0.2), ("ˌɑ", 0.3), ("", 0.45)]
    parts = segments(spoken)
    assert [(p.letter, p.start, p.end) for p in parts][1] == ("m", 0.2, 0.3)
    printed = "pau:0.200 zzz:0.300\n"
    with pytest.raises(InputError, match="zzz"):
        say("ma", SPEAKERS[0])


def test_a_failing_program_is_named(monkeypatch):
    monkeypatch.setattr(speakers, "_LIST", {"flite": ["false"]})
    monkeypatch.setattr(speakers.shutil, "which", lambda program: "/bin/false")
    speakers._installed.cache_clear()
    try:
        with pytest.raises(InputError, match="false failed"):
            not_installed(SPEAKERS[:1])
    finally:
        speakers._installed.cache_clear()


def test_missing_speakers_are_named(tmp_path, nothing_installed):
    with pytest.raises(InputError, match=r"not installed.*rms.*festvox-ru"):
        build_corpus(tmp_path / "c", minutes=0.1, speakers=SPEAKERS)


def test_the_command_goes_on_or_fails_by_option(tmp_path, nothing_installed, monkeypatch, capsys):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra [train]")
    from dmt.corpus import build

    monkeypatch.setattr(build, "SHARD_CLIPS", 1)
    common = ["--minutes", "0.1", "--workers", "1"]
    assert run(["corpus", str(tmp_path / "a"), *common]) == 0
    assert "Left out, as they are not installed" in capsys.readouterr().err
    assert json.loads((tmp_path / "a" / "corpus.json").read_text())["speakers"] == Corpus.speakers(tmp_path / "a") == []
    assert run(["corpus", str(tmp_path / "b"), *common, "--speakers", "all"]) == 2
    assert "not installed" in capsys.readouterr().err
    assert run(["corpus", str(tmp_path / "c"), *common, "--speakers", "some"]) == 2
    assert run(["corpus", str(tmp_path / "a"), *common, "--speakers", "none"]) == 0
    assert "Left out" not in capsys.readouterr().err


@pytest.mark.skipif(not HERE, reason="no voices made from recordings are installed")
def test_speakers_speak_in_the_corpus_and_not_elsewhere(monkeypatch, tmp_path):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra [train]")
    from dmt.corpus import clip

    heard = []
    spoken = clip.say
    monkeypatch.setattr(
        clip, "say", lambda text, speaker, **options: (heard.append(speaker.name), spoken(text, speaker, **options))[1]
    )
    first = clip.make_clip(np.random.default_rng(1), speakers=HERE, share=1.0)
    again = clip.make_clip(np.random.default_rng(1), speakers=HERE, share=1.0)
    assert heard and set(heard) <= {s.name for s in HERE}
    np.testing.assert_array_equal(first.wave, again.wave)
    count = len(heard)
    clip.make_clip(np.random.default_rng(1), speakers=HERE, share=0.0)
    assert len(heard) == count
