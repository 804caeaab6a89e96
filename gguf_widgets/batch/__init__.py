"""Batch runs: a table in, a typed table out, nothing lost.

Promises: `processor` is the face: `BatchProcessor`, `resume`, `runs`; `run` is what a person holds.
Leaves to others: each file is about one thing. `table_rows` takes a table apart for the store and
puts it together again; ``template*`` fill a row into a prompt, `missing` says what to do about
gaps; ``output*`` say what an answer may be and read it, ``choices*`` how probable each one was.
`spec` is all of that for one run, `questions` turns rows into questions, `line` puts them in a row,
`runner` asks (`flights` are on their way, `alike` need not be asked, `keeping` is not saved yet);
`places` is where: here, by `work`, or on a ``cluster``. `outcomes` are what came of it; `progress`
and `preflight` tell, `show` shows, `frame` is the result. ``files`` reads and writes tables.
"""
