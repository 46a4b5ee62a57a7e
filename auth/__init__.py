"""Tokens and quotas: who is calling, and how much of the service they may still use."""
