"""Everything of a restore before its swap: the new files, beside the present ones."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence.point import Point
from tidstorage.engines import filestorage
from tidstorage.errors import EngineFailed, NoSpace
from tidstorage.operation import parallel
from tidstorage.operation.parallel import Check
from tidstorage.operation.progress import Advance, Operation, Phase
from tidstorage.system import disks
from tidstorage.verbs.restore import assemble, check, cutting, rates, reuse, target
from tidstorage.verbs.restore.cutting import Cut
from tidstorage.verbs.restore.plan import Choice
from tidstorage.verbs.restore.target import Target


@dataclass(frozen=True, slots=True)
class Staged:
    """sizes: {storage id: (bytes in the set, bytes kept)}.  files: {storage id: the
    file that becomes, or stays, its Data.fs}; those that are reused still to be cut.
    """

    sizes: Mapping[str, tuple[int, int]]
    files: Mapping[str, Path]
    cut: Cut


def stage(
    cluster: Cluster,
    chosen: Choice,
    targets: Mapping[str, Target],
    operation: Operation,
    reused: Collection[str] = (),
) -> Staged:
    """All phases before the swap.

    reused: ids of storages whose present files hold what the set holds.
    """
    directory, manifest = chosen.directory.path, chosen.manifest
    new = {
        storage: where for storage, where in targets.items() if storage not in reused
    }
    assemble.refuse_lack_of_space(manifest, targets, reused)
    with nothing_left_of_a_failure(targets):
        _stage_data_files(cluster, chosen, new, operation)
        files = {
            storage: where.data_file if storage in reused else where.staged_data_file
            for storage, where in targets.items()
        }
        cut = cutting.find_cut(cluster, chosen, files)
        ends = cutting.ends_before(files, cut.vector)
        lengths = {
            storage: filestorage.position_after(path, cut.vector[storage])
            for storage, path in files.items()
        }
        _refuse_lack_for_tails({files[storage]: lengths[storage] for storage in reused})
        cutting.cut_staged(new, cut.vector)
        for storage, where in new.items():
            check.refuse_unsound(storage, where)
        check.check(cluster, manifest, chosen.policy, files, cut, ends)
        blob_bytes = sum(manifest.storage(storage).blob_bytes for storage in targets)
        with operation.phase("copy blobs", blob_bytes) as phase:
            for storage, where in targets.items():
                stored, last = manifest.storage(storage), cut.vector[storage]
                with phase.item(storage):
                    assemble.blob_directory(
                        directory,
                        stored,
                        where,
                        last,
                        phase.advance,
                        storage in reused,
                    )
        return Staged(
            {
                storage: (manifest.storage(storage).size, length)
                for storage, length in lengths.items()
            },
            files,
            cut,
        )


def _refuse_lack_for_tails(lengths: Mapping[Path, int]) -> None:
    """Refuse where what is cut off the present files cannot be kept beside them.

    lengths: {file: bytes that are kept of it}.

    Raises: NoSpace: where that is so.
    """
    disks.refuse_lack(
        {
            path.with_name(f"{path.name}{target.DROPPED}"): path.stat().st_size - length
            for path, length in lengths.items()
        },
        "what is cut off the files, and kept beside them,",
        "Make room, or restore elsewhere with --into.",
    )


def reusable(
    cluster: Cluster,
    chosen: Choice,
    targets: Mapping[str, Target],
    possible: Collection[str],
    operation: Operation,
) -> frozenset[str]:
    """Ids of the storages whose present files begin with what the set holds.

    possible: ids of those of which that may be so, see `reuse.possible`.
    """
    directory, manifest = chosen.directory.path, chosen.manifest
    size = sum(manifest.storage(storage).size for storage in possible)
    with operation.phase("compare the present files", size) as phase:

        def compare(storage: str, check: Check) -> bool:
            stored, path = manifest.storage(storage), targets[storage].data_file
            advance = _checking(check, phase)
            with phase.item(storage):
                return reuse.begins_with(directory, stored, path, advance)

        try:
            with rates.measured(cluster, "compare", size):
                good = parallel.run(cluster.backup.jobs, compare, possible)
        except OSError as error:
            raise EngineFailed(
                f"a present file cannot be read: {error}",
                "Give --copy to put all of them together anew.",
            ) from error
    return frozenset(
        storage for storage, is_good in zip(possible, good, strict=True) if is_good
    )


def _checking(check: Check, phase: Phase) -> Advance:
    """Count what is done, and end with it where another storage's work has failed."""

    def advance(count: int) -> None:
        check()
        phase.advance(count)

    return advance


def _stage_data_files(
    cluster: Cluster,
    chosen: Choice,
    targets: Mapping[str, Target],
    operation: Operation,
) -> None:
    directory, manifest = chosen.directory.path, chosen.manifest
    size = sum(manifest.storage(storage).size for storage in targets)
    with operation.phase("copy", size) as phase:

        def put_together(storage: str, check: Check) -> None:
            stored, where = manifest.storage(storage), targets[storage]
            advance = _checking(check, phase)
            with phase.item(storage):
                assemble.data_file(directory, stored, where, advance)

        with rates.measured(cluster, "copy", size):
            parallel.run(cluster.backup.jobs, put_together, targets)


@contextlib.contextmanager
def nothing_left_of_a_failure(targets: Mapping[str, Target]) -> Iterator[None]:
    """Remove the staging when something fails before the swap."""
    try:
        yield
    except BaseException as error:
        target.remove_staging(targets.values())
        if isinstance(error, OSError) and disks.is_full(error):
            raise NoSpace(f"{error}", "Nothing has been changed.") from error
        if isinstance(error, OSError):
            raise EngineFailed(f"{error}", "Nothing has been changed.") from error
        raise


def end_with_files(new: Point, files: Mapping[str, Path]) -> Point:
    """The point as one to leave beside the files, which may end before it."""
    last_kept = {
        storage: cutting.find_last_kept(files[storage], last)
        for storage, last in new.vector.items()
        if storage in files
    }
    return replace(new, vector={**new.vector, **last_kept})
