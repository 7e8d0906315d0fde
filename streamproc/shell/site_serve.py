"""The rules of `[serve]`: who may ask over which transport."""

from __future__ import annotations

from collections.abc import Iterator

from streamproc.config import SiteConfig
from streamproc.shell.site_breach import SECRET, Breach


def serve_breaches(config: SiteConfig) -> Iterator[Breach]:
    """Return every broken rule of `[serve]`."""
    table = config.serve
    for name, least in (("http_port", 0), ("grpc_port", -1)):
        value = getattr(table, name)
        if not least <= value <= 65535:
            yield Breach(("serve", name), value, "must be a TCP port, or 0 for a free one")
    for name, other in (
        ("cert_file", "key_file"),
        ("key_file", "cert_file"),
        ("client_ca_file", "cert_file"),
    ):
        if getattr(table, name) is not None and getattr(table, other) is None:
            yield Breach(("serve", name), getattr(table, name), f"needs {other} too")
    yield from _applications(config)
    loopback = table.host in ("127.0.0.1", "::1", "localhost")
    if not loopback and not config.application:
        rule = "beyond this machine only declared clients may ask: add [[application]]"
        yield Breach(("serve", "host"), table.host, rule)


def _applications(config: SiteConfig) -> Iterator[Breach]:
    names: set[str] = set()
    for number, client in enumerate(config.application):
        where = ("application", number)
        if client.name in names:
            yield Breach((*where, "name"), client.name, "stands there twice")
        names.add(client.name)
        if client.key is None and config.serve.client_ca_file is None:
            yield Breach((*where, "key"), None, "is required without client_ca_file (mutual TLS)")
        elif client.key is not None and not SECRET.fullmatch(client.key):
            rule = 'must be "env:NAME" or "file:PATH", never the key itself'
            yield Breach((*where, "key"), "(not shown)", rule)
        if client.rate_per_s < 0 or client.at_once < 1:
            yield Breach((*where, "at_once"), client.at_once, "at_once must be above 0, rate_per_s not below")
