"""A new site that finds the backups of a former one: restore, or begin anew?

An empty cluster that was started there would be backed up into the history of the
former one, and later be offered as what that was at the time.
"""

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import NotDecided
from tidstorage.sets import history, marker
from tidstorage.sets.directory import BackupDirectory
from tidstorage.system.clock import local


def refuse_undecided(cluster: Cluster) -> None:
    """Refuse to begin beside the backups of a former site, unless somebody said so.

    Raises:
      NotDecided: there are such backups, and no data here.
      FileUnreadable: what tells it cannot be read.
    """
    if history.read(cluster) is not None or any(
        storage.data_file.exists() and storage.data_file.stat().st_size
        for storage in cluster.storages
    ):
        return
    directory = BackupDirectory(cluster.backup.directory)
    newest = next(iter(directory.manifests()), None)
    if newest is None:
        return
    content = marker.read_in(directory.path)
    whose = f" of {content.site}" if content and content.site else ""
    raise NotDecided(
        f"there are no data here, and {directory.path} holds"
        f" {len(directory.set_ids())} backup set(s) of cluster {newest.cluster}{whose},"
        f" the newest of {local(newest.point.time)}: restore it, or begin anew?",
        "To restore: bin/cluster restore, bin/cluster start, and, so that this machine"
        " backs up there from now on, bin/cluster backup --adopt. To begin anew:"
        " bin/cluster init --begin-anew, and name another directory under [backup].",
    )
