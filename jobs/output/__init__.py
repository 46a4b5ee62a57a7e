"""Vectors to Parquet files and PostgreSQL tables."""
