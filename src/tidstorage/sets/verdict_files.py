"""What verifications found of the sets of a folder, kept beside each set."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidstorage.errors import SetUnreadable
from tidstorage.sets import manifest, verdicts
from tidstorage.sets.verdicts import Depth, Fault, Unread, Verdict, Verification
from tidstorage.system import presence

logger = logging.getLogger(__name__)


class VerdictFiles:
    """The verdicts on the sets whose folders lie in one folder.

    What cannot be read is never written anew: that would forget what is in it.
    """

    def __init__(self, sets_folder: Path) -> None:
        self._sets_folder = sets_folder

    def _path(self, set_id: str) -> Path:
        return self._sets_folder / set_id / verdicts.FILE_NAME

    def read(self, set_id: str) -> Verdict | None:
        """What verifications found of a set; None where there was none.

        Raises: SetUnreadable: where that could not be read.
        """
        return verdicts.read(self._path(set_id))

    def read_all(
        self, set_ids: Iterable[str]
    ) -> tuple[dict[str, Verdict], dict[str, str]]:
        """{set id: what verifications found}, and {set id: why nobody can tell}."""
        found: dict[str, Verdict] = {}
        unread: dict[str, str] = {}
        for set_id in set_ids:
            try:
                verdict = self.read(set_id)
            except SetUnreadable as error:
                unread[set_id] = str(error)
                continue
            if verdict is not None:
                found[set_id] = verdict
        return found, unread

    def note_verification(self, set_id: str, verification: Verification) -> None:
        """Keep what a verification found, unless the set is gone meanwhile.

        Raises: SetUnreadable: what was known before could not be read.
        """
        self._write(set_id, verdicts.update(self.read(set_id), verification))

    def note_fault(self, set_ids: Iterable[str], fault: Fault) -> None:
        """Keep for each of these sets that a file which it needs has a fault."""
        for set_id, verdict in self._read_to_change(set_ids):
            if fault not in verdict.faults:
                self._write(set_id, verdicts.add_fault(verdict, fault))

    def note_unread(self, set_ids: Iterable[str], unread: Unread) -> None:
        """Keep for each of these sets that a file which it needs could not be read."""
        for set_id, verdict in self._read_to_change(set_ids):
            if unread not in verdict.unread:
                self._write(set_id, verdicts.add_unread(verdict, unread))

    def forget_fault(self, set_ids: Iterable[str], path: str, depth: Depth) -> None:
        """Keep for each of these sets that a file was read so deeply, and is good.

        path: of the file, relative to the backup directory.
        """
        for set_id, verdict in self._read_to_change(set_ids):
            without = verdicts.remove_file(verdict, path, depth)
            if without != verdict:
                self._write(set_id, without)

    def _read_to_change(self, set_ids: Iterable[str]) -> Iterator[tuple[str, Verdict]]:
        """(set id, what is known of it), of those of which that can be read."""
        for set_id in set_ids:
            try:
                yield set_id, self.read(set_id) or Verdict()
            except SetUnreadable as error:
                logger.warning("what was found is not kept beside the set: %s", error)

    def _write(self, set_id: str, verdict: Verdict) -> None:
        # A prune may have taken the set meanwhile.
        if presence.is_there(self._sets_folder / set_id / manifest.FILE_NAME):
            verdicts.write(self._path(set_id), verdict)
