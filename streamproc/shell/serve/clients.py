"""Who may ask, and how much: keys, requests per second, requests at once.

A client is known by its key (header `Authorization: Bearer KEY` or `X-API-Key`, gRPC metadata `authorization` or
`x-api-key`) or by the common name of its certificate (mutual TLS). Without any `[[application]]` everybody on the
address that the server listens on may ask, each peer address with the limits of `[serve]`.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from streamproc.errors import RequestError

PEERS_MAX = 1024  # addresses remembered; beyond it the one that was quiet longest is forgotten


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one client may do. `rate_per_s` 0: no limit."""

    name: str
    rate_per_s: float
    at_once: int


class Client:
    """One client with its bucket: `rate_per_s` tokens a second, at most one second's worth."""

    def __init__(self, allowance: Allowance, clock_s: Callable[[], float]) -> None:
        self.name = allowance.name
        self._allowance = allowance
        self._clock_s = clock_s
        self._tokens = max(1.0, allowance.rate_per_s)
        self._at_s = clock_s()
        self._open = 0

    @property
    def idle(self) -> bool:
        """Return whether nothing of it is being answered."""
        return self._open == 0

    def enter(self) -> None:
        """Count a request in; raises RequestError 429 beyond the allowance."""
        told = self._allowance
        if self._open >= told.at_once:
            raise RequestError(
                429, f"client {self.name}: {self._open} requests at once, at most {told.at_once}"
            )
        if told.rate_per_s:
            now_s = self._clock_s()
            burst = max(1.0, told.rate_per_s)
            self._tokens = min(burst, self._tokens + (now_s - self._at_s) * told.rate_per_s)
            self._at_s = now_s
            if self._tokens < 1.0:
                raise RequestError(
                    429, f"client {self.name}: more than {told.rate_per_s:g} requests a second"
                )
            self._tokens -= 1.0
        self._open += 1

    def leave(self) -> None:
        """Count it out."""
        self._open -= 1


class Clients:
    """All clients: the declared ones by key and by certificate name, else one per address."""

    def __init__(
        self,
        declared: Iterable[tuple[Allowance, str]],
        others: Allowance,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock_s = clock_s
        self._others = others
        self._named: dict[str, Client] = {}
        self._keys: list[tuple[bytes, Client]] = []
        for allowance, key in declared:
            client = Client(allowance, clock_s)
            self._named[allowance.name] = client
            if key:
                self._keys.append((key.encode(), client))
        self._peers: OrderedDict[str, Client] = OrderedDict()

    def of(self, headers: Mapping[str, str], peer: str, certificate_name: str = "") -> Client:
        """Return who asks; raises RequestError 401 for nobody we know. Header names are lower case."""
        if not self._named:
            return self._peer(peer)
        if certificate_name in self._named:
            return self._named[certificate_name]
        key = headers.get("x-api-key", "")
        authorization = headers.get("authorization", "")
        if not key and authorization[:7].lower() == "bearer ":
            key = authorization[7:].strip()
        given, found = key.encode(), None
        for known, client in self._keys:  # all of them: the time must not tell how near a guess was
            if hmac.compare_digest(known, given):
                found = client
        if found is None:
            raise RequestError(
                401,
                "no known API key: send it as `Authorization: Bearer KEY` (it stands in [[application]])",
            )
        return found

    def _peer(self, peer: str) -> Client:
        client = self._peers.get(peer)
        if client is None:
            if len(self._peers) >= PEERS_MAX:
                idle = next((name for name, known in self._peers.items() if known.idle), None)
                if idle is None:
                    raise RequestError(429, f"{PEERS_MAX} addresses ask at once; try again later")
                del self._peers[idle]
            told = Allowance(peer, self._others.rate_per_s, self._others.at_once)
            client = self._peers[peer] = Client(told, self._clock_s)
        else:
            self._peers.move_to_end(peer)
        return client
