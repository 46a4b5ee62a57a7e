"""The worst request of each kind, sent at full speed: its cost, and its effect on other users."""
