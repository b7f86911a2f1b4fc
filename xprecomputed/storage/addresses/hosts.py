"""Whom a host of a URL is."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

__all__ = ["is_inside", "is_this_machine"]

#: Services that clouds offer to their machines alone.
_OF_CLOUDS = ("100.100.100.200", "fd00:ec2::254")


def is_this_machine(url: str) -> bool:
    """Whether the host of a URL is this machine, or the link that tells it who it is.

    Names are not looked up.

    Examples
    --------
    >>> is_this_machine("http://127.1:80/a"), is_this_machine("s3+http://[::1]/bucket/")
    (True, True)
    >>> is_this_machine("http://169.254.169.254/latest"), is_this_machine("http://localhost:80")
    (True, True)
    >>> is_this_machine("https://example.org/127.0.0.1"), is_this_machine("http://10.1.2.3/")
    (False, False)
    """
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return True  # not a host that one could judge
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        try:
            number = ipaddress.ip_address(socket.inet_aton(host))  # 127.1, 2130706433, 0x7f.1
        except OSError:
            return False
    if isinstance(number, ipaddress.IPv6Address) and number.ipv4_mapped is not None:
        number = number.ipv4_mapped
    return number.is_loopback or number.is_unspecified or number.is_link_local


def is_inside(url: str) -> bool:
    """Whether the host of a URL may be one that only a network's own members reach.

    That is this machine, a name without a dot, and the domains that no registry gives away.

    Examples
    --------
    >>> is_inside("http://vm:80/a"), is_inside("http://metadata.google.internal/a")
    (True, True)
    >>> is_inside("https://example.org/a")
    False
    """
    if is_this_machine(url):
        return True
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host in _OF_CLOUDS:
        return True
    if ":" in host:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    return bool(host) and (
        "." not in host or host.endswith((".internal", ".localdomain", ".local"))
    )
