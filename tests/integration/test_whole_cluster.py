"""A whole cluster: real ZEO servers, daemon and Zopes, spoken to over HTTP."""

import os
import signal
import time
import urllib.error
import urllib.request
import uuid

import pytest
from real_processes import PATIENCE, wait_until
from ZEO.ClientStorage import ClientStorage

from tidstorage.demo import scratch_cluster
from tidstorage.engines import filestorage
from tidstorage.hook import sender
from tidstorage.system import proc
from tidstorage.verbs.pack.pack import pack
from tidstorage.verbs.status import status

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with scratch_cluster.running(tmp_path_factory.mktemp("whole")) as running:
        yield running


def ask(zope, method, **arguments):
    query = urllib.parse.urlencode(arguments)
    url = f"http://{zope.host}:{zope.port}/bank/{method}?{query}"
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return response.read().decode()


def transfer(zope, source, target):
    transfer_id = uuid.uuid4().hex
    answer = ask(
        zope,
        "transfer",
        id=transfer_id,
        source=source,
        target=target,
        account="1",
        amount="1",
    )
    assert answer == "moved"


def newest_stamp(cluster, storage_id):
    path = cluster.storage(storage_id).data_file
    *_, newest = filestorage.read_records(path)
    assert newest.stamp is not None, f"the newest record of {storage_id} has no stamp"
    return newest.stamp


def test_one_transaction_in_two_mounted_databases_has_one_commit_id(cluster):
    for zope in cluster.zopes:
        transfer(zope, "catalog", "documents")
        stamps = [newest_stamp(cluster, each) for each in ("catalog", "documents")]
        assert stamps[0] == stamps[1]
        assert stamps[0].participants == {"catalog", "documents"}
        assert set(stamps[0].vector) == {"root", "catalog", "documents", "media"}


def test_a_reference_only_across_databases_survives_a_pack(cluster):
    first, second = cluster.zopes
    ask(first, "memo", id="kept", storage="catalog")
    wait_until(
        lambda: (
            ask(second, "cite", id="kept", source="catalog", target="media") == "cited"
        ),
        "the second Zope sees the memo of the first",
    )
    wait_until(
        lambda: ask(first, "forget", id="kept", storage="catalog") == "forgotten",
        "the memo is taken out of its vault",
    )
    client = ClientStorage(
        cluster.zeo("alpha").address, storage="catalog", wait_timeout=PATIENCE
    )
    try:
        client.pack(time.time(), None, wait=True)
    finally:
        client.close()
    # A Zope whose caches know nothing has to get it from the packed file.
    os.kill(proc.pid_in(second.pid_file), signal.SIGKILL)
    wait_until(lambda: answers(second), "the killed Zope is back")
    assert ask(second, "recite", id="kept", storage="media") == "kept"


def test_a_pack_of_supervised_servers_is_safe_and_known_to_status(cluster):
    """That they collect no garbage is seen in what their own scripts have read."""
    for _ in range(2):
        transfer(cluster.zopes[0], "catalog", "documents")
    packed = pack(cluster, 0)
    changed = {each.plan.id for each in packed.storages if each.changed}
    assert changed >= {"catalog", "documents"}
    transfer(cluster.zopes[0], "catalog", "documents")
    found = status.status(cluster)
    assert found.runs["pack"].good.set == packed.set_after.id
    assert found.alarms == ()


def answers(zope):
    try:
        urllib.request.urlopen(f"http://{zope.host}:{zope.port}/", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def seconds_of_transfers(zope, count=30):
    durations = []
    for _ in range(count):
        began = time.monotonic()
        transfer(zope, "root", "media")
        durations.append(time.monotonic() - began)
    return durations


def daemon_pid(cluster):
    """None while it has written none yet."""
    return proc.pid_in(cluster.daemon.pid_file)


def test_commits_do_not_wait_for_a_stopped_daemon(cluster):
    zope = cluster.zopes[0]
    pid = daemon_pid(cluster)
    os.kill(pid, signal.SIGSTOP)
    try:
        durations = seconds_of_transfers(zope)
    finally:
        os.kill(pid, signal.SIGCONT)
    # Where each waits for an answer, each takes as long as that is waited for.
    assert min(durations) < sender.TIMEOUT / 2
    assert newest_stamp(cluster, "media").participants == {"root", "media"}


def test_commits_go_on_over_the_death_of_the_daemon(cluster):
    zope = cluster.zopes[0]
    pid = daemon_pid(cluster)
    os.kill(pid, signal.SIGKILL)
    seconds_of_transfers(zope)
    wait_until(
        lambda: daemon_pid(cluster) not in (None, pid),
        "supervisor has started the daemon again",
    )
    transfer(zope, "catalog", "media")
    assert newest_stamp(cluster, "media").participants == {"catalog", "media"}
