"""Results as a file: JSON with the conditions, the machine's peaks and every row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..atomic import atomic
from ..errors import InputError, why
from .case import Row

SCHEMA = 1


@dataclass(frozen=True)
class Results:
    """One run of the sweep. peaks: 10^9 FLOPs a second by dtype, or dtype and instruction set where that is not the
    best at hand ("float32, avx2"), and 10^9 bytes a second as "memory"."""

    conditions: dict[str, object]
    peaks: dict[str, float]
    rows: tuple[Row, ...]

    def where(self, **fields: object) -> list[Row]:
        """Rows with these field values, in their order."""
        return [row for row in self.rows if all(getattr(row, name) == value for name, value in fields.items())]

    def peak(self, dtype: str, isa: str | None) -> float | None:
        """10^9 FLOPs a second at best."""
        return self.peaks.get(f"{dtype}, {isa}", self.peaks.get(dtype))


def write(results: Results, path: Path) -> None:
    """As JSON, whole or not at all."""
    rows = [row.to_json(results.peak(row.dtype, row.isa)) for row in results.rows]
    content = {"schema": SCHEMA, "kind": "kernels", "conditions": results.conditions, "peaks": results.peaks}
    save({**content, "rows": rows}, path)


def save(content: dict[str, object], path: Path) -> None:
    """Write results as JSON; the file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        part.write_text("{\n" + ",\n".join(_lines(content)) + "\n}\n")


def _lines(content: dict[str, object]) -> Iterator[str]:
    """A line per value, and per entry of a list, so that two runs can be compared by eye."""
    for name, value in content.items():
        if isinstance(value, list):
            yield f"{json.dumps(name)}: [\n" + ",\n".join(f" {json.dumps(entry)}" for entry in value) + "\n]"
        else:
            yield f"{json.dumps(name)}: {json.dumps(value)}"


def load(path: Path, kind: str) -> dict:
    """What `save` wrote. Raises InputError for a file that is none, or of another kind or version."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the results in {path}: {why(error)}") from None
    if not isinstance(content, dict) or content.get("kind") != kind or content.get("schema") != SCHEMA:
        raise InputError(f"{path} does not hold the results of `dmt bench {kind}` of this version")
    return content


def read(path: Path) -> Results:
    """What `write` wrote; raises InputError."""
    content = load(path, "kernels")
    return Results(content["conditions"], content["peaks"], tuple(Row.from_json(row) for row in content["rows"]))
