"""The last look at a half commit before anything is done about it.

What the journal, a point or a set says of it is memory.  Its servers are asked which
storages hold its record now: one that turns out to be whole is struck out of the
journal, and where a pack may have taken what seems to be missing, nobody can tell.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.point import HalfCommit
from tidstorage.coherence.record import Record
from tidstorage.errors import UnknownCommit
from tidstorage.points import journal
from tidstorage.points.entries import Struck
from tidstorage.system import clock
from tidstorage.verbs.damage.findings import Finding
from tidstorage.verbs.damage.looking import CannotTell, look_for
from tidstorage.zeo.client import ZeoClient, connect


@dataclass(frozen=True, slots=True)
class SecondLook:
    """What the servers say of a transaction.

    present: {storage id: TID} of its records.  missing: ids of the storages that never
    got one.  unknown: {storage id: why nobody can tell}, in words.
    """

    present: Mapping[str, int]
    missing: tuple[str, ...]
    unknown: Mapping[str, str]

    @property
    def is_whole(self) -> bool:
        """Whether every storage that it was meant for has its record."""
        return bool(self.present) and not self.missing and not self.unknown

    @property
    def is_torn(self) -> bool:
        """Whether it is proven that some storages have it and others never will."""
        return bool(self.present) and bool(self.missing) and not self.unknown

    def why_unknown(self) -> str:
        """In words."""
        if not self.present:
            return "no storage holds a record of it any more"
        return "; ".join(
            f"storage {storage}: {why}" for storage, why in self.unknown.items()
        )

    def correct(self, finding: Finding) -> Finding:
        """The finding, as the servers have it."""
        half = HalfCommit(finding.half_commit.commit_id, self.present, self.missing)
        return replace(finding, half_commit=half)


@contextlib.contextmanager
def connected(
    cluster: Cluster, label: str, seconds: float, *, read_only: bool = True
) -> Iterator[Mapping[str, ZeoClient]]:
    """A client of every storage, {storage id: client}, for as long as this lasts.

    label: names them in the servers' logs.  seconds: in which each has to answer.

    Raises: NotConnected: where a server does not answer, or refuses us.
    """
    with contextlib.ExitStack() as opened:
        yield {
            storage.id: opened.enter_context(
                connect(
                    cluster.zeo(storage.zeo).address,
                    storage.id,
                    server=storage.zeo,
                    label=label,
                    connect_seconds=seconds,
                    read_only=read_only,
                )
            )
            for storage in cluster.storages
        }


def look_again(
    cluster: Cluster, clients: Mapping[str, ZeoClient], half: HalfCommit
) -> SecondLook:
    """Ask the servers of all storages that a half commit was meant for.

    clients: {storage id: a client of it}, for every storage of the cluster.

    Raises: what ZEO raises where a server cannot be asked.
    """
    records: dict[str, Record] = {}
    missing: list[str] = []
    unknown: dict[str, str] = {}

    def look(storage: str, bound: int) -> Record | None:
        if storage not in clients:
            raise CannotTell("it is not in the description")
        data_file = cluster.storage(storage).data_file
        client, commit_id = clients[storage], half.commit_id
        return look_for(client, data_file, commit_id, bound, cluster.aliases)

    for storage, last in cluster.present_ids(half.present).items():
        with contextlib.suppress(CannotTell):
            if record := look(storage, last):
                records[storage] = record
    # Only the transaction itself tells for whom it was meant, and what it had seen.
    stamp = next((record.stamp for record in records.values()), None)
    participants = stamp.participants if stamp else frozenset[str]()
    for storage in sorted(participants - records.keys() - cluster.retired):
        try:
            record = look(storage, stamp.vector.get(storage, 0) if stamp else 0)
        except CannotTell as why:
            unknown[storage] = str(why)
            continue
        if record is None:
            missing.append(storage)
        else:
            records[storage] = record
    return SecondLook(
        {storage: record.tid for storage, record in records.items()},
        tuple(missing),
        unknown,
    )


def strike_out(cluster: Cluster, finding: Finding, look: SecondLook) -> UnknownCommit:
    """Strike a half commit that is none out of the journal; the error that says so.

    Raises: OSError: where the journal cannot be written.
    """
    journal.append(cluster.daemon.journal, *strikes([(finding, look)]))
    return refusal(finding, look)


def strikes(looks: Iterable[tuple[Finding, SecondLook]]) -> list[Struck]:
    """What to write into the journal of those that are whole."""
    now = clock.now()
    return [
        Struck(now, finding.half_commit.commit_id, _in_words(look))
        for finding, look in looks
        if look.is_whole
    ]


def refusal(finding: Finding, look: SecondLook) -> UnknownCommit:
    """The error that says that it is no half commit."""
    return UnknownCommit(
        f"{finding.half_commit.commit_id.hex()} is no half commit: {_in_words(look)}",
        "It is struck out of the journal; nothing else was done.",
    )


def _in_words(look: SecondLook) -> str:
    records = ", ".join(
        f"{storage} ({tid.to_text(last)})"
        for storage, last in sorted(look.present.items())
    )
    return f"every storage that it was meant for holds its record: {records}"
