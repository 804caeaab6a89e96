"""How the two sides of a connection show each other that they may read the worker's secret file.

Promises: the secret itself never crosses the connection, and a proof that was overheard is good for
nothing else. Leaves to others: the messages that carry it (`protocol`), the file (`registry`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

__all__ = ["new_nonce", "proof_of"]


def new_nonce() -> str:
    """Return a random text that makes a proof good for one handshake."""
    return secrets.token_hex(16)


def proof_of(secret: str, side: str, nonce: str) -> str:
    """Return the proof that `side` ("client" or "worker") knows the secret, for this nonce."""
    return hmac.new(secret.encode(), f"{side}:{nonce}".encode(), hashlib.sha256).hexdigest()
