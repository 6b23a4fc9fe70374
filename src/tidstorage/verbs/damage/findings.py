"""The half commits of a cluster: which there are, what they cost, accepting them.

Two witnesses: the daemon's journal, and the files themselves, from the points
beside them on.  Each may know what the other cannot: a proof that was seen online
is nowhere in the files, and there may be no daemon.
"""

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.loss import Loss, count_loss
from tidstorage.coherence.point import HalfCommit, UnknownOutcome
from tidstorage.engines import Description
from tidstorage.engines.filestorage import FilesCut, cut_files, describe
from tidstorage.errors import FileUnreadable, TidstorageError, UnknownCommit
from tidstorage.points import floors
from tidstorage.points.contradictions import find_whole
from tidstorage.points.entries import Acknowledgement, Damage, WireDamage
from tidstorage.points.summary import JournalSummary, summarise
from tidstorage.points.timelines import known_timeline

_BY_BARRIER = "while all storages stood still it was not there"
_BY_FILES = "later transactions of the files leave no place for it there"


@dataclass(frozen=True, slots=True)
class Finding:
    """One half commit.

    since: when it was committed, by its first TID.  proof: why what is missing
    never comes, in words.  descriptions: {storage id: what its record says}, as
    far as it can be read here.
    """

    half_commit: HalfCommit
    since: datetime.datetime
    proof: str
    acknowledgement: Acknowledgement | None
    descriptions: Mapping[str, Description]


@dataclass(frozen=True, slots=True)
class Findings:
    """All there is to know.

    found: those that nobody accepted first, then by time.  strict_loss: what a cut
    of the files as they are would drop that leaves them out; None where nothing,
    or where that cannot be told.  unexamined: why the files were not examined.
    wire: of wire-only ids.  unknown: transactions of which a pack may have taken a
    part, or not.  contradicted: what the journal calls half commits, and the files
    show to be whole.
    """

    found: Sequence[Finding]
    strict_loss: Loss | None
    unexamined: str | None
    wire: Sequence[WireDamage]
    unknown: Sequence[UnknownOutcome] = ()
    contradicted: Sequence[Finding] = ()

    @property
    def unacknowledged(self) -> list[Finding]:
        return [finding for finding in self.found if finding.acknowledgement is None]


def find(cluster: Cluster, barrier: tid.Vector | None = None) -> Findings:
    """Find all half commits in journal and files; servers and daemon may be down.

    barrier: {storage id: last TID} of an instant before now at which all storages
    stood still; what was missing then never comes.

    Raises: FileUnreadable: where the journal or a point beside a file is broken.
    """
    journal = summarise(cluster.daemon.journal)
    try:
        files: FilesCut | None = examine_files(cluster, journal.damages, ())
        unexamined = None
    except TidstorageError as error:
        files, unexamined = None, str(error)
    held = _missing_at(barrier, files) if barrier and files else {}
    findings = [
        Finding(
            half,
            min(map(tid.to_time, half.present.values())),
            _proof(half, journal, held),
            journal.acknowledgements.get(half.commit_id),
            _descriptions(cluster, half),
        )
        for half in _collect_half_commits(cluster, journal, files, held)
    ]
    whole = find_whole(
        [each.half_commit for each in findings if each.acknowledgement is None],
        {storage.id: storage.data_file for storage in cluster.storages},
        cluster.aliases,
        cluster.retired,
    )
    contradicted = [each for each in findings if each.half_commit.commit_id in whole]
    findings = [each for each in findings if each.half_commit.commit_id not in whole]
    findings.sort(key=lambda found: (found.acknowledgement is not None, found.since))
    loss = None
    if files is not None and any(
        finding.acknowledgement is None for finding in findings
    ):
        loss = _strict_loss(
            examine_files(cluster, journal.damages, journal.acknowledgements.keys())
        )
    return Findings(
        findings,
        loss,
        unexamined,
        journal.wire_damages,
        files.unknown if files else (),
        contradicted,
    )


def _collect_half_commits(
    cluster: Cluster,
    journal: JournalSummary,
    files: FilesCut | None,
    held: Mapping[bytes, HalfCommit],
) -> Collection[HalfCommit]:
    """All half commits that anything tells of, each once.

    held: those that only a barrier proved.
    """
    halves = {half.commit_id: half for half in files.half_commits} if files else {}
    halves.update(held)
    last = journal.last_of(known_timeline(cluster, journal))
    halves.update((half.commit_id, half) for half in (last.damage if last else ()))
    # What the journal notes may have been left out by a restore since.
    for damage in journal.damages.values():
        half = damage.half_commit
        if half.commit_id in halves or _is_in_the_files(cluster, half):
            halves[half.commit_id] = half
    return halves.values()


def _missing_at(barrier: tid.Vector, files: FilesCut) -> dict[bytes, HalfCommit]:
    """What was in some storages when the barrier was held, and not in others."""
    return {
        half.commit_id: half
        for half in files.undecided
        if all(
            last <= barrier.get(storage, 0) for storage, last in half.present.items()
        )
    }


def _proof(
    half: HalfCommit, journal: JournalSummary, held: Mapping[bytes, HalfCommit]
) -> str:
    if half.commit_id in journal.damages:
        return journal.damages[half.commit_id].proof
    return _BY_BARRIER if half.commit_id in held else _BY_FILES


def examine_files(
    cluster: Cluster, damages: Mapping[bytes, Damage], accepted: Collection[bytes]
) -> FilesCut:
    """The cuts of the files as they are, above the points beside them.

    damages: what the journal knows, whose proof may not be in the files.  accepted:
    commit ids.

    Raises: as `cut_files`.
    """
    paths = {storage.id: storage.data_file for storage in cluster.storages}
    floor = floors.choose(paths, None, cluster.aliases)
    return cut_files(
        paths,
        floor.vector,
        aliases=cluster.aliases,
        retired=cluster.retired,
        known_damage=[
            *floor.damage,
            *(damage.half_commit for damage in damages.values()),
        ],
        accepted=accepted,
        over_packs=True,
    )


def _strict_loss(files: FilesCut) -> Loss | None:
    return count_loss(
        {storage: tail.records for storage, tail in files.tails.items()},
        {storage: place.tid for storage, place in files.strict.items()},
    )


def _descriptions(cluster: Cluster, half: HalfCommit) -> dict[str, Description]:
    descriptions = {}
    for storage in cluster.storages:
        last = half.present.get(storage.id)
        if last is None:
            continue
        try:
            description = describe(storage.data_file, last)
        except FileUnreadable:
            # On another machine, or lost: the journal knows of it all the same.
            continue
        if description is not None and description.commit_id == half.commit_id:
            descriptions[storage.id] = description
    return descriptions


def _is_in_the_files(cluster: Cluster, half: HalfCommit) -> bool:
    """Whether a file on this machine holds a record of it.

    Not so where a restore left it out, and where a pack removed what it wrote.
    """
    return bool(_descriptions(cluster, half))


def by_prefix(found: Sequence[Finding], prefix: str) -> Finding:
    """The finding whose commit id begins with these hex digits.

    Raises: UnknownCommit: where none does, or several do.
    """
    prefix = prefix.lower().removeprefix("0x")
    matching = [
        finding
        for finding in found
        if finding.half_commit.commit_id.hex().startswith(prefix)
    ]
    if prefix and len(matching) == 1:
        return matching[0]
    if prefix and matching:
        raise UnknownCommit(
            f"{len(matching)} half commits begin with {prefix}",
            "Give more digits: "
            + ", ".join(finding.half_commit.commit_id.hex() for finding in matching),
        )
    raise UnknownCommit(f"there is no half commit {prefix!r}")
