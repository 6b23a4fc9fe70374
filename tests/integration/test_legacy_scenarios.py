"""The two scenarios of the original's manual, from beginning to end.

With its configuration file and its command lines; servers are killed at an exact
step of a commit, so that the files are torn every time.
"""

import sys
from pathlib import Path

import pytest
import records
import transaction
from legacy_site import BUSY_REPOZO, LegacySite, status_files
from real_processes import wait_until
from stamping_writer import commit_group, open_connections
from ZEO.Exceptions import ClientDisconnected

from tidstorage.engines import filestorage
from tidstorage.errors import NotConnected
from tidstorage.points import tid_log
from tidstorage.wire import client

pytestmark = pytest.mark.integration
REPOZO = str(Path(sys.executable).with_name("repozo"))
EVERYTHING = ("catalog", "documents", "root")


@pytest.fixture
def site(tmp_path):
    made = LegacySite(tmp_path)
    made.start()
    yield made
    made.kill()


def write(site, *groups):
    """One committed transaction for each group of storages."""
    connections = open_connections(site.addresses)
    for group in groups:
        commit_group(connections, group)
    close(connections)


def close(connections):
    transaction.abort()
    for connection in connections.values():
        connection.db().close()


def tear(site):
    """Kill server beta between the two finishes of a commit, then write on.

    ``catalog`` holds a transaction that ``documents`` lacks, and a later one.
    """
    connections = open_connections(site.addresses)

    def finish(*_arguments, **_keywords):
        site.beta.kill()
        # As the client says, without its 30 seconds of hope for the server.
        raise ClientDisconnected("killed before it heard of the finish")

    storage = connections["documents"].db().storage
    storage.tpc_finish = finish
    storage.tpc_abort = lambda *_arguments: None
    # `catalog` comes first: ZEO sorts by the storage's name.
    with pytest.raises(ClientDisconnected):
        commit_group(connections, ["catalog", "documents"])
    close(connections)
    connections = open_connections({"catalog": site.addresses["catalog"]})
    commit_group(connections, ["catalog"])
    close(connections)


def last_tids(site):
    return {each: filestorage.last_tid(path) for each, path in site.data_files.items()}


def wait_for_point(site, vector):
    """Until the daemon publishes just that."""
    wanted = {site.ids[each]: last for each, last in vector.items()}

    def published():
        try:
            return dict(client.dump("127.0.0.1", site.port)) == wanted
        except NotConnected:
            return False

    wait_until(published, "the daemon publishes the last commits")
    wait_until(
        lambda: tid_log.read_last(site.status_file) == wanted, "the TID log has it"
    )


def violations(site, vector=None):
    held = {each: records.read(path) for each, path in site.data_files.items()}
    ends = {each: found[-1][0] for each, found in held.items()}
    return records.violations(held, vector or ends)


def check_that_it_goes_on(site):
    """Servers start, the application writes, the daemon publishes, a backup works."""
    site.start()
    with site.daemon():
        write(site, EVERYTHING)
        wait_for_point(site, last_tids(site))
        site.run("tidstorage_repozo", "--repozo", REPOZO, "--gzip", "--quick")
    site.kill()
    assert not violations(site)


def test_failure_with_restore_from_backup(site):
    backup = ("--gzip", "--quick")
    with site.daemon():
        write(site, EVERYTHING, ["root"], ["catalog", "documents"], EVERYTHING)
        wait_for_point(site, last_tids(site))
        site.run("tidstorage_repozo", "--repozo", REPOZO, *backup)
        write(site, ["documents"], EVERYTHING, ["catalog", "root"])
        covered = last_tids(site)
        wait_for_point(site, covered)
        said = site.run("tidstorage_repozo", "--repozo", BUSY_REPOZO, *backup)
        assert said.stdout == said.stderr == ""
        tear(site)
    site.kill()
    for path in site.data_files.values():
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()

    last = ("-R", "--repozo", REPOZO)
    said = site.run("tidstorage_repozo", *last)
    assert "in one file and not in another" in said.stderr
    # Each copy was made after one more transaction than the one before.
    assert violations(site)

    status_file = status_files(site.folder)[-1]
    said = site.run("tidstorage_repozo", *last, "-t", status_file)
    assert said.stdout.count("was restored") == 3
    assert last_tids(site) == covered
    assert not violations(site)
    check_that_it_goes_on(site)


def test_failure_without_restore_cutting_the_crashed_files(site):
    with site.daemon():
        write(site, EVERYTHING, ["root"], ["catalog", "documents"], EVERYTHING)
        whole = last_tids(site)
        wait_for_point(site, whole)
        tear(site)
    site.kill()
    torn = {each: path.read_bytes() for each, path in site.data_files.items()}
    assert violations(site)

    said = site.run("tidstorage_restore", status=11)
    assert "which were acknowledged" in said.stderr
    assert torn == {each: path.read_bytes() for each, path in site.data_files.items()}
    said = site.run("tidstorage_restore", "--strict")
    assert "was cut from" in said.stdout
    assert last_tids(site) == whole
    assert not violations(site)
    for storage, path in site.data_files.items():
        kept = list((site.folder / "crashed").glob(f"{storage}.fs.dropped-*Z"))
        dropped = kept[0].read_bytes() if kept else b""
        assert path.read_bytes() + dropped == torn[storage]
    assert len(torn["catalog"]) > site.data_files["catalog"].stat().st_size
    check_that_it_goes_on(site)
