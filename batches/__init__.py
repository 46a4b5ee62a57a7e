"""Batches: files of requests that are answered when nothing more urgent waits. Knows no HTTP."""
