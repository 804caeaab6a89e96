"""The sentences the demo model is trained and measured on: pure Python, all from a seed."""
