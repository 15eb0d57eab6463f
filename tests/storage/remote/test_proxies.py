"""Proxies: used where private addresses are allowed, and named where one may be missed."""

import pytest

from dinoclassify.discovery.discover import discover
from dinoclassify.errors import UsageError
from dinoclassify.types.source import Source
from tests.helpers.servers import Page, Web
from tests.helpers.web import failure, read


def test_a_proxy_is_not_a_way_to_private_addresses(site: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.setenv("no_proxy", "")
    assert failure("http://127.0.0.2:1/a.jpg", private=False).message.startswith("its address is private")
    assert not site.faults.asked


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", "HTTP://", ""])
def test_a_proxy_may_be_named_without_its_scheme(
    site: Web, monkeypatch: pytest.MonkeyPatch, no_proxy: None, name: str, scheme: str
) -> None:
    site.pages["/a.jpg"] = Page(b"by the proxy")
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{site.port}")
    assert read("http://far.invalid/a.jpg").content == b"by the proxy"
    monkeypatch.setenv("no_proxy", "far.invalid")
    assert failure("http://far.invalid/a.jpg").message.startswith("Cannot connect to host far.invalid")


def test_the_proxy_is_chosen_anew_after_a_redirect(site: Web, monkeypatch: pytest.MonkeyPatch, no_proxy: None) -> None:
    site.pages["/a.jpg"] = Page(status="302 Found", headers={"Location": "http://far.invalid/b.jpg"})
    site.pages["/b.jpg"] = Page(b"by the proxy")
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{site.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert read(f"{site.url}/a.jpg").content == b"by the proxy"


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "https://proxy:1", "http://", ":80", "proxy:port", "[::1"])
def test_an_unusable_proxy_variable_is_named(monkeypatch: pytest.MonkeyPatch, no_proxy: None, value: str) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(UsageError) as caught:
        list(discover(["https://example.org/a.jpg"], private=True))
    cure = "write it as http://HOST:PORT, or unset it"
    assert str(caught.value) == f"ALL_PROXY names no proxy that can be used: {cure}"
    assert list(discover(["https://example.org/a.jpg"])) == [Source("https://example.org/a.jpg")]
    monkeypatch.setenv("no_proxy", "example.org")
    assert len(list(discover(["https://example.org/a.jpg", "https://[::1/a"], private=True))) == 2


def test_an_unused_proxy_is_mentioned_if_a_host_cannot_be_reached(
    site: Web, monkeypatch: pytest.MonkeyPatch, no_proxy: None
) -> None:
    monkeypatch.setenv("HTTP_PROXY", site.url)
    hint = "; the proxy in HTTP_PROXY is used only with --allow-private-urls"
    assert failure("http://far.invalid/a.jpg", private=False).message.endswith(hint)
    assert "HTTP_PROXY" not in failure(f"{site.url}/a.jpg", private=False).message  # that is not what is missing
    monkeypatch.setenv("no_proxy", "far.invalid")
    assert not failure("http://far.invalid/a.jpg", private=False).message.endswith(hint)
    assert not site.faults.asked
