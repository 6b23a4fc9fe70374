"""Rounds of load, kills, cuts and restores on real servers; ``python -m torture``."""
