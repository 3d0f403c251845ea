"""Parts of a header from the arguments of a caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from streamrde.errors import ParameterError
from streamrde.floats import as_size
from streamrde.inference.header import Channel


def data_channels(
    channels: int, names: Sequence[str] | None, units: Sequence[str] | None, fills: Sequence[float] | None
) -> tuple[Channel, ...]:
    """Return the header's data channels, named x1, x2, ... without names."""
    try:
        channels = as_size("channels", channels, least=2)
    except ParameterError:
        raise ParameterError(f"channels={channels!r}: time and the data channels, hence a whole number >= 2") from None
    data = channels - 1
    names = [f"x{i}" for i in range(1, channels)] if names is None else names
    units = [""] * data if units is None else units
    fills = [0.0] * data if fills is None else fills
    for key, values in (("names", names), ("units", units), ("fills", fills)):
        if len(values) != data:
            raise ParameterError(f"{key} has {len(values)} entries; channels={channels} has {data} data channels")
    return tuple(
        Channel(name=name, unit=unit, fill=float(fill)) for name, unit, fill in zip(names, units, fills, strict=True)
    )


def dtype_name(dtype: torch.dtype) -> Literal["float32", "float64"]:
    """Return the header's name of a dtype.

    Raises:
        ParameterError: a model cannot have this dtype.
    """
    if dtype == torch.float32:
        return "float32"
    if dtype == torch.float64:
        return "float64"
    raise ParameterError(f"dtype={dtype}: use torch.float32 or torch.float64")
