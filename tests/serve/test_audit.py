"""The audit: nothing is lost, and nothing can be changed, removed, added or cut off unseen."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from caretrace.errors import ResourceError
from caretrace.serve.security import audit as module
from caretrace.serve.security.audit import FILE, HEAD, Audit, Entry


@pytest.fixture
def audit(tmp_path):
    return Audit(tmp_path / "audit")


def write(audit, count=5, first=0):
    for number in range(first, first + count):
        audit.append(Entry("ward desk", "read bed", number))


def test_entries_are_numbered_dated_and_chained(audit):
    write(audit, 3)
    entries = audit.entries()
    assert [each["n"] for each in entries] == [1, 2, 3]
    assert entries[0] | {"time": "", "hash": ""} == {
        "n": 1, "time": "", "who": "ward desk", "what": "read bed", "subject_id": 0, "outcome": "done", "hash": "",
    }  # fmt: skip
    assert entries[0]["time"].endswith("Z")
    assert [each["n"] for each in audit.entries(after=1)] == [2, 3]
    assert audit.last == 3
    assert [each["n"] for each in audit.entries(after=0, most=2)] == [1, 2]
    assert audit.intact()


def test_an_empty_audit_is_intact(audit):
    assert audit.intact()
    assert audit.entries() == []
    assert audit.last == 0


def lines(audit):
    return (audit.folder / FILE).read_text().splitlines(keepends=True)


def changed(found):
    found[2] = found[2].replace('"subject_id": 2', '"subject_id": 9')


def rehashed(found):
    value = json.loads(found[2]) | {"who": "somebody else"}
    value["hash"] = module._hash(value)
    found[2] = json.dumps(value) + "\n"


def removed(found):
    del found[2]


def doubled(found):
    found.insert(2, found[2])


def swapped(found):
    found[1], found[2] = found[2], found[1]


def cut_off(found):
    del found[3:]


def emptied(found):
    found.clear()


def garbled(found):
    found[1] = "{\n"


@pytest.mark.parametrize("tamper", [changed, rehashed, removed, doubled, swapped, cut_off, emptied, garbled])
def test_tampering_is_seen(audit, tamper):
    write(audit)
    assert audit.intact()
    found = lines(audit)
    tamper(found)
    time.sleep(0.02)  # a file system's clock ticks every few milliseconds
    (audit.folder / FILE).write_text("".join(found))
    assert not audit.intact()
    assert not Audit(audit.folder).intact()


def test_an_audit_without_its_head_or_file_is_not_intact(audit):
    write(audit)
    (audit.folder / HEAD).unlink()
    assert not audit.intact()
    write(audit, 1)
    (audit.folder / FILE).unlink()
    assert not audit.intact()


def test_nothing_is_written_behind_entries_that_were_cut_off(audit):
    write(audit)
    found = lines(audit)
    (audit.folder / FILE).write_text("".join(found[:3]))
    with pytest.raises(ResourceError, match="entries were removed"):
        write(audit, 1)
    assert "entries were removed" in audit.why_not()


def test_half_a_line_of_a_killed_writer_is_no_entry(audit):
    write(audit, 2)
    with (audit.folder / FILE).open("a") as file:
        file.write('{"n": 3, "time": "2020')
    assert audit.intact()
    write(Audit(audit.folder), 1, first=2)
    assert [each["subject_id"] for each in audit.entries()] == [0, 1, 2]
    assert audit.intact()


def test_threads_and_processes_write_one_chain(audit):
    code = """
import sys
from pathlib import Path
from caretrace.serve.security.audit import Audit, Entry
audit = Audit(Path(sys.argv[1]))
for number in range(20):
    audit.append(Entry("other", "read bed", int(sys.argv[2]) + number))
"""
    others = [subprocess.Popen([sys.executable, "-c", code, str(audit.folder), str(n)]) for n in (1000, 2000)]
    threads = [threading.Thread(target=write, args=(audit, 20, 100 * n)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each.wait() for each in others] == [0, 0]
    assert len(audit.entries()) == 120
    assert len({each["subject_id"] for each in audit.entries()}) == 120
    assert audit.intact()


@pytest.fixture
def full_disk(monkeypatch):
    """`full_disk(True)` makes every sync fail, as on a full disk."""
    state = {"full": False}
    real = os.fsync

    def fsync(handle):
        if state["full"]:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(module.os, "fsync", fsync)
    return lambda full: state.update(full=full)


def test_what_cannot_be_written_is_said_and_leaves_nothing(audit, full_disk):
    write(audit, 2)
    full_disk(True)
    with pytest.raises(ResourceError, match="No space left"):
        write(audit, 1, first=2)
    assert "No space left" in audit.why_not()
    assert audit.intact()
    full_disk(False)
    assert audit.why_not() is None
    assert [each["subject_id"] for each in audit.entries()] == [0, 1, None]


def test_what_may_wait_is_written_as_soon_as_it_can(audit, full_disk):
    full_disk(True)
    audit.append(Entry("desk", "acknowledge alarm 7", 3), must=False)
    assert audit.entries() == []
    with pytest.raises(ResourceError):
        write(audit, 1)
    full_disk(False)
    write(audit, 1, first=5)
    assert [each["subject_id"] for each in audit.entries()] == [3, 5]
    assert audit.intact()
    assert audit.why_not() is None
    assert len(audit.entries()) == 2


def test_several_entries_are_written_together_or_not_at_all(audit, full_disk):
    full_disk(True)
    with pytest.raises(ResourceError):
        audit.append(Entry("a", "predict", 1), Entry("a", "predict", 2))
    full_disk(False)
    audit.append(Entry("a", "predict", 3), Entry("a", "predict", 4))
    assert [each["subject_id"] for each in audit.entries()] == [3, 4]


def test_time_never_goes_back(audit, monkeypatch):
    write(audit, 1)
    monkeypatch.setattr("caretrace.serve.security.tokens.time.time", lambda: 0.0)
    write(audit, 1)
    first, second = audit.entries()
    assert second["time"] >= first["time"]


def test_a_long_audit_is_read_where_it_is_asked_for(audit):
    for first in range(0, 4000, 500):
        audit.append(*(Entry("desk", "read bed", n) for n in range(first, first + 500)))
    for after in (0, 1, 499, 500, 2718, 3998, 3999):
        assert [each["n"] for each in audit.entries(after, 3)] == list(range(after + 1, 4001))[:3]
    assert audit.entries(4000) == []
    assert audit._place(3000) > 0.5 * (audit.folder / FILE).stat().st_size
    assert audit.intact()
    write(audit, 1)
    assert audit._checked.number == 4000  # what we append ourselves does not make us read all of it again
    assert audit.intact()
    assert audit._checked.number == 4001
    found = lines(audit)
    found[10] = found[10].replace("desk", "disk")
    time.sleep(0.02)
    (audit.folder / FILE).write_text("".join(found))
    write(audit, 1)  # our own writing hides nobody else's
    assert not audit.intact()
