"""The cluster's block in a crontab, and everything else in it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidstorage.deployment import crontab

OWNER = Path("/srv/site/cluster.toml")
OTHER = Path("/srv/other/cluster.toml")
ENTRIES = "# Cluster site\n15 2 * * * /srv/site/bin/tidstorage-repozo --backup\n"
USERS = "MAILTO=me\n# mine\n0 1 * * * /usr/bin/mine\n"

#: Crontabs of a user: lines of any text, with a line break at the end of each.
crontabs = st.lists(
    st.text(st.characters(exclude_characters="\r\n"))
    | st.just(f"## BEGIN tidstorage, cluster {OWNER}")
).map(lambda lines: "".join(f"{line}\n" for line in lines))


def test_block_goes_to_the_end_and_names_the_cluster_file() -> None:
    text = crontab.put_block(USERS, ENTRIES, OWNER)
    assert text.startswith(USERS)
    assert text[len(USERS) :].splitlines() == [
        f"# BEGIN tidstorage, cluster {OWNER}",
        *ENTRIES.splitlines(),
        f"# END tidstorage, cluster {OWNER}",
    ]


@given(crontabs)
def test_removing_gives_back_what_was_there(users: str) -> None:
    text = crontab.put_block(users, ENTRIES, OWNER)
    assert crontab.remove_block(text, OWNER) == users


@given(crontabs, crontabs)
def test_new_entries_take_the_place_of_the_old(before: str, after: str) -> None:
    text = crontab.put_block(before, ENTRIES, OWNER) + after
    new = ENTRIES.replace("15 2", "30 3")
    assert crontab.put_block(text, new, OWNER) == text.replace("15 2", "30 3", 1)


def test_installing_twice_changes_nothing() -> None:
    once = crontab.put_block(USERS, ENTRIES, OWNER)
    assert crontab.put_block(once, ENTRIES, OWNER) == once


def test_block_of_another_cluster_stays() -> None:
    other = crontab.put_block(USERS, ENTRIES.replace("site", "other"), OTHER)
    both = crontab.put_block(other, ENTRIES, OWNER)
    assert crontab.remove_block(both, OWNER) == other


def test_last_line_without_a_line_break_stays_a_line_of_its_own() -> None:
    text = crontab.put_block("0 1 * * * mine", ENTRIES, OWNER)
    assert text.splitlines()[:2] == [
        "0 1 * * * mine",
        f"# BEGIN tidstorage, cluster {OWNER}",
    ]


def test_without_a_schedule_there_is_no_block() -> None:
    text = crontab.put_block(USERS, ENTRIES, OWNER)
    assert crontab.put_block(text, "# Cluster site\n", OWNER) == USERS


def test_block_without_an_end_is_refused_since_the_rest_may_be_the_users() -> None:
    text = f"# BEGIN tidstorage, cluster {OWNER}\n0 1 * * * mine\n"
    with pytest.raises(ValueError, match="no end"):
        crontab.remove_block(text, OWNER)
    with pytest.raises(ValueError, match="no end"):
        crontab.put_block(text, ENTRIES, OWNER)
