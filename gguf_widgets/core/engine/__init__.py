"""What runs inside the worker process: continuous batching over one model. Nothing else imports it."""
