"""Benchmarks that anybody can repeat, from the root of a checkout: ``python -m benchmarks.models --help``."""
