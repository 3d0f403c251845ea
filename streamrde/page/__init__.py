"""The live page of a run: streams, samples, predictions and counters as they come, in a browser.

access   who may look: this machine, or whoever has the token
files    the page's own files, which travel in the wheel
roll     the list of streams, with what calls for a look
part     the selected stream: samples, predictions, labels
status   counters, and what is set aside
page     the paths, and the events that go to each viewer
"""

from streamrde.page.access import Access
from streamrde.page.page import Page

__all__ = ["Access", "Page"]
