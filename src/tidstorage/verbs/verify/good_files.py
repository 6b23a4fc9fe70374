"""Which files a round of verification has found good, so that the next run goes on.

They are kept in a database in the backup directory.  It saves time and proves
nothing: where it is lost or broken, everything is read again; where the disk has no
room for it, or fails, the next run does not go on from here.
"""

import contextlib
import datetime
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import StoredFile
from tidstorage.sets.verdicts import Depth
from tidstorage.system import clock, presence, private_files

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


class GoodFiles:
    """The files that a round has found good; a context manager, which closes it.

    A round is all runs of one command until the first that comes to its end.

    depth: how deeply the files were looked at.  name: of the command, the same for
    each of its runs.
    """

    def __init__(self, directory: BackupDirectory, depth: Depth, name: str) -> None:
        self.depth = depth
        self._name = name
        self._uncommitted = 0
        self._is_full = False
        self._database = _open(directory.path / FILE_NAME)
        self._began = clock.now().isoformat()
        with self._unless_full():
            self._database.execute(
                "insert or ignore into round values (?, ?)", (self._name, self._began)
            )
            self._database.commit()
        row = None
        with self._unless_full():
            row = self._database.execute(
                "select began from round where name = ?", (self._name,)
            ).fetchone()
        if row:
            (self._began,) = row

    def __enter__(self) -> "GoodFiles":
        return self

    def __exit__(self, *_: object) -> None:
        with self._unless_full():
            self._database.commit()
        self._database.close()

    @contextlib.contextmanager
    def _unless_full(self) -> Iterator[None]:
        """A disk without room, or one that fails, is no reason not to verify."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            with contextlib.suppress(sqlite3.DatabaseError):
                self._database.rollback()
            if not self._is_full:
                logger.warning("the next run will not go on from here: %s", error)
            self._is_full = True

    def good_since(self, stored: StoredFile) -> datetime.datetime | None:
        """When this round found the file good, in UTC; None where it did not."""
        row = None
        with self._unless_full():
            row = self._database.execute(
                "select at from good where depth = ? and path = ? and sha256 = ?"
                " and at >= ?",
                (self.depth, stored.path, stored.sha256, self._began),
            ).fetchone()
        return datetime.datetime.fromisoformat(row[0]) if row else None

    def note(self, stored: StoredFile, at: datetime.datetime) -> None:
        """Keep that the file was found good at that moment."""
        with self._unless_full():
            self._database.execute(
                "insert or replace into good values (?, ?, ?, ?)",
                (self.depth, stored.path, stored.sha256, at.isoformat()),
            )
            self._uncommitted += 1
            if self._uncommitted >= _UNCOMMITTED:
                self._database.commit()
                self._uncommitted = 0

    def forget(self, path: str) -> None:
        """Let no round count a file as good that was found bad, or not readable."""
        with self._unless_full():
            self._database.execute("delete from good where path = ?", (path,))
            self._database.commit()

    def end_round(self) -> None:
        """End the round: the next run of the command reads everything again."""
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
        try:
            return _connect(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("%s is begun anew: %s", path, error)
            path.unlink()
            return _connect(path)
    except (OSError, sqlite3.OperationalError) as error:
        logger.warning("%s; the next run will not go on from here: %s", path, error)
        return _initialise(sqlite3.connect(":memory:"))


def _connect(path: Path) -> sqlite3.Connection:
    if not presence.is_there(path):
        os.close(private_files.create(path))
    return _initialise(sqlite3.connect(path))


def _initialise(database: sqlite3.Connection) -> sqlite3.Connection:
    try:
        database.executescript(_TABLES)
    except BaseException:
        database.close()
        raise
    return database
