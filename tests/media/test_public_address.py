"""No special address is public, whatever the version of Python: the IANA registries as of November 2026, and others."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from q_align.media.public_address import is_public

# iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry
REGISTERED = (
    *("0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32"),
    *("192.0.0.171/32", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32"),
    *("::1/128", "::/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128"),
    *("2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28"),
    *("2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16"),
    *("fc00::/7", "fe80::/10"),
)
# Multicast, site-local, compatible and translated addresses; services of clouds on the machine's own network.
OTHERS = (
    *("224.0.0.0/4", "ff00::/8", "fec0::/10", "::/96", "::ffff:0:0:0/96", "4000::/3", "168.63.129.16/32"),
    *("192.0.0.192/32", "100.100.100.200/32", "fd00:ec2::254/128"),
)


@pytest.mark.parametrize("network", [*REGISTERED, *OTHERS])
def test_no_address_of_a_special_range_is_public(network: str) -> None:
    found = ip_network(network)
    for number in {0, 1, found.num_addresses // 2, found.num_addresses - 1}:
        if number < found.num_addresses:
            assert not is_public(str(found[number]))


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.0.0.192"])
@pytest.mark.parametrize("form", ["::ffff:{}", "64:ff9b::{}", "64:ff9b:1::{}", "::ffff:0:{}", "::{}"])
def test_no_form_of_a_private_address_is_public(form: str, inner: str) -> None:
    assert not is_public(form.format(inner))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450::200e", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_other_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_a_scope_is_no_way_around() -> None:
    assert not is_public("fe80::1%eth0")
