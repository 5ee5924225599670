"""`python -m esa_tls.cli` is `esa-tls`."""

from esa_tls.cli import main

if __name__ == "__main__":
    main()
