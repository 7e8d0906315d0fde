"""Alerts about what comes in and about the models: areas, PMUs, clocks, forecasts, and floods of grid alerts.

Grid alerts themselves do not go through Alertmanager: their way to the operator is the topic grid.alerts.v1,
with states that Alertmanager does not have.
"""

from __future__ import annotations

from collections.abc import Iterator

from tools.dashboards.budgets import SHARES
from tools.dashboards.rule_parts import Alert, Severity, Silent, Speaks

NORTH = {"area": "north"}
SCADA = 'topic="grid.scada.measurements.v1"'


def alerts() -> Iterator[Alert]:
    """Yield them, by what they are about."""
    yield from (_area_silent(), _wrong_clock())
    yield from (*_unusable(), *_untimely())
    yield from (_slow_pmu(), _fewer_pmus())
    yield from (_coverage_low(), _forecasts_stopped(), _forecasts_without_model(), _models_disagree())
    yield _flood()


def _area_silent() -> Alert:
    return Alert(
        "StreamprocAreaSilent",
        "min by (area) (streamproc_event_time_age_seconds) > 30",
        "1m",
        "warning",
        "Area {{ $labels.area }} sends nothing",
        "The newest measurement of area {{ $labels.area }} is {{ $value | humanizeDuration }} old.",
        "This area is not watched: no alert about it can be raised or cleared.",
        (
            "All areas at once: the broker, or the gateway that writes to it.",
            "One area: its PDC, its link, or its clock (a clock that stands still looks the same).",
            "Dashboard 1, `Records in, by topic`: nothing at all, or only this area not?",
        ),
        Speaks({'streamproc_event_time_age_seconds{area="north"}': "0+60x20"}, "10m", NORTH, "10m 0s"),
        Silent({'streamproc_event_time_age_seconds{area="north"}': "2x20"}, "10m"),
    )


def _wrong_clock() -> Alert:
    return Alert(
        "StreamprocWrongClock",
        "sum by (area) (rate(streamproc_wrong_clock_frames_total[5m])) > 0",
        "5m",
        "warning",
        "A clock of area {{ $labels.area }} is ahead",
        "{{ $value | humanize }} frames per second of area {{ $labels.area }} are further ahead than `lead_ms`; they are "
        "held apart.",
        "A PMU without GPS, or the clock of this machine is behind.",
        (
            "Every area at once: this machine's clock (`chronyc tracking`).",
            "One area: the alerts of the family `quality` name the PMU.",
        ),
        Speaks({'streamproc_wrong_clock_frames_total{area="north"}': "0+60x20"}, "15m", NORTH, "1"),
        Silent({'streamproc_wrong_clock_frames_total{area="north"}': "60x20"}, "15m"),
    )


def _unusable() -> Iterator[Alert]:
    yield _share(
        "Missing",
        0.05,
        "5m",
        "warning",
        "PMU frames of area {{ $labels.area }} are missing",
        "were not there when their instant was closed",
        (
            "Dashboard 4: one PMU out of N missing is 1/N. The alerts of the family `quality` name it.",
            "All of them: the link; or `wait_ms` is shorter than the way of the slowest PMU (`Late frames` rises too).",
        ),
    )
    yield _share(
        "Bad",
        0.05,
        "5m",
        "warning",
        "PMU frames of area {{ $labels.area }} cannot be used",
        "came, but their status word or values say that they may not be used",
        (
            "Dashboard 4, `Worst PMUs`: one PMU out of N that is always bad is 1/N.",
            "All PMUs of a station: its GPS antenna or its voltage transformer. All of an area: nominal values in the "
            "site file.",
        ),
    )
    yield _share(
        "Frozen",
        0.01,
        "5m",
        "warning",
        "PMU values of area {{ $labels.area }} stand still",
        "have had the same values for longer than `frozen_ms`",
        (
            "Dashboard 4, `Worst PMUs`. A PDC that repeats its last value hides a dead link.",
            "A station that is switched off on purpose sends zeros: take it out of the area or silence this.",
        ),
    )


