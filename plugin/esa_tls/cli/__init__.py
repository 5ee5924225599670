"""The commands, and the only package that prints or exits.

=============  =========================================================
running        `run`, `demo`
configuring    `check-config`, `config-reference`, `completion`
preparing      `templates`
reading        `scan`, `explain`, `report`
traffic        `simulate`, `send`
asking         `lookup`, `watch`
journal        `journal status`, `journal dead-letters`
pseudonym      `pseudonym key`, `pseudonym make`, `pseudonym reveal`
=============  =========================================================

`group` has what they hang on and how they end; `options` and `access` what several of them have.

Rules of this package:

1. A command turns its options into arguments and calls one function; it imports what it needs when it runs. It returns its exit
   code (None is 0); only `main` exits.
2. Exit codes: 0 = ok; 1 = a finding or failure that the command exists to report; 2 = usage or configuration.
3. What esa-tls raises on purpose is shown as one sentence on standard error, never as a traceback.
4. Results go to standard output; progress and messages to standard error. A reader that goes away ends the command quietly.
"""

from __future__ import annotations

from esa_tls.cli import asking, configuring, journal, preparing, pseudonym, reading, running, traffic
from esa_tls.cli.group import cli, main

__all__ = ["cli", "main"]

for command in (
    running.run,
    configuring.check_config,
    configuring.config_reference,
    preparing.templates,
    configuring.completion,
    journal.journal,
    pseudonym.pseudonym,
    reading.scan,
    reading.explain,
    reading.report,
    traffic.simulate,
    traffic.send,
    asking.lookup,
    asking.watch,
    running.demo,
):
    cli.add_command(command)
