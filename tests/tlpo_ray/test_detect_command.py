"""`tlpo detect` as a user sees it: every kind of input and output, and the messages when one of them is wrong."""

from __future__ import annotations

import csv
import gzip
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

TLPO = Path(sys.executable).with_name("tlpo")
CLEAN, CONFUSED = "통화는 엔입니다", "통화는 єна입니다"
USER_ERROR, ABOVE = 2, 1
MEMORY_MIB = 300
"""The command needs about 90 MiB whatever it reads; the files below have 60 MiB, or 200 MiB unpacked."""


def detect(
    *arguments: str | Path, cwd: Path, stdin: str | bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [TLPO, "detect", *map(str, arguments)],
        cwd=cwd,
        input=stdin.encode("utf-8", "surrogateescape") if isinstance(stdin, str) else stdin,
        env=os.environ | {"COLUMNS": "100", "NO_COLOR": "1"} | environment,
        capture_output=True,
        timeout=240,
    )
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in stderr
    return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)


def spans(*arguments: str | Path, cwd: Path, stdin: str | bytes = b"") -> list[dict[str, Any]]:
    done = detect(*arguments, "--output", "jsonl", cwd=cwd, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(*arguments: str | Path, cwd: Path, stdin: str | bytes = b"") -> str:
    done = detect(*arguments, cwd=cwd, stdin=stdin)
    lines = done.stderr.splitlines()
    assert done.returncode == USER_ERROR, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tlpo: ")
    return lines[0]


def write_jsonl(path: Path, rows: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def test_marked_text_from_standard_input(tmp_path: Path) -> None:
    done = detect("--language", "ko", cwd=tmp_path, stdin=f"{CLEAN}\n\n{CONFUSED}\r\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["stdin:3:5 통화는 ⟦єна⟧입니다", "another language in 1 of 2 lines (50.0%)"]
    assert done.stderr == ""
    assert detect("--language", "ko", "-", cwd=tmp_path, stdin=CONFUSED).stdout.startswith("stdin:1:5 ")


def test_marks_are_colours_if_the_terminal_has_colours(tmp_path: Path) -> None:
    done = detect("--language", "ko", cwd=tmp_path, stdin=CONFUSED, NO_COLOR="", FORCE_COLOR="1", TERM="xterm")
    assert "\x1b[1;37;41mєна\x1b[0m" in done.stdout
    assert "⟦" not in done.stdout


def test_long_lines_are_shortened_around_their_findings_without_control_characters(tmp_path: Path) -> None:
    line = f"{CLEAN} \x1b[31m \udcff" + f"{CLEAN} " * 40 + CONFUSED + f" {CLEAN}" * 40
    done = detect("--language", "ko", cwd=tmp_path, stdin=line)
    (shown, _) = done.stdout.splitlines()
    assert len(shown) < 120
    assert "…" in shown and "⟦єна⟧" in shown
    done = detect("--language", "ko", cwd=tmp_path, stdin=f"\x1b[31m\udcff {CONFUSED}")
    assert "␛[31m� 통화는 ⟦єна⟧" in done.stdout
    assert "not UTF-8: 1;" in done.stderr


def test_json_lines_contain_the_place_of_every_finding_and_standard_output_nothing_else(tmp_path: Path) -> None:
    found = spans("--language", "ko", cwd=tmp_path, stdin=f"{CLEAN}\n{CONFUSED} и\n")
    assert found[0] == {
        "file": "stdin", "record": 2, "line": 2, "column": 5, "index": 4, "end": 7, "text": "єна",
        "script": "Cyrillic", "tier": "script", "language": "ko",
    }  # fmt: skip
    assert [row["text"] for row in found] == ["єна", "и"]
    done = detect("--language", "ko", "--output", "jsonl", cwd=tmp_path, stdin=CONFUSED)
    assert done.stdout.isascii()
    assert done.stderr == "another language in 1 of 1 lines (100.0%)\n"


def test_lone_surrogates_are_preserved(tmp_path: Path) -> None:
    (tmp_path / "half.jsonl").write_text('{"text": "\\ud83d 통화는 \\udc00єна", "lang": "ko"}\n')
    (row,) = spans("half.jsonl", cwd=tmp_path)
    assert (row["index"], row["text"]) == (7, "єна")
    assert "�" in detect("half.jsonl", cwd=tmp_path).stdout


def test_records_give_line_and_column_within_their_text(tmp_path: Path) -> None:
    text = f"{CLEAN}\n다음\n{CONFUSED}"
    write_jsonl(tmp_path / "answers.jsonl", [{"id": 1, "answer": CLEAN}, {"id": 2, "answer": text}])
    write_csv(tmp_path / "answers.csv", [["id", "answer"], ["1", f"{CLEAN}\n\n{CLEAN}"], ["2", text]])
    write_csv(tmp_path / "answers.tsv", [["id", "answer"], ["1", f"{CLEAN}, {CLEAN}"], ["2", text]], delimiter="\t")
    for name in ("answers.jsonl", "answers.csv", "answers.tsv"):
        (row,) = spans(name, "--language", "ko", cwd=tmp_path)
        assert text[row["index"] : row["end"]] == "єна"
        assert [row[key] for key in ("file", "record", "line", "column")] == [name, 2, 3, 5]
        done = detect(name, "--language", "ko", cwd=tmp_path)
        assert done.stdout.startswith(f"{name}:2:3:5 통화는 ⟦єна⟧입니다\n")
        assert "1 of 2 records" in done.stdout


def test_only_some_lines_of_a_record_are_shown(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "\n".join([CONFUSED] * 10)}])
    rows = detect("a.jsonl", "--language", "ko", cwd=tmp_path).stdout.splitlines()
    assert [row.split()[0] for row in rows[:4]] == [f"a.jsonl:1:{line}:5" for line in range(1, 5)]
    assert rows[4] == "  … and 6 more lines of this record"


def test_byte_order_marks_and_huge_fields_are_read(tmp_path: Path) -> None:
    content = f"text,n\n{CONFUSED},1\n{CLEAN * 30_000},2\n"
    (tmp_path / "bom.csv").write_text(content, encoding="utf-8-sig")
    (tmp_path / "bom.txt").write_text(CONFUSED, encoding="utf-8-sig")
    (row,) = spans("bom.csv", "--language", "ko", cwd=tmp_path)
    assert (row["record"], row["index"]) == (1, 4)
    (row,) = spans("bom.txt", "--language", "ko", cwd=tmp_path)
    assert row["index"] == 4


def test_gzip_is_unpacked_from_files_and_standard_input(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["completion", "language"], [f"{CLEAN}\n{CONFUSED}", "ko"]])
    packed = gzip.compress((tmp_path / "a.csv").read_bytes())
    (tmp_path / "b.csv.gz").write_bytes(packed)
    (tmp_path / "c.csv.gz").write_bytes(packed[:-12])
    plain, by_name = (spans(name, cwd=tmp_path) for name in ("a.csv", "b.csv.gz"))
    piped = spans("--input-format", "csv", cwd=tmp_path, stdin=packed)
    assert [{**row, "file": ""} for row in plain] == [{**row, "file": ""} for row in by_name]
    assert [{**row, "file": ""} for row in plain] == [{**row, "file": ""} for row in piped]
    assert "c.csv.gz: damaged compressed file" in refused("c.csv.gz", cwd=tmp_path)


