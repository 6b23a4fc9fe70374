"""Making the folder of a cluster ready without buildout, as for scratch clusters.

buildout's recipes do the same for a folder that is kept, and also remove what a
changed description no longer needs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.deployment.generated import generate_files
from tidstorage.deployment.rendering import GeneratedFile
from tidstorage.deployment.scripts import Script, list_scripts
from tidstorage.errors import FileUnreadable
from tidstorage.sets import marker
from tidstorage.system import users

#: Data belongs to the user that the servers run as, and to nobody else.
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
SCRIPT_MODE = 0o755


def make_directories(cluster: Cluster) -> None:
    """Make the folders that are missing; those of data that exist are not changed."""
    own = [
        cluster.run_directory.parent,
        cluster.etc_directory,
        cluster.log_directory,
        cluster.run_directory,
        cluster.daemon.tid_log.parent,
        *(zope.cache_directory for zope in cluster.zopes),
    ]
    data = [storage.data_file.parent for storage in cluster.storages]
    if _may_make_backup_directory(cluster):
        data.append(cluster.backup.directory)
    for directory in (*own, *data):
        _make(directory, cluster.user)
    # bootstrap.py keeps a log there before anybody knows of a user.
    users.hand_over(cluster.user, own)


def _may_make_backup_directory(cluster: Cluster) -> bool:
    """Whether there never was one: else its disk may just not be mounted now."""
    try:
        return not marker.is_noted(cluster)
    except (FileUnreadable, PermissionError):
        # A backup will say so; there is no need of the directory before.
        return False


def _make(directory: Path, user: str | None) -> None:
    """Make a folder and its parents; what is made belongs to the user."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    for path in missing:
        path.chmod(DIRECTORY_MODE)
    users.hand_over(user, missing)


def hand_over_files(cluster: Cluster, files: Sequence[GeneratedFile]) -> None:
    """Let the cluster's user read what root generated."""
    targets = [file.target for file in files]
    users.hand_over(cluster.user, [cluster.etc_directory, *targets])


def write_files(cluster: Cluster, *, zope_path: Sequence[Path] = ()) -> None:
    """Write everything below etc/ and bin/, for the running interpreter.

    zope_path: folders from which the Zopes, and nothing else, import too.
    """
    make_directories(cluster)
    files = generate_files(cluster)
    for file in files:
        _write(file.target, file.text, FILE_MODE)
    hand_over_files(cluster, files)
    cluster.bin_directory.mkdir(parents=True, exist_ok=True)
    for script in list_scripts(cluster):
        text = _script_text(script, zope_path if script.runs_zope else ())
        _write(cluster.bin_directory / script.name, text, SCRIPT_MODE)


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


def _script_text(script: Script, folders: Sequence[Path]) -> str:
    module, _, function = script.entry_point.partition(":")
    paths = [*map(str, folders), *(entry for entry in sys.path if entry)]
    position = script.position
    return (
        f"#!{sys.executable}\n"
        "import sys\n"
        f"sys.path[:] = {paths!r}\n"
        f"sys.argv[{position}:{position}] = {list(script.arguments)!r}\n"
        f"from {module} import {function}\n"
        'if __name__ == "__main__":\n'
        f"    sys.exit({function}())\n"
    )
