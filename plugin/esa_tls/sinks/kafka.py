"""The `kafka` sink: a producer on confluent-kafka (librdkafka), which the extra `kafka` installs (docs/wires.md 5.1).

Rules:

1. Idempotent, `acks=all`, `murmur2_random`: each partition gets its records in order and once while this producer lives. After a restart
   records since the last durable cursor are sent again; their `record_id` repeats.
2. `send` returns when the broker has reported every record delivered. Messages never expire inside the client (`message.timeout.ms` 0): a
   message that expired and one behind it that did not would come out of order. Without any report for `failing_after_s` the `send` fails as
   transient, what is under way stays under way, and the repeated `send` waits on for it.
3. The local queue being full is back-pressure: reports are taken until there is room.
4. The broker judges whole batches, and says of none of them which record was at fault. Those of a batch that was refused (too large, bad
   timestamp) are sent again in halves until single records are refused: these are named to the dispatcher.
5. A fatal error of the idempotent producer: another producer is made, and what was not reported delivered is sent again. The same when
   certificate files have changed.
6. All calls of the client are made in one thread of the sink's own, which also takes its reports and its log.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from esa_tls.core.records import KINDS
from esa_tls.errors import ConfigError, TransientError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection
from esa_tls.wire.kafka import Message, Verdict, classify, messages_of

if TYPE_CHECKING:
    from esa_tls.core.batch import Row

log = logging.getLogger(__name__)


class _ClientLog:
    """Takes what the client library says. A broker that is away is no error of ours: nothing is lost by it."""

    def __init__(self) -> None:
        self._log = logging.getLogger("librdkafka")

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Called by the client."""
        self._log.log(min(level, logging.WARNING), message, *arguments)


ALL_DOWN = -187
"""The client's code for "all brokers are down"."""

POLL_S = 0.1
"""How long one wait for reports takes at most: so soon a shutdown is noticed."""

GOODBYE_S = 2.0
"""How long a client that is given up may take to report what it had under way."""


class ClientError(Protocol):
    """An error as the client gives it (`confluent_kafka.KafkaError`)."""

    def code(self) -> int:
        """Of the Kafka protocol, or below 0 of the client itself."""

    def str(self) -> str:
        """For people."""

    def fatal(self) -> bool:
        """Whether the producer cannot go on."""


class Client(Protocol):
    """What is used of `confluent_kafka.Producer`."""

    def produce(
        self,
        topic: str,
        *,
        value: bytes,
        key: bytes | None,
        timestamp: int,
        headers: list[tuple[str, bytes]],
        on_delivery: Callable[[Any, Any], None],
    ) -> None:
        """Queue a message. Raises BufferError when the queue is full, KafkaException."""

    def poll(self, timeout: float) -> int:
        """Call what waits to be called: reports, errors, log lines."""

    def flush(self, timeout: float) -> int:
        """Wait until nothing is under way; how much still is."""

    def purge(self, *, in_queue: bool, in_flight: bool, blocking: bool) -> None:
        """Report everything under way as failed."""


MakeClient = Callable[[Callable[[Any], None]], Client]
"""A new client that tells its errors to the function given. Raises KafkaException for settings that cannot be."""


def client_maker(properties: Mapping[str, Any], *, owner: str = "sink kafka") -> MakeClient:
    """Makes producers with these librdkafka properties. `owner` begins each message.

    Raises:
        ConfigError: confluent-kafka is not installed, or takes one of the properties for impossible.
    """
    try:
        from confluent_kafka import KafkaException, Producer  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ConfigError(f"{owner}: needs confluent-kafka: pip install 'esa-tls[kafka]'") from error

    def make(tell_error: Callable[[Any], None]) -> Client:
        made: Client = Producer({**properties, "error_cb": tell_error}, logger=_ClientLog())
        return made

    try:
        # Without servers it goes nowhere, and looks at everything else.
        Producer({**{key: value for key, value in properties.items() if key != "bootstrap.servers"}, "log_level": 0})
    except (KafkaException, ValueError, TypeError) as error:
        told = error.args[0] if error.args else error
        raise ConfigError(f"{owner}: {told.str() if hasattr(told, 'str') else told}") from error
    return make