def _untimely() -> Iterator[Alert]:
    yield _share(
        "Late",
        0.01,
        "5m",
        "warning",
        "Frames of area {{ $labels.area }} come too late",
        "came after their instant was closed and were not scored",
        (
            "Dashboard 4, `Slowest PMU` against `[align] wait_ms`.",
            "Raise `wait_ms` (each result gets later by as much), or mend the slow path.",
        ),
    )
    yield _share(
        "Duplicate",
        0.05,
        "15m",
        "info",
        "Frames of area {{ $labels.area }} come twice",
        "were there already",
        (
            "Two gateways send the same stream? If on purpose: silence this for the area; results are the same.",
            "Otherwise a producer without idempotence repeats what was acknowledged late.",
        ),
    )


def _share(
    name: str, limit: float, hold: str, severity: Severity, summary: str, what: str, do: tuple[str, ...]
) -> Alert:
    counter = f"streamproc_{name.lower()}_frames_total"

    def frames(per_minute: int) -> dict[str, str]:
        return {
            'streamproc_instants_total{area="north"}': "0+60x30",
            'streamproc_pmus{area="north"}': "10x30",  # 600 PMU frames are expected a minute
            f'{counter}{{area="north"}}': f"0+{per_minute}x30",
        }

    return Alert(
        f"Streamproc{name}Frames",
        f"{SHARES[counter]} > {limit:g}",
        hold,
        severity,
        summary,
        f"{{{{ $value | humanizePercentage }}}} of the PMU frames of area {{{{ $labels.area }}}} {what}.",
        f"More than {limit:.0%} of the data of an area is not what it should be. Missing data never raises or clears a "
        "grid alert; it is one itself (family `quality`).",
        do,
        Speaks(frames(60), "25m", NORTH, "10%"),
        Silent(frames(3), "25m"),
    )


def _slow_pmu() -> Alert:
    return Alert(
        "StreamprocSlowPmu",
        "max by (area) (streamproc_arrival_lag_max_seconds) > 0.2",
        "5m",
        "warning",
        "A PMU of area {{ $labels.area }} is slow",
        "A PMU of area {{ $labels.area }} lags {{ $value | humanizeDuration }} behind the others, mean of many frames.",
        "Every result of the area waits for it, up to `wait_ms` (250 ms if not set); then its frames are lost.",
        ("The path of this PMU (a PDC between, a radio link); or take it to an area of its own.",),
        Speaks({'streamproc_arrival_lag_max_seconds{area="north"}': "0.3x20"}, "10m", NORTH, "300ms"),
        Silent({'streamproc_arrival_lag_max_seconds{area="north"}': "0.1x20"}, "10m"),
    )


def _fewer_pmus() -> Alert:
    return Alert(
        "StreamprocFewerPmus",
        "max by (area) (streamproc_pmus) < max by (area) (max_over_time(streamproc_pmus[1h]))",
        "5m",
        "warning",
        "Area {{ $labels.area }} has fewer PMUs than an hour ago",
        "The configuration frames of area {{ $labels.area }} name {{ $value | humanize }} PMUs, fewer than an hour ago.",
        "A PDC was reconfigured or lost an input; what is no longer sent is not watched, and not missed either.",
        ("Compare with the station list; `streamproc decode` on a capture shows the configuration frame.",),
        Speaks({'streamproc_pmus{area="north"}': "40x5 38x20"}, "20m", NORTH, "38"),
        Silent({'streamproc_pmus{area="north"}': "38x5 40x20"}, "20m"),
    )


def _coverage_low() -> Alert:
    return Alert(
        "StreamprocCoverageLow",
        "min by (area) (streamproc_forecast_coverage_ratio) < 0.8",
        "30m",
        "warning",
        "Forecasts of area {{ $labels.area }} are off",
        "Only {{ $value | humanizePercentage }} of the recent measurements of area {{ $labels.area }} fell into their "
        "P05..P95 band; it should be 90 %.",
        "Advice is made from the band: it may come too late or without need.",
        (
            "An unusual day (storm, holiday, switching)? Coverage recovers with it.",
            "For days: the model no longer fits this site; take a bundle that does (`[worker] bundle`).",
        ),
        Speaks({'streamproc_forecast_coverage_ratio{area="north"}': "0.7x60"}, "40m", NORTH, "70%"),
        Silent({'streamproc_forecast_coverage_ratio{area="north"}': "0.88x60"}, "40m"),
    )


