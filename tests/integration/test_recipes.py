"""The recipes with the real buildout: install, update, uninstall; data is safe."""

import configparser
import http.server
import re
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from built_clusters import CHECKOUT, ScratchCluster, scratch_cluster
from real_processes import PATIENCE, free_port
from ZEO.ClientStorage import ClientStorage

pytestmark = pytest.mark.integration

OUR_SCRIPTS = {
    "bin/cluster",
    "bin/tidstorage",
    "bin/tidstorage-repozo",
    "bin/tidstorage-restore",
    "bin/tidstorage-verify",
    "bin/tidstorage-prune",
    "bin/tidstorage-pack",
    "bin/tidstorage-cut",
    "bin/tidstorage-dump",
    "bin/tidstorage-check-log",
    "bin/tidstorage-full-log",
}
OUR_FILES = {
    "etc/crontab",
    "etc/crontab.system",
    "etc/logrotate.conf",
    "etc/supervisord.conf",
    "etc/tidstorage.conf",
}


def of_zeo(name: str) -> set[str]:
    return {f"etc/zeo-{name}.conf", f"bin/zeo-{name}"}


def of_zope(name: str) -> set[str]:
    return {
        f"etc/zope-{name}.conf",
        f"etc/zope-{name}.ini",
        f"etc/zope-{name}-console.conf",
        f"bin/zope-{name}",
        f"bin/zope-{name}-console",
    }


def build(cluster: ScratchCluster) -> None:
    result = cluster.build()
    assert result.returncode == 0, result.stdout + result.stderr


def identities(cluster: ScratchCluster) -> dict[str, tuple[int, int]]:
    """{generated file: (inode, modification time in ns)}"""
    found = {}
    for name in cluster.installed():
        status = (cluster.folder / name).stat()
        found[name] = status.st_ino, status.st_mtime_ns
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> ScratchCluster:
    """A built cluster that every test leaves as it was."""
    cluster = scratch_cluster(tmp_path_factory.mktemp("built") / "site")
    build(cluster)
    return cluster


@pytest.fixture
def own(tmp_path: Path) -> ScratchCluster:
    """A built cluster that a test may change."""
    cluster = scratch_cluster(tmp_path / "site")
    build(cluster)
    return cluster


def write_data(folder: Path) -> dict[Path, bytes]:
    """Something of everything that must never be lost: {file: content}."""
    data = {
        folder / name: f"precious: {name}".encode()
        for name in (
            "var/storage/root/Data.fs",
            "var/storage/media/Data.fs",
            "var/storage/media/Data.fs.point",
            "var/storage/media/blobs/0x00/0x01.blob",
            "var/log/zeo-beta.log",
            "var/log/zope-web-2.log",
            "var/tidstorage/tidlog",
            "var/backup/sets/20260101T000000Z/manifest.json",
        )
    }
    for path, content in data.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return data


def assert_data_is_whole(data: dict[Path, bytes]) -> None:
    assert {path: path.read_bytes() for path in data} == data


def test_every_file_and_script_is_there(built: ScratchCluster) -> None:
    assert built.installed() == {
        *OUR_SCRIPTS,
        *OUR_FILES,
        *of_zeo("alpha"),
        *of_zeo("beta"),
        *of_zope("web-1"),
        *of_zope("web-2"),
    }
    for name in built.installed():
        mode = stat.S_IMODE((built.folder / name).stat().st_mode)
        assert (mode == 0o600) if name.startswith("etc/") else (mode & 0o100), name


def test_no_server_may_collect_garbage_or_time_out(built: ScratchCluster) -> None:
    storages = 0
    for path in (built.folder / "etc").glob("zeo-*.conf"):
        text = path.read_text()
        sections = re.findall(r"<filestorage (.*?)>(.*?)</filestorage>", text, re.S)
        storages += len(sections)
        for storage, section in sections:
            assert re.search(r"^\s*pack-gc false$", section, re.M), storage
    assert storages == 3
    for path in (built.folder / "etc").iterdir():
        assert "transaction-timeout" not in path.read_text(), path


def test_the_script_of_a_server_serves_its_storages(own: ScratchCluster) -> None:
    with subprocess.Popen([own.folder / "bin/zeo-alpha"]) as server:
        try:
            address = ("127.0.0.1", own.zeos["alpha"])
            for storage in ("root", "catalog"):
                client = ClientStorage(address, storage=storage, wait_timeout=PATIENCE)
                assert len(client) == 0
                client.close()
        finally:
            server.terminate()
    assert (own.folder / "var/storage/catalog/Data.fs").exists()
    assert not (own.folder / "var/storage/media/Data.fs").exists()


def test_a_run_without_a_change_rewrites_nothing(built: ScratchCluster) -> None:
    before = identities(built)
    build(built)
    assert identities(built) == before


def test_a_changed_zope_port_concerns_that_zope_alone(own: ScratchCluster) -> None:
    before = identities(own)
    digests = program_digests(own)
    own.zopes["web-2"] = free_port()
    own.describe()
    build(own)
    after = identities(own)
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"etc/zope-web-2.ini", "etc/supervisord.conf"}
    new_digests = program_digests(own)
    assert len(digests) == 5
    assert new_digests.keys() == digests.keys()
    assert {name for name, each in new_digests.items() if each != digests[name]} == {
        "zope-web-2"
    }


