from __future__ import annotations

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.mcp.client.addresses import AddressGuard, AddressRefused, parse_networks

pytestmark = pytest.mark.anyio


def guard(*addresses: str, allowed: tuple[str, ...] = ()) -> AddressGuard:
    async def resolve(host: str, port: int) -> list[str]:
        if not addresses:
            raise OSError("unknown")
        return list(addresses)

    return AddressGuard(parse_networks(allowed), resolve=resolve)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1:7f00:1:0:808:808",
        "::ffff:0:7f00:1",
        "4000::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
    ],
)
async def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        await guard(address).addresses_of("host.example", 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:808:808"])
async def test_a_public_address_is_fine(address: str) -> None:
    assert await guard(address).addresses_of("host.example", 443) == [address]


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(AddressRefused):
        await guard("8.8.8.8", "127.0.0.1").addresses_of("host.example", 443)


async def test_a_network_that_is_allowed_is_fine_and_no_other() -> None:
    allowed = ("10.1.0.0/16", "::1")
    assert await guard("10.1.2.3", allowed=allowed).addresses_of("a", 80) == ["10.1.2.3"]
    assert await guard("::1", allowed=allowed).addresses_of("a", 80) == ["::1"]
    assert await guard("::ffff:10.1.2.3", allowed=allowed).addresses_of("a", 80)
    with pytest.raises(AddressRefused):
        await guard("10.2.0.1", allowed=allowed).addresses_of("a", 80)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/mcp",
        "http://127.1/mcp",
        "http://2130706433/mcp",
        "http://0x7f000001/mcp",
        "http://0/mcp",
        "http://localhost/mcp",
        "http://[::1]/mcp",
        "http://[::ffff:127.0.0.1]/mcp",
        "http://0177.0.0.1/mcp",
        "http://[::ffff:7f00:1]/mcp",
        "http://169.254.169.254/latest/meta-data",
        "http://user@127.0.0.1/mcp",
        "http://8.8.8.8@127.0.0.1/mcp",
        "http://8.8.8.8:80@127.0.0.1:80/mcp",
        "http://8.8.8.8\\@127.0.0.1/mcp",
        "http://①②⑦.⓪.⓪.①/mcp",
    ],
)
async def test_no_spelling_of_this_machine_gets_through(url: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        await AddressGuard().check_url(url, param="url")
    assert caught.value.param == "url"


async def test_a_host_that_nobody_knows_is_refused() -> None:
    with pytest.raises(AddressRefused):
        await guard().addresses_of("host.example", 443)
    with pytest.raises(AddressRefused):
        await AddressGuard().addresses_of("a" * 300, 443)


def test_what_is_no_network_is_named() -> None:
    with pytest.raises(InvalidSettings) as caught:
        parse_networks(["10.0.0.0/8", "home"])
    assert "home" in caught.value.message
