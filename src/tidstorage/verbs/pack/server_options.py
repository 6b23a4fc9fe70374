"""What a running ZEO server was told about a storage, by its configuration file.

ZEO does not tell how a server was configured.  So what it has read is looked at: the
process that has the Data.fs locked, the configuration file on its command line,
unchanged since it began.
"""

import itertools
from pathlib import Path
from typing import Any

import ZConfig
import ZEO

from tidstorage.cluster.cluster import Cluster, Storage
from tidstorage.deployment import supervision
from tidstorage.engines.filestorage import lock
from tidstorage.system import proc

_SCHEMA = Path(ZEO.__file__).with_name("schema.xml")
_OPTIONS = ("-C", "--configure")
#: Seconds by which the begin of a process may look earlier than it was.
_SLACK = 1.0


class Unknown(Exception):
    """Nobody can tell; the text says why."""


def read_options(cluster: Cluster, storage: Storage) -> Any:
    """The section <filestorage> of the storage, as its server has read it.

    Raises: Unknown: nobody can tell.
    """
    pid = lock.holder(storage.data_file)
    if pid is None:
        raise Unknown(f"no process here has {storage.data_file} open")
    configuration = _find_configuration(cluster, storage, pid)
    _refuse_changed(configuration, pid)
    return _read_section(configuration, storage)


def _find_configuration(cluster: Cluster, storage: Storage, pid: int) -> Path:
    """The configuration file that the process was given.

    Raises: Unknown: it was given none that can be seen.
    """
    zeo = cluster.zeo(storage.zeo)
    if proc.runs(pid, cluster.bin_directory / f"zeo-{zeo.name}"):
        return zeo.configuration
    arguments = proc.command_line(pid)
    folder = proc.working_folder(pid)
    for option, value in itertools.pairwise(arguments):
        if option in _OPTIONS and folder is not None:
            return folder / value
    raise Unknown(f"process {pid}, which has it open, names no configuration file")


def _refuse_changed(configuration: Path, pid: int) -> None:
    """Refuse a file that may not be the one that the process has read.

    Raises: Unknown: it may have been changed since, or cannot be read.
    """
    try:
        content = configuration.read_bytes()
        changed = configuration.stat().st_ctime
    except OSError as error:
        raise Unknown(f"{configuration}: {error.strerror}") from error
    begun = proc.begun(pid)
    if begun is not None and changed <= begun.timestamp() + _SLACK:
        return
    # Written again by buildout, maybe with the same text: supervisor gave the
    # process a digest of what it began with.
    variables = proc.environment(pid)
    if variables.get(supervision.DIGEST_VARIABLE) != supervision.digest(content):
        raise Unknown(
            f"{configuration} has been written since process {pid} began; restart it"
            f" (bin/cluster restart)"
        )


def _read_section(configuration: Path, storage: Storage) -> Any:
    """The section of the storage in a configuration file.

    Raises: Unknown: the file does not tell.
    """
    try:
        schema = ZConfig.loadSchema(str(_SCHEMA))
        servers = ZConfig.loadConfig(schema, str(configuration))[0]
    except (ZConfig.ConfigurationError, ImportError, ValueError) as error:
        raise Unknown(f"{configuration} cannot be read: {error}") from error
    for opener in servers.storages:
        section: Any = opener.config
        path = getattr(section, "path", None)
        if path is not None and Path(path).resolve() == storage.data_file.resolve():
            return section
    raise Unknown(f"{configuration} has no <filestorage> with {storage.data_file}")
