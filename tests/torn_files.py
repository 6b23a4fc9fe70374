"""Data.fs files in one process, written together, and torn where a test wants."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from tidstorage.coherence import stamp, tid
from tidstorage.engines import filestorage


class TornFiles:
    """FileStorages of one multi-database; every commit is stamped by hand.

    blobs: the storages that have a blob directory, and get a blob with each record.
    """

    def __init__(self, folder: Path, storages: str, blobs: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.paths = {each: folder / f"{each}.fs" for each in storages.split()}
        self.blobs = {each: folder / f"{each}.blobs" for each in blobs.split()}
        self._numbers = itertools.count(1)
        self._open()

    def _open(self) -> None:
        databases: dict[str, ZODB.DB] = {}
        self._databases = databases
        for each, path in self.paths.items():
            blobs = self.blobs.get(each)
            storage = FileStorage(str(path), blob_dir=blobs and str(blobs))
            ZODB.DB(storage, databases=databases, database_name=each)
        first = databases[next(iter(self.paths))].open()
        self.connections = {each: first.get_connection(each) for each in self.paths}

    def commit(
        self,
        written: str,
        meant: str = "",
        seen: Mapping[str, int] | None = None,
        stamped: bool = True,
    ) -> bytes:
        """One transaction; returns its commit id.

        written: the storages that get a record; meant: those that the stamp
        names, where a crash kept it from some; seen: {storage id: exclusive
        bound}, where it is not all there is.
        """
        transaction.begin()
        commit_id = next(self._numbers).to_bytes(16, "big")
        vector = {each: self.last(each) + 1 for each in self.paths}
        for each in written.split():
            root = self.connections[each].root()
            root["commit"] = commit_id.hex()
            if each in self.blobs:
                root.setdefault("blobs", PersistentMapping())[commit_id] = Blob(
                    commit_id
                )
        if stamped:
            data = stamp.encode(
                commit_id, (meant or written).split(), vector if seen is None else seen
            )
            transaction.get().setExtendedInfo(stamp.KEY, data)
        transaction.commit()
        return commit_id

    def last(self, storage: str) -> int:
        """The last TID of a storage."""
        last = self.connections[storage].db().storage.lastTransaction()
        return tid.from_bytes(last)

    def size(self, storage: str) -> int:
        """Where the last finished transaction of a storage ends."""
        return self.connections[storage].db().storage.getSize()

    def vector(self) -> dict[str, int]:
        """The last TIDs of all storages."""
        return {each: self.last(each) for each in self.paths}

    def tear(self) -> tuple[dict[str, int], dict[str, int]]:
        """Crash amid commits; the last TIDs and sizes that a cut should leave.

        The files are closed then.
        """
        kept = self.vector()
        sizes = {each: self.size(each) for each in self.paths}
        self.commit("a", meant="a b")
        if "c" in self.paths:
            self.commit("c", meant="b c")
        self.close()
        with self.paths["b"].open("ab") as stream:
            stream.write(b"a part of a vote")
        return kept, sizes

    def contents(self) -> dict[str, bytes]:
        """What the files hold."""
        return {each: path.read_bytes() for each, path in self.paths.items()}

    def last_tids(self) -> dict[str, int]:
        """The last TIDs in the files, as we read them."""
        return {each: filestorage.last_tid(path) for each, path in self.paths.items()}

    def litter(self) -> list[str]:
        """Files in the folder that only a run under way needs."""
        folder = next(iter(self.paths.values())).parent
        return [
            each.name
            for each in folder.iterdir()
            if each.name.startswith(".") or each.name.endswith((".cut-plan", "_tmp"))
        ]

    def pack(self, storage: str) -> None:
        self.connections[storage].db().pack()

    def close(self) -> None:
        """Close all files; a second time does nothing."""
        transaction.abort()
        while self._databases:
            self._databases.popitem()[1].close()

    def arguments(self) -> list[str]:
        """The files, as commands take them."""
        return [f"{each}={path}" for each, path in self.paths.items()]

    def blob_arguments(self) -> list[str]:
        """The blob directories, as commands take them."""
        return [f"--blobs={each}={path}" for each, path in self.blobs.items()]


def coherent_files(folder: Path) -> TornFiles:
    """Storages ``a``, ``b`` and ``c`` with a few transactions, none of them torn."""
    made = TornFiles(folder, "a b c")
    for written in ("a b c", "a", "b c", "a b"):
        made.commit(written)
    return made


def json_runner(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs a command with ``--json``: gives its output, or its error."""

    def run(*arguments: str, status: int = 0) -> Any:
        assert main([*arguments, "--json"]) == status
        output, errors = capsys.readouterr()
        return json.loads(output) if status == 0 else errors

    return run


def blobs_of(folder: Path) -> dict[str, bytes]:
    """{path below: bytes} of all blobs."""
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in folder.rglob("*.blob")
    }
