"""What a storage engine is: all that the verbs ask of the files of one storage.

An engine is a package below this one: its functions are those of `Records`, `Cutting`
and `Copies`, its modules ``index``, `lock` and ``blob_files`` those of `Index`,
`Lock` and `Blobs`, and its ``DataFile`` is a `File`.  There is one,
`tidstorage.engines.filestorage`, and a test that it keeps what is promised here.

Words that hold for all of it:

- A *TID* is an int, of this one storage; 0 stands before all.  *After* and *above* a
  TID exclude it, *up to* and *until* include it.  It need not be in the file.
- A *position* is a number of bytes from the start of the data file.  A *boundary* is
  a position where one finished transaction ends and the next begins, or may begin.
- A transaction is *finished* once nothing will change it, and nothing may take it
  back.  One that is voted, or that a crash left half written, is none: no function
  gives it out, and each says where it stands (`End`).
- A *packed* transaction (status ``p``) is one that a pack left over.  What the pack
  removed from it, or beside it, is gone: the state at a TID below it is lost.
- ``path`` and ``data_file`` name a storage by its data file.  A server may be writing
  it, unless the lock is said to be held.
- ``aliases`` is {old storage id: present id}, for what stamps name.

Everything that reads raises FileUnreadable where a file is missing, is of another
kind, or is broken in the middle.  An end that a crash tore is not broken.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from tidstorage.coherence.record import Record
from tidstorage.coherence.stamp import Stamp


class RecordPosition(NamedTuple):
    """One finished transaction of one storage, and where it lies in the file.

    tid: its TID.  position: its first byte.  end: the first byte after it.
    status: " ", "p" (packed) or "u" (undone: the engine itself ignores what it
    holds).  stamp: None where there is no readable one, and for an undone
    transaction, of which nothing counts.
    """

    tid: int
    position: int
    end: int
    status: str
    stamp: Stamp | None

    @property
    def record(self) -> Record:
        """The form that `tidstorage.coherence.cut` takes."""
        return Record(self.tid, self.stamp)


class End(NamedTuple):
    """Where the finished transactions of a file end, and what stands behind them.

    position: the first byte behind them.  size: the length of the file, in bytes.
    reason: "clean": nothing is behind; "voted": a transaction in progress, or
    one that a crash left unfinished; "torn": a part of a transaction.
    """

    position: int
    size: int
    reason: Literal["clean", "voted", "torn"]


@dataclass(frozen=True, slots=True)
class Description:
    """What a transaction says of itself.

    user, description: as the record has them; bytes that are no UTF-8 are replaced.
    commit_id: of its stamp; None where it has none.
    """

    user: str
    description: str
    commit_id: bytes | None


class Records(Protocol):
    """Reading the transactions of a storage."""

    def read_records(
        self,
        path: Path,
        after: int = 0,
        until: int | None = None,
        aliases: Mapping[str, str] = ...,
    ) -> Iterator[RecordPosition]:
        """The finished transactions with after < TID <= until, in rising order.

        until: None for all there are.  On a live file the iteration ends where the
        finished transactions end by then; what was given out stays true for ever.
        It costs the way from the nearer end of the file to ``after``.

        Raises: FileUnreadable: also where TIDs do not rise.
        """

    def read_backward(
        self, path: Path, aliases: Mapping[str, str] = ...
    ) -> Iterator[RecordPosition]:
        """All finished transactions, the last one first, read as they are asked for.

        Raises: FileUnreadable: where one is broken, once it is reached.
        """

    def last_tid(self, path: Path) -> int:
        """The TID of the last finished transaction, 0 where there is none.

        A server's ``lastTransaction()`` may be higher: one that was killed amid a
        vote reports the TID of that vote.
        """

    def position_after(self, path: Path, tid: int) -> int:
        """The boundary behind the last transaction at or below ``tid``.

        That is the first byte to drop where ``tid`` is the last one to keep.
        """

    def packed_above(self, path: Path, tid: int) -> int:
        """The TID of the last packed transaction above ``tid``, 0 where none is.

        While there is one, the file cannot be cut to ``tid``.
        """

    def packed_up_to(self, path: Path, after: int) -> int:
        """Up to which TID, inclusive, a pack may have taken away what was above one.

        0: all above ``after`` is there.  `tidstorage.coherence.tid.LAST`: to the end.
        A pack may have gone further than the last transaction that it marked.
        """

    def last_packed(self, data_file: Any, end: int | None = None) -> int:
        """The TID of the last packed transaction of an open `File`, or 0.

        end: the boundary before which to look; None: the end of the file.
        """

    def records_up_to(
        self,
        data_file: Path,
        after: int,
        until: int | None,
        aliases: Mapping[str, str],
        end: int | None = None,
    ) -> list[Record]:
        """What a storage held above ``after`` when its server's last TID was ``until``.

        Where no finished transaction has that TID, a record without a stamp stands
        for it at the end: a vote that is gone, and that others may have seen.
        """

    def describe(self, path: Path, tid: int) -> Description | None:
        """What the transaction with just that TID says; None where there is none."""


class File(Protocol):
    """A data file that is open for reading, all through one descriptor.

    So that a pack, which puts another file in its place, changes nothing here.  A
    context manager; opening it raises FileUnreadable.
    """

    path: Path
    descriptor: int

    def close(self) -> None:
        """Give the descriptor back."""

    def size(self) -> int:
        """The length of the file at this moment, in bytes."""

    def forward(self, position: int = ...) -> Iterator[Any]:
        """Finished transactions from a boundary on; default: from the first."""

    def ascending(self, position: int, after: int) -> Iterator[Any]:
        """`forward`, for whom the order of the TIDs matters.

        Raises: FileUnreadable: where a TID is not above the one before, or above
            ``after``.
        """

    def backward(self, end: int | None = None) -> Iterator[Any]:
        """Finished transactions before a boundary (None: the last), newest first."""

    def boundary_after(self, tid: int) -> int:
        """See `Records.position_after`."""

    def last_boundary(self) -> int:
        """Where the finished transactions end at this moment."""

    def what_stops_at(self, position: int) -> End | None:
        """Why no finished transaction begins at a boundary; None where one does.

        Raises: FileUnreadable: where something is there that never was a transaction.
        """

    def end(self) -> End:
        """Where the finished transactions end at this moment, and why there."""


class Cutting(Protocol):
    """Cutting a data file behind a transaction, so that nothing is lost by it."""

    def truncate(self, path: Path, last: int, keep: Path | None = None) -> int:
        """Drop all that follows the last transaction at or below the TID ``last``.

        What is unfinished at the end is dropped too, and the index is wound back
        first.  keep: where to save the dropped bytes, durably, before anything is
        changed; nothing is saved where nothing is dropped.  A second run with the
        same arguments ends what a crash interrupted.  Returns the new length.

        Raises:
          ClusterRunning: where a server has the file open
          NoSpace: where the dropped bytes find no room
          EngineFailed: where ``keep`` holds something else, or the system fails
        """

    def truncate_held(self, path: Path, last: int, keep: Path | None) -> int:
        """`truncate`, for a caller that holds the file's lock."""

    def end_before(self, dropped: Path) -> int:
        """Up to which TID nothing stood between what was kept and what was dropped.

        dropped: what `truncate` saved.  0 where it holds nothing finished.
        """


