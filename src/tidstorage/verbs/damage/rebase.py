"""Accepting the present state of a cluster, whatever is torn in it, as a new floor."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.errors import InterruptedRestore
from tidstorage.operation import lock
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.points import floors, journal
from tidstorage.points.beside import write_beside
from tidstorage.points.entries import Floor
from tidstorage.points.timelines import known_timeline
from tidstorage.system import clock
from tidstorage.verbs.damage import findings
from tidstorage.verbs.damage.accept import acceptances
from tidstorage.verbs.damage.findings import Finding
from tidstorage.zeo import barrier

REASON = "the state as it was then was accepted"


@dataclass(frozen=True, slots=True)
class Rebase:
    """floor: the state at an instant at which nothing was under way.

    accepted: half commits in it that nobody had accepted before.  unexamined: why
    the files could not be searched for more of them.
    """

    floor: Point
    accepted: Sequence[Finding]
    unexamined: str | None


def rehearse(cluster: Cluster) -> Rebase:
    """What `rebase` would accept now; BarrierFailed unless every server is up."""
    vector = barrier.take(barrier.storages_of(cluster))
    moment = clock.now()
    found = findings.find(cluster, vector)
    floor = Point(vector, moment, "barrier", known_timeline(cluster))
    return Rebase(floor, found.unacknowledged, found.unexamined)


def rebase(cluster: Cluster) -> Rebase:
    """Go on from the present state: what is torn in it is accepted, and named so.

    A running daemon reads that in the journal.  BarrierFailed, Locked,
    InterruptedRestore; OSError where journal or points cannot be written.
    """
    with lock.hold(cluster, "rebase"):
        if interrupted := interrupted_swap(cluster):
            raise InterruptedRestore(f"a restore was interrupted: {interrupted}")
        done = rehearse(cluster)
        journal.append(
            cluster.daemon.journal,
            *acceptances(cluster, done.accepted),
            Floor(done.floor, REASON),
        )
        files = {each.id: each.data_file for each in cluster.storages}
        write_beside(floors.fit_to_files(done.floor, files), files.values())
        return done
