"""repozo on a busy site: a transaction over all storages is committed first.

So the copies of a backup hold one transaction more from storage to storage, and
are torn for sure, however fast the machine is.
"""

import sys

from legacy_site import addresses_of_environment
from stamping_writer import commit_group, open_connections
from ZODB.scripts import repozo

if __name__ == "__main__":
    connections = open_connections(addresses_of_environment())
    commit_group(connections, sorted(connections))
    for connection in connections.values():
        connection.db().close()
    repozo.main(sys.argv[1:])
