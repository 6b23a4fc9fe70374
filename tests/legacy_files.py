"""A site of TIDStorage 5 whose files nobody serves: its configuration, its backups."""

import shutil
import time

from legacy_site import status_files, write_configuration
from torn_files import TornFiles

from tidstorage.commands.scripts import repozo
from tidstorage.legacy import configuration
from tidstorage.legacy import site as sites
from tidstorage.points import tid_log


class LegacyFiles:
    """Three storages; what the daemon would publish is written by hand.

    covered, sizes: what the last backup's TID log covers; status: that log.
    """

    covered = sizes = None

    def __init__(self, folder):
        self.folder = folder
        self.files = TornFiles(folder / "files", "a b c")
        self.path = folder / "tidstorage.py"
        self.status_file = folder / "tidstorage.tid"
        addresses = dict.fromkeys(self.files.paths, ("127.0.0.1", 8100))
        self.ids = write_configuration(self.path, self.files.paths, addresses)

    def copy(self, folder):
        """The same site somewhere else, its files open; this one's are closed."""
        shutil.copytree(self.folder, folder)
        made = LegacyFiles(folder)
        made.covered, made.sizes = self.covered, self.sizes
        return made

    @property
    def status(self):
        return status_files(self.folder)[-1]

    @property
    def found(self):
        return sites.read_site(configuration.load(self.path))

    def publish(self):
        """Write the present state into the TID log; the vector."""
        vector = self.files.vector()
        log = tid_log.Writer(self.status_file)
        log.write({self.ids[each]: last for each, last in vector.items()}, time.time())
        log.close()
        return vector

    def repository(self, storage):
        return self.folder / "repozo" / storage

    def everything(self):
        """{path: bytes} of all that is in the folder."""
        return {
            path: path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.suffix != ".lock"
        }


def begun(folder):
    made = LegacyFiles(folder)
    for written in ("a b c", "a", "b c"):
        made.files.commit(written)
    return made


def call(site, *arguments):
    assert repozo.main(["-c", str(site.path), *arguments]) == 0


def runner(site, capsys):
    """Runs a command of TIDStorage 5 with the site's configuration; what it says."""

    def run(*arguments, status=0, main=repozo.main):
        given = ["-c", str(site.path), *map(str, arguments)]
        assert main(given) == status, capsys.readouterr()
        return "".join(capsys.readouterr())

    return run
