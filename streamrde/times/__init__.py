"""Forms and units of times, and checks for times that cannot be right."""

from streamrde.times.arguments import as_time, as_times
from streamrde.times.forms import TimeForm, zero_seconds
from streamrde.times.texts import NotATimeError
from streamrde.times.units import UNITS, to_seconds

__all__ = ["UNITS", "NotATimeError", "TimeForm", "as_time", "as_times", "to_seconds", "zero_seconds"]
