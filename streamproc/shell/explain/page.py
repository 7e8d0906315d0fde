"""The page about one alert: what happened, in a sentence, a table and figures. One file that needs nothing else. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streamproc.core.disturbance import WORDS, Disturbance, Estimate, Mode
from streamproc.core.iso_time import iso_time
from streamproc.core.messages import Alert
from streamproc.shell.explain.evidence import Evidence
from streamproc.shell.explain.facts import Facts, Judged, facts_of, flag_words, forecasts_of
from streamproc.shell.explain.figures import (
    MAP,
    Panel,
    plain,
    point_panels,
    score_panels,
    trace_panels,
    zoom_panels,
)
from streamproc.shell.explain.hint import replay_hint
from streamproc.shell.explain.origin import Origin, origin_of
from streamproc.shell.explain.plot import delay_words, words_of
from streamproc.shell.explain.points import Point
from streamproc.shell.explain.style import SCRIPT, STYLE

NAMED_MAX = 12  # PMUs named in a line
ROWS_MAX = 25  # of a table
SOURCES_MAX = 8  # of an oscillation
TOLD_EARLY, TOLD_LATE = 10, 15  # transitions that are shown of many
Row = tuple[str, str]  # of the facts: heading, HTML


def page(
    told: Sequence[Alert],
    evidence: Evidence | None,
    points: Sequence[Point] = (),
    commands: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return the page; `told` are the transitions of the alert, the newest last."""
    alert = told[-1]
    facts = facts_of(alert, evidence) if evidence is not None else None
    told_us = told[0].ts_us if told[0].seq == 1 else None
    sections = [_facts(told, evidence, facts, commands)]
    if evidence is not None and facts is not None:
        sections.append(_origin(origin_of(alert, evidence), evidence.labels))
        panels = trace_panels(alert, evidence, facts, told_us, forecasts_of(told))
        panels += zoom_panels(alert, evidence, facts, told_us)
        panels += score_panels(alert, evidence, facts, told_us)
        sections += [_figure(panel) + (_legend() if panel.title == MAP else "") for panel in panels]
        sections += [_rules(facts.judged, alert.rule), _input(facts)]
    sections += [_figure(panel) for panel in point_panels(alert, points, told_us)]
    sections.append(_transitions(told))
    body = "\n".join(filter(None, sections))
    remarks = "".join(f'<p class="note">{words_of(note)}</p>' for note in notes)
    where = f"alert {alert.alert_id}, area {alert.area}, priority {alert.priority}, {STATES[alert.state]}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{words_of(alert.message)}</title><style>{STYLE}</style></head>\n"
        f'<body data-onset-ms="{alert.onset_ts_us / 1000:.3f}"><main>\n<h1>{words_of(alert.message)}</h1>'
        f'<p class="soft">{words_of(where)}</p>{remarks}\n{body}\n</main>\n'
        f'<div id="readout"></div><script>{SCRIPT}</script></body></html>\n'
    )


STATES = {
    "NORM": "returned to normal, acknowledged",
    "UNACK": "active, not acknowledged",
    "SHLVD": "shelved by an operator",
    "DSUPR": "suppressed by design",
    "OOSRV": "out of service",
    "ACKED": "active, acknowledged",
    "RTNUN": "returned to normal, not acknowledged",
}


def _facts(
    told: Sequence[Alert], evidence: Evidence | None, facts: Facts | None, commands: Sequence[str]
) -> str:
    alert = told[-1]
    first = "First PMU" if alert.model_digest else "Source"
    rows: list[Row] = [("What", _what(alert)), ("Since", _since(told)), (first, words_of(alert.source))]
    if facts is not None:
        rows.append(("PMUs, in order", _order(alert, facts)))
        rows.append(("Largest deviation", _largest(facts)))
    elif alert.members > 1:
        rows.append(("Sources, in order", words_of(_listed(alert.sources, alert.members))))
    rows.append(("Limit and score", _limit(alert)))
    if alert.disturbance is not None:
        rows += _disturbance(alert.disturbance)
    elif alert.family == "grid" and alert.model_digest:
        rows.append(("Kind", "not told: nobody described this disturbance"))
    rows.append(("Input", _quality(alert, facts)))
    rows.append(("Model", _model(alert, evidence)))
    commands = commands or (replay_hint(alert).command,)
    rows.append(("Replay", "<br/>".join(f"<code>{words_of(command)}</code>" for command in commands)))
    lines = "".join(f"<tr><th>{head}</th><td>{html}</td></tr>" for head, html in rows if html)
    return f'<table class="facts">{lines}</table>'


