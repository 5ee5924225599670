"""A Kafka broker in memory, behind the part of confluent-kafka's Producer that the sink uses. Real ones run in tests/peers/test_kafka.py.

A producer queues, sends what is queued when it is polled, and reports each message. Errors have the codes of the Kafka protocol (10: too
large, 19: not enough replicas) and of librdkafka (-150: fatal, -152: purged).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

TOO_LARGE = 10
NOT_ENOUGH_REPLICAS = 19
PURGED = -152
FATAL = -150


class FakeKafkaError:
    """As confluent_kafka.KafkaError."""

    def __init__(self, code: int, text: str = "told to", *, fatal: bool = False) -> None:
        self._code, self._text, self._fatal = code, text, fatal

    def code(self) -> int:
        return self._code

    def str(self) -> str:
        return self._text

    def fatal(self) -> bool:
        return self._fatal


class FakeKafkaException(Exception):
    """As confluent_kafka.KafkaException: the error is its argument."""


class Sent(msgspec.Struct):
    """A message given to `produce`."""

    topic: str
    key: bytes | None
    value: bytes
    timestamp: int
    headers: dict[str, bytes]


class FakeBroker:
    """Takes messages. `judge`: asked for each batch; the code of the error with which the whole of it is refused, or None."""

    def __init__(self, *, max_message_bytes: int = 1_000_000, queue: int = 100_000, batch: int = 1_000_000) -> None:
        self.taken: list[Sent] = []
        self.batches: list[list[Sent]] = []
        """All that were sent, also those that were refused."""
        self.judge: Callable[[list[Sent]], int | None] = lambda _: None
        self.max_message_bytes = max_message_bytes
        self.queue = queue
        self.batch = batch
        self.producers: list[FakeProducer] = []
        self.purge_reports = True
        """Whether a purge reports what was under way, as the client's manual says."""
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        """Set when a producer waits for `open`."""

    def make(self, tell_error: Callable[[Any], None]) -> FakeProducer:
        """A `MakeClient`."""
        self.producers.append(FakeProducer(self, tell_error))
        return self.producers[-1]


class FakeProducer:
    """As confluent_kafka.Producer."""

    def __init__(self, broker: FakeBroker, tell_error: Callable[[Any], None]) -> None:
        self.broker = broker
        self.tell_error = tell_error
        self.thread = threading.get_ident()
        self.queued: deque[tuple[Sent, Callable[[Any, Any], None]]] = deque()
        self.full = 0
        """How often the queue was full."""

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
        assert threading.get_ident() == self.thread
        if len(value) > self.broker.max_message_bytes:
            raise FakeKafkaException(FakeKafkaError(TOO_LARGE, "Message size too large"))
        if len(self.queued) >= self.broker.queue:
            self.full += 1
            raise BufferError("Local: Queue full")
        self.queued.append((Sent(topic, key, value, timestamp, dict(headers)), on_delivery))

    def poll(self, timeout: float) -> int:
        assert threading.get_ident() == self.thread
        if not self.broker.open.is_set():
            self.broker.waiting.set()
            if not self.broker.open.wait(min(timeout, 0.01)):
                return 0
        reported = 0
        while self.queued:
            batch = [self.queued.popleft() for _ in range(min(self.broker.batch, len(self.queued)))]
            messages = [message for message, _ in batch]
            self.broker.batches.append(messages)
            code = self.broker.judge(messages)
            if code is None:
                self.broker.taken += messages
            if code == FATAL:
                self.tell_error(FakeKafkaError(FATAL, "fatal", fatal=True))
                self.queued.extendleft(reversed(batch))
                return reported
            for message, report in batch:
                report(None if code is None else FakeKafkaError(code), message)
                reported += 1
        return reported

    def flush(self, timeout: float) -> int:
        return len(self.queued)

    def purge(self, *, in_queue: bool, in_flight: bool, blocking: bool) -> None:
        while self.queued:
            message, report = self.queued.popleft()
            if self.broker.purge_reports:
                report(FakeKafkaError(PURGED), message)
