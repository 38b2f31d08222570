"""Whom the server believes: direct requests from this machine, and the proxies that it was told of."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from kronreid.serve.settings import Settings, is_loopback

_NAMES = """forwarded forwarded-for via x-forwarded x-forwarded-for x-forwarded-host x-forwarded-proto
    x-forwarded-port x-forwarded-server x-forwarded-by x-forwarded-prefix x-forwarded-scheme x-forwarded-ssl
    x-forwarded-uri x-original-forwarded-for x-original-host x-original-url x-real-ip x-real-port x-client-ip
    x-cluster-client-ip x-proxyuser-ip x-envoy-external-address x-scheme x-url-scheme front-end-https
    client-ip true-client-ip cf-connecting-ip cf-ray cf-visitor cdn-loop fastly-client-ip fly-client-ip
    x-azure-clientip x-azure-socketip x-appengine-user-ip x-amzn-trace-id x-request-start"""
#: Headers that a proxy adds. A request with one of them was not sent by this machine.
FORWARDED = frozenset(_NAMES.split())


class Trust:
    """Whom to believe.

    Args:
        settings: The proxies.
    """

    def __init__(self, settings: Settings) -> None:
        self._proxies = settings.proxies

    def direct(self, scope: Scope, headers: Headers) -> bool:
        """Whether somebody on this machine sent the request to this server, without a proxy between.

        Without a forwarding header, HTTP/1.0 and a host name of elsewhere give proxies away.
        """
        if any(name in FORWARDED for name in headers):
            return False
        if scope.get("http_version") == "1.0":
            return False
        peer = (scope.get("client") or ("", 0))[0]
        address = _address(peer)
        if address is not None and not address.is_loopback:
            return False
        return is_loopback(host_name(headers.get("host", "")))

    def origin(self, scope: Scope, headers: Headers) -> tuple[str, str]:
        """The client's address and the scheme of its request (http or https).

        Only a proxy that was named is believed. Of the addresses that it forwards, the last that is not a
        proxy's counts, since clients can send any others themselves.
        """
        peer = (scope.get("client") or ("", 0))[0]
        scheme = scope.get("scheme", "http")
        if not self.is_proxy(peer):
            return peer, scheme
        if headers.get("x-forwarded-proto", "").strip().lower() in ("http", "https"):
            scheme = headers["x-forwarded-proto"].strip().lower()
        hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]
        for hop in reversed(hops):
            if _address(hop) is None:
                return peer, scheme  # whatever comes before it was not written by a proxy either
            if not self.is_proxy(hop):
                return hop, scheme
            peer = hop
        return peer, scheme

    def is_proxy(self, host: str) -> bool:
        """Whether that is the address of a proxy that was named."""
        address = _address(host)
        return address is not None and any(
            address.version == network.version and address in network for network in self._proxies
        )


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without the port; empty if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # an incomplete IPv6 address
        return ""


def group(host: str) -> str:
    """An address as limits count it: of IPv6, the network, since one client has a whole network of them."""
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
