"""Every metric esa-tls has, and the counters behind them. A leaf: imports nothing of the package.

Rules of this package:

1. A metric's name is a constant in `metrics` and its meaning stands in `METRICS`, once; spans likewise in `spans`. Docs and both
   outputs are made from these tables.
2. Counters are a plain dict of numbers, so that counting costs a dict update. Two readers look at it and never write: the Prometheus
   text page (`Counters.prometheus_text`) and the observable instruments of an OpenTelemetry meter provider (`meter_provider`).
3. A `Counters` object is handed to whoever counts; there is no global one.
4. Labels never come from outside unbounded: a metric has at most `max_series` series, what comes after is counted under `other`.
5. The label `shape` and the like are masked by who counts (digits and quoted text): no payload becomes a label.

Names follow OpenTelemetry (dotted, unit apart, UCUM units); where its semantic conventions have a metric (`process.*`) that name is
taken, the rest is `esa_tls.*`. In Prometheus each begins with `esa_tls_`, has its unit behind it and `_total` on counters.
"""

from __future__ import annotations

from esa_tls.telemetry.counters import *
from esa_tls.telemetry.metrics import *
from esa_tls.telemetry.process import *
from esa_tls.telemetry.providing import *
from esa_tls.telemetry.spans import *
