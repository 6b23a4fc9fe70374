"""A restore with the cluster around it: stopped before, started and checked after."""

from collections.abc import Sequence
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.errors import NotCoherent, TidstorageError
from tidstorage.operation.progress import Shown, nobody_looks
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.processes import control
from tidstorage.processes.stopping import Tell
from tidstorage.verbs.restore.outcome import Ended, Restored, RestoredElsewhere
from tidstorage.verbs.restore.plan import Request
from tidstorage.verbs.restore.restore import (
    preview_in_place,
    restore_elsewhere,
    restore_in_place,
)
from tidstorage.zeo import barrier


def restore(
    cluster: Cluster,
    request: Request,
    into: Path | None,
    stop: bool,
    tell: Tell,
    shown: Shown = nobody_looks,
) -> Restored | RestoredElsewhere | Ended:
    """Restore elsewhere, over a stopped cluster, or stopping it and starting it.

    into: an empty folder to restore to; None: over the cluster's own files.  stop:
    stop the cluster before, and start it after, also where the restore fails.  tell:
    called with a line for each step of stopping and starting.  shown: for the length
    of the restore itself.

    Raises: as `restore_in_place` and `restore_elsewhere`; with a hint that names what
    is down and how to get it up, where that is so.
    """
    if into is not None:
        with shown() as show:
            return restore_elsewhere(cluster, request, into, show)
    if not stop:
        with shown() as show:
            return restore_in_place(cluster, request, show)
    # What cannot be restored is no reason to stop anything.
    preview_in_place(cluster, request)
    before = control.list_running(cluster)
    try:
        control.stop(cluster, tell=tell)
        with shown() as show:
            outcome = restore_in_place(cluster, request, show)
    except BaseException as error:
        # A part that cannot be stopped is for the operator to deal with first.
        if before and not control.list_running(cluster):
            _start_all_the_same(cluster, error, tell)
        _say_what_is_down(cluster, before, error, tell)
        raise
    try:
        control.start(cluster, tell=tell)
        _check_running(cluster, outcome)
    except BaseException as error:
        _add_hint(error, f"The restore itself is done: {_in_words(outcome)}.", tell)
        _say_what_is_down(cluster, before, error, tell)
        raise
    return outcome


def _start_all_the_same(cluster: Cluster, failure: BaseException, tell: Tell) -> None:
    """Start again what was stopped for a restore that failed, unless amid its swap.

    That this fails too must not hide why the restore did.
    """
    if interrupted_swap(cluster):
        return
    try:
        control.start(cluster, tell=tell)
    except TidstorageError as error:
        if not isinstance(failure, TidstorageError):
            raise
        _add_hint(failure, f"Nor did the cluster start: {error}", tell)


def _say_what_is_down(
    cluster: Cluster, before: Sequence[str], failure: BaseException, tell: Tell
) -> None:
    """Name what was up before and is not any more, and how to get it up again."""
    now = control.list_running(cluster)
    down = ", ".join(label for label in before if label not in now)
    if not down:
        return
    said = f"Now down: {down}; bin/cluster start starts what is down"
    said += ", once the restore is done." if interrupted_swap(cluster) else "."
    _add_hint(failure, said, tell)


def _add_hint(failure: BaseException, more: str, tell: Tell) -> None:
    """Say more with a failure: in its hint, where it has one."""
    if isinstance(failure, TidstorageError):
        failure.hint = f"{failure.hint}\n{more}".lstrip()
    else:
        # An interruption by the keyboard, or a defect.
        tell(more)


def _in_words(outcome: Restored | Ended) -> str:
    kept = f", the old files are kept as *{outcome.kept}" if outcome.kept else ""
    return f"set {outcome.set_id}, now point {outcome.point.id}{kept}"


def _check_running(cluster: Cluster, outcome: Restored | Ended) -> None:
    """The servers that run now serve what was restored."""
    vector = barrier.take(barrier.storages_of(cluster))
    restored = outcome.last_tids if isinstance(outcome, Restored) else {}
    for storage, last in restored.items():
        if vector[storage] < last:
            raise NotCoherent(
                f"the server of storage {storage} ends at"
                f" {tid.to_text(vector[storage])}, before the restored point"
            )
