"""Measurements. Ratios within one run, medians and spread; never part of the tests."""