class Index(Protocol):
    """The engine's own index of a data file, which spares it a scan when it opens.

    It never reaches beyond the end of its file; one that ends earlier is right.
    """

    def path_of(self, data_file: Path) -> Path:
        """Where the engine keeps it."""

    def wind_back(self, path: Path, end: int) -> None:
        """Make it end at the boundary ``end``, or remove it; before the file is cut.

        Raises: OSError: where it cannot be written.
        """

    def complete(
        self,
        data_file: Any,
        end: int,
        former: Path | None,
        check: Callable[[], None],
    ) -> Any:
        """The index of an open `File` up to the boundary ``end``, in memory.

        former: an index of an earlier boundary to go on from, if there is one.
        check: called now and then; what it raises ends this.
        """

    def save(self, data_file: Path, index: Any, end: int) -> None:
        """Put an index beside a data file, whole and durably.

        Raises: OSError: where it cannot be written.
        """


class Lock(Protocol):
    """What keeps two processes from writing one data file.

    The process that writes holds it; that the file of the lock exists says nothing.
    """

    def path_of(self, data_file: Path) -> Path:
        """Where the engine keeps it."""

    def is_held(self, data_file: Path) -> bool:
        """Whether a living process has the data file open for writing."""

    def holder(self, data_file: Path) -> int | None:
        """The id of that process, as it has noted itself; None without one."""

    def held(self, data_file: Path) -> contextlib.AbstractContextManager[None]:
        """Keep every server away from the data file for a while.

        Raises: ClusterRunning: where a server has it.
        """


