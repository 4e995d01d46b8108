"""Change the program in small ways, one at a time, and see whether a test notices.

    python -m benchmarks.mutants [--each 12] [--seed 1]      draw mutants and test each, for about half an hour
    python -m benchmarks.mutants --again [--tests TEST ...]  test the survivors again, with these tests alone if any
    python -m benchmarks.mutants --equivalent 17 "REASON"    note that no test can tell mutant 17 from the program

It needs two packages more: `pip install cosmic-ray pytest-cov`. Most operators are those of cosmic-ray: comparisons,
arithmetic, `and`, `or`, `not`, True and False, negated conditions, `break`, exceptions, decorators and loops without a
pass. Cosmic-ray neither draws a sample nor knows which tests concern a line, and it lacks three usual operators, which
are here: a statement removed, None returned, and numbers above 10 halved or doubled (with one more, 300,000 would be
the same to any test).

The same number of mutants is drawn from each of six parts of the program: of each, a place in the code, then an
operator that applies there. Once the code has changed, the same seed draws others. Left out are annotations,
docstrings, code for Windows, and numbers that only set how wide or tall something looks.

Each mutant is tested in a copy of the tree by the tests that ran its lines (those not marked slow, which need no
browser and no second process), or, for a statement outside of all functions, that ran anything in its file. The first
failure kills it; so does a run of LIMIT seconds. `results/mutants.json` has each mutant with what killed it. Survivors
that other tests kill later are marked `survived_first`.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cosmic_ray.plugins
import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from coverage import CoverageData

from benchmarks.machine import RESULTS, write_result

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "loop": ("nanogpt/train.py", "nanogpt/reporter.py", "nanogpt/evaluate.py"),
    "clock": ("nanogpt/timetable.py", "nanogpt/durations.py"),
    "launch": ("nanogpt/launch/*.py",),
    "ui": ("nanogpt/ui/**/*.py",),
    "publish": ("nanogpt/publish/*.py",),
    "core": (
        "nanogpt/model.py", "nanogpt/optim.py", "nanogpt/schedule.py", "nanogpt/step.py", "nanogpt/data.py",
        "nanogpt/sample.py", "nanogpt/together.py", "nanogpt/formats.py", "nanogpt/rungs.py", "nanogpt/ranks.py",
        "nanogpt/fast/[!c]*.py", "nanogpt/fast/cpu.py",  # the others need a GPU
    ),
}  # fmt: skip
TESTS = (
    "tests/test_train.py", "tests/test_timetable.py", "tests/test_durations.py", "tests/launch", "tests/ui",
    "tests/publish", "tests/runs", "tests/cli", "tests/test_model.py", "tests/test_layout.py", "tests/test_optim.py",
    "tests/test_data.py", "tests/test_sample.py", "tests/test_sampling_many.py", "tests/test_together.py",
    "tests/test_formats.py", "tests/test_rungs.py", "tests/test_ranks.py", "tests/fast",
)  # fmt: skip
FAILED = re.compile(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", re.M)
LIMIT = 180  # seconds for the tests of one mutant
LOOKS = {"min_width", "scale", "lines", "max_lines", "height", "width", "size", "dpi", "fontsize", "linewidth"}
SWAPS = re.compile(r"(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(Add|Sub|Mul|Div|FloorDiv|Mod)|Shift_\w+Shift|Bit\w+_Bit")
COMPARISONS = re.compile(r"_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Eq|NotEq|Lt|LtE|Gt|GtE)$|_Is(Not)?_Is(Not)?$")
REMOVED = re.compile(r"[\w.]+(\.\w+|\[.*?\]) = |\w+ [-+*/|&]= ")  # an attribute or an entry is set, or a value changed


# ---- three more operators ------------------------------------------------------------------------------------------


class Ours(Operator):
    """An operator that cosmic-ray lacks."""

    @classmethod
    def examples(cls):
        return ()


class RemoveStatement(Ours):
    """Put `pass` in the place of a statement, except a variable's first value: that name would be missing at once."""

    def mutation_positions(self, node):
        if node.type == "simple_stmt":
            first = node.children[0]
            if first.type in ("atom_expr", "del_stmt", "raise_stmt") or REMOVED.match(first.get_code(False)):
                yield first.start_pos, first.end_pos

    def mutate(self, node, index):
        node.children[0] = parso.parse(node.children[0].get_first_leaf().prefix + "pass")
        return node


class ReturnNone(Ours):
    """Return None instead of a value."""

    def mutation_positions(self, node):
        if node.type == "return_stmt" and node.children[1].get_code().strip() != "None":
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.children[1] = parso.parse(" None")
        return node


