"""Files larger than memory: the growth of a process that reads and writes them.

Each child does the same work with a small file and with a long one, in that order, and prints by
how much its peak has grown in between, and by how much the long file is longer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_CHILD = """
import json, resource, sys
from pathlib import Path
from gguf_widgets.batch.files import look, read, write

folder, ending = Path(sys.argv[1]), sys.argv[2]
unit = 1 if sys.platform == "darwin" else 1024

def rows(count):
    for number in range(count):
        yield {"n": number, "text": f"review {number}: " + "it was good " * 12, "f": number / 7}

def work(count):
    path = folder / f"{count}.{ending}"
    source = rows(count) if ending != "txt" else ({"text": row["text"]} for row in rows(count))
    assert write(path, source).num_rows == count
    look(path)
    table = read(path)
    assert sum(1 for _ in table.tuples()) == count
    write(folder / f"copy.{ending}", table)
    return path.stat().st_size

work(3000)  # whatever is loaded once is loaded now
small = work(int(sys.argv[3]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
large = work(int(sys.argv[4]))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps({"grown": after - before, "longer": large - small}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its peak cannot be asked for this way")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "txt"])
def test_memory_does_not_grow_with_the_file(ending: str, tmp_path: Path) -> None:
    result = _run(tmp_path, ending, 10_000, 200_000)
    assert result["longer"] > 25_000_000
    assert result["grown"] < result["longer"] / 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its peak cannot be asked for this way")
def test_memory_does_not_grow_with_a_parquet_file(tmp_path: Path) -> None:
    # A small file that is several groups long, as the writer holds one of them. The file is packed;
    # its rows are as long as those of the other formats, where 320,000 take 56 MB.
    assert _run(tmp_path, "parquet", 80_000, 400_000)["grown"] < 56_000_000 / 3


def _run(folder: Path, ending: str, *counts: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), ending, *map(str, counts)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, int] = json.loads(done.stdout)
    return result


def test_importing_loads_neither_pandas_nor_an_optional_package() -> None:
    code = (
        "import sys, gguf_widgets.batch.files;"
        "print([name for name in ('pandas', 'numpy', 'pyarrow', 'openpyxl', 'charset_normalizer')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
