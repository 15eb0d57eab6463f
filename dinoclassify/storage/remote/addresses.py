"""Which IP addresses are public."""

import ipaddress

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


def is_private(address: str) -> bool:
    """Whether an IP address is anything but the public address of a single machine."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):  # some embed an IPv4 address
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(ip.packed[-4:]) if ip in _NAT64 else None)
        if inner is not None:
            return is_private(str(inner))
    return any(ip in network for network in _NOT_PUBLIC) or not ip.is_global
