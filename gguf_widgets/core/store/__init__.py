"""One SQLite file: conversations and preferences, and later batch runs and measurements."""
