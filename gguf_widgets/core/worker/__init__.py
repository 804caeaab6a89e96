"""The process boundary: one worker process owns one loaded model and serves any number of clients."""
