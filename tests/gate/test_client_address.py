"""Which address counts, and which proxies are believed."""

from __future__ import annotations

import pytest

from errors import ConfigurationError
from gate.client_address import TrustedProxies, client_address


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("192.0.2.1", [], "", "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "", "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.2", "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1", "203.0.113.9"),
        ("192.0.2.1", ["203.0.113.9"], "10.0.0.0/8, 192.0.2.0/24", "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9, 10.0.0.2"], "10.0.0.0/8", "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9", "10.0.0.2"], "10.0.0.0/8", "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.0/8", "10.0.0.3"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9"], "*", "6.6.6.6"),
        ("10.0.0.1", ["203.0.113.9:4711"], "*", "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:1:2:3::4]:4711"], "*", "2001:db8:1:2::/64"),
        ("10.0.0.1", ["unknown"], "*", "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, \xff\x00"], "*", "10.0.0.1"),
        ("10.0.0.1", [""], "*", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", [], "", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", [], "", "192.0.2.1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "10.0.0.1", "203.0.113.9"),
        ("fe80::1%eth0", [], "", "fe80::/64"),
        (None, ["203.0.113.9"], "*", "unknown"),
        ("/run/socket", [], "", "unknown"),
    ],
)
def test_caller_is_the_last_address_nobody_trusted_vouches_for(
    peer: str | None, forwarded: list[str], trusted: str, expected: str
) -> None:
    lines = [line.encode("latin-1") for line in forwarded]
    assert client_address(peer, lines, TrustedProxies.parse(trusted)) == expected


def test_long_chain_of_proxies_costs_little() -> None:
    chain = [b",".join([b"10.0.0.1"] * 1500)]
    assert client_address("10.0.0.1", chain, TrustedProxies.parse("10.0.0.0/8")) == "10.0.0.1"


@pytest.mark.parametrize("text", ["localhost", "10.0.0.1/8", "10.0.0", "10.0.0.1 10.0.0.2"])
def test_what_is_no_list_of_addresses_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="FORWARDED_ALLOW_IPS"):
        TrustedProxies.parse(text)
