"""What long work says of itself where no bar can move."""

import pytest

from dmt.cli import report


def test_a_log_gets_lines_and_a_short_run_none(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 40.0, 50.0, 80.0])
    monkeypatch.setattr(report, "monotonic", lambda: next(clock))
    with report.progress() as say:
        for done in (1, 2, 3):
            say("shards", done, 9, 120.0)
        say("shards", 4, 9)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines() if " after " in line]
    assert lines == ["shards 2 of 9 after 0:00:40 0:02:00 left", "shards 4 of 9 after 0:01:20"]


def test_an_error_before_any_work_stays_alone(capsys):
    with pytest.raises(ValueError, match="no work"), report.progress():
        raise ValueError("no work")
    assert capsys.readouterr().err == ""
