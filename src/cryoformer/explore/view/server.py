"""The viewer's server: a page, its data and the live connection, on this machine alone."""

import asyncio
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np
from aiohttp import WSCloseCode, web
from pydantic import BaseModel, ConfigDict, ValidationError

from cryoformer.errors import InputError
from cryoformer.explore.view.guard import Guard
from cryoformer.explore.view.live import LARGEST_MESSAGE, LiveConnection
from cryoformer.explore.view.requests import MapRequest, State
from cryoformer.explore.view.selections import Selections
from cryoformer.explore.view.session import Session
from cryoformer.explore.view.wire import pack

PAGE = {
    "/": ("index.html", "text/html"),
    "/viewer.js": ("viewer.js", "text/javascript"),
    "/viewer.css": ("viewer.css", "text/css"),
}
"""Every file that is served; none is looked up by a name that a request gives."""
LARGEST_BODY = 16 * 1024**2
"""Room for the rows of a selection of a few million particles."""

TOKEN = re.compile(r"[A-Za-z0-9_-]{16,}")
T = TypeVar("T")


class ParticleRequest(BaseModel):
    """Particles to be shown beside the density of a state."""

    model_config = ConfigDict(extra="forbid")
    rows: list[int]
    state: State


class Viewer:
    """Routes of one run. What decodes runs in one thread of its own, so the page never waits for it."""

    def __init__(self, session: Session, guard: Guard) -> None:
        self.session, self.guard = session, guard
        self.selections = Selections(session.run.path, lambda: session.source.file, session.count)
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")
        self._open: WeakSet[web.WebSocketResponse] = WeakSet()
        self._assets = {path: (files(__package__) / "static" / name).read_bytes() for path, (name, _) in PAGE.items()}

    def application(self) -> web.Application:
        """The aiohttp application, every request checked by the guard."""
        app = web.Application(middlewares=[self.guard.check, _answer_errors], client_max_size=LARGEST_BODY)
        app.router.add_get("/", self._page)
        for path in list(PAGE)[1:]:
            app.router.add_get(path, self._asset)
        app.router.add_get("/api/run", self._run)
        app.router.add_get("/api/maps/{name}", self._map)
        app.router.add_get("/api/selections", self._selections)
        app.router.add_get("/api/selections/{name}", self._load)
        app.router.add_put("/api/selections/{name}", self._save)
        app.router.add_delete("/api/selections/{name}", self._delete)
        app.router.add_post("/api/selections/{name}/export", self._export)
        app.router.add_post("/api/particles", self._particles)
        app.router.add_post("/api/volume", self._volume)
        app.router.add_post("/api/directions", self._directions)
        app.router.add_get("/api/columns", self._columns)
        app.router.add_get("/api/columns/{name}", self._column)
        app.router.add_get("/live", self._live)
        app.on_shutdown.append(self._hang_up)
        return app

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if "token" in request.query:
            # Out of the address bar and the history; the browser carries the fragment (the view) along.
            response: web.StreamResponse = web.Response(status=303, headers={"Location": "/"})
            self.guard.admit(response)
            return response
        return await self._asset(request)

    async def _asset(self, request: web.Request) -> web.Response:
        kind = PAGE[request.path][1]
        return web.Response(body=self._assets[request.path], content_type=kind, charset="utf-8")

    async def _run(self, request: web.Request) -> web.Response:
        return web.json_response(await self._in_thread(self.session.summary))

    async def _map(self, request: web.Request) -> web.Response:
        message = await self._in_thread(self.session.coordinates, request.match_info["name"])
        return web.Response(body=message, content_type="application/octet-stream")

    async def _columns(self, request: web.Request) -> web.Response:
        found = await self._in_thread(lambda: self.session.columns.all)
        listed = [{"name": name, "title": column.title} for name, column in found.items()]
        return web.json_response({"columns": listed, "problem": self.session.columns.problem})

    async def _column(self, request: web.Request) -> web.Response:
        message = await self._in_thread(self.session.column, request.match_info["name"])
        return web.Response(body=message, content_type="application/octet-stream")

    async def _volume(self, request: web.Request) -> web.Response:
        try:
            asked = MapRequest.model_validate_json(await request.read())
        except ValidationError as error:
            raise InputError(f"density to save: {error.errors()[0]['msg']}") from None
        body = await self._in_thread(self.session.map_file, asked)
        return web.Response(body=body, content_type="application/octet-stream")

    async def _directions(self, request: web.Request) -> web.Response:
        message = await self._in_thread(self.session.directions, self._rows(await request.read()))
        return web.Response(body=message, content_type="application/octet-stream")

    def _rows(self, body: bytes) -> np.ndarray:
        if len(body) % 4:
            raise InputError("a selection is sent as little-endian 32-bit row numbers")
        rows = np.frombuffer(body, dtype="<i4").astype(np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.session.count:
            raise InputError(f"expected rows from 0 to {self.session.count - 1}")
        return rows

    async def _selections(self, request: web.Request) -> web.Response:
        return web.json_response(self.selections.names())

    async def _load(self, request: web.Request) -> web.Response:
        rows = self.selections.load(request.match_info["name"]).astype(np.int32)
        return web.Response(body=pack({"kind": "selection"}, {"rows": rows}), content_type="application/octet-stream")

    async def _save(self, request: web.Request) -> web.Response:
        body = await request.read()
        if len(body) % 4:
            raise InputError("a selection is sent as little-endian 32-bit row numbers")
        self.selections.save(request.match_info["name"], np.frombuffer(body, dtype="<i4").astype(np.int64))
        return web.json_response(self.selections.names())

    async def _delete(self, request: web.Request) -> web.Response:
        self.selections.delete(request.match_info["name"])
        return web.json_response(self.selections.names())

    async def _export(self, request: web.Request) -> web.Response:
        path = await self._in_thread(self.selections.export, request.match_info["name"])
        return web.json_response({"path": str(path)})

    async def _particles(self, request: web.Request) -> web.Response:
        try:
            asked = ParticleRequest.model_validate_json(await request.read())
        except ValidationError as error:
            raise InputError(f"particles to show: {error.errors()[0]['msg']}") from None
        message = await self._in_thread(self._particle_message, asked)
        return web.Response(body=message, content_type="application/octet-stream")

    def _particle_message(self, asked: ParticleRequest) -> bytes:
        rows = np.unique(np.array(asked.rows, dtype=np.int64))
        if not len(rows) or rows[0] < 0 or rows[-1] >= self.session.count:
            raise InputError(f"particles to show: expected rows from 0 to {self.session.count - 1}, at least one")
        density = self.session.decoder.density(self.session.latent(asked.state), "full")
        images = self.session.particles
        gallery, average = images.gallery(rows, density), images.class_average(rows, density)
        header = {
            "kind": "particles",
            "rows": gallery.rows.tolist(),
            "reference": average.reference,
            "used": average.used,
            "correlation": average.correlation,
        }
        arrays = {
            "raw": gallery.raw,
            "clean": gallery.clean,
            "with_ctf": gallery.with_ctf,
            "average": average.average,
            "projection": average.projection,
        }
        return pack(header, arrays)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        connection = web.WebSocketResponse(max_msg_size=LARGEST_MESSAGE, heartbeat=30.0, compress=False)
        self._open.add(connection)
        await LiveConnection(connection, self.session.answer, self.executor).serve(request)
        return connection

    async def _hang_up(self, app: web.Application) -> None:
        """Windows that are still open must not keep the command from ending."""
        for connection in set(self._open):
            await connection.close(code=WSCloseCode.GOING_AWAY)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, *arguments)


@web.middleware
async def _answer_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Wrong input is the page's to show: status 400 with one sentence."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except InputError as error:
        return web.json_response({"error": str(error)}, status=400)


def serve(session: Session, port: int = 0, opened: Callable[[str], None] = print, token: str | None = None) -> None:
    """Serve a run on 127.0.0.1 until interrupted; ``opened`` gets the address once the server listens.

    With the port and the token of an earlier server, its windows find this one.

    Raises:
        InputError: the port is taken, or the token is one that could be guessed.
    """
    if token is not None and not TOKEN.fullmatch(token):
        raise InputError("--token: expected 16 or more letters, digits, - and _, which nobody can guess")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        raise InputError(f"port {port}: {error.strerror}; give another with --port, or none") from None
    port = listening.getsockname()[1]
    guard = Guard(port, token)
    viewer = Viewer(session, guard)

    async def announce(app: web.Application) -> None:
        listening.listen()
        opened(f"http://127.0.0.1:{port}/?token={guard.token}")

    app = viewer.application()
    app.on_startup.append(announce)
    try:
        web.run_app(app, sock=listening, print=None, access_log=None, handle_signals=True, shutdown_timeout=1.0)
    finally:
        viewer.executor.shutdown(cancel_futures=True)
