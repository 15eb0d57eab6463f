"""Private addresses: this machine and its network are not contacted, under any name."""

import ipaddress

import pytest

from dinoclassify.storage.remote import web
from dinoclassify.types.prediction import Failure
from tests.helpers.servers import Page, Web
from tests.helpers.web import failure


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.2"])
def test_this_machine_is_not_contacted(site: Web, host: str) -> None:
    site.pages["/a.jpg"] = Page(b"secret")
    refused = failure(f"http://{host}:{site.port}/a.jpg", private=False)
    why = "its address is private: --allow-private-urls allows it (dinoclassify guide stores)"
    assert refused == Failure("unreadable", why)
    assert not site.faults.asked


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0", "0177.0.0.1"])
def test_this_machine_is_not_contacted_under_another_spelling(site: Web, host: str) -> None:
    site.pages["/a.jpg"] = Page(b"secret")
    assert failure(f"http://{host}:{site.port}/a.jpg", private=False).code == "unreadable"
    assert not site.faults.asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%1", "fd00::1", "ff02::1", "::ffff:127.0.0.1",
        "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:c0a8:1::1",
        "192.0.0.192", "192.0.0.9", "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::1",
        "100.100.100.200", "0.1.2.3", "198.18.0.1", "198.19.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1",
        "192.88.99.1", "239.255.255.255", "250.0.0.1", "::ffff:100.64.0.1", "::ffff:169.254.169.254", "fec0::1",
        "feff::1", "fd00:ec2::254", "2001::1", "2001:db8::1", "3fff::1", "5f00::1", "100::1", "4000::1", "::8.8.8.8",
        "64:ff9b:1::808:808",
    ],
)  # fmt: skip
def test_private_addresses_are_recognised(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert web.is_private(address)
    for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address):  # as if this version of Python knew nothing
        monkeypatch.setattr(kind, "is_global", True)
    assert web.is_private(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::",
        "192.0.1.1",
        "168.63.129.17",
        "100.128.0.1",
    ],
)
def test_public_addresses_are_recognised(address: str) -> None:
    assert not web.is_private(address)
