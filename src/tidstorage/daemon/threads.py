"""Between the daemon's event loop and the threads that work for it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T]) -> T:
    """Run the function in a thread of its own, and give its result.

    As asyncio.to_thread, but the end of the daemon does not wait for it.  What it
    raises is raised here.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(cast(T, result))
        else:
            future.set_exception(error)

    def work() -> None:
        try:
            result = function()
        except Exception as error:
            # Whatever it is, it is raised where the result is awaited.
            hand_over(loop, settle, None, error)
        else:
            hand_over(loop, settle, result, None)

    threading.Thread(target=work, daemon=True).start()
    return await future


def hand_over(
    loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object
) -> None:
    """From any thread: have the loop call the function soon; returns at once."""
    # Once the daemon has ended the loop takes nothing: observers notice later.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
