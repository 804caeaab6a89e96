"""What each request, each batch run and the machine did: measured, kept, and shown as tables.

`monitor` has the public class; `definitions` says what each figure means.
"""
