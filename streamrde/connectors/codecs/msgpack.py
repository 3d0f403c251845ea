"""MessagePack payloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamrde.connectors.codecs.predictions import prediction_of
from streamrde.connectors.codecs.rows import RowCodec


class MessagePackCodec(RowCodec):
    """Decode and encode MessagePack with the fields of JSON: half the bytes, and twice as fast."""

    format = "msgpack"
    media_types = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
    _encode = staticmethod(msgspec.msgpack.encode)

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        return msgspec.msgpack.Decoder(rows).decode

    def _read(self, payload: bytes) -> Any:
        return msgspec.msgpack.decode(payload)

    @staticmethod
    def encode_prediction(row: Mapping[str, Any]) -> bytes:
        """Return a prediction as MessagePack, with the fields of JSON."""
        return msgspec.msgpack.encode(prediction_of(row))