class ChangeNumber(Ours):
    """Add or subtract one; halve or double a fraction, and a number above 10."""

    def mutation_positions(self, node):
        if node.type == "number":
            yield node.start_pos, node.end_pos
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        value = ast.literal_eval(node.value)
        if isinstance(value, int) and value <= 10 or value == 0:
            changed = (value - 1, value + 1)
        else:
            changed = (value // 2 if isinstance(value, int) else value / 2, 2 * value)
        node.value = repr(changed[index])
        return node


def operators() -> Iterator[Operator]:
    """Yield every operator that is used."""
    for name in sorted(cosmic_ray.plugins.operator_names()):
        if is_used(name):
            yield cosmic_ray.plugins.get_operator(name)()
    yield from (RemoveStatement(), ReturnNone(), ChangeNumber())


def is_used(name: str) -> bool:
    """Return True if mutants of a cosmic-ray operator are faults that one could make: not `x << y` for `x * y`."""
    if "BinaryOperator" in name:
        return bool(SWAPS.search(name))
    if "ComparisonOperator" in name:
        return bool(COMPARISONS.search(name))
    return not re.search("Number|Variable", name)


# ---- drawing -------------------------------------------------------------------------------------------------------


@dataclass
class Mutant:
    """One change: these lines of a file, from line `line` on, and what they become."""

    part: str
    file: str
    line: int
    operator: str
    before: str
    after: str
    outcome: str = ""  # killed, killed (time), survived or equivalent
    by: str = ""  # the test that killed it
    tests: int = 0  # that ran its lines
    reason: str = ""  # why it is equivalent
    survived_first: bool = False


def draw(each: int, seed: int) -> list[Mutant]:
    """Return the mutants that follow from the seed, in the order of PARTS."""
    chosen = random.Random(seed)
    drawn = []
    for part, where in PARTS.items():
        files = [path for name in where for path in ROOT.glob(name)]
        places = [(path, place) for path in sorted(files) for place in sorted(places_of(path))]
        chosen.shuffle(places)
        found = (mutant for path, place in places if (mutant := mutant_at(part, path, place, chosen)))
        drawn += [next(found) for _ in range(each)]
    return drawn


@cache
def places_of(path: Path) -> dict[tuple, list[tuple[Operator, int]]]:
    """Return the places where a file can be changed, each with the operators that apply there and their occurrence."""
    code = path.read_text(encoding="utf-8")
    left_out, nodes = skipped(code), list(ast_nodes(get_ast(code)))
    places: dict[tuple, list[tuple[Operator, int]]] = {}
    for operator in operators():
        positions = [position for node in nodes for position in operator.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(positions):
            if not any(first <= start and end <= last for first, last in left_out):
                places.setdefault((start, end), []).append((operator, occurrence))
    return places


def skipped(code: str) -> list[tuple[tuple, tuple]]:
    """Return the start and the end of everything in a file that isn't changed."""
    found: list[Any] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.keyword) and node.arg in LOOKS:
            found.append(node.value)
        elif (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) or (
            isinstance(node, ast.If) and re.search("win32|TYPE_CHECKING", ast.unparse(node.test))
        ):  # a docstring, or code that doesn't run here
            found.append(node)
    return [((one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset)) for one in found if one]


def mutant_at(part: str, path: Path, place: tuple, chosen: random.Random) -> Mutant | None:
    """Return a mutant at this place by an operator drawn there, or None if its code can't be compiled."""
    operator, occurrence = chosen.choice(places_of(path)[place])
    code = path.read_text(encoding="utf-8")
    changed = mutate_code(code, operator, occurrence)
    try:
        if changed is None or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(code)):
            return None
    except SyntaxError:
        return None
    before, after = code.splitlines(), changed.splitlines()
    changes = [one for one in difflib.SequenceMatcher(None, before, after, False).get_opcodes() if one[0] != "equal"]
    first, last = changes[0][1], changes[-1][2]
    new = after[changes[0][3] : changes[-1][4]]
    name = type(operator).__name__
    return Mutant(part, str(path.relative_to(ROOT)), first + 1, name, "\n".join(before[first:last]), "\n".join(new))


# ---- testing -------------------------------------------------------------------------------------------------------


def copied(folder: Path) -> Path:
    """Copy the files of the working tree that git doesn't ignore. Return the copy's path."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def pytest(tree: Path, *arguments: str, seconds: float | None = None) -> tuple[int | None, str]:
    """Run pytest in a copy of the tree. Return its exit status, None if it ran out of time, and its output."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=seconds)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]


def tests_by_line(tree: Path) -> tuple[CoverageData, set[str]]:
    """Run the fast tests once, unchanged. Return which of them ran which lines, and those that failed."""
    _, said = pytest(tree, *TESTS, "-m", "not slow", "--cov=nanogpt", "--cov-context=test", "--cov-report=")
    print(said[-400:], flush=True)
    data = CoverageData(str(tree / ".coverage"))
    data.read()
    return data, set(FAILED.findall(said))


