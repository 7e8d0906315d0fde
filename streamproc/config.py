"""The site file: one TOML document into frozen, typed values.

Units are in the key names. An unknown key, a wrong type or a bound upside down refuses to start; the loader
(`streamproc.shell.site_file`) adds file and line. Nothing here reads a file or the environment.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table: frozen, unknown keys refused."""


class SiteTable(Struct):
    """`[site]`: what the whole file is about."""

    name: str = "site"
    nominal_hz: float | None = None  # Hz; None: as the configuration frames say (FNOM)


class BrokerTable(Struct):
    """`[broker]`: how to reach Kafka. Secrets only as "env:NAME" or "file:PATH"."""

    bootstrap: str = "127.0.0.1:9092"
    group: str = "streamproc"
    topic_prefix: str = ""  # put before every topic name on the wire, so that several sites can share a broker
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None  # "env:NAME" or "file:PATH"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    session_timeout_ms: int = 6000
    heartbeat_interval_ms: int = 1000
    rebalance_timeout_ms: int = 8000
    request_timeout_ms: int = 10000
    delivery_timeout_ms: int = 15000
    fetch_max_wait_ms: int = 20
    max_batch_records: int = 2048
    snapshot_interval_ms: int = 1000
    replication_factor: int = 1
    partitions: int = 4  # of the input topics; the topics of one operator position have one


class WorkerTable(Struct):
    """`[worker]`: the HTTP port for metrics and probes, and the limits of a worker."""

    http_host: str = "127.0.0.1"
    http_port: int = 9108  # 0: any free port, printed at the start
    stall_timeout_ms: int = 30000
    drain_timeout_ms: int = 10000
    bundle: str | None = None  # directory of a site bundle; None: the generic one of the package


class AlignTable(Struct):
    """`[align]`: the PDC part (terms as in IEEE C37.247)."""

    wait_ms: int = 250  # an instant closes this long (stream time) after its own time
    lead_ms: int = 5000  # a frame further ahead of the stream time than this has a wrong clock
    reanchor_count: int = 10  # consecutive frames ahead that move the stream time after all
    frozen_ms: int = 10000  # same values for this long: frozen source


class QualityTable(Struct):
    """`[quality]`: when bad input becomes an alert of its own."""

    missing_ms: int = 1000
    bad_ms: int = 200
    off_delay_ms: int = 2000
    freq_min_hz: float = 45.0
    freq_max_hz: float = 65.0
    angle_error_max_rad: float = 0.02  # time quality worse than this withholds angles


class DecideTable(Struct):
    """`[decide]`: from findings to one alert for one disturbance."""

    group_window_ms: int = 15000  # a raise this soon after the last one of an open alert belongs to it
    quiet_ms: int = 5000  # all conditions clear for this long: returned to normal
    sources_max: int = 50  # sources listed in one record


class AreaTable(Struct):
    """`[[area]]`: one per key of the frames topic. Without any, every key is an area."""

    name: str
    position: str = "main"
    idcodes: tuple[int, ...] = ()  # stream IDCODEs expected; () takes what comes
    nominal_kv: dict[str, float] = {}  # station name -> line-to-line kV; others: relative to their own level


class PointTable(Struct):
    """`[[point]]`: the catalogue of SCADA points."""

    id: str
    area: str
    unit: Literal["MW", "Mvar", "kV", "A", "Hz", "degC", "W/m2", "m/s", "pu", "state"]
    kind: Literal["load", "generation", "flow", "voltage", "current", "frequency", "weather", "state"] = "load"
    interval_min: Literal[1, 5, 15] = 5
    forecast: bool = True
    limit_high: float | None = None  # in the point's unit
    limit_low: float | None = None
    deadband: float = 0.0  # in the point's unit
    on_delay_ms: int = 0
    off_delay_ms: int = 0
    scan_ms: int = 10000


class ResourceTable(Struct):
    """`[[resource]]`: what an adviser may recommend to move. All bounds are required; there is no default."""

    id: str
    kind: Literal["storage", "flexible_load", "tap"]
    point: str  # the SCADA point that holds its present value
    unit: Literal["MW", "Mvar", "kV", "pu", "step"]
    value_min: float
    value_max: float
    ramp_per_min: float
    cost: float  # per unit moved; any currency, used to choose only
    effect: dict[str, float]  # point id -> change of that point per unit moved


class AdviseTable(Struct):
    """`[advise]`: when and how advice is given."""

    horizon_min: int = 60
    quantile: Literal["P05", "P10", "P25", "P50", "P75", "P90", "P95"] = "P90"
    valid_min: int = 10
    hold_min: int = 5  # anti-hunting: no reversal of a recommendation within this time


class SiteConfig(Struct):
    """The whole file. Every table has defaults, so an empty file is a valid site."""

    site: SiteTable = SiteTable()
    broker: BrokerTable = BrokerTable()
    worker: WorkerTable = WorkerTable()
    align: AlignTable = AlignTable()
    quality: QualityTable = QualityTable()
    decide: DecideTable = DecideTable()
    advise: AdviseTable = AdviseTable()
    detector: dict[str, dict[str, float | int | str | bool]] = {}
    area: tuple[AreaTable, ...] = ()
    point: tuple[PointTable, ...] = ()
    resource: tuple[ResourceTable, ...] = ()
