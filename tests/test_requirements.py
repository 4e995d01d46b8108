"""Test that the requirements match each other, ZeroGPU's documentation and the code's use of torch."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from itertools import product
from typing import Any

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

NEEDED, BEFORE, FOR_TESTS = (f"{name}.txt" for name in ("requirements", "pre-requirements", "requirements-dev"))
ZERO_TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")  # the versions in ZeroGPU's documentation
ZERO_PYTHON = ("3.10", "3.12")
TESTED_GRADIO = "6.31"  # the newest minor version that all tests have run with
# The private functions of torch that the program uses. All exist in torch 2.9.1, 2.11.0 and 2.13.0. The program also
# works without the last three.
PRIVATE = {
    "_dynamo", "_foreach_add_", "_foreach_copy_", "_foreach_lerp_", "_foreach_mul_", "_foreach_sub_", "_fused_adamw_",
    "_softmax_backward_data",
    "_is_avx512_bf16_supported", "_linear_pointwise", "_reorder_linear_weight",
}  # fmt: skip


def required(name: str) -> dict[str, Requirement]:
    """Return a file's requirements by package name. Check that no package is listed twice."""
    lines = (line.partition(" #")[0] for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def floor(specifier: SpecifierSet) -> Version:
    return max(Version(one.version) for one in specifier if one.operator in (">=", "=="))


def pythons() -> SpecifierSet:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return SpecifierSet(project["requires-python"])


def front_matter() -> dict[str, Any]:
    """Return the Space's settings from the front matter of README.md."""
    return yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])


# --- a Space -------------------------------------------------------------------------------------------------------


def test_a_space_s_torch_is_the_newest_that_zerogpu_documents_and_the_program_allows():
    [(name, pinned)] = required(BEFORE).items()
    [pin] = pinned.specifier
    assert (name, pin.operator) == ("torch", "==")
    allowed = required(NEEDED)["torch"].specifier
    assert pin.version == max((one for one in ZERO_TORCH if allowed.contains(one)), key=Version)


def test_a_space_s_python_is_one_that_zerogpu_documents():
    assert front_matter()["python_version"] in ZERO_PYTHON
    assert pythons().contains(front_matter()["python_version"])


def conflicts(files: list[dict[str, Requirement]]) -> list[str]:
    """Return requirements that contradict each other, judging by their version bounds."""
    found = []
    for one, other in product([r for file in files for r in file.values()], repeat=2):
        if one.name == other.name and not other.specifier.contains(floor(one.specifier), prereleases=True):
            higher = floor(other.specifier) > floor(one.specifier)  # if so, the other floor decides
            if not (higher and one.specifier.contains(floor(other.specifier), prereleases=True)):
                found.append(f"{one} and {other}")
    return found


def test_the_files_can_be_installed_one_after_the_other():
    assert conflicts([required(BEFORE), required(NEEDED), required(FOR_TESTS)]) == []


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        ("torch==2.11.0", "torch>=2.9,<2.14", True),
        ("torch==2.8.0", "torch>=2.9,<2.14", False),
        ("torch==2.14.0", "torch>=2.9,<2.14", False),
        ("gradio>=6.31,<7", "gradio[oauth]>=6.33,<7", True),
        ("gradio>=6.31,<6.33", "gradio[oauth]>=6.33,<7", False),
        ("gradio>=6.31,<7", "torch==2.8.0", True),
    ],
)
def test_conflicts_are_seen(one, other, fits):
    assert (conflicts([{"a": Requirement(one)}, {"b": Requirement(other)}]) == []) is fits


@pytest.mark.network
@pytest.mark.slow
def test_the_files_of_a_space_resolve_together():
    """An installer must find versions for a Space's Python and platform. Nothing is installed."""
    if not (uv := shutil.which("uv")):
        pytest.skip("needs uv, which resolves for another Python and platform: pip install uv")
    space = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"]
    command = [uv, "pip", "compile", "--quiet", *space, ROOT / BEFORE, ROOT / NEEDED]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    chosen = dict(re.findall(r"^([\w-]+)==(\S+)", done.stdout, re.M))
    for one in [*required(BEFORE).values(), *required(NEEDED).values()]:
        assert one.specifier.contains(chosen[one.name])


# --- private functions of torch ------------------------------------------------------------------------------------


def private_names(source: str) -> set[str]:
    """Return private names of torch that are used as torch.cpu._x or getattr(torch.cpu, "_x")."""
    return set(re.findall(r'\btorch(?:\.\w+)*(?:\.|, ")(_(?!_)\w+)', source))


def test_of_torch_s_private_functions_only_known_ones_are_used():
    """Public functions are stable; CI runs all tests with the lowest torch and with a Space's."""
    programs = [ROOT / "app.py", *(ROOT / "nanogpt").rglob("*.py"), *(ROOT / "nanogpt").rglob("exported/*.txt")]
    names = set().union(*(private_names(path.read_text(encoding="utf-8")) for path in programs))
    assert names == PRIVATE


