"""MQTT: batches from a broker, as JSON like the body of `POST /vitals`; a message is acknowledged once it is stored.

Quality of service 1: a message whose batch could not be stored is not acknowledged, the broker sends it again, and
its batch id says that it is the same. What can never be stored is acknowledged and counted, or it would come for ever.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from prometheus_client import Counter

from caretrace.errors import CaretraceError, ConfigError, ResourceError
from caretrace.serve.live.wire import parse_batch

if TYPE_CHECKING:
    from caretrace.serve.live.hub import Hub

log = logging.getLogger("caretrace.serve")
MESSAGES = Counter("caretrace_mqtt_messages", "Messages from the broker.", ("outcome",))
_QOS, _PORT, _TLS_PORT = 1, 1883, 8883
_AGAIN_SECONDS = 0.5


class Listener:
    """A subscription.

    Args:
        address: `mqtt://user:password@host:port/topic`, or `mqtts://…` for TLS.
        hub: Where batches go.
        most: Samples that one batch may have.
        client_id: Name at the broker, which keeps what we have not acknowledged under it.
    """

    def __init__(self, address: str, hub: Hub, most: int, client_id: str | None = None) -> None:
        self._address, self._topic = checked(address)
        self._hub, self._most = hub, most
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._id = client_id or f"caretrace-{uuid.uuid4().hex[:12]}"

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost.

        Raises:
            ConfigError: The extra `mqtt` is not installed.
        """
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError:
            raise ConfigError("--mqtt needs the extra mqtt: pip install 'caretrace[mqtt]'") from None
        self._loop = asyncio.get_running_loop()
        client = Client(CallbackAPIVersion.VERSION2, self._id, clean_session=False, manual_ack=True)
        parts = self._address
        if parts.username is not None:
            client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            client.tls_set()
        client.on_connect = self._connected
        client.on_message = self._came
        client.connect_async(
            parts.hostname or "", parts.port or (_TLS_PORT if parts.scheme == "mqtts" else _PORT)
        )
        client.loop_start()
        self._client = client

    def stop(self) -> None:
        """Hang up; what is not acknowledged comes again next time."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def _connected(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.error("mqtt: the broker refused (%s)", reason)
        else:
            client.subscribe(self._topic, _QOS)

    def _came(self, client: Any, _data: Any, message: Any) -> None:
        """In the thread of the client, which waits: messages are stored in the order in which they come."""
        assert self._loop is not None
        try:
            asyncio.run_coroutine_threadsafe(self.take(message.payload), self._loop).result()
        except Exception as error:  # noqa: BLE001 - not acknowledged: it comes again
            log.error("mqtt: a message was not taken (%s)", type(error).__name__)  # noqa: TRY400 - may name a patient
            return
        client.ack(message.mid, message.qos)

    async def take(self, payload: bytes) -> None:
        """Store one message; returns once it is on the disk, or can never be.

        Raises:
            ResourceError: The store cannot be written.
        """
        try:
            batch = await asyncio.to_thread(parse_batch, payload, self._most)
        except CaretraceError:
            MESSAGES.labels("refused").inc()
            log.warning("mqtt: a message is no batch and is left out")
            return
        while True:
            try:
                accepted = await self._hub.accept(batch)
            except TimeoutError:  # too much is waiting; the broker keeps the rest
                await asyncio.sleep(_AGAIN_SECONDS)
            except ResourceError:
                raise
            except CaretraceError as error:
                MESSAGES.labels("refused").inc()
                log.warning("mqtt: a batch was refused (%s)", type(error).__name__)
                return
            else:
                MESSAGES.labels("duplicate" if accepted.duplicate else "kept").inc()
                return


def checked(address: str) -> tuple[SplitResult, str]:
    """Parts of an address, and its topic.

    Raises:
        ConfigError: It is none.
    """
    parts = urlsplit(address)
    topic = unquote(parts.path.removeprefix("/")) + (f"#{parts.fragment}" if address.endswith("#") else "")
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not topic:
        raise ConfigError("--mqtt: give mqtt://host/topic or mqtts://user:password@host:8883/ward/+/vitals")
    return parts, topic
