"""What tests of backups do with a small cluster's sets and repositories."""

import dataclasses
import subprocess

from ZEO.ClientStorage import ClientStorage

from tidstorage.sets.directory import BackupDirectory
from tidstorage.system import child


def repozo(*arguments):
    """Stock repozo."""
    return subprocess.run(
        [*child.python("ZODB.scripts.repozo"), *map(str, arguments)],
        env=child.environment(),
        capture_output=True,
        text=True,
        check=True,
    )


def backup_directory(cluster):
    """The backup directory of a cluster, whatever was there before."""
    return BackupDirectory(cluster.backup.directory)


def whole_sets(cluster):
    """Newest first."""
    return [each for each in backup_directory(cluster).sets() if each.is_whole]


def with_backup(cluster, **changes):
    """The cluster with other options of its backup."""
    backup = dataclasses.replace(cluster.backup, **changes)
    return dataclasses.replace(cluster, backup=backup)


def flip_a_byte(path):
    """What a disk does to a file over the years."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pack(small):
    """Pack storage catalog, of which there is something to pack away then."""
    small.write(7, 6, group=["catalog"])
    client = ClientStorage(small.alpha.address, storage="catalog")
    client.pack(wait=True)
    client.close()
