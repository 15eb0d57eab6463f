"""The web proxies that the environment names, with the variables and forms that curl accepts."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from dinoclassify.errors import UsageError


def proxy_of(url: str) -> str | None:
    """The URL of the proxy for a URL; None if there is none. Raises UsageError if the variable names no usable one."""
    name = proxy_variable(url)
    if name is None:
        return None
    value = os.environ[name]
    proxy = value if "://" in value else f"http://{value}"
    if not _is_usable(proxy):  # it may contain a password, so the message does not show it
        raise UsageError(f"{name} names no proxy that can be used: write it as http://HOST:PORT, or unset it")
    return proxy


def proxy_variable(url: str) -> str | None:
    """The environment variable that names the proxy for a URL; None if there is none."""
    from urllib.request import proxy_bypass  # slow to import

    scheme = url.partition(":")[0].lower()
    name = next((name for name in _variables(scheme) if os.environ.get(name)), None)
    if name is None:
        return None
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # not a URL: the request reports it
        return None
    return None if proxy_bypass(host) else name


def _variables(scheme: str) -> Iterator[str]:
    yield f"{scheme}_proxy"
    if "REQUEST_METHOD" not in os.environ:  # in a CGI program HTTP_PROXY is a header of the client
        yield f"{scheme.upper()}_PROXY"
    yield "all_proxy"
    yield "ALL_PROXY"


def _is_usable(proxy: str) -> bool:
    try:
        parts = urlsplit(proxy)
        return parts.scheme.lower() == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
