"""Protects the desk on a made day and on the corpora of the package: few cards, and every event is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamproc.cli.evaluate import the_tools
from streamproc.evaluation.corpus import read_corpus
from streamproc.evaluation.floods import cards_per_event, made_day

DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.mark.parametrize("seed", [1, 2])
def test_six_hours_with_events_chatter_and_bad_data_stay_readable(seed: int) -> None:
    day = made_day(seed, hours=6.0, n_event=5, n_chatter=4, n_bad=12)
    assert day.raised > 300  # what an operator would have heard
    assert day.per_10_min_outside < 1.0
    assert day.unseen_events == 0
    assert day.waiting == 0


def test_a_day_without_events_sounds_seldom_and_the_same_seed_is_the_same_day() -> None:
    quiet = made_day(7, hours=3.0, n_event=1, n_chatter=0, n_bad=0)
    assert len(quiet.annunciated_s) <= 3
    assert quiet == made_day(7, hours=3.0, n_event=1, n_chatter=0, n_bad=0)


def test_the_worst_event_of_a_corpus_is_at_most_three_cards() -> None:
    counts = cards_per_event(read_corpus(DATA / "andes39_events" / "events_12.npz"), the_tools(), "T2", 1)
    assert len(counts) == 12
    assert max(counts) <= 3
    assert sum(count > 0 for count in counts) >= 8  # some are below what an uncalibrated bundle can see
