"""Which sets a verification looks at, and of which not even the manifest can be had."""

from pathlib import Path
from typing import Literal

from tidstorage.errors import NoSuchSet, NotCoherent, SetUnreadable
from tidstorage.sets.directory import BackupDirectory
from tidstorage.sets.manifest import Manifest


def choose_sets(
    directory: BackupDirectory, which: Literal["latest", "all"] | tuple[str, ...]
) -> tuple[list[Manifest], dict[Path, str], dict[Path, str]]:
    """The sets asked for, newest first, and of the others why there is no manifest.

    The latter as {path of the manifest: why it is broken} and {path: why it could not
    be read}.

    Raises:
      NoSuchSet: there is none of those.
      SetUnreadable: nobody can tell.
    """
    sound = directory.manifests()
    wanted = which if isinstance(which, tuple) else _list_ids(directory, which)
    chosen = [made for made in sound if made.id in wanted]
    broken: dict[Path, str] = {}
    unread: dict[Path, str] = {}
    for set_id in set(wanted) - {made.id for made in chosen}:
        path = directory.manifest_path(set_id)
        try:
            # It may be that it can be read by now.
            chosen.append(directory.manifest(set_id))
        except NotCoherent as error:
            broken[path] = str(error).removeprefix(f"{path} ")
        except SetUnreadable as error:
            unread[path] = str(error).removeprefix(f"{path} ")
    if which == "latest" and not chosen:
        # The newest is broken: of the others, the newest that is not.
        chosen = sound[:1]
    if not chosen and not broken and not unread:
        raise NoSuchSet(f"there is no backup set in {directory.path}")
    chosen.sort(key=lambda made: made.id, reverse=True)
    return chosen, broken, unread


def _list_ids(directory: BackupDirectory, which: Literal["latest", "all"]) -> list[str]:
    set_ids = directory.set_ids()
    return set_ids if which == "all" else set_ids[:1]
