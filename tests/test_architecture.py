"""The layout of DESIGN section 3, enforced: who may import whom, how large things may be, what is not written here."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "allukan"
FILES = sorted(SOURCE.rglob("*.py"))
FREE = {"errors", "files", "options", "yaml_files", "_version"}
BELOW = {
    "options": set(),
    "ops": set(),
    "nn": {"ops"},
    "models": {"nn", "ops"},
    "data": {"nn", "ops"},
    "analysis": {"nn", "ops"},
    "training": {"models", "data", "analysis", "nn", "ops"},
    "inference": {"models", "data", "analysis", "nn", "ops"},
    "integrations": {"models", "data", "analysis", "nn", "ops"},
    "bench": {"training", "models", "data", "analysis", "nn", "ops"},
    "study": {"training", "inference", "models", "data", "analysis", "nn", "ops"},
    "cli": {"bench", "study", "training", "inference", "integrations", "models", "data", "analysis", "nn", "ops"},
}
HEAVY = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "monai", "pytorch_lightning", "PIL", "numba", "yaml"}
IMAGE_IO = {"PIL", "tifffile", "imagecodecs", "nibabel", "pydicom", "imageio", "cv2"}
OPENERS = {"open", "read_text", "write_text", "TemporaryFile", "NamedTemporaryFile", "TextIOWrapper", "FileHandler"}
ONLY_IN = {"csv": ("files.py", "tables.py"), "yaml": ("yaml_files.py",)}
RUNNERS = {"run", "Popen", "check_output"}
OTHER_OPEN = {"Image", "os", "webbrowser", "tarfile", "zipfile"}  # whose open() is of no text
BANNED = ("TODO", "FIXME", "NotImplementedError", "weights_only=False", "pickle.load", "import *")


def imports(tree, *, top_only=False):
    """Absolute names of everything imported."""
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def problems(path: Path, text: str) -> list[str]:
    """Everything in one file that breaks a rule; ``path`` is relative to the package."""
    tree, package = ast.parse(text), path.parts[0] if len(path.parts) > 1 else ""
    found = [*_layout_problems(tree, path, package), *_import_problems(tree, path, package), *_size_problems(tree, path, text)]
    found += [f"{word!r} is not written here" for word in BANNED if word in text]
    found += ["load_state_dict(strict=False)"] * bool(re.search(r"load_state_dict\([^)]*strict=False", text))
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"line {node.lineno}: bare except")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" and package != "cli":
            found.append(f"line {node.lineno}: print outside cli")
    return [*found, *_text_problems(tree)]


def _text_problems(tree):
    """Text without a named encoding is written in that of the machine, and read on another one in another."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        position = 1 if isinstance(node.func, ast.Name) and name == "open" else 0
        mode = given.get("mode", next(iter(node.args[position : position + 1]), None))
        binary = "b" in str(getattr(mode, "value", "b" if name.endswith("TemporaryFile") else ""))
        ours = isinstance(node.func, ast.Name) and name in ("read_text", "write_text")  # of allukan.files
        opens = name in OPENERS and owner not in OTHER_OPEN and not binary and not ours
        runs = name in RUNNERS and {"text", "universal_newlines"} & given.keys()
        if (opens or runs) and "encoding" not in given:
            yield f"line {node.lineno}: {name} without encoding"


def _layout_problems(tree, path, package):
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        yield "a relative import, which hides what is imported"
    if package not in BELOW and (package or path.stem not in FREE | {"__init__", "__main__"}):
        yield f"{package or path.name} has no place in the layout: add it to BELOW or FREE"


def _import_problems(tree, path, package):
    for name in imports(tree):
        root, *rest = name.split(".")
        if root == "allukan" and package in BELOW:
            other = rest[0]
            if other != package and other not in FREE | BELOW[package] and other in BELOW:
                yield f"{package} imports {other}"
        if root == "triton" and package != "ops":
            yield "triton outside ops"
        if root in IMAGE_IO and package != "data":
            yield f"{root} outside data"
        if path.name not in ONLY_IN.get(root, (path.name,)):
            yield f"{root} outside {' and '.join(ONLY_IN[root])}"
        if name.startswith("rich.markup"):
            yield "rich.markup: text on the console is no markup"
    if package == "cli":
        yield from (f"cli imports {n} at the top" for n in imports(tree, top_only=True) if n.split(".")[0] in HEAVY)
        lazy = {f"allukan.{name}" for name in BELOW["cli"]}
        yield from (f"cli imports {n} at the top" for n in imports(tree, top_only=True) if any(n.startswith(x) for x in lazy))
    if package != "cli" and path.name != "dispatch.py" and ("os.environ" in ast.unparse(tree) or "getenv" in ast.unparse(tree)):
        yield "os.environ outside cli and dispatch"


