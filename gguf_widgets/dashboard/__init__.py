"""The widgets composed into one page, and the Voila application that serves it."""
