"""What the description has around a backup: commands, and an address to ping.

The commands find in their environment what they are about; see `variables`.
"""

import json
import logging
import os
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Literal

from tidstorage.cluster import values
from tidstorage.cluster.cluster import Cluster
from tidstorage.coherence import tid
from tidstorage.errors import EngineFailed, TidstorageError
from tidstorage.sets.manifest import Manifest

logger = logging.getLogger(__name__)

Key = Literal["pre-command", "post-command"]
#: Seconds for the whole of a ping, name look-up and answer, and how often it is
#: tried: what is not answered then is a warning.
PING_SECONDS = 20.0
_ATTEMPTS = 2


def variables(
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


def run_command(
    cluster: Cluster, key: Key, command: str | None, told: Mapping[str, str]
) -> None:
    """Run what the description has around a backup; EngineFailed if it fails."""
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
        raise EngineFailed(
            f"the {key} {command!r} ended with status {ended.returncode}",
            "It stands in the description under [backup].",
        )


def ping(cluster: Cluster, seconds: float = PING_SECONDS) -> None:
    """Fetch the description's ``ping-url``, if any; a failure is a warning.

    In a thread of its own, since a slow name server knows no deadline.
    """
    try:
        address = _address(cluster)
    except (OSError, ValueError) as error:
        logger.warning("the backup is good, but no ping was sent: %s", error)
        return
    if address is None:
        return
    failures: list[str] = ["no answer in time"]
    done = threading.Event()

    def fetch() -> None:
        for _ in range(_ATTEMPTS):
            try:
                with urllib.request.urlopen(address, timeout=seconds / _ATTEMPTS):
                    failures.clear()
                    break
            except (OSError, ValueError) as error:
                failures.append(str(error))
            except Exception as error:
                # http.client has errors of its own for what is no HTTP.
                failures.append(repr(error))
        done.set()

    threading.Thread(target=fetch, name="ping", daemon=True).start()
    done.wait(seconds)
    if failures:
        # Without its path, which is a secret as a rule.
        host = urllib.parse.urlsplit(address).netloc.rpartition("@")[2]
        logger.warning(
            "the backup is good, but the ping to %s failed: %s", host, failures[-1]
        )


def _address(cluster: Cluster) -> str | None:
    """ValueError or OSError where the file does not hold one."""
    path = cluster.backup.ping_url_file
    if path is None:
        return cluster.backup.ping_url
    text = path.read_text().strip()
    if re.fullmatch(values.URL.pattern, text) is None:
        raise ValueError(f"{path} does not hold {values.URL.expected}")
    return text