def test_a_folder_is_read_by_name_without_hidden_or_unknown_files(tmp_path: Path) -> None:
    files = ("b.txt", "a/z.md", "a/.hidden/c.txt", ".d.txt", "e.png", "f.jsonl")
    for file in files:
        (tmp_path / "in" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / file).write_text(CONFUSED, encoding="utf-8")
    write_jsonl(tmp_path / "in" / "f.jsonl", [{"text": CONFUSED}])
    found = spans("in", "--language", "ko", cwd=tmp_path)
    assert [row["file"] for row in found] == ["in/a/z.md", "in/b.txt", "in/f.jsonl"]
    assert "3 of 3 lines and records" in detect("in", "--language", "ko", cwd=tmp_path).stdout
    (tmp_path / "empty").mkdir()
    assert "empty: no text in this folder; expected .txt" in refused("empty", "--language", "ko", cwd=tmp_path)


def test_each_record_states_its_language(tmp_path: Path) -> None:
    rows = [("ko", CONFUSED), ("uk", "Валюта єна"), ("ja", "通貨は円です"), ("ja", "通貨は엔です"), ("ko", "123")]
    write_jsonl(tmp_path / "a.jsonl", [{"language": language, "text": text} for language, text in rows])
    write_jsonl(tmp_path / "b.jsonl", [{"code": language, "text": text} for language, text in rows])
    for arguments in (["a.jsonl"], ["b.jsonl", "--language-field", "code"]):
        found = spans(*arguments, cwd=tmp_path)
        assert [(row["record"], row["language"], row["text"]) for row in found] == [(1, "ko", "єна"), (4, "ja", "엔")]
    assert "a.jsonl:1:1:5 ko 통화는 ⟦єна⟧" in detect("a.jsonl", cwd=tmp_path).stdout


