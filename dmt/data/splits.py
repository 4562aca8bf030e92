"""Who and what is learned from, and who and what is held out: no person and no sentence on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .source import Source

SPLITS = ("train", "validation", "test")
DISJOINT = ("identity+sentence", "identity", "sentence", "none")


@dataclass(frozen=True)
class SplitConfig:
    """validation, test: shares of the people (of the sentences: see below) that are held out; seed: another choice.

    disjoint: "identity+sentence": no person and no sentence is in two splits; clips that would join a person of one
    split with a sentence of another are left out. "identity" and "sentence" hold one of the two apart; "none" deals
    clips singly (for one person's recordings). sentences: share of the sentences held out for validation, and as
    many for test, where both are held apart: larger, because a held-out clip must be both.
    """

    validation: float = 0.1
    test: float = 0.1
    sentences: float = 0.2
    disjoint: str = "identity+sentence"
    seed: int = 0


def assign(sources: Sequence[Source], config: SplitConfig) -> dict[str, str | None]:
    """The split of each source by name; None: left out. The same sources in any order give the same splits.

    A partition that the data set itself gives is kept: a person with any test clip is a test person; what is marked
    train is dealt between train and validation.
    Raises InputError: bad shares, names that occur twice, too few people or sentences to hold some out.
    """
    _check(sources, config)
    if config.disjoint == "none":
        return _deal({s.name: _marked([s]) for s in sources}, config.validation, config.test, config.seed)
    people, sentences = None, None
    if "identity" in config.disjoint:
        people = _deal(_marks_by_person(sources), config.validation, config.test, config.seed)
        _enough(people, "people", sources, config)
    said = {_sentence(s) for s in sources}
    if config.disjoint == "sentence":
        sentences = _deal(dict.fromkeys(said), config.validation, config.test, config.seed)
        _enough(sentences, "sentences", sources, config)
    elif config.disjoint == "identity+sentence":
        # Sentences said only once follow their person: nothing can leak through them.
        shared = dict.fromkeys(s.sentence for s in sources if s.sentence is not None)
        sentences = _deal(shared, config.sentences if config.validation else 0, _test_share(config), config.seed)
    return {s.name: _joined(s, people, sentences) for s in sources}


def _joined(source: Source, people: dict | None, sentences: dict | None) -> str | None:
    person = people[source.identity] if people is not None else None
    sentence = sentences.get(_sentence(source)) if sentences is not None else None
    if person is None or sentence is None:
        return person or sentence
    return person if person == sentence else None


def _deal(keys: dict, validation: float, test: float, seed: int) -> dict:
    """key -> split. keys: key -> split it must have, "train" for all but test, or None.

    Keys are ordered by a hash, so that a choice does not depend on how they are named or counted; shares are of the
    number of keys, rounded, at least one where a share is asked for and three or more keys are there.
    """
    dealt = {key: mark for key, mark in keys.items() if mark in ("validation", "test")}
    free = sorted((key for key in keys if key not in dealt), key=lambda key: _hash(key, seed))
    for split, share in (("test", test), ("validation", validation)):
        there = sum(mark == split for mark in dealt.values())
        if there or not share:
            continue
        wanted = max(1, round(share * len(keys))) if len(keys) >= 2 else 0
        open_to = [k for k in free if keys[k] is None or split == "validation"]
        for key in open_to[: min(wanted, len(free) - 1)]:
            dealt[key] = split
            free.remove(key)
    return {**dealt, **dict.fromkeys(free, "train")}


def _marks_by_person(sources: Sequence[Source]) -> dict[str, str | None]:
    by_person: dict[str, list[Source]] = {}
    for source in sources:
        by_person.setdefault(source.identity, []).append(source)
    return {person: _marked(clips) for person, clips in by_person.items()}


def _marked(clips: Sequence[Source]) -> str | None:
    marks = {clip.partition for clip in clips}
    return next((split for split in ("test", "validation", "train") if split in marks), None)


def _sentence(source: Source) -> str:
    """What is said; a clip whose words nobody wrote down says something of its own."""
    return source.sentence if source.sentence is not None else f"only in {source.name}"


def _test_share(config: SplitConfig) -> float:
    return config.sentences if config.test else 0.0


def _hash(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode()).digest()


def _check(sources: Sequence[Source], config: SplitConfig) -> None:
    shares = (config.validation, config.test, config.sentences)
    if not all(0 <= share < 1 for share in shares) or config.validation + config.test >= 1:
        raise InputError(f"shares of validation, test and sentences must lie in 0..1 and leave some to train: {shares}")
    if config.disjoint not in DISJOINT:
        raise InputError(f"unknown way to split {config.disjoint!r}: expected one of {', '.join(DISJOINT)}")
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice:
        raise InputError(f"two clips are named {twice}; name the folders differently")


def _enough(dealt: dict, what: str, sources: Sequence[Source], config: SplitConfig) -> None:
    if all(source.partition is not None for source in sources):
        return  # the data set has decided
    missing = [s for s in ("validation", "test") if getattr(config, s) and s not in dealt.values()]
    if missing or "train" not in dealt.values():
        raise InputError(
            f"{len(dealt)} {what} are too few to hold some out for {' and '.join(missing) or 'training'}; "
            "give smaller shares (--validation 0 --test 0), or another --disjoint"
        )
