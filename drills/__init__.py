"""Fault drills: inject faults into real processes under load, and check every answer."""
