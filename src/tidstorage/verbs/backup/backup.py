"""A whole backup: the phases in their order, and what happens when one fails."""

import contextlib
import logging
import time
from collections.abc import Iterator

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import BarrierFailed, EngineFailed, InterruptedRestore
from tidstorage.operation import lock, pack_note, progress, results
from tidstorage.operation.progress import Operation, Show, show_nothing
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.sets import layout, manifest
from tidstorage.sets.manifest import Manifest
from tidstorage.system import clock, disks
from tidstorage.verbs.backup import (
    callouts,
    complete,
    copying,
    digests,
    examine,
    foreign_packs,
    prepare,
)
from tidstorage.verbs.backup.moved import SourceMoved
from tidstorage.verbs.backup.prepare import Preparation
from tidstorage.zeo import barrier

logger = logging.getLogger(__name__)

#: How often a copy is begun anew because its source was replaced or packed.
ATTEMPTS = 3


def back_up(cluster: Cluster, show: Show = show_nothing) -> Manifest:
    """Make one coherent set of all storages and blobs, and return its manifest.

    K is taken first, the copies after it: each then holds at least what K
    covers.  Any TidstorageError leaves the earlier sets as they were, and
    nothing of the new one.  show: told how far it is (`tidstorage.operation.progress`).
    """
    with lock.hold(cluster, "backup"):
        return back_up_while_locked(cluster, show=show)


def back_up_while_locked(
    cluster: Cluster, full: bool = False, show: Show = show_nothing
) -> Manifest:
    """The same, where the lock is held already.

    full: build on no copy that is there.
    """
    with (
        results.record(cluster, "backup") as run,
        progress.operation(cluster, "backup", show) as operation,
    ):
        if journal := interrupted_swap(cluster):
            raise InterruptedRestore(f"a restore was interrupted: {journal}")
        commands = cluster.backup
        callouts.run_command(
            cluster,
            "pre-command",
            commands.pre_command,
            callouts.variables(cluster),
        )
        try:
            made = _prepare_and_make(cluster, operation, full)
        except BaseException as error:
            told = callouts.variables(cluster, error=error)
            try:
                callouts.run_command(
                    cluster, "post-command", commands.post_command, told
                )
            except EngineFailed as failed:
                # What made the backup fail is what its caller has to hear of.
                logger.warning("%s", failed)
            raise
        run.set, run.point = made.id, made.point.id
        try:
            callouts.run_command(
                cluster,
                "post-command",
                commands.post_command,
                callouts.variables(cluster, made),
            )
        except EngineFailed as error:
            error.hint = f"Set {made.id} itself is whole. {error.hint}"
            raise
        callouts.ping(cluster)
        return made


def _prepare_and_make(cluster: Cluster, operation: Operation, full: bool) -> Manifest:
    with _reporting_lack_of_space(cluster):
        preparation = prepare.prepare(cluster, full)
    try:
        with _reporting_lack_of_space(cluster):
            made = _make_set(cluster, preparation, operation)
    except BaseException:
        _discard(preparation)
        raise
    _finish(cluster, preparation, made)
    if not pack_note.note_path(cluster).exists():
        # Else it was ours.
        for words in foreign_packs.noticed(
            preparation.previous, made, preparation.start_over
        ):
            logger.warning("%s", words)
    elif preparation.start_over:
        pack_note.settle(cluster)
    return made


def _discard(preparation: Preparation) -> None:
    """Leave nothing of a set that failed, where that is possible."""
    directory = preparation.directory
    try:
        # First: what is taken away now must not be a set for anybody.
        (preparation.folder / manifest.FILE_NAME).unlink(missing_ok=True)
        prepare.discard_files(directory, preparation.existing)
        prepare.discard_set(directory, preparation.folder)
    except OSError as error:
        # What made the backup fail is what its caller has to hear of.
        logger.warning("the next backup removes what this one had begun: %s", error)


def _finish(cluster: Cluster, preparation: Preparation, made: Manifest) -> None:
    """The set is there; what is left to do takes nothing from it when it fails."""
    try:
        (preparation.folder / layout.BEGUN).unlink()
        complete.leave_floor(cluster, made)
        complete.note_damage(cluster, made)
    except OSError as error:
        raise EngineFailed(
            f"set {made.id} is whole, but its point could not be kept beside the"
            f" data files, or its damage in the journal: {error}",
            "The next backup will try again.",
        ) from error


@contextlib.contextmanager
def _reporting_lack_of_space(cluster: Cluster) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if disks.is_full(error):
            raise layout.no_space(error, cluster.backup.directory) from error
        raise EngineFailed(f"{error}", "Earlier sets are as good as before.") from error


def _make_set(
    cluster: Cluster, preparation: Preparation, operation: Operation
) -> Manifest:
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            start_over = preparation.start_over or bool(attempt)
            return _attempt(cluster, preparation, start_over, operation)
        except SourceMoved as error:
            reason = str(error)
            logger.warning("copying anew: %s", error)
            prepare.discard_files(preparation.directory, preparation.existing)
            _wait_for_the_next_second()
    raise EngineFailed(
        f"{ATTEMPTS} attempts to copy failed; the last one: {reason}",
        "Is a pack running? Back up after its end. Is a disk failing?",
    )


def _attempt(
    cluster: Cluster,
    preparation: Preparation,
    start_over: bool,
    operation: Operation,
) -> Manifest:
    seconds: dict[str, float] = {}
    with _timed(seconds, "point"):
        barrier_vector = _take_barrier(cluster)
        moment = clock.now()
    with _timed(seconds, "copy"):
        copies = copying.copy_all(
            cluster,
            preparation.directory,
            start_over,
            operation,
            digests.indexes(preparation.previous),
        )
    with _timed(seconds, "examine"):
        examination = examine.examine(
            cluster, barrier_vector, moment, copies, preparation.floor
        )
    with _timed(seconds, "blobs"):
        vector = examination.point.vector
        stored = complete.copy_blobs(cluster, preparation, copies, vector, operation)
    copying.refuse_replaced(cluster, copies)
    return complete.complete(cluster, preparation, examination, copies, stored, seconds)


def _take_barrier(cluster: Cluster) -> dict[str, int] | None:
    """K at this instant; None where it was given up: the stamps must do then."""
    try:
        return barrier.take(barrier.storages_of(cluster))
    except BarrierFailed as error:
        logger.warning("%s; the stamps decide instead", error)
        return None


@contextlib.contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[phase] = round(time.monotonic() - began, 3)


def _wait_for_the_next_second() -> None:
    """repozo's names have a resolution of one second."""
    time.sleep(1.0 - time.time() % 1.0 + 0.01)
