import threading
import time

import pytest

from streamrde.scoring import read_ahead as module
from streamrde.scoring.read_ahead import read_ahead


def test_items_come_in_order_and_no_more_are_made_than_there_is_room_for():
    made = []
    items = read_ahead((made.append(i) or i for i in range(20)), depth=2)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) <= 4  # one handed out, two waiting, one in hand
    assert list(items) == list(range(1, 20))


def test_an_error_comes_after_the_items_before_it():
    def broken():
        yield 1
        raise ValueError("broken off")

    items = read_ahead(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken off"):
        next(items)


def test_a_read_that_never_ends_does_not_keep_the_reader_that_stops(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    never = threading.Event()

    def pipe():
        yield 1
        never.wait()

    items = read_ahead(pipe())
    assert next(items) == 1
    items.close()
    never.set()
