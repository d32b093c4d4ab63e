"""Types a tutorial's commands into one shell in a fresh clone, as a newcomer would, and compares the output.

``python -m tests.tutorial`` clones the last commit into build/tutorial, goes through docs/tutorial-laptop.md there,
says of each block how long it took, and stops at the first one that shows something else than the page.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/tutorial-laptop.md"
PLACE = ROOT / "build" / "tutorial"
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LONGEST_S = 1800.0
"""Seconds for the complete page: the installation takes most of it."""
MARK = "--- end of block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Commands of a page, and the output that the page shows for them."""

    commands: str
    shown: tuple[str, ...]


def blocks(page: str) -> Iterator[Block]:
    """Yield a page's commands in order.

    Example: a `bash` block with the `text` block that follows it, if one does.
    """
    found = FENCED.findall(page)
    for at, (kind, text) in enumerate(found):
        if kind == "bash":
            below = found[at + 1] if at + 1 < len(found) else ("", "")
            yield Block(commands=text, shown=tuple(below[1].splitlines()) if below[0] == "text" else ())


def missing(shown: Sequence[str], came: Sequence[str]) -> str | None:
    """Return the first line of the page that the output lacks; `…` matches anything, extra lines are allowed."""
    rest = iter(line.rstrip() for line in came)
    for line in (line for line in shown if line.strip() != "…"):
        pattern = re.compile(".*".join(map(re.escape, re.split("…+", line.rstrip()))))
        if not any(map(pattern.fullmatch, rest)):
            return line
    return None


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main() -> int:
    shutil.rmtree(PLACE, ignore_errors=True)
    subprocess.run(["git", "clone", "-q", str(ROOT), str(PLACE)], check=True)
    page = list(blocks((PLACE / PAGE).read_text(encoding="utf-8")))
    script = "exec 2>&1\n" + "".join(f"{block.commands}\necho; echo '{MARK}'\n" for block in page)
    began = time.monotonic()
    command = ["timeout", f"{LONGEST_S:.0f}", "bash", "-c", script]
    with subprocess.Popen(command, cwd=PLACE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        for number, block in enumerate(page, 1):
            came: list[str] = []
            started = time.monotonic()
            for line in shell.stdout:
                if line.rstrip() == MARK:
                    break
                came.append(line.rstrip("\n"))
            first = block.commands.splitlines()[0]
            lost = missing(block.shown, came)
            if lost is not None:
                shell.terminate()
                say(f"{number:2} of {len(page)}  {first}", f"{PAGE} shows:  {lost}", "but there was:", *came[-40:])
                return 1
            say(f"{number:2} of {len(page)}  {time.monotonic() - started:6.1f} s  {first}")
    say(f"{PAGE}: all {len(page)} blocks show what the page shows, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
