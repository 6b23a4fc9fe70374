"""The seal: one empty stamped transaction behind an end that is in doubt.

A server that was killed amid a vote without data may report the TID of that vote until
it is started once more, and whoever starts meanwhile stamps it as seen.  Nothing is
left of it then: no file can tell it from a transaction that is lost.  A transaction
behind it proves that nothing lies between, in the files themselves.
"""

import uuid

from ZODB.Connection import TransactionMetaData

from tidstorage.coherence import stamp, tid
from tidstorage.errors import NotConnected
from tidstorage.system.address import Address
from tidstorage.zeo.client import connect

_CONNECT_SECONDS = 5.0
DESCRIPTION = "tidstorage: nothing lies before this that no file holds"


def seal(address: Address, name: str, storage_id: str, *, server: str) -> int:
    """Commit an empty transaction on one storage; its TID.

    name: of the storage on its server.  server: that one's name, for the error.

    Raises: NotConnected: the server does not answer, or does not let us.
    """
    with connect(
        address,
        name,
        server=server,
        label="tidstorage seal",
        connect_seconds=_CONNECT_SECONDS,
        read_only=False,
    ) as client:
        bound = {storage_id: client.last_tid() + 1}
        data = stamp.encode(uuid.uuid4().bytes, [storage_id], bound)
        transaction = TransactionMetaData(
            description=DESCRIPTION, extension={stamp.KEY: data}
        )
        try:
            client.tpc_begin(transaction)
            client.tpc_vote(transaction)
            return tid.from_bytes(client.tpc_finish(transaction))
        except Exception as error:
            # Whatever a server raises, as where it is read-only, or goes away.
            raise NotConnected(
                f"storage {storage_id} of ZEO server {server} takes no transaction:"
                f" {type(error).__name__}: {error}"
            ) from error
