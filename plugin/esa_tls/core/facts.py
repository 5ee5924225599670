"""The vocabulary between grammar and correlation: one `Fact` per recognised body.

A fact is what one line says by itself, before anything is joined. `action` is also the record's `event.action`.
Ids are taken from fixed places of the line only. `values` holds what else the line says, under the names listed here;
a value that is absent or empty is left out (never None, never "").

===========================  ==========================================================================================
action                       ids, then values (rows of docs/log-lines.md)
===========================  ==========================================================================================
connection-opened            icid: interface local_ip peer host verified(bool) | dcid: local_ip peer port(int)   (1-3, 31, 32)
hat-decided                  icid: policy sender_group rule sbrs(float) country                                (4-6)
reputation-scored            icid: sbrs(float)                                                                 (7)
connection-refused           policy sender_group rule sbrs; icid is absent                                     (8)
hat-reject-delayed           icid: peer                                                                        (22)
tls-succeeded                icid|dcid: protocol cipher cn domain                                              (9, 10, 33-36)
tls-failed                   icid|dcid: reason peer                                                            (11-13, 37, 38, 41)
tls-required-failed          icid|dcid: reason peer                                                            (14, 39)
tls-data-read                icid, mid                                                                         (30)
starttls-not-supported       dcid                                                                              (40)
certificate-verified         dcid: "Certificate verification successful"                                       (DANE, memory only)
connection-lost              icid: peer interface reason                                                       (15, 19)
connection-closed            icid|dcid                                                                         (16, 54)
connection-killed            icid|dcid                                                                         (17, 55)
connection-exited            dcid: reason                                                                      (55)
connection-disconnected      icid: peer reason                                                                 (18)
connection-error             dcid: domain peer port(int) details local_ip reason                               (42, 43)
receiving-failed             icid: reason                                                                      (20)
connection-limit-reached     icid: peer                                                                        (21)
smtp-auth                    icid: user mechanism profile result(succeeded|failed)                             (23)
smtp-auth-required           icid                                                                              (24)
sender-verification          icid: address result(rejected|allowed) reason                                     (25)
address-invalid              icid [mid]: reason                                                                (26)
command-refused              icid: reason                                                                      (27)
recipients-throttled         [icid]: reason                                                                    (28, 29)
message-started              mid, icid: note                                                                   (56)
sender-accepted              mid, icid: address                                                                (57)
recipient-accepted           mid, icid, rids=(rid,): address                                                   (58)
recipient-rejected           mid, icid: address by                                                             (59)
bounce-verification          mid, icid                                                                         (60)
message-id                   mid: message_id (without angle brackets)                                          (61)
subject                      mid: subject                                                                      (62)
message-received             mid: size_bytes(int) address                                                      (63)
policy-matched               mid: mail_policy table(inbound|outbound)                                          (64)
engine-verdict               mid: engine verdict                                                               (65-67, 69, 71)
authentication-verdict       mid: engine(SPF|DKIM|DMARC) verdict                                               (68)
attachment                   mid: attachment                                                                   (70)
url                          mid                                                                               (70)
custom-log-entry             mid                                                                               (70)
incoming-relay               mid: relayed_ip                                                                   (72)
message-quarantined          mid: quarantine reason                                                            (73, 75 Quarantined)
quarantine-tagged            mid                                                                               (75 Tagging, `new reason`)
quarantine-released          mid: quarantine (absent = all quarantines) reason                                 (74)
quarantine-deleted           mid: quarantine (absent = all quarantines) reason                                 (74)
rpc-delivery-started         mid [rids]: rcid(int)                                                             (76)
rpc-delivery-done            mid [rids]: rcid(int)                                                             (76, 47c)
rpc-delivery-rejected        mid: rcid(int)                                                                    (76)
rpc-connection               rcid(int)                                                                         (76)
message-queued               mid                                                                               (77)
message-finished             mid: how(done|aborted)                                                            (78)
message-aborted              mid: reason                                                                       (79)
message-dropped              mid: reason                                                                       (80)
message-bounced              mid: reason                                                                       (80)
message-summarised           mid: address total_recipients(int)                                                (81)
recipient-dropped            mid, rids: address reason                                                         (82, global unsubscribe)
recipient-bounced            mid, rids: address reason                                                         (82, global unsubscribe)
recipient-rerouted           mid, rids: address                                                                (82)
alias-matched                [mid, rids]: address                                                              (82)
header-masqueraded           mid                                                                               (83)
scan-skipped                 mid                                                                               (84)
message-traced               mid                                                                               (85: `MID n: text`)
message-split                mid=child: parent(int) mail_policy table                                          (86)
message-rewritten            mid=new: parent(int) by                                                           (87)
message-copied               mid=child: parent(int) by child_kind(copy|notify)                                 (88)
bounce-generated             mid=child: parent(int)                                                            (89)
message-reinjected           mid=new: parent(int)                                                              (90)
split-failed                 mid                                                                               (91)
delivery-started             dcid, mid, rids                                                                   (44)
delivery-done                dcid, mid, rids                                                               (45; no header list)
delivery-response            mid, rids: response code(int) enhanced_code                                       (46)
delivery-bounced             [dcid], mid, rids: enhanced_code reason code(int) response sender address         (47, 47b, 48)
delivery-delayed             [dcid], mid, rids: the same                                                       (49, 47b)
delivery-pending             mid, rids: retry_at(str, the raw time text)                                       (50)
delivery-double-bounced      mid, rids: enhanced_code reason                                                   (51)
delivery-uncertain           dcid, mid, rids                                                                   (52)
recipients-deleted           mid, rids                                                                         (53)
log-began, log-ended         nothing                                                                           (s1)
version                      version serial_number                                                             (s1)
utc-offset                   offset_s(int)                                                                     (s1)
system-started               nothing                                                                           (s1)
system-message               nothing: a known line without any id (Status, SenderBase upload, alerts, DNS ...)
unrecognised                 ids only if they stand in the fixed place at the start (`MID n`, `ICID n`, `DCID n`, `RCID n`)
===========================  ==========================================================================================

`dcid` 0 and `icid` 0 mean "none, finally" and are kept as 0 in the fact.
`rids` that could not be read to their end (a cut line) are absent, and `truncated` is True in `values`.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

Value = str | int | float | bool


@mypyc_attr(acyclic=True, free_list_len=1)
class Fact:
    """What one line says. Never holds anything that was searched for in free text."""

    def __init__(
        self,
        action: str,
        icid: int | None = None,
        dcid: int | None = None,
        mid: int | None = None,
        rids: tuple[int, ...] | None = None,
        values: dict[str, Value] | None = None,
    ) -> None:
        self.action = action
        self.icid = icid
        self.dcid = dcid
        self.mid = mid
        self.rids = rids
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fact) and self._said() == other._said()

    def __hash__(self) -> int:
        return hash((self.action, self.icid, self.dcid, self.mid, self.rids))

    def __repr__(self) -> str:
        return f"Fact{self._said()}"

    def _said(self) -> tuple[object, ...]:
        return self.action, self.icid, self.dcid, self.mid, self.rids, self.values
