"""``bin/cluster damage``: what is torn, what it costs; accepting or undoing it."""

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console
from tidstorage.points.entries import WireDamage
from tidstorage.system import clock
from tidstorage.system.clock import local, span
from tidstorage.verbs.damage import findings
from tidstorage.verbs.damage.accept import Accepted, acknowledge, rehearse
from tidstorage.verbs.damage.findings import Finding, Findings

HELP = "Explain what half commits there are; accept or undo them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--acknowledge",
        metavar="COMMIT",
        help="accept this half commit; the first digits will do",
    )
    which.add_argument(
        "--undo",
        metavar="COMMIT",
        help="undo this half commit where it is, and accept it then",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and whether"
    )


def run(options: argparse.Namespace, cluster: Cluster) -> int:
    """Print what there is, or accept or undo one."""
    if options.undo is not None:
        _undo(options, cluster)
    elif options.acknowledge is not None:
        act = rehearse if options.dry_run else acknowledge
        accepted = act(cluster, options.acknowledge)
        if options.json:
            console.print_json(_accepted_as_json(accepted, options.dry_run))
        else:
            _describe_accepted(cluster, accepted, options.dry_run)
    else:
        found = findings.find(cluster)
        if options.json:
            console.print_json(_findings_as_json(found))
        else:
            _describe(cluster, found)
    return 0


def _undo(options: argparse.Namespace, cluster: Cluster) -> None:
    # ZODB's databases take a while to import, and only this needs them.
    from tidstorage.verbs.damage import undo

    # What a server refuses is told once, as an error.
    logging.getLogger("ZEO").addHandler(logging.NullHandler())
    if options.dry_run:
        done = undo.rehearse(cluster, options.undo)
    else:
        done = undo.undo(cluster, options.undo)
    accepted = done.accepted or Accepted(done.finding, True, None, None)
    if options.json:
        undone = {"undone": not options.dry_run}
        console.print_json({**_accepted_as_json(accepted, options.dry_run), **undone})
        return
    present = ", ".join(sorted(done.finding.half_commit.present))
    verb = "would be undone" if options.dry_run else "undone"
    if options.dry_run:
        for line in explain(cluster, done.finding):
            console.print_line(line)
        console.print_line(f"{verb} in {present}, and accepted")
    else:
        _describe_accepted(cluster, accepted, False)
        console.print_line(f"{verb} in {present}")


def _describe(cluster: Cluster, found: Findings) -> None:
    open_ones = len(found.unacknowledged)
    accepted = len(found.found) - open_ones
    if not found.found:
        console.print_line(
            "There is no half commit." if found.wire else "No transaction is torn."
        )
    else:
        console.print_line(
            f"{len(found.found)} half commit(s): transactions that some storages hold"
            " and others never will; "
            + (f"{accepted} accepted" if accepted else "none accepted")
        )
    for each in found.found:
        console.print_line()
        for line in explain(cluster, each):
            console.print_line(line)
    if found.wire:
        console.print_line()
        for line in _of_wire(found.wire):
            console.print_line(line)
    if open_ones:
        console.print_line()
        for line in _costs(found):
            console.print_line(line)
    if found.unexamined is not None:
        console.print_warning(
            f"only the daemon's journal was examined, not the files: {found.unexamined}"
        )


def _of_wire(wire: Sequence[WireDamage]) -> list[str]:
    lines = [
        f"{len(wire)} transaction(s) of storages that nobody observes may be torn;"
        " messages are all that is known of them:"
    ]
    for each in wire:
        tids = {
            storage: tid.to_text(each.tids[storage]) if storage in each.tids else "none"
            for storage in each.storages
        }
        lines.append(
            f"  {each.transaction_id}, {local(each.time)}: {each.reason}; TIDs told: "
            + ", ".join(f"{storage} {told}" for storage, told in sorted(tids.items()))
        )
    return lines


