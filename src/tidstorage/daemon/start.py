"""Starting the daemon, in the foreground or the background."""

import asyncio
import logging
import logging.handlers
import os
import signal

from tidstorage.daemon import process
from tidstorage.daemon.daemon import HANDLED_SIGNALS, Daemon
from tidstorage.daemon.listening import listen
from tidstorage.daemon.process import PidFile
from tidstorage.daemon.settings import Settings
from tidstorage.errors import DescriptionError
from tidstorage.system import users


def start(settings: Settings) -> int:
    """Run the daemon until it is told to end; the exit status.

    What can fail is done before the process goes into the background.
    """
    # Until the daemon handles them: a signal that comes early must not kill it.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
    listener = listen(settings.address, settings.port)
    users.become(settings.user, settings.group)
    try:
        _log_to(settings)
        pid_file = None if settings.pid_file is None else PidFile(settings.pid_file)
        daemon = Daemon(settings, listener)
    except OSError as error:
        raise DescriptionError(f"cannot write: {error}") from error
    if _in_foreground(settings):
        if pid_file is not None:
            pid_file.write()
    else:
        process.into_background(pid_file)
    try:
        asyncio.run(daemon.run())
    except Exception:
        # In the background nobody sees a traceback but the server log.
        logging.getLogger(__name__).critical("a defect of the daemon", exc_info=True)
        raise
    finally:
        if pid_file is not None:
            pid_file.remove()
    return 0


class _ServerLog(logging.handlers.WatchedFileHandler):
    """Its folder may be away for a while; that is told, and is no reason to end."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


def _in_foreground(settings: Settings) -> bool:
    # supervisor would take a process that leaves it for one that has ended.
    return settings.foreground or "SUPERVISOR_ENABLED" in os.environ


def _log_to(settings: Settings) -> None:
    handler: logging.Handler
    if settings.log is None:
        handler = logging.StreamHandler()
    else:
        # Ids in messages may hold any byte.
        handler = _ServerLog(settings.log, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # Of what the libraries do only troubles matter: every attempt to connect has
    # lines of its own in ZEO's log.
    for library in ("asyncio", "ZEO"):
        logging.getLogger(library).setLevel(logging.WARNING)
