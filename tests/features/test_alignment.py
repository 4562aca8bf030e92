"""Text aligned to sound, on emissions whose alignment is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmt.errors import InputError
from dmt.features import CharacterSpan, CtcHead, align_text, spread

VOCABULARY = ("<pad>", "<s>", "|", "a", "b", "c")


def emissions(path: list[int], vocabulary: int = 6, sure: float = 8.0) -> torch.Tensor:
    """Log-probabilities [R, V] that follow `path`, with noise."""
    scores = torch.randn(len(path), vocabulary, generator=torch.Generator().manual_seed(0))
    scores[torch.arange(len(path)), torch.tensor(path)] += sure
    return scores.log_softmax(-1)


def test_known_alignment_is_found():
    path = [0, 0, 3, 3, 0, 4, 0, 4, 4, 2, 0, 5, 0]
    spans = align_text(emissions(path), [3, 4, 4, 2, 5])
    assert [(s.token, s.first, s.stop) for s in spans] == [(3, 2, 4), (4, 5, 6), (4, 7, 9), (2, 9, 10), (5, 11, 12)]
    assert all(s.score > -1 for s in spans)


def test_a_token_that_was_hardly_heard_still_gets_a_place_in_order():
    path = [3, 0, 0, 0, 5]
    spans = align_text(emissions(path), [3, 4, 5])
    assert [s.token for s in spans] == [3, 4, 5]
    assert 1 <= spans[1].first < spans[1].stop <= 4
    assert spans[1].score < spans[0].score


def test_the_best_path_is_the_best_of_all():
    """Against every path of a short text, one by one."""
    from itertools import product

    scores = torch.randn(5, 4, generator=torch.Generator().manual_seed(2)).log_softmax(-1)
    tokens = [1, 2, 2]

    def collapse(path):
        merged = [p for i, p in enumerate(path) if i == 0 or p != path[i - 1]]
        return [p for p in merged if p != 0]

    def total(path):
        return sum(scores[r, p].item() for r, p in enumerate(path))

    best = max((p for p in product(range(4), repeat=5) if collapse(p) == tokens), key=total)
    spans = align_text(scores, tokens)
    rows = [0] * 5
    for span in spans:
        rows[span.first : span.stop] = [span.token] * (span.stop - span.first)
    assert tuple(rows) == best


def test_nothing_aligns_to_nothing():
    assert align_text(emissions([0, 0]), []) == []


@pytest.mark.parametrize(
    ("tokens", "words"), [([0], "blank"), ([6], "0..5"), ([-1], "0..5"), ([3] * 4, "needs at least 0.14 s")]
)
def test_impossible_texts_are_refused(tokens, words):
    with pytest.raises(InputError, match=words):
        align_text(emissions([0] * 6), tokens)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(1, 4)), min_size=1, max_size=6),
    st.integers(0, 20),
    st.integers(0, 12),
)
def test_each_row_takes_the_nearest_character(gaps, tail, hold):
    spans, row = [], 0
    for gap, length in gaps:
        spans.append(CharacterSpan(1, row + gap, row + gap + length, 0.0))
        row += gap + length
    states = torch.arange(1.0, len(spans) + 1)[:, None]
    result = spread(states, spans, row + tail, hold=hold)
    for r in range(row + tail):
        distances = [max(s.first - r, r - (s.stop - 1), 0) for s in spans]
        nearest = min(distances)
        allowed = {i + 1.0 for i, d in enumerate(distances) if d == nearest} if nearest <= hold else {0.0}
        assert result[r, 0].item() in allowed


def test_text_states_reach_the_rows_where_they_are_heard(extractor):
    characters = [
        ("A", CharacterSpan(3, 2, 4, 0.0)),
        (" ", CharacterSpan(2, 6, 7, 0.0)),
        ("b", CharacterSpan(4, 9, 10, 0.0)),
    ]
    rows = extractor.tacotron.read(characters, 40)
    assert rows.shape == (40, 24)
    assert torch.equal(rows[0], rows[3]) and not torch.equal(rows[3], rows[9])
    assert not rows[25:].any()
    rows.square().sum().backward()
    assert extractor.tacotron.from_text.weight.grad.abs().sum() > 0


def test_transcripts_go_through_the_extractor(extractor, make_voice):
    torch.manual_seed(3)
    extractor.ctc = CtcHead(32, VOCABULARY)
    wave = torch.stack([make_voice(1), make_voice(1).flip(0)])
    features = extractor(wave, ["Ab, c!", "cab"])
    assert features.acoustic.shape == (2, 49, 32) and features.prosodic.shape == (2, 49, 24)
    assert not torch.allclose(features.prosodic, extractor(wave).prosodic)
    features.prosodic.sum().backward()
    assert extractor.tacotron.from_text.weight.grad is not None
    assert all(isinstance(text, str) for text in extractor.transcribe(wave))
    with pytest.raises(InputError, match="one each"):
        extractor(wave, ["a"])


def test_a_transcript_without_a_head_or_branch_is_refused(extractor, make_voice):
    with pytest.raises(InputError, match="CTC head"):
        extractor(make_voice(1)[None], ["a"])
    extractor.ctc = CtcHead(32, VOCABULARY)
    extractor.tacotron = None
    with pytest.raises(InputError, match="no Tacotron branch"):
        extractor(make_voice(1)[None], ["a"])


def test_tokens_of_a_text():
    head = CtcHead(4, VOCABULARY)
    assert head.tokens("Ab,  c!\n") == [3, 4, 2, 5]
    with pytest.raises(InputError, match="'7'"):
        head.tokens("a 7")
    with pytest.raises(InputError, match="no letters"):
        head.tokens(" ?! ")


def test_greedy_transcript():
    head = CtcHead(4, VOCABULARY)
    assert head.transcribe(emissions([0, 3, 3, 0, 3, 2, 2, 1, 4, 5, 0])) == "aa bc"


def test_unknown_characters_of_the_branch_are_named(extractor):
    with pytest.raises(InputError, match="'z'"):
        extractor.tacotron.read([("z", CharacterSpan(1, 0, 1, 0.0))], 5)
