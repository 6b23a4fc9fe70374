"""The commands that the description wants to be run before and after a backup.

They find in their environment what they are about: `_environment` says what.
"""

import json
import logging
import os
import subprocess
from collections.abc import Mapping
from typing import Literal

from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.errors import EngineFailed, ProgramFailed, TidstorageError
from tidstorage.sets.manifest import Manifest

logger = logging.getLogger(__name__)

#: The key of the description that a command is given by.
Key = Literal["pre-command", "post-command"]


def run_pre_command(cluster: Cluster) -> None:
    """Run the description's ``pre-command``, if there is one.

    Raises: EngineFailed: where it fails.
    """
    _run(cluster, "pre-command", cluster.backup.pre_command, _environment(cluster))


def run_post_command(cluster: Cluster, made: Manifest) -> None:
    """Run the description's ``post-command``, if there is one, for a set that is made.

    Raises: EngineFailed: where it fails; the set is whole all the same.
    """
    told = _environment(cluster, made)
    try:
        _run(cluster, "post-command", cluster.backup.post_command, told)
    except EngineFailed as error:
        error.hint = f"Set {made.id} itself is whole. {error.hint}"
        raise


def run_post_command_after_failure(cluster: Cluster, error: BaseException) -> None:
    """Run the description's ``post-command``, if there is one, for a failed backup.

    What made the backup fail is what its caller has to hear of: where the command
    fails too, that is a warning.
    """
    told = _environment(cluster, error=error)
    try:
        _run(cluster, "post-command", cluster.backup.post_command, told)
    except EngineFailed as failed:
        logger.warning("%s", failed)


def _environment(
    cluster: Cluster, made: Manifest | None = None, error: BaseException | None = None
) -> dict[str, str]:
    """What a command is told: of the cluster, of the set, of what went wrong.

    TIDSTORAGE_RESULT is ``ok``, ``failed``, or empty before there is one; the
    variables of a set, or of an error, are empty where there is none.
    """
    result = "" if made is None else "ok"
    status = "" if made is None else "0"
    if error is not None:
        result = "failed"
        status = str(error.exit_status if isinstance(error, TidstorageError) else 1)
    vector = {} if made is None else tid.vector_to_text(made.point.vector)
    return {
        "TIDSTORAGE_CLUSTER": cluster.name,
        "TIDSTORAGE_CLUSTER_FILE": str(cluster.file),
        "TIDSTORAGE_DIRECTORY": str(cluster.backup.directory),
        "TIDSTORAGE_RESULT": result,
        "TIDSTORAGE_STATUS": status,
        "TIDSTORAGE_ERROR": "" if error is None else str(error),
        "TIDSTORAGE_SET": "" if made is None else made.id,
        "TIDSTORAGE_KIND": "" if made is None else made.kind,
        "TIDSTORAGE_POINT": "" if made is None else made.point.id,
        "TIDSTORAGE_TIME": "" if made is None else made.point.time.isoformat(),
        "TIDSTORAGE_VECTOR": json.dumps(vector) if vector else "",
    }


def _run(
    cluster: Cluster, key: Key, command: str | None, told: Mapping[str, str]
) -> None:
    if command is None:
        return
    # By a shell: it is the administrator's own line, with pipes and all.
    ended = subprocess.run(
        command,
        shell=True,
        cwd=cluster.directory,
        env={**os.environ, **told},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if ended.returncode:
        raise ProgramFailed(
            f"the {key} {command!r} ended with status {ended.returncode}",
            "It stands in the description under [backup].",
        )
