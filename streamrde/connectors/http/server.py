"""One HTTP server for the source and the sink of a run: samples in, predictions out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote_to_bytes

import msgspec

from streamrde.connectors.http.options import Listening
from streamrde.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from streamrde.connectors.http.sink import HttpSink
    from streamrde.connectors.http.source import HttpSource

logger = logging.getLogger(__name__)
# Seconds of silence after which a viewer is sent a comment, so that nothing on the way takes the connection for dead.
_HEARTBEAT = 15.0
# Seconds that requests under way get at the end.
_GRACE = 5.0
_SECRET = ("authorization", "cookie")
_ACCEPTED = b'{"accepted":true}'


class WebServer:
    """Answer requests while a source, a sink or both are attached.

    `attach` starts a server, or returns the one that listens at the same place already.
    """

    _running: ClassVar[dict[tuple[asyncio.AbstractEventLoop, str, int], WebServer]] = {}

    def __init__(self, options: Listening) -> None:
        self.options = options
        self.port = options.port
        self.source: HttpSource | None = None
        self.sink: HttpSink | None = None
        self._users = 0
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None

    @classmethod
    async def attach(cls, options: Listening) -> WebServer:
        """Return a server that listens, to be left with `detach`.

        Raises:
            ParameterError: the port cannot be listened on, or is another end's with other settings.
            MissingExtraError: starlette and uvicorn are not installed.
        """
        key = (asyncio.get_running_loop(), options.host, options.port)
        server = cls._running.get(key) if options.port else None
        if server is None:
            server = cls(options)
            await server._start()
            cls._running[key] = server
        elif server.options != options:
            raise ParameterError(f"source and sink share {options} and differ in other settings: make these equal")
        server._users += 1
        return server

    async def detach(self) -> None:
        """Stop listening when nobody is attached any more."""
        self._users -= 1
        if self._users:
            return
        for key in [key for key, server in self._running.items() if server is self]:
            del self._running[key]
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving

    async def _start(self) -> None:
        try:
            import uvicorn

            from streamrde.connectors.http.protocol import protocol_with
        except ImportError:
            raise MissingExtraError("a source or sink of kind 'http'", "web") from None
        options = self.options
        tls = options.tls()
        config = uvicorn.Config(
            self._app(),
            http=protocol_with(options.timeout),
            ws="websockets-sansio",
            loop="none",
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=options.connections,
            ws_max_size=options.max_bytes,
            timeout_graceful_shutdown=round(_GRACE),
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                """Leave signals to the service."""
                yield

        listening = options.socket()
        self.port = listening.getsockname()[1]
        self._server = Server(config)
        self._serving = asyncio.create_task(self._server.serve([listening]))
        while not self._server.started:
            if self._serving.done():
                listening.close()
                await self._serving
                raise ParameterError(f"the server on {options} ended at once")
            await asyncio.sleep(0.002)

    def _app(self) -> Any:
        try:
            from starlette.applications import Starlette
            from starlette.middleware import Middleware
            from starlette.middleware.cors import CORSMiddleware
            from starlette.routing import Route, WebSocketRoute
        except ImportError:
            raise MissingExtraError("a source or sink of kind 'http'", "web") from None
        middleware = []
        if self.options.origins:
            allowed = list(self.options.origins)
            cors = Middleware(CORSMiddleware, allow_origins=allowed, allow_methods=["*"], allow_headers=["*"])
            middleware.append(cors)
        return Starlette(
            routes=[
                Route("/healthz", self._health, methods=["GET"]),
                Route("/predictions", self._stream_events, methods=["GET"]),
                WebSocketRoute("/predictions", self._stream_messages),
                Route("/{path:path}", self._take, methods=["POST", "PUT"]),
                WebSocketRoute("/{path:path}", self._take_messages),
            ],
            middleware=middleware,
        )

    async def _health(self, _request: Request) -> Response:
        return _answer(200, {"ok": True})

    async def _take(self, request: Request) -> Response:
        """Take a payload, and answer when it is safe."""
        if refusal := self.options.refusal(request.headers):
            return _refused(*refusal)
        source = self.source
        if source is None or source.is_stopping:
            return _refused(503, "no samples are taken now", retry=1)
        if source.is_full:
            return _refused(503, "too much waits to be processed", retry=1)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            return _refused(415, "the body is compressed; send it as it is")
        wanted = _wants_predictions(request)
        if wanted and self.sink is None:
            return _refused(400, "predictions are not in reach: the sink is of another kind, or of another port")
        try:
            async with asyncio.timeout(self.options.timeout):
                body = await self._body(request)
        except TimeoutError:
            return _refused(408, f"the body did not come within {self.options.timeout:g} s")
        if body is None:
            return _refused(413, f"the body is longer than {self.options.max_bytes} bytes; send several")
        kind, headers = request.headers.get("content-type", ""), _properties(request)
        try:
            done = await source.request(_topic_of(request), kind, body, headers, wanted=wanted)
        except LookupError as error:
            return _refused(415, str(error.args[0]))
        if done is None:
            return _refused(503, "it was not processed; send it again", retry=1)
        if done.reason:
            return _refused(400, done.reason)
        if done.predictions is None:
            return _answer(202, _ACCEPTED)
        return _answer(200, b'{"predictions":[%s]}' % b",".join(done.predictions))

    async def _body(self, request: Request) -> bytes | None:
        """Return the body, or None if it is too long."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self.options.max_bytes:
            return None
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.options.max_bytes:
                return None
        return bytes(body)

    async def _take_messages(self, socket: WebSocket) -> None:
        """Take each message as a payload, and answer what cannot be read, and all others if the client asks for it."""
        from starlette.websockets import WebSocketDisconnect

        if not await self._admit(socket, self.source is not None) or (source := self.source) is None:
            return
        kind, topic, headers = socket.query_params.get("type", ""), _topic_of(socket), _properties(socket)
        with source.replies(confirms=_asked(socket, "confirm")) as replies:
            sending = asyncio.create_task(replies.send(socket.send_text))
            try:
                # Nothing is read before there is room: TCP slows the client down.
                while await source.room():
                    message = await socket.receive()
                    if message["type"] == "websocket.disconnect":
                        return
                    if source.is_stopping:
                        break
                    payload = message.get("bytes")
                    payload = message["text"].encode() if payload is None else payload
                    source.take(topic, kind, payload, headers, replies.receipt())
                replies.end()
                await sending
                await socket.close(1001, "the service ends")
            except LookupError as error:
                await socket.close(1003, str(error.args[0])[:120])
            except WebSocketDisconnect:
                pass  # which leaves nothing to answer
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _stream_events(self, request: Request) -> Response:
        """Send predictions as server-sent events."""
        from starlette.responses import StreamingResponse

        if refusal := self.options.refusal(request.headers):
            return _refused(*refusal)
        if self.sink is None:
            return _refused(404, "predictions do not go here: the sink is of another kind, or of another port")
        sink, streams = self.sink, set(request.query_params.getlist("stream"))

        async def events() -> AsyncIterator[bytes]:
            with sink.viewer(streams) as viewer:
                yield b": predictions follow\n\n"
                while (rows := await viewer.next(_HEARTBEAT)) is not None:
                    if lost := viewer.take_lost():
                        yield b'event: lost\ndata: {"lost":%d}\n\n' % lost
                    yield b"".join(b"data: %s\n\n" % row for row in rows) or b": \n\n"

        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    async def _stream_messages(self, socket: WebSocket) -> None:
        """Send predictions to a WebSocket client, a message each."""
        from starlette.websockets import WebSocketDisconnect

        if not await self._admit(socket, self.sink is not None) or self.sink is None:
            return
        streams = set(socket.query_params.getlist("stream"))
        leaving = asyncio.create_task(_until_left(socket))
        try:
            with self.sink.viewer(streams) as viewer, contextlib.suppress(WebSocketDisconnect):
                leaving.add_done_callback(lambda _: viewer.close())
                while (rows := await viewer.next(_HEARTBEAT)) is not None:
                    if lost := viewer.take_lost():
                        await socket.send_text(_json({"lost": lost}).decode())
                    for row in rows:
                        await socket.send_text(row.decode())
                if not leaving.done():
                    await socket.close(1001, "the service ends")
        finally:
            leaving.cancel()

    async def _admit(self, socket: WebSocket, served: bool) -> bool:
        """Accept a WebSocket client, or refuse it."""
        from starlette.websockets import WebSocketDisconnect

        refusal = self.options.refusal(socket.headers)
        if refusal is None and not served:
            refusal = 404, "nothing is served here"
        with contextlib.suppress(WebSocketDisconnect):
            if refusal is None:
                await socket.accept()
                return True
            await socket.send_denial_response(_refused(*refusal))
        return False


