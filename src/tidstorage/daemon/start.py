"""Starting the daemon, in the foreground or the background."""

import asyncio
import logging
import logging.handlers
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from tidstorage.daemon import process
from tidstorage.daemon.daemon import HANDLED_SIGNALS, Daemon
from tidstorage.daemon.listening import listen
from tidstorage.daemon.process import PidFile
from tidstorage.daemon.settings import Settings
from tidstorage.errors import DescriptionError
from tidstorage.points import known_files
from tidstorage.system import users

logger = logging.getLogger(__name__)


def start(settings: Settings) -> int:
    """Run the daemon until it is told to end; the exit status.

    What can fail is done before the process goes into the background.

    Raises: DataFileLost: a Data.fs on this machine is not what was there before.
    """
    _refuse_lost_files(settings)
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
        logger.critical("a defect of the daemon", exc_info=True)
        raise
    finally:
        if pid_file is not None:
            pid_file.remove()
    return 0


@dataclass(frozen=True, slots=True)
class _LocalFile:
    """A storage whose Data.fs is on this machine; of its blobs nothing is asked."""

    id: str
    aliases: tuple[str, ...]
    data_file: Path
    blob_directory: Path | None = None


def _refuse_lost_files(settings: Settings) -> None:
    """Nothing is to be concluded from a storage that was emptied or replaced."""
    if settings.tid_log is None:
        return
    record = settings.tid_log.with_name(known_files.RECORD)
    files = [
        _LocalFile(storage.id, storage.aliases, storage.data_file)
        for storage in settings.storages
        if storage.data_file is not None
    ]
    findings = known_files.examine(record, files)
    known_files.refuse_lost(findings)
    for found in findings:
        if found.state == "went back":
            logger.warning("%s; that begins a new timeline", found.words)


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