class _Flight:
    """The records of one `send` that are not delivered yet. Used in the sink's thread only."""

    def __init__(self, rows: list[tuple[int, Row]], messages: Sequence[Message], rejections: list[Rejection]) -> None:
        self.rows = rows
        self.messages = messages
        self.rejections = rejections
        self.groups: list[list[int]] = [list(range(len(messages)))] if messages else []
        """Stretches that are sent one after the other, the next one last. Numbers are places in `messages`."""
        self.group_size = 0
        """Of the group that is being sent."""
        self.unsent: deque[int] = deque()
        self.under_way: set[int] = set()
        self.failed: dict[int, tuple[Verdict, str]] = {}
        self.reports = 0
        self.narrowing = False
        """Whether a batch was refused and its records are sent again in smaller ones."""

    def reported(self, number: int, error: ClientError | None, _message: object = None) -> None:
        """A delivery report has come."""
        self.under_way.discard(number)
        self.reports += 1
        if error is not None:
            self.failed[number] = (classify(error.code(), fatal=error.fatal()), error.str())

    def passing(self) -> tuple[Verdict, str] | None:
        """The first error that has nothing to do with the records themselves, if there is one."""
        return next((one for one in self.failed.values() if one[0].then != "refused"), None)

    def begin_again(self) -> None:
        """Put everything that is neither delivered nor refused into one group."""
        rest = {*self.unsent, *self.under_way, *self.failed, *(number for group in self.groups for number in group)}
        self.groups = [sorted(rest)] if rest else []
        self.unsent.clear()
        self.under_way.clear()
        self.failed.clear()


class KafkaSink:
    """See the module. `topics`: by kind. `tls_generation`: goes up when certificate files were changed; None: there are none."""

    encoding = "json"

    def __init__(
        self,
        make_client: MakeClient,
        topics: Mapping[str, str],
        *,
        name: str = "kafka",
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        kinds: frozenset[str] = frozenset(KINDS),
        failing_after_s: float = 30.0,
        tls_generation: Callable[[], int] | None = None,
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.cls_wanted = cls_wanted
        self.kinds = kinds
        self._make_client = make_client
        self._topics = dict(topics)
        self._failing_after_s = failing_after_s
        self._tls_generation = tls_generation
        self._now_s = now_s
        self._monotonic_s = monotonic_s

        self._client: Client | None = None
        self._generation = 0
        self._flight: _Flight | None = None
        self._last_error = ""
        self._last_verdict = Verdict(then="retry")
        self._fatal = False
        self._closed = False
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"kafka-{name}")

    async def open(self, state: bytes | None) -> None:
        """Nothing to do: the client connects when there is something to send."""

    def state(self) -> bytes | None:
        """None: the broker keeps what it reported."""
        return None

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Return when every record is reported delivered. Raises TransientError, or RecordsRejected for records it never will be."""
        if self._closed:
            raise TransientError("kafka: closed")
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._deliver, rows)
        try:
            rejections = await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stopping.set()
            work.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for it any more
            raise
        if rejections:
            raise RecordsRejected(f"kafka: {len(rejections)} records refused", rejections)

    async def close(self) -> None:
        """Give up what is under way and end the thread; a later `send` fails."""
        if self._closed:
            return
        self._closed = True
        self._stopping.set()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop_client)
        self._thread.shutdown()

    # -- in the sink's thread ----------------------------------------------------------------------------------------------------
    def _deliver(self, rows: list[tuple[int, Row]]) -> list[Rejection]:
        flight = self._flight
        if flight is None or flight.rows != rows:
            if flight is not None:
                self._drop_client()
            flight = self._flight = self._begin(rows)
        generation = 0 if self._tls_generation is None else self._tls_generation()
        if generation != self._generation and not flight.under_way:
            self._drop_client()
            self._generation = generation
        self._work_off(flight)
        self._flight = None
        return flight.rejections

    def _begin(self, rows: list[tuple[int, Row]]) -> _Flight:
        messages, unreadable = messages_of(
            [row for _, row in rows], kinds=self.kinds, topics=self._topics, now_ms=int(self._now_s() * 1000)
        )
        rejections = [Rejection(one.row, one.segment, one.record, "unreadable", one.detail) for one in unreadable]
        return _Flight(rows, messages, rejections)

    def _work_off(self, flight: _Flight) -> None:
        """Return when all groups are done. Raises TransientError; called again, it goes on from there."""
        reports, quiet_since_s = flight.reports, self._monotonic_s()
        while True:
            if self._stopping.is_set():
                raise TransientError("kafka: stopping")
            if self._fatal:
                self._drop_client()
                raise TransientError(f"kafka: the producer cannot go on, another one is made: {self._last_error}")
            stuck = flight.passing() is not None
            if not flight.under_way and (stuck or not flight.unsent):
                self._judge(flight)
                if not flight.groups:
                    return
                group = flight.groups.pop()
                flight.unsent, flight.group_size = deque(group), len(group)
                stuck = False
            if self._client is None:
                self._client = self._make_client(self._told_error)
            if not stuck:
                self._produce(flight, self._client)
            if flight.under_way or flight.unsent:
                self._client.poll(POLL_S)
            if flight.reports != reports:
                self._last_error, self._last_verdict = "", Verdict(then="retry")
                reports, quiet_since_s = flight.reports, self._monotonic_s()
            elif self._monotonic_s() - quiet_since_s >= self._failing_after_s:
                said = self._last_error or "nothing said why"
                after_s = self._last_verdict.after_s
                raise TransientError(f"kafka: nothing delivered for {self._failing_after_s:g} s: {said}", retry_after_s=after_s)

    def _produce(self, flight: _Flight, client: Client) -> None:
        """Queue what is left of the group, as much as the client's queue takes."""
        while flight.unsent:
            number = flight.unsent[0]
            message = flight.messages[number]
            flight.under_way.add(number)
            try:
                client.produce(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    timestamp=message.timestamp_ms,
                    headers=message.headers,
                    on_delivery=partial(flight.reported, number),
                )
            except BufferError:
                flight.under_way.discard(number)
                return
            except Exception as error:
                if not (error.args and hasattr(error.args[0], "code")):  # no KafkaException
                    flight.under_way.discard(number)
                    raise
                flight.reported(number, error.args[0])
                verdict, said = flight.failed[number]
                if verdict.then == "refused":  # of this one alone
                    del flight.failed[number]
                    self._reject(flight, number, verdict, said)
                else:
                    flight.unsent.popleft()
                    return
            flight.unsent.popleft()

    def _judge(self, flight: _Flight) -> None:
        """A group is through: put what has to be sent again into groups. Raises TransientError for what has to wait."""
        if passing := flight.passing():
            verdict, said = passing
            flight.begin_again()
            if verdict.then == "new_client":
                self._drop_client()
            raise TransientError(f"kafka: {said}", retry_after_s=verdict.after_s)
        refused = sorted(flight.failed)
        if flight.group_size == 1:
            for number in refused:
                self._reject(flight, number, *flight.failed[number])
        elif refused:
            if not flight.narrowing:
                flight.narrowing = True
                log.warning(
                    "The broker refused a batch; its records are sent again in smaller ones.",
                    extra={"sink": self.name, "records": len(refused), "error": flight.failed[refused[0]][1]},
                )
            middle = (len(refused) + 1) // 2
            flight.groups += [half for half in (refused[middle:], refused[:middle]) if half]
        flight.failed.clear()

    def _reject(self, flight: _Flight, number: int, verdict: Verdict, said: str) -> None:
        message = flight.messages[number]
        flight.rejections.append(Rejection(message.row, message.segment, message.record, verdict.reason, said))

    def _told_error(self, error: ClientError) -> None:
        if error.code() != ALL_DOWN or not self._last_error:  # it comes behind an error that says why
            self._last_error = error.str()
            self._last_verdict = classify(error.code())
        if error.fatal():
            self._fatal = True

    def _drop_client(self) -> None:
        """End the client; what it had under way has to be sent again."""
        client, self._client = self._client, None
        if client is not None:
            client.purge(in_queue=True, in_flight=True, blocking=True)
            client.flush(GOODBYE_S)  # reports of what was delivered after all come with it
        self._fatal = False
        if self._flight is not None:
            self._flight.begin_again()


