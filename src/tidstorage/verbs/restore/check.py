"""Fourth phase of a restore: what was cut is opened and judged, before the swap."""

from collections.abc import Mapping
from pathlib import Path

from ZODB.FileStorage import FileStorage

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.cut import coherent_cut, complete_packed_ends, find_unseen
from tidstorage.coherence.record import accept_half_commits
from tidstorage.coherence.tid import Vector
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import index
from tidstorage.engines.filestorage.records import records_up_to
from tidstorage.errors import NotCoherent, UnsoundFile
from tidstorage.sets.manifest import Manifest
from tidstorage.system import durable
from tidstorage.verbs.restore.cutting import Cut
from tidstorage.verbs.restore.plan import Policy
from tidstorage.verbs.restore.target import Target


def check(
    cluster: Cluster,
    manifest: Manifest,
    policy: Policy,
    files: Mapping[str, Path],
    cut: Cut,
    ends: Vector,
) -> None:
    """Refuse files that do not fit together, up to the cut.

    files: {storage id: its file}, cut or still to be cut.  ends: as
    `cutting.ends_before` gives them.

    Raises: NotCoherent: where they do not.
    """
    # What a process saw of an unfinished vote was between the two.
    until = {
        storage: max(cut.vector[storage], ends.get(storage, 0)) for storage in files
    }
    _refuse_incoherence(cluster, manifest, policy, files, cut, until)


def refuse_unsound(storage: str, target: Target) -> None:
    """Refuse a staged file that ZODB cannot open, and flush it to disk.

    Raises: NotCoherent: where ZODB cannot open it, or finds another end.
    """
    _open_with_zodb(storage, target)
    durable.sync_file(target.staged_data_file)


def _open_with_zodb(storage: str, target: Target) -> None:
    path = target.staged_data_file
    try:
        opened = FileStorage(str(path), read_only=True)
    except OSError:
        # The disk fails, which tells nothing of the file.
        raise
    except Exception as error:
        # FileStorage raises classes of its own, of struct and of pickle for
        # what is not a sound file.
        raise UnsoundFile(f"ZODB cannot open storage {storage}: {error}") from error
    try:
        last, size = tid.from_bytes(opened.lastTransaction()), opened.getSize()
        expected = filestorage.last_tid(path)
        if last != expected or size != path.stat().st_size:
            raise UnsoundFile(
                f"ZODB finds another end of storage {storage} than the cut:"
                f" {tid.to_text(last)} at byte {size} instead of"
                f" {tid.to_text(expected)} at byte {path.stat().st_size}"
            )
        if len(opened._index):
            # Of just this file, and made by reading it: the server need not.
            index.save(path, opened._index, size)
    finally:
        opened.close()


def _refuse_incoherence(
    cluster: Cluster,
    manifest: Manifest,
    policy: Policy,
    files: Mapping[str, Path],
    cut: Cut,
    until: Vector,
) -> None:
    """The coherent cut of the staged files has to be the files themselves."""
    floor = {storage: last for storage, last in cut.floor.items() if storage in files}
    held_records = {
        storage: records_up_to(
            path,
            floor.get(storage, 0),
            until[storage],
            cluster.aliases,
        )
        for storage, path in files.items()
    }
    records = accept_half_commits(held_records, cut.accepted)
    # The set's own damage was proven when it was made, by barrier or by stamps;
    # more by what has been cut off.
    dead = [
        (half.commit_id, missing)
        for half in (*manifest.point.damage, *cut.damage)
        for missing in half.missing
    ]
    packed = {
        storage: filestorage.packed_up_to(path, floor.get(storage, 0))
        for storage, path in files.items()
    }
    # A storage that was unknown then was named then; now is no time to refuse.
    result = coherent_cut(
        complete_packed_ends(records, packed),
        floor,
        retired=cluster.retired,
        partial=True,
        dead=dead,
        # The set's point was an instant: what a pack may have taken came before it.
        settled=find_unseen(records, floor, packed),
        packed=packed,
    )
    kept = result.tolerant if policy == "tolerant" else result.strict
    for storage, held in records.items():
        if held and kept[storage] < held[-1].tid:
            raise NotCoherent(
                f"the files do not fit together: storage {storage} goes on after"
                f" {tid.to_text(kept[storage])}"
            )
