"""Test the project itself: import order, function length, and whether the documentation matches the code."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from radon.complexity import cc_visit

ROOT = Path(__file__).resolve().parent.parent

LINES = 60  # per function, including nested functions

DOCUMENTS = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "checkpoints/shakespeare/README.md",
    "docs/lecture.md", "docs/security.md", "docs/space.md", "docs/understand.md",
]  # fmt: skip
ROOMS = sorted(path.parent.name for path in (ROOT / "nanogpt").glob("*/__init__.py"))
# Files and folders that the documents mention but that exist only after use.
MADE_BY_USE = re.compile(r"(corpora|checkpoints/(?!shakespeare)[^/]+|\.venv)(/.*)?")
PATH = re.compile(r"[\w.*-]+(/[\w.*-]+)*/?")
SUFFIX = re.compile(r"\.(py|md|txt|toml|svg|png|gif|html|js|css|json|jsonl|yml|yaml|safetensors)$|/$")


# --- the files of the project --------------------------------------------------------------------------------------


@cache
def files() -> list[Path]:
    """Return git's tracked and untracked files. Without git, return all but hidden and generated files."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        git = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True, encoding="utf-8")
        found = [ROOT / name for name in git.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        made = re.compile(r"(^|/)(\.(?!ci|github)\w[^/]*/|__pycache__/|corpora/|checkpoints/(?!shakespeare/)|venv)")
        found = [path for path in ROOT.rglob("*") if not made.search(path.relative_to(ROOT).as_posix())]
    return sorted(path for path in found if path.is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode("utf-8")


def python_files() -> list[Path]:
    return [path for path in files() if path.suffix == ".py"]


def package_files() -> list[Path]:
    """Return the modules of the package, and app.py."""
    return [path for path in python_files() if name_of(path) == "app.py" or name_of(path).startswith("nanogpt/")]


# --- import order --------------------------------------------------------------------------------------------------


def module_of(path: Path) -> str:
    """Return a file's module name: nanogpt/ui/train_tab.py -> nanogpt.ui.train_tab."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Yield the dotted names that a module imports, including inside functions; `from . import x` yields module x."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{full}.{alias.name}" for alias in node.names)


@cache
def order() -> dict[str, int]:
    """Return the position of each top-level module and room in the import order of CONTRIBUTING.md."""
    [one] = [block for block in blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")) if "·" in block]
    return {name.strip(): place for place, name in enumerate(one.split("·"))}


def chapter(dotted: str) -> str | None:
    """Return the top-level module or room of a dotted name, or None for other packages and for nanogpt itself."""
    if dotted.split(".")[0] == "app":
        return "app"
    own = re.match(r"nanogpt\.(\w+)", dotted)
    if not own or not (own[1] in order() or own[1] in ROOMS or (ROOT / "nanogpt" / f"{own[1]}.py").exists()):
        return None  # torch, or a plain name such as nanogpt.__version__
    return own[1]


def modules_imported(path: Path) -> list[str]:
    return list(imported(text_of(path), module_of(path), path.name == "__init__.py"))


def wrong_arrows(module: str, names: list[str]) -> list[str]:
    """Return imports that violate the order. Inside a room, modules can import each other, but not in a cycle."""
    here = chapter(module)
    if here is None:
        # nanogpt/__init__.py imports none of them, but tells type checkers what `nanogpt.GPT` and its errors are
        typed = ("nanogpt.publish.pretrained.GPT", "nanogpt.config.NanoGPTError")
        return [f"{module} -> {name}" for name in names if chapter(name) and name not in typed]
    last = len(order())  # a module missing from the map may import all, but no module may import it
    places = {name: order().get(there, last) for name in names if (there := chapter(name)) not in (None, here)}
    return [f"{module} -> {name}" for name, place in places.items() if place >= order().get(here, last)]


def exported(source: str) -> list[str]:
    """Return a room's `__all__`: the names and modules that other rooms may import."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def past_the_door(module: str, names: list[str]) -> list[str]:
    """Return imports from another room that are not in that room's `__all__`."""
    wrong = []
    for name in names:
        _, room, *inside = [*name.split("."), ""][:3]
        if chapter(name) in ROOMS and room != chapter(module):
            init = (ROOT / "nanogpt" / room / "__init__.py").read_text(encoding="utf-8")
            wrong += [f"{module} -> {name}"] if inside[0] and inside[0] not in exported(init) else []
    return wrong


def test_every_module_and_room_has_its_place_in_the_order():
    present = {chapter(module_of(path)) for path in package_files()} - {None}
    assert present - order().keys() == set(), "give it a place in the map of CONTRIBUTING.md"
    assert order().keys() - present == set(), "the map of CONTRIBUTING.md names what is not there"


def test_every_module_is_in_one_row_of_what_it_is_about():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:the model|training it|the lecture|the system) \| (.*) \|$", text, re.M)
    assert len(rows) == 4
    modules = {path.stem for path in package_files() if path.parent.name == "nanogpt"} - {"__init__", "__main__"}
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(modules)


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_imports_point_to_the_left(path):
    assert wrong_arrows(module_of(path), modules_imported(path)) == []


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_a_room_is_entered_through_what_it_exports(path):
    assert past_the_door(module_of(path), modules_imported(path)) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_exports_what_exists(room):
    """Its docstring also says what it is for, in three lines or more."""
    path = ROOT / "nanogpt" / room / "__init__.py"
    here = {name.rpartition(".")[2] for name in modules_imported(path)} | {one.stem for one in path.parent.glob("*.py")}
    names = exported(text_of(path))
    assert names
    assert set(names) <= here
    assert len((ast.get_docstring(ast.parse(text_of(path))) or "").splitlines()) >= 3


def shadowing(init: str, modules: set[str]) -> list[str]:
    """Return names that a room's __init__ imports from a module and that hide a module with the same name."""
    taken = [node for node in ast.parse(init).body if isinstance(node, ast.ImportFrom) and node.module]
    return sorted({alias.asname or alias.name for node in taken for alias in node.names} & modules)


@pytest.mark.parametrize("room", ROOMS)
def test_no_name_of_a_room_hides_a_module_of_it(room):
    path = ROOT / "nanogpt" / room / "__init__.py"
    assert shadowing(text_of(path), {one.stem for one in path.parent.glob("*.py")}) == []


def test_a_hidden_module_would_be_seen():
    assert shadowing("from .report import Report, report\nfrom . import store", {"report", "store"}) == ["report"]


def test_no_circle_of_imports():
    modules = {module_of(path) for path in package_files()}

    def ours(name: str) -> str:  # nanogpt.config.ModelConfig -> nanogpt.config
        return name if name in modules else name.rpartition(".")[0]

    graph = {module_of(p): {ours(n) for n in modules_imported(p)} & modules - {"nanogpt"} for p in package_files()}
    assert any(graph.values())
    TopologicalSorter(graph).prepare()  # raises CycleError with the modules' names


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_only_the_page_knows_gradio_and_nothing_knows_transformers(path):
    roots = {name.split(".")[0] for name in modules_imported(path)}
    assert "transformers" not in roots
    if not (name_of(path) == "app.py" or name_of(path).startswith("nanogpt/ui/")):
        assert not roots & {"gradio", "gradio_client"}


def asks_past_the_visitor(source: str) -> list[str]:
    """Return calls that open runs or texts without checking whether the visitor owns them."""
    called = [ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    direct = r"(runs?\.)?(Run|all_runs|free_name)|(runs?\.)?Run\.create|archive\.(unpack|adopt)"
    direct += r"|prepare\.\w+|place\.start|(local|zero)\.\w+"
    texts = r"corpus\.(load|find|listed|add|rename|delete)"
    return [name for name in called if re.fullmatch(f"{direct}|{texts}", name)]


@pytest.mark.parametrize("path", [p for p in package_files() if name_of(p).startswith("nanogpt/ui/")], ids=name_of)
def test_the_page_reaches_runs_and_texts_through_the_visitor_alone(path):
    allowed = ["Run"] if name_of(path) == "nanogpt/ui/web/visit.py" else []
    assert asks_past_the_visitor(text_of(path)) == allowed


@pytest.mark.parametrize("path", [p for p in package_files() if name_of(p).startswith("nanogpt/ui/")], ids=name_of)
def test_the_page_does_not_choose_where_a_run_trains(path):
    launch = {name.split(".")[2] for name in modules_imported(path) if name.startswith("nanogpt.launch.")}
    assert launch <= {"visitors", "place", "plan", "pace", "sizes", "expiry", "counting", "serving", "rules"}


def test_a_way_past_the_visitor_would_be_seen():
    source = "x = Run(name).status()\nvisitor().run(name)\ny = corpus.load(id)\nrun: Run = prepare.new_run('a', t)"
    assert sorted(asks_past_the_visitor(source)) == ["Run", "corpus.load", "prepare.new_run"]


def test_the_checks_of_imports_see_what_they_should():
    source = "from . import page\nfrom ..train import train\ndef later():\n    import nanogpt.ui.page"
    names = list(imported(source, "nanogpt.ui.train_tab"))
    assert names == ["nanogpt.ui.page", "nanogpt.train.train", "nanogpt.ui.page"]
    assert list(imported("from . import model", "nanogpt", is_package=True)) == ["nanogpt.model"]
    assert wrong_arrows("nanogpt.train", ["nanogpt.ui.page", "torch.nn"]) == ["nanogpt.train -> nanogpt.ui.page"]
    assert wrong_arrows("nanogpt.model", ["nanogpt.optim"]) == ["nanogpt.model -> nanogpt.optim"]
    assert wrong_arrows("nanogpt.corpus.store", ["nanogpt.runs.Run"]) == ["nanogpt.corpus.store -> nanogpt.runs.Run"]
    assert wrong_arrows("nanogpt", ["nanogpt.model.GPT"]) == ["nanogpt -> nanogpt.model.GPT"]
    assert wrong_arrows("nanogpt.corpus.store", ["nanogpt.corpus.report.report", "nanogpt.config"]) == []
    assert wrong_arrows("nanogpt.runs.run", ["nanogpt.__version__"]) == []
    names = ["nanogpt.runs.rows.Tail", "nanogpt.runs.Run", "nanogpt.runs.archive.pack", "nanogpt.config.knobs"]
    assert past_the_door("nanogpt.ui.page", names) == ["nanogpt.ui.page -> nanogpt.runs.rows.Tail"]
    assert past_the_door("nanogpt.runs.run", names) == []
    assert exported("x = 1\n__all__ = ['a', 'b']") == ["a", "b"]


@pytest.mark.slow
def test_listing_runs_texts_and_commands_needs_no_torch():
    script = "import sys, nanogpt.cli.main, nanogpt.corpus, nanogpt.runs.queue\n"
    script += "nanogpt.runs.all_runs(), nanogpt.corpus.listed(), nanogpt.cli.main.parser()\n"
    script += "assert not {'torch', 'gradio', 'huggingface_hub'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_importing_all_but_the_page_is_silent_and_needs_no_gradio():
    modules = [m for p in package_files() if (m := module_of(p)) != "app" and chapter(m) not in {"ui", "__main__"}]
    if importlib.util.find_spec("triton") is None:  # comes only with torch for NVIDIA GPUs
        modules = [m for m in modules if m not in {"nanogpt.fast.cuda_block", "nanogpt.fast.cuda_character"}]
    assert "nanogpt.train" in modules
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    script += "assert not {'gradio', 'transformers'} & sys.modules.keys()"
    command = [sys.executable, "-c", script, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_wheel_holds_every_room():
    """A quick check of the settings; tests/test_package.py builds a real wheel."""
    packages = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["setuptools"]["packages"]
    rooms = [module_of(path) for path in package_files() if path.name == "__init__.py"]
    assert sorted(packages) == sorted([*rooms, "nanogpt.checkpoints.shakespeare"])


def test_git_has_every_file_of_the_package():
    """A script the page reads and git doesn't have would break every clone, and no test in this folder."""
    listing = ["git", "ls-files", "--others", "--exclude-standard", "nanogpt"]
    git = subprocess.run(listing, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert git.stdout == "", "add these with `git add`, or delete them"


# --- size limits ---------------------------------------------------------------------------------------------------


def function_lengths(source: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", python_files(), ids=name_of)
def test_functions_fit_on_a_screen(path):
    assert [(name, lines) for name, lines in function_lengths(text_of(path)) if lines > LINES] == []


# A Triton kernel: its branches are resolved at compile time.
BRANCHES = {"nanogpt/fast/cuda_character.py:project_kernel": 11}


def complexities(source: str) -> list[tuple[str, int]]:
    """Return Radon's complexity of each function and method, which also counts `and`, `or` and comprehensions.

    Several may have the same name, such as the constructors of classes.
    """
    found = [one for one in cc_visit(source) if not hasattr(one, "methods")]  # methods follow their class
    return sorted((one.name, one.complexity) for one in found)


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_functions_have_at_most_ten_branches(path):
    most = lambda name: BRANCHES.get(f"{name_of(path)}:{name}", 10)
    assert [(name, count) for name, count in complexities(text_of(path)) if count > most(name)] == []


def test_branches_are_counted():
    source = (
        "def f(a, b):\n    if a and b:\n        return [x for x in a if x]\n\nclass A:\n    def g(self): return 1\n"
    )
    assert complexities(source) == [("f", 5), ("g", 1)]
    twice = "class A:\n    def g(self): return 1 if self else 2\n\nclass B:\n    def g(self): return 1\n"
    assert complexities(twice) == [("g", 1), ("g", 2)]


def test_the_length_of_a_function_is_counted():
    assert list(function_lengths("def f():\n    x = 1\n\n    return x\n")) == [("f", 4)]
    assert list(function_lengths("def f():\n    x = 1\n\ndef f(): pass\n")) == [("f", 2), ("f", 1)]


# --- documentation -------------------------------------------------------------------------------------------------


def blocks(text: str) -> list[str]:
    """Return the contents of the fenced code blocks."""
    return re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)


def is_path(name: str) -> bool:
    """Return True for `nanogpt/ui/`, `app.py` or `docs/anything`, but not for `n_embd` or a Hub repo's `owner/name`."""
    first, slash, _ = name.partition("/")
    return bool(PATH.fullmatch(name) and (SUFFIX.search(name) or (slash and (ROOT / first).is_dir())))


def paths_in_tree(block: str) -> Iterator[str]:
    """Yield the paths in a file tree, drawn with lines or indented: each line has a name, then a description."""
    parents: list[tuple[int, str]] = []
    for line in block.splitlines():
        line = re.sub(r"[│├└─|]", " ", line)
        if not (entry := re.match(r"( *)(\S+)(?:  |$)", line)) or not is_path(entry[2]):
            continue
        while parents and parents[-1][0] >= len(entry[1]):
            parents.pop()
        path = (parents[-1][1] if parents else "") + entry[2]
        if path.endswith("/"):
            parents.append((len(entry[1]), path))
        yield path


def paths_named(text: str) -> Iterator[str]:
    """Yield the files that a document mentions in backticks, links, file trees and commands."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    yield from (name for name in re.findall(r"`([^`\n]+)`", prose) if is_path(name) and "NAME" not in name)
    yield from (name for name in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose) if "://" not in name)
    for block in blocks(text):
        if re.search(r"^\W*nanogpt/(\s|$)", block, re.M):
            yield from paths_in_tree(block)
        yield from re.findall(r"(?:python3? |-r )([\w/-]+\.(?:py|txt))", block)


def exists(path: str, beside: Path = ROOT) -> bool:
    """Return True if a path exists or is created by use (nanogpt/runs/run.py lists a run folder's files)."""
    if MADE_BY_USE.fullmatch(path.rstrip("/")) or (ROOT / path).exists() or (beside / path).exists():
        return True
    return path in re.findall(r"[\w./-]+", (ROOT / "nanogpt/runs/run.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_documents_exist(document):
    named = set(paths_named((ROOT / document).read_text(encoding="utf-8")))
    assert len(named) >= (0 if document in ("CHANGELOG.md", "checkpoints/shakespeare/README.md") else 5)
    assert {path for path in named if not exists(path, (ROOT / document).parent)} == set()


def test_every_document_is_looked_at():
    assert {name_of(path) for path in files() if path.suffix == ".md"} == set(DOCUMENTS)


def symbols_named(text: str) -> set[tuple[str, str]]:
    """Return (name, file) for each "`name` in `file.py`": a function, class or variable that a document mentions."""
    return set(re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`)]*\))?` (?:in|of|from) `([\w/]+\.py)`", text))


def defines(path: Path, symbol: str) -> bool:
    """Return True if a module defines this function, class, variable or "Class.method"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return symbol in names


@pytest.mark.parametrize("document", DOCUMENTS)
def test_symbols_named_in_the_documents_exist(document):
    named = symbols_named((ROOT / document).read_text(encoding="utf-8"))
    assert {(symbol, file) for symbol, file in named if not defines(ROOT / file, symbol)} == set()


def identifiers(path: Path) -> set[str]:
    """Return all names in a module: definitions, variables, imports, arguments and keys."""
    names = {path.stem}
    for node in ast.walk(ast.parse(text_of(path))):
        for field in ("name", "id", "attr", "arg", "asname", "value"):
            value = getattr(node, field, None)
            names |= {value} if isinstance(value, str) and value.isidentifier() else set()
    return names


def code_words(text: str) -> set[str]:
    """Return the words in a document's backticks that look like names in code: with an underscore or mixed case."""
    spans = re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", re.sub(r"```.*?```", "", text, flags=re.S))
    looks = re.compile(r".*(_|[a-z][A-Z]|[A-Z][a-z]).*|[A-Z]\w*[a-z]\w*")
    endings = (".py", ".json", ".jsonl", ".safetensors", ".txt", ".md", ".html", ".npy", ".gif", ".csv", ".toml")
    return {part for span in spans if not span.endswith(endings) for part in span.split(".") if looks.fullmatch(part)}


# Names not in the package: from the lecture (the misspelled one is spelled like that there) and other programs.
ELSEWHERE = {"BigramLanguageModel", "FeedFoward"}
ELSEWHERE |= {"AutoModelForCausalLM", "AutoTokenizer", "Makefile", "Math", "gradio_client"}


@cache
def known_names() -> set[str]:
    """Return every name in the project's code, without the tests', and every environment variable."""
    names = (identifiers(path) for path in python_files() if not name_of(path).startswith("tests/"))
    return set(re.findall(r"\bNANOGPT_\w+", " ".join(map(text_of, python_files())))).union(*names)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_in_the_documents_exist_in_the_code(document):
    assert code_words(text_of(ROOT / document)) - known_names() - ELSEWHERE == set()


def test_a_renamed_name_would_be_seen():
    text = "`Thonking`, `LanguageModel.produce()` and `train_step_gone`, but not `classic`, `a.py` or `Thinking`"
    assert {"Thonking", "train_step_gone", "LanguageModel"} <= code_words(text)
    assert not {"Thonking", "train_step_gone"} & identifiers(ROOT / "nanogpt/lecture.py")
    assert {"Thinking", "LanguageModel"} <= identifiers(ROOT / "nanogpt/lecture.py")


def test_symbols_are_found_in_a_document():
    text = "`GPT.forward` in `nanogpt/model.py`, `get_lr(step)` of `nanogpt/schedule.py` and `x` alone"
    assert symbols_named(text) == {("GPT.forward", "nanogpt/model.py"), ("get_lr", "nanogpt/schedule.py")}
    assert defines(ROOT / "nanogpt/model.py", "GPT.forward")
    assert not defines(ROOT / "nanogpt/model.py", "get_lr")


def calls_named(text: str) -> list[tuple[str, list[str]]]:
    """Return (module, arguments) for each `python -m MODULE ...` and `nanogpt COMMAND ...` in a text."""
    calls = []
    for rest in re.findall(r"python3? -m ([^`\n]+)", text):
        module, *arguments = re.split(r"[\s`]+", rest.strip())
        calls.append((module.rstrip(".,;:"), arguments))
    fenced = [line for block in blocks(text) for line in block.splitlines() if line.startswith("nanogpt ")]
    for line in [*fenced, *re.findall(r"(?:^ {4,}|`|&& )(nanogpt [a-z][^`\n]*)", text, re.M)]:
        calls.append(("nanogpt", line.split()[1:]))
    return calls


def texts_of_the_project() -> dict[str, str]:
    """Return the text of each document, and the docstrings of the package and the benchmarks, by file name."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
    for path in python_files():
        if name_of(path).split("/")[0] in ("nanogpt", "benchmarks", "app.py"):
            kinds = (ast.Module, ast.FunctionDef, ast.ClassDef)
            nodes = [node for node in ast.walk(ast.parse(text_of(path))) if isinstance(node, kinds)]
            texts[name_of(path)] = "\n".join(ast.get_docstring(node) or "" for node in nodes)
    return texts


def wrong_call(module: str, arguments: list[str], commands: dict[str, set[str]]) -> str:
    """Return the problem with a documented call (module that can't run, unknown command or flag), or ""."""
    if module in ("venv", "pip", "pytest"):
        return ""
    if module == "nanogpt":
        words = [word.strip(".,;:()") for word in arguments]
        if not words or words[0].startswith("-") or not words[0].islower():  # a placeholder such as COMMAND
            return ""
        if words[0] not in commands:
            return f"no command {words[0]}"
        flags = {re.split(r"[=\[]", word)[0] for word in words if word.startswith("--")}
        return ", ".join(sorted(flags - commands[words[0]] - {"--help"}))
    path = ROOT / module.replace(".", "/")
    if path.is_dir():
        return "" if (path / "__main__.py").exists() else "no __main__.py"
    file = path.with_suffix(".py")
    return "" if file.exists() and "__main__" in file.read_text(encoding="utf-8") else "does not run"


def flags_of_commands() -> dict[str, set[str]]:
    from nanogpt.cli.main import parser

    [choices] = [action.choices for action in parser()._actions if action.choices and not action.option_strings]
    return {name: {flag for action in sub._actions for flag in action.option_strings} for name, sub in choices.items()}


def test_calls_named_in_documents_and_docstrings_work():
    commands, wrong = flags_of_commands(), []
    for name, text in texts_of_the_project().items():
        for module, arguments in calls_named(text):
            if problem := wrong_call(module, arguments, commands):
                wrong.append(f"{name}: {module} {' '.join(arguments)}: {problem}")
    assert wrong == []


def test_a_call_that_does_not_work_is_found():
    commands = flags_of_commands()
    text = "try `python -m nanogpt.model`, `nanogpt train x --budget 3m`\n    python -m benchmarks.step --quick\n"
    assert [wrong_call(*call, commands) for call in calls_named(text)] == ["", "", ""]
    for bad in ("python -m nanogpt.gone", "python -m nanogpt.holdout", "`nanogpt tran x`", "`nanogpt train --no-flag`"):
        assert [bool(wrong_call(*call, commands)) for call in calls_named(bad)] == [True], bad


def test_names_of_files_are_found_in_a_document():
    tree = (
        "```\napp.py      the page\nnanogpt/\n├── model.py   GPT\n└── ui/\n    └── page.py  more, here\ntests/\n```\n"
    )
    text = "`nanogpt/model.py`, `n_embd`, `a / b`, `owner/name`, [the map](docs/map.md#top), [a site](https://example.org/x.md)\n"
    text += tree + "```bash\npip install -r needs.txt\npython tool.py\n```\n"
    found = {"nanogpt/model.py", "docs/map.md", "app.py", "nanogpt/", "nanogpt/ui/", "nanogpt/ui/page.py", "tests/"}
    assert set(paths_named(text)) == found | {"needs.txt", "tool.py"}
    assert not exists("nanogpt/no_such_file.py")


def commands_named(text: str) -> set[str]:
    """Return the commands in calls such as `nanogpt train`, at the start of a line or of inline code."""
    return set(re.findall(r"(?:^|`|&& )(?:python3? -m )?nanogpt ([a-z][a-z-]*)", text, re.M))


def readme() -> str:
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_the_readme_names_the_commands():
    assert {"serve", "train", "sample"} <= commands_named(readme())
    said = "an installed nanogpt keeps\nnanogpt runs --json\nsee `python -m nanogpt eval`, x && nanogpt serve"
    assert commands_named(said) == {"runs", "eval", "serve"}


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(commands_named(readme())))
def test_commands_of_the_readme_exist(command):
    call = [sys.executable, "-m", "nanogpt", command, "--help"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert command in done.stdout


def test_the_first_command_of_the_readme_comes_early():
    text = re.sub(r"\A---\n.*?^---\n", "", readme(), flags=re.M | re.S)  # the Space's front matter
    before, fence, after = text.partition("\n```")
    assert fence, "README.md has no command"
    assert re.match(r"\w*\n(pip|python|git) ", after)
    before = re.sub(r"!\[[^\]]*\]\([^)]*\)|<[^>]+>", "", before)  # images
    assert len(before.split()) <= 120


# --- other systems -------------------------------------------------------------------------------------------------

# What not every system has, and how a test says where it runs.
ONLY_SOMEWHERE = re.compile(r"/proc\b|SIG(KILL|STOP|CONT|ALRM)|\bkillpg\(|\bos\.fork\(")
SAYS_WHERE = re.compile(r"sys\.platform|hasattr\((os|signal|socket), |/proc/\w+(/\w+)?'\)\.exists\(\)")


def fit_for_some_systems(source: str) -> list[str]:
    """Return the tests that need what not every system has, themselves or by what they use, and don't say where."""
    tree = ast.parse(code_of(source))
    named = {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    named |= {name: ast.unparse(value) for name, value in assigned.items() if isinstance(value, ast.Lambda)}
    marks = {f"@{name}\n" for name, value in assigned.items() if SAYS_WHERE.search(ast.unparse(value))}
    says = lambda text: SAYS_WHERE.search(text) or any(mark in text for mark in marks)
    named = {name: text for name, text in named.items() if not says(text)}
    found = {name for name, text in named.items() if ONLY_SOMEWHERE.search(text)}
    while users := {name for name, text in named.items() if name not in found and used_in(text) & found}:
        found |= users
    return sorted(name for name in found if name.startswith("test_"))


def used_in(text: str) -> set[str]:
    return set(re.findall(r"\b[A-Za-z_]\w*", text))


@pytest.mark.parametrize("path", [p for p in python_files() if p.name.startswith("test_")], ids=name_of)
def test_a_test_that_not_every_system_can_run_says_where_it_runs(path):
    if path != Path(__file__).resolve():
        assert fit_for_some_systems(text_of(path)) == []


def test_a_test_that_some_systems_fail_would_be_seen():
    helper = "def memory():\n    return open('/proc/self/status')\n"
    tests = "def test_one():\n    assert memory()\ndef test_two():\n    os.killpg(1, 9)\n"
    guarded = "@pytest.mark.skipif(sys.platform != 'linux', reason='')\ndef test_three(): memory()\n"
    guarded += "linux = pytest.mark.skipif(sys.platform != 'linux', reason='')\n@linux\ndef test_four(): memory()\n"
    assert fit_for_some_systems(helper + tests + guarded) == ["test_one", "test_two"]
    assert fit_for_some_systems('def test_one():\n    """Not of SIGKILL."""\n') == []


# --- each fact is defined in one place -----------------------------------------------------------------------------


def code_of(source: str) -> str:
    """Return the source without comments and docstrings, in ast's normal form."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
    return ast.unparse(tree)


# fact -> the file that defines it, and a pattern that finds a second definition elsewhere
HOMES = {
    "the share of a text that is trained on": (
        "nanogpt/holdout.py",
        r"TRAIN_SHARE \*|\b0?\.9 \* (?!several)|\* 0?\.9\b",  # several: mixed languages, in corpus/encoding.py
    ),
    "epochs": ("nanogpt/holdout.py", r"/ (max\(1, )?train_length\(|def (passes|epochs)\b"),
    "the question before a deletion": ("nanogpt/ui/changing.py", r"variant='stop'"),
    "seconds in words": ("nanogpt/durations.py", r"(?<!/)/ (60|3600)\b|divmod\(.*(60|3600)\)"),
}


@pytest.mark.parametrize("fact", HOMES)
def test_a_fact_has_one_home(fact):
    home, look = HOMES[fact]
    assert {name_of(path) for path in package_files() if re.search(look, code_of(text_of(path)))} == {home}


@pytest.mark.parametrize(
    ("fact", "line"),
    [
        ("the share of a text that is trained on", "n = int(0.9 * len(data))"),
        ("the share of a text that is trained on", "epochs = read / (0.9 * characters)"),
        ("epochs", "often = read / train_length(n)"),
        ("epochs", "def passes(read, n): pass"),
        ("the question before a deletion", "yes = gr.Button('Delete', variant='stop', size='sm')"),
        ("seconds in words", "print(f'{seconds / 60:.0f} min')"),
        ("seconds in words", "minutes, rest = divmod(int(seconds), 60)"),
    ],
)
def test_a_second_home_would_be_seen(fact, line):
    assert re.search(HOMES[fact][1], code_of(line))
    assert not re.search(HOMES[fact][1], code_of(f'"""{line}"""  # {line}'))


def named_in(source: str, name: str) -> list[str]:
    """Return the functions and classes that use a name, and "the module" for its top level."""
    tree = ast.parse(code_of(source))
    tops = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name != name]
    found = [node.name for node in tops if re.search(rf"\b{name}\b", ast.unparse(node))]
    rest = [node for node in tree.body if node not in tops and getattr(node, "name", "") != name]
    return found + ["the module" for node in rest if re.search(rf"\b{name}\b", ast.unparse(node))]


def test_a_class_of_tokenizer_is_named_where_a_text_becomes_one_and_where_a_folder_is_loaded():
    named = {name_of(path): named_in(text_of(path), "CharTokenizer") for path in package_files()}
    assert {path: places for path, places in named.items() if places} == {
        "nanogpt/tokenizer.py": ["make_tokenizer", "load_tokenizer"]
    }


def test_a_class_of_tokenizer_named_elsewhere_would_be_seen():
    source = "from .tokenizer import CharTokenizer\ndef f(folder):\n    return CharTokenizer.load(folder)\n"
    assert named_in(source, "CharTokenizer") == ["f", "the module"]
    assert named_in('class CharTokenizer: pass\ndef f():\n    "A CharTokenizer."', "CharTokenizer") == []


def test_the_exported_program_is_given_the_share():
    template = (ROOT / "nanogpt/publish/exported/train.txt").read_text(encoding="utf-8")
    assert re.findall(r"n = .*", template) == ["n = int({{train_share}} * len(data))"]


# --- reading of stored files ---------------------------------------------------------------------------------------

# How often a module opens a file for reading by itself, because it is one of the program, of the system, or one that
# the command line names.
READS = {
    "nanogpt/corpus/builtin.py": 1,  # Python's own modules
    "nanogpt/corpus/pieces.py": 1,  # a File of corpus/files.py
    "nanogpt/demo.py": 1,  # on the command line
    "nanogpt/errors.py": 1,  # the null device
    "nanogpt/device.py": 1, "nanogpt/launch/measured.py": 1, "nanogpt/memory.py": 4,
    "nanogpt/publish/fonts.py": 1,
    "nanogpt/disk.py": 1,
    "nanogpt/explain/architecture.py": 1, "nanogpt/jobs/parcel.py": 1, "nanogpt/publish/code_export.py": 1,
    "nanogpt/publish/deploy.py": 3, "nanogpt/publish/page_export.py": 2, "nanogpt/ui/drawn.py": 1,
    "nanogpt/ui/page.py": 1, "nanogpt/ui/theme.py": 1, "nanogpt/ui/web/head.py": 1,
    "nanogpt/publish/upload.py": 1,  # just downloaded
}  # fmt: skip


def reads(source: str) -> list[str]:
    """Return the calls that open a file for reading without `disk.opened`, `disk.read` or `disk.checked`."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if opens_to_read(call)]


def opens_to_read(call: ast.Call) -> bool:
    function, arguments = ast.unparse(call.func), [ast.unparse(one) for one in call.args]
    if function in ("safe_open", "np.load"):
        return "checked(" not in arguments[0]
    if function == "open" or function.endswith(".open"):
        mode = next((one for one in arguments[function == "open" :] if one[:1] in "'\""), "'r'")
        return "r" in mode and "+" not in mode and not function.startswith(("archive.", "self.archive.", "os."))
    return function.endswith((".read_bytes", ".read_text")) and not function.startswith("corpus.")


def test_what_is_stored_is_read_in_one_way():
    found = {name_of(path): len(reads(text_of(path))) for path in package_files()}
    assert {name: count for name, count in found.items() if count} == READS, "use disk.read or disk.opened"


@pytest.mark.parametrize(
    "line",
    ["path.read_text()", "(a / 'b').read_bytes()", "open(path)", "path.open('rb')", "np.load(path)", "safe_open(p)"],
)
def test_another_way_would_be_seen(line):
    assert reads(line) == [line]
    assert reads("disk.read(path); disk.opened(path); path.open('xb'); np.load(disk.checked(path))") == []


# --- what must not be in the repository ----------------------------------------------------------------------------

# Written with brackets, so that the patterns don't match this file.
UNWANTED = {
    "a path of somebody's machine": r"(?<![\w.~-])[/](root|home/(?!user\b)\w+|Users)/",
    "a package index": r"--(extra-)?index[-]url",
    "loading of pickles": r"\b(torch|pickle|joblib|dill)[.]loads?\b|\b(weights_only=[F]alse|allow_pickle=[T]rue)",
    "work left undone": r"\b(TO[D]O|FIX[M]E)\b",
}


@pytest.mark.parametrize("what", UNWANTED)
def test_nothing_unwanted_is_named(what):
    assert len(files()) > 20
    pattern = re.compile(UNWANTED[what])
    assert [f"{name_of(path)}: {hit[0]}" for path in files() if (hit := pattern.search(text_of(path)))] == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a path of somebody's machine", "see " + "/ro" + "ot/x.txt"),
        ("a path of somebody's machine", "'" + "/Us" + "ers/me/x'"),
        ("a package index", "pip install --index" + "-url x"),
        ("loading of pickles", "torch." + "load(path)"),
        ("loading of pickles", "pickle." + "loads(data)"),
        ("work left undone", "# TO" + "DO: later"),
    ],
)
def test_the_unwanted_would_be_seen(what, line):
    assert re.search(UNWANTED[what], line)
    assert not re.search(UNWANTED[what], "model.load_state_dict(tensors)  # docs/root/x.md")
