"""JSON payloads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamrde.connectors.codecs.predictions import encode_prediction
from streamrde.connectors.codecs.refusals import described
from streamrde.connectors.codecs.rows import RowCodec, readable


class JsonCodec(RowCodec):
    """Decode and encode JSON. See `RowCodec` for what a payload may be.

    What C programs and Python's json module add to it is read too: a NUL at the end, a mark of the byte order at the
    beginning, and the word NaN for a channel that was not observed.
    """

    format = "json"
    media_types = ("application/json", "text/json")
    _encode = staticmethod(msgspec.json.encode)

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        return msgspec.json.Decoder(rows).decode

    def _read(self, payload: bytes) -> Any:
        text = payload.rstrip(b"\0 \t\r\n").removeprefix(b"\xef\xbb\xbf")
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            if b"NaN" in text:
                return json.loads(text.decode())
            if self.shape.bare:
                return text.decode().strip()  # a bare value may be a word: on, unavailable
            raise

    def _hint(self, payload: bytes) -> str:
        text = readable(payload)
        if text.startswith(("{", "[")) and (word := re.search(r"[:,[]\s*([-+]?(?:nan|inf\w*))\b", text, re.IGNORECASE)):
            return f"; JSON has no {word[1]}: send null where a channel was not observed"
        return f"; it is {described(text)}" if text else ""

    @staticmethod
    def encode_prediction(row: Mapping[str, Any]) -> bytes:
        """See `predictions.encode_prediction`."""
        return encode_prediction(row)