def explain(cluster: Cluster, finding: Finding) -> list[str]:
    """One half commit, in words."""
    half = finding.half_commit
    age = span(clock.now() - finding.since)
    present = sorted(half.present)
    missing = sorted(half.missing)
    lines = [
        f"{half.commit_id.hex()}",
        f"  since {local(finding.since)}, {age} ago",
        f"  in {', '.join(present)}; never in {', '.join(missing)}: {finding.proof}",
    ]
    for storage in present:
        described = finding.descriptions.get(storage)
        place = f"  {storage} {tid.to_text(half.present[storage])}: "
        if described is None:
            lines.append(f"{place}its record cannot be read here")
        else:
            text = described.description.strip() or "without a description"
            lines.append(f"{place}by {_user(described.user)}, {text}")
    known = {each.id for each in cluster.storages}
    for storage in missing:
        if storage not in known:
            lines.append(f"  {storage} is no storage of the cluster any more")
    if finding.acknowledgement is not None:
        by, when = finding.acknowledgement.by, finding.acknowledgement.time
        lines.append(f"  accepted by {by}, {local(when)}")
    return lines


def _user(recorded: str) -> str:
    """The name without the path of a user folder at the root (``/ admin``)."""
    return recorded.removeprefix("/ ").strip() or "nobody named"


def _costs(found: Findings) -> list[str]:
    open_ones = found.unacknowledged
    loss = found.strict_loss
    ids = ", ".join(each.half_commit.commit_id.hex()[:8] for each in open_ones)
    if loss is not None:
        strict = (
            f"--strict would lose {loss.transactions} transaction(s) since"
            f" {local(loss.since)}, {span(clock.now() - loss.since)}"
        )
    else:
        strict = "what --strict would lose cannot be told from the files here"
    return [
        "A restore of the state as it is now:",
        f"  {strict}",
        f"  --tolerant would lose nothing; torn would stay {ids}",
        "  with neither, only what was accepted may be torn:"
        " bin/cluster damage --acknowledge COMMIT",
    ]


def _describe_accepted(cluster: Cluster, accepted: Accepted, dry_run: bool) -> None:
    for line in explain(cluster, accepted.finding):
        console.print_line(line)
    if dry_run:
        console.print_line(
            "would be accepted" if accepted.new else "is accepted already"
        )
        return
    console.print_line("accepted" if accepted.new else "was accepted before")
    if accepted.floor is not None:
        console.print_line(f"new floor: point {accepted.floor.id}")
    else:
        console.print_line(f"the floor stays as it was: {accepted.no_floor}")


def as_json(finding: Finding) -> dict[str, Any]:
    """One half commit."""
    accepted = finding.acknowledgement
    return {
        **finding.half_commit.to_json(),
        "since": finding.since.isoformat(),
        "proof": finding.proof,
        "records": {
            storage: {"user": each.user, "description": each.description}
            for storage, each in sorted(finding.descriptions.items())
        },
        "acknowledged": (
            None
            if accepted is None
            else {"time": accepted.time.isoformat(), "by": accepted.by}
        ),
    }


def _findings_as_json(found: Findings) -> dict[str, Any]:
    return {
        "half_commits": [as_json(each) for each in found.found],
        "strict_loss": found.strict_loss and found.strict_loss.to_json(),
        "unexamined": found.unexamined,
        "wire": [
            {
                "transaction": each.transaction_id,
                "storages": list(each.storages),
                "tids": tid.vector_to_text(each.tids),
                "reason": each.reason,
                "time": each.time.isoformat(),
            }
            for each in found.wire
        ],
    }


def _accepted_as_json(accepted: Accepted, dry_run: bool) -> dict[str, Any]:
    return {
        **as_json(accepted.finding),
        "new": accepted.new,
        "dry_run": dry_run,
        "floor": accepted.floor and accepted.floor.to_json(),
        "no_floor": accepted.no_floor,
    }
