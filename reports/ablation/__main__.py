"""The whole experiment: python -m reports.ablation RUNS --english FOLDER

RUNS is a folder for corpus, encoders and runs (2 GB); whatever is finished there is not done again, so the same
command goes on after an interruption. FOLDER holds a filmed speaker's audio_16k.wav and facemotion.npy
(coefficients at 25 frames a second), looked at for validation only; without it those columns stay empty. With
--encoders CHECKPOINT speech encoders and fusion are those of a finished model; else they are trained, for hours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .latency import measure_latency
from .preparation import prepare
from .results import collect
from .runner import run_all
from .training import Workplace, save_json
from .writing import write_report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.ablation", description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--english", type=Path, help="folder with audio_16k.wav and facemotion.npy")
    parser.add_argument(
        "--encoders", type=Path, help="checkpoint of the demo preset to take speech encoders and fusion from"
    )
    parser.add_argument("--report", type=Path, default=Path("reports"), help="where ablation.md, its JSON and plots go")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--only-report", action="store_true", help="write up what is finished and train nothing")
    arguments = parser.parse_args()
    place = Workplace(arguments.runs.resolve())
    if not arguments.only_report:
        prepare(place, arguments.english, arguments.encoders)
        run_all(place, arguments.workers)
        measure_latency(place)
    results = collect(place)
    arguments.report.mkdir(parents=True, exist_ok=True)
    save_json(results, arguments.report / "ablation.json")
    write_report(results, arguments.report)


if __name__ == "__main__":
    main()
