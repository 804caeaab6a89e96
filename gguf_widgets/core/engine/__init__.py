"""What runs inside the worker process: continuous batching over one model.

Nothing outside `core.worker.server` imports it.
"""
