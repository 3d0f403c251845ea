"""From a source through a Fleet to a sink, live or recorded."""

from streamrde.runtime.files import FileSink, FileSource
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.pipeline import run
from streamrde.runtime.replay import replay

__all__ = ["FileSink", "FileSource", "Metrics", "replay", "run"]
