"""A whole backup: the phases in their order, and what happens when one fails."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Set

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import EngineFailed, InterruptedRestore, NoSpace
from tidstorage.operation import lock, pack_note, progress, results
from tidstorage.operation.progress import Operation, Show, show_nothing
from tidstorage.operation.unfinished import interrupted_swap
from tidstorage.points import known_files
from tidstorage.sets import begun, manifest, repozo
from tidstorage.sets.blob_losses import describe_losses
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest
from tidstorage.system import disks
from tidstorage.verbs.backup import (
    adoption,
    blobs,
    complete,
    copying,
    leftovers,
    pre_post_commands,
    prepare,
    set_point,
)
from tidstorage.verbs.backup.copy_anew import CopyAnew
from tidstorage.verbs.backup.doubt import EndInDoubt, seal_ends
from tidstorage.verbs.backup.packs_by_others import describe_packs
from tidstorage.verbs.backup.ping import ping
from tidstorage.verbs.backup.prepare import Preparation

logger = logging.getLogger(__name__)

#: How often a copy is begun anew because its source was replaced or packed.
ATTEMPTS = 3


def back_up(
    cluster: Cluster, show: Show = show_nothing, *, adopt: bool = False
) -> Manifest:
    """Make one coherent set of all storages and blobs, and return its manifest.

    The point K is taken first, the copies after it: each then holds at least what K
    covers.  show: told how far it is (`tidstorage.operation.progress`).  adopt: go on
    with what lies in the backup directory, whoever wrote it.

    Raises: TidstorageError: of any kind; the earlier sets are then as they were, and
    of the new one there is nothing, but where the text says that it is whole.
    """
    with lock.hold(cluster, "backup"):
        return back_up_while_locked(cluster, show=show, adopt=adopt)


def back_up_while_locked(
    cluster: Cluster,
    *,
    full: bool = False,
    show: Show = show_nothing,
    adopt: bool = False,
) -> Manifest:
    """As `back_up`, where the caller holds the cluster's lock already.

    full: make full copies, whatever there is.
    """
    with (
        results.record(cluster, "backup") as run,
        progress.operation(cluster, "backup", show) as operation,
    ):
        if journal := interrupted_swap(cluster):
            raise InterruptedRestore(f"a restore was interrupted: {journal}")
        pre_post_commands.run_pre_command(cluster)
        try:
            made = _prepare_and_make(cluster, operation, full, adopt)
        except BaseException as error:
            pre_post_commands.run_post_command_after_failure(cluster, error)
            raise
        run.set, run.point = made.id, made.point.id
        pre_post_commands.run_post_command(cluster, made)
        ping(cluster)
        return made


def _prepare_and_make(
    cluster: Cluster, operation: Operation, full: bool, adopt: bool
) -> Manifest:
    with _explaining_os_errors(cluster):
        prepare.refuse_the_impossible(cluster)
        if adopt:
            adoption.refuse_what_does_not_follow(cluster)
        directory = BackupDirectory.begin(cluster, adopt=adopt)
    with lock.hold_directory(directory.path, "backup"):
        with _explaining_os_errors(cluster):
            # It looks at the directory once more, now that nobody else changes it.
            preparation = prepare.prepare(cluster, full=full)
        try:
            with _explaining_os_errors(cluster):
                made = _make_set(preparation, operation)
        except BaseException:
            _discard(preparation)
            raise
        _finish(preparation, made)
        for words in describe_losses(made):
            logger.warning("%s", words)
    if not pack_note.note_path(cluster).exists():
        # Else the pack was ours.
        for words in describe_packs(
            preparation.previous, made, started_over=preparation.start_over
        ):
            logger.warning("%s", words)
    elif preparation.start_over:
        pack_note.settle(cluster)
    return made


def _discard(preparation: Preparation) -> None:
    """Leave nothing of a set that failed, where that is possible."""
    folder = preparation.set_folder
    try:
        # First: what is taken away now must not be a set for anybody.
        (folder / manifest.FILE_NAME).unlink(missing_ok=True)
        preparation.discard_copies()
        leftovers.remove_set(preparation.directory, folder)
    except OSError as error:
        # What made the backup fail is what its caller has to hear of.
        logger.warning(
            "what this backup has begun is left; the next one removes it: %s", error
        )


def _finish(preparation: Preparation, made: Manifest) -> None:
    """The set is there; what is left to do takes nothing from it when it fails.

    Raises: EngineFailed: where it fails.
    """
    try:
        (preparation.set_folder / begun.FILE_NAME).unlink()
        complete.leave_floor(preparation.cluster, made)
        known_files.note(preparation.cluster, made.point.vector)
        complete.note_damage(preparation.cluster, made)
    except OSError as error:
        raise EngineFailed(
            f"set {made.id} is whole, but its point could not be kept beside the"
            f" data files, or its damage in the journal: {error}",
            "The next backup will try again.",
        ) from error


@contextlib.contextmanager
def _explaining_os_errors(cluster: Cluster) -> Iterator[None]:
    """Errors of the system get a text of ours, and say what became of the sets.

    Raises:
      NoSpace: the disk is full.
      EngineFailed: the system refused something else.
    """
    try:
        yield
    except OSError as error:
        if disks.is_full(error):
            raise NoSpace(
                f"{error.filename or cluster.backup.directory} cannot be written:"
                f" {error.strerror}",
                "Make room and run the backup again; earlier sets are as good as"
                " before.",
            ) from error
        raise EngineFailed(f"{error}", "Earlier sets are as good as before.") from error


def _make_set(preparation: Preparation, operation: Operation) -> Manifest:
    reason = ""
    attempts = ATTEMPTS
    doubted: Set[str] = set()
    while attempts:
        try:
            return _try_to_make_set(preparation, operation, doubted)
        except EndInDoubt as error:
            # Each is sealed once; what is left then is no abandoned vote.
            unsealed = {
                storage: seen
                for storage, seen in error.bounds.items()
                if storage not in doubted
            }
            doubted = doubted | error.bounds.keys()
            seal_ends(preparation.cluster, unsealed)
            preparation.discard_copies()
            repozo.await_second_after(
                repozo.current_second(), "Correct the clock of this machine."
            )
        except CopyAnew as error:
            attempts -= 1
            reason = str(error)
            logger.warning("all storages are copied again, in full: %s", error)
            preparation.discard_copies()
            preparation = dataclasses.replace(preparation, start_over=True)
            # Two files of one second would have one name for repozo.
            repozo.await_second_after(
                repozo.current_second(), "Correct the clock of this machine."
            )
    raise EngineFailed(
        f"{ATTEMPTS} attempts to copy failed; the last one: {reason}",
        "Is a pack running? Back up after its end. Is a disk failing?",
    )


def _try_to_make_set(
    preparation: Preparation, operation: Operation, doubted: Set[str]
) -> Manifest:
    """The phases, in their order.

    Raises:
      CopyAnew: where the copies do not fit what they were made of.
      EndInDoubt: where others saw of a storage, not in doubted, what it does not hold.
    """
    cluster = preparation.cluster
    seconds: dict[str, float] = {}
    with _timed(seconds, "point"):
        barrier = set_point.take_barrier(cluster)
    # After the barrier: so the copies hold at least what it covers.
    with _timed(seconds, "copy"):
        copies = copying.copy_all(preparation, operation)
    with _timed(seconds, "examine"):
        chosen = set_point.choose_set_point(preparation, barrier, copies, doubted)
    complete.strike_out(cluster, chosen.whole)
    with _timed(seconds, "blobs"):
        vector = chosen.point.vector
        stored_blobs = blobs.copy_blobs(preparation, copies, vector, operation)
    # Once all has been read: until here another file could have taken the place.
    copying.refuse_replaced(cluster, copies)
    return complete.write_manifest(preparation, chosen, copies, stored_blobs, seconds)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[phase] = round(time.monotonic() - began, 3)