def test_a_table_of_rates_by_language(tmp_path: Path) -> None:
    rows = [("ko", CONFUSED), ("ko", CLEAN), ("ko", CLEAN), ("ko", "123"), ("uk", "Валюта єна")]
    write_jsonl(tmp_path / "a.jsonl", [{"language": language, "text": text} for language, text in rows])
    table = detect("a.jsonl", "--output", "table", cwd=tmp_path).stdout
    cells = {line.split()[1]: line.replace("│", " ").split() for line in table.splitlines() if line.startswith("│")}
    assert cells["ko"][1:5] == ["4", "1", "1", "0.667"]
    assert cells["ko"][5] == "0.208–0.939"
    assert cells["ko"][6:] == ["0.833", "0.750"]
    assert cells["uk"][1:5] == ["1", "0", "0", "1.000"]
    assert cells["all"][1:5] == ["5", "1", "1", "0.750"]
    assert "1 of 5 records (20.0%)" in table


def test_english_is_confusion_if_requested(tmp_path: Path) -> None:
    text = "통화는 simply 엔입니다"
    assert spans("--language", "ko", cwd=tmp_path, stdin=text) == []
    (row,) = spans("--language", "ko", "--english", "confusion", cwd=tmp_path, stdin=text)
    assert row["text"] == "simply"
    assert "--english strict: expected neutral or confusion" in refused(
        "--language", "ko", "--english", "strict", cwd=tmp_path
    )


def test_settings_reach_the_detector(tmp_path: Path) -> None:
    text = "대한민국(大韓民國)의 수도"
    assert len(spans("--language", "ko", cwd=tmp_path, stdin=text)) == 1
    assert spans("--language", "ko", "--set", "hanja_in_brackets=exempt", cwd=tmp_path, stdin=text) == []
    assert "hanja" in refused("--language", "ko", "--set", "hanja=exempt", cwd=tmp_path)
    assert "expected key=value" in refused("--language", "ko", "--set", "hanja_in_brackets", cwd=tmp_path)
    assert "not YAML" in refused("--language", "ko", "--set", "allowed=[a", cwd=tmp_path)


def test_another_detector_requires_no_language(tmp_path: Path) -> None:
    (tmp_path / "forbidden.txt").write_text("# names\nfoo\nnew york\n")
    text = "the Foo of New York, food\nnothing\nfoo, foo\n"
    terms = ("--detector", "terms", "--set", "file=forbidden.txt", "--set", "patterns=['\\d{3}']")
    found = spans(*terms, cwd=tmp_path, stdin=f"{text}call 555-1234\n")
    assert [(row["line"], row["column"], row["text"]) for row in found] == [
        (1, 5, "Foo"), (1, 12, "New York"), (3, 1, "foo"), (3, 6, "foo"), (4, 6, "555"), (4, 10, "123"),
    ]  # fmt: skip
    assert {(row["script"], row["language"]) for row in found} == {("term", None)}
    done = detect(*terms, "--output", "table", cwd=tmp_path, stdin=text)
    assert "terms in 2 of 3 lines (66.7%)" in done.stdout
    assert "0.667" in done.stdout
    assert "nothing is forbidden" in refused("--detector", "terms", cwd=tmp_path)
    assert "available: language" in refused("--detector", "nowhere", cwd=tmp_path)


def test_fail_above_is_an_exit_code_for_ci(tmp_path: Path) -> None:
    text = f"{CLEAN}\n{CONFUSED}\n{CLEAN}\n{CLEAN}\n"
    assert detect("--language", "ko", "--fail-above", "0.25", cwd=tmp_path, stdin=text).returncode == 0
    for output in ("marked", "jsonl", "table"):
        done = detect("--language", "ko", "--fail-above", "0.2", "--output", output, cwd=tmp_path, stdin=text)
        assert done.returncode == ABOVE
        assert done.stderr.splitlines()[-1] == (
            "tlpo: a share of 0.25 is confused (1 of 4 lines); --fail-above allows 0.2"
        )
    assert "expected a share from 0 to 1" in refused("--language", "ko", "--fail-above", "5", cwd=tmp_path)
    done = detect("--language", "ko", "--fail-above", "0", cwd=tmp_path, stdin="\n")
    assert done.returncode == USER_ERROR
    assert "nothing to judge" in done.stderr


