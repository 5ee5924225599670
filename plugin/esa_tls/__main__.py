"""`python -m esa_tls` is `esa-tls`."""

from esa_tls.cli import main

main()
