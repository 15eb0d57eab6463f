"""Reading http and https URLs, with limits on size, redirects and tries, and on the addresses that may be reached.

``private`` arguments here and elsewhere allow addresses that are not public, and the proxy that the environment names.
"""

import asyncio
import errno
import functools
import io
import ipaddress
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from dinoclassify.messages import first_line
from dinoclassify.storage.budget import Reserve, check_size
from dinoclassify.storage.remote.event_loop import keep_open
from dinoclassify.storage.remote.proxies import proxy_of, proxy_variable
from dinoclassify.storage.remote.retries import CONNECTIONS, backoff
from dinoclassify.storage.signature import seconds
from dinoclassify.version import __version__

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientResponseError, ClientSession
    from yarl import URL

_REDIRECTS = 5  # redirects to follow
_REDIRECTING = frozenset({301, 302, 303, 307, 308})  # statuses
_CONNECT = 10.0  # seconds to reach a server
_SILENCE = 30.0  # seconds without data from a server
_MOST_WAIT = 20.0  # seconds to wait at most, whatever Retry-After says
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# For some of these the answer of `ipaddress` depends on the version of Python.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
            "100.64.0.0/10",  # shared by customers of a provider; Alibaba's metadata
            "168.63.129.16/32",  # Azure's wire server
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata
            "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "198.18.0.0/15",  # benchmarks
            "224.0.0.0/4", "240.0.0.0/4",  # multicast, reserved
            "::/3", "4000::/2", "8000::/1",  # all but 2000::/3, from which global addresses are given out
            "2001::/23", "2001:db8::/32", "3fff::/20",  # protocol assignments with Teredo, documentation
        ),
    )
)  # fmt: skip


class _PrivateAddressError(OSError):
    """The address of a server is not public."""


async def get(
    url: str, *, private: bool = False, start: int | None = None, end: int | None = None, reserve: Reserve = check_size
) -> tuple[bytes, Mapping[str, str]]:
    """The bytes at a URL, all or from ``start`` to ``end``, and the headers of the response.

    There is no limit on the total time; the caller sets one. Raises what ``reserve`` raises, FileNotFoundError,
    PermissionError if the server denies access or its address is private, TimeoutError if it does not answer, and
    OSError: with EFBIG if there are more than `MOST_BYTES`, with ESPIPE if the server sends all bytes instead of a
    range.
    """
    wanted = {} if start is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
    content, headers = await _request("GET", url, wanted, private=private, reserve=reserve)
    return content if start is None or end is None else content[: end - start], headers


async def head(url: str, *, private: bool = False) -> Mapping[str, str]:
    """The headers of a URL; raises OSError like `get`."""
    _, headers = await _request("HEAD", url, {}, private=private)
    return headers


async def _request(
    method: str, url: str, headers: Mapping[str, str], *, private: bool, reserve: Reserve = check_size
) -> tuple[bytes, Mapping[str, str]]:
    import aiohttp

    session = await keep_open(("web", private), functools.partial(_session, private))
    pauses = backoff()
    while True:
        try:
            return await _try(session, method, url, headers, reserve)
        except (aiohttp.ClientError, TimeoutError) as error:
            pause = next(pauses, None) if _is_worth_a_retry(error) else None
            if pause is None:
                raise _as_os_error(error, None if private else proxy_variable(url)) from error
            await asyncio.sleep(max(pause, _asked_to_wait(error)))


async def _try(
    session: "ClientSession", method: str, url: str, headers: Mapping[str, str], reserve: Reserve
) -> tuple[bytes, Mapping[str, str]]:
    for _ in range(_REDIRECTS + 1):
        proxy = proxy_of(url) if session.trust_env else None
        async with session.request(method, url, headers=headers, allow_redirects=False, proxy=proxy) as response:
            response.raise_for_status()
            if response.status not in _REDIRECTING or "Location" not in response.headers:
                return await _body(response, reserve), response.headers
            url = _joined(response.url, response.headers["Location"])
    raise OSError(f"over {_REDIRECTS} redirects")


