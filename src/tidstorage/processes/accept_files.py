"""Accepting data files that are not what they were: a new timeline begins with them."""

from collections.abc import Collection
from dataclasses import replace

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.engines.filestorage import last_tid
from tidstorage.errors import UnknownStorage
from tidstorage.points import journal, known_files, restores_by_hand, timelines
from tidstorage.points.beside import point_path, write_beside
from tidstorage.points.entries import Timeline
from tidstorage.processes.running import refuse_running
from tidstorage.sets import history
from tidstorage.sets.directory import BackupDirectory
from tidstorage.system import clock


def accept_files(cluster: Cluster, ids: Collection[str]) -> int:
    """Let the files of these storages be the cluster's, whatever they hold.

    What was known of the former ones says nothing about these: a new timeline
    begins, from the present ends of all files.  Returns its number.

    Raises:
      UnknownStorage: the cluster has no storage of such an id.
      ClusterRunning: part of the cluster is up.
      FileUnreadable: a file that is there cannot be read.
      OSError: it cannot be written down.
    """
    if unknown := set(ids) - {storage.id for storage in cluster.storages}:
        raise UnknownStorage(
            f"the cluster has no storage {', '.join(sorted(unknown))}",
            f"It has {', '.join(storage.id for storage in cluster.storages)}.",
        )
    refuse_running(cluster)
    record = known_files.record_path(cluster)
    findings = known_files.examine(record, cluster.storages)
    known_files.refuse_blobs_without_data(
        storage for storage in cluster.storages if storage.id in ids
    )
    files = {storage.id: storage.data_file for storage in cluster.storages}
    present = {storage: path for storage, path in files.items() if path.exists()}
    of_sets = BackupDirectory(cluster.backup.directory).timelines()
    number = timelines.highest(files.values(), cluster.daemon.journal, of_sets) + 1
    vector = {
        storage: last_tid(path) if storage in present else 0
        for storage, path in files.items()
    }
    point = Point(vector, clock.now(), "restore", number)
    if all(found.state != "lost" for found in findings):
        # What the others hold, and these lack by now, is torn, and stays to be named.
        floor = restores_by_hand.find_floor(cluster, number)
        point = replace(point, vector=floor.vector)
    reason = f"the files of {', '.join(sorted(ids))} were accepted as they are"
    journal.append(cluster.daemon.journal, Timeline(point.time, number, vector, reason))
    write_beside(point, present.values())
    for storage_id in ids:
        # It may say that the file is another storage's.
        history.path_beside(files[storage_id]).unlink(missing_ok=True)
        if storage_id not in present:
            # It says what the file held that is gone.
            point_path(files[storage_id]).unlink(missing_ok=True)
    history.establish(cluster)
    known_files.note(cluster, accept=ids)
    return number
