"""The results of the last runs of each verb, which `status` shows.

``var/tidstorage/runs/<verb>.json`` holds the last run and the last good one.  It
is written when a run begins and when it ends: a run that was killed has no end there,
and its process is gone.
"""

import contextlib
import datetime
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import FileUnreadable, TidstorageError
from tidstorage.system import clock, json_file, proc
from tidstorage.system.json_file import Shape

logger = logging.getLogger(__name__)

#: Verbs that cron runs, in the order in which `status` shows them.
VERBS = ("backup", "verify", "prune", "pack")
#: Where everything of ours logs; what is said there is kept with the result.
_ALL_LOGGERS = "tidstorage"
_MOST_WARNINGS = 20
#: What Python ends with after an exception that is none of ours, and after ^C.
_DEFECT = 1
_INTERRUPTED = 130


class Result(Shape):
    """The result of one run of a verb.

    status: the exit status; None, like ended, where the run has not ended.  set,
    point: ids of what it made, or worked on.  error, hint: of what it failed with.
    warnings: what it warned of.  Times are in UTC.
    """

    verb: str
    pid: int
    host: str
    begun: datetime.datetime
    ended: datetime.datetime | None = None
    status: int | None = None
    set: str | None = None
    point: str | None = None
    error: str | None = None
    hint: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def state(self) -> Literal["good", "failed", "running", "killed", "unknown"]:
        """How the run ended; ``unknown`` where it has not, on another host."""
        if self.status is not None:
            return "failed" if self.status else "good"
        if self.host != socket.gethostname():
            return "unknown"
        begun = proc.begun(self.pid)
        slack = datetime.timedelta(seconds=1)
        if begun is None or begun > self.begun + slack:
            return "killed"
        return "running" if proc.is_alive(self.pid) else "killed"

    def to_json(self) -> dict[str, Any]:
        """As `status --json` has it."""
        return {**self.model_dump(mode="json"), "state": self.state}


class Results(Shape):
    """The results of a verb.

    last: the newest run.  good: the newest one that ended well, maybe the same.
    """

    version: Literal[1]
    last: Result
    good: Result | None = None


@dataclass
class Run:
    """What a run under way notes for its result: ids, warnings, its exit status."""

    set: str | None = None
    point: str | None = None
    status: int = 0
    warnings: list[str] = field(default_factory=list)


def folder(cluster: Cluster) -> Path:
    """The folder of the results."""
    return cluster.daemon.tid_log.with_name("runs")


def read(cluster: Cluster, verb: str) -> Results | None:
    """The results of a verb; None where it never ran.

    Raises: FileUnreadable: where nobody can read them.
    """
    path = folder(cluster) / f"{verb}.json"
    if not path.exists():
        return None
    hint = "The next run writes it again."
    return json_file.read(path, Results, "the result of a run", hint)


@contextlib.contextmanager
def record(cluster: Cluster, verb: str) -> Iterator[Run]:
    """Write down the result of what is done in the ``with`` block.

    Where it cannot be written, a warning says so, and the run goes on.
    """
    run = Run()
    begun = Result(
        verb=verb, pid=os.getpid(), host=socket.gethostname(), begun=clock.now()
    )
    good = _read_good(cluster, verb)
    _write(cluster, Results(version=1, last=begun, good=good))
    error: BaseException | None = None
    try:
        with _note_warnings(run):
            yield run
    except BaseException as raised:
        error = raised
        raise
    finally:
        last = _end(begun, run, error)
        good = last if last.status == 0 else good
        _write(cluster, Results(version=1, last=last, good=good))


def _end(begun: Result, run: Run, error: BaseException | None) -> Result:
    hint = None
    if error is None:
        status = run.status
    elif isinstance(error, TidstorageError):
        status, hint = error.exit_status, error.hint
    else:
        interrupted = isinstance(error, KeyboardInterrupt)
        status = _INTERRUPTED if interrupted else _DEFECT
    return begun.model_copy(
        update={
            "ended": clock.now(),
            "status": status,
            "set": run.set,
            "point": run.point,
            "error": error and _as_text(str(error) or type(error).__name__),
            "hint": hint and _as_text(hint),
            "warnings": tuple(map(_as_text, run.warnings[:_MOST_WARNINGS])),
        }
    )


def _as_text(words: str) -> str:
    """The words; a file name in them that is no UTF-8 with escapes, to be shown."""
    return words.encode(errors="backslashreplace").decode()


def _read_good(cluster: Cluster, verb: str) -> Result | None:
    try:
        results = read(cluster, verb)
    except FileUnreadable as error:
        logger.warning("%s", error)
        return None
    return None if results is None else results.good


def _write(cluster: Cluster, results: Results) -> None:
    path = folder(cluster) / f"{results.last.verb}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        json_file.write(path, results)
    except OSError as error:
        logger.warning("the result of this run cannot be kept: %s", error)


class _Listener(logging.Handler):
    def __init__(self, run: Run, is_alone: bool) -> None:
        super().__init__(logging.WARNING)
        self._run = run
        self._is_alone = is_alone

    def emit(self, record: logging.LogRecord) -> None:
        self._run.warnings.append(record.getMessage())
        if self._is_alone and logging.lastResort is not None:
            # Without us logging would have shown it on standard error.
            logging.lastResort.handle(record)


@contextlib.contextmanager
def _note_warnings(run: Run) -> Iterator[None]:
    """Note the warnings that are logged in the ``with`` block; they are shown too."""
    ours = logging.getLogger(_ALL_LOGGERS)
    listener = _Listener(run, is_alone=not ours.hasHandlers())
    ours.addHandler(listener)
    try:
        yield
    finally:
        ours.removeHandler(listener)
