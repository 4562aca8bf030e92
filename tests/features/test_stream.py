"""Streams of blocks: the same rows as at once, in flat memory, early where asked."""

import numpy as np
import pytest
import torch

from dmt.config import replace
from dmt.errors import InputError
from dmt.features import Chunking, FeatureExtractor, SpeechEncoder, TacotronEncoder, rows_for
from dmt.features.stream import Heard


def blocks_of(wave: torch.Tensor, sizes: list[int]):
    position, turn = 0, 0
    while position < len(wave):
        yield wave[position : position + sizes[turn % len(sizes)]].numpy()
        position += sizes[turn % len(sizes)]
        turn += 1


def collected(pieces):
    pieces = list(pieces)
    return torch.cat([p.acoustic for p in pieces], 1), torch.cat([p.prosodic for p in pieces], 1)


@pytest.mark.parametrize("samples", [100, 399, 400, 1000, 16000, 40001])
@pytest.mark.parametrize("sizes", [[160], [0, 1000, 7], [100_000]])
def test_short_stream_equals_the_whole_clip(extractor, make_voice, samples, sizes):
    wave = make_voice(3)[:samples]
    with torch.no_grad():
        expected = extractor(wave[None])
    acoustic, prosodic = collected(extractor.stream(blocks_of(wave, sizes)))
    assert acoustic.shape[1] == rows_for(samples)
    torch.testing.assert_close(acoustic, expected.acoustic, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prosodic, expected.prosodic, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("chunking", [None, Chunking.low_latency(0.5), Chunking(0, 7, 13, 3), Chunking(100, 1, 0, 0)])
def test_blocks_do_not_matter(extractor, make_voice, chunking):
    wave = make_voice(4.3)
    one = collected(extractor.stream(blocks_of(wave, [len(wave)]), chunking=chunking))
    for sizes in ([3000], [1, 5000, 50_000]):
        other = collected(extractor.stream(blocks_of(wave, sizes), chunking=chunking))
        assert torch.equal(other[0], one[0]) and torch.equal(other[1], one[1])
    assert one[0].shape[1] == one[1].shape[1] == rows_for(len(wave))


def test_long_stream_with_measured_statistics_equals_forward(extractor, make_voice):
    """Loud after quiet: running statistics cannot know, measured ones do."""
    wave = make_voice(8) * torch.cat([torch.full((64000,), 0.1), torch.ones(64000)])
    with torch.no_grad():
        expected = extractor(wave[None])
    statistics = extractor.measure(blocks_of(wave, [4000]))
    acoustic, prosodic = collected(extractor.stream(blocks_of(wave, [1234]), statistics=statistics))
    torch.testing.assert_close(acoustic, expected.acoustic, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(prosodic, expected.prosodic, atol=1e-4, rtol=1e-3)
    running, _ = collected(extractor.stream(blocks_of(wave, [1234])))
    assert (running - expected.acoustic).abs().max() > 0.05


def test_long_stream_is_close_to_the_whole_clip(extractor, make_voice):
    """Running statistics and chunks against the whole clip at once: the bound the documentation states."""
    wave = make_voice(12)
    acoustic, prosodic = collected(extractor.stream(blocks_of(wave, [8000])))
    speech = extractor.speech
    with torch.no_grad():
        whole = speech.encode(wave[None], speech.statistics(wave[None]))
        mel = extractor.tacotron(wave[None], rows_for(len(wave)))
    assert acoustic.shape == whole.shape
    assert (acoustic - whole).square().mean().sqrt() / whole.std() < 0.1
    assert (prosodic - mel).square().mean().sqrt() / mel.std() < 0.05


def test_tacotron_chunks_equal_the_whole(extractor, make_voice):
    """With one second of context the BiLSTM has forgotten where it was cut."""
    from dmt.features.chunks import encode_spans

    wave = make_voice(8)[None]
    statistics = extractor.tacotron.statistics(wave)
    with torch.no_grad():
        whole = extractor.tacotron.encode(wave, statistics)
        parts = encode_spans(wave, Chunking(0, 50, 50, 50), lambda cut: extractor.tacotron.encode(cut, statistics))
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


def test_low_latency_gives_rows_in_time(extractor, make_voice):
    """Rows come at most 0.5 s after their sound, long before the audio ends."""
    wave, fed = make_voice(4), 0

    def feeding():
        nonlocal fed
        for block in blocks_of(wave, [320]):
            fed += len(block)
            yield block

    rows, late = 0, []
    for piece in extractor.stream(feeding(), chunking=Chunking.low_latency(0.5)):
        late.append((fed - 320 * rows) / 16000)
        rows += piece.acoustic.shape[1]
    assert rows == rows_for(len(wave))
    assert len(late) > 10
    assert max(late) <= 0.5 + 0.06  # and the block, the row's own 25 ms and one row more


def test_start_of_a_low_latency_stream_is_not_blown_up(extractor, make_voice):
    """Half a second of faint noise before the voice is not taken for speech."""
    generator = torch.Generator().manual_seed(0)
    noise = 0.0005 * torch.randn(8000, generator=generator)
    wave = torch.cat([noise, make_voice(6)])
    levels = []
    encode = extractor.speech.encode
    extractor.speech.encode = lambda cut, statistics: (
        levels.append(statistics.normalise(cut).std().item()) or encode(cut, statistics)
    )
    list(extractor.stream(blocks_of(wave, [800]), chunking=Chunking.low_latency(0.4)))
    assert levels[0] < 0.1
    assert 0.5 < levels[-1] < 2


def test_an_hour_needs_no_more_memory_than_a_minute(small_config):
    """Samples held at any time stay below the clip and a chunk; checked on ten minutes of a tiny model."""
    torch.manual_seed(0)
    config = replace(small_config, layers=1, conv_width=4, width=8, heads=2, feed_forward=8, whole_clip_seconds=10.0)
    speech = SpeechEncoder(replace(config, chunk_seconds=10.0)).eval()
    tiny = FeatureExtractor(speech)
    held, rows = [], 0
    from dmt.features import extractor as module

    class Watched(Heard):
        def push(self, block):
            super().push(block)
            held.append(self.held)

    original, module.Heard = module.Heard, Watched
    try:
        for piece in tiny.stream(np.zeros(8000, np.float32) for _ in range(1200)):
            assert piece.prosodic is None
            rows += piece.acoustic.shape[1]
    finally:
        module.Heard = original
    assert rows == rows_for(1200 * 8000)
    assert max(held) < 16000 * (10 + 2 + 2)


def test_stream_leaves_gradients_alone(extractor, make_voice):
    for piece in extractor.stream([make_voice(1)]):
        assert not piece.acoustic.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ([], "no samples"),
        ([np.zeros(0, np.float32)], "no samples"),
        ([np.zeros(500, np.float32), np.array([np.nan], np.float32)], "NaN"),
        ([np.zeros((2, 500), np.float32)], "shape"),
    ],
)
def test_bad_streams_are_refused(extractor, blocks, words):
    with pytest.raises(InputError, match=words):
        list(extractor.stream(blocks))
    with pytest.raises(InputError, match=words):
        extractor.measure(blocks)


@pytest.mark.parametrize("rows", [0, 1, 5, 99, 100, 101, 112, 113, 250])
def test_spans_cover_every_row_once(rows):
    chunking = Chunking(whole=100, core=7, before=4, after=5)
    spans = list(chunking.spans(rows))
    assert [r for s in spans for r in range(s.first, s.stop)] == list(range(rows))
    for span in spans:
        assert span.read_first == max(0, span.first - 4)
        assert span.read_stop == min(rows, span.stop + 5)
        assert rows <= 100 or span.stop - span.first <= 12
    assert len(spans) == 1 or rows > 100 or rows == 0


def test_chunks_without_rows_are_refused():
    with pytest.raises(InputError, match="at least one row"):
        Chunking(0, 0, 1, 1)


def test_plain_model_has_no_prosodic_rows(extractor, make_voice):
    plain = FeatureExtractor(extractor.speech)
    assert plain(make_voice(1)[None]).prosodic is None
    assert isinstance(extractor.tacotron, TacotronEncoder)
