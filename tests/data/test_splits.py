"""No person and no sentence on both sides, always the same split, and refusals where that cannot be."""

import itertools

import pytest

from dmt.data.source import Source
from dmt.data.splits import SplitConfig, assign
from dmt.errors import InputError


def grid(people=20, sentences=10):
    """Everybody says everything."""
    pairs = itertools.product(range(people), range(sentences))
    return [Source("mead", f"p{p}/s{s}", f"p{p}", sentence=f"s{s}") for p, s in pairs]


def by_split(sources, config):
    placed = assign(sources, config)
    return {split: [s for s in sources if placed[s.name] == split] for split in ("train", "validation", "test", None)}


def test_people_and_sentences_are_kept_apart():
    parts = by_split(grid(), SplitConfig())
    for a, b in itertools.combinations(("train", "validation", "test"), 2):
        assert parts[a] and parts[b]
        assert not {s.identity for s in parts[a]} & {s.identity for s in parts[b]}
        assert not {s.sentence for s in parts[a]} & {s.sentence for s in parts[b]}
    # 16 people x 6 sentences, and 2 x 2 each held out; the rest would join what is kept apart.
    assert {split: len(found) for split, found in parts.items()} == {"train": 96, "validation": 4, "test": 4, None: 96}


@pytest.mark.parametrize("disjoint", ["identity", "sentence"])
def test_one_of_the_two(disjoint):
    parts = by_split(grid(), SplitConfig(disjoint=disjoint))
    assert not parts[None]
    for a, b in itertools.combinations(("train", "validation", "test"), 2):
        assert not {getattr(s, disjoint) for s in parts[a]} & {getattr(s, disjoint) for s in parts[b]}


def test_sentences_nobody_wrote_down_cost_nothing():
    sources = [Source("hdtf", f"f{i}", f"p{i % 12}") for i in range(60)]
    parts = by_split(sources, SplitConfig())
    assert not parts[None] and sum(map(len, parts.values())) == 60


def test_same_split_whatever_the_order():
    sources = grid()
    assert assign(sources, SplitConfig()) == assign(sources[::-1], SplitConfig())
    assert assign(sources, SplitConfig()) != assign(sources, SplitConfig(seed=1))


def test_partitions_of_the_data_set_are_kept():
    sources = [
        Source("voxceleb", f"c{i}", f"p{i // 2}", partition="test" if i in (0, 5) else "train") for i in range(40)
    ]
    placed = assign(sources, SplitConfig())
    # Person 0 has one test clip, so both of person 0's clips are test.
    assert {n for n, s in placed.items() if s == "test"} == {"c0", "c1", "c4", "c5"}
    assert sum(s == "validation" for s in placed.values()) == 4


def test_singly():
    sources = [Source("videos", f"c{i}", "one person") for i in range(10)]
    placed = assign(sources, SplitConfig(disjoint="none"))
    assert sorted(placed.values()).count("train") == 8


def test_too_few_people():
    sources = [Source("videos", f"c{i}", "one person") for i in range(10)]
    with pytest.raises(InputError, match="too few to hold some out"):
        assign(sources, SplitConfig())
    placed = assign(sources, SplitConfig(validation=0, test=0))
    assert set(placed.values()) == {"train"}


def test_bad_requests():
    with pytest.raises(InputError, match="two clips are named"):
        assign([*grid(3, 1), *grid(3, 1)], SplitConfig())
    with pytest.raises(InputError, match="leave some to train"):
        assign(grid(), SplitConfig(validation=0.6, test=0.5))
    with pytest.raises(InputError, match="unknown way"):
        assign(grid(), SplitConfig(disjoint="language"))
