"""Can the broker be reached: name, TCP, TLS, Kafka's protocol and login, each told apart and bounded in time.

    address  the name resolves             tls    the handshake, with the certificates of the site file
    tcp      somebody accepts              kafka  ApiVersions is answered
    login    SASL and the first request    nodes  every broker that the cluster names can be reached from here

Each step needs the one before; the first that fails is the last line. Several bootstrap addresses: one that
works is enough, the others are warnings.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streamproc.config import BrokerTable
from streamproc.shell.checks.line import Line, fail, look_up, ok, one_line, warn
from streamproc.shell.site_file import client_settings

DNS_TIMEOUT_S = 3.0
TCP_TIMEOUT_S = 3.0
TLS_TIMEOUT_S = 5.0
KAFKA_TIMEOUT_S = 5.0
LOGIN_TIMEOUT_S = 8.0
NODES_MAX = 50  # of a cluster; more are not tried

_API_VERSIONS, _CLIENT = 18, b"streamproc-check"
_TLS_ALERT = b"\x15\x03"


async def check_reach(broker: BrokerTable) -> list[Line]:
    """Return the lines; the broker can be used if none of them is FAIL."""
    addresses = [address.strip() for address in broker.bootstrap.split(",")]
    found = [await _check_address(broker, address) for address in addresses]
    if any(all(line.level != "FAIL" for line in lines) for lines in found):
        # Where one address works, one that does not is a spare wheel that is flat.
        return [
            warn(line.check, line.detail, line.todo) if line.level == "FAIL" else line
            for lines in found
            for line in lines
        ]
    return [line for lines in found for line in lines]


async def _check_address(broker: BrokerTable, address: str) -> list[Line]:
    host, _, number = address.rpartition(":")
    host, port = host.strip("[]"), int(number)
    lines = [await _resolve(host)]
    for step in (_connect, _shake, _greet, _log_in):
        if lines[-1].level == "FAIL":
            break
        made = await step(broker, host, port)
        if made is not None:
            lines.append(made)
    if lines[-1].level != "FAIL":
        lines += await _check_nodes(broker, host, port)
    return lines


async def _resolve(host: str) -> Line:
    todo = "correct broker.bootstrap, or the DNS or /etc/hosts of this machine"
    try:
        found = await look_up(host, DNS_TIMEOUT_S)
    except TimeoutError:
        return fail("address", f"{host}: the name service has not answered within {DNS_TIMEOUT_S:g} s", todo)
    except (OSError, UnicodeError) as error:
        return fail("address", f"{host}: the name cannot be resolved ({one_line(error)})", todo)
    numbers = sorted({str(entry[4][0]) for entry in found})
    return ok("address", host if numbers == [host] else f"{host} is {', '.join(numbers[:4])}")


async def _connect(_broker: BrokerTable, host: str, port: int) -> Line | None:
    try:
        async with _opened(host, port, None, TCP_TIMEOUT_S):
            return ok("tcp", f"{host}:{port} accepts connections")
    except TimeoutError:
        todo = "a firewall or a wrong address: see whether the port is open from this machine"
        return fail("tcp", f"{host}:{port}: no answer within {TCP_TIMEOUT_S:g} s", todo)
    except ConnectionRefusedError:
        todo = "start the broker, or correct the port in broker.bootstrap"
        return fail("tcp", f"{host}:{port}: refused, nobody listens there", todo)
    except OSError as error:
        return fail(
            "tcp", f"{host}:{port}: {one_line(error.strerror or error)}", "see the route to this address"
        )


async def _shake(broker: BrokerTable, host: str, port: int) -> Line | None:
    context = client_settings(broker).get("ssl_context")
    if context is None:
        return None
    where = f"{host}:{port}"
    try:
        async with _opened(host, port, context, TLS_TIMEOUT_S) as (_, writer):
            cipher = writer.get_extra_info("cipher")
            return ok("tls", f"{where}: {cipher[1] if cipher else 'TLS'}, its certificate is trusted")
    except TimeoutError:
        todo = "see whether this listener speaks TLS (security_protocol)"
        return fail("tls", f"{where}: no handshake within {TLS_TIMEOUT_S:g} s", todo)
    except ssl.SSLCertVerificationError as error:
        todo = (
            "set broker.ca_file to its authority; the name in broker.bootstrap must stand in the certificate"
        )
        return fail("tls", f"{where}: its certificate is refused: {error.verify_message}", todo)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        todo = 'no TLS there? then security_protocol = "PLAINTEXT", or another port; does it want cert_file?'
        return fail("tls", f"{where}: the TLS handshake failed ({one_line(reason)})", todo)


async def _greet(broker: BrokerTable, host: str, port: int) -> Line | None:
    """Ask ApiVersions, which Kafka answers before any login."""
    where = f"{host}:{port}"
    context = client_settings(broker).get("ssl_context")
    body = struct.pack(">hhih", _API_VERSIONS, 0, 7, len(_CLIENT)) + _CLIENT
    try:
        async with _opened(host, port, context, KAFKA_TIMEOUT_S) as (reader, writer):
            writer.write(struct.pack(">i", len(body)) + body)
            async with asyncio.timeout(KAFKA_TIMEOUT_S):
                head = await reader.readexactly(8)
    except TimeoutError:
        told = f"{where}: accepts, but has not answered within {KAFKA_TIMEOUT_S:g} s"
        return fail("kafka", told, "not Kafka, or a broker that hangs: see its log")
    except asyncio.IncompleteReadError as error:
        if error.partial[:2] == _TLS_ALERT:
            return _wants_tls(where)
        told = f"{where}: closed the connection without an answer"
        return fail(
            "kafka", told, "not Kafka, or a listener that wants TLS (security_protocol) or a certificate"
        )
    except OSError as error:
        told = f"{where}: closed the connection ({one_line(error)})"
        return fail(
            "kafka", told, "not Kafka, or a listener that wants TLS (security_protocol) or a certificate"
        )
    size, correlation = struct.unpack(">ii", head)
    if head[:2] == _TLS_ALERT:
        return _wants_tls(where)
    if correlation != 7 or not 4 < size < 1 << 20:
        return fail(
            "kafka", f"{where}: something answers, but not Kafka", "correct the port in broker.bootstrap"
        )
    return ok("kafka", f"{where} speaks Kafka's protocol")


def _wants_tls(where: str) -> Line:
    todo = 'set broker.security_protocol = "SSL" or "SASL_SSL", and broker.ca_file'
    return fail("kafka", f"{where}: this listener wants TLS", todo)


async def _log_in(broker: BrokerTable, host: str, port: int) -> Line | None:
    """Log in as every client of ours does, and send the first request that needs it."""
    settings = client_settings(broker)
    who = (
        f"user {broker.sasl_username} ({broker.sasl_mechanism})"
        if broker.sasl_mechanism
        else "without a login"
    )
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT_S):
            await _metadata(settings, host, port)
    except UnsupportedSaslMechanismError as error:
        todo = "set broker.sasl_mechanism to one that the listener has"
        return fail("login", f"{who}: the broker has no such mechanism ({one_line(error)})", todo)
    except (SaslAuthenticationFailed, AuthenticationFailedError) as error:
        todo = "correct broker.sasl_username or what broker.sasl_password points to"
        return fail("login", f"{who}: refused by the broker ({one_line(error)})", todo)
    except (IllegalSaslStateError, KafkaConnectionError, OSError) as error:
        told = f"{who}: the broker closed the connection at the first request ({one_line(error)})"
        if broker.sasl_mechanism:
            return fail(
                "login", told, "this listener has no SASL, or not with this mechanism: security_protocol"
            )
        return fail("login", told, 'this listener wants a login: security_protocol = "SASL_SSL", sasl_* keys')
    except TimeoutError:
        return fail("login", f"{who}: no answer within {LOGIN_TIMEOUT_S:g} s", "see the log of the broker")
    except KafkaError as error:
        return fail("login", f"{who}: {one_line(error)}", "see the log of the broker")
    return ok("login", f"{who}: accepted")


async def _metadata(settings: dict[str, Any], host: str, port: int) -> Any:  # noqa: ANN401  (aiokafka has no types)
    own = {key: value for key, value in settings.items() if key != "bootstrap_servers"}
    own["request_timeout_ms"] = min(own["request_timeout_ms"], int(LOGIN_TIMEOUT_S * 1000))
    link = await create_conn(host, port, client_id=_CLIENT.decode(), **own)
    try:
        return await link.send(MetadataRequest([]))
    finally:
        link.close()


async def _check_nodes(broker: BrokerTable, host: str, port: int) -> list[Line]:
    """Try every address that the cluster gives to clients: the classic mistake of `advertised.listeners`."""
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT_S):
            metadata = await _metadata(client_settings(broker), host, port)
    except (KafkaError, OSError, TimeoutError) as error:
        return [fail("nodes", f"the cluster does not name its brokers: {one_line(repr(error))}")]
    nodes = [(f"broker {node[0]}", str(node[1]), int(node[2])) for node in metadata.brokers]
    if not nodes:
        return [fail("nodes", "no broker of the cluster is alive", "see the log of the brokers")]
    results = await asyncio.gather(*(_try_node(*node) for node in nodes[:NODES_MAX]))
    bad = [line for line in results if line is not None]
    names = ", ".join(f"{node_host}:{node_port}" for _, node_host, node_port in nodes[:4])
    return bad or [
        ok("nodes", f"{len(nodes)} in the cluster, all reached at their advertised addresses ({names})")
    ]


async def _try_node(name: str, host: str, port: int) -> Line | None:
    try:
        number = str((await look_up(host, DNS_TIMEOUT_S))[0][4][0])
        async with _opened(number, port, None, TCP_TIMEOUT_S):
            return None
    except (OSError, UnicodeError) as error:  # TimeoutError is one
        reason = "no answer in time" if isinstance(error, TimeoutError) else one_line(error)
        todo = "correct advertised.listeners of that broker, or the DNS or route of this machine"
        return fail(
            "nodes", f"{name} is advertised as {host}:{port}, which cannot be reached: {reason}", todo
        )


@asynccontextmanager
async def _opened(
    host: str, port: int, context: ssl.SSLContext | None, limit_s: float
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection, opened within a time and closed without waiting for the other side."""
    async with asyncio.timeout(limit_s):
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
