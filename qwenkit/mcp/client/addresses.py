"""Keeps added servers out of private networks (SSRF). Knows addresses and DNS; no MCP.

A URL that somebody enters in a browser must not lead to this machine or into its network. A name is
resolved here, every address behind it is checked, and the connection is made to an address that was
checked: a name that points elsewhere a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

from qwenkit.errors import InvalidRequest, InvalidSettings

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host and a port to all addresses behind it."""

# What `is_global` lets through and yet is somewhere else than it looks: IPv6 that carries IPv4.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
# All that is handed out on the public internet; what lies beyond it may mean anything locally.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class AddressRefused(InvalidRequest):
    """An address that added servers may not have."""


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host.

    Raises:
        OSError: It is not known.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class AddressGuard:
    """Says which addresses servers that are added over the network may have.

    Args:
        allowed: Networks that are fine although they are private.
        resolve: Looks hosts up.
    """

    def __init__(self, allowed: Sequence[Network] = (), *, resolve: Resolve = resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    async def check_url(self, url: str, *, param: str) -> None:
        """Refuse a URL that leads where added servers may not be.

        Args:
            param: The field to blame.

        Raises:
            AddressRefused: It leads there, or its host is not known.
        """
        parts = urlsplit(url)
        default_port = 443 if parts.scheme == "https" else 80
        try:
            await self.addresses_of(parts.hostname or "", parts.port or default_port)
        except AddressRefused as exc:
            exc.param = param
            raise

    async def addresses_of(self, host: str, port: int) -> list[str]:
        """The addresses of a host, each of them checked.

        Raises:
            AddressRefused: One is not, or the host is not known.
        """
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError) as exc:
            raise AddressRefused(f"the host {host!r} is not known") from exc
        addresses = [_address(each) for each in found]
        if not addresses:
            raise AddressRefused(f"the host {host!r} has no address")
        for address in addresses:
            if not self._may_reach(address):
                raise AddressRefused(
                    f"the host {host!r} is {address}, which is not on the public internet",
                    hint="an operator can allow its network by MCP_ALLOWED_NETWORKS, "
                    "or name the server in the file of MCP_CONFIG",
                )
        return list(dict.fromkeys(map(str, addresses)))

    def _may_reach(self, address: Address) -> bool:
        inner = _carried(address)
        if any(inner in network for network in self._allowed if network.version == inner.version):
            return True
        is_elsewhere = inner.version == 6 and inner not in _GLOBAL_UNICAST
        return inner.is_global and not inner.is_multicast and not is_elsewhere


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks such as `10.0.0.0/8`, or single addresses.

    Raises:
        InvalidSettings: One is none.
    """
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError as exc:
            raise InvalidSettings(
                f"MCP_ALLOWED_NETWORKS names {text!r}, which is no network",
                hint="for example 10.0.0.0/8,127.0.0.1",
            ) from exc
    return tuple(networks)


def _address(text: str) -> Address:
    # A zone (`fe80::1%eth0`) is part of getaddrinfo's spelling but not of the address.
    return ipaddress.ip_address(text.partition("%")[0])


def _carried(address: Address) -> Address:
    """The address that packets end at, where IPv6 only wraps IPv4."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    is_compatible = address in _COMPATIBLE and int(address) > 1
    if is_compatible or address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
