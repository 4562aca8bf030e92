"""`dmt bench`: files, schema, refusals, on a shape that takes no time."""

import importlib.util
import json
from functools import partial

import pytest

from dmt.bench import machine, plot, results, stages, tables
from dmt.bench.stage import StageRow
from dmt.bench.timing import Timing
from dmt.cli.app import run
from dmt.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of every section but the compiled threshold forms, which take seconds each to compile."""
    where = tmp_path_factory.mktemp("bench") / "out"
    sections = [flag for name in ("mask_bits", "sparse_linear", "masked_linear") for flag in ("--section", name)]
    tiny = ["--shape", "8x64", "--zeros", "0.5", "--zeros", "0.9", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "peak_gbps", partial(machine.peak_gbps, 1))  # 256 MB take seconds
        assert run(["bench", "kernels", "-o", str(where), *tiny, *sections]) == 0
    return where


def test_the_json_holds_conditions_peaks_and_rows(folder):
    content = json.loads((folder / "kernels.json").read_text())
    assert content["schema"] == results.SCHEMA and content["kind"] == "kernels"
    assert {"float32", "bfloat16", "memory"} == set(content["peaks"])
    assert content["conditions"]["threads"] == 1
    assert len(content["rows"]) == 2 + 2 * (5 + 2)
    product = next(r for r in content["rows"] if r["op"] == "sparse_linear")
    assert {"nominal_flop", "executed_flop", "moved_bytes", "times", "roles", "peak_bytes", "derived"} <= set(product)
    assert {"p20", "p50", "p80", "rounds"} == set(product["times"]["ours"])
    assert {"best_dense", "speedup", "gflops", "gbps", "share_of_peak"} == set(product["derived"])
    assert product["derived"]["speedup"] == pytest.approx(
        product["times"][product["derived"]["best_dense"]]["p50"] / product["times"]["ours"]["p50"]
    )


def test_results_survive_the_file(folder):
    first = results.read(folder / "kernels.json")
    results.write(first, folder / "again.json")
    assert results.read(folder / "again.json") == first


def test_the_page_is_made_from_the_json(folder, capsys):
    written = (folder / "kernels.md").read_text()
    assert tables.markdown(results.read(folder / "kernels.json")) == written
    assert "### sparse_linear: times faster than the best dense" in written and "not yet run on a GPU" in written
    assert run(["bench", "report", str(folder / "kernels.json"), "--short"]) == 0
    short = capsys.readouterr().out
    assert "Every measurement" in written and "Every measurement" not in short


def test_the_plot_is_a_picture_or_its_absence_is_said(folder, tmp_path, monkeypatch):
    found = results.read(folder / "kernels.json")
    if importlib.util.find_spec("matplotlib"):
        assert (folder / "kernels.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(plot, "available", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'dreamtalk-dmt\[bench\]'"):
        plot.draw(found, tmp_path / "x.png", tables.variants(found)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kernels", "--shape", "64"], "a shape is written as 1024x512"),
        (["kernels", "--section", "nothing"], "unknown section"),
        (["kernels", "--threads", "0"], "threads must lie"),
        (["pipeline", "--frames", "0"], "frames and rounds must be at least 1"),
        (["report", "missing.json"], "cannot read the results"),
    ],
)
def test_refusals_are_one_sentence(arguments, message, capsys):
    assert run(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_another_file_is_refused(tmp_path):
    other = tmp_path / "kernels.json"
    other.write_text('{"kind": "pipeline", "schema": 1}')
    with pytest.raises(InputError, match="does not hold the results of `dmt bench kernels`"):
        results.read(other)


def test_the_pipelines_page(folder, tmp_path):
    quick = {"plain": Timing(4e5, 4e5, 4e5, 3), "exact": Timing(1e5, 1e5, 1e5, 3)}
    rows = [
        StageRow(name, stage, 1.0, quick, {"plain": 8.0, "exact": 2.0}, {"plain": 10**6}, {"largest_error": 1e-7})
        for name in stages.PIPELINES
        for stage in ("denoiser, scale 1", "denoiser, scale 2", "encoder")
    ]
    conditions = json.loads((folder / "kernels.json").read_text())["conditions"]
    content = {"schema": results.SCHEMA, "kind": "pipeline", "conditions": conditions, "device": "cpu"}
    content |= {
        "stages": [row.to_json() for row in rows],
        "first_frame": {"file": 1.0, "heard": 0.5, "computed": 0.1, "keeping_up": 0.6},
    }
    assert StageRow.from_json(content["stages"][0]) == rows[0]
    results.save(content, tmp_path / "pipeline.json")
    page = stages.markdown(results.load(tmp_path / "pipeline.json", "pipeline"))
    assert "| in all, scale 1 | 0.800 | 0.200 | 0.200 | 4.00 | 4.00 |" in page
    assert "| denoiser, scale 2 | 0.400 | 0.100 |" in page and "50%" in page
