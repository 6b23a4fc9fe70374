"""Tell a monitoring service by HTTP that a backup has succeeded.

Whether such a request gets through is nothing that a good backup could fail for:
each failure is a warning.
"""

import logging
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

    # In a thread of its own, since a slow name server knows no deadline.
    threading.Thread(target=fetch, name="ping", daemon=True).start()
    done.wait(seconds)
    # A copy: the thread may get its answer just now, and clear them.
    if failed := failures.copy():
        # Without its path, which is a secret as a rule.
        host = urllib.parse.urlsplit(address).netloc.rpartition("@")[2]
        logger.warning(
            "the backup is good, but the ping to %s failed: %s", host, failed[-1]
        )


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
