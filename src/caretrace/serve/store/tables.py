"""The tables of the store. Times are epoch seconds, whose zone nobody can get wrong."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()
_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by INTEGER alone

# The log: what arrived, in the order in which it was committed. Everything else can be computed from it.
BATCHES = Table(
    "batches",
    METADATA,
    Column("seq", _NUMBER, primary_key=True, autoincrement=False),
    Column("batch_id", String(200), nullable=False, unique=True),
    Column("received", Float, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("first_time", Float, nullable=False),
    Column("last_time", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("batches_received", "received"),
)
# What became of the log up to `seq`: steps of the grid with their scores, many subjects in one row.
SCORED = Table(
    "scored",
    METADATA,
    Column("seq", _NUMBER, primary_key=True, autoincrement=False),
    Column("first_time", Float, nullable=False),
    Column("last_time", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("scored_last_time", "last_time"),
)
# What the scorer remembers after `seq`, so that a restart need not read the whole log.
SNAPSHOTS = Table(
    "snapshots",
    METADATA,
    Column("seq", _NUMBER, primary_key=True, autoincrement=False),
    Column("bundle", String(200), nullable=False),
    Column("made", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
BEDS = Table(
    "beds",
    METADATA,
    Column("subject_id", BigInteger, primary_key=True, autoincrement=False),
    Column("bed", String(100)),
    Column("ward", String(100), nullable=False),
    Column("placed", Float, nullable=False),
    Column("by", String(200), nullable=False),
)
ALARMS = Table(
    "alarms",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("subject_id", BigInteger, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("raised", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Column("score", Float),
    Column("threshold", Float),
    Column("words", Text, nullable=False),
    Column("by", String(200)),
    Column("why", Text),
    Column("snoozed_until", Float),
    Column("bundle", String(200), nullable=False),
    Column("policy", Text, nullable=False),
    Column("since", Float),  # when the recording began that the score rests on
    Index("alarms_subject", "subject_id", "raised"),
    Index("alarms_changed", "changed"),
)
TRANSITIONS = Table(
    "transitions",
    METADATA,
    Column("n", _NUMBER, primary_key=True, autoincrement=True),
    Column("alarm_id", String(40), nullable=False),
    Column("time", Float, nullable=False),
    Column("state", String(20), nullable=False),
    Column("score", Float),
    Column("by", String(200)),
    Column("why", Text),
    Index("transitions_alarm", "alarm_id"),
)
# Alarm machines that are not at rest, as they were after the log's position.
MACHINES = Table(
    "machines",
    METADATA,
    Column("subject_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String(40), primary_key=True),
    Column("alarm_id", String(40)),
    Column("memory", Text, nullable=False),
)
# The newest risk of each subject that somebody asked to keep, by application.
RISKS = Table(
    "risks",
    METADATA,
    Column("subject_id", BigInteger, primary_key=True, autoincrement=False),
    Column("app", String(64), primary_key=True),
    Column("time", Float, nullable=False),  # what was known by then
    Column("risk", Float, nullable=False),
    Column("low", Float),
    Column("high", Float),
    Column("bundle", String(200), nullable=False),
    Column("kept", Float, nullable=False),
    Column("by", String(200), nullable=False),
    Column("note", Text),
)
# Named numbers: `scored` is how far the log has been scored, `events` the first event id nobody has used.
POSITIONS = Table(
    "positions",
    METADATA,
    Column("name", String(40), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
SCHEMA = Table(
    "caretrace_schema",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("applied", Float, nullable=False),
)