class Blobs(Protocol):
    """The blobs of a storage: a file each, of one transaction, in a directory."""

    def tid_of(self, path: Path) -> int | None:
        """The TID of the transaction that wrote the blob; None: that is no blob."""

    def blob_files(self, directory: Path) -> Iterator[tuple[Path, int]]:
        """(path, TID) of every blob that ZODB would find; not of unfinished ones.

        Links and mounts are followed.  A folder that is removed meanwhile is passed
        over.

        Raises: FileUnreadable: where ZODB would look into a folder that cannot be
            read, is a link to nothing, or leads back to a folder that it is in.
        """

    def find_links(self, directory: Path) -> list[Path]:
        """Links to folders, in which ZODB would look for blobs.

        Raises: FileUnreadable: as `blob_files`.
        """

    def is_blob_there(self, directory: Path, path: str) -> bool:
        """Whether ZODB would find the blob of that path in the blob directory.

        Raises: FileUnreadable: nobody can tell.
        """

    def find_other_folders(self, directory: Path) -> list[Path]:
        """Folders in the blob directory that ZODB never looks into, and did not make.

        Raises: FileUnreadable: the blob directory cannot be read.
        """

    def read_layout(self, directory: Path) -> str:
        """ZODB's name of how folders are nested in the blob directory.

        Raises: FileUnreadable: it is none that a storage can have.
        """

    def blob_path(self, layout: str, oid: bytes, tid: int) -> str:
        """Where ZODB keeps a blob, relative to the blob directory."""

    def key_of_path(self, layout: str, path: str) -> tuple[bytes, int] | None:
        """(oid, TID) of the blob that is kept there; None where there is none."""

    def above(self, directory: Path, last: int) -> list[Path]:
        """The blobs of transactions above the TID ``last``."""

    def move_above(self, directory: Path, last: int, kept: Path) -> None:
        """Move those to ``kept``, below the same folders, durably.

        A second run ends what a crash interrupted.

        Raises:
          NoSpace: where they find no room
          EngineFailed: where another file is there, or the system fails
        """


class Copies(Protocol):
    """Bytes of a data file or a blob, from and to open files; holes stay holes."""

    def read_range(self, source: int, start: int, length: int) -> Iterator[bytes]:
        """A stretch of the file with the descriptor ``source``, in blocks.

        Raises: OSError: where the file has fewer bytes, or as the system says.
        """

    def copy_range(self, source: int, target: int, start: int, length: int) -> None:
        """Copy a stretch to the start of the file with the descriptor ``target``.

        By the kernel where it can, which may share the blocks.

        Raises: OSError: where the source has fewer bytes, or as the system says.
        """

    def room_spared(self, source: int, length: int) -> int:
        """How many of the first ``length`` bytes a copy needs no room for, at least."""