def _joined(url: "URL", location: str) -> str:
    """The target of a redirect. If it is not a URL of the web, the next request fails."""
    try:
        target = type(url)(location)
    except ValueError:
        return location
    return location if target.scheme else str(url.join(target))


async def _body(response: "ClientResponse", reserve: Reserve) -> bytes:
    if "Range" in response.request_info.headers and response.status != 206:
        raise OSError(errno.ESPIPE, "its server gives it only as a whole")
    if response.method == "HEAD":
        return b""
    reserve(response.content_length)
    with io.BytesIO() as content:  # getvalue makes no copy of its bytes
        async for part in response.content.iter_any():
            reserve(content.tell() + len(part))
            content.write(part)
        return content.getvalue()


async def _session(private: bool) -> "AsyncGenerator[ClientSession, None]":
    import aiohttp

    # The address that a proxy connects to cannot be checked, so there is no proxy unless all addresses are allowed.
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, socket_factory=None if private else _public_socket),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE),
        headers={"User-Agent": f"dinoclassify/{__version__}", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=private,
    ) as session:
        yield session


def _public_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an address from getaddrinfo; aiohttp connects to this very address."""
    family, kind, protocol, _, (host, *_) = address
    if is_private(host):
        raise _PrivateAddressError("its address is private: --allow-private-urls allows it (dinoclassify guide stores)")
    return socket.socket(family, kind, protocol)


def is_private(address: str) -> bool:
    """Whether an IP address is anything but the public address of a single machine."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):  # some embed an IPv4 address
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(ip.packed[-4:]) if ip in _NAT64 else None)
        if inner is not None:
            return is_private(str(inner))
    return any(ip in network for network in _NOT_PUBLIC) or not ip.is_global


def _is_worth_a_retry(error: Exception) -> bool:
    import aiohttp

    if isinstance(error, aiohttp.ClientResponseError):
        return error.status == 429 or error.status >= 500
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _PrivateAddressError):
        return False
    final = aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | aiohttp.ClientConnectorCertificateError
    return not isinstance(error, final)


def _asked_to_wait(error: Exception) -> float:
    import aiohttp

    headers = error.headers if isinstance(error, aiohttp.ClientResponseError) else None
    wish = headers.get("Retry-After", "") if headers is not None else ""
    if wish.isdecimal():
        return min(float(wish), _MOST_WAIT)
    date = seconds(wish)
    return min(max(date - time.time(), 0.0), _MOST_WAIT) if date is not None else 0.0


def _as_os_error(error: Exception, unused: str | None) -> OSError:
    """The error for a row; ``unused`` is the variable that names a proxy which was not used, see `_session`."""
    import aiohttp

    hint = f"; the proxy in {unused} is used only with --allow-private-urls" if unused is not None else ""
    if isinstance(error, aiohttp.ClientResponseError):
        return _as_answered(error)
    if isinstance(error, TimeoutError):
        is_away = isinstance(error, aiohttp.ConnectionTimeoutError)
        return TimeoutError(f"its server does not answer{hint if is_away else ''}")
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, _PrivateAddressError):
            return PermissionError(str(error.os_error))
        return OSError(f"{first_line(error)}{hint}")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):  # their message is only the URL
        return OSError(f"not an http or https URL: {first_line(error)}")
    return OSError(first_line(error))


def _as_answered(error: "ClientResponseError") -> OSError:
    from aiohttp import ClientHttpProxyError
    from aiohttp.http_exceptions import HttpProcessingError

    who = "proxy" if isinstance(error, ClientHttpProxyError) else "server"
    if isinstance(error.__cause__, HttpProcessingError):  # aiohttp gives it the status of a refusal
        return OSError(f"its {who} does not speak HTTP ({error.message.partition(':')[0]})")
    kind = {404: FileNotFoundError, 410: FileNotFoundError, 401: PermissionError, 403: PermissionError}
    return kind.get(error.status, OSError)(f"its {who} answers {error.status} {error.message}".rstrip())