def _what(alert: Alert) -> str:
    rules = [plain(rule) for rule in alert.rules if rule != alert.rule]
    also = f"; also {', '.join(rules)}" if rules else ""
    return words_of(f"{plain(alert.kind)} ({alert.family}), by {plain(alert.rule)}{also}")


def _since(told: Sequence[Alert]) -> str:
    alert, first = told[-1], told[0]
    words = iso_time(alert.onset_ts_us * 1000)
    if first.seq == 1:
        words += f"; first alert {delay_words((first.ts_us - alert.onset_ts_us) / 1e3).lstrip('+')} later"
    if alert.cleared_ts_us is not None:
        words += f"; over after {(alert.cleared_ts_us - alert.onset_ts_us) / 1e6:.1f} s"
    return words_of(words)


def _order(alert: Alert, facts: Facts) -> str:
    late = [a for a in facts.answers if a.delay_ms is not None]
    if not late:
        return words_of(_listed(alert.sources, alert.members))
    groups: dict[str, list[str]] = {}
    for answer in late[:NAMED_MAX]:
        groups.setdefault(delay_words(answer.delay_ms or 0.0), []).append(answer.source)
    told = "; ".join(f"{delay}: {', '.join(names)}" for delay, names in groups.items())
    more = f" and {len(late) - NAMED_MAX} more" if len(late) > NAMED_MAX else ""
    return words_of(f"{told}{more}. {len(late)} of {len(facts.answers)} went over a limit")


def _listed(names: Sequence[str], count: int) -> str:
    more = count - min(len(names), NAMED_MAX)
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _largest(facts: Facts) -> str:
    lines = []
    for item in facts.largest:
        level = "" if item.value is None else f", to {item.value:.5g} {item.unit}"
        lines.append(
            f"{item.quantity} {item.change:+.4g} {item.unit} at {item.source}{level}, {item.at_s:+.2f} s after the onset"
        )
    return "<br/>".join(map(words_of, lines))


def _limit(alert: Alert) -> str:
    if alert.family != "grid":
        return words_of(
            f"{plain(alert.rule)}" + (f" for more than {alert.limit:.4g} s" if alert.limit else "")
        )
    value = f"{plain(alert.rule)}: {alert.value:.4g} {alert.unit}, limit {alert.limit:.4g} {alert.unit}"
    score = f"; score {alert.score:.3g} times the limit at its largest" if alert.model_digest else ""
    return words_of(value + score)


def _estimate(estimate: Estimate, unit: str, form: str = "") -> str:
    value, low, high = (
        f"{edge:{form}}" if form else amount(edge) for edge in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} {unit} (nine times of ten from {low} to {high})"


