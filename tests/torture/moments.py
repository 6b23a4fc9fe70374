"""Points and moments below a set's own, brought back from its copies, and judged."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from tidstorage.errors import NotReachable
from torture import judge
from torture.judge import History
from torture.published import Line
from torture.tools import ToolFailed, run_cluster
from torture.verdicts import Verdict


def bring_back(verdict: Verdict, lines: Sequence[Line], chance: random.Random) -> None:
    """One point that was published before the newest set, and one moment.

    lines: of the journal, of the stretch and its timeline.
    """
    made = verdict.newest_set()["point"]
    points: list[Line] = []
    for each in lines:
        if (
            each["kind"] != "point"
            or each["timeline"] != made["timeline"]
            or each["time"] > made["time"]
        ):
            continue
        if points and each["time"] < points[-1]["time"]:
            # A floor that was set meanwhile: a search by time does not find both.
            verdict.counts["points whose time goes back"] += 1
        else:
            points.append(each)
    if not points:
        return
    for kind in ("point", "moment"):
        chosen = chance.choice(points)
        wanted = chosen["id"] if kind == "point" else chosen["time"]
        _bring_back(verdict, kind, wanted, judge.named_vector(chosen["vector"]))


def _bring_back(
    verdict: Verdict, kind: str, wanted: str, vector: Mapping[str, int]
) -> None:
    site, counts = verdict.site, verdict.counts
    folder = site.folder / f"{kind}-{counts['timelines']}"
    try:
        run_cluster(
            site.file, "restore", "--to", wanted, "--tolerant", "--into", str(folder)
        )
    except ToolFailed as error:
        if error.status == NotReachable.exit_status:
            counts[f"{kind}s out of reach"] += 1
        else:
            verdict.report.violate(kind, [str(error)])
        return
    files = {each: folder / each / "Data.fs" for each in site.storages}
    blobs = {each: folder / each / "blobs" for each in site.blobs}
    state = verdict.state(kind, "tolerant", files, verdict.known.torn, blobs)
    held = {each: judge.read_history({each: [files[each]]}) for each in files}
    for storage, last in vector.items():
        expected = _keys(verdict.history, storage, last)
        found = _keys(held[storage], storage, state.ends[storage])
        if expected - found or (kind == "point" and found - expected):
            verdict.report.violate(
                f"{kind} {wanted}",
                [f"{storage}: {len(found)} transactions, not {len(expected)}"],
            )
    counts[f"{kind}s brought back"] += 1


def _keys(history: History, storage: str, last: int) -> set[Any]:
    return {
        key
        for key, record in history.records[storage].items()
        if record.tid <= last and not key[0].startswith("undo ")
    }
