"""The site file: one TOML document into frozen, typed values.

Units are in the key names. An unknown key, a wrong type or a bound upside down refuses to start; the loader
(`streamproc.shell.site_file`) adds file and line. Nothing here reads a file or the environment.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table: frozen, unknown keys refused."""


class SiteTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[site]`: what the whole file is about."""

    name: str = "site"  # name of the control area, shown in health records and on screens
    nominal_hz: float | None = None  # Hz; None: as the configuration frames say (FNOM)
    #: of the consumers' day, such as Europe/Berlin; forecasts follow the clock on the wall
    time_zone: str = "UTC"
    #: buses, lines, and where PMUs and points are; none: alerts are grouped by area
    grid_file: str | None = None
    #: what is rationalised about alarms: causes, actions, priorities, limits; `streamproc alarms apply` changes it live
    rules_file: str | None = None


class BrokerTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[broker]`: how to reach Kafka. Secrets only as "env:NAME" or "file:PATH"."""

    bootstrap: str = "127.0.0.1:9092"  # "host:port", several with commas
    group: str = "streamproc"  # consumer group of the workers
    #: put before every topic name on the wire, so that several sites can share a broker
    topic_prefix: str = ""
    #: SASL_PLAINTEXT is refused: it shows the password
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None  # only with SASL_SSL
    sasl_username: str | None = None  # only with SASL_SSL
    sasl_password: str | None = None  # "env:NAME" or "file:PATH"
    ca_file: str | None = None  # PEM; None: the authorities of the system
    cert_file: str | None = None  # PEM, for mutual TLS, together with key_file
    key_file: str | None = None  # PEM, for mutual TLS, together with cert_file
    session_timeout_ms: int = 6000  # a worker that was killed loses its partitions after this
    heartbeat_interval_ms: int = 1000  # less than half of session_timeout_ms
    rebalance_timeout_ms: int = 8000  # at most this long for all workers to join again
    request_timeout_ms: int = 10000  # one request to a broker
    delivery_timeout_ms: int = 15000  # one output, with all its attempts; then its batch has failed
    fetch_max_wait_ms: int = 20  # the broker answers an empty fetch after this; adds to latency
    max_batch_records: int = 2048  # records of one partition handled together
    snapshot_interval_ms: int = 1000  # state blob and commit this often; bounds what a successor repeats
    replication_factor: int = 1  # of all topics; 3 in production
    partitions: int = 4  # of the input topics; the topics of one operator position have one


class WorkerTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[worker]`: the HTTP port for metrics and probes, and the limits of a worker."""

    http_host: str = "127.0.0.1"  # address of /metrics, /livez, /readyz
    http_port: int = 9108  # 0: any free port, printed at the start
    stall_timeout_ms: int = 30000  # no progress for this long, with work waiting: /livez says no
    drain_timeout_ms: int = 10000  # on SIGTERM: finish, commit and leave within this
    bundle: str | None = None  # directory of a site bundle; None: the generic one of the package
    #: directory of a 48-hour forecast bundle (`train forecast`); None: the generic one of the package
    forecast_bundle: str | None = None


class AlignTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[align]`: the PDC part (terms as in IEEE C37.247)."""

    wait_ms: int = 250  # an instant closes this long (stream time) after its own time
    lead_ms: int = 250  # a frame further ahead of the stream time (and 3 frames) waits to be believed
    reanchor_count: int = 5  # so many frames, of the majority of the sources, move the stream time after all
    frozen_ms: int = 10000  # same values for this long: frozen source


class QualityTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[quality]`: when bad input becomes an alert of its own."""

    missing_ms: int = 1000  # a PMU without frames for this long
    bad_ms: int = 200  # a PMU with bad STAT or implausible values for this long
    off_delay_ms: int = 2000  # good for this long before the alert clears
    silent_ms: int = 30000  # an [[area]] that spoke and now is silent this long, by the worker's clock
    freq_min_hz: float = 45.0  # a frequency below is implausible, not an event
    freq_max_hz: float = 65.0  # a frequency above is implausible, not an event
    angle_error_max_rad: float = 0.02  # time quality worse than this withholds angles


class OscillationTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[oscillation]`: when a mode of the grid is damped too little."""

    damping_low: float = 0.03  # damping ratio below which it is an alert
    damping_reduced: float = 0.05  # damping ratio below which it is a warning
    rms_min_hz: float = 0.001  # a mode that moves the area's frequency by less is not judged


class DecideTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[decide]`: from findings to one alert for one disturbance."""

    group_window_ms: int = 15000  # a raise this soon after the last new member of an open alert belongs to it
    quiet_ms: int = 5000  # all conditions clear for this long: returned to normal
    sources_max: int = 50  # sources listed in one record
    shelve_max_min: int = 720  # longest shelf that an operator may set
    hold_max_s: int = 300  # an active alert without usable data for so long: "cannot evaluate"
    latch: tuple[str, ...] = ()  # patterns of rules whose alerts stay until an operator resets them


class AnnunciateTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[annunciate]`: from alerts to cards on a desk, one for one event, and no more than can be read."""

    rate_max: int = 10  # new cards per area within rate_window_min; priority 1 always
    rate_window_min: float = 10.0  # EEMUA 191: ten in ten minutes after an upset can be handled
    group_window_ms: int = 30000  # an alert whose onset is this near to the newest of a card may belong to it
    chatter_window_min: float = 10.0  # a condition that comes back within it joins its old card
    hops: int = 2  # lines between two places that are near each other
    members_max: int = 50  # alerts listed on a card


class PositionTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[position]]`: who may speak to the alerts of an operator position. Without one, anybody."""

    name: str  # as in `[[area]] position`
    users: tuple[str, ...]  # names that its commands may bear


class SuppressTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[suppress]]`: what is not annunciated while its cause is. Never priority 1; always on the record and counted."""

    rule: str  # what is suppressed: pattern of rules, such as point_low:*
    source: str = "*"  # pattern of sources
    while_rule: str  # while an alert with this rule is active in the same area
    while_source: str = "*"  # pattern of its sources


class AreaTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[area]]`: one per key of the frames topic. Without any, every key is an area."""

    name: str  # key of the frames topic, label of metrics
    position: str = "main"  # operator position that gets its alerts
    nominal_kv: dict[str, float] = {}  # station name -> line-to-line kV; others: relative to their own level
    beta_mw_per_hz: float | None = None  # MW that move the settled frequency by 1 Hz; none: no MW is told


class PointTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[point]]`: the catalogue of SCADA points."""

    id: str  # as in the measurements topic
    area: str  # key of the measurements topic
    #: engineering unit of its values
    unit: Literal["MW", "Mvar", "kV", "A", "Hz", "degC", "W/m2", "m/s", "pu", "state"]
    #: what it measures
    kind: Literal["load", "generation", "flow", "voltage", "current", "frequency", "weather", "state"] = (
        "load"
    )
    interval_min: Literal[1, 5, 15] = 1  # grid of its forecast of the next hour
    forecast: bool = True  # whether it is forecast
    parent: str | None = None  # id of the point that is the sum of all points that name it; forecasts add up
    limit_high: float | None = None  # in the point's unit
    limit_low: float | None = None  # in the point's unit
    deadband: float = 0.0  # in the point's unit
    on_delay_ms: int = 0  # beyond the limit for this long before an alert is raised
    off_delay_ms: int = 0  # back within for this long before it clears
    scan_ms: int = 10000  # how often a value is expected


class ResourceTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[resource]]`: what an adviser may recommend to move. All bounds are required; there is no default."""

    id: str  # name in recommendations
    kind: Literal["storage", "flexible_load", "tap"]  # what kind of thing is moved
    point: str  # the SCADA point that holds its present value
    unit: Literal["MW", "Mvar", "kV", "pu", "step"]  # unit of its value; that of its point, or step
    value_min: float  # hard bound, in the unit
    value_max: float  # hard bound, in the unit
    ramp_per_min: float  # unit per minute, either way
    cost: float  # per unit moved; any currency, used to choose only
    effect: dict[str, float]  # point id -> change of that point per unit moved


class AdviseTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[advise]`: when and how advice is given."""

    horizon_min: int = 60  # how far ahead a crossed limit is looked for
    #: band edge that must stay within the limit
    quantile: Literal["P05", "P10", "P25", "P50", "P75", "P90", "P95"] = "P90"
    valid_min: int = 10  # a recommendation expires after this
    hold_min: int = 5  # anti-hunting: no reversal of a recommendation within this time
    reject_hold_min: int = 60  # after an operator has rejected one, none for the same resources


class ApplicationTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[application]]`: an application that may ask. With one, nobody else may."""

    name: str  # in metrics and messages; the common name of its certificate under mutual TLS
    key: str | None = None  # "env:NAME" or "file:PATH"; None: only by certificate
    rate_per_s: float = 0.0  # requests a second; 0: no limit
    at_once: int = 64  # requests at the same time


class ServeTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[serve]`: the models for other applications (`streamproc serve`)."""

    host: str = "127.0.0.1"  # address of HTTP and gRPC
    http_port: int = 8100  # 0: any free port, printed at the start
    grpc_port: int = 8101  # 0: any free port, printed at the start; -1: no gRPC
    timeout_ms: int = 5000  # a request is answered within this, or refused
    body_max_bytes: int = 16_777_216  # of one request
    batch_rows_max: int = 256  # rows of one call of a model
    batch_wait_us: int = 0  # wait for company; 0: only what is there already
    queue_rows_max: int = 4096  # rows that wait for one model; beyond it 503
    rate_per_s: float = 0.0  # requests a second of one address, where no client is declared; 0: no limit
    at_once: int = 256  # requests of one address at the same time, where no client is declared
    cert_file: str | None = None  # PEM, for TLS, together with key_file
    key_file: str | None = None  # PEM, for TLS, together with cert_file
    client_ca_file: str | None = None  # PEM: who signs the certificates of clients (mutual TLS)


class SiteConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file. Every table has defaults, so an empty file is a valid site."""

    site: SiteTable = SiteTable()
    broker: BrokerTable = BrokerTable()
    worker: WorkerTable = WorkerTable()
    align: AlignTable = AlignTable()
    quality: QualityTable = QualityTable()
    oscillation: OscillationTable = OscillationTable()
    decide: DecideTable = DecideTable()
    annunciate: AnnunciateTable = AnnunciateTable()
    advise: AdviseTable = AdviseTable()
    serve: ServeTable = ServeTable()
    detector: dict[str, dict[str, float | int | str | bool]] = {}
    area: tuple[AreaTable, ...] = ()
    position: tuple[PositionTable, ...] = ()
    suppress: tuple[SuppressTable, ...] = ()
    point: tuple[PointTable, ...] = ()
    resource: tuple[ResourceTable, ...] = ()
    application: tuple[ApplicationTable, ...] = ()
