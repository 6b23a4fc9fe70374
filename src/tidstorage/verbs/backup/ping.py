"""Tell a monitoring service by HTTP that a backup has succeeded.

Whether such a request gets through is nothing that a good backup could fail for:
each failure is a warning.
"""

import logging
import queue
import re
import threading
import urllib.parse
import urllib.request

from tidstorage.cluster import values
from tidstorage.cluster.cluster import Cluster

logger = logging.getLogger(__name__)

#: Seconds for the whole of a ping, name look-up and answer.
PING_SECONDS = 20.0
#: How often the address is asked within them.
_ATTEMPTS = 2


def ping(cluster: Cluster, seconds: float = PING_SECONDS) -> None:
    """Fetch the description's ``ping-url``, if there is one.

    seconds: how long that may take at most.
    """
    try:
        address = _address(cluster)
    except (OSError, ValueError) as error:
        logger.warning("the backup is good, but no ping was sent: %s", error)
        return
    if address is None:
        return
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def fetch() -> None:
        answers.put(_fetch(address, seconds / _ATTEMPTS))

    # In a thread of its own, since a slow name server knows no deadline.
    threading.Thread(target=fetch, name="ping", daemon=True).start()
    try:
        failure = answers.get(timeout=seconds)
    except queue.Empty:
        failure = "no answer in time"
    if failure is not None:
        # Without its path, which is a secret as a rule.
        host = urllib.parse.urlsplit(address).netloc.rpartition("@")[2]
        logger.warning(
            "the backup is good, but the ping to %s failed: %s", host, failure
        )


def _fetch(address: str, timeout: float) -> str | None:
    """Ask for the address until it answers; in words why it never did, else None."""
    failure = None
    for _ in range(_ATTEMPTS):
        try:
            with urllib.request.urlopen(address, timeout=timeout):
                return None
        except (OSError, ValueError) as error:
            failure = str(error)
        except Exception as error:
            # http.client has errors of its own for what is no HTTP.
            failure = repr(error)
    return failure


def _address(cluster: Cluster) -> str | None:
    """The address to ping; None where the description wants none.

    Raises: ValueError, OSError: where the file that should hold it does not.
    """
    path = cluster.backup.ping_url_file
    if path is None:
        return cluster.backup.ping_url
    text = path.read_text().strip()
    if re.fullmatch(values.URL.pattern, text) is None:
        raise ValueError(f"{path} does not hold {values.URL.expected}")
    return text
