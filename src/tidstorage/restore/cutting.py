"""Third phase of a restore: every file is cut at one coherent cut."""

from collections.abc import Mapping

from tidstorage.engines import filestorage
from tidstorage.engines.filestorage import lock
from tidstorage.errors import NotCoherent
from tidstorage.manifest import Manifest
from tidstorage.restore.plan import Policy
from tidstorage.restore.target import Target
from tidstorage.tid import Vector


def choose_cut(manifest: Manifest, policy: Policy) -> Vector:
    """{storage id: last TID to keep}: the one place that decides it.

    The set's K, or, where half commits are to be left out, what is before them.
    """
    return manifest.strict if policy == "strict" else manifest.point.vector


def cut(targets: Mapping[str, Target], vector: Vector) -> None:
    """Cut each staged file behind the last transaction to keep."""
    for storage, target in targets.items():
        last = vector[storage]
        packed = filestorage.packed_above(target.staged_data_file, last)
        if packed:
            raise NotCoherent(
                f"storage {storage} was packed above the point: what it was there"
                " is gone from the copy",
                "Choose another set (bin/cluster backups).",
            )
        filestorage.truncate(target.staged_data_file, last)
        lock.path_of(target.staged_data_file).unlink(missing_ok=True)