def program_digests(cluster: ScratchCluster) -> dict[str, str]:
    """{program: what supervisor compares to see whether it has to restart it}"""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read(cluster.folder / "etc/supervisord.conf")
    return {
        section.removeprefix("program:"): parser[section]["environment"]
        for section in parser.sections()
        if section.startswith("program:")
    }


def test_what_is_removed_takes_its_files_but_no_data(own: ScratchCluster) -> None:
    data = write_data(own.folder)
    before = own.installed()
    del own.storages["media"], own.zeos["beta"], own.zopes["web-2"]
    own.describe()
    build(own)
    assert own.installed() == before - of_zeo("beta") - of_zope("web-2")
    assert "media" not in (own.folder / "etc/zope-web-1.conf").read_text()
    assert "media" not in (own.folder / "etc/tidstorage.conf").read_text()
    assert_data_is_whole(data)


def test_uninstalling_it_all_leaves_the_data(own: ScratchCluster) -> None:
    data = write_data(own.folder)
    buildout = own.folder / "buildout.cfg"
    buildout.write_text(buildout.read_text().replace("parts = cluster", "parts ="))
    build(own)
    assert own.installed() == set()
    assert_data_is_whole(data)


def test_files_that_were_deleted_come_back(own: ScratchCluster) -> None:
    before = own.installed()
    text = (own.folder / "etc/zeo-alpha.conf").read_text()
    (own.folder / "etc/zeo-alpha.conf").unlink()
    (own.folder / "bin/zeo-alpha").unlink()
    build(own)
    assert own.installed() == before
    assert (own.folder / "etc/zeo-alpha.conf").read_text() == text


def installed_parts(cluster: ScratchCluster) -> list[str]:
    """What buildout would uninstall, were it gone from the description."""
    parser = configparser.RawConfigParser(strict=False)
    parser.read(cluster.folder / ".installed.cfg")
    return parser["buildout"]["parts"].split()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["is empty"]),
        ("[cluster", ["is not TOML"]),
        (
            """
[[zeo]]
name = "alpha"
[[storage]]
id = "1"
zeo = "alpha"
[[storage]]
id = "catalog"
zeo = "alfa"
cahce-size = 5
[[storage]]
id = "catalog"
zeo = "alpha"
blobs = "yes"
[tidstorage]
address = "127.0.0.1:18101"
""",
            [
                "storage[1].id",
                "storage[2].zeo",
                'mean "alpha"',
                "storage[2].cahce-size",
                'mean "cache-size"',
                "storage[3].id",
                "storage[3].blobs",
                "tidstorage.address",
            ],
        ),
    ],
    ids=["empty", "not-toml", "many-mistakes"],
)
def test_a_bad_description_touches_nothing(
    built: ScratchCluster, text: str, said: list[str]
) -> None:
    good = built.file.read_text()
    built.file.write_text(text)
    try:
        output = fails_and_touches_nothing(built)
    finally:
        built.file.write_text(good)
    for each in said:
        assert each in output, output


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("\n{{ data.no_such_thing }}", "no attribute 'no_such_thing'"),
        ("\n{% if %}", "Expected an expression"),
        ("\n{{ 1 / 0 }}", "division by zero"),
    ],
)
def test_a_template_that_cannot_be_rendered_touches_nothing(
    built: ScratchCluster, tmp_path: Path, wrong: str, said: str
) -> None:
    """Rendered once before anything is uninstalled: shown by a broken library."""
    library = tmp_path / "tidstorage"
    shutil.copytree(CHECKOUT / "src/tidstorage", library, symlinks=False)
    template = library / "templates/supervisord.conf.in"
    line = len(template.read_text().splitlines()) + 1
    template.write_text(template.read_text().rstrip() + wrong)
    output = fails_and_touches_nothing(built, PYTHONPATH=str(tmp_path))
    assert said in output
    assert f"{template}, line {line}: " in output


def fails_and_touches_nothing(
    built: ScratchCluster, *options: str, **environment: str
) -> str:
    """What buildout said."""
    before = identities(built)
    installed = installed_parts(built)
    result = built.build(*options, **environment)
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert "Traceback" not in output
    assert "Uninstalling" not in output
    assert identities(built) == before
    assert installed_parts(built) == installed
    return output


@pytest.fixture
def index() -> Iterator[tuple[str, list[str]]]:
    """An index of packages that has none: its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}/simple", asked
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("egg", ["no.such.egg", "Zope==1.0", "no egg"])
def test_an_egg_that_cannot_be_found_touches_nothing(
    built: ScratchCluster, egg: str, offline: bool, index: tuple[str, list[str]]
) -> None:
    """And an index is asked for its name at most, never for all there are."""
    address, asked = index
    good = built.file.read_text()
    built.file.write_text(good.replace('"web-2"', f'"web-2"\neggs = ["{egg}"]'))
    try:
        output = fails_and_touches_nothing(
            built, f"buildout:index={address}", "-o" if offline else "-N"
        )
    finally:
        built.file.write_text(good)
    assert egg in output and "Is it spelt like this" in output
    pages = {each.replace("-", ".") for each in asked}
    unknown = egg == "no.such.egg" and not offline
    assert pages == ({"/simple/no.such.egg/"} if unknown else set())
