"""What the text detectors find in attacks that they never saw, and what they flag in ordinary text, beside offline peers.

    .venv-train/bin/python -m bench.guard_text [--repositories DIR] [--most 600]

Texts come from installed packages (``bench/text_sources.py``: those that trained nothing) and, where DIR holds bare clones
named ``owner+name`` of public repositories, from these. Attacks that share a quarter of their eight-word runs with a
training text are dropped. Everything runs in one process, peers included where they are installed; each is judged at the
score that 1 % and 0.1 % of the ordinary texts exceed, and at its own threshold. A family that a contestant was made with is
marked ``*`` and left out of its mean, with the reason and where that is said (``bench/text_peers.py``); the mean with
nothing left out stands beside it, and ours over the families that count for each peer. CPU is that of the thread, on texts that
were not scored before. What is not installed or not there is said and left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import logging
import math
import random
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.text_peers import Contestant, ours, peers, seen, words_known
from bench.text_sources import HELD_OUT, TRAINING, texts_of

LONGEST = 4_000


class Family(NamedTuple):
    """Texts of one kind from one place. ``kind``: attack, ordinary, or hard (harmless, but looks like an attack)."""

    name: str
    kind: str
    texts: list[str]


# -- texts ------------------------------------------------------------------------------------------------------------


def repository_file(folder: Path, name: str, path: str) -> str | None:
    """A file of the newest commit of a bare clone, or ``None``."""
    for at in (folder / name / "repo", folder / name):
        if at.exists():
            found = subprocess.run(["git", "--git-dir", str(at), "show", f"HEAD:{path}"], capture_output=True)
            if found.returncode == 0:
                return found.stdout.decode("utf-8", "replace")
    return None


def from_repositories(folder: Path) -> list[Family]:
    found: list[Family] = []

    def add(name: str, kind: str, repository: str, path: str, read: Callable[[str], list[str]]) -> None:
        raw = repository_file(folder, repository, path)
        if raw is None:
            print(f"not there: {repository} {path}")
        else:
            found.append(Family(name, kind, read(raw)))

    def lines(raw: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in raw.splitlines() if line.strip()]

    trust = "HumanCompatibleAI+tensor-trust-data"
    add(
        "tensor-trust",
        "attack",
        trust,
        "benchmarks/hijacking-robustness/v1/hijacking_robustness_dataset.jsonl",
        lambda r: [row["attack"] for row in lines(r)],
    )
    add(
        "tensor-trust extract",
        "attack",
        trust,
        "benchmarks/extraction-robustness/v1/extraction_robustness_dataset.jsonl",
        lambda r: [row["attack"] for row in lines(r)],
    )
    agt, corpus = "microsoft+agent-governance-toolkit", "benchmarks/prompt-injection/corpus/injection-smoke.jsonl"

    def agt_text(row: dict[str, str]) -> str:
        return re.sub(r" ?Reference PI\w+\.?", "", row["text"])

    add(
        "agt obfuscated",
        "attack",
        agt,
        corpus,
        lambda r: [agt_text(row) for row in lines(r) if row["attack_class"] != "benign"],
    )
    add(
        "agt: quoted attacks",
        "hard",
        agt,
        corpus,
        lambda r: [agt_text(row) for row in lines(r) if row["attack_class"] == "benign"],
    )
    for part in ("one", "two", "three"):
        add(
            "NotInject",
            "hard",
            "leolee99+InjecGuard",
            f"datasets/NotInject_{part}.json",
            lambda r: [row["prompt"] for row in json.loads(r)],
        )
    add(
        "WildGuard benign",
        "hard",
        "leolee99+InjecGuard",
        "datasets/wildguard.json",
        lambda r: [row["prompt"] for row in json.loads(r)],
    )
    add(
        "XSTest safe",
        "hard",
        "paul-rottger+exaggerated-safety",
        "xstest_prompts.csv",
        lambda r: [row["prompt"] for row in csv.DictReader(io.StringIO(r)) if row["label"] == "safe"],
    )
    purple = "meta-llama+PurpleLlama"
    add(
        "CyberSecEval",
        "attack",
        purple,
        "CybersecurityBenchmarks/datasets/prompt_injection/prompt_injection.json",
        lambda r: [row["user_input"] for row in json.loads(r)],
    )
    add(
        "CyberSecEval multil.",
        "attack",
        purple,
        "CybersecurityBenchmarks/datasets/prompt_injection/prompt_injection_multilingual_machine_translated.json",
        lambda r: [row["user_input"] for row in json.loads(r)],
    )
    add(
        "mitre frr",
        "ordinary",
        purple,
        "CybersecurityBenchmarks/datasets/mitre_frr/mitre_frr.json",
        lambda r: [row["mutated_prompt"] for row in json.loads(r)],
    )
    add(
        "user-oriented",
        "ordinary",
        "yizhongw+self-instruct",
        "human_eval/user_oriented_instructions.jsonl",
        lambda r: [
            f"{row['instruction']}\n{row['instances'][0]['input'][:500]}"
            for row in json.loads(f"[{','.join(r.splitlines())}]")
        ],
    )
    add("tau-bench", "ordinary", "sierra-research+tau-bench", "historical_trajectories/gpt-4o-airline.json",
        lambda r: [m["content"] for row in json.loads(r) for m in row["traj"] if m["role"] in ("user", "tool") and m.get("content")])  # fmt: skip
    merged: dict[str, Family] = {}
    for family in found:
        before = merged.get(family.name)
        merged[family.name] = family if before is None else before._replace(texts=before.texts + family.texts)
    return list(merged.values())


def system_documents() -> Family:
    """Paragraphs of manual pages and notes of this machine's packages."""
    texts = []
    for path in sorted(Path("/usr/share/man").glob("man[158]/*.gz"))[::9][:900]:
        try:
            with gzip.open(path, "rt", errors="replace") as file:
                raw = file.read(40_000)
        except OSError:
            continue
        raw = re.sub(r"(?m)^[.']\S+ ?|\\f[BIRPW]|\\[-&]", "", raw)
        piece = ""
        for line in raw.splitlines():
            piece += line + "\n"
            if len(piece) > 500:
                texts.append(piece)
                piece = ""
    return Family("manual pages", "ordinary", texts)


