"""What a developer's machine needs around the service."""
