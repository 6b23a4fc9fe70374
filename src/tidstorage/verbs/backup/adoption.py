"""Going on with backups that another site made: only where the data follow them."""

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.errors import OtherHistory
from tidstorage.points import known_files
from tidstorage.points.timelines import timeline_beside
from tidstorage.sets.directory import BackupDirectory


def refuse_what_does_not_follow(cluster: Cluster) -> None:
    """Refuse data that do not go on from the newest set in the backup directory.

    They do where they hold the set's point, or were restored from there: then the
    points beside them are of a timeline of their own.

    Raises:
      OtherHistory: they do not; their backups would be taken for the other site's.
      FileUnreadable: a data file, or a point beside one, cannot be read.
    """
    directory = BackupDirectory(cluster.backup.directory)
    newest = max(
        directory.manifests(),
        key=lambda made: (made.point.timeline, made.id),
        default=None,
    )
    if newest is None or timeline_beside(cluster) > newest.point.timeline:
        return
    vector = cluster.present_ids(newest.point.vector)
    for storage in cluster.storages:
        last = vector.get(storage.id, 0)
        if not known_files.holds(storage.data_file, last):
            raise OtherHistory(
                f"set {newest.id} in {directory.path} covers transaction"
                f" {tid.to_text(last)} of storage {storage.id}, which"
                f" {storage.data_file} does not hold: these data do not go on from"
                " those backups",
                "Bring them here with bin/cluster restore --adopt, over what is here;"
                " or name another directory under [backup].",
            )
