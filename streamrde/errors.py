"""The tree of errors.

    StreamRDEError
    ├── ParameterError      an argument has a value that cannot work          (ValueError)
    ├── ShapeError          an array has the wrong number of channels or axes (ValueError)
    ├── SampleError         a sample's time or value cannot be used           (ValueError)
    │   ├── OrderError      its time is not after the stream's last sample
    │   └── TimeUnitError   its stream's times cannot be right in their unit
    ├── ConfigError         a TOML file: unknown key, wrong type, bad value   (ValueError)
    ├── DataError           a recorded file: missing column, text, truncated  (ValueError)
    ├── PayloadError        a message that the codec cannot read              (ValueError)
    ├── BundleError         a model file: cut, wrong version, wrong shapes    (ValueError)
    ├── SnapshotError       a snapshot: cut, of another model or version      (ValueError)
    ├── StateError          a store or checkpoint: damaged, of another run    (ValueError)
    │   └── StateFullError  its disk or quota is full
    ├── WorkerError         a worker of a scoring job or a sweep died         (RuntimeError)
    ├── BrokerError         a broker refuses, is not there, or goes away      (ConnectionError)
    └── MissingExtraError   an optional dependency is not installed           (ImportError)

Every error names the field, its value and the remedy. Attributes hold what a program may want to act on.
"""

from __future__ import annotations

import re

# A URL's query may be a signature. In a key of a store "?" is a pattern's, unless name=value follows.
_QUERY = re.compile(r"((?:https?://[^\s?'\"]*)\?|(?:\w+://[^\s?'\"]*)\?(?=\w[\w-]*=))[^\s'\"]*")
_PASSWORD = re.compile(r"(\w+://)[^\s/@'\"]*:[^\s/@'\"]*@")


def without_secrets(text: str) -> str:
    """Return a text without the queries and passwords of the URLs in it."""
    if "://" not in text:
        return text
    return _PASSWORD.sub(r"\1", _QUERY.sub(lambda match: match[1][:-1], text))


class StreamRDEError(Exception):
    """Root of every error this package raises on purpose."""


class ParameterError(StreamRDEError, ValueError):
    """An argument has a value that cannot work."""


class ShapeError(StreamRDEError, ValueError):
    """An array has the wrong number of channels or axes."""


class SampleError(StreamRDEError, ValueError):
    """A sample's time or value cannot be used.

    Attributes:
        stream: the stream's name.
        row: position of the sample in the arrays handed in.
    """

    def __init__(self, message: str, *, stream: object = "", row: int = 0) -> None:
        super().__init__(message)
        self.stream = stream
        self.row = row


class OrderError(SampleError):
    """A sample's time is not after its stream's last sample.

    Attributes:
        t: the sample's time, seconds.
        last: the time that it had to be after, seconds.
    """

    def __init__(self, message: str, *, stream: object = "", row: int = 0, t: float, last: float) -> None:
        super().__init__(message, stream=stream, row=row)
        self.t = t
        self.last = last


class TimeUnitError(SampleError):
    """A stream's times cannot be right in their unit. The message names the likely one."""


class ConfigError(StreamRDEError, ValueError):
    """A configuration file has an unknown key, a wrong type or a value that cannot work."""


class DataError(StreamRDEError, ValueError):
    """A recorded file cannot be used. Neither message nor path has a URL's query or password.

    Attributes:
        path: the file, or the pattern that matched none.
        column: the column at fault, or None.
        row: the row at fault, from 0, or None if it is not a single row.
        setting: the setting that says what to do with such data, as "faults" or "restarts", or "" if there is none.
    """

    def __init__(
        self, message: str, *, path: str, column: str | None = None, row: int | None = None, setting: str = ""
    ) -> None:
        super().__init__(without_secrets(message))
        self.path = without_secrets(path)
        self.column = column
        self.row = row
        self.setting = setting


class PayloadError(StreamRDEError, ValueError):
    """A message's payload cannot be decoded into samples."""


class BundleError(StreamRDEError, ValueError):
    """A model file is cut, of an unknown version, or its tensors do not fit its header."""


class SnapshotError(StreamRDEError, ValueError):
    """A snapshot is cut, of an unknown version, or belongs to another model."""


class StateError(StreamRDEError, ValueError):
    """A state store or a checkpoint is damaged, in use, of another version, or of another model or configuration."""


class StateFullError(StateError):
    """A state store has no room left. It keeps the checkpoint before."""


class WorkerError(StreamRDEError, RuntimeError):
    """A worker of a scoring job died repeatedly, or a worker of a sweep died. Committed results are kept."""


class BrokerError(StreamRDEError, ConnectionError):
    """A message broker is not there, refused the client, or went away.

    Attributes:
        final: trying again does not help: the broker refuses for good.
    """

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class MissingExtraError(StreamRDEError, ImportError):
    """An optional dependency is not installed. The message has the command that installs it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}': run  pip install 'streamrde[{extra}]'")
        self.extra = extra
