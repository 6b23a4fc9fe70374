"""Sets that must stay since they have the last copy of a blob that the data need.

What is asked is the manifests, which name what their blob directory had lost, and
before anything is removed the source itself: its Data.fs, whether it still has the
record, and its blob directory, whether it still has the blob.
"""

from collections.abc import Iterator, Mapping, Sequence

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.engines.filestorage import DataFile
from tidstorage.engines.filestorage.blob_files import (
    is_blob_there,
    key_of_path,
    read_layout,
)
from tidstorage.engines.filestorage.blob_records import find_recorded
from tidstorage.errors import FileUnreadable, NotCoherent
from tidstorage.sets.blob_losses import find_copies
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.sets.renaming import rename_storages


def find_last_copies(
    cluster: Cluster,
    directory: BackupDirectory,
    going: Sequence[Manifest],
    staying: Sequence[Manifest],
) -> Mapping[str, str]:
    """{id of a set that must not go: why}.

    going, staying: manifests of the sets that would go, and of all others; newest
    first.  Of several sets with a copy the newest stays.
    """
    going = [*_name_as_now(cluster, going)]
    staying = [*_name_as_now(cluster, staying)]
    reasons: dict[str, str] = {}
    for storage in cluster.storages:
        for set_id, why in _find_for_storage(directory, storage, going, staying):
            reasons.setdefault(set_id, why)
    return reasons


def _name_as_now(cluster: Cluster, sets: Sequence[Manifest]) -> Iterator[Manifest]:
    for made in sets:
        try:
            yield rename_storages(made, cluster.aliases)
        except NotCoherent:
            # Two of its storages are one by now: its own names have to do.
            yield made


def _find_for_storage(
    directory: BackupDirectory,
    storage: Storage,
    going: Sequence[Manifest],
    staying: Sequence[Manifest],
) -> Iterator[tuple[str, str]]:
    """(set id, why it must not go), as far as the blobs of one storage tell."""
    only_going = {*find_copies(directory.path, going, storage.id)}
    only_going -= {*find_copies(directory.path, staying, storage.id, only_going)}
    if not only_going:
        return
    missing = {
        path
        for made in staying
        for stored in made.storages
        if stored.id == storage.id
        for path in stored.missing_blobs or ()
    }
    needed, unknown = only_going & missing, ""
    try:
        needed |= _find_lost(directory, storage, only_going - needed, staying)
    except (FileUnreadable, OSError) as error:
        # Neither needed nor not: what nobody can tell stays.
        needed, unknown = only_going, f"nobody can tell whether it is needed: {error}"
    for made in going:
        if not needed:
            return
        if last := {*find_copies(directory.path, [made], storage.id, needed)}:
            needed -= last
            yield made.id, unknown or _describe(storage, sorted(last))


def _find_lost(
    directory: BackupDirectory,
    storage: Storage,
    paths: set[str],
    staying: Sequence[Manifest],
) -> set[str]:
    """Those of the blobs that the live data need and the blob directory has lost.

    Raises: FileUnreadable: nobody can tell.
    """
    if storage.blob_directory is None or not paths:
        return set()
    layout = read_layout(storage.blob_directory)
    lost = {
        path: key
        for path in paths
        if (key := key_of_path(layout, path))
        and not is_blob_there(storage.blob_directory, path)
    }
    if not lost:
        return set()
    former = next(
        (
            directory.path / stored.index.path
            for made in staying
            for stored in made.storages
            if stored.id == storage.id and stored.index is not None
        ),
        None,
    )
    with DataFile(storage.data_file) as data_file:
        return find_recorded(data_file, data_file.last_boundary(), former, lost)


def _describe(storage: Storage, paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
    return f"last copy of blob {paths[0]}{more} of {storage.id}, which its data need"
