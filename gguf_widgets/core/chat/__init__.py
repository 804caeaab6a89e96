"""Conversations with a model, without any screen: `interface.ChatInterface` and its parts.

Promises: nothing here draws anything. Leaves to others: the store (`core.store`), tools as such
(`core.tools`), the screen (`widgets`). Nothing is imported here, since the store needs `types`.
"""