def test_a_field_is_selected_only_if_it_is_unambiguous(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "two.jsonl", [{"answer": CLEAN, "text": CONFUSED}])
    write_jsonl(tmp_path / "none.jsonl", [{"id": 3, "prompt": CONFUSED}])
    write_csv(tmp_path / "none.csv", [["id", "prompt"], ["3", CONFUSED]])
    korean = ("--language", "ko")
    assert "text and answer may both be the text" in refused("two.jsonl", *korean, cwd=tmp_path)
    assert len(spans("two.jsonl", *korean, "--field", "text", cwd=tmp_path)) == 1
    for name in ("none.jsonl", "none.csv"):
        line = refused(name, *korean, cwd=tmp_path)
        assert name in line
        assert "--field; found id, prompt" in line
        assert "found id, prompt" in refused(name, *korean, "--field", "answer", cwd=tmp_path)
    assert "it holds 3" in refused("none.jsonl", *korean, "--field", "id", cwd=tmp_path)
    assert len(spans(*korean, "--field", "prompt", cwd=tmp_path, stdin=json.dumps({"prompt": CONFUSED}))) == 1
    assert "has no field 'x'" in refused(*korean, "--field", "x", "--input-format", "text", cwd=tmp_path)


def test_a_missing_or_unknown_language_is_an_error(tmp_path: Path) -> None:
    assert "--language is missing: plain text (stdin)" in refused(cwd=tmp_path, stdin=CLEAN)
    assert "'kr': no detector" in refused("--language", "kr", cwd=tmp_path, stdin=CLEAN)
    write_jsonl(tmp_path / "a.jsonl", [{"text": CLEAN, "language": "ko"}, {"text": CLEAN, "language": "kr"}])
    line = refused("a.jsonl", cwd=tmp_path)
    assert "a.jsonl line 2: language 'kr'" in line
    assert "available: ar, " in line
    write_jsonl(tmp_path / "b.jsonl", [{"text": CLEAN}])
    assert "b.jsonl line 1: no language" in refused("b.jsonl", cwd=tmp_path)
    assert "no language in field 'code'" in refused("b.jsonl", "--language-field", "code", cwd=tmp_path)
    assert "give one of them" in refused("b.jsonl", "--language", "ko", "--language-field", "code", cwd=tmp_path)
    done = detect("a.jsonl", "--skip-bad", cwd=tmp_path)
    assert "0 of 1 records" in done.stdout
    assert "bad records skipped: 1 (1 language 'kr': no detector for it)" in done.stderr


def test_malformed_records_are_named_by_line_or_counted(tmp_path: Path) -> None:
    rows = [json.dumps({"text": CONFUSED}), '{"text": "broken', "[1]", json.dumps({"text": None})]
    (tmp_path / "a.jsonl").write_text("\n\n".join(rows))
    assert "a.jsonl line 3: not JSON" in refused("a.jsonl", "--language", "ko", cwd=tmp_path)
    done = detect("a.jsonl", "--language", "ko", "--skip-bad", cwd=tmp_path)
    assert "1 of 1 records" in done.stdout
    assert "skipped: 3 (1 not JSON, 1 not an object with fields, 1 no text in field 'text')" in done.stderr
    (tmp_path / "list.json").write_text('[\n{"text": "a"}\n]')
    assert "write one record per line" in refused("list.json", "--language", "ko", cwd=tmp_path)

    (tmp_path / "b.csv").write_text(f'id,text\n1,"two\nlines"\n2,too,many\n3,"a"b\n4,{CONFUSED}\n')
    assert "b.csv line 4: not as many fields as the header" in refused("b.csv", "--language", "ko", cwd=tmp_path)
    done = detect("b.csv", "--language", "ko", "--skip-bad", cwd=tmp_path)
    assert "b.csv:4:1:5 " in done.stdout
    assert "bad records skipped: 2 (" in done.stderr
    (tmp_path / "c.csv").write_text('id,text\n1,a\n2,"never closed\n3,b\n')
    line = refused("c.csv", "--language", "ko", "--skip-bad", cwd=tmp_path)
    assert "c.csv line 3: a quoted field begins in this record and does not end" in line


