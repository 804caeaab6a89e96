"""Model files from a browser: received, checked and put into the models folder.

Promises: see `store`. This docstring is what the browser's side is written against.

**One upload.** `UploadStore.begin` takes the file's name, size, time and first 64 KiB. It cleans
the name, judges the beginning, looks for room, and answers with an `Upload`: its ``id``, a secret
``writer`` (the right to write; keep it for as long as the page lives), and ``send_from``, where to
begin to send. Pieces of 1 byte to 16 MiB go to `UploadStore.write` in order; each answer has
``offset``, where the next belongs. When ``offset`` is ``size``, `UploadStore.start_finish` begins
the last check; ask `UploadStore.status` (twice a second is enough) until ``state`` is "done",
"already_there" or "failed".

**Going on.** After a dropped connection, a closed page or a restarted server, `begin` again with
the same file (and the ``writer``, if the page still has it) finds the upload and says where to go
on. ``send_from`` is then up to 64 KiB before ``offset``: those bytes are compared, so that a file
that was changed meanwhile is noticed. Whatever is sent again is compared, not written twice.

What is recognised is a file of the same name, size, time and beginning. It cannot be known whether
the rest is the same as well; so a page must not go on with a file whose reading failed or whose
time has changed under way (the browser refuses to read those), and the check at the end is of the
file's structure, not against the sender's bytes, unless `finish` is given an ``expected_sha256``.

**States.** ``waiting`` (for its turn: ask `status` every second, which keeps its place; send when
it is ``receiving``), ``receiving``, ``paused``, ``checking``, ``failed`` (``error`` says why; after
"exists" finish again with ``save_as``), ``done``, ``already_there`` (``path`` is the same file,
found by SHA-256; the part was removed), ``damaged``.

**Refusals.** Each is an `UploadError` with ``details["problem"]``, or a `ModelFileError` (the file
is no use; the sentences are those of the model list; ``removed`` is true if a part had to go):

=============  ===================================================================================
name           it is no text, or too long to be a name
size           no number, nothing, or more than the limit
head           the first bytes did not come with `begin`
time           the file's time is no whole number of milliseconds
space, quota   no room (``needed_bytes``, ``free_bytes`` or ``limit``); what arrived is kept
too_many       500 uploads are unfinished already (``limit``)
exists         the name is taken; ``path`` says by what, ``suggestion`` is a free name (``save_as``)
in_use         another page is sending this file; ``owner`` says which (``take_over=True`` goes on)
taken_over     another page has taken over; this one has to stop
waiting        it is not this upload's turn
paused         it has to be resumed first
gap            something before this piece is missing; go on at ``offset``
piece          a piece without bytes or without a place
too_long       a piece beyond the file's end, or more than 16 MiB
changed        bytes that were sent again differ from those that arrived: not the same file
incomplete     `finish` before all has arrived; go on at ``offset``
wrong_hash     not the SHA-256 that was expected; the part is removed
cancelled      the check was stopped by a pause or a cancel
interrupted    whoever checked it has ended meanwhile (only in ``error``); finish again
unknown        no such upload (any more)
damaged        its state or its part is not as it was left; remove it
folder         the models folder cannot be used, or a link is in the hidden folder's place
disk           the disk failed; what arrived is kept
busy           another program holds the folder's lock; try again
=============  ===================================================================================

**What survives.** A process that is killed: every byte that was written. A machine that loses its
power: what was handed to the disk, every 64 MiB (the state says so, and the rest is sent again). A
full disk: what arrived. A finished file appears under its name in one step, synced, and never
before it is whole and judged; parts are in a hidden folder, where the library does not look.

**Comms.** Where there is no HTTP route, an `UploadSession` takes pieces of 4 MiB, four in flight.
"""

from __future__ import annotations

from gguf_widgets.core.upload.finishing import HEAD_BYTES
from gguf_widgets.core.upload.limits import UploadLimits
from gguf_widgets.core.upload.messages import MAX_WRITE_BYTES
from gguf_widgets.core.upload.names import CleanName, clean_name
from gguf_widgets.core.upload.progress import Upload, UploadOwner
from gguf_widgets.core.upload.session import UploadSession
from gguf_widgets.core.upload.store import UploadStore
from gguf_widgets.core.upload.turns import UploadTurns

__all__ = [
    "HEAD_BYTES",
    "MAX_WRITE_BYTES",
    "CleanName",
    "Upload",
    "UploadLimits",
    "UploadOwner",
    "UploadSession",
    "UploadStore",
    "UploadTurns",
    "clean_name",
]
