"""Dashboards and example queries, written once and said in the language of each store. `python -m tools.make_dashboards` writes them."""
