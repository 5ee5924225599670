"""Stubs made by `make proto`; never edited."""
