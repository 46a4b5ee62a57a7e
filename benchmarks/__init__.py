"""Measurements: medians, spread, and ratios within one run. They are not part of the tests."""