def _size_problems(tree, path, text):
    if len(text.splitlines()) > 400:
        yield "more than 400 lines"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for node in [*tree.body, *(member for found in classes for member in found.body)]:
        named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if named and ast.get_docstring(node) is None:
            yield f"{node.name} has no docstring"
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        limit = 120 if "kernel" in path.name or "triton" in path.name else 60
        if node.end_lineno - node.lineno + 1 > limit:
            yield f"{node.name} has more than {limit} lines"
        if node.name == "__init__" and len(node.args.args) + len(node.args.kwonlyargs) - 1 > 12:
            yield f"line {node.lineno}: a constructor with more than 12 arguments"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_file_keeps_the_rules(path):
    assert problems(path.relative_to(SOURCE), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("nn/x.py", "from allukan.models import AllUKAN", "nn imports models"),
        ("data/x.py", "import allukan.analysis.metrics", "data imports analysis"),
        ("training/x.py", "from allukan import inference\nimport triton", "triton"),
        ("inference/x.py", "from allukan.training import train", "inference imports training"),
        ("bench/x.py", "from allukan.study import compare", "bench imports study"),
        ("cli/x.py", "from allukan.study import compare", "cli imports allukan.study"),
        ("training/x.py", "from allukan.bench import environment", "training imports bench"),
        ("cli/x.py", "from allukan.bench import environment", "cli imports allukan.bench"),
        ("models/x.py", "from PIL import Image", "PIL outside data"),
        ("nn/x.py", "from ..models import AllUKAN", "relative import"),
        ("data/x.py", "if True:\n    from . import y", "relative import"),
        ("extras/x.py", "import json", "extras has no place"),
        ("x.py", "import json", "x.py has no place"),
        ("cli/x.py", "import torch", "cli imports torch"),
        ("models/x.py", "import os\nx = os.environ", "os.environ"),
        ("models/x.py", "\n" * 401, "400 lines"),
        ("models/x.py", "def f():\n    '''d'''\n" + "    x = 1\n" * 60, "60 lines"),
        ("models/x.py", "def f():\n    return 1", "no docstring"),
        ("models/x.py", "try:\n    x = 1\nexcept:\n    x = 2", "bare except"),
        ("models/x.py", "print(1)", "print"),
        ("data/x.py", "open('x')", "open without encoding"),
        ("data/x.py", "open('x', 'a')", "open without encoding"),
        ("data/x.py", "path.open(newline='')", "open without encoding"),
        ("data/x.py", "path.read_text()", "read_text without encoding"),
        ("data/x.py", "path.write_text(text)", "write_text without encoding"),
        ("data/x.py", "tempfile.NamedTemporaryFile('w')", "NamedTemporaryFile without encoding"),
        ("data/x.py", "logging.FileHandler(path)", "FileHandler without encoding"),
        ("data/x.py", "subprocess.run(command, text=True)", "run without encoding"),
        ("data/x.py", "from csv import reader", "csv outside"),
        ("data/x.py", "import yaml", "yaml outside"),
        ("options/x.py", "from allukan.nn import Spline", "options imports nn"),
        ("cli/x.py", "from rich.markup import escape", "rich.markup"),
        ("models/x.py", "x = 1  # TODO", "TODO"),
    ],
)
def test_the_rules_catch_what_breaks_them(path, text, word):
    assert any(word in problem for problem in problems(Path(path), text))


@pytest.mark.parametrize(
    "text",
    ["open('x', 'rb')", "path.open('wb')", "Image.open(p)", "open('x', encoding='utf-8')", "TemporaryFile()", "read_text(path)"],
)
def test_the_rule_on_encodings_lets_pass_what_is_no_text(text):
    assert problems(Path("data/x.py"), text) == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_programs_name_the_encoding(path):
    assert list(_text_problems(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_the_package_itself_imports_nothing_heavy():
    code = f"import sys, allukan; heavy = {HEAVY!r} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_test_of_ours_cannot_fail():
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        assert "raise_exception" + "=False" not in text, path


def test_typed_and_versioned():
    assert (SOURCE / "py.typed").is_file()
    import allukan

    assert set(allukan.__all__) - {"__version__"} == set(allukan._HOMES)
    assert all(getattr(allukan, name) for name in allukan.__all__)
