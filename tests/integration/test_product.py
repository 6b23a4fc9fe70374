"""The product in a real Zope, over HTTP, on real ZEO servers."""

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from listener import Listener
from real_processes import PATIENCE, ZeoServer, free_port, wait_until, zeo_server
from records import read

from Products.TIDStorage.configuration import Options
from Products.TIDStorage.configuration import read as read_section

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).parent.parent / "publishing_zope.py"
SECTION = """
<product-config TIDStorage>
  backend-ip 127.0.0.1
  backend-port {port}
  storages main:a c
{more}
</product-config>
"""


def databases(servers):
    """Zope's root database ``main`` is storage a; ``c`` is another."""
    return "".join(
        f"""
<zodb_db {name}>
  <zeoclient>
    server 127.0.0.1:{servers[storage].address[1]}
    storage {storage}
  </zeoclient>
  mount-point {mount_point}
</zodb_db>
"""
        for name, storage, mount_point in (("main", "a", "/"), ("c", "c", "/c"))
    )


class Zope:
    """A process with a real Zope."""

    def __init__(self, folder, servers, product_config, command=()):
        self.folder = folder
        (folder / "Extensions").mkdir(exist_ok=True)
        conf = folder / "zope.conf"
        conf.write_text(
            f"%define INSTANCE {folder}\ninstancehome $INSTANCE\n"
            f"{product_config}{databases(servers)}"
            "<zodb_db temporary>\n<temporarystorage>\nname t\n</temporarystorage>\n"
            "mount-point /temp_folder\n"
            "container-class Products.TemporaryFolder.TemporaryContainer\n"
            "</zodb_db>\n"
        )
        self.port = free_port()
        self.log = folder / "zope.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    PROGRAM,
                    conf,
                    str(self.port),
                    json.dumps(list(command)),
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
            )

    def get(self, path):
        """(status, text)."""
        url = f"http://127.0.0.1:{self.port}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def _serves(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("counts")[0] == 200
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)


@contextlib.contextmanager
def zope(*arguments, **options):
    """A Zope that serves."""
    process = Zope(*arguments, **options)
    try:
        wait_until(process._serves, "Zope serves")
        yield process
    finally:
        process.kill()


@pytest.fixture
def servers(tmp_path):
    with (
        zeo_server(tmp_path / "one", ["a"], "one") as one,
        zeo_server(tmp_path / "two", ["c"], "two") as two,
    ):
        yield {"a": one, "c": two}


def stamps(server: ZeoServer):
    """The stamps in a server's file; stops it."""
    server.stop()
    return [mark for _, mark in read(server.data_file(server.storages[0]))]


def test_a_request_over_two_databases_is_stamped_and_told(servers, tmp_path):
    listener = Listener(tmp_path).start()
    section = SECTION.format(port=listener.address[1], more="")
    with zope(tmp_path, servers, section) as site:
        assert site.get("count_up") == (200, "added")
        assert site.get("counts") == (200, "1 1")
        wait_until(
            lambda: any(
                getattr(each, "tids", {}).keys() == {"a", "c"}
                for each in listener.heard()
            ),
            "the daemon is told of the commit",
        )
    listener.kill()
    in_a, in_c = stamps(servers["a"]), stamps(servers["c"])
    assert in_a[-1] == in_c[-1]
    assert in_a[-1].participants == {"a", "c"}
    assert all(in_a[-5:])
    # The temporary folder's database keeps nothing, and is no cause for warnings.
    assert "is none of the cluster's" not in site.log.read_text()


def test_without_its_section_nothing_is_stamped_and_the_log_says_so(servers, tmp_path):
    with zope(tmp_path, servers, "") as site:
        assert site.get("count_up") == (200, "added")
        assert site.log.read_text().count("commits are not stamped") == 1
    assert stamps(servers["a"])[-1] is None


def test_a_mistake_in_its_section_stops_zope_and_is_named(servers, tmp_path):
    section = SECTION.format(port="many", more="")
    process = Zope(tmp_path, servers, section)
    assert process.process.wait(PATIENCE) != 0
    assert "backend-port is a number, not 'many'" in process.log.read_text()


#: Kill the server of storage c, and start it again, between the finishes.
RESTART = """
import os, signal, socket, subprocess, sys, time
pid, configuration, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
os.kill(pid, signal.SIGKILL)
try:
    while True:
        os.kill(pid, 0)
        if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
except OSError:
    pass
process = subprocess.Popen(
    [sys.executable, "-m", "ZEO.runzeo", "-C", configuration],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
)
open(sys.argv[4], "w").write(str(process.pid))
while True:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        break
    except OSError:
        time.sleep(0.05)
"""


@pytest.mark.parametrize("protected", [True, False])
def test_a_server_killed_between_the_finishes(servers, tmp_path, protected):
    """A request that adds 1 to a and c answers 200 only with 1 and 1."""
    killed = servers["c"]
    pid_file = tmp_path / "restarted.pid"
    command = [
        sys.executable,
        "-c",
        RESTART,
        str(killed.process.pid),
        str(killed.configuration),
        str(killed.address[1]),
        str(pid_file),
    ]
    section = SECTION.format(
        port=free_port(), more="" if protected else "outcome-unknown off"
    )
    try:
        with zope(tmp_path, servers, section, command) as site:
            status, text = site.get("count_up")
            counts = wait_until(lambda: _counts(site), "both servers are back")
            log = site.log.read_text()
    finally:
        if pid_file.exists():
            subprocess.run(["kill", "-9", pid_file.read_text()], check=True)
    if protected:
        assert (status, counts) == (500, "1 0")
        assert "added" not in text
        assert "CommitOutcomeUnknown" in log
    else:
        # The harm: the publisher tried again, and said that all was well.
        assert (status, text, counts) == (200, "added", "2 1")


def _counts(site):
    status, text = site.get("counts")
    return text if status == 200 else None


def test_the_section_as_the_original_had_it():
    assert read_section({"backend-ip": "10.0.0.1", "backend-port": "8888"}) == Options(
        ("10.0.0.1", 8888), None, True, True, True, ""
    )


def test_everything_the_section_can_say():
    section = {
        "storages": "main:root, catalog\tmedia",
        "outcome-unknown": "OFF",
        "clear-caches": "off",
        "drop-oids": "off",
        "name": "web-1",
    }
    ids = {"main": "root", "catalog": "catalog", "media": "media"}
    assert read_section(section) == Options(None, ids, False, False, False, "web-1")
    assert read_section({"backend-ip": "::1"}).address == ("::1", 9001)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("backend-port", "-1", "backend-port is a number"),
        ("storages", "", "names no database"),
        ("storages", "main:", "is no database-name:storage-id"),
        ("storages", ":root", "is no database-name:storage-id"),
        ("storages", "main main:root", "named twice"),
        ("drop-oids", "yes", "drop-oids is on or off, not 'yes'"),
        ("storage", "main", "knows no storage; it knows backend-ip"),
    ],
)
def test_mistakes_in_the_section(key, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_section({key: value})
