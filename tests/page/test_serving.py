"""Who may look, and what a viewer costs who takes nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from http import HTTPStatus

import numpy as np
import pytest
from browser import Served
from bundles import make_bundle
from web import Answer, events, request

from streamrde.config.service import ServiceConfig
from streamrde.errors import ConfigError, ParameterError
from streamrde.page import Access


def ask(served: Served, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    return asyncio.run(asyncio.wait_for(request(served.port, method, path, body, **headers), 20))


def test_the_page_is_served_beside_the_metrics_with_a_strict_policy():
    with Served(make_bundle(seed=1)) as served:
        page = ask(served, "/")
        assert page.status == HTTPStatus.OK
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert b"http://" not in page.body
        assert b"<script>" not in page.body
        assert ask(served, "/metrics").status == HTTPStatus.OK
        for path in ("/page/page.js", "/page/chart.js", "/page/page.css", "/page/icon.svg"):
            assert ask(served, path).status == HTTPStatus.OK
            assert ask(served, path, "HEAD").body == b""
        assert ask(served, "/", "POST").status == HTTPStatus.METHOD_NOT_ALLOWED
        assert ask(served, "/page/../page.py").status == HTTPStatus.NOT_FOUND


def test_a_name_that_points_at_this_machine_is_refused():
    with Served(make_bundle(seed=1)) as served:
        for path in ("/", "/page/live", "/page/stream?name=a"):
            assert ask(served, path, Host="evil.example:80").status == HTTPStatus.FORBIDDEN
        assert ask(served, "/", Host=f"localhost:{served.port}").status == HTTPStatus.OK


def test_a_token_opens_the_page_once_it_is_given():
    with Served(make_bundle(seed=1), access=Access("0.0.0.0", "open sesame")) as served:
        first = ask(served, "/", Host="sensors.example")
        assert (first.status, first.headers["location"]) == (HTTPStatus.SEE_OTHER, "/page/login")
        assert b"open sesame" not in ask(served, "/page/login").body
        assert ask(served, "/page/page.js").status == HTTPStatus.UNAUTHORIZED
        assert ask(served, "/page/live").status == HTTPStatus.UNAUTHORIZED
        wrong = ask(served, "/page/login", "POST", b"token=open+says+me")
        assert "set-cookie" not in wrong.headers
        right = ask(served, "/page/login", "POST", b"token=open+sesame")
        assert "HttpOnly; SameSite=Strict" in right.headers["set-cookie"]
        cookie = right.headers["set-cookie"].partition(";")[0]
        assert "sesame" not in cookie
        assert ask(served, "/", Cookie=cookie).status == HTTPStatus.OK
        assert ask(served, "/", Cookie="streamrde_page=\xff").status == HTTPStatus.SEE_OTHER
        assert ask(served, "/page/page.js", Authorization="Bearer open sesame").status == HTTPStatus.OK
        assert ask(served, "/page/login", "POST", b"x" * 5000).status == HTTPStatus.BAD_REQUEST


def test_others_than_this_machine_need_a_token(tmp_path):
    with pytest.raises(ParameterError, match="page_token_env"):
        ServiceConfig(port=0, page=True, host="0.0.0.0").check()
    (tmp_path / "token").write_text("t\n")
    ServiceConfig(port=0, page=True, host="0.0.0.0", page_token_file=str(tmp_path / "token")).check()
    with pytest.raises(ConfigError, match="port = 9464"):
        ServiceConfig(page=True).check()
    with pytest.raises(ConfigError, match="page = true"):
        ServiceConfig(port=0, page_token_env="X").check()


def test_a_viewer_that_takes_nothing_leaves_the_run_alone_and_sees_the_latest_afterwards():
    streams = [f"stream-{i:04d}" for i in range(1500)]
    with Served(make_bundle(seed=1)) as served:
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect(("127.0.0.1", served.port))
            stalled.sendall(b"GET /page/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            for k in range(40):
                served.push(streams, np.full(len(streams), k / 4), np.full((len(streams), 2), np.sin(k)))
            assert served.pipeline.metrics.rows == 40 * len(streams)
        with socket.create_connection(("127.0.0.1", served.port)) as viewer:
            viewer.sendall(b"GET /page/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            viewer.settimeout(20)
            seen: dict[str, int] = {}
            coming = events(viewer)
            while len(seen) < len(streams) or set(seen.values()) != {40}:
                name, found = next(coming)
                if name == "streams":
                    seen |= {row[1]: row[4] for row in found}


def fall_behind(viewer: socket.socket, served: Served) -> None:
    """Ask for the list, and take nothing of eight messages, which are more than the system keeps."""
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect(("127.0.0.1", served.port))
    viewer.sendall(b"GET /page/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    streams = [f"stream-{i:04d}" for i in range(2000)]
    begin, k = time.monotonic(), 0
    while time.monotonic() < begin + 4.0:
        served.push(streams, np.full(len(streams), k / 4), np.full((len(streams), 2), np.sin(k)))
        k += 1


@pytest.mark.slow
def test_a_viewer_that_is_behind_learns_that_the_run_has_ended():
    with socket.socket() as viewer:
        viewer.settimeout(20)
        with Served(make_bundle(seed=1)) as served:
            fall_behind(viewer, served)
            served.call(served.page._closing.set)  # as `close` does, which waits for a moment only
            assert any(name == "end" for name, _ in events(viewer))


@pytest.mark.slow
def test_a_viewer_that_takes_nothing_does_not_hold_up_the_end():
    with socket.socket() as viewer, Served(make_bundle(seed=1)) as served:  # an error if it does not end in time
        fall_behind(viewer, served)
