"""The yearly disaster: a wrong delete, seen in time, undone from the past."""

import base64
import json
import re
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
from real_processes import PATIENCE, accepts, wait_until

from tidstorage.coherence import tid
from tidstorage.demo import scratch_cluster
from tidstorage.deployment import initialise
from tidstorage.engines import filestorage
from tidstorage.system import clock
from tidstorage.verbs.browse import scratch as browsing_scratch

pytestmark = pytest.mark.integration
TEXT = "twenty years of work"
#: A folder with a reference into another database.
SPREAD = """
import transaction
app.manage_addFolder("spread")
catalog = app.unrestrictedTraverse("catalog")._p_jar
app.spread.far = catalog.root()["bank_vault"]
transaction.commit()
"""


@pytest.fixture(scope="module")
def deleted(tmp_path_factory):
    """(cluster, a time before): /site was there then, and is gone now."""
    with scratch_cluster.running(tmp_path_factory.mktemp("browse")) as cluster:
        change(cluster, "/manage_addProduct/OFSP/manage_addFolder", id="site")
        change(
            cluster,
            "/site/manage_addProduct/OFSP/manage_addDTMLMethod",
            id="front",
            file=TEXT,
        )
        assert TEXT in ask(live(cluster), "/site/front", ADMIN)
        script = cluster.directory / "spread.py"
        script.write_text(SPREAD)
        scratch_cluster.command(
            cluster, f"zope-{cluster.zopes[0].name}-console", "run", str(script)
        )
        newest = max(
            tid.to_time(filestorage.last_tid(each.data_file))
            for each in cluster.storages
        )
        moment = wait_until(lambda: (n := clock.now()) > newest and n, "the clock")
        change(cluster, "/manage_delObjects", **{"ids:list": "site"})
        assert status_of(live(cluster), "/site/front") == 404
        scratch_cluster.command(cluster, "cluster", "backup")
        yield cluster, moment.isoformat()


ADMIN = "admin"


def live(cluster):
    zope = cluster.zopes[0]
    return f"http://{zope.host}:{zope.port}"


def change(cluster, path, **arguments):
    password = initialise.password_file(cluster).read_text().split()[-1]
    data = urllib.parse.urlencode(arguments).encode()
    ask(live(cluster), path, ADMIN, password, data)


def ask(base, path, user="", password="", data=None, raw=False):
    request = urllib.request.Request(base + path, data)
    if password:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        content = response.read()
    return content if raw else content.decode()


def status_of(base, path, *arguments):
    try:
        ask(base, path, *arguments)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def command(cluster, *arguments):
    return [str(cluster.bin_directory / "cluster"), "browse", *arguments]


def folders(cluster):
    parent = browsing_scratch.parent_of(cluster)
    return [each for each in parent.iterdir() if each.is_dir()]


class Browsing:
    """A running ``bin/cluster browse``."""

    def __init__(self, cluster, *arguments):
        self.process = subprocess.Popen(
            command(cluster, *arguments, "--json"),
            cwd=cluster.directory,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        self.said = json.loads("".join(lines))
        self.base = self.said["url"].removesuffix("/manage_main")
        self.port = int(self.base.rpartition(":")[2])

    def ask(self, path, **options):
        user, password = self.said["user"], self.said["password"]
        return ask(self.base, path, user, password, **options)

    def end(self, number):
        self.process.send_signal(number)
        self.process.stdout.close()
        return self.process.wait(PATIENCE)


def bring_back(cluster, export):
    """Import it into the live site, and look; then it is deleted again."""
    imports = cluster.directory / "import"
    imports.mkdir(exist_ok=True)
    (imports / "site.zexp").write_bytes(export)
    change(cluster, "/manage_importObject", file="site.zexp")
    assert TEXT in ask(live(cluster), "/site/front")
    change(cluster, "/manage_delObjects", **{"ids:list": "site"})


def test_a_wrong_delete_is_seen_exported_and_imported(deleted):
    cluster, moment = deleted
    browsing = Browsing(cluster, "--to", moment)
    try:
        assert browsing.said["asked"] == moment
        assert TEXT in browsing.ask("/site/front")
        assert "site" in browsing.ask("/manage_main")
        # Loopback only, for who has the password only, and nothing to be written.
        assert status_of(browsing.base, "/manage_main") == 401
        listening = subprocess.run(
            ["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True
        ).stdout
        assert re.search(rf" 0100007F:{browsing.port:04X} ", listening)
        assert not re.search(rf" 00000000:{browsing.port:04X} ", listening)
        with pytest.raises(urllib.error.HTTPError) as caught:
            browsing.ask("/manage_delObjects", data=b"ids:list=site")
        assert caught.value.code >= 400
        assert TEXT in browsing.ask("/site/front")
        path = "/manage_exportObject?id=site&download:int=1"
        export = browsing.ask(path, raw=True)
    finally:
        assert browsing.end(signal.SIGINT) == 0
    assert folders(cluster) == [] and not accepts(("127.0.0.1", browsing.port))
    bring_back(cluster, export)


def test_exported_by_the_command_itself(deleted, tmp_path):
    cluster, moment = deleted
    output = tmp_path / "site.zexp"
    arguments = ("--to", moment, "--output", str(output), "--export")
    done = run(cluster, *arguments, "/site")
    assert done.returncode == 0, done.stderr
    assert f"asked for: {moment[:10]}" in done.stdout
    assert folders(cluster) == []
    bring_back(cluster, output.read_bytes())
    assert run(cluster, *arguments, "/site").returncode == 37, "the file exists"
    output.unlink()
    nothing = run(cluster, *arguments, "/site/attic")
    assert nothing.returncode == 32 and "/site/attic" in nothing.stderr
    spread = run(cluster, *arguments, "/spread")
    assert spread.returncode == 15
    assert "refers to the databases catalog" in spread.stderr
    assert not output.exists() and folders(cluster) == []


def run(cluster, *arguments):
    return subprocess.run(
        command(cluster, *arguments),
        cwd=cluster.directory,
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_after_a_kill_nothing_is_left_for_long(deleted, tmp_path):
    cluster, moment = deleted
    browsing = Browsing(cluster, "--to", moment)
    assert browsing.end(signal.SIGKILL) == -signal.SIGKILL
    # Its Zope ends by itself; what lies on the disk goes with the next run.
    wait_until(lambda: not accepts(("127.0.0.1", browsing.port)), "its Zope ended")
    (left,) = folders(cluster)
    wait_until(lambda: not browsing_scratch._is_in_use(left), "nobody uses it")
    again = Browsing(cluster, "--to", moment)
    try:
        (used,) = folders(cluster)
        assert used != left
        # One that is in use stays.
        with browsing_scratch.folder(cluster) as other:
            assert {used, other.folder} == set(folders(cluster))
    finally:
        assert again.end(signal.SIGTERM) == 0
    assert folders(cluster) == []
