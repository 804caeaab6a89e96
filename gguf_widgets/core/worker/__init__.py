"""The process boundary: one worker process owns a loaded model and serves any number of clients."""
