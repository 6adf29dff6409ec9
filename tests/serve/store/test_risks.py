"""Risks that are kept: the newest of each subject, until it is old."""

import dataclasses

import pytest

from caretrace.serve.store.retention import retain
from caretrace.serve.store.risks import Risk, read_risks, write_risks
from caretrace.serve.store.store import Store

FIRST = Risk(7, "mortality", 1_700_000_000.0, 0.2, 0.1, 0.3, "runs/a", 1_700_000_100.0, "nurse")
LATER = dataclasses.replace(FIRST, time=FIRST.time + 3600, risk=0.5, low=None, high=None, note="of the demo")


@pytest.fixture
def store(store_url):
    opened = Store(store_url)
    yield opened
    opened.close()


def kept(store, *risks):
    store.submit(lambda connection: write_risks(connection, risks)).result(10)
    return store.read(read_risks)


def test_the_newest_is_kept_whatever_came_last_and_is_there_after_a_restart(store, store_url):
    assert kept(store, FIRST) == {7: FIRST}
    assert kept(store, LATER) == {7: LATER}
    assert kept(store, FIRST, dataclasses.replace(FIRST, subject_id=-8)).keys() == {7, -8}
    store.close()
    again = Store(store_url)
    try:
        assert again.read(lambda connection: read_risks(connection, 7)) == {7: LATER}
        assert again.read(lambda connection: read_risks(connection, 9)) == {}
    finally:
        again.close()


def test_of_several_applications_the_later_moment_is_told(store):
    other = dataclasses.replace(FIRST, app="another", risk=0.9)
    assert kept(store, LATER, other) == {7: LATER}
    assert kept(store, dataclasses.replace(other, time=LATER.time + 1))[7].app == "another"


def test_what_is_old_goes(store):
    day = 86_400
    newer = dataclasses.replace(FIRST, subject_id=8, kept=FIRST.kept + 3 * day)
    kept(store, FIRST, newer)
    store.submit(lambda connection: retain(connection, newer.kept, None, 2, None)).result(10)
    assert store.read(read_risks) == {8: newer}