def amount(value: float) -> str:
    """Return three digits, or a whole number with its thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _disturbance(known: Disturbance) -> list[Row]:
    finer = f", perhaps {plain(known.finer)} ({known.finer_confidence:.0%})" if known.finer else ""
    head = WORDS[known.kind] + (f", {known.confidence:.0%} sure{finer}" if known.kind != "unknown" else "")
    rows = [("Kind", words_of(head) + _chances(known))]
    if known.size_mw is not None:
        rows.append(("Size", words_of(_estimate(known.size_mw, "MW"))))
    if known.nadir_hz is not None:
        when = (
            f", {_estimate(known.nadir_after_s, 's', '.1f')} after the onset" if known.nadir_after_s else ""
        )
        falls = known.rocof_hz_s is None or known.rocof_hz_s <= 0.0
        rows.append(
            (
                "Expected nadir" if falls else "Expected peak",
                words_of(_estimate(known.nadir_hz, "Hz", ".3f") + when),
            )
        )
    if known.rocof_hz_s is not None:
        rows.append(("Rate of change", words_of(f"{known.rocof_hz_s:+.3g} Hz/s of the area, at first")))
    if known.clearing_ms is not None:
        rows.append(("Cleared", f"after {known.clearing_ms:.0f} ms"))
    if known.place:
        rows.append(("Nearest PMUs", words_of(_listed(known.place, len(known.place)))))
    if known.modes:
        rows.append(("Modes", "<br/>".join(words_of(_mode(mode)) for mode in known.modes)))
    if known.islands:
        groups = [_listed(group, len(group)) for group in known.islands]
        rows.append(("Islands", "<br/>".join(map(words_of, groups))))
    return rows


def _chances(known: Disturbance) -> str:
    ranked = sorted(known.chances.items(), key=lambda item: (-item[1], item[0]))
    lines = "".join(
        f'<tr><td>{words_of(WORDS.get(kind, kind))}</td><td class="n">{chance:.0%}</td>'
        f'<td><span class="chance" style="width:{9.0 * chance:.2f}rem"></span></td></tr>'
        for kind, chance in ranked
    )
    return f'<table class="chances">{lines}</table>' if lines else ""


def _mode(mode: Mode) -> str:
    words = f"{_estimate(mode.freq_hz, 'Hz')}, damping {mode.damping_ratio.value:.1%}"
    words += f" ({mode.damping_ratio.low:.1%} to {mode.damping_ratio.high:.1%})"
    words += ", forced" if mode.forced else ""
    return words + (f", most at {_listed(mode.sources, len(mode.sources))}" if mode.sources else "")


def _quality(alert: Alert, facts: Facts | None) -> str:
    words = f"{alert.quality}" + (f": {flag_words(alert.quality_flags)}" if alert.quality_flags else "")
    if facts is not None:
        bad = len(facts.troubles)
        count = len(facts.answers)
        words += f"; {count - bad} of {count} PMUs complete and good over the {facts.instants} instants shown"
    return words_of(words)


def _model(alert: Alert, evidence: Evidence | None) -> str:
    if not alert.model_digest:
        return "none: a limit of the site file"
    words = f"<code>{words_of(alert.model_digest[:16])}</code>"
    if alert.disturbance is not None and alert.disturbance.model_digest:
        words += f", described by <code>{words_of(alert.disturbance.model_digest[:16])}</code>"
    if evidence is not None and evidence.digest != alert.model_digest:
        words += f"; the scores below are of <code>{words_of(evidence.digest[:16])}</code>: another bundle, or other PMUs"
    return words


def _figure(panel: Panel) -> str:
    caption = f"<figcaption>{words_of(panel.words)}</figcaption>" if panel.words else ""
    return f"<h2>{words_of(panel.title)}</h2><figure>{panel.svg}{caption}</figure>"


def _legend() -> str:
    words = ("below 0.25", "0.25", "0.5", "1, the limit", "2", "4", "8 and more", "not known")
    keys = "".join(
        f'<span><svg class="plot" viewBox="0 0 32 16"><g transform="scale(.1)"><path class="h{kind}" '
        f'd="M0 0h320v160h-320z"/></g></svg>{word}</span>'
        for kind, word in enumerate(words)
    )
    return (
        f'<div class="legend">Largest score of a rule that judges the PMU by itself: {keys}'
        "<span>upright stroke: first over a limit</span></div>"
    )


def _origin(origin: Origin | None, labels: Sequence[str]) -> str:
    """Return the table of the sources of an oscillation and the words on how they were found."""
    if origin is None:
        return ""
    ranked = origin.sources
    rows = [(labels[pmu], f"{size:.2f}") for pmu, size in zip(ranked.order, ranked.weight, strict=True)]
    if ranked.outside:
        rows.insert(0, ("outside the observed area", ""))
    lines = "".join(
        f'<tr><td class="n">{rank}</td><td>{words_of(name)}</td><td class="n">{size}</td></tr>'
        for rank, (name, size) in enumerate(rows[:SOURCES_MAX], start=1)
    )
    unit = "energy flow" if ranked.by == "flow" else "shape"
    head = f'<th class="n">rank</th><th>PMU</th><th class="n">{unit}, per unit of the first</th>'
    table = f'<div class="scroll"><table class="origin"><tr>{head}</tr>{lines}</table></div>'
    words = _origin_words(origin, len(labels))
    return f"<h2>Where it comes from</h2>{table}<p>{words_of(words)}</p>"


def _origin_words(origin: Origin, n_pmu: int) -> str:
    ranked, mode = origin.sources, f"the swing of {origin.freq_hz:.3g} Hz"
    more = max(0, ranked.order.size + ranked.outside - SOURCES_MAX)
    rest = f" {more} more are left away." if more else ""
    if ranked.by == "shape":
        clear = "No PMU stands out: it may well come from" if ranked.outside else "It may also come from"
        return (
            f"By amplitude and phase lead of {mode}, because the power of no PMU is known: a hint only. "
            f"{clear} outside the observed area.{rest}"
        )
    clear = "No PMU clearly feeds it: it may well come" if ranked.outside else "It may also come"
    unknown = n_pmu - origin.measured
    lost = (
        f" Not ranked for want of current phasors, or for gaps: {unknown} of {n_pmu} PMUs." if unknown else ""
    )
    return (
        f"By the dissipating energy flow of {mode}: who sends energy out feeds it. Assumed is that currents are "
        "measured out of the plant into the network; where it is the other way round, who feeds is taken for who damps. "
        f"{clear} from outside the observed area.{lost}{rest}"
    )


NUMERIC = (False, True, False, False, True, False)  # columns of the table of rules


def _cell(words: str, is_number: bool) -> str:
    return f'<td class="n">{words_of(words)}</td>' if is_number else f"<td>{words_of(words)}</td>"


def _rules(judged: Sequence[Judged], lead: str) -> str:
    lines = []
    for item in judged:
        rule = item.rule
        if rule.family == "quality" and not item.peak:
            continue  # nothing to say
        name = plain(rule.name) + (" (leads the alert)" if rule.name == lead else "")
        peak = "never judged" if item.peak is None else f"{item.peak:.3g}"
        first = "" if item.first_s is None else f"{item.first_s:+.3f} s, {item.first_source}"
        where = "" if item.peak is None else f"{item.peak_source}, {item.peak_s:+.2f} s"
        cells = (name, peak, where, first, str(item.sources or ""), f"{rule.limit:.4g} {rule.unit}")
        lines.append("<tr>" + "".join(map(_cell, cells, NUMERIC)) + "</tr>")
    heads = ("rule", "score", "largest at", "first over its limit", "PMUs", "limit")
    head = "".join(map(_cell, heads, NUMERIC)).replace("td", "th")
    caption = "<caption>From the onset to 20 s after it.</caption>"
    return f'<h2>Every rule</h2><div class="scroll"><table>{caption}<tr>{head}</tr>{"".join(lines)}</table></div>'


def _input(facts: Facts) -> str:
    if not facts.troubles:
        return "<h2>Input</h2><p>Every PMU was there at every instant, and good.</p>"
    lines = "".join(
        f'<tr><td>{words_of(t.source)}</td><td class="n">{t.missing}</td><td class="n">{t.unusable}</td>'
        f'<td class="n">{t.withheld}</td><td>{words_of(t.words)}</td></tr>'
        for t in facts.troubles[:ROWS_MAX]
    )
    more = len(facts.troubles) - ROWS_MAX
    rest = f"<p>and {more} more PMUs</p>" if more > 0 else ""
    head = (
        '<th>PMU</th><th class="n">missing</th><th class="n">there, not used</th>'
        '<th class="n">scores not believed</th><th>flags</th>'
    )
    caption = f"<caption>Instants of {facts.instants} at which any PMU of the area was there.</caption>"
    return f'<h2>Input</h2><div class="scroll"><table>{caption}<tr>{head}</tr>{lines}</table></div>{rest}'


def _transitions(told: Sequence[Alert]) -> str:
    early, late = list(told[:TOLD_EARLY]), list(told[TOLD_EARLY:][-TOLD_LATE:])
    lines = "".join(
        f'<tr><td class="n">{a.seq}</td><td class="n">{(a.ts_us - a.onset_ts_us) / 1e6:+.2f} s</td>'
        f"<td>{words_of(a.state)}</td><td>{words_of(a.message)}</td></tr>"
        for a in (*early, *late)
    )
    between = len(told) - len(early) - len(late)
    left = f"{between} after the first {TOLD_EARLY} are left away."
    caption = f"<caption>{left}</caption>" if between else ""
    head = '<th class="n">no.</th><th class="n">after the onset</th><th>state</th><th>told</th>'
    return f'<h2>What was told, and when</h2><div class="scroll"><table>{caption}<tr>{head}</tr>{lines}</table></div>'
