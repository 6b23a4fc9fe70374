"""Whether a running ZEO server collects garbage when it packs.

By ZODB's default it does: then an object of one database to which only another one
refers is destroyed.  ZEO does not tell how a server was configured.  So what it
has read is looked at: the process that has the Data.fs locked, the configuration
file on its command line, unchanged since it began.
"""

import itertools
from pathlib import Path
from typing import Any

import ZConfig
import ZEO

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.deployment import supervision
from tidstorage.engines.filestorage import lock
from tidstorage.errors import PackUnsafe
from tidstorage.system import proc

_SCHEMA = Path(ZEO.__file__).with_name("schema.xml")
_OPTIONS = ("-C", "--configure")
#: Seconds by which the begin of a process may look earlier than it was.
_SLACK = 1.0


class _Unknown(Exception):
    """Nobody can tell; the text says why."""


def refuse_collection(cluster: Cluster, storage: Storage, gc_is_off: bool) -> None:
    """Refuse to let a server pack a storage unless it leaves garbage where it is.

    gc_is_off: somebody has said that it does; believed where nothing is known.

    Raises: PackUnsafe: the server would collect garbage, or nobody can tell.
    """
    try:
        collects = _collects(cluster, storage)
    except _Unknown as unknown:
        if gc_is_off:
            return
        raise PackUnsafe(
            f"nobody can tell whether ZEO server {storage.zeo} packs {storage.id}"
            f" without garbage collection: {unknown}",
            "Objects to which only another database refers would be destroyed. Where"
            " the server has `pack-gc false` for it, say so with --gc-is-off.",
        ) from None
    if collects:
        raise PackUnsafe(
            f"ZEO server {storage.zeo} would collect garbage when it packs"
            f" {storage.id}: objects to which only another database refers would be"
            " destroyed",
            "It needs `pack-gc false` for that storage in its configuration, and a"
            " restart.",
        )


def _collects(cluster: Cluster, storage: Storage) -> bool:
    """Whether the storage's server collects garbage.

    Raises: _Unknown: nobody can tell.
    """
    pid = lock.holder(storage.data_file)
    if pid is None:
        raise _Unknown(f"no process here has {storage.data_file} open")
    configuration = _find_configuration(cluster, storage, pid)
    _refuse_changed(configuration, pid)
    return _collects_by(configuration, storage)


def _find_configuration(cluster: Cluster, storage: Storage, pid: int) -> Path:
    """The configuration file that the process was given.

    Raises: _Unknown: it was given none that can be seen.
    """
    zeo = cluster.zeo(storage.zeo)
    if proc.runs(pid, cluster.bin_directory / f"zeo-{zeo.name}"):
        return zeo.configuration
    arguments = proc.command_line(pid)
    folder = proc.working_folder(pid)
    for option, value in itertools.pairwise(arguments):
        if option in _OPTIONS and folder is not None:
            return folder / value
    raise _Unknown(f"process {pid}, which has it open, names no configuration file")


def _refuse_changed(configuration: Path, pid: int) -> None:
    """Refuse a file that may not be the one that the process has read.

    Raises: _Unknown: it may have been changed since, or cannot be read.
    """
    try:
        content = configuration.read_bytes()
        changed = configuration.stat().st_ctime
    except OSError as error:
        raise _Unknown(f"{configuration}: {error.strerror}") from error
    begun = proc.begun(pid)
    if begun is not None and changed <= begun.timestamp() + _SLACK:
        return
    # Written again by buildout, maybe with the same text: supervisor gave the
    # process a digest of what it began with.
    variables = proc.environment(pid)
    if variables.get(supervision.DIGEST_VARIABLE) != supervision.digest(content):
        raise _Unknown(
            f"{configuration} has been written since process {pid} began; restart it"
            f" (bin/cluster restart)"
        )


def _collects_by(configuration: Path, storage: Storage) -> bool:
    """Whether a server with that file would collect garbage of the storage.

    Raises: _Unknown: the file does not tell.
    """
    try:
        schema = ZConfig.loadSchema(str(_SCHEMA))
        servers = ZConfig.loadConfig(schema, str(configuration))[0]
    except (ZConfig.ConfigurationError, ImportError, ValueError) as error:
        raise _Unknown(f"{configuration} cannot be read: {error}") from error
    for opener in servers.storages:
        section: Any = opener.config
        path = getattr(section, "path", None)
        if path is not None and Path(path).resolve() == storage.data_file.resolve():
            return bool(section.pack_gc)
    raise _Unknown(f"{configuration} has no <filestorage> with {storage.data_file}")
