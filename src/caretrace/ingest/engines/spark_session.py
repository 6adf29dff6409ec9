"""A Spark session to ingest with: the user's own, one of a cluster that is set up, or all cores of this machine."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from caretrace.errors import ConfigError

_INSTALL = (
    "--engine spark needs PySpark and Java: pip install 'caretrace[spark]' and install a Java 17 runtime "
    "(Debian, Ubuntu: openjdk-17-jre-headless)"
)
_JAVA = 17
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_LEAST = 2**30
# The rest is for what Java needs beside its heap.
_HEAP, _READER = 0.7, 0.15
_LOGGING = Path(__file__).with_name("spark_log4j2.properties")

# So that one expression means the same as on DuckDB: errors become null, times have no zone.
_MEANING = {
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
}


def start_session(work: Path, memory_limit: str, threads: int | None) -> tuple[Any, bool]:
    """A session with settings of its own, and whether it must be stopped in the end.

    An active session of this process is shared and left running. Otherwise one is started: on the master
    that `spark-submit`, `SPARK_REMOTE`, `SPARK_MASTER` or `spark-defaults.conf` name, else on this machine.

    Args:
        work: Folder for what Spark stores and spills here.
        memory_limit: For the driver and the reader of text together; written like `4GB`.
        threads: Threads on this machine; None takes its cores.

    Raises:
        ConfigError: No PySpark, no Java, or an unreadable memory limit.
    """
    memory = _bytes(memory_limit)
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ConfigError(f"{_INSTALL} ({error})") from None
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    active = SparkSession.getActiveSession()
    if active is not None:
        session, started = active.newSession(), False
    else:
        if not _elsewhere():
            _refuse_without_java()
        builder = SparkSession.builder.appName("caretrace ingest")
        for name, value in _settings(work, memory, threads).items():
            builder = builder.config(name, value)
        try:
            session, started = builder.getOrCreate(), True
        except Exception as error:
            raise ConfigError(f"Spark does not start ({_first_line(error)}); {_INSTALL}") from error
        if "SPARK_REMOTE" not in os.environ:
            session.sparkContext.setLogLevel("ERROR")
    for name, value in _MEANING.items():
        session.conf.set(name, value)
    return session, started


def reader_memory(memory_limit: str) -> str:
    """The part of the limit that is for the reader of text, as DuckDB writes it."""
    return f"{int(_bytes(memory_limit) * _READER) // 2**20}MiB"


def _settings(work: Path, memory: int, threads: int | None) -> dict[str, str]:
    settings = {
        "spark.driver.memory": f"{int(memory * _HEAP) // 2**20}m",
        "spark.driver.maxResultSize": "0",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(work / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    }
    if "SPARK_MASTER" in os.environ:
        settings["spark.master"] = os.environ["SPARK_MASTER"]
    elif not _configured():
        settings |= {
            "spark.master": f"local[{threads or '*'}]",
            # Nobody outside this machine has to reach it.
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": str(work / "spill"),
            # Adaptive execution joins small ones; large tables need this many to be sorted in little memory.
            "spark.sql.shuffle.partitions": "64",
        }
    return settings


def _elsewhere() -> bool:
    """Whether Java already runs, or runs on another machine."""
    return "SPARK_REMOTE" in os.environ or "PYSPARK_GATEWAY_PORT" in os.environ


def _configured() -> bool:
    home = os.environ.get("SPARK_HOME")
    folder = Path(os.environ.get("SPARK_CONF_DIR") or (Path(home) / "conf" if home else "no-such-folder"))
    return _elsewhere() or (folder / "spark-defaults.conf").is_file()


def _refuse_without_java() -> None:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise ConfigError(f"{_INSTALL}; there is no java {f'in JAVA_HOME={home}' if home else 'on the PATH'}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    version = re.search(r'version "(?:1\.)?([0-9]+)', said)
    if version is None or int(version[1]) < _JAVA:
        raise ConfigError(f"{_INSTALL}; {java} says {_first_line(said)!r}")


def _bytes(memory_limit: str) -> int:
    written = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt])(?:i?b)?\s*", memory_limit.lower())
    if written is None:
        raise ConfigError(f"--memory-limit {memory_limit!r}: refused; write it like 4GB")
    size = int(float(written[1]) * _UNITS[written[2]])
    if size < _LEAST:
        raise ConfigError(
            f"--memory-limit {memory_limit!r} is too little for --engine spark; give 1GB or more"
        )
    return size


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0]