def test_private_functions_are_seen():
    source = 'torch._foreach_add_(a)\nx = torch.cuda._sleep\ny = getattr(torch.cpu, "_is_it", bool)\n'
    public = "torch.add(a)\ntorch.cuda.is_bf16_supported()\ntorch.__version__\nself._torch"
    assert private_names(source + public) == {"_foreach_add_", "_sleep", "_is_it"}


# --- the inside of gradio ------------------------------------------------------------------------------------------

# What the page uses of gradio beyond `import gradio as gr`, which may change with any minor version.
INSIDE = {
    "blocks.BlocksConfig", "components.Component", "context.Context", "context.LocalContext", "queueing.Event",
    "queueing.Queue", "route_utils", "routes", "server_messages", "state_holder.SessionState",
    "state_holder.StateHolder", "utils.get_space", "utils.get_upload_folder",
}  # fmt: skip
PRIVATE_ATTRIBUTES = {"_data", "_id", "_queue", "_signals", "_statuses"}
OURS = {"_fields", "_replace"}  # of named tuples


def inside_gradio(source: str) -> set[str]:
    """Return the names that a module imports from inside gradio, without "gradio."."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and not node.level]
    found = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
    return {name.removeprefix("gradio.") for name in found if name.startswith("gradio.")}


def private_attributes(source: str) -> set[str]:
    """Return the private attributes that a module uses of objects other than `self`."""
    used = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return {node.attr for node in used if re.match("_[a-z]", node.attr) and ast.unparse(node.value) != "self"}


def test_gradio_is_bounded_below_the_next_minor_version_that_is_not_tested():
    major, minor = map(int, TESTED_GRADIO.split("."))
    for file in (NEEDED, FOR_TESTS):
        specifier = required(file)["gradio"].specifier
        assert specifier.contains(f"{TESTED_GRADIO}.999")
        assert not specifier.contains(f"{major}.{minor + 1}.0")
    assert front_matter()["sdk_version"].startswith(f"{TESTED_GRADIO}.")


def test_of_the_inside_of_gradio_only_known_names_are_used():
    sources = [path.read_text(encoding="utf-8") for path in [ROOT / "app.py", *(ROOT / "nanogpt").rglob("*.py")]]
    assert set().union(*map(inside_gradio, sources)) == INSIDE
    pages = (path.read_text(encoding="utf-8") for path in (ROOT / "nanogpt" / "ui").rglob("*.py"))
    assert set().union(*map(private_attributes, pages)) - OURS == PRIVATE_ATTRIBUTES


def test_names_inside_gradio_are_seen():
    source = "import gradio as gr\nfrom gradio.blocks import Block\nx = demo._queue\nself._mine\n"
    assert inside_gradio(source) == {"blocks.Block"}
    assert private_attributes(source) == {"_queue"}


# --- the workflow on GitHub ----------------------------------------------------------------------------------------


def test_ci_runs_on_every_system_and_on_the_oldest_and_newest_python():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    oldest, newest = matrix["python"]
    assert oldest == str(floor(pythons()))
    assert f"Python {oldest} to {newest}" in (ROOT / "README.md").read_text(encoding="utf-8")
    commands = {job: [step.get("run", "") for step in about["steps"]] for job, about in jobs.items()}
    for job in commands.values():
        assert job[-1] == "python tests/run.py"
    [install] = [command for command in commands["lowest"] if "lowest-direct" in command]
    assert install.endswith(f"-r {NEEDED} -r {FOR_TESTS}")
    assert [f"-r {BEFORE}" in command for command in commands["space"]].index(True) < [
        f"-r {NEEDED}" in command for command in commands["space"]
    ].index(True)
    assert jobs["space"]["steps"][1]["with"]["python-version"] == front_matter()["python_version"]


BARE_DEBIAN = """#!/bin/sh
echo "$@" >> {said}
case "$*" in *"import ensurepip"|*"-m venv"*) exit 3 ;; esac
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a script for bash")
def test_ci_installs_what_venv_needs_before_it_makes_an_environment(tmp_path):
    said, python = tmp_path / "said", tmp_path / "python"
    python.write_text(BARE_DEBIAN.format(said=said), encoding="utf-8")
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "TMPDIR": str(tmp_path)}
    assert subprocess.run(["bash", ROOT / ".ci/run"], env=environment).returncode == 3
    tried, installed, made = said.read_text(encoding="utf-8").splitlines()
    assert tried == "-c import ensurepip"
    assert installed.endswith("run.apt_install('python3-venv')")
    assert made.startswith("-m venv ")


# --- lowest versions -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.environ.get("NANOGPT_TEST_FLOORS") != "1", reason="set NANOGPT_TEST_FLOORS=1 at the floors")
def test_this_run_is_at_the_floors():
    """The job that tests the lowest allowed versions must have exactly those installed."""
    wanted = {name: floor(one.specifier) for name, one in required(NEEDED).items()}
    release = lambda name: Version(Version(version(name)).base_version)
    assert {name: release(name) for name in wanted} == wanted
