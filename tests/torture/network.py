"""Links between processes that drop and delay what passes, on command."""

import asyncio
import contextlib
import threading

_PIECE = 1 << 16


class Link:
    """One listening port; what connects to it is connected to ``target``."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.address = ("127.0.0.1", 0)
        #: Numbers of connections made, and cut.
        self.made = 0
        self.cut = 0
        self.delay = 0.0
        self.refusing = False
        self._open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, *self.address)
        self.address = self._server.sockets[0].getsockname()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            if self.refusing:
                raise ConnectionRefusedError
            there, here = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self.made += 1
        pair = (writer, here)
        self._open.add(pair)
        try:
            await asyncio.wait(
                [
                    asyncio.ensure_future(self._pass_on(reader, here)),
                    asyncio.ensure_future(self._pass_on(there, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self._open.discard(pair)
            for each in pair:
                each.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()

    async def drop(self) -> None:
        for pair in list(self._open):
            self.cut += 1
            for each in pair:
                each.transport.abort()


class Network:
    """All links, in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def link(self, target: tuple[str, int]) -> Link:
        link = Link(target)
        asyncio.run_coroutine_threadsafe(link.listen(), self._loop).result(10)
        return link

    def drop(self, link: Link) -> None:
        """Cut every connection of a link, whatever is under way."""
        asyncio.run_coroutine_threadsafe(link.drop(), self._loop).result(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
