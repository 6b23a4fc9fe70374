"""Accepting half commits: acknowledgements, and the floor that they allow."""

import getpass
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass

from ZEO.Exceptions import ClientDisconnected

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.errors import NotConnected, TidstorageError
from tidstorage.points import journal
from tidstorage.points.beside import write_beside
from tidstorage.points.contradictions import find_whole
from tidstorage.points.entries import Acknowledgement, Damage, Entry, Floor
from tidstorage.points.summary import summarise
from tidstorage.points.timelines import known_timeline
from tidstorage.system import clock
from tidstorage.verbs.damage import looking_again
from tidstorage.verbs.damage.findings import (
    Finding,
    by_prefix,
    examine_files,
    find,
)
from tidstorage.verbs.damage.looking_again import SecondLook, look_again

#: Seconds in which each server has to answer; without them the files are looked at.
_CONNECT_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an acknowledgement did.

    new: false where somebody had accepted it before.  floor: the new one; None
    where it could not be raised, and `no_floor` says why.
    """

    finding: Finding
    new: bool
    floor: Point | None
    no_floor: str | None


def preview(cluster: Cluster, prefix: str) -> Accepted:
    """What `acknowledge` would accept, without a floor.

    prefix: the first hex digits of the commit id.

    Raises: UnknownCommit: where no half commit, or several, begin so, or where it
        proves to be none.
    """
    finding, look = _find(cluster, prefix)
    if look is not None and look.is_whole:
        raise looking_again.refusal(finding, look)
    return Accepted(finding, finding.acknowledgement is None, None, None)


def acknowledge(cluster: Cluster, prefix: str) -> Accepted:
    """Accept a half commit, and record the newest point without other damage.

    prefix: the first hex digits of the commit id.  A running daemon reads it in the
    journal.  A second time only the floor is raised, where it can be.

    Raises:
      UnknownCommit: where no half commit, or several, begin so, or where it proves to
        be none, and is struck out
      OSError: where the journal or a point cannot be written
    """
    finding, look = _find(cluster, prefix)
    if look is not None and look.is_whole:
        raise looking_again.strike_out(cluster, finding, look)
    return accept(cluster, finding)


def accept(cluster: Cluster, finding: Finding) -> Accepted:
    """Accept a half commit that was looked at, and raise the floor.

    Raises: OSError: where the journal or a point cannot be written.
    """
    is_new = finding.acknowledgement is None
    if is_new:
        journal.append(cluster.daemon.journal, *acceptances(cluster, [finding]))
    floor, why_not = _raise_floor(cluster)
    return Accepted(finding, is_new, floor, why_not)


def _find(cluster: Cluster, prefix: str) -> tuple[Finding, SecondLook | None]:
    """The half commit, and what its servers say of it; None where they do not.

    Raises: UnknownCommit: where no half commit, or several, begin so.
    """
    found = find(cluster)
    finding = by_prefix([*found.found, *found.contradicted], prefix)
    if finding.acknowledgement is not None:
        return finding, None
    try:
        with looking_again.connected(
            cluster, "tidstorage damage", _CONNECT_SECONDS
        ) as clients:
            return finding, look_again(cluster, clients, finding.half_commit)
    except (NotConnected, ClientDisconnected):
        # Then the files have the last word.
        whole = find_whole(
            [finding.half_commit],
            {storage.id: storage.data_file for storage in cluster.storages},
            cluster.aliases,
            cluster.retired,
        )
        records = whole.get(finding.half_commit.commit_id)
        return finding, SecondLook(records, (), {}) if records else None


def acceptances(cluster: Cluster, findings: Sequence[Finding]) -> list[Entry]:
    """What to write into the journal to accept half commits.

    Their damage too, where it does not know it: once they are below the floor,
    nothing but the journal knows that they are torn.
    """
    known = summarise(cluster.daemon.journal).damages
    entries: list[Entry] = []
    for finding in findings:
        half = finding.half_commit
        if half.commit_id not in known:
            entries.append(Damage(clock.now(), half, finding.proof))
        entries.append(Acknowledgement(clock.now(), half.commit_id, login_user()))
    return entries


def _raise_floor(cluster: Cluster) -> tuple[Point | None, str | None]:
    """Record the newest point without damage that nobody accepted; or why not."""
    told = summarise(cluster.daemon.journal)
    try:
        timeline = known_timeline(cluster, told)
        files = examine_files(cluster, told.damages, told.acknowledgements.keys())
    except TidstorageError as error:
        return None, str(error)
    if files.unknown:
        return None, "above the last one a pack may have taken a part of transactions"
    if any(files.unstamped.values()):
        return None, "above the last one there are writers without stamps"
    vector = {storage: place.tid for storage, place in files.strict.items()}
    if all(vector[storage] <= tail.floor.tid for storage, tail in files.tails.items()):
        return None, "nothing is between the last one and damage nobody accepted"
    floor = Point(vector, clock.now(), "stamps", timeline)
    record_floor(cluster, floor, "half commits in it were accepted")
    return floor, None


def record_floor(cluster: Cluster, floor: Point, reason: str) -> None:
    """Leave the floor in the journal and beside the files.

    Raises: OSError: where one cannot be written.
    """
    journal.append(cluster.daemon.journal, Floor(reason, floor))
    write_beside(floor, [storage.data_file for storage in cluster.storages])


def login_user() -> str:
    """Who sits there, whatever user the command has become since."""
    try:
        return os.environ.get("SUDO_USER") or os.getlogin()
    except OSError:
        # No terminal: cron, or a container.
        pass
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return getpass.getuser()
