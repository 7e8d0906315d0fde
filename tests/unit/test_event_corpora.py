"""Protects what a control room gets to see: events of three simulated grids found at once, named, placed; nothing false.

A fixed part of what `make evaluate` prints. The bounds are below what was measured, by more than chance.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from streamproc.cli.evaluate import the_tools
from streamproc.config import SiteConfig
from streamproc.evaluation.ambient import Ambient
from streamproc.evaluation.corpus import find_corpora, read_corpus
from streamproc.evaluation.evaluate import Watch, Wish, evaluate_events
from streamproc.evaluation.table import Table, pooled
from streamproc.shell.evaluated import read_ambient

DATA = Path(__file__).resolve().parents[1] / "data"
AMBIENT_S = 240.0
WISH = Wish(("T2",), (), (), seed=1, jobs=2, limit=14, ambient_s=AMBIENT_S)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> list[Table]:
    corpora = [
        read_corpus(path) for path in find_corpora([DATA / "events"])[0] if "ringdown" not in path.name
    ]
    real: Ambient = read_ambient(DATA / "gsf_openpdc_freq" / "freq_80min.csv.gz")
    room = tmp_path_factory.mktemp("bundles")
    return evaluate_events(corpora, real, WISH, the_tools(), SiteConfig(), room, Watch())


@pytest.fixture(scope="module")
def together(tables) -> Table:
    (table,) = pooled(tables)
    return table


def test_three_grids_of_other_sizes_and_rates(tables):
    shapes = {(t.case, t.pmus, t.rate_hz, t.nominal_hz) for t in tables}
    assert shapes == {("kundur", 6, 60.0, 60.0), ("ieee39", 10, 50.0, 50.0), ("npcc", 28, 25.0, 60.0)}


def test_every_event_is_found_once_and_nothing_else_is(tables, together):
    assert [o.name for o in together.outcomes if o.visible and not o.found] == []
    for table in tables:
        assert table.detection.f1 == 1.0, table.title
        assert table.false == (), table.title
    assert together.detection.events >= 36
    assert together.false_alarms.minutes >= 3 * AMBIENT_S / 60 * 0.9


def test_most_are_found_on_their_first_frame(together):
    assert together.detection.delay_s[0] == 0.0
    assert together.detection.delay_s[1] <= 0.30
    clear = [o for o in together.outcomes if o.dv >= 0.02]
    assert len(clear) >= 15
    delays_s = sorted(o.delay_s for o in clear)
    assert delays_s[int(0.9 * len(delays_s))] <= 0.04
    assert delays_s[-1] <= 0.3  # far from all PMUs but one: it waits for company (`core.guard`)


def test_what_it_was_is_told_after_a_second(together):
    told = next(kinds for kinds in together.kinds if kinds.age_s == 1.0)
    assert told.macro_f1 >= 0.85
    assert told.committed >= 0.8
    assert told.accuracy_committed >= 0.92


def test_where_it_was_is_among_the_first_three(together):
    assert together.where.events >= 36
    assert together.where.top1 >= 0.6
    assert together.where.top3 >= 0.85


def test_no_event_is_filed_as_bad_data(together):
    """All are told as events of the grid (above); of a few the first PMU was doubted for a moment."""
    assert set(together.quality) <= {"data_suspect"}
    assert together.quality.get("data_suspect", 0) <= 4


def test_spoilt_data_cost_nothing(tmp_path):
    wish = Wish((), ("missing20", "stuck", "drift", "spikes"), ("T2",), jobs=2, limit=6, ambient_s=60.0)
    corpora = [read_corpus(DATA / "events" / "kundur6_60.npz")]
    real = read_ambient(DATA / "gsf_openpdc_freq" / "freq_80min.csv.gz")
    for table in evaluate_events(corpora, real, wish, the_tools(), SiteConfig(), tmp_path, Watch()):
        assert table.detection.f1 == 1.0, table.title
        assert table.false == (), table.title
