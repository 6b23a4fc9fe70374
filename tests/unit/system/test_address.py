"""Addresses of servers, as texts."""

import pytest

from tidstorage.system.address import address_text, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8100", ("127.0.0.1", 8100)),
        ("zeo.example:1", ("zeo.example", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("/run/zeo.sock", "/run/zeo.sock"),
        ("/run/zeo:80", "/run/zeo:80"),
    ],
)
def test_read_and_written(text, address):
    assert parse_address(text) == address
    assert address_text(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "8100", ":8100", "host", "host:", "host:0", "host:65536", "host:-1", "a/b:80"],
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="expected host:port or the path"):
        parse_address(text)
