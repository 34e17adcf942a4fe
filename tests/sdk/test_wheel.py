"""The wheel that agents install: built offline, complete, and on its own."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from sdk.installed import ROOT, build_wheel, install

PACKAGE = ROOT / "sdk" / "src" / "watchfloor_sdk"
FRAMEWORKS = {
    "agent_framework.py": {"agent_framework"},
    "langchain.py": {"langchain", "langchain_core"},
    "openai_agents.py": {"agents"},
}


@pytest.mark.claim("sdk-wheel")
def test_the_wheel_works_where_watchfloor_is_not(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    assert {p.relative_to(PACKAGE.parent).as_posix() for p in PACKAGE.rglob("*.py")} <= set(names)
    assert "watchfloor_sdk/py.typed" in names
    site = install(wheel, tmp_path / "site")
    program = (
        "import importlib.util, sys\n"
        f"sys.path[:0] = {[str(site), sysconfig.get_path('purelib')]!r}\n"
        "assert importlib.util.find_spec('watchfloor') is None\n"
        "import watchfloor_sdk\n"
        f"assert watchfloor_sdk.__file__.startswith({str(site)!r})\n"
        "print(watchfloor_sdk.Guard('http://127.0.0.1:7701', 'mail', 'a-token'))\n"
    )
    # Without site's own paths: the editable installation of the server is one of those.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "Guard('http://127.0.0.1:7701', server='mail')\n", done.stderr


def test_it_imports_the_standard_library_httpx_itself_and_in_an_adapter_that_ones_framework() -> None:
    strange = []
    for path in PACKAGE.rglob("*.py"):
        known = {"watchfloor_sdk", "httpx"} | FRAMEWORKS.get(path.name, set()) | sys.stdlib_module_names
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            strange += [f"{path.name}: {module}" for module in modules if module.split(".")[0] not in known]
    assert strange == []


def test_its_licence_is_the_repositorys() -> None:
    assert (ROOT / "sdk" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
