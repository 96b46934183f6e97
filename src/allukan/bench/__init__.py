"""Measurements that ship with the package: speed and memory, always as ratios within one run."""
