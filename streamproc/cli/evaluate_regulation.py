"""`streamproc evaluate regulation`: how honest the forecast of an area's next frequency minimum and maximum is.

On a recording of real frequency, and (`--simulate`) on frequency that is made, long enough to judge coverage.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamproc.evaluation.regulation import Finding

MADE_AREAS = 16
HORIZON_MIN, HORIZON_MAX = 5, 60  # minutes
PRIOR_HORIZON = 15


def regulation(
    recording: Annotated[
        Path | None, typer.Argument(help="Recording of frequency, as for `evaluate events --ambient`.")
    ] = None,
    beta_mw_per_hz: Annotated[
        float | None, typer.Option("--beta-mw-per-hz", help="Tell the power that is lacking, too.")
    ] = None,
    horizon: Annotated[str, typer.Option(help="How far each forecast reaches, ISO 8601.")] = "PT15M",
    except_s: Annotated[
        list[float] | None,
        typer.Option("--except", help="Seconds into it of a known disturbance; may be repeated."),
    ] = None,
    simulate: Annotated[
        float | None, typer.Option(min=2.0, max=720.0, help="Also on so many hours of made frequency.")
    ] = None,
    seed: Annotated[int, typer.Option(min=1, help="Of what is made, and of the blocks drawn.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Judge the forecast of the regulation need."""
    import orjson

    from streamproc.errors import DataError
    from streamproc.evaluation.regulation_text import regulation_lines

    minutes = _minutes(horizon)
    if beta_mw_per_hz is not None and not 0.0 < beta_mw_per_hz < float("inf"):
        raise DataError(f"--beta-mw-per-hz {beta_mw_per_hz:g}: must be greater than 0")
    if recording is None and simulate is None:
        raise DataError("evaluate regulation: name a recording, or make frequency with --simulate HOURS")
    findings: list[Finding] = []
    if recording is not None:
        findings += recorded(recording, except_s or [], minutes, seed, beta_mw_per_hz)
    if simulate is not None:
        findings.append(made(simulate, minutes, seed, beta_mw_per_hz))
    notes = list(notes_of(minutes, simulated=simulate is not None, beta=beta_mw_per_hz is not None))
    if json:
        print(orjson.dumps({"notes": notes, "findings": findings}).decode())
        return
    print("\n".join(regulation_lines(findings, notes)))


def recorded(
    path: Path, except_s: Sequence[float], horizon: int, seed: int, beta_mw_per_hz: float | None
) -> list[Finding]:
    """Return what is found without the known disturbances, and with them where there are any."""
    from streamproc.evaluation.regulation import judge, minutes_of
    from streamproc.shell.evaluated import documented, read_frequency

    t_ns, freq_hz, nominal_hz = read_frequency(path)
    known = (*documented(path), *except_s)
    rest = minutes_of(path.name, t_ns, freq_hz, nominal_hz, known)
    if not known:
        return [judge(path.name, rest, horizon, seed, beta_mw_per_hz)]
    every = minutes_of(path.name, t_ns, freq_hz, nominal_hz)
    at = ", ".join(f"{s:g} s" for s in known)
    return [
        judge(f"{path.name} without the disturbance at {at}", rest, horizon, seed, beta_mw_per_hz),
        judge(f"{path.name} with it", every, horizon, seed, beta_mw_per_hz),
    ]


def made(hours: float, horizon: int, seed: int, beta_mw_per_hz: float | None) -> Finding:
    """Return what is found on frequency that is made."""
    from streamproc.evaluation.regulation import judge
    from streamproc.evaluation.regulation_made import made_minutes

    name = f"made frequency, seed {seed}"
    return judge(name, made_minutes(hours, MADE_AREAS, seed), horizon, seed, beta_mw_per_hz)


def notes_of(horizon: int, *, simulated: bool, beta: bool) -> Iterator[str]:
    """Yield what a reader of the figures must know."""
    yield "every forecast uses only minutes before it, and errors only of windows that had ended"
    yield "a trip is no regulation need: no forecast of 15 minutes of movement can know of it"
    if simulated:
        yield "made frequency tells whether the bands are honest, not how good they are on a grid"
    if horizon != PRIOR_HORIZON:
        yield f"what is known beforehand was fitted for {PRIOR_HORIZON} minutes: with {horizon} the first hours are off"
    if beta:
        yield "power lacking = -beta x deviation, as far as the settled frequency tells it: flows to others are not in it"


def _minutes(horizon: str) -> int:
    from streamproc.errors import DataError
    from streamproc.evaluation.series.durations import seconds_of

    seconds = seconds_of(horizon, "--horizon")
    if seconds % 60 or not HORIZON_MIN <= seconds // 60 <= HORIZON_MAX:
        raise DataError(
            f"--horizon {horizon!r}: whole minutes are expected, PT{HORIZON_MIN}M to PT{HORIZON_MAX}M"
        )
    return seconds // 60
