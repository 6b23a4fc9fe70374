"""A real Zope over HTTP whose ``/count_up`` adds 1 to a counter in two databases.

``python publishing_zope.py ZOPE_CONF PORT SCRIPT``: SCRIPT is the command line
(JSON) that the first request runs between the finishes of ``a`` and ``c``.
"""

import json
import subprocess
import sys

import transaction
import waitress
from Zope2.Startup.run import make_wsgi_app


class Between:
    """A resource that comes between the storages ``a`` and ``c``."""

    transaction_manager = transaction.manager

    def __init__(self, command):
        self.command = command

    def sortKey(self):
        return "b"

    def tpc_finish(self, transaction):
        if self.command:
            subprocess.run(self.command, check=True)
            self.command.clear()

    def nothing(self, transaction):
        pass

    abort = tpc_begin = commit = tpc_vote = tpc_abort = nothing


def main():
    zope_conf, port, command = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    application = make_wsgi_app({}, zope_conf)
    from OFS.Application import Application

    def roots(self):
        connection = self._p_jar
        return connection.root(), connection.get_connection("c").root()

    def count_up(self):
        """Add 1 to both."""
        for root in roots(self):
            root["count"] = root.get("count", 0) + 1
        transaction.get().join(Between(command))
        return "added"

    def counts(self):
        """Both counters."""
        return " ".join(str(root.get("count", 0)) for root in roots(self))

    Application.count_up, Application.counts = count_up, counts
    Application.count_up__roles__ = Application.counts__roles__ = None
    waitress.serve(application, host="127.0.0.1", port=port, threads=2)


if __name__ == "__main__":
    main()
