"""Coverage-guided fuzzing of the KQL front end: any text is compiled to SQL or refused in our words, and soon.

    python fuzz/kql_atheris.py --seconds 60 [--corpus DIRECTORY]

Texts go through lexer, parser, binder and SQL printer; nothing runs them. The corpus begins with the queries of
``tests/kql`` and grows in ``--corpus`` (a temporary directory unless given). Faults are told apart by where they
are raised, and fuzzing goes on behind them; exits 1 if there was one, and prints its text and traceback.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_SECONDS_EACH = 15
KINDS = {"syntax", "semantic", "unsupported", "limit"}


def main() -> int:
    """Start the fuzzer as a process of its own, because it ends the one that it is in."""
    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing of the KQL front end.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        fuzz(options.inside, options.seconds)
        return 0
    if options.corpus is not None:
        options.corpus.mkdir(parents=True, exist_ok=True)
        return supervise(options.corpus, options.seconds)
    with tempfile.TemporaryDirectory(prefix="kql-corpus-") as directory:
        return supervise(Path(directory), options.seconds)


def supervise(directory: Path, seconds: int) -> int:
    """Run the fuzzer over ``directory`` and tell what it found."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--inside", str(directory)]
    limit = seconds + 300
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", timeout=limit, check=False)
    lines = done.stderr.splitlines()
    folder = directory / "findings"
    findings = sorted(folder.iterdir()) if folder.exists() else []
    if done.returncode == 0 and not findings:
        print(next((line for line in reversed(lines) if "exec/s" in line), "done"))
        return 0
    if done.returncode:
        print("\n".join(lines[-30:]))
    for finding in findings:
        print(finding.read_text() if finding.suffix else f"finding: {finding.read_bytes()!r}")
    return 1


def fuzz(directory: Path, seconds: int) -> None:
    """The fuzzer itself; never returns."""
    import atheris

    with atheris.instrument_imports(include=["watchfloor.kql"]):
        from watchfloor import kql
        from watchfloor.kql import bind, parser, sql  # noqa: F401  imported here to be instrumented
        from watchfloor.kql.functions import AGGREGATES, FUNCTIONS

    columns = tuple(kql.Column(name, type_) for name, type_ in COLUMNS.items())
    table = kql.TableSchema("T", columns, tenant_column="Tenant", time_column="At")
    schema = kql.Schema({"T": table})
    scope = kql.Scope(("us",), since=639_000_000_000_000_000)
    seen: set[str] = set()

    def one(data: bytes) -> None:
        try:
            check(_text(data))
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
            if name not in seen:
                seen.add(name)
                (directory / "findings" / name).write_bytes(data)
                (directory / "findings" / f"{name}.txt").write_text(traceback.format_exc(limit=-4))

    def check(text: str) -> None:
        try:
            found = kql.compile(text, schema, scope, now=639_100_000_000_000_000)
        except kql.KqlError as error:
            for each in (error, *error.others):
                assert each.kind in KINDS, each.kind
                assert each.line >= 1, each
                assert each.column >= 1, each
                assert each.message, each
                each.snippet(text)
        else:
            compiled = found.compiled if isinstance(found, kql.Pending) else found
            assert compiled.tables <= {"T"}, compiled.tables
            assert ";" not in compiled.sql, compiled.sql
        kql.masked(text)

    seeds = directory / "seeds"
    seeds.mkdir(exist_ok=True)
    for number, text in enumerate(corpus()):
        (seeds / f"{number:05}").write_text(text, "utf-8", errors="replace")
    words = directory / "words"
    names = {word for word in (*FUNCTIONS, *AGGREGATES, *WORDS) if word.isascii() and not set(word) & set('"\\')}
    words.write_text("".join(f'"{word}"\n' for word in sorted(names)))
    for folder in ("findings", "grown"):
        (directory / folder).mkdir(exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-timeout={MAX_SECONDS_EACH}",
        "-rss_limit_mb=4096",
        "-max_len=4096",
        "-len_control=20",
        f"-dict={words}",
        f"-artifact_prefix={directory / 'findings'}/",
        str(directory / "grown"),
        str(seeds),
    ]
    atheris.Setup(arguments, one)
    atheris.Fuzz()


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


COLUMNS = {
    "Tenant": "string",
    "At": "datetime",
    "a": "long",
    "b": "real",
    "i": "int",
    "s": "string",
    "t": "timespan",
    "d": "dynamic",
    "o": "bool",
    "g": "guid",
    "c": "decimal",
}
WORDS = [
    "where",
    "extend",
    "project",
    "summarize",
    "join",
    "kind=inner",
    "on",
    "union",
    "mv-expand",
    "mv-apply",
    "let",
    "datatable",
    "print",
    "range",
    "search",
    "find",
    "make-series",
    "parse",
    "parse-kv",
    "evaluate",
    "pivot",
    "bag_unpack",
    "scan",
    "partition",
    "fork",
    "facet",
    "top-nested",
    "graph-match",
    "make-graph",
    "lookup",
    "materialize",
    "toscalar",
    "between",
    "in~",
    "!in",
    "has_any",
    "matches",
    "regex",
    "render",
    "as",
    "invoke",
    "serialize",
    "sort",
    "by",
    "asc",
    "nulls",
    "first",
    "$left",
    "$right",
    "typeof",
    "dynamic(",
    "datetime(",
    "timespan(",
    "guid(",
    "decimal(",
    "real(",
    "T",
    "a",
    "b",
    "i",
    "s",
    "t",
    "d",
    "o",
    "g",
    "c",
    "At",
    "|",
    ";",
    "=>",
    "..",
    "==",
    "=~",
    "```",
    "h@",
    "['",
    "{}",
    "--",
]


def corpus() -> list[str]:
    """The queries of the tests."""
    import yaml

    here = ROOT / "tests" / "kql"
    syntax = yaml.safe_load((here / "syntax.yaml").read_text("utf-8"))
    found = [*syntax["accept"], *syntax.get("lenient", [])]
    found += [case if isinstance(case, str) else case["kql"] for case in syntax["reject"]]
    found += [case["kql"] for case in yaml.safe_load((here / "agents" / "queries.yaml").read_text("utf-8"))]
    for path in sorted((here / "cases").glob("*.yaml")):
        cases = yaml.safe_load(path.read_text("utf-8"))
        found += [case["kql"] for case in cases if isinstance(case, dict) and "kql" in case]
    return found


if __name__ == "__main__":
    sys.exit(main())
