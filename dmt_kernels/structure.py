"""Which elements of a matrix live and die together: the structures that a mask may have, and their groups."""

from __future__ import annotations

from typing import NamedTuple

STRUCTURES = ("element", "column", "row", "tile")
"""By element (the paper), by feature column, by row, by tile; the operators know a structure by its place here."""
ELEMENT, COLUMN, ROW, TILE = range(4)
TILE_SIDE = 64
"""Rows (flattened) and columns of one tile; smaller at the far edges."""


class Cell(NamedTuple):
    """The size of one group. Groups tile a matrix [rows, width] as a grid; cells at its far edges are cut."""

    height: int
    width: int

    def grid(self, rows: int, width: int) -> tuple[int, int]:
        """How many groups there are, downwards and across."""
        return -(-rows // self.height), -(-width // self.width)


def cell(structure: int, rows: int, width: int) -> Cell:
    """The groups of a matrix [rows, width]."""
    if structure == COLUMN:
        return Cell(max(rows, 1), 1)
    if structure == ROW:
        return Cell(1, max(width, 1))
    return Cell(TILE_SIDE, TILE_SIDE) if structure == TILE else Cell(1, 1)


def structure_of(name: str) -> int:
    """The place of `name` in STRUCTURES; ValueError for a name that is not there."""
    if name not in STRUCTURES:
        raise ValueError(f"structure must be one of {', '.join(STRUCTURES)}, got {name!r}")
    return STRUCTURES.index(name)
