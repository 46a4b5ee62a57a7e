"""The address that failed tokens count against: the caller's, behind trusted proxies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from errors import ConfigurationError

Address = IPv4Address | IPv6Address
IPV6_PREFIX = 64  # bits; a subscriber has a whole /64 and can use any address of it


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The peers whose X-Forwarded-For is believed: addresses, networks, or all (`everyone`)."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    everyone: bool = False

    @classmethod
    def parse(cls, text: str) -> TrustedProxies:
        """From addresses and networks that commas separate, or `*`. Raises ConfigurationError."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        try:
            networks = tuple(ip_network(part) for part in parts if part != "*")
        except ValueError as error:
            raise ConfigurationError(
                "FORWARDED_ALLOW_IPS takes addresses and networks, separated by commas, or *: "
                "for example 127.0.0.1,10.0.0.0/8"
            ) from error
        return cls(networks, everyone="*" in parts)

    def __contains__(self, address: Address) -> bool:
        return self.everyone or any(address in network for network in self.networks)


def client_address(
    peer: str | None, forwarded_for: Sequence[bytes], trusted: TrustedProxies
) -> str:
    """The last address of the chain that is not a trusted proxy; an IPv6 address as its /64.

    Args:
        peer: the other end of the connection.
        forwarded_for: the X-Forwarded-For header lines.
        trusted: proxies whose header is believed.
    """
    address = _parse(peer or "")
    if address is None:
        return "unknown"
    hops = b",".join(forwarded_for).decode("latin-1").split(",") if forwarded_for else []
    while hops and address in trusted:
        before = _parse(hops.pop())
        if before is None:
            break
        address = before
    return _bucket(address)


def _parse(text: str) -> Address | None:
    text = text.strip().strip('"')
    if text.startswith("["):  # [v6]:port
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # v4:port
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _bucket(address: Address) -> str:
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), IPV6_PREFIX), strict=False))
    return str(address)
