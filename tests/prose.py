"""Counts turns of phrase that an English-speaking ML engineer would not write (CONTRIBUTING.md, "Prose").

`python -m tests.prose` prints how often each appears per 1,000 docstrings of the source, and how often in the
documents; `--where` lists the places. A docstring is that of a module, class, function or attribute.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tlpo_ray", "actors", "learner", "detectors")
TICS = {
    "go on": r"\b(?:go|goes|going|went|gone) on\b",
    "who": r"\bwho(?:ever|m)?\b",
    "a for per": r"\b(?:tokens?|nats|seconds|bytes|rows?|lines?|answers?|prompts?|GPUs?|units?|tables?|processe?s?|"
    r"once|times|MiB|updates?|groups?|copies|detector|reader|row|step|steps|hours?|GB|figures?|one) an? "
    r"(?:token|language|second|hour|prompt|row|rank|GPU|update|group|answer|step|run|field|process|line|seed|day|"
    r"minute|phase|character|lot|batch|candidate|node|sequence|variant|task|method|word|model|column|record|actor|"
    r"engine|bucket|trial|suite|policy|context|unit)\b",
    "tell": r"\b(?:tell|tells|telling|told)\b",
    "is no": r"\b(?:is|are|was|were|be) no (?!longer\b|more than\b|less\b)",
    "bare preposition": r"\A(?:Of|For|By|With|From|In|At|To|On|Over|Under|Within|Without|After|Before|Since|Until|"
    r"Among)\b",
}
"""Name → pattern, matched against each docstring."""


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every docstring, attribute docstrings included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for number, statement in enumerate(body):
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                continue
            text = statement.value.value
            first = number == 0 and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            after_assignment = number > 0 and isinstance(body[number - 1], ast.Assign | ast.AnnAssign)
            if isinstance(text, str) and (first or after_assignment):
                yield statement.lineno, text


def source_docstrings() -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every docstring of the source packages."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for line, text in docstrings(ast.parse(file.read_text(encoding="utf-8"))):
                yield f"{file.relative_to(ROOT)}:{line}", text


def document_lines() -> Iterator[tuple[str, str]]:
    """Yield (place, line) of the documents, except the changelog's entries of earlier releases."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*.md")]
    for file in sorted(documents):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{file.relative_to(ROOT)}:{number}", line


def main() -> None:
    """Print the counts."""
    texts, lines = list(source_docstrings()), list(document_lines())
    sys.stdout.write(f"{len(texts):,} docstrings, per 1,000 of them; and lines of the documents\n")
    for name, pattern in TICS.items():
        tic = re.compile(pattern)
        places = [place for place, text in texts if tic.search(text)]
        where = [] if pattern.startswith(r"\A") else [f"{place}: {line}" for place, line in lines if tic.search(line)]
        sys.stdout.write(f"{name:<18} {1000 * len(places) / len(texts):6.1f} {len(where):6d}\n")
        if "--where" in sys.argv:
            sys.stdout.write("".join(f"    {place}\n" for place in [*places, *where]))


if __name__ == "__main__":
    main()
