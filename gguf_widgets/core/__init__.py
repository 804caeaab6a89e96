"""The shared inference core: no Jupyter, no plotting, and pandas only inside ``to_frame``."""
