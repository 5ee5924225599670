"""Deliveries: which connection a job takes, how STARTTLS goes on it, how the attempt ends, and what is tried again.

A connection to a host serves one job after the other, stays idle for five seconds, and closes. Hosts that do not get through STARTTLS where
TLS is required block the attempt before it starts; the job is tried again on another connection, or given up.
One delivery record is due for every attempt and every result in it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from esa_tls.offline.simulate_children import bounce_child
from esa_tls.offline.simulate_model import Actor, Connection, Host, Job, Message, Recipient, World, stamp_text
from esa_tls.offline.simulate_text import (
    CIPHERS,
    EXPIRY,
    HARD_REFUSALS,
    INTERFACES,
    RECEIVED_HEADERS,
    REPLIES,
    RESET_REASON,
    SOFT_REFUSALS,
    TLS_DELAY,
    pick,
    python_repr,
)
from esa_tls.offline.simulate_truth import delivery_record

_IDLE_S: Final = 5.0
_BREAKS_AFTER_S: Final = 3.0
_SHORTEST_RETRY_S: Final = 960.0
_BLOCKING: Final = frozenset({"required_failing", "handshake_failing", "not_supported_required"})
# Chances of what is no attempt's doing.
_DIES_BEFORE_TLS: Final = 0.006
_KILLED: Final = 0.010
_NEVER_CLOSES: Final = 0.006
_BREAKS: Final = 0.015
_DELETED_WHILE_WAITING: Final = 0.08
_GIVEN_UP: Final = 0.5
_TRIES: Final = 3


def send(world: World, message: Message) -> None:
    """Hand every waiting recipient over to the host of its domain."""
    jobs: dict[str, Job] = {}
    for recipient in message.waiting():
        domain = (recipient.address or "").rpartition("@")[2]
        job = jobs.get(domain)
        if job is None:
            jobs[domain] = Job(message, host=recipient.host, domain=domain, recipients=[recipient])
        else:
            job.recipients.append(recipient)
    for job in jobs.values():
        _dispatch(world, job)


def finish_if_done(message: Message) -> None:
    """The last word on the last recipient ends the message."""
    if message.over() or message.waiting():
        return
    if message.unfinished:
        message.finish("settled")
    else:
        message.say(f"Message finished MID {message.mid} done")
        message.finish("finished")


def bounce(world: World, message: Message) -> None:
    """Tell the sender, if there is one."""
    child = bounce_child(world, message)
    if child is not None:
        child.say(f"MID {child.mid} queued for delivery")
        send(world, child)


def _dispatch(world: World, job: Job) -> None:
    host = job.host
    if host.idle:
        connection = host.idle.pop()
        connection.uses += 1
        world.spawn(_serve(world, connection, job))
    elif host.open < host.limit:
        host.open += 1
        world.spawn(_connect(world, job))
    else:
        host.queue.append(job)


def _leave(world: World, host: Host) -> None:
    """A connection to ``host`` is gone: the next job in line gets one of its own."""
    host.open -= 1
    if host.queue and host.open < host.limit:
        host.open += 1
        world.spawn(_connect(world, host.queue.popleft()))


def _connect(world: World, job: Job) -> Actor:
    random = world.random
    yield 0.05 + random() * 0.6
    host, message = job.host, job.message
    world.dcid += 1
    connection = Connection(world, kind="DCID", number=world.dcid, peer=host.address)
    connection.host = host
    n = connection.number
    mode = _mode_now(world, job)
    if mode == "tls":
        protocol, cipher = pick(random, CIPHERS)
        line = _success_line(world, connection, job, protocol=protocol, cipher=cipher)
        if random() < 0.1:
            connection.decide("success", "line")
            connection.say(line)
            connection.say(_opened_line(connection))
        else:
            connection.say(_opened_line(connection))
            yield 0.05 + random() * 0.4
            connection.decide("success", "line")
            connection.say(line)
    else:
        connection.say(_opened_line(connection))
        yield 0.05 + random() * 0.6
        ip = f"IP {host.address} " if random() < 0.5 else ""
        if not message.plain and random() < _DIES_BEFORE_TLS:
            connection.say(_error_line(connection, job, details="EOF"))
            connection.decide("unknown", "gap")
            connection.finish("error")
            _leave(world, host)
            _retry_later(world, job)
            return
        if mode in ("not_supported", "not_supported_required"):
            connection.say(f"DCID {n} STARTTLS command not supported{pick(random, ('', '.'))}")
            connection.failure = "starttls_not_offered"
        elif mode == "unexpected_response":
            connection.decide("failed", "line")
            connection.failure = "starttls_unexpected_response"
            connection.say(f"DCID {n} {ip}TLS failed: STARTTLS unexpected response")
        if mode in _BLOCKING:
            yield from _block(world, connection, job, mode=mode)
            return
    yield random() * 0.3
    yield from _serve(world, connection, job)


def _mode_now(world: World, job: Job) -> str:
    """How the host takes STARTTLS this time: a blocking host may have been mended since the last try."""
    host, message = job.host, job.message
    if message.plain:
        return "tls"
    if host.mode in _BLOCKING and job.tries and (world.random() < 0.4 or (job.tries >= _TRIES and not message.sender)):
        return "tls"
    return host.mode


def _success_line(world: World, connection: Connection, job: Job, *, protocol: str, cipher: str) -> str:
    n = connection.number
    form = world.random()
    if form < 0.06:
        return f"DCID {n} TLS success CN: <Messaging Gateway Appliance Demo Cert>"
    connection.protocol, connection.cipher = protocol, cipher
    tail = f" CN=mx.{job.domain}" if form < 0.2 else f" for {job.domain}" if form < 0.45 else ""
    return f"DCID {n} TLS success protocol {protocol} cipher {cipher}{tail}"


def _opened_line(connection: Connection) -> str:
    return f"New SMTP DCID {connection.number} interface {INTERFACES[0][1]} address {connection.peer} port 25"


def _error_line(connection: Connection, job: Job, *, details: str) -> str:
    return (
        f"Connection Error: DCID {connection.number} domain: {job.domain} IP: {connection.peer} port: 25 details: {details} "
        f"interface: {INTERFACES[0][1]} reason: network error"
    )


def _block(world: World, connection: Connection, job: Job, *, mode: str) -> Actor:
    """STARTTLS was not got through and the mail stays: no Delivery start, one Delayed or Bounced line for each recipient."""
    message, n = job.message, connection.number
    connection.decide("failed", "line")
    if mode == "handshake_failing":
        bare = world.random() < 0.3
        connection.failure = "reset"
        if bare:
            connection.failure = None
            connection.open.append("cisco_esa.tls.failure.class")
        connection.say(f"DCID {n} TLS failed" if bare else f"DCID {n} TLS failed: {RESET_REASON}")
    else:
        connection.required = True
        connection.failure = "required_not_negotiated"
        if mode == "not_supported_required":
            # Two sentences of the specification differ: required_not_offered or required_not_negotiated.
            connection.open.append("cisco_esa.tls.failure.class")
        connection.say(f"DCID {n} IP {connection.peer} TLS was required but could not be successfully negotiated")
    job.tries += 1
    job.blocked = True
    message.attempts += 1
    given_up = job.tries >= _TRIES and bool(message.sender) and world.random() < _GIVEN_UP
    word, text = ("Bounced", EXPIRY) if given_up else ("Delayed", TLS_DELAY)
    for recipient in job.recipients:
        connection.say(f"{word}: DCID {n} MID {message.mid} to RID {recipient.rid} - {text} []")
    _record(message, job.recipients, "tls_blocked", connection=connection, in_clear=None)
    if given_up:
        message.settle(job.recipients, "tls_blocked", connection=connection, in_clear=None)
        if not message.over():
            message.open.append("cisco_esa.recipients.result")
        bounce(world, message)
        finish_if_done(message)
    else:
        _say_pending(world, connection, job, job.recipients)
        _retry_later(world, job)
    yield 0.3 + world.random()
    connection.say(f"DCID {n} close")
    connection.finish("close")
    _leave(world, job.host)


def _serve(world: World, connection: Connection, job: Job) -> Actor:
    """One job after the other, until the connection is lost or nobody is in line."""
    host = job.host
    while True:
        alive = yield from _attempt(world, connection, job)
        if not alive:
            _leave(world, host)
            return
        if not host.queue:
            break
        job = host.queue.popleft()
    host.idle.append(connection)
    draw = 1.0 if job.message.plain else world.random()
    if draw < _KILLED:
        world.spawn(_end_idle(world, connection, connection.uses, how="killed"), _IDLE_S)
    elif draw < _KILLED + _NEVER_CLOSES:
        world.spawn(_end_idle(world, connection, connection.uses, how="timeout"), _IDLE_S)
    elif draw < _KILLED + _NEVER_CLOSES + _BREAKS and connection.outcome == "success":
        world.spawn(_end_idle(world, connection, connection.uses, how="broken"), _BREAKS_AFTER_S)
    else:
        world.spawn(_end_idle(world, connection, connection.uses, how="close"), _IDLE_S)


def _end_idle(world: World, connection: Connection, uses: int, *, how: str) -> Actor:
    host = connection.host
    if host is None or connection.uses != uses or connection not in host.idle:
        return
    host.idle.remove(connection)
    n = connection.number
    match how:
        case "killed":
            connection.say(f"SMTP client connection killed DCID: {n}")
            connection.finish("killed")
        case "timeout":
            connection.finish("timeout")
        case _:
            if how == "broken":
                connection.broken = True
                connection.failure = "reset"
                connection.say(f"DCID {n} TLS failed: {RESET_REASON}")
                yield 0.5
            connection.say(f"DCID {n} close")
            connection.finish("close")
    _leave(world, host)


def _attempt(world: World, connection: Connection, job: Job) -> Generator[float, None, bool]:
    """From Delivery start to the results; False: the connection is gone."""
    random, message, n = world.random, job.message, connection.number
    if connection.outcome is None:
        connection.decide("none", "absence" if connection.failure is None else "line")
    in_clear = connection.in_clear
    message.attempts += 1
    job.blocked = False
    ordinal = message.attempts
    mid = message.mid
    rids = _rid_list(job.recipients)
    connection.say(f"Delivery start DCID {n} MID {mid} to RID {rids}")
    draw = random()
    yield 20.0 + draw * 10_000.0 if draw < 0.01 and not message.plain else 0.1 + draw * 1.2
    plan = "delivered" if message.plain or not message.sender else world.attempt_plans.pick(random())
    if plan in ("some_bounced", "some_delayed") and len(job.recipients) < 2:
        plan = "delivered"
    if plan in ("delayed", "some_delayed", "connection_error") and job.tries >= _TRIES:
        plan = "delivered"
    match plan:
        case "connection_error":
            connection.say(_error_line(connection, job, details=RESET_REASON))
            _record(message, job.recipients, "connection_error", connection=connection, in_clear=in_clear, ordinal=ordinal)
            connection.finish("error")
            job.tries += 1
            _remember_leg(job.recipients, connection, in_clear=in_clear)
            _retry_later(world, job)
            return False
        case "uncertain":
            connection.say(f"Possible Delivery: DCID: {n} MID {mid} to {rids}")
            _record(message, job.recipients, "uncertain", connection=connection, in_clear=in_clear, ordinal=ordinal)
            message.settle(job.recipients, "uncertain", connection=connection, in_clear=in_clear)
            finish_if_done(message)
            yield 0.5
            connection.say(f"DCID {n} close")
            connection.finish("close")
            return False
    half = len(job.recipients) // 2 if plan.startswith("some_") else len(job.recipients)
    refused = job.recipients[:half] if plan != "delivered" else []
    taken = [r for r in job.recipients if r not in refused]
    mixed = ["cisco_esa.delivery.ordinal"] if refused and taken else []
    if plan in ("bounced", "some_bounced"):
        for recipient in refused:
            connection.say(f"Bounced: DCID {n} MID {mid} to RID {recipient.rid} - {_refusal(world)} []")
        _record(message, refused, "bounced", connection=connection, in_clear=in_clear, ordinal=ordinal, open_paths=mixed)
        message.settle(refused, "bounced", connection=connection, in_clear=in_clear)
        bounce(world, message)
    elif refused:
        text = pick(random, SOFT_REFUSALS)
        for recipient in refused:
            connection.say(f"Delayed: DCID {n} MID {mid} to RID {recipient.rid} - {text} []")
        _record(message, refused, "delayed", connection=connection, in_clear=in_clear, ordinal=ordinal, open_paths=mixed)
        _remember_leg(refused, connection, in_clear=in_clear)
        later = Job(message, host=job.host, domain=job.domain, recipients=refused)
        later.tries = job.tries + 1
        _say_pending(world, connection, later, refused)
        _retry_later(world, later)
    if taken:
        if refused:
            yield random() * 0.8
        _deliver(world, connection, message, taken, in_clear=in_clear, ordinal=ordinal, open_paths=mixed)
    else:
        finish_if_done(message)
    return True


def _deliver(
    world: World,
    connection: Connection,
    message: Message,
    taken: list[Recipient],
    *,
    in_clear: bool | None,
    ordinal: int,
    open_paths: list[str],
) -> None:
    """The server took the mail: Message done, its answer, and the end of the message if this was the last recipient."""
    random, n, mid = world.random, connection.number, message.mid
    rids = _rid_list(taken)
    done = f"Message done DCID {n} MID {mid} to RID {rids}"
    draw = random()
    if draw < 0.05:
        connection.say(done)
    if draw < 0.3:
        pretended = world.pretended()
        headers = pick(random, RECEIVED_HEADERS) if pretended is None else f"[('from', '\"{pretended}\" <x@example.net>')]"
        connection.say(f"{done} {headers}")
    else:
        connection.say(done)
    _record(message, taken, "delivered", connection=connection, in_clear=in_clear, ordinal=ordinal, open_paths=open_paths)
    message.settle(taken, "delivered", connection=connection, in_clear=in_clear)
    pretended = world.pretended()
    reply = pick(random, REPLIES) if pretended is None else f"2.0.0 {pretended}"
    quoted = reply if random() < 0.1 else python_repr(reply)
    answer = f"MID {mid} RID {rids} Response {quoted}"
    if random() < 0.15:
        finish_if_done(message)
        connection.say(answer)
    else:
        connection.say(answer)
        finish_if_done(message)


def _refusal(world: World) -> str:
    pretended = world.pretended()
    if pretended is None:
        return pick(world.random, HARD_REFUSALS)
    return f"5.1.0 - Unknown address error ('550', ['{pretended}'])"


def _say_pending(world: World, connection: Connection, job: Job, recipients: list[Recipient]) -> None:
    till = stamp_text(world.now + 1_800.0)
    tail = " [Default]" if world.random() < 0.3 else ""
    connection.say(f"MID {job.message.mid} to RID {_rid_list(recipients)} pending till {till}{tail}")


def _retry_later(world: World, job: Job) -> None:
    world.spawn(_retry(world, job), _SHORTEST_RETRY_S + world.random() ** 2 * 3.0 * 3_600.0)


def _retry(world: World, job: Job) -> Actor:
    """Time for another try, unless an administrator took the recipients out of the queue meanwhile."""
    message = job.message
    # Deleted after a blocked attempt: blocked or undelivered? Not asked.
    if job.tries and not job.blocked and message.sender and world.random() < _DELETED_WHILE_WAITING:
        world.say_open(f"Deleted: MID {message.mid} to {_rid_list(job.recipients)}")
        message.settle(job.recipients, "deleted")
        finish_if_done(message)
        return
    _dispatch(world, job)
    yield from ()


def _remember_leg(recipients: list[Recipient], connection: Connection, *, in_clear: bool | None) -> None:
    for recipient in recipients:
        recipient.outcome = connection.outcome
        recipient.in_clear = in_clear


def _rid_list(recipients: list[Recipient]) -> str:
    if len(recipients) == 1:
        return f"[{recipients[0].rid}]"
    return str([r.rid for r in recipients])


def _record(
    message: Message,
    recipients: list[Recipient],
    result: str,
    *,
    connection: Connection,
    in_clear: bool | None,
    ordinal: int | None = None,
    open_paths: list[str] | None = None,
) -> None:
    sink = message.world.truth
    if sink is not None:
        sink(
            delivery_record(
                message,
                ordinal=message.attempts if ordinal is None else ordinal,
                rids=[r.rid for r in recipients],
                result=result,
                connection=connection,
                in_clear=in_clear,
                open_paths=open_paths or (),
            )
        )