def test_unreadable_files_and_invalid_options_are_errors(tmp_path: Path) -> None:
    assert "nowhere.txt: no such file" in refused("nowhere.txt", "--language", "ko", cwd=tmp_path)
    (tmp_path / "wide.txt").write_text(CLEAN, encoding="utf-16")
    assert "wide.txt: UTF-16 text" in refused("wide.txt", "--language", "ko", cwd=tmp_path)
    assert "--output xml: expected marked, table or jsonl" in refused("--output", "xml", cwd=tmp_path)
    assert "--input-format xml: expected auto" in refused("--input-format", "xml", cwd=tmp_path)


@pytest.mark.parametrize("output", ["marked", "jsonl"])
def test_a_closed_pipe_ends_the_command_quietly(tmp_path: Path, output: str) -> None:
    (tmp_path / "many.txt").write_text(f"{CONFUSED}\n" * 20_000, encoding="utf-8")
    command = [TLPO, "detect", "many.txt", "--language", "ko", "--output", output]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        assert b"many.txt" in running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == -13  # SIGPIPE, which a shell shows as 141


def test_a_full_disk_is_an_error_of_one_line(tmp_path: Path) -> None:
    command = [TLPO, "detect", "--language", "ko"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, input=CONFUSED.encode(), stdout=full, stderr=subprocess.PIPE)
    assert done.stderr.decode() == "tlpo: cannot write to standard output: No space left on device\n"
    assert done.returncode == USER_ERROR


def test_progress_is_shown_for_long_files_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(f"{CLEAN}\n" * 200_000, encoding="utf-8")
    (tmp_path / "short.txt").write_text(f"{CLEAN}\n", encoding="utf-8")
    assert b"reading" in stderr_on_a_terminal("long.txt", tmp_path)
    assert stderr_on_a_terminal("short.txt", tmp_path) == b""


def stderr_on_a_terminal(name: str, cwd: Path) -> bytes:
    """Return what is written to standard error if that is a terminal."""
    ours, theirs = pty.openpty()
    command = [TLPO, "detect", name, "--language", "ko"]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=theirs) as running:
        os.close(theirs)
        written = b""
        try:
            while piece := os.read(ours, 4096):
                written += piece
        except OSError:  # the command has closed its side
            os.close(ours)
    assert running.returncode == 0
    return written


@pytest.mark.slow
@pytest.mark.parametrize("name", ["big.txt", "big.jsonl", "big.csv", "big.csv.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    text = f"{CLEAN} " * 20
    row = {"txt": f"{text}\n", "jsonl": json.dumps({"text": text}) + "\n"}.get(
        name.split(".")[1], f'"{text}\n{text}"\n'
    )
    with (
        gzip.open(tmp_path / name, "wt", encoding="utf-8", compresslevel=1)
        if name.endswith("gz")
        else (tmp_path / name).open("w", encoding="utf-8") as file
    ):
        file.write("text\n" if ".csv" in name else "")
        block = row * 1000
        for _ in range((200 if name.endswith("gz") else 60) * 2**20 // len(block.encode())):
            file.write(block)
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, TLPO, "detect", name, "--language", "ko"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=240)
    assert int(done.stdout.split()[-1]) < MEMORY_MIB * 1024


def test_parts_of_an_answer_are_judged_each_in_its_language(tmp_path: Path) -> None:
    answer = "<think>I think so.\n안녕</think>답은 서울 東京"
    write_jsonl(tmp_path / "a.jsonl", [{"answer": answer, "lang": "ko"}, {"answer": "I am not done", "lang": "ko"}])
    options = ("a.jsonl", "--segment", "thoughts=en")
    rows = spans(*options, cwd=tmp_path)
    assert [(row["part"], answer[row["index"] : row["end"]], row["line"]) for row in rows] == [
        ("thoughts", "안녕", 2),
        ("answer", "東京", 2),
    ]
    assert "part" not in spans("a.jsonl", cwd=tmp_path)[0]
    table = detect(*options, "--output", "table", cwd=tmp_path).stdout
    assert "  thoughts" in table and "  answer" in table
    assert "expected part=language" in refused("a.jsonl", "--segment", "thoughts", cwd=tmp_path)
    assert "'thinking' is no part of an answer" in refused("a.jsonl", "--segment", "thinking=en", cwd=tmp_path)
