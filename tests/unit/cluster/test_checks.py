"""What two tables together get wrong, seen beside every other mistake."""

import datetime
import os
from pathlib import Path

import pytest

from tidstorage.cluster.cluster import Retention, Verify
from tidstorage.cluster.load import load_cluster
from tidstorage.errors import DescriptionError

ROOT = '[[storage]]\nid = "root"\nmount-point = "/"\n'


def mistakes_in(folder: Path, text: str) -> list[str]:
    """The lines of the message, one for each mistake."""
    path = folder / "cluster.toml"
    path.write_text(text)
    with pytest.raises(DescriptionError) as caught:
        load_cluster(path)
    head, *lines = (line.strip() for line in str(caught.value).splitlines())
    assert head.startswith(f"{path} has {len(lines)} mistake")
    return lines


def only_mistake(folder: Path, text: str) -> str:
    (line,) = mistakes_in(folder, text)
    return line


@pytest.mark.parametrize(
    ("zeo", "zope"),
    [
        ("127.0.0.1:18200", "127.0.0.1:18200"),
        ("localhost:18200", "127.0.0.1:18200"),
        ("127.0.0.1:18200", "0.0.0.0:18200"),
        ("[::]:18200", "192.0.2.1:18200"),
    ],
)
def test_two_servers_on_one_port(tmp_path, zeo, zope):
    text = (
        f'[[zeo]]\nname = "main"\naddress = "{zeo}"\n{ROOT}'
        f'[[zope]]\nname = "web"\naddress = "{zope}"\n'
    )
    assert "zope[1].address" in only_mistake(tmp_path, text)


def test_one_port_of_two_hosts_is_fine(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(
        f'[[zeo]]\nname = "main"\naddress = "192.0.2.1:18200"\n{ROOT}'
        '[[zope]]\nname = "web"\naddress = "192.0.2.2:18200"\n'
    )
    assert load_cluster(path).zopes[0].port == 18200


def test_ports_are_checked_beside_an_unreadable_server(tmp_path):
    text = (
        f'[[zeo]]\nname = "main"\naddress = 5\n{ROOT}'
        '[[zope]]\nname = "web"\naddress = "127.0.0.1:18100"\n'
    )
    unreadable, twice = mistakes_in(tmp_path, text)
    assert "zeo[1].address" in unreadable
    assert "zope[1].address" in twice and "twice" in twice


def test_defaults_that_are_not_known_are_not_blamed(tmp_path):
    text = (
        '[[zeo]]\nname = 5\n[[zeo]]\nname = "main"\n'
        f"{ROOT}"
        '[[zope]]\nname = "a"\naddress = 7\n'
        '[[zope]]\nname = "b"\naddress = "127.0.0.1:18101"\n'
        '[[zope]]\nname = "c"\naddress = "127.0.0.1:18080"\n'
    )
    assert [line.split(": ")[0] for line in mistakes_in(tmp_path, text)] == [
        "line 2, zeo[1].name",
        "line 10, zope[1].address",
    ]


def test_no_root_is_said_beside_an_unknown_key(tmp_path):
    text = '[[storage]]\nid = "a"\nzoe = "main"\n'
    key, root = mistakes_in(tmp_path, text)
    assert "storage[1].zoe" in key
    assert 'mount-point = "/"' in root


@pytest.mark.parametrize(
    "storage",
    [
        'id = 5\nmount-point = "/"',
        'id = "a"\nmount-point = 5',
        'id = "a"\nmount-point = "x"',
    ],
)
def test_an_unreadable_root_is_not_missed_too(tmp_path, storage):
    assert "storage[1]" in only_mistake(tmp_path, f"[[storage]]\n{storage}\n")


def test_only_the_root_may_be_called_as_zope_calls_it(tmp_path):
    line = only_mistake(tmp_path, f'{ROOT}[[storage]]\nid = "main"\n')
    assert "storage[2].id" in line and "root database" in line
    path = tmp_path / "cluster.toml"
    path.write_text('[[storage]]\nid = "main"\nmount-point = "/"\n')
    assert load_cluster(path).storages[0].id == "main"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ('path = "var/cache/web/Data.fs"\n', "storage[1].path"),
        ('blob-dir = "var/run/blobs"\n', "storage[1].blob-dir"),
        ('[backup]\ndirectory = "etc"\n', "backup.directory"),
        ('[backup]\ndirectory = "var/log/sets"\n', "backup.directory"),
    ],
)
def test_nothing_of_value_lies_in_a_folder_of_the_tools(tmp_path, change, place):
    line = only_mistake(tmp_path, ROOT + change)
    assert place in line and "folder of the tools" in line


