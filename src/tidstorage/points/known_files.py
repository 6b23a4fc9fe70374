"""Is each Data.fs the file that was there before?

A disk that is not mounted, a path that was edited, a file that was emptied, replaced
or cut short: a ZEO server serves whatever is there, and makes an empty file where
there is none.  Backups of that would be good backups of nothing, and what the other
storages hold would look torn.

So what was seen of each file is noted with the TID log, at every backup and start:
the TID of its first transaction, and where a late one ends.  A file goes on from there
or is another one.  A restore leaves a point of a new timeline beside the files; what
was noted before then says nothing about them.
"""

import contextlib
import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydantic import AwareDatetime

from tidstorage.cluster.cluster import Cluster
from tidstorage.cluster.pack_files import old_file_of, pack_file_of
from tidstorage.coherence import tid
from tidstorage.engines.filestorage import DataFile, blob_files
from tidstorage.engines.filestorage.format import PACKED, START, Transaction
from tidstorage.errors import DataFileLost, FileUnreadable
from tidstorage.points.beside import point_path, read_point
from tidstorage.sets import history
from tidstorage.sets.stored import StoredTid
from tidstorage.system import clock, json_file, private_files, users
from tidstorage.system.json_file import StoredPath

#: In a blob directory, by ZODB: how its files are laid out.
BLOB_MARKER = ".layout"
#: The file in which it is noted, with the TID log.
RECORD = "data-files.json"

State = Literal["same", "new", "restored", "went back", "lost"]


class File(Protocol):
    """A storage with its Data.fs, as much of it as is asked for here."""

    @property
    def id(self) -> str:
        """Of the storage."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Ids that it had before."""

    @property
    def data_file(self) -> Path:
        """Its Data.fs."""

    @property
    def blob_directory(self) -> Path | None:
        """None without one."""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What was seen of one Data.fs.

    first_tids: of the first transaction, each that it ever had: a pack may remove it.
    last: TID of a late transaction, 0 without one.  end: where that ends, in bytes.
    timeline: its number then.  has_blobs: whether there was a blob directory.
    since: when it was first seen in that timeline; None in the first one.
    """

    __pydantic_config__ = json_file.EXACT

    path: StoredPath
    first_tids: tuple[StoredTid, ...]
    last: StoredTid
    end: int
    timeline: int
    has_blobs: bool
    since: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class _KnownFiles:
    """The file with all that was seen; storages: by their ids."""

    __pydantic_config__ = json_file.EXACT

    version: Literal[1]
    storages: dict[str, KnownFile]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one storage's file.

    state: "same", maybe with more at its end, or packed; "new" where nothing was
    known of it; "restored" by us; "went back" to what it was before, by somebody
    else's restore; "lost" where it is gone, empty, damaged or another one.
    words: what was expected and what was found, of the last two.  last_kept: of one
    that went back, the last TID that it still holds of what was known; else 0.
    """

    storage: File
    state: State
    words: str = ""
    last_kept: int = 0


def record_path(cluster: Cluster) -> Path:
    """The file in which it is noted."""
    return cluster.daemon.tid_log.with_name(RECORD)


def examine(record: Path, storages: Iterable[File]) -> list[Finding]:
    """Compare every Data.fs with what was noted of it; nothing is changed.

    record: the file in which it is noted.

    Raises: FileUnreadable: what was noted, or a Data.fs, cannot be read.
    """
    noted = _read(record)
    return [_examine(storage, _known_of(storage, noted)) for storage in storages]


def refuse_lost(findings: Iterable[Finding]) -> None:
    """Refuse files that are gone, empty, damaged, or not the ones that were there.

    Raises: DataFileLost: there are such files.
    """
    _refuse([found for found in findings if found.state == "lost"])


def refuse_changed(findings: Iterable[Finding]) -> None:
    """As `refuse_lost`, and refuse files that went back without a restore of ours.

    Raises: as `refuse_lost`.
    """
    _refuse([found for found in findings if found.state in ("lost", "went back")])


