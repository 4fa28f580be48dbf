"""The live connection: decode for the newest position of the cursor, and for no older one."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor

from aiohttp import WSMsgType, web
from pydantic import ValidationError

from cryoformer.errors import InputError
from cryoformer.explore.view.requests import DifferenceRequest, SliceRequest, SurfaceRequest, live_request

LARGEST_MESSAGE = 64 * 1024

Request = SurfaceRequest | DifferenceRequest | SliceRequest


class LiveConnection:
    """One browser window. Per panel the newest request waits; an answer is made by one thread for all windows."""

    def __init__(self, socket: web.WebSocketResponse, answer: Callable[[Request], bytes], executor: Executor) -> None:
        self._socket, self._answer, self._executor = socket, answer, executor
        self._waiting: dict[str, Request] = {}
        self._arrived = asyncio.Event()

    async def serve(self, request: web.Request) -> None:
        """Talk until the window is closed."""
        await self._socket.prepare(request)
        worker = asyncio.create_task(self._work())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._receive(message.data)
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker

    async def _receive(self, text: str) -> None:
        try:
            request = live_request.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            await self._socket.send_json({"kind": "error", "message": f"{where}: {first['msg']}"})
            return
        # Replaces an older request of the panel, and takes its turn.
        self._waiting[request.panel] = request
        self._arrived.set()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            panel = next(iter(self._waiting))
            request = self._waiting.pop(panel)
            if not self._waiting:
                self._arrived.clear()
            try:
                message = await loop.run_in_executor(self._executor, self._answer, request)
            except InputError as error:
                refused = {"kind": "error", "panel": panel, "serial": request.serial, "message": str(error)}
                await self._socket.send_json(refused)
            else:
                with contextlib.suppress(ConnectionError):
                    await self._socket.send_bytes(message)
