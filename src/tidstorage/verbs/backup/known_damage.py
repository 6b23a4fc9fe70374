"""Half commits that somebody found before: they stay what they are in the next set.

A pack by others can take away what shows them.  So what the journal and the former set
name is carried on, until it is accepted, or the records themselves tell otherwise.
"""

import logging
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import HalfCommit
from tidstorage.engines import filestorage
from tidstorage.errors import FileUnreadable
from tidstorage.points.contradictions import find_whole
from tidstorage.points.summary import JournalSummary, summarise
from tidstorage.sets.manifest import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownDamage:
    """What is known before a set is made; nothing in it was accepted.

    standing: half commits that the live files hold, or may have held before a pack.
    whole: {commit id: its records, {storage id: TID}} of those that prove to be none.
    """

    standing: tuple[HalfCommit, ...] = ()
    whole: Mapping[bytes, Mapping[str, int]] = field(default_factory=dict)


def find_known_damage(
    cluster: Cluster, previous: Manifest | None, timeline: int, accepted: Set[bytes]
) -> KnownDamage:
    """What journal and former set name, as far as the live files do not contradict.

    previous: the newest set; None without one.  timeline: the one the cluster is on.
    accepted: commit ids.  A broken journal counts for nothing, which is logged.
    """
    named = dict(_named_on(cluster, previous, timeline))
    noted = {**_noted(cluster), **named}
    paths = {storage.id: storage.data_file for storage in cluster.storages}
    unaccepted = [half for half in noted.values() if half.commit_id not in accepted]
    whole = find_whole(unaccepted, paths, cluster.aliases, cluster.retired)
    standing = [
        half
        for half in unaccepted
        if half.commit_id not in whole
        and (
            _is_there(half, paths)
            # What a restore left out is of another timeline, and is gone for good.
            or (half.commit_id in named and _may_be_packed(half, paths))
        )
    ]
    return KnownDamage(tuple(standing), whole)


def _named_on(
    cluster: Cluster, previous: Manifest | None, timeline: int
) -> Iterator[tuple[bytes, HalfCommit]]:
    """What the last point of this timeline, and its newest set, name."""
    points = []
    journal = _summary(cluster)
    if journal is not None and (last := journal.last_of(timeline)) is not None:
        points.append(last)
    if previous is not None and previous.point.timeline == timeline:
        points.append(previous.point)
    for point in points:
        for half in point.damage:
            present = cluster.present_ids(half.present)
            missing = tuple(cluster.aliases.get(name, name) for name in half.missing)
            yield half.commit_id, HalfCommit(half.commit_id, present, missing)


def _noted(cluster: Cluster) -> dict[bytes, HalfCommit]:
    journal = _summary(cluster)
    if journal is None:
        return {}
    return {
        commit_id: damage.half_commit for commit_id, damage in journal.damages.items()
    }


def _summary(cluster: Cluster) -> JournalSummary | None:
    try:
        return summarise(cluster.daemon.journal)
    except FileUnreadable as error:
        # No reason to go without a backup; the records tell of most.
        logger.warning("the journal tells of no half commit: %s", error)
        return None


def _is_there(half: HalfCommit, paths: Mapping[str, Path]) -> bool:
    """Whether a file holds a record of it, at the place that is known."""
    for storage, last in half.present.items():
        if storage in paths:
            found = filestorage.describe(paths[storage], last)
            if found is not None and found.commit_id == half.commit_id:
                return True
    return False


def _may_be_packed(half: HalfCommit, paths: Mapping[str, Path]) -> bool:
    """Whether a pack has gone over one of its places."""
    return any(
        storage in paths and filestorage.packed_up_to(paths[storage], last - 1) >= last
        for storage, last in half.present.items()
    )
