"""The header of a model from what a caller gives, checked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamrde.errors import ParameterError
from streamrde.floats import as_plain, as_size
from streamrde.inference.header import Channel, Header


def data_channels(
    channels: int, names: Sequence[str] | None, units: Sequence[str] | None, fills: Sequence[float] | None
) -> tuple[Channel, ...]:
    """The header's data channels."""
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


def checked(header: Header) -> Header:
    """The header, if a file with it could be read again."""
    try:
        header = msgspec.convert(msgspec.to_builtins(header, enc_hook=as_plain), Header)
    except msgspec.ValidationError as error:
        raise ParameterError(f"{error}") from None
    header.check()
    return header
