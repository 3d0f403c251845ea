"""A store like S3 and a web server for tests, both on 127.0.0.1."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a store, and yield the query of the URLs that name it. It has the bucket "data"."""
    server_of = pytest.importorskip("moto.server", reason="a store like S3 needs moto[server]")
    import pyarrow.fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        admin, _ = pyarrow.fs.FileSystem.from_uri(f"s3://data{query}&allow_bucket_creation=true")
        admin.create_dir("data")
        yield query
    finally:
        server.stop()


def put(files: dict[str, Path], query: str, bucket: str = "data") -> None:
    """Copy files into a bucket."""
    import pyarrow.fs

    store, _ = pyarrow.fs.FileSystem.from_uri(f"s3://{bucket}{query}")
    for key, path in files.items():
        with store.open_output_stream(f"{bucket}/{key}", compression=None) as file:
            file.write(path.read_bytes())


class _Files(SimpleHTTPRequestHandler):
    """Serve files, and ranges of them, which the standard library's does not."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"GET {self.headers.get('Range', 'all')}")
        path = Path(self.translate_path(self.path))
        if "denied" in self.path or not path.is_file():
            self.send_error(403 if "denied" in self.path else 404)
            return
        data = path.read_bytes()
        span = self.headers.get("Range", "")
        if span:
            first, _, last = span.removeprefix("bytes=").partition("-")
            end = min(int(last) if last else len(data) - 1, len(data) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
            data = data[int(first) : end + 1]
        else:
            self.send_response(200)
        self._headers(len(data), path)
        self.wfile.write(data)

    def do_HEAD(self) -> None:
        path = Path(self.translate_path(self.path))
        if "denied" in self.path or not path.is_file():
            self.send_error(403 if "denied" in self.path else 404)
            return
        self.send_response(200)
        self._headers(path.stat().st_size, path)

    def _headers(self, length: int, path: Path) -> None:
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder. Yield its address, and the requests that come."""
    asked: list[str] = []
    handler = type("Files", (_Files,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