def refuse_blobs_without_data(storages: Iterable[File]) -> None:
    """Refuse a storage that has blobs and no Data.fs, whatever is known of it.

    A FileStorage that is created anew empties its blob directory.

    Raises: DataFileLost: there is such a storage.
    """
    for storage in storages:
        path, directory = storage.data_file, storage.blob_directory
        if directory is None or _is_being_packed(path):
            continue
        if path.exists() and path.stat().st_size > START:
            continue
        if next(iter(blob_files.blob_files(directory)), None) is not None:
            raise DataFileLost(
                f"storage {storage.id}: {path} is"
                f" {'empty' if path.exists() else 'not there'}, and {directory} holds"
                " blobs: a server would make a new Data.fs, and delete them all",
                "Put the Data.fs back, or mount its disk. To begin with an empty"
                " storage all the same, move the blob directory away first.",
            )


def note(
    cluster: Cluster,
    vector: Mapping[str, int] | None = None,
    *,
    accept: Collection[str] = (),
) -> None:
    """Note what each Data.fs is now; one that is not what it was stays noted so.

    vector: {storage id: TID}, up to which its transactions are known to stay; None:
    all that are there.  accept: ids of storages that are noted whatever they are.

    Raises:
      FileUnreadable: as `examine`.
      OSError: it cannot be written.
    """
    path = record_path(cluster)
    noted = _read(path)
    storages = dict(noted)
    for storage in cluster.storages:
        known = _known_of(storage, noted)
        found = _examine(storage, known)
        if storage.id in accept:
            storages.pop(storage.id, None)
            known = None
        elif found.state in ("lost", "went back"):
            continue
        for alias in storage.aliases:
            storages.pop(alias, None)
        seen = _see(storage, known, None if vector is None else vector.get(storage.id))
        if seen is not None:
            storages[storage.id] = seen
    if storages != noted:
        private_files.make_folder(path.parent)
        json_file.write(path, _KnownFiles(1, storages))
        users.give_like((path,), path.parent)


def timeline_begun(cluster: Cluster) -> datetime.datetime | None:
    """When the present timeline began, at the latest; None in the first one.

    Raises: FileUnreadable: as `examine`.
    """
    begun = [known.since for known in _read(record_path(cluster)).values()]
    return max((one for one in begun if one is not None), default=None)


def holds(data_file: Path, last: int) -> bool:
    """Whether a Data.fs has a transaction with just that TID, or needs none (0).

    Raises: FileUnreadable: where it cannot be read.
    """
    if not last:
        return True
    return find_last(data_file, last)[0] == last


def find_last(data_file: Path, until: int) -> tuple[int, str]:
    """TID and status of a file's last transaction up to a TID.

    Without one: 0, and the status of the first transaction, "" where there is none.

    Raises: FileUnreadable: where it cannot be read.
    """
    with DataFile(data_file) as opened:
        return _find(opened, until)


def _read(path: Path) -> Mapping[str, KnownFile]:
    if not path.exists():
        return {}
    hint = "Look whether every Data.fs is the right one, then remove that file."
    what = "what was seen of the data files"
    return json_file.read(path, _KnownFiles, what, hint).storages


def _known_of(storage: File, noted: Mapping[str, KnownFile]) -> KnownFile | None:
    ids = (storage.id, *storage.aliases)
    return next((noted[name] for name in ids if name in noted), None)


def _refuse(refused: Sequence[Finding]) -> None:
    if refused:
        ids = " ".join(f"--accept-new {found.storage.id}" for found in refused)
        raise DataFileLost(
            "; ".join(found.words for found in refused),
            "Is every disk mounted, and every path in cluster.toml right? If the data"
            " are lost: bin/cluster restore. If the files that are there are meant to"
            f" be: bin/cluster start {ids}; where servers run on them already:"
            " bin/cluster rebase.",
        )


def _examine(storage: File, known: KnownFile | None) -> Finding:
    timeline, covered = _read_beside(storage)
    expected = 0 if known is None else known.last
    if max(expected, covered) == 0 and not (known and known.first_tids):
        return Finding(storage, "new")
    restored = known is not None and timeline > known.timeline
    path = storage.data_file
    if not path.exists() and _is_being_packed(path):
        # A pack renames the file, then the one that it has written.
        return Finding(storage, "same")
    held = f"storage {storage.id}: {path} held transactions up to" + (
        f" {tid.to_text(max(expected, covered))}"
    )
    if not path.exists():
        return Finding(storage, "lost", f"{held}, and now it is not there")
    if path.stat().st_size <= START:
        return Finding(storage, "lost", f"{held}, and now it is empty")
    if known is None:
        return Finding(storage, "new")
    lost_blobs = _find_lost_blobs(storage, known)
    if lost_blobs is not None:
        return Finding(storage, "lost", lost_blobs)
    if restored:
        return Finding(storage, "restored")
    with DataFile(path) as opened:
        return _compare(storage, known, opened, held)


