"""What an operator should know of runs that failed, were cut off, or never came.

Silence is an alarm: cron that does not run, or a machine that was off, leaves no
error anywhere.
"""

import datetime
from collections.abc import Iterator, Mapping

from tidstorage.cluster import schedule
from tidstorage.cluster.cluster import Cluster
from tidstorage.deployment import crontab
from tidstorage.operation import pack_note
from tidstorage.operation.results import VERBS, Result, Results
from tidstorage.system.clock import local, span

#: A run may begin late, since it waits for another one to end.
GRACE = datetime.timedelta(hours=1)
#: cron starts within the minute.
_MINUTE = datetime.timedelta(minutes=1)


def find_alarms(
    cluster: Cluster,
    runs: Mapping[str, Results | None],
    newest_set: datetime.datetime | None,
    now: datetime.datetime,
) -> Iterator[str]:
    """What is wrong with the runs of a cluster's verbs, in words, verb by verb.

    runs: {verb: its last runs}; None of one that never ran.  newest_set: when the
    newest set that there is was begun; it counts as a good backup, whoever made it.
    now: like all times here, aware.
    """
    planned = crontab.list_schedules(cluster)
    for verb in VERBS:
        results = runs.get(verb)
        good = results.good.begun if results is not None and results.good else None
        if verb == "backup":
            good = max(filter(None, (good, newest_set)), default=None)
        last = results.last if results is not None else None
        if fields := planned[verb]:
            yield from _overdue(verb, fields, good, last, now)
        if last is not None:
            yield from _failed(last)
    yield from _unfinished_packs(cluster, runs.get("pack"))


def _overdue(
    verb: str,
    fields: str,
    good: datetime.datetime | None,
    last: Result | None,
    now: datetime.datetime,
) -> Iterator[str]:
    """That no good run has begun since one was due.

    fields: of the schedule, as crontab has them.  good: when the last good run
    began.  last: the last run.
    """
    try:
        due = schedule.last_due(fields, now - GRACE)
    except ValueError:
        # Of what is never due nothing can be missing.
        return
    # Where no run was ever good, nothing tells since when one had to be expected.
    if good is None or good >= due - _MINUTE:
        return
    if last is not None and last.state == "running" and last.begun >= due - _MINUTE:
        return
    yield (
        f"the last good {verb} began at {local(good)}, {span(now - good)} ago; the"
        f' schedule "{fields}" expected one at {local(due)}: does cron run, and has'
        " it the entries (bin/cluster cron --show)?"
    )


def _failed(last: Result) -> Iterator[str]:
    if last.state == "failed":
        words = f"the last {last.verb}, at {local(last.begun)}, ended with status"
        said = f": {last.error}" if last.error else ""
        hint = f" (hint: {last.hint})" if last.hint else ""
        yield f"{words} {last.status}{said}{hint}"
    elif last.state == "killed":
        yield (
            f"the last {last.verb}, begun at {local(last.begun)}, was killed; the next"
            " one goes on from there"
        )


def _unfinished_packs(cluster: Cluster, results: Results | None) -> Iterator[str]:
    if results is not None and results.last.state == "running":
        return
    words = pack_note.describe(cluster)
    if words is not None:
        yield f"{words}: bin/cluster backup makes it"
    for storage in cluster.storages:
        path = pack_note.leftover(storage)
        if path is not None:
            yield (
                f"{path} is there: somebody packs, or was cut off; bin/cluster pack"
                " removes what was left"
            )
