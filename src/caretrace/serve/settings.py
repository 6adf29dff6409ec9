"""What `caretrace serve` was asked, and every limit of the service in one place."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path

from caretrace.errors import ConfigError

DEMO_FILE = "demo.json"  # of a demo folder: runs to serve, and recordings to replay


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much one request, one caller and all callers together may ask.

    Args:
        body_bytes: Largest body of a JSON request.
        upload_bytes: Largest Parquet body of `POST /predict`.
        json_depth: Deepest nesting of a JSON body.
        header_seconds: Until the whole header of a request must be there.
        header_bytes: Largest header.
        request_seconds: Until the whole body of a request must be there.
        requests_per_second: Of one caller, sustained; more are answered 429.
        burst: Requests of one caller at once, before the rate counts.
        unknown_per_second: Requests of one address without a valid token, sustained.
        unknown_burst: The same at once; a page has dozens of files before anybody has come in.
        unknown_bytes: Largest body of a request without a valid token.
        in_flight: Requests worked on at once; more are answered 503.
        streams: Open event streams at once; more are answered 503.
        generated: Most synthetic subjects of one job.
        retry_seconds: What `Retry-After` says at the least.
    """

    body_bytes: int = 4 * 2**20
    upload_bytes: int = 32 * 2**20
    json_depth: int = 32
    header_seconds: float = 10.0
    header_bytes: int = 64 * 2**10
    request_seconds: float = 15.0
    requests_per_second: float = 400.0
    burst: int = 800
    unknown_per_second: float = 20.0
    unknown_burst: int = 200
    unknown_bytes: int = 64 * 2**10
    in_flight: int = 32
    streams: int = 256
    generated: int = 10_000
    retry_seconds: int = 1


@dataclasses.dataclass(frozen=True)
class Retention:
    """How long the store keeps what; null for ever. The audit is never shortened.

    Args:
        samples_days: Vital signs.
        scores_days: Scores of the models.
        alarms_days: Alarms with their history.
    """

    samples_days: float | None = 30.0
    scores_days: float | None = 30.0
    alarms_days: float | None = 365.0


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """Everything the service is told when it starts.

    Args:
        runs: Run folders, one bundle each.
        state: Folder of what the service keeps: tokens, sessions, audit, jobs and the SQLite store.
        demo: Demo folder, where the runs came from one.
        store: SQLAlchemy address of the store; None is `ward.db` in `state`.
        host: Address to listen on.
        port: Port to listen on.
        token_file: Tokens; None is `tokens.json` in `state`.
        tls_certificate: PEM file; None is plain HTTP.
        tls_key: PEM file of its key.
        mqtt: Address of a topic whose messages are batches of samples; None for none.
        workers: Processes; more than one need a store that several can write, and one of them leads.
        replay_speed: Live seconds of the demo's replay in one second; None for no replay.
        limits: How much may be asked.
        retention: How long is kept.
    """

    runs: tuple[Path, ...]
    state: Path
    demo: Path | None = None
    store: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    mqtt: str | None = None
    workers: int = 1
    replay_speed: float | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    retention: Retention = dataclasses.field(default_factory=Retention)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise ConfigError(f"--port {self.port}: a port is a number from 0 to 65535; 0 takes a free one")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("--tls-certificate and --tls-key go together; give both or neither")
        if self.workers > 1:
            self._check_workers()

    def _check_workers(self) -> None:
        if not self.store_url.startswith("postgresql"):
            raise ConfigError(
                f"--workers {self.workers}: SQLite is written by one process; give a store that several can write, "
                "--store postgresql://USER:PASSWORD@HOST/NAME, or leave --workers out"
            )
        if self.demo is not None:
            raise ConfigError(
                f"--workers {self.workers}: a demo's replay has a clock of its own, which one process keeps; name the "
                "demo's runs instead of its folder, or leave --workers out"
            )

    @property
    def store_url(self) -> str:
        """Address of the store, the default spelled out."""
        return self.store or f"sqlite:///{self.state / 'ward.db'}"

    @property
    def tokens(self) -> Path:
        """File of the tokens."""
        return self.token_file or self.state / "tokens.json"

    @property
    def audit(self) -> Path:
        """Folder of the audit."""
        return self.state / "audit"

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
