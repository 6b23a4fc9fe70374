"""Lets a server's announcements wait in the socket until many can be read at once.

ZEO has no call for that, so `ZeoClient.io_transport` goes through what a ClientStorage
is made of.  Only the cost rests on it: where another ZEO is made otherwise, every
announcement is read as it comes.
"""

import functools
import logging

from tidstorage.zeo.client import ZeoClient

logger = logging.getLogger(__name__)


class Throttle:
    """Decides when the socket of one client is read.

    It is read all the time until ``disallow`` is called for the first time.
    """

    def __init__(self, client: ZeoClient) -> None:
        self._client = client
        self._allowed = True
        self._known = True

    def pause(self) -> None:
        """In ZEO's thread: read no more, unless the observer waits for an answer."""
        if self._known and not self._allowed:
            try:
                transport = self._client.io_transport()
                if transport is not None and transport.is_reading():
                    transport.pause_reading()
            except AttributeError as error:
                self._give_up(error)

    def allow(self) -> None:
        """In the observer's thread, before it asks anything: read all the time."""
        try:
            # In ZEO's thread, or a pause could come after.
            loop = self._client.io_loop()
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._resume)
        except AttributeError as error:
            self._give_up(error)

    def disallow(self) -> None:
        """In the observer's thread, when it has its answers: pauses count again."""
        self._allowed = False

    def _resume(self) -> None:
        self._allowed = True
        try:
            transport = self._client.io_transport()
            if transport is not None:
                transport.resume_reading()
        except AttributeError as error:
            self._give_up(error)

    def _give_up(self, error: AttributeError) -> None:
        # What a pause goes through a resume has gone through before.
        self._known = False
        _say_once(str(error))


@functools.cache
def _say_once(what: str) -> None:
    logger.warning("this ZEO is not as we know it, and costs more to observe: %s", what)
