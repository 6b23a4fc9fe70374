"""Requests to cut crashed files where they lie, as the original's files describe it."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tidstorage.errors import DescriptionError
from tidstorage.legacy import site as sites
from tidstorage.legacy.configuration import Configuration
from tidstorage.legacy.site import Site
from tidstorage.verbs.restore import crashed_files
from tidstorage.verbs.restore.crashed_files import Policy, Request


def read_request(configuration: Configuration, policy: Policy) -> Request:
    """``data_fs_backup_path_dict``, above the last point in ``status_file``.

    Where some of what follows that point has no stamp, nobody can tell whether it
    fits together: then the files are to be cut at the point itself (``at_floor``),
    as the original did.  Otherwise the stamps tell, and keep more.  What is cut off
    goes beside the copy that the original would have made.

    Raises:
      DescriptionError: where one of the two is missing.
      All that `crashed_files.preview` raises.
    """
    status_file = configuration.file("status_file")
    files = configuration.crashed_files
    if not files or status_file is None:
        missing = "data_fs_backup_path_dict" if not files else "status_file"
        raise DescriptionError(f"{configuration.path}: {missing} is missing")
    request = Request(
        paths={file.id: file.data_file for file in files},
        aliases={alias: file.id for file in files for alias in file.aliases},
        retired=frozenset(),
        floor=status_file,
        policy=policy,
        keep_beside={file.id: file.backup for file in files},
    )
    cut = crashed_files.preview(request).files_cut
    lacks_stamps = cut is not None and any(cut.unstamped.values())
    return replace(request, at_floor=lacks_stamps)


@contextlib.contextmanager
def request_in_place(site: Site, tid_log: Path) -> Iterator[Request]:
    """The present files, to be cut at a TID log's last point exactly.

    Nobody else works on the site within the ``with`` block.

    Raises: Locked, InterruptedRestore: as `sites.hold_alone`.
    """
    with sites.hold_alone(site, "tidstorage_repozo --recover_inplace"):
        yield Request(
            paths={storage.id: storage.data_file for storage in site.storages},
            aliases=site.aliases,
            retired=frozenset(),
            floor=tid_log,
            at_floor=True,
        )
