"""How far chunks and streams are from the whole clip at once, and how fast they are; one JSON line each.

python benchmarks/chunk_deviation.py --audio long.wav [--checkpoint model.safetensors | --preset demo]
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch import Tensor

from dmt.checkpoint import load_model
from dmt.config import preset, replace
from dmt.features import Chunking, FeatureExtractor, SpeechEncoder, TacotronEncoder
from dmt.media import read_audio
from dmt.rates import SAMPLE_RATE
from dmt.types import Features


def deviation(name: str, rows: Tensor, whole: Tensor) -> dict[str, float]:
    """Relative to the spread of the whole clip's rows [1, R, D]; cosine of the worst row."""
    difference = rows - whole
    cosine = torch.nn.functional.cosine_similarity(rows, whole, dim=-1)
    return {
        f"{name}_rms": round((difference.square().mean().sqrt() / whole.std()).item(), 5),
        f"{name}_largest": round((difference.abs().max() / whole.std()).item(), 4),
        f"{name}_least_cosine": round(cosine.min().item(), 5),
    }


def encoders(arguments: argparse.Namespace) -> FeatureExtractor:
    """From the checkpoint, or of the preset with random weights (seed 0)."""
    if arguments.checkpoint:
        return load_model(arguments.checkpoint).features.eval()
    config = preset(arguments.preset)
    torch.manual_seed(0)
    tacotron = TacotronEncoder(config.tacotron) if config.tacotron else None
    return FeatureExtractor(SpeechEncoder(replace(config.speech, pretrained=None)), tacotron).eval()


@torch.no_grad()
def at_once(extractor: FeatureExtractor, wave: Tensor) -> Features:
    """The whole clip in one call, however long it is."""
    acoustic = extractor.speech.encode(wave, extractor.speech.statistics(wave))
    tacotron = extractor.tacotron
    return Features(acoustic, tacotron and tacotron.encode(wave, tacotron.statistics(wave)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", required=True)
    parser.add_argument("--checkpoint")
    parser.add_argument("--preset", default="demo")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    extractor = encoders(arguments)
    sound = torch.from_numpy(read_audio(arguments.audio))
    whole = at_once(extractor, sound[None])
    configured = replace(extractor.chunking, whole=0)
    cuts = {"chunks": configured} | {f"latency {s} s": Chunking.low_latency(s) for s in (2.0, 1.0, 0.4)}
    for name, chunking in cuts.items():
        for fixed in (True, False):
            statistics = extractor.measure([sound]) if fixed else None
            start = time.process_time()
            pieces = list(extractor.stream([sound], chunking=chunking, statistics=statistics))
            seconds = (time.process_time() - start) / (len(sound) / SAMPLE_RATE)
            line = {"cut": name, "statistics": "whole recording" if fixed else "running"}
            line |= deviation("acoustic", torch.cat([p.acoustic for p in pieces], 1), whole.acoustic)
            if whole.prosodic is not None:
                line |= deviation("prosodic", torch.cat([p.prosodic for p in pieces], 1), whole.prosodic)
            print(json.dumps(line | {"cpu_seconds_per_second": round(seconds, 4)}))


if __name__ == "__main__":
    main()