# -- the client's properties -----------------------------------------------------------------------------------------------------
FIXED = {
    "acks": "all",
    "enable.idempotence": True,
    "message.timeout.ms": 0,
    "partitioner": "murmur2_random",
}
"""Properties that the promises rest on; no option changes them."""


def client_properties(
    servers: Sequence[str],
    *,
    compression: str,
    max_message_bytes: int,
    client_id: str,
    tls: Mapping[str, Any] | None,
    sasl: Mapping[str, str] | None,
    options: Mapping[str, str],
) -> dict[str, Any]:
    """Properties of the client. `tls`: its `ssl.*` ones, `sasl`: its `sasl.*` ones; None: without."""
    security = ("SASL_" if sasl is not None else "") + ("SSL" if tls is not None else "PLAINTEXT")
    return {
        "linger.ms": 5,
        "reconnect.backoff.max.ms": 5_000,  # ten seconds, its default, is long after a broker came back
        "topic.metadata.propagation.max.ms": 10_000,  # a topic that is not there is told so soon
        "log.connection.close": False,  # a broker that ends idle connections is nothing to be told
        **options,
        "bootstrap.servers": ",".join(servers),
        "client.id": client_id,
        "compression.type": compression,
        "message.max.bytes": max_message_bytes,
        "security.protocol": security,
        **(tls or {}),
        **(sasl or {}),
        **FIXED,
    }


def tls_properties(*, ca_file: str | None, cert_file: str | None, key_file: str | None, verify: bool) -> dict[str, Any]:
    """The `ssl.*` properties. Without `ca_file` the client looks for the system's authorities where systems have them."""
    found: dict[str, Any] = {"enable.ssl.certificate.verification": verify, "ssl.ca.location": ca_file or "probe"}
    if cert_file is not None and key_file is not None:
        found |= {"ssl.certificate.location": cert_file, "ssl.key.location": key_file}
    return found