async def _until_left(socket: WebSocket) -> None:
    """Read what a viewer sends, which is nothing of interest, until it goes away."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _topic_of(connection: HTTPConnection) -> bytes:
    """Return the levels of a path. One that hides a separator within stays percent-encoded, so that it is one level."""
    raw = connection.scope.get("raw_path", b"").lstrip(b"/")
    levels = [(level, unquote_to_bytes(level)) for level in raw.split(b"/")]
    return b"/".join(level if b"/" in plain or b"\0" in plain else plain for level, plain in levels)


def _properties(connection: HTTPConnection) -> dict[str, str]:
    """Return the headers, without those that prove who the client is."""
    return {name: value for name, value in connection.headers.items() if name not in _SECRET}


def _asked(connection: HTTPConnection, what: str) -> bool:
    return connection.query_params.get(what, "").lower() in ("1", "true", "yes")


def _wants_predictions(request: Request) -> bool:
    return _asked(request, "predictions") or "return=representation" in request.headers.get("prefer", "").lower()


def _refused(status: int, reason: str, *, retry: int | None = None) -> Response:
    headers = {} if retry is None else {"Retry-After": f"{retry}"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(status, {"error": reason}, headers)


def _answer(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    from starlette.responses import Response

    body = content if isinstance(content, bytes) else _json(content)
    # What a client sent may be in a reason: it must be nothing but data to whoever shows it.
    return Response(body, status, {"X-Content-Type-Options": "nosniff"} | (headers or {}), "application/json")


def _json(content: Any) -> bytes:
    return msgspec.json.encode(content)
