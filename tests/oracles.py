"""Reads the reference results of signatory and torchcde (fixtures/oracles/make_oracles.py made them)."""

from __future__ import annotations

import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "fixtures" / "oracles"


def cases(name: str) -> list[dict[str, np.ndarray]]:
    """The cases of one file, each a dictionary of arrays."""
    found: dict[int, dict[str, np.ndarray]] = {}
    with np.load(FOLDER / f"{name}.npz") as archive:
        for key in archive.files:
            case, field = key.split("/")
            found.setdefault(int(case.removeprefix("case_")), {})[field] = archive[key]
    return [found[i] for i in sorted(found)]
