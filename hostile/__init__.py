"""What an input costs: every kind of worst request at full speed, and what others see of it."""
