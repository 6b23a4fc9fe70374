"""Accepting the present state of a cluster, whatever is torn in it, as a new floor."""

from collections.abc import Sequence
from dataclasses import dataclass

from ZEO.Exceptions import ClientDisconnected

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.errors import InterruptedRestore, NotConnected
from tidstorage.operation import lock
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.points import floors, journal, known_files, server_ends, timelines
from tidstorage.points.beside import write_beside
from tidstorage.points.entries import Floor, Struck, Timeline
from tidstorage.points.timelines import known_timeline
from tidstorage.sets import history
from tidstorage.sets.directory import BackupDirectory
from tidstorage.verbs.damage import findings
from tidstorage.verbs.damage.accept import acceptances
from tidstorage.verbs.damage.findings import Finding
from tidstorage.verbs.damage.looking_again import (
    SecondLook,
    connected,
    look_again,
    strikes,
)

_CONNECT_SECONDS = 10
REASON = "the state as it was then was accepted"


@dataclass(frozen=True, slots=True)
class RebasePlan:
    """floor: the state at an instant at which nothing was under way.

    accepted: half commits in it that nobody had accepted before.  unexamined: why
    the files could not be searched for more of them.  struck: what was called half
    commits, and proves to be whole.
    """

    floor: Point
    accepted: Sequence[Finding]
    unexamined: str | None
    struck: Sequence[Struck] = ()


def plan_rebase(cluster: Cluster) -> RebasePlan:
    """What `rebase` would accept now.

    Raises: BarrierFailed, NotConnected: unless every server is up.
    """
    held = server_ends.take_instant(cluster)
    damage = findings.find(cluster, held.vector)
    timeline = known_timeline(cluster)
    if _find_changed(cluster):
        timeline = (
            timelines.highest(
                [storage.data_file for storage in cluster.storages],
                cluster.daemon.journal,
                BackupDirectory(cluster.backup.directory).timelines(),
            )
            + 1
        )
    floor = held.point(timeline)
    looks = _look_again(cluster, [*damage.unacknowledged, *damage.contradicted])
    return RebasePlan(
        floor,
        [finding for finding, look in looks if not look.is_whole],
        damage.unexamined,
        strikes(looks),
    )


def _look_again(
    cluster: Cluster, damage: Sequence[Finding]
) -> list[tuple[Finding, SecondLook]]:
    """What the servers say of each, before it is accepted for good.

    Raises: NotConnected: where one does not answer.
    """
    if not damage:
        return []
    try:
        with connected(cluster, "tidstorage rebase", _CONNECT_SECONDS) as clients:
            return [
                (finding, look_again(cluster, clients, finding.half_commit))
                for finding in damage
            ]
    except ClientDisconnected as error:
        raise NotConnected(
            f"a server was lost: {error}", "Nothing was accepted."
        ) from error


def _find_changed(cluster: Cluster) -> list[known_files.Finding]:
    """The storages whose files are not what was there before: they are accepted."""
    record = known_files.record_path(cluster)
    return [
        found
        for found in known_files.examine(record, cluster.storages)
        if found.state in ("lost", "went back")
    ]


def rebase(cluster: Cluster) -> RebasePlan:
    """Go on from the present state: what is torn in it is accepted, and named so.

    A running daemon reads that in the journal.

    Raises:
      BarrierFailed: not every server is up.
      Locked: a backup, restore or pack is under way.
      InterruptedRestore: a restore has to be ended first.
      OSError: journal or points cannot be written.
    """
    with lock.hold(cluster, "rebase"):
        if interrupted := interrupted_swap(cluster):
            raise InterruptedRestore(f"a restore was interrupted: {interrupted}")
        planned = plan_rebase(cluster)
        changed = _find_changed(cluster)
        if changed:
            reason = f"accepted: {'; '.join(found.words for found in changed)}"
            floor = planned.floor
            journal.append(
                cluster.daemon.journal,
                Timeline(floor.time, floor.timeline, floor.vector, reason),
            )
        journal.append(
            cluster.daemon.journal,
            *planned.struck,
            *acceptances(cluster, planned.accepted),
            Floor(REASON, planned.floor),
        )
        files = {storage.id: storage.data_file for storage in cluster.storages}
        write_beside(floors.fit_to_files(planned.floor, files), files.values())
        history.establish(cluster)
        known_files.note(cluster, accept=files)
        return planned
