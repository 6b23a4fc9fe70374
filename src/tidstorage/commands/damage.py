"""``bin/cluster damage``: which half commits there are; accepting or undoing one."""

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.coherence.point import UnknownOutcome
from tidstorage.commands import console, half_commits
from tidstorage.commands.front import add_dry_run, add_json
from tidstorage.points.entries import WireDamage
from tidstorage.system import clock
from tidstorage.system.clock import local, span
from tidstorage.verbs.damage import findings
from tidstorage.verbs.damage.accept import Accepted, acknowledge, preview
from tidstorage.verbs.damage.findings import Findings

HELP = "Show half commits, which only some of their storages hold; accept or undo them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_json(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--acknowledge",
        metavar="COMMIT",
        help="accept this half commit as it is; the first digits of its id are enough",
    )
    which.add_argument(
        "--undo",
        metavar="COMMIT",
        help="undo this half commit in the storages that hold it, then accept it",
    )
    add_dry_run(parser, "say what would be done and whether it can be")


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print what there is, or accept or undo one."""
    if options.undo is not None:
        _undo(options, cluster)
    elif options.acknowledge is not None:
        _acknowledge(options, cluster)
    else:
        damage = findings.find(cluster)
        if options.json:
            console.print_json(_as_json(damage))
        else:
            _describe(cluster, damage)
    return 0


def _acknowledge(options: argparse.Namespace, cluster: Cluster) -> None:
    act = preview if options.dry_run else acknowledge
    accepted = act(cluster, options.acknowledge)
    if options.json:
        console.print_json(_accepted_as_json(accepted, options.dry_run))
    elif options.dry_run:
        half_commits.describe(cluster, accepted.finding)
        console.print_line(
            "would be accepted" if accepted.new else "is accepted already"
        )
    else:
        _describe_accepted(cluster, accepted)


def _undo(options: argparse.Namespace, cluster: Cluster) -> None:
    # ZODB's databases take a while to import, and only this needs them.
    from tidstorage.verbs.damage import undo

    # What a server refuses is told once, as an error.
    logging.getLogger("ZEO").addHandler(logging.NullHandler())
    if options.dry_run:
        done = undo.try_undo(cluster, options.undo)
    else:
        done = undo.undo(cluster, options.undo)
    accepted = done.accepted or Accepted(done.finding, True, None, None)
    present = ", ".join(sorted(done.finding.half_commit.present))
    if options.json:
        undone = {"undone": not options.dry_run}
        console.print_json({**_accepted_as_json(accepted, options.dry_run), **undone})
    elif options.dry_run:
        half_commits.describe(cluster, done.finding)
        console.print_line(f"would be undone in {present}, and accepted")
    else:
        _describe_accepted(cluster, accepted)
        console.print_line(f"undone in {present}")


def _describe(cluster: Cluster, damage: Findings) -> None:
    unaccepted = len(damage.unacknowledged)
    accepted = len(damage.found) - unaccepted
    if not damage.found:
        console.print_line(
            "There is no half commit." if damage.wire else "No transaction is torn."
        )
    else:
        console.print_line(
            f"{len(damage.found)} half commit(s): transactions that some storages hold"
            " and others never will; "
            + (f"{accepted} accepted" if accepted else "none accepted")
        )
    for finding in damage.found:
        console.print_line()
        half_commits.describe(cluster, finding)
    for finding in damage.contradicted:
        console.print_line(
            f"{finding.half_commit.commit_id.hex()} was noted as a half commit and is"
            " none: the files hold all its records. The next backup strikes it out."
        )
    if damage.unknown:
        _describe_unknown(damage.unknown)
    if damage.wire:
        console.print_line()
        _describe_wire(damage.wire)
    if unaccepted:
        console.print_line()
        _describe_costs(damage)
    if damage.unexamined is not None:
        console.print_warning(
            "only the daemon's journal was examined, not the files:"
            f" {damage.unexamined}"
        )


def _describe_unknown(outcomes: Sequence[UnknownOutcome]) -> None:
    unseen = sorted({storage for each in outcomes for storage in each.unseen})
    console.print_warning(
        f"{len(outcomes)} transaction(s) may be whole or not: what {', '.join(unseen)}"
        " held of them may have been packed away since the last point"
    )


def _describe_wire(wire: Sequence[WireDamage]) -> None:
    console.print_line(
        f"{len(wire)} transaction(s) may be torn. The daemon does not observe their"
        " storages; it knows of them from messages alone:"
    )
    for damage in wire:
        tids = ", ".join(
            f"{storage} {tid.to_text(damage.tids[storage])}"
            if storage in damage.tids
            else f"{storage} none"
            for storage in sorted(damage.storages)
        )
        console.print_line(
            f"  {damage.transaction_id}, {local(damage.time)}: {damage.reason}; TIDs"
            f" told: {tids}"
        )


def _describe_costs(damage: Findings) -> None:
    """Print what a restore of the present state would lose with either option."""
    ids = ", ".join(
        finding.half_commit.commit_id.hex()[:8] for finding in damage.unacknowledged
    )
    loss = damage.strict_loss
    if loss is None:
        strict = "what --strict would lose cannot be told from the files here"
    else:
        strict = (
            f"--strict would lose {loss.transactions} transaction(s) since"
            f" {local(loss.since)}, {span(clock.now() - loss.since)}"
        )
    for line in (
        "A restore of the state as it is now:",
        f"  {strict}",
        f"  --tolerant would lose nothing; {ids} would stay torn",
        "  without either it refuses, until each half commit is accepted:"
        " bin/cluster damage --acknowledge COMMIT",
    ):
        console.print_line(line)


def _describe_accepted(cluster: Cluster, accepted: Accepted) -> None:
    half_commits.describe(cluster, accepted.finding)
    console.print_line("accepted" if accepted.new else "was accepted before")
    if accepted.floor is not None:
        console.print_line(f"new floor: point {accepted.floor.id}")
    else:
        console.print_line(f"the floor stays as it was: {accepted.no_floor}")


def _as_json(damage: Findings) -> dict[str, Any]:
    return {
        "half_commits": [half_commits.as_json(finding) for finding in damage.found],
        "strict_loss": damage.strict_loss and damage.strict_loss.to_json(),
        "unexamined": damage.unexamined,
        "unknown": [
            {
                "commit": outcome.commit_id.hex(),
                "present": tid.vector_to_text(outcome.present),
                "unseen": list(outcome.unseen),
            }
            for outcome in damage.unknown
        ],
        "contradicted": [
            half_commits.as_json(finding) for finding in damage.contradicted
        ],
        "wire": [
            {
                "transaction": torn.transaction_id,
                "storages": list(torn.storages),
                "tids": tid.vector_to_text(torn.tids),
                "reason": torn.reason,
                "time": torn.time.isoformat(),
            }
            for torn in damage.wire
        ],
    }


def _accepted_as_json(accepted: Accepted, dry_run: bool) -> dict[str, Any]:
    return {
        **half_commits.as_json(accepted.finding),
        "new": accepted.new,
        "dry_run": dry_run,
        "floor": accepted.floor and accepted.floor.to_json(),
        "no_floor": accepted.no_floor,
    }