def _read_beside(storage: File) -> tuple[int, int]:
    """Timeline of the point beside the file, and the TID that it has of it; or 0."""
    # A broken one is told by whoever needs it.
    with contextlib.suppress(FileUnreadable):
        point = read_point(point_path(storage.data_file))
        ids = (storage.id, *storage.aliases)
        covered = max((point.vector.get(name, 0) for name in ids), default=0)
        return point.timeline, covered
    # The first timeline begins without a point.
    return 1, 0


def _is_being_packed(path: Path) -> bool:
    return old_file_of(path).exists() and pack_file_of(path).exists()


def _find_lost_blobs(storage: File, known: KnownFile) -> str | None:
    directory = storage.blob_directory
    if not known.has_blobs or directory is None:
        return None
    if (directory / BLOB_MARKER).is_file():
        return None
    return (
        f"storage {storage.id}: {directory} was its blob directory, and now it"
        + (" is none" if directory.exists() else " is not there")
        + f": there is no {BLOB_MARKER}"
    )


def _compare(storage: File, known: KnownFile, opened: DataFile, held: str) -> Finding:
    """Whether a file goes on from what is known of it."""
    if not known.last or _ends_at(opened, known.end, known.last):
        return Finding(storage, "same")
    last_kept, before = _find(opened, known.last)
    if last_kept == known.last:
        # At another place, as a pack leaves it.
        return Finding(storage, "same")
    first = next(opened.forward(), None)
    newest = next(opened.backward(), None)
    if first is None or newest is None:
        return Finding(storage, "lost", f"{held}, and now it has no transaction")
    is_packed = first.status == PACKED
    found = (
        f"now it holds those from {tid.to_text(first.tid)} to {tid.to_text(newest.tid)}"
    )
    is_known = first.tid in known.first_tids
    if not is_known and not (is_packed and _is_ours(storage)):
        return Finding(
            storage,
            "lost",
            f"{held}, and {found}, which began otherwise: it is another file",
        )
    if newest.tid < known.last and opened.end().reason == "torn":
        return Finding(
            storage, "lost", f"{held}, and {found}, and breaks off: it was cut short"
        )
    if before == PACKED:
        # A pack has removed that one: it was empty, or no object of it is current.
        return Finding(storage, "same")
    return Finding(
        storage,
        "went back",
        f"{held}, and {found}, without that one: it was put back to a former state",
        last_kept,
    )


def _is_ours(storage: File) -> bool:
    """Whether the file beside it says that it is this storage's: checked before."""
    return history.path_beside(storage.data_file).exists()


def _ends_at(opened: DataFile, end: int, last: int) -> bool:
    """Whether the transaction that ends there has that TID."""
    if end > opened.size() or not opened.is_boundary(end):
        return False
    with contextlib.suppress(FileUnreadable):
        return next((one.tid == last for one in opened.backward(end)), False)
    return False


def _find(opened: DataFile, last: int) -> tuple[int, str]:
    """TID and status of the last transaction up to that TID.

    Without one: 0, and the status of the first transaction, "" where there is none.
    """
    status = ""
    for one in opened.backward():
        if one.tid <= last:
            return one.tid, one.status
        status = one.status
    return 0, status


def _see(storage: File, known: KnownFile | None, until: int | None) -> KnownFile | None:
    path = storage.data_file
    if not path.exists() or path.stat().st_size <= START:
        return known
    with DataFile(path) as opened:
        first = next(opened.forward(), None)
        late = next(_backward_from(opened, until), None)
    if first is None or late is None:
        return known
    before = () if known is None else known.first_tids
    firsts = before if first.tid in before else (*before, first.tid)
    directory = storage.blob_directory
    timeline = _read_beside(storage)[0]
    since = None if known is None else known.since
    if timeline > (1 if known is None else known.timeline):
        since = clock.now()
    return KnownFile(
        path=path,
        first_tids=firsts,
        last=late.tid,
        end=late.end,
        timeline=timeline,
        has_blobs=directory is not None and (directory / BLOB_MARKER).is_file(),
        since=since,
    )


def _backward_from(opened: DataFile, until: int | None) -> Iterator[Transaction]:
    for one in opened.backward():
        if until is None or one.tid <= until:
            yield one
