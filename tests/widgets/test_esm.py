"""Joining a widget's ES modules into one: what is joined, and what is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gguf_widgets.dashboard.dashboard import Dashboard
from gguf_widgets.widgets._chat_parts import STYLES
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets.chat_box import ChatBox
from gguf_widgets.widgets.model_picker import ModelPicker
from gguf_widgets.widgets.model_uploader import ModelUploader

PACKAGE = Path(esm.__code__.co_filename).parent.parent
ENTRIES = {
    ChatBox: PACKAGE / "widgets" / "static" / "chat_box.js",
    ModelPicker: PACKAGE / "widgets" / "static" / "model_picker.js",
    ModelUploader: PACKAGE / "widgets" / "static" / "model_uploader.js",
    Dashboard: PACKAGE / "dashboard" / "static" / "dashboard.js",
}
END = "export default { render };\n"


def join(folder: Path, **files: str) -> str:
    """Write files, `_a` being `_a.js`, and join what begins with `entry`."""
    for name, text in files.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return esm(folder / "entry.js", folder)


def test_imported_files_come_first_once_and_deepest_first(tmp_path: Path) -> None:
    joined = join(
        tmp_path,
        entry='import { a } from "./_a.js";\nimport { b } from "./_b.js";\na(b);\n' + END,
        _a='import { b } from "./_b.js";\nexport function a() {\n  return b;\n}\n',
        _b="const two = 2;\nexport const b = two;\n",
    )
    assert joined == (
        "const two = 2;\nconst b = two;\n\n"
        "function a() {\n  return b;\n}\n\n"
        "a(b);\nexport default { render };\n"
    )


@pytest.mark.parametrize(
    "declaration",
    [
        "const x = 1;", "const x=1;", "let x;", "var x;", "class x {}", "class x extends Array {}",
        "function x() {}", "async function x() {}", "function* x() {}",
    ],
)  # fmt: skip
def test_every_kind_of_declaration_loses_its_export(tmp_path: Path, declaration: str) -> None:
    joined = join(
        tmp_path, entry='import { x } from "./_a.js";\n' + END, _a=f"export {declaration}"
    )
    assert joined == f"{declaration}\n\n{END}"


def test_a_file_of_another_folder_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "_a.js").write_text("export const a = 1;\n", encoding="utf-8")
    entry = tmp_path / "two" / "entry.js"
    entry.write_text('import { a } from "../one/_a.js";\n' + END, encoding="utf-8")
    assert esm(entry, tmp_path) == f"const a = 1;\n\n{END}"
    with pytest.raises(ValueError, match="outside of two"):
        esm(entry, tmp_path / "two")


def test_words_in_comments_and_text_are_left_alone(tmp_path: Path) -> None:
    text = (
        '/**\n * @import { A } from "./_a.js"\n * import (this) is prose\n */\n'
        '// import("x")\nuse("import", important(1), model.import(2));\n'
        "  const inner = 1;\n" + END
    )
    assert join(tmp_path, entry=text) == text


@pytest.mark.parametrize(
    "line",
    [
        'import { a as b } from "./_a.js";',
        'import * as a from "./_a.js";',
        'import a from "./_a.js";',
        'import "./_a.js";',
        "import { a } from './_a.js';",
        'import { a } from "./_a.js"',
        'import { a } from "lodash";',
        'import { a } from "https://example.org/_a.js";',
        'import {\n  a,\n} from "./_a.js";',
        '  import { a } from "./_a.js";',
        'const a = await import("./_a.js");',
        "use(import.meta.url);",
        'import { a } from "./_none.js";',
        'import { missing } from "./_a.js";',
        'import { hidden } from "./_a.js";',
        'import { a, a } from "./_a.js";',
        'export { a } from "./_a.js";',
        'export * from "./_a.js";',
        "export const { a } = b;",
        "  export const b = 1;",
        "const [a, b] = c;",
        END,
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"entry\.js"):
        join(tmp_path, entry=f"{line}\n{END}", _a="export const a = 1;\nconst hidden = 2;\n")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("export const a = 1;\nexport default a;", r"_a\.js:2: this form is not known"),
        ("export const a = 1;\nexport { a };", r"_a\.js:2: this form is not known"),
        ("export const a = 1;\nclass Twice {}", r"entry\.js:2: Twice is declared in _a\.js"),
        ('import { b } from "./_a.js";\nexport const a = 1;', r"_a\.js:1: .* imports this file"),
        ('import { b } from "./entry.js";\nexport const a = 1;', r"_a\.js:1: .* imports this file"),
    ],
)
def test_what_an_imported_file_may_not_hold(tmp_path: Path, text: str, fault: str) -> None:
    entry = f'import {{ a }} from "./_a.js";\nconst Twice = a;\n{END}'
    with pytest.raises(ValueError, match=fault):
        join(tmp_path, entry=entry, _a=text)


def test_two_imported_files_may_not_declare_the_same_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"_b\.js:1: SIZE is declared in _a\.js, too"):
        join(
            tmp_path,
            entry='import { a } from "./_a.js";\nimport { b } from "./_b.js";\n' + END,
            _a="const SIZE = 1;\nexport const a = SIZE;\n",
            _b="const SIZE = 2;\nexport const b = SIZE;\n",
        )


def test_a_widget_needs_its_default_export(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one `export default` is wanted, not 0"):
        join(tmp_path, entry="const a = 1;\n")


@pytest.mark.parametrize("widget", ENTRIES, ids=lambda widget: widget.__name__)
def test_a_widgets_module_stands_alone(widget: type, tmp_path: Path) -> None:
    module = esm(ENTRIES[widget])
    assert widget._esm == module  # type: ignore[attr-defined]
    code = re.sub(r"/\*.*?\*/", "", module, flags=re.DOTALL)
    assert not re.search(r"^\s*import\b|\bimport\s*[(.]", code, flags=re.MULTILINE)
    assert re.findall(r"^export\b.*", module, flags=re.MULTILINE) == ["export default { render };"]
    node = shutil.which("node")
    if node is None:
        pytest.skip("node was not found")
    file = tmp_path / "joined.mjs"
    file.write_text(module, encoding="utf-8")
    done = subprocess.run([node, "--check", file], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("widget", ENTRIES, ids=lambda widget: widget.__name__)
def test_a_widgets_style_begins_with_the_shared_base(widget: type) -> None:
    static = PACKAGE / "widgets" / "static"
    parts = [static / name for name in STYLES] if widget is ChatBox else []
    sheets = [static / "_base.css", ENTRIES[widget].with_suffix(".css"), *parts]
    joined = widget._css  # type: ignore[attr-defined]
    assert joined == css(*sheets[1:])
    assert joined == "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
