"""One half commit, as `damage` and `rebase` print it for people and for programs."""

from typing import Any

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.commands import console
from tidstorage.system import clock
from tidstorage.system.clock import local, span
from tidstorage.verbs.damage.findings import Finding


def describe(cluster: Cluster, finding: Finding) -> None:
    """Print where it is and is not, what proves that, and whose it is."""
    half = finding.half_commit
    present = sorted(half.present)
    missing = sorted(half.missing)
    console.print_line(half.commit_id.hex())
    age = span(clock.now() - finding.since)
    console.print_line(f"  since {local(finding.since)}, {age} ago")
    console.print_line(
        f"  in {', '.join(present)}; never in {', '.join(missing)}: {finding.proof}"
    )
    for storage in present:
        console.print_line(
            f"  {storage} {tid.to_text(half.present[storage])}:"
            f" {_describe_record(finding, storage)}"
        )
    known = {storage.id for storage in cluster.storages}
    for storage in missing:
        if storage not in known:
            console.print_line(f"  {storage} is not a storage of the cluster any more")
    if finding.acknowledgement is not None:
        by, when = finding.acknowledgement.by, finding.acknowledgement.time
        console.print_line(f"  accepted by {by}, {local(when)}")


def _describe_record(finding: Finding, storage: str) -> str:
    record = finding.descriptions.get(storage)
    if record is None:
        return "its record cannot be read here"
    text = record.description.strip() or "without a description"
    return f"by {_user(record.user)}, {text}"


def _user(recorded: str) -> str:
    """The name without the path of a user folder at the root (``/ admin``)."""
    return recorded.removeprefix("/ ").strip() or "nobody named"


def as_json(finding: Finding) -> dict[str, Any]:
    """The public form."""
    accepted = finding.acknowledgement
    return {
        **finding.half_commit.to_json(),
        "since": finding.since.isoformat(),
        "proof": finding.proof,
        "records": {
            storage: {"user": record.user, "description": record.description}
            for storage, record in sorted(finding.descriptions.items())
        },
        "acknowledged": (
            None
            if accepted is None
            else {"time": accepted.time.isoformat(), "by": accepted.by}
        ),
    }
