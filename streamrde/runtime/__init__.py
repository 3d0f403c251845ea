"""From a source through a Fleet to a sink, live or recorded."""

from streamrde.runtime.clock import Clock, ManualClock, SystemClock
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.pipeline import run
from streamrde.runtime.replay import replay
from streamrde.runtime.silence import Silence, Timekeeper

__all__ = [
    "Clock",
    "ManualClock",
    "Metrics",
    "Silence",
    "SystemClock",
    "Timekeeper",
    "replay",
    "run",
]
