"""Crashed files cut where they lie, as the original's configuration names them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tidstorage.errors import DescriptionError, InterruptedRestore
from tidstorage.legacy.configuration import Configuration
from tidstorage.legacy.site import Site
from tidstorage.operation import lock
from tidstorage.verbs.restore import crashed_files
from tidstorage.verbs.restore.crashed_files import Outcome, Policy, Request


def request(configuration: Configuration, policy: Policy) -> Request:
    """``data_fs_backup_path_dict`` above the last point in ``status_file``.

    What is cut off goes beside the copy that the original would have made.
    """
    status_file = configuration.file("status_file")
    files = configuration.crashed_files
    if not files or status_file is None:
        missing = "data_fs_backup_path_dict" if not files else "status_file"
        raise DescriptionError(f"{configuration.path}: {missing} is missing")
    return Request(
        paths={each.id: each.data_file for each in files},
        aliases={alias: each.id for each in files for alias in each.aliases},
        retired=frozenset(),
        floor=status_file,
        policy=policy,
        keep_beside={each.id: each.backup for each in files},
    )


def cut(asked: Request, dry_run: bool) -> tuple[Outcome, bool]:
    """Cut the files; whether that was at the floor itself, as the original did.

    Where some of what follows the floor has no stamp, nobody can tell whether it
    fits together; else the stamps can, and keep more.
    """
    rehearsed = crashed_files.preview(asked)
    files_cut = rehearsed.files_cut
    blind = files_cut is not None and any(files_cut.unstamped.values())
    if blind:
        asked = replace(asked, at_floor=True)
        rehearsed = crashed_files.preview(asked)
    return rehearsed if dry_run else crashed_files.restore(asked), blind


def cut_in_place(
    site: Site, tid_log: Path, run: Callable[[Request], Outcome]
) -> Outcome:
    """Cut the present files at the last point of a TID log, exactly.

    run: `crashed_files.restore`, or its rehearsal.
    """
    asked = Request(
        paths={each.id: each.data_file for each in site.storages},
        aliases=site.aliases,
        retired=frozenset(),
        floor=tid_log,
        at_floor=True,
    )
    with lock.hold_file(site.lock_file, "tidstorage_repozo --recover_inplace"):
        if site.swap_journal.exists():
            raise InterruptedRestore(f"a restore was interrupted: {site.swap_journal}")
        return run(asked)
