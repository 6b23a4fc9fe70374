"""Undoing a half commit, where nothing that came later builds on what it wrote."""

import base64
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import transaction
import ZODB
from ZEO.Exceptions import ClientDisconnected, ServerException
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import ConflictError, UndoError

import tidstorage
from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.errors import CannotUndo, NotConnected
from tidstorage.hook.failed_commits import CommitOutcomeUnknown
from tidstorage.verbs.damage import findings, looking_again, referrers
from tidstorage.verbs.damage.accept import Accepted, accept, login_user
from tidstorage.verbs.damage.findings import Finding
from tidstorage.zeo import server_errors
from tidstorage.zeo.client import ZeoClient

#: Seconds in which each server has to answer.
_CONNECT_SECONDS = 10

_Clients = Mapping[str, ZeoClient]


@dataclass(frozen=True, slots=True)
class Undone:
    """accepted: what became of the half commit; None where it was only tried."""

    finding: Finding
    accepted: Accepted | None


def try_undo(cluster: Cluster, prefix: str) -> Undone:
    """Vote for the undo on every server, then abort.

    Raises:
      CannotUndo: a server refuses it, or an object that would be gone is referred to.
      UnknownCommit: there is no such half commit.
      NotConnected: not every server is up.
    """
    finding = _find(cluster, prefix)
    with _connected(cluster) as clients, _refusals(finding):
        finding = _look_again(cluster, clients, finding, is_tried=True)
        _refuse_references(cluster, finding)
        present = finding.half_commit.present
        metadata = TransactionMetaData()
        # In the order in which all clients lock.
        voting = sorted(
            ((clients[storage], last) for storage, last in present.items()),
            key=lambda vote: vote[0].sortKey(),
        )
        try:
            for client, _ in voting:
                client.tpc_begin(metadata)
            for client, last in voting:
                client.undo(_undo_id(last), metadata)
            for client, _ in voting:
                client.tpc_vote(metadata)
        finally:
            for client, _ in voting:
                client.tpc_abort(metadata)
    return Undone(finding, None)


def undo(cluster: Cluster, prefix: str) -> Undone:
    """Undo a half commit wherever it is, in one stamped transaction; then accept it.

    Its servers are asked first whether it is one: nothing else counts.

    The half commit stays where it was, and so does what undoes it: accepted, since
    nothing of it is left to see.  Nothing is done where a server refuses.

    Raises: as `try_undo`.
    """
    finding = _find(cluster, prefix)
    with _connected(cluster) as clients, _refusals(finding):
        finding = _look_again(cluster, clients, finding)
        _refuse_references(cluster, finding)
        with _stamping(cluster, clients) as databases:
            _commit(databases, finding)
    return Undone(finding, accept(cluster, finding))


def _find(cluster: Cluster, prefix: str) -> Finding:
    found = findings.find(cluster)
    return findings.by_prefix([*found.found, *found.contradicted], prefix)


def _look_again(
    cluster: Cluster, clients: _Clients, finding: Finding, *, is_tried: bool = False
) -> Finding:
    """The half commit as its servers have it.

    Raises:
      UnknownCommit: it is whole; it is struck out of the journal, unless only tried.
      CannotUndo: nobody can tell whether it is.
    """
    look = looking_again.look_again(cluster, clients, finding.half_commit)
    if look.is_whole:
        if is_tried:
            raise looking_again.refusal(finding, look)
        raise looking_again.strike_out(cluster, finding, look)
    if not look.is_torn:
        raise CannotUndo(
            f"half commit {finding.half_commit.commit_id.hex()} is not undone: nobody"
            f" can tell whether it is one: {look.why_unknown()}",
            "While a server packs: wait for its end. Else look at the objects in the"
            " running site, mend them by hand, and accept it (bin/cluster damage"
            " --acknowledge).",
        )
    return look.correct(finding)


def _refuse_references(cluster: Cluster, finding: Finding) -> None:
    for reference in referrers.find_referrers(cluster, finding.half_commit):
        storage, holder = reference.holder
        database, target = reference.target
        raise CannotUndo(
            f"half commit {finding.half_commit.commit_id.hex()} cannot be undone:"
            f" object 0x{holder.hex()} in {storage} refers to 0x{target.hex()} in"
            f" {database}, which it made",
            "Mend that by hand in the running site, then accept the half commit"
            " (bin/cluster damage --acknowledge).",
        )


def _commit(databases: Mapping[str, ZODB.DB], finding: Finding) -> None:
    half = finding.half_commit
    manager = transaction.TransactionManager()
    undoing = manager.begin()
    undoing.setUser(login_user())
    undoing.note(f"undo half commit {half.commit_id.hex()}")
    for storage, last in half.present.items():
        databases[storage].undo(_undo_id(last), undoing)
    try:
        manager.commit()
    finally:
        manager.abort()


def _undo_id(last: int) -> bytes:
    """As the storage's undo log would name the transaction."""
    return base64.encodebytes(tid.to_bytes(last)).rstrip()


@contextlib.contextmanager
def _refusals(finding: Finding) -> Iterator[None]:
    commit = finding.half_commit.commit_id.hex()
    try:
        yield
    except (UndoError, ConflictError) as error:
        raise CannotUndo(f"half commit {commit} cannot be undone: {error}") from error
    except ServerException as error:
        if not server_errors.is_undo_error(error):
            raise
        raise CannotUndo(
            f"half commit {commit} cannot be undone now: {error}",
            "While a server packs a storage nothing can be undone: wait for its end.",
        ) from error
    except CommitOutcomeUnknown as error:
        raise CannotUndo(
            f"whether half commit {commit} is undone cannot be told: {error}",
            "Start what is down; then bin/cluster damage tells whether the undo is"
            " torn itself.",
        ) from error
    except ClientDisconnected as error:
        raise NotConnected(f"a server was lost: {error}", "Nothing was undone.") from (
            error
        )


def _connected(cluster: Cluster) -> contextlib.AbstractContextManager[_Clients]:
    """A client of every storage: the stamp tells what could be seen of each."""
    return looking_again.connected(
        cluster, "tidstorage undo", _CONNECT_SECONDS, read_only=False
    )


@contextlib.contextmanager
def _stamping(cluster: Cluster, clients: _Clients) -> Iterator[Mapping[str, ZODB.DB]]:
    """The storages as databases that stamp; without those that hold nothing yet.

    A database would write its root into an empty one.
    """
    databases: dict[str, ZODB.DB] = {}
    for storage, client in clients.items():
        if tid.from_bytes(client.lastTransaction()):
            ZODB.DB(client, databases=databases, database_name=storage)
    tidstorage.install(
        (cluster.daemon.host, cluster.daemon.port),
        {storage: storage for storage in databases},
    )
    try:
        yield databases
    finally:
        tidstorage.uninstall()
        # Else they count as open until they are collected, for whoever installs next.
        for database in databases.values():
            database.close()
