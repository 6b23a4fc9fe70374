"""A multi-database of FileStorages in this process, and what makes its commits fail."""

import transaction
import ZODB
from records import read
from ZODB.FileStorage import FileStorage

IDS = {"main": "root", "catalog": "catalog"}


#: Closed also where a test fails, since open databases are found by the next one.
sites = []


class Site:
    """A multi-database of FileStorages; ``names`` are database names."""

    def __init__(self, folder, *names):
        sites.append(self)
        self.folder = folder
        self.databases = {}
        for name in names:
            self.open(name, FileStorage(str(folder / f"{name}.fs")))

    def open(self, name, storage):
        return ZODB.DB(storage, database_name=name, databases=self.databases)

    def connection(self, manager=None):
        return self.databases["main"].open(manager)

    def write(self, *names, manager=None):
        """Commit one transaction that writes the databases of these names."""
        manager = manager or transaction.manager
        connection = self.connection(manager)
        for name in names:
            root = connection.get_connection(name).root()
            root["count"] = root.get("count", 0) + 1
        manager.commit()
        connection.close()

    def records(self, name):
        """(tid, stamp) of each record of one database's file."""
        return read(self.folder / f"{name}.fs")

    def last(self, name):
        return self.records(name)[-1]

    def close(self):
        for database in list(self.databases.values()):
            database.close()


class Fault(Exception):
    """What is thrown inside the hook."""


def throw(*arguments, **options):
    raise Fault


class Refused(Exception):
    pass


class RefusesToVote:
    transaction_manager = transaction.manager

    def sortKey(self):
        return "~"

    def tpc_begin(self, transaction):
        pass

    abort = commit = tpc_finish = tpc_abort = tpc_begin

    def tpc_vote(self, transaction):
        raise Refused