def tests_of(mutant: Mutant, data: CoverageData, failing: set[str], tree: Path) -> list[str]:
    """Return the tests that ran a mutant's lines, those in the file named like its module first.

    Tests that fail without any change are left out.
    """
    path = tree / mutant.file
    by_line = data.contexts_by_lineno(str(path))
    inside = enclosing(mutant, path.read_text(encoding="utf-8"))
    lines = [by_line.get(line, []) for line in by_line if not inside or line in inside]
    found = {context.partition("|")[0] for contexts in lines for context in contexts if "|run" in context}
    own = f"test_{Path(mutant.file).stem}.py"
    return sorted(found - failing, key=lambda name: (own not in name, name))


def enclosing(mutant: Mutant, code: str) -> range | None:
    """Return the lines of the smallest statements that a mutant changes; None if they are outside of all functions."""
    lines = range(mutant.line, mutant.line + len(mutant.before.splitlines()))
    tree = ast.parse(code)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    if not any(one.body[0].lineno <= lines[0] <= (one.end_lineno or 0) for one in functions):
        return None
    statements = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= lines[0] and lines[-1] <= (node.end_lineno or 0)
    ]
    return min(statements, key=len)


def judge(mutant: Mutant, names: list[str], tree: Path) -> None:
    """Test a mutant in the copy, and note the outcome."""
    path = tree / mutant.file
    code = path.read_text(encoding="utf-8")
    path.write_text(changed(code, mutant), encoding="utf-8")
    try:
        status, said = pytest(tree, "-x", *names, seconds=LIMIT) if names else (0, "")
    finally:
        path.write_text(code, encoding="utf-8")
    mutant.tests = len(names)
    mutant.outcome, mutant.by = {0: "survived", None: "killed (time)"}.get(status, "killed"), ""
    if failed := FAILED.search(said):
        mutant.by = failed[1]
    elif status and status != 1:
        mutant.by = said.strip().splitlines()[-1]


def changed(code: str, mutant: Mutant) -> str:
    """Return the mutant's code. Its lines may have moved since it was drawn."""
    lines, before = code.splitlines(), mutant.before.splitlines()
    size = len(before)
    found = [i for i in range(len(lines) - size + 1) if lines[i : i + size] == before]
    if not found:
        sys.exit(f"{mutant.file} no longer has the line {before[0]!r}.")
    first = min(found, key=lambda i: abs(i + 1 - mutant.line))
    mutant.line = first + 1
    return "\n".join([*lines[:first], *mutant.after.splitlines(), *lines[first + size :], ""])


# ---- the command ---------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Draw mutants and test them, or test survivors again. Write and return the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--each", type=int, default=12, help="mutants of each of the six parts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="only print the mutants")
    parser.add_argument("--again", action="store_true", help="test what survived, or was left untested, again")
    parser.add_argument("--tests", nargs="+", default=[], help="with --again: the tests")
    parser.add_argument("--equivalent", nargs=2, metavar=("NUMBER", "REASON"))
    options = parser.parse_args(argv)
    if options.again or options.equivalent:
        result = json.loads((RESULTS / "mutants.json").read_text(encoding="utf-8"))
        options.each, options.seed = result["each"], result["seed"]
        mutants = [Mutant(**one) for one in result["mutants"]]
    else:
        mutants = draw(options.each, options.seed)
    if options.list:
        for number, mutant in enumerate(mutants):
            print(f"{number} {mutant.file}:{mutant.line} {mutant.operator}\n- {mutant.before}\n+ {mutant.after}")
        return {}
    if options.equivalent:
        number, reason = options.equivalent
        mutants[int(number)].outcome, mutants[int(number)].reason = "equivalent", reason
    else:
        test(mutants, options)
    return written(mutants, options)


def test(mutants: list[Mutant], options: argparse.Namespace) -> None:
    """Test the mutants without a verdict and the survivors, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        if not options.tests:
            data, failing = tests_by_line(tree)
        for number, mutant in enumerate(mutants):
            if mutant.outcome in ("", "survived"):
                changed((tree / mutant.file).read_text(encoding="utf-8"), mutant)  # its lines may have moved
                names = options.tests or tests_of(mutant, data, failing, tree)
                mutant.survived_first = mutant.outcome == "survived"
                judge(mutant, names, tree)
                print(f"{number} {mutant.outcome} {mutant.file}:{mutant.line} {mutant.by}", flush=True)
                written(mutants, options)  # each time, so that --again can continue after an interruption


def written(mutants: list[Mutant], options: argparse.Namespace) -> dict[str, Any]:
    """Write the result, and return it."""
    counts = dict(Counter(mutant.outcome or "untested" for mutant in mutants))
    result = dict(seed=options.seed, each=options.each, counts=counts, mutants=[asdict(one) for one in mutants])
    write_result("mutants", result)
    return result


if __name__ == "__main__":
    main()
