"""Looking after model files: whose they are, rename, remove with undo, verify, convert.

`ownership` says which program a file belongs to; only files in our own models folder are ever
renamed or removed (`rename`, `trash`). `verify` reads files and changes none. `convert` writes a
new file beside the others. What they share: `members` (the files of one model), `names` (what a
file may be called), `moves` (all or none), `in_use` (who has it loaded), `progress`.
"""
