"""Which blobs the data need and the blob directory has lost, seen by a backup.

To ask every record of every set would cost a scan of the whole file.  It is enough to
look at what passes by anyway:

- Records of blobs are found in the bytes that a backup copies: all of them by a full
  copy, the new ones by an increment.  So each record has been seen once, and its blob
  was then either in the blob directory, hence in the list of that set, or not.  Where
  lists begin anew without a full copy, after a restore, or nobody has looked yet, the
  file is searched from its start, once.
- What the previous set lists, or names as missing, and the blob directory has no more,
  is either not needed any more, since a pack took the record as well, or lost.  Only of
  these few the file itself is asked whether it still has the record: that holds whoever
  has packed, undone or removed what.  So it is with a blob that has become shorter.

An undo writes a record without bytes of its own, which a search cannot find: its blob
is known from the set on that had it.  ``verify --depth objects`` asks every object.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidstorage.cluster.cluster import Storage
from tidstorage.engines.filestorage import DataFile
from tidstorage.engines.filestorage.blob_files import (
    blob_path,
    is_blob_there,
    key_of_path,
    tid_of,
)
from tidstorage.engines.filestorage.blob_records import (
    BlobRecordFinder,
    find_recorded,
)
from tidstorage.engines.filestorage.copying import read_range
from tidstorage.errors import NotCoherent, SetUnreadable
from tidstorage.sets.blob_losses import BlobCopy, find_copies
from tidstorage.sets.blob_pool import StoredBlob, read_lists
from tidstorage.sets.manifest import Manifest, StoredStorage
from tidstorage.sets.renaming import rename_storages
from tidstorage.verbs.backup.copy_anew import CopyAnew
from tidstorage.verbs.backup.copying import StorageCopy
from tidstorage.verbs.backup.prepare import Preparation

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Losses:
    """What became of the blobs that were not seen, or not whole, in a blob directory.

    listed: paths of those that the list which is continued has.  copies: {path: its
    copy}, of those that only a list of another set has.  missing: paths of those of
    which there is no copy.  found: paths of those that are there after all.
    """

    listed: list[str] = field(default_factory=list)
    copies: dict[str, BlobCopy] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


class NeededBlobs:
    """The blobs of a storage that its data need, as far as this backup can know.

    copy: of its Data.fs.  layout: of its blob directory.  last: the last TID whose
    blobs belong to the set.  listed: what the lists name that are continued; None where
    they begin anew.
    """

    def __init__(
        self,
        preparation: Preparation,
        storage: Storage,
        copy: StorageCopy,
        *,
        layout: str,
        last: int,
        listed: Sequence[StoredBlob] | None,
    ) -> None:
        self._preparation = preparation
        self._storage = storage
        self._copy = copy
        self._last = last
        self._layout = layout
        self._listed = listed
        #: Of records that were seen in what was copied, or in all of the file.
        self._recorded = {
            blob_path(layout, oid, tid)
            for oid, tid in (*copy.blob_records, *self._search_the_rest())
            if tid <= last
        }
        #: Bytes of those that lists name, the continued ones or else the former ones.
        self._sizes = {blob.path: blob.size for blob in listed or ()}
        if listed is None:
            self._sizes.update(self._list_former())
        #: Of records, and of the previous set; those of the blob directory go.
        self._unseen = {*self._sizes} | self._recorded
        previous = find_previous(preparation, storage)
        self._unseen.update((previous and previous.missing_blobs) or ())
        #: Those whose file has fewer bytes than lists say.
        self._cut_off: set[str] = set()

    def _search_the_rest(self) -> Iterator[tuple[bytes, int]]:
        """(oid, TID) of the records of blobs before what was copied, if need be."""
        previous = find_previous(self._preparation, self._storage)
        if self._copy.kind == "full" or (
            self._listed is not None
            and previous is not None
            and previous.missing_blobs is not None
        ):
            return
        last = self._copy.files[-1]
        end = last.start if self._copy.written else last.end
        finder = BlobRecordFinder(0)
        with self._open_copied() as data_file:
            for block in read_range(data_file.descriptor, 0, end):
                finder.look_at(block)
            yield from finder.find(data_file)

    @contextlib.contextmanager
    def _open_copied(self) -> Iterator[DataFile]:
        """The Data.fs that was copied.

        Raises: CopyAnew: where it was replaced.
        """
        with DataFile(self._storage.data_file) as data_file:
            if os.fstat(data_file.descriptor).st_ino != self._copy.inode:
                raise CopyAnew(f"{data_file.path} was replaced during the backup")
            yield data_file

    def _list_former(self) -> Iterator[tuple[str, int]]:
        """(path, bytes) of the blobs that the previous set had in lists that end."""
        previous = find_previous(self._preparation, self._storage)
        if previous is None or not previous.blob_lists:
            return
        try:
            former = read_lists(self._preparation.directory.path, previous.blob_lists)
        except NotCoherent:
            # It is found bad for itself; what it named cannot be missed.
            return
        except SetUnreadable as error:
            logger.warning("which blobs the former set had is not known: %s", error)
            return
        for blob in former.blobs:
            if former.layout == self._layout:
                yield blob.path, blob.size
            elif key := key_of_path(former.layout, blob.path):
                yield blob_path(self._layout, *key), blob.size

    def is_listed(self, path: str) -> bool:
        """Whether the lists that are continued name the blob."""
        return self._listed is not None and path in self._sizes

    def note_seen(self, path: str, size: int) -> None:
        """The blob of that path is in the blob directory, with so many bytes.

        A blob never changes: with fewer bytes than before a part of it is lost.
        """
        if size < self._sizes.get(path, 0):
            self._cut_off.add(path)
        else:
            self._unseen.discard(path)

    def find_losses(self) -> Losses:
        """What became of those that were not seen.

        Raises:
          CopyAnew: a copy that they name is not there, or the Data.fs was replaced.
          FileUnreadable: nobody can tell whether a blob is there.
        """
        losses, lost = Losses(), []
        assert self._storage.blob_directory is not None
        for path in self._find_needed():
            # A second look, at the blob itself, as ZODB would look for it.
            if path in self._cut_off or not is_blob_there(
                self._storage.blob_directory, path
            ):
                lost.append(path)
            else:
                losses.found.append(path)
        if lost:
            self._find_copies(lost, losses)
        return losses

    def _find_needed(self) -> list[str]:
        """Of the blobs that were not seen, those of which the file has the record."""
        needed = self._unseen & self._recorded
        keys = {
            path: key
            for path in self._unseen - needed
            if (key := key_of_path(self._layout, path)) and key[1] <= self._last
        }
        if keys:
            with self._open_copied() as data_file:
                repository = self._preparation.directory.repository(self._storage.id)
                last_file = repository / self._copy.files[-1].name
                needed |= find_recorded(
                    data_file, self._copy.end, last_file.with_suffix(".index"), keys
                )
        return sorted(needed)

    def _find_copies(self, lost: Sequence[str], losses: Losses) -> None:
        copies: dict[str, BlobCopy] = {}
        for manifests, paths in self._of_this_history(lost):
            wanted = {*paths} - {*copies}
            copies |= find_copies(
                self._preparation.directory.path, manifests, self._storage.id, wanted
            )
        for path in lost:
            if self.is_listed(path):
                if path not in copies:
                    raise CopyAnew(f"the copy of blob {path} is lost, too")
                losses.listed.append(path)
            elif path in copies:
                losses.copies[path] = copies[path]
            elif path not in self._cut_off:
                # Else what is left of it is better than nothing.
                losses.missing.append(path)

    def _of_this_history(
        self, paths: Sequence[str]
    ) -> Iterator[tuple[list[Manifest], Sequence[str]]]:
        """(sets, which paths mean the same blobs in them as now), sets newest first.

        After a restore a path may come to mean another blob; not where the TID in it
        was restored.
        """
        preparation = self._preparation
        sets = [*_name_as_now(preparation)]
        timeline, floor = preparation.timeline, preparation.floor
        yield [made for made in sets if made.point.timeline == timeline], paths
        if floor is not None and floor.source == "restore":
            vector = preparation.cluster.present_ids(floor.vector)
            last = vector.get(self._storage.id, 0)
            restored = [path for path in paths if (_tid(path) or last + 1) <= last]
            yield [made for made in sets if made.point.timeline != timeline], restored


def find_previous(preparation: Preparation, storage: Storage) -> StoredStorage | None:
    """What the previous set has of a storage, whatever its name was then.

    None where there is nothing, or only of another timeline.
    """
    previous, aliases = preparation.previous, preparation.cluster.aliases
    if previous is None or previous.point.timeline != preparation.timeline:
        return None
    for stored in previous.storages:
        if aliases.get(stored.id, stored.id) == storage.id:
            return stored
    return None


def _name_as_now(preparation: Preparation) -> Iterator[Manifest]:
    for made in preparation.directory.manifests():
        try:
            yield rename_storages(made, preparation.cluster.aliases)
        except NotCoherent:
            # Two of its storages are one by now: nobody knows which is meant.
            continue


def _tid(path: str) -> int | None:
    return tid_of(Path(path))