def shingles(text: str) -> set[int]:
    words = re.findall(r"\w+", text.lower())
    return {hash(" ".join(words[i : i + 8])) for i in range(max(1, len(words) - 7))}


def families(folder: Path | None, most: int) -> list[Family]:
    found = [Family(s.name, "attack" if s.is_attack else "hard", texts_of(s)) for s in HELD_OUT]
    found.append(system_documents())
    if folder is not None:
        found += from_repositories(folder)
    trained: set[int] = set()
    for source in TRAINING:
        if source.is_attack:
            for text in texts_of(source):
                trained |= shingles(text[:20_000])
    kept = []
    for family in found:
        texts = list(dict.fromkeys(text[:LONGEST].strip() for text in family.texts if len(text.strip()) >= 12))
        before = len(texts)
        if family.kind == "attack":
            texts = [t for t in texts if (own := shingles(t)) and len(own & trained) / len(own) < 0.25]
        if len(texts) > (limit := most * (4 if family.kind == "ordinary" else 1)):
            texts = random.Random(family.name).sample(texts, limit)
        if texts:
            print(f"{family.name:24}{family.kind:10}{before:6} texts, {len(texts)} used")
            kept.append(family._replace(texts=texts))
    return kept


# -- measuring --------------------------------------------------------------------------------------------------------


def limit(scores: list[float], share: float) -> float:
    """The score that at most ``share`` of ``scores`` exceed."""
    ordered = sorted(scores, reverse=True)
    return ordered[min(len(ordered) - 1, math.floor(len(ordered) * share))]