def test_a_file_is_recognised_by_its_other_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/Data.fs").touch()
    os.link(tmp_path / "a/Data.fs", tmp_path / "b/Data.fs")
    text = f'{ROOT}path = "a/Data.fs"\n[[storage]]\nid = "b"\npath = "b/Data.fs"\n'
    assert "storage[2].path" in only_mistake(tmp_path, text)


def test_a_number_out_of_bounds_is_said_in_words(tmp_path):
    line = only_mistake(tmp_path, f'{ROOT}[[zope]]\nname = "web"\ncount = 0\n')
    assert "zope[1].count: expected greater than or equal to 1, found 0" in line


def test_two_addresses_to_ping_are_one_too_many(tmp_path):
    text = ROOT + (
        '[backup]\nping-url = "https://ping.example/a%20b?c=1"\n'
        'ping-url-file = "/etc/site/ping-url"\n'
    )
    assert "backup.ping-url-file" in only_mistake(tmp_path, text)


def test_schedules_and_lengths_of_time(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(
        ROOT + '[backup]\nschedule = "never"\nfull-every = "4w"\n'
        '[verify]\nschedule = "0 6 * * 0"\n[retention]\nschedule = "0 5 * * *"\n'
        '[pack]\nschedule = "0 3 1 * *"\nkeep-days = 0\n'
    )
    cluster = load_cluster(path)
    assert cluster.backup.full_every == datetime.timedelta(days=28)
    assert (cluster.backup.schedule, cluster.verify.schedule) == (None, "0 6 * * 0")
    assert cluster.retention.schedule == "0 5 * * *"
    assert (cluster.pack.schedule, cluster.pack.keep_days) == ("0 3 1 * *", 0)
    path.write_text(ROOT + '[backup]\nfull-every = "never"\n')
    assert load_cluster(path).backup.full_every is None


@pytest.mark.parametrize("text", ["28", "0d", "1m", "d", "-1d", "1.5d"])
def test_what_is_no_length_of_time(tmp_path, text):
    line = only_mistake(tmp_path, ROOT + f'[backup]\nfull-every = "{text}"\n')
    assert "backup.full-every" in line and "a length of time" in line


def test_what_is_kept_and_how_it_is_verified(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(
        ROOT + "[retention]\nkeep-full = 3\nkeep-daily = 14\nkeep-weekly = 8\n"
        'keep-monthly = 12\n[verify]\ndepth = "objects"\nsets = "all"\n'
        'time-budget = "90m"\nscratch = "/srv/scratch"\n'
    )
    cluster = load_cluster(path)
    assert cluster.retention == Retention(3, 14, 8, 12)
    assert cluster.verify == Verify(
        "15 6 * * 0",
        "all",
        "objects",
        datetime.timedelta(minutes=90),
        Path("/srv/scratch"),
    )
    path.write_text(ROOT)
    weekly = Verify("15 6 * * 0", scratch=tmp_path / "var/verify")
    assert load_cluster(path).verify == weekly


@pytest.mark.parametrize(
    "scratch",
    ["var/storage/root", "/srv/data", "var/backup", "var/backup/verify", "var"],
)
def test_scratch_is_no_place_of_value(tmp_path, scratch):
    text = ROOT + f'blob-dir = "/srv/data/blobs"\n[verify]\nscratch = "{scratch}"\n'
    assert any("verify.scratch" in line for line in mistakes_in(tmp_path, text))


def test_a_time_zone_has_to_be_one(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(f'[cluster]\ntime-zone = "Europe/Berlin"\n{ROOT}')
    assert load_cluster(path).time_zone == "Europe/Berlin"
    line = only_mistake(tmp_path, f'[cluster]\ntime-zone = "Europe/Berln"\n{ROOT}')
    assert 'did you mean "Europe/Berlin"' in line
    only_mistake(tmp_path, f'[cluster]\ntime-zone = "../etc/passwd"\n{ROOT}')


@pytest.mark.parametrize("table", ["backup", "retention", "verify", "pack"])
def test_a_schedule_that_never_comes(tmp_path, table):
    line = only_mistake(tmp_path, ROOT + f'[{table}]\nschedule = "0 3 31 2 *"\n')
    assert f"{table}.schedule" in line and "Bad day-of-month" in line
