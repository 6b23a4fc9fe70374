"""What is generated from a description."""

import re
from pathlib import Path

import pytest

from tidstorage.cluster.load import load_cluster
from tidstorage.deployment import install, rendering
from tidstorage.deployment.generated import generate_files
from tidstorage.deployment.scripts import list_scripts

ROOT = Path(__file__).parents[3]


@pytest.fixture
def description(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text((ROOT / "cluster.default.toml").read_text())
    return path


def texts(description):
    files = generate_files(load_cluster(description))
    return {file.target.name: file.text for file in files}


def test_every_file_storage_refuses_garbage_collection(description):
    found = texts(description)
    servers = found["zeo-alpha.conf"] + found["zeo-beta.conf"]
    assert servers.count("<filestorage ") == 4
    assert servers.count("pack-gc false") == 4
    assert "transaction-timeout" not in servers


def test_servers_keep_what_a_pack_removes_unless_told_otherwise(description):
    assert "pack-keep-old" not in texts(description)["zeo-alpha.conf"]
    text = description.read_text()
    description.write_text(text.replace("[pack]\n", "[pack]\nkeep-old = false\n"))
    found = texts(description)
    servers = found["zeo-alpha.conf"] + found["zeo-beta.conf"]
    assert servers.count("pack-keep-old false") == 4


def test_only_the_storage_with_blobs_has_a_blob_directory(description):
    assert texts(description)["zeo-beta.conf"].count("blob-dir") == 1
    assert texts(description)["zope-web-1.conf"].count("shared-blob-dir yes") == 1


def test_the_product_is_told_the_storages_and_the_daemon(description):
    text = texts(description)["zope-web-1.conf"]
    section = re.search(
        r"<product-config TIDStorage>(.*)</product-config>", text, re.DOTALL
    )
    assert section is not None
    assert section[1].split() == [
        "backend-ip",
        "127.0.0.1",
        "backend-port",
        "18100",
        "name",
        "web-1",
        "storages",
        "main:root",
        "catalog:catalog",
        "documents:documents",
        "media:media",
    ]


def test_the_console_keeps_off_the_caches_of_its_running_zope(description):
    assert "cache-path" in texts(description)["zope-web-1.conf"]
    assert "cache-path" not in texts(description)["zope-web-1-console.conf"]
    scripts = {each.name: each for each in list_scripts(load_cluster(description))}
    (configuration,) = scripts["zope-web-1-console"].arguments
    assert configuration.endswith("etc/zope-web-1-console.conf")


def test_a_changed_port_changes_the_digest_of_that_zope_alone(description):
    def digests():
        text = texts(description)["supervisord.conf"]
        return dict(
            re.findall(r"\[program:(\S+)\].*?CONFIGURATION=\"(\w+)\"", text, re.DOTALL)
        )

    text = description.read_text()
    single = text.replace('name = "web"', 'name = "a"').replace("count = 2", "") + (
        '[[zope]]\nname = "b"\naddress = "127.0.0.1:18090"\n'
    )
    description.write_text(single)
    before = digests()
    description.write_text(single.replace("18090", "18091"))
    after = digests()
    assert {name for name in before if before[name] != after[name]} == {"zope-b"}


def test_a_site_brings_its_own_products_environment_and_lines(description):
    description.write_text(
        description.read_text().replace(
            "count = 2",
            'eggs = ["Products.Acme"]\n'
            'environment = { SECRET = "a$b" }\n'
            'zope-conf-additional = """\nverbose-security on\n"""\n'
            "threads = 4\n",
        )
    )
    text = texts(description)["zope-web.conf"]
    assert "  SECRET a$$b\n" in text
    assert text.endswith("verbose-security on\n")
    assert text.count("pool-size 4") == 4
    scripts = {each.name: each for each in list_scripts(load_cluster(description))}
    assert "Products.Acme" in scripts["zope-web"].eggs


def test_no_schedule_no_cron_entry(description):
    assert "tidstorage-repozo" in texts(description)["crontab"]
    text = re.sub(r"schedule = .*", 'schedule = "never"', description.read_text())
    assert text.count('schedule = "never"') == 4
    description.write_text(text)
    assert texts(description)["crontab"].count("\n") == 1


def test_each_schedule_has_its_entry_and_log(description):
    text = description.read_text().replace('"never"', '"0 3 1 * *"')
    description.write_text(text)
    folder = description.parent
    found = texts(description)
    entries = [each for each in found["crontab"].splitlines() if each[0] != "#"]
    assert entries == [
        f"{schedule} {folder}/bin/tidstorage-{script} >> {folder}/var/log/{log}"
        for schedule, script, log in [
            ("15 2 * * *", "repozo --backup --scheduled", "backup.log"),
            ("15 6 * * 0", "verify", "verify.log"),
            ("15 5 * * *", "prune", "prune.log"),
            ("0 3 1 * *", "pack", "pack.log"),
        ]
    ]
    # A file for /etc/cron.d names the user too.
    description.write_text(text.replace("[cluster]\n", '[cluster]\nuser = "zope"\n'))
    system = texts(description)["crontab.system"]
    assert system.splitlines()[1:] == [
        each.replace(f" {folder}/bin", f" zope {folder}/bin", 1) for each in entries
    ]


def test_each_file_is_rendered_once_in_a_deployment(description, monkeypatch):
    rendered = []
    render = rendering._render

    def note(template, data):
        rendered.append((template, data.get("client_label", data.get("name"))))
        return render(template, data)

    monkeypatch.setattr(rendering, "_render", note)
    install.write_files(load_cluster(description))
    zopes = [label for template, label in rendered if template == "zope.conf.in"]
    assert sorted(zopes) == ["web-1", "web-1-console", "web-2", "web-2-console"]
