"""Where the operator expects TLS: partners, domains and sender groups, in the configuration or in a file of their own."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Names = list[Annotated[str, Meta(min_length=1)]]


class RequiredPartner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody whom mail goes to and comes from under TLS only."""

    name: Annotated[str, Meta(description="What reports and records call it.", min_length=1)]
    domains: Annotated[Names, Meta(description="Domains of mail addresses. `*.example.org` is every domain below it, not itself.")] = (
        msgspec.field(default_factory=list)
    )
    hosts: Annotated[Names, Meta(description="Names of its servers and clients, in the same form.")] = msgspec.field(default_factory=list)
    networks: Annotated[Names, Meta(description="Addresses of its servers and clients, e.g. `192.0.2.0/24`.")] = msgspec.field(
        default_factory=list
    )


class RequireTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where TLS is expected. Marks records (`cisco_esa.tls.expected`) and feeds the compliance report; it changes no outcome."""

    partners: Annotated[list[RequiredPartner], Meta(description="Partners, with their domains and hosts.")] = msgspec.field(
        default_factory=list
    )
    domains: Annotated[Names, Meta(description="Single domains: each is a partner of that name.")] = msgspec.field(default_factory=list)
    sender_groups: Annotated[Names, Meta(description="Sender groups of the HAT whose clients are expected to use TLS.")] = msgspec.field(
        default_factory=list
    )
    file: Annotated[str | None, Meta(description="YAML file with more of these keys (but `file`), read at the start and at SIGHUP.")] = None

    def all_partners(self) -> list[RequiredPartner]:
        """The partners, and the single domains as such."""
        return [*self.partners, *(RequiredPartner(name=domain, domains=[domain]) for domain in self.domains)]

    def merged_with(self, other: RequireTls) -> RequireTls:
        """Both lists in one."""
        return RequireTls(
            partners=[*self.partners, *other.partners],
            domains=[*self.domains, *other.domains],
            sender_groups=[*self.sender_groups, *other.sender_groups],
        )
