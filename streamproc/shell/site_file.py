"""The site file: read, checked and frozen, or refused with file, line, key, value and rule.

    site.toml:12: broker.heartbeat_interval_ms = 4000: must be less than half of session_timeout_ms (6000)

Secrets stand in the file as "env:NAME" or "file:PATH" and are read only here, when a client is made; they are
in no message, log or snapshot.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path as FilePath
from typing import Any

from streamproc.config import BrokerTable, SiteConfig
from streamproc.errors import ConfigError
from streamproc.shell.site_rules import breaches
from streamproc.shell.strict_toml import parse_strict, read_text


def load_site(path: FilePath | str | None) -> SiteConfig:
    """Return the checked configuration; without a file, the defaults."""
    return SiteConfig() if path is None else parse_site(read_text(path), str(FilePath(path)))


def parse_site(text: str, name: str = "site.toml") -> SiteConfig:
    """Return the checked configuration of a TOML text; raise ConfigError with one line for each mistake."""
    return parse_strict(text, name, SiteConfig, breaches)


def secret(reference: str, key: str = "broker.sasl_password") -> str:
    """Return the secret behind "env:NAME" or "file:PATH" at a key; raise ConfigError without showing it."""
    where, _, name = reference.partition(":")
    if where == "env":
        value = os.environ.get(name, "")
        if not value:
            raise ConfigError(f"the environment variable {name} of {key} is not set")
        return value
    try:
        return FilePath(name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file {name} of {key} cannot be read") from error


def client_settings(broker: BrokerTable) -> dict[str, Any]:
    """Return the keyword arguments of every aiokafka client: address, transport, credentials."""
    settings: dict[str, Any] = {
        "bootstrap_servers": broker.bootstrap,
        "security_protocol": broker.security_protocol,
        "request_timeout_ms": broker.request_timeout_ms,
    }
    if broker.security_protocol.endswith("SSL"):
        settings["ssl_context"] = _tls(broker)
    if broker.sasl_mechanism is not None and broker.sasl_password is not None:
        settings["sasl_mechanism"] = broker.sasl_mechanism
        settings["sasl_plain_username"] = broker.sasl_username
        settings["sasl_plain_password"] = secret(broker.sasl_password)
    return settings


def _tls(broker: BrokerTable) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
        if broker.cert_file is not None:
            context.load_cert_chain(broker.cert_file, broker.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the certificates of [broker] cannot be used: {error}") from error
    return context