def micros(score: Callable[[str], float], texts: list[str]) -> tuple[float, float]:
    """CPU milliseconds of one text, p50 and p99, each text once."""
    spent = []
    for text in texts:
        before = time.thread_time_ns()
        score(text)
        spent.append((time.thread_time_ns() - before) / 1e6)
    spent.sort()
    return spent[len(spent) // 2], spent[int(len(spent) * 0.99)]


def print_seen(contestants: list[Contestant], attacks: list[Family]) -> None:
    """Which family was a contestant made with, why we think so, and where it is said."""
    print()
    for c in contestants:
        said = [(family.name, s) for family in attacks for s in seen(c.name, family.name)]
        for name, s in said:
            print(f"{c.name}: {name}: {'* left out' if s.is_left_out else 'counted'}: {s.reason} [{s.source}]")
        if not said:
            print(f"{c.name}: no family is known to be of what it was made with")
    known = words_known({family.name: family.texts for family in attacks})
    if known:
        print(
            "runs of four words that stand in prompt-guardrail's vocabulary: "
            + ", ".join(f"{k} {v:.1%}" for k, v in known.items())
        )
    print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repositories", type=Path, help="folder of bare clones named owner+name")
    parser.add_argument("--most", type=int, default=600, help="attacks of a family; four times as many ordinary texts")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of peers, about their own pickles and versions
    logging.disable(logging.CRITICAL)
    texts = families(arguments.repositories, arguments.most)
    ordinary = [text for family in texts if family.kind == "ordinary" for text in family.texts]
    attacks = [family for family in texts if family.kind == "attack"]
    if not attacks:
        print(
            "no attacks to find here: run `make train` and use its environment, or give --repositories", file=sys.stderr
        )
        return 1
    if len(ordinary) < 1_000:
        print(f"only {len(ordinary)} ordinary texts: 0.1 % of them means nothing")
    contestants = [*ours(), *peers()]
    rng = random.Random(5)
    words = " ".join(ordinary).split()

    def unseen(length: int, count: int) -> list[str]:
        made = []
        for _ in range(count):
            start = rng.randrange(len(words) - length)
            made.append(" ".join(words[start : start + length // 3])[:length])
        return made

    timing = {c.name: (micros(c.score, unseen(200, 400)), micros(c.score, unseen(4_000, 100))) for c in contestants}
    scores = {c.name: {f.name: [c.score(text) for text in f.texts] for f in texts} for c in contestants}
    print(
        f"\n{len(ordinary)} ordinary texts; share of each family found at 1 % / 0.1 % of them flagged; own: at its own threshold\n"
    )
    print(f"{'':24}" + "".join(f"{c.name[:20]:>22}" for c in contestants))
    limits = {}
    for c in contestants:
        all_ordinary = [s for f in texts if f.kind == "ordinary" for s in scores[c.name][f.name]]
        limits[c.name] = (limit(all_ordinary, 0.01), limit(all_ordinary, 0.001), all_ordinary)

    def share(values: list[float], least: float) -> float:
        return sum(value > least for value in values) / len(values)

    def row(name: str, cells: list[str]) -> None:
        print(f"{name:24}" + "".join(f"{cell:>22}" for cell in cells))

    def found(name: str, family: Family, index: int) -> float:
        return share(scores[name][family.name], limits[name][index])

    def mean(name: str, over: list[Family], index: int) -> str:
        return f"{sum(found(name, f, index) for f in over) / len(over):.1%}" if over else "-"

    counted = {
        c.name: [f for f in attacks if not any(s.is_left_out for s in seen(c.name, f.name))] for c in contestants
    }
    for family in attacks:
        row(
            family.name,
            [
                f"{found(c.name, family, 0):.0%} / {found(c.name, family, 1):.0%} own {share(scores[c.name][family.name], c.own - 1e-9):.0%}"
                + ("" if family in counted[c.name] else " *")
                for c in contestants
            ],
        )
    both = contestants[len(ours()) - 1].name
    for label, index in (("1 %", 0), ("0.1 %", 1)):
        row(f"mean at {label}", [mean(c.name, counted[c.name], index) for c in contestants])
        row("  both, same families", [mean(both, counted[c.name], index) for c in contestants])
        row("  nothing left out", [mean(c.name, attacks, index) for c in contestants])
    row(
        "mean at own threshold",
        [
            f"{sum(share(scores[c.name][f.name], c.own - 1e-9) for f in attacks) / len(attacks):.1%}"
            for c in contestants
        ],
    )
    row("ordinary flagged, own", [f"{share(limits[c.name][2], c.own - 1e-9):.2%}" for c in contestants])
    for family in [family for family in texts if family.kind == "hard"]:
        row(
            f"{family.name} flagged",
            [
                f"{share(scores[c.name][family.name], limits[c.name][0]):.1%} own {share(scores[c.name][family.name], c.own - 1e-9):.1%}"
                for c in contestants
            ],
        )
    print_seen(contestants, attacks)
    row("CPU ms, 200 chars", [f"{timing[c.name][0][0]:.2f} ({timing[c.name][0][1]:.2f})" for c in contestants])
    row("CPU ms, 4,000 chars", [f"{timing[c.name][1][0]:.2f} ({timing[c.name][1][1]:.2f})" for c in contestants])
    return 0


if __name__ == "__main__":
    sys.exit(main())
