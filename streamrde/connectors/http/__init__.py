"""HTTP and WebSocket: a server that takes samples and shows predictions."""

from streamrde.connectors.http.config import HttpSinkConfig, HttpSourceConfig, ListenConfig
from streamrde.connectors.http.options import Listening
from streamrde.connectors.http.sink import HttpSink
from streamrde.connectors.http.source import HttpSource

__all__ = ["HttpSink", "HttpSinkConfig", "HttpSource", "HttpSourceConfig", "ListenConfig", "Listening"]
