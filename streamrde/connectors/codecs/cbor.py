"""CBOR payloads."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import msgspec

from streamrde.connectors.codecs.predictions import prediction_of
from streamrde.connectors.codecs.rows import RowCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES
from streamrde.errors import MissingExtraError


class CborCodec(RowCodec):
    """Decode and encode CBOR, RFC 8949, with the fields of JSON.

    Raises:
        MissingExtraError: cbor2 is not installed.
    """

    format = "cbor"
    media_types = ("application/cbor",)

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        self._encode = cbor().dumps
        super().__init__(columns, max_bytes=max_bytes)

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        return lambda payload: msgspec.convert(self._read(payload), rows)

    def _read(self, payload: bytes) -> Any:
        return decode(payload)

    @staticmethod
    def encode_prediction(row: Mapping[str, Any]) -> bytes:
        """Return a prediction as CBOR, with the fields of JSON."""
        return bytes(cbor().dumps(msgspec.to_builtins(prediction_of(row))))


def decode(payload: bytes) -> Any:
    """Return the one item of a CBOR payload.

    Raises:
        DecodeError, OverflowError, RecursionError: it is none.
        MissingExtraError: cbor2 is not installed.
    """
    module, stream = cbor(), io.BytesIO(payload)
    try:
        found = module.CBORDecoder(stream).decode()
    except (OverflowError, RecursionError):
        raise
    except Exception as error:  # cbor2 lets errors of the types that its tags build through
        raise msgspec.DecodeError(f"not CBOR: {error}") from None
    # A second item, which `loads` would leave unread without a word.
    if rest := len(payload) - stream.tell():
        raise msgspec.DecodeError(f"{rest} bytes follow its first CBOR item; send several samples as a list")
    return found


def cbor() -> ModuleType:
    """Return the module cbor2, or raise the error that says how to install it."""
    try:
        import cbor2
    except ImportError:
        raise MissingExtraError("CBOR", "cbor") from None
    return cbor2