def _forecasts_stopped() -> Alert:
    return Alert(
        "StreamprocForecastsStopped",
        f"sum(rate(streamproc_records_total{{{SCADA}}}[10m])) > 0 "
        "unless sum(rate(streamproc_forecasts_total[10m])) > 0",
        "10m",
        "warning",
        "SCADA measurements come, but no forecast is made",
        "{{ $value | humanize }} SCADA records per second come in, and no forecast was published for minutes.",
        "Advice expires after `valid_min` and is not renewed.",
        (
            "Dashboard 4, `Refused, by reason`: `stale_time` or `unknown_point` means that what comes is not usable.",
            "Points without `forecast` in the site file are watched for limits only.",
        ),
        Speaks(
            {
                f"streamproc_records_total{{{SCADA}}}": "0+60x40",
                'streamproc_forecasts_total{area="north"}': "9x40",
            },
            "30m",
            {},
            "1",
        ),
        Silent(
            {
                f"streamproc_records_total{{{SCADA}}}": "0+60x40",
                'streamproc_forecasts_total{area="north"}': "0+1x40",
            },
            "30m",
        ),
    )


def _forecasts_without_model() -> Alert:
    return Alert(
        "StreamprocForecastsWithoutModel",
        'sum by (reason) (rate(streamproc_forecast_fallbacks_total{reason=~"no_model|model_error"}[10m])) > 0',
        "5m",
        "warning",
        "Forecasts are made without the model ({{ $labels.reason }})",
        "{{ $value | humanize }} forecasts per second are persistence, because of {{ $labels.reason }}.",
        "Forecasts go on, but with a band that is wide and a course that is flat.",
        (
            "`no_model`: the bundle of the site has no forecast model; dashboard 5, `Models in force`.",
            "`model_error`: the log names the exception; go back to the bundle before.",
        ),
        Speaks(
            {'streamproc_forecast_fallbacks_total{reason="no_model"}': "0+60x40"},
            "20m",
            {"reason": "no_model"},
            "1",
        ),
        Silent({'streamproc_forecast_fallbacks_total{reason="short_history"}': "0+60x40"}, "20m"),
    )


def _models_disagree() -> Alert:
    info = 'streamproc_model_info{slot="score/north",'
    return Alert(
        "StreamprocModelsDisagree",
        "count by (slot) (count by (slot, digest) (streamproc_model_info)) > 1",
        "15m",
        "warning",
        "Workers use different models for {{ $labels.slot }}",
        "{{ $value | humanize }} models are in force for {{ $labels.slot }} at the same time.",
        "Two workers with different models give different bytes for the same records after a rebalance.",
        (
            "A rollout that stopped half way: dashboard 5 shows which worker has which; bring all to one bundle.",
        ),
        Speaks(
            {info + 'digest="x",instance="a"}': "1x30", info + 'digest="y",instance="b"}': "1x30"},
            "20m",
            {"slot": "score/north"},
            "2",
        ),
        Silent({info + 'digest="x",instance="a"}': "1x30", info + 'digest="x",instance="b"}': "1x30"}, "20m"),
    )


def _flood() -> Alert:
    def raised(per_minute: str) -> dict[str, str]:
        worker = 'job="streamproc",instance="a"'
        return {
            f"streamproc_build_info{{{worker}}}": "1x30",
            f'streamproc_alerts_total{{{worker},kind="rocof",priority="2"}}': per_minute,
        }

    return Alert(
        "StreamprocAlertFlood",
        "sum(increase(streamproc:alerts_raised:sum[10m])) > 10",
        "0m",
        "warning",
        "Operators get more alerts than a person can handle",
        "{{ $value | humanize }} grid alerts were raised in 10 minutes; more than 10 are a flood (ISA-18.2).",
        "Either the grid is in trouble, and then the first alert of each event matters, or a rule is too sharp.",
        (
            "Dashboard 2, `By kind`: one kind that leads by far is a limit to look at or a sick instrument.",
            "One PMU: fix its data; `[detector.NAME] limit` in the site file is the last resort.",
            "`streamproc alerts` prints what was raised; each alert names the source that was first.",
        ),
        Speaks(raised("_x5 0+2x25"), "20m", {}, "20"),
        Silent(raised("_x5 0+0x5 3x20"), "20m"),
    )
