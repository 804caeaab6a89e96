"""Tables in files: looked at, read row by row, written.

Promises: these are the names to use from outside; importing this loads neither pandas nor any
optional package. Leaves to others: everything that is done with the rows.

==============  ====================================================================================
`look`          what a file is, what is wrong with it, its first rows (`looking`)
`read`          typed rows, in constant memory (`reading`)
`write`         a DataFrame or rows to a file, whole or not at all (`writing`)
`read_requests` OpenAI's batch requests (`read_openai`), `write_results` their results
==============  ====================================================================================

From bytes to rows: `source` (bytes, lines) -> `formats`, `encoding`, `dialect` (what it is), put
together by `opening` -> one reader a format (`read_delimited`, `read_json`, `read_lines`,
`read_excel`, `read_parquet`, `read_openai`) -> `kinds` (what a column's values are), `names`.
From rows to bytes: `row_input` -> `values` -> `write_text`, `write_excel`, `write_parquet` ->
`new_file`. `limits` has every number beyond which a file is not believed.
"""

from __future__ import annotations

from gguf_widgets.batch.files.formats import ENDINGS, Format
from gguf_widgets.batch.files.kinds import Kind
from gguf_widgets.batch.files.looking import TableInfo, look
from gguf_widgets.batch.files.openai_requests import OpenAiRequest
from gguf_widgets.batch.files.openai_results import OpenAiResult, result_line, write_results
from gguf_widgets.batch.files.read_openai import FaultyRequest, RequestSource, read_requests
from gguf_widgets.batch.files.reading import RowSource, read
from gguf_widgets.batch.files.source import Pasted, TableSource
from gguf_widgets.batch.files.writing import Written, write

__all__ = [
    "ENDINGS",
    "FaultyRequest",
    "Format",
    "Kind",
    "OpenAiRequest",
    "OpenAiResult",
    "Pasted",
    "RequestSource",
    "RowSource",
    "TableInfo",
    "TableSource",
    "Written",
    "look",
    "read",
    "read_requests",
    "result_line",
    "write",
    "write_results",
]
