"""Which files a verification has found good so far, so that the next run goes on.

A database in the backup directory.  It is a memory, no proof: where it is lost or
broken, everything is read again.
"""

import contextlib
import datetime
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tidstorage.sets.manifest import StoredFile
from tidstorage.sets.verdicts import Depth
from tidstorage.system import clock, private_files

logger = logging.getLogger(__name__)

FILE_NAME = "verified.sqlite"
#: Files between two commits: a kill costs no more than reading these again.
_UNCOMMITTED = 100
_TABLES = """
create table if not exists round (name text primary key, began text not null);
create table if not exists good (
    depth text, path text, sha256 text, at text not null,
    primary key (depth, path, sha256)
) without rowid;
"""


class Memory:
    """What a round has found good; a context manager.

    A round is all runs of one command until the first that comes to its end.
    depth: of what is found; name: of the command.
    """

    def __init__(self, directory: Path, depth: Depth, name: str) -> None:
        self._depth = depth
        self._name = name
        self._uncommitted = 0
        self._is_full = False
        self._database = _open(directory / FILE_NAME)
        self._began = clock.now().isoformat()
        with self._unless_full():
            self._database.execute(
                "insert or ignore into round values (?, ?)", (self._name, self._began)
            )
            self._database.commit()
        row = self._database.execute(
            "select began from round where name = ?", (self._name,)
        ).fetchone()
        if row:
            (self._began,) = row

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *_: object) -> None:
        with self._unless_full():
            self._database.commit()
        self._database.close()

    @contextlib.contextmanager
    def _unless_full(self) -> Iterator[None]:
        """A disk without room is no reason not to verify what is on it."""
        try:
            yield
        except sqlite3.OperationalError as error:
            self._database.rollback()
            if not self._is_full:
                logger.warning("the next run will not go on from here: %s", error)
            self._is_full = True

    def good_since(self, stored: StoredFile) -> datetime.datetime | None:
        """When a file was found good in this round; None if it was not."""
        row = self._database.execute(
            "select at from good where depth = ? and path = ? and sha256 = ?"
            " and at >= ?",
            (self._depth, stored.path, stored.sha256, self._began),
        ).fetchone()
        return datetime.datetime.fromisoformat(row[0]) if row else None

    def note(self, stored: StoredFile, at: datetime.datetime) -> None:
        """A file is good."""
        with self._unless_full():
            self._database.execute(
                "insert or replace into good values (?, ?, ?, ?)",
                (self._depth, stored.path, stored.sha256, at.isoformat()),
            )
            self._uncommitted += 1
            if self._uncommitted >= _UNCOMMITTED:
                self._database.commit()
                self._uncommitted = 0

    def end_round(self) -> None:
        """All is done: the next run of the command reads everything again."""
        with self._unless_full():
            self._database.execute("delete from round where name = ?", (self._name,))
            (first,) = self._database.execute("select min(began) from round").fetchone()
            # What no round under way can ask for any more.
            self._database.execute(
                "delete from good where at < ?", (first or clock.now().isoformat(),)
            )
            self._database.commit()


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        logger.warning("%s is begun anew: %s", path, error)
        path.unlink()
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        os.close(private_files.create(path))
    database = sqlite3.connect(path)
    try:
        database.executescript(_TABLES)
    except BaseException:
        database.close()
        raise
    return database
