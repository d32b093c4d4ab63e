"""Arguments and options of the commands as types, so that each takes one line in the signature of its command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, e.g. learner.lr=1e-6.")
]

# tlpo evaluate

_JUDGED, _JUDGING, _SAMPLING = "What to judge", "How to judge", "Sampling"

AnsweringModel = Annotated[
    str | None, typer.Argument(help="Folder or hub name of the model that generates the answers.")
]
JudgedPrompts = Annotated[str | None, typer.Option(help="Prompt file, folder or hub dataset.", rich_help_panel=_JUDGED)]
Suite = Annotated[
    str | None,
    typer.Option(help="lcb-monolingual, lcb-crosslingual, mif, mmmlu, gsm8k-cross or wanted.", rich_help_panel=_JUDGED),
]
SuiteSource = Annotated[
    str | None,
    typer.Option(
        help="File, folder or hub dataset with a suite's records; default: its own on the hub.", rich_help_panel=_JUDGED
    ),
]
SavedAnswers = Annotated[
    Path | None, typer.Option(help="Answers saved by --output, to be judged again.", rich_help_panel=_JUDGED)
]
LmEvalLogs = Annotated[
    Path | None, typer.Option(help="Sample logs of `lm-eval --log_samples`.", rich_help_panel=_JUDGED)
]
LmEvalTasks = Annotated[
    str | None,
    typer.Option(
        help="With --lm-eval: tasks to read, separated by commas; default: those that the paper judges.",
        rich_help_panel=_JUDGED,
    ),
]
AccuracyTasks = Annotated[
    str | None,
    typer.Option(
        help="lm-eval tasks to run, separated by commas, or paper for those of the paper.", rich_help_panel=_JUDGED
    ),
]
PerplexityTexts = Annotated[
    str | None,
    typer.Option(
        help="Human-written texts (file, folder or hub dataset) to measure the model's perplexity on.",
        rich_help_panel=_JUDGED,
    ),
]
AnswerLanguages = Annotated[
    str | None,
    typer.Option(
        help="Language that the answers should be in; several for a suite, e.g. ko,ja.", rich_help_panel=_JUDGING
    ),
]
EnglishInAnswers = Annotated[
    str,
    typer.Option(help="neutral: English is never confusion; confusion: it always is.", rich_help_panel=_JUDGING),
]
Samples = Annotated[int, typer.Option(min=1, help="Answers per prompt.", rich_help_panel=_SAMPLING)]
Temperature = Annotated[
    float | None,
    typer.Option(min=0.0, help="Temperature; default: that of the suite, else 0.6.", rich_help_panel=_SAMPLING),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Maximum length of an answer in tokens; default: that of the suite, else 512.",
        rich_help_panel=_SAMPLING,
    ),
]
Engine = Annotated[str, typer.Option(help="vllm or transformers.", rich_help_panel=_SAMPLING)]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, help="Maximum number of prompts (of a suite: per language); default: all.", rich_help_panel=_SAMPLING
    ),
]
SamplingSeed = Annotated[int, typer.Option(help="Seed of the sampling.", rich_help_panel=_SAMPLING)]
Like = Annotated[
    str | None,
    typer.Option(help="Preset or file that defines how prompts are rendered for the model.", rich_help_panel=_SAMPLING),
]
Decoding = Annotated[
    str,
    typer.Option(
        help="plain, greedy, prompt, mask, gate, boost or retry, with settings: gate:top_k=20 (see the manual).",
        rich_help_panel=_SAMPLING,
    ),
]
Segments = Annotated[
    list[str] | None,
    typer.Option(
        "--segment",
        metavar="PART=LANGUAGE",
        help="How a part of an answer is judged: thoughts, answer, tool_calls or code, = prompt, exempt or a language; "
        "repeatable. Rates are then reported for each part.",
        rich_help_panel=_JUDGING,
    ),
]
SkipBadPrompts = Annotated[bool, typer.Option("--skip-bad", help="Skip and count bad records.")]
EvaluationFolder = Annotated[Path | None, typer.Option(help="Folder for answers.jsonl and result.json.")]

# tlpo detect

_INPUT, _RULES, _OUTPUT = "Input", "Rules", "Output"

TextFiles = Annotated[
    list[Path] | None,
    typer.Argument(help="Files and folders, also compressed; without any, or with -, standard input is read."),
]
InputFormat = Annotated[
    str,
    typer.Option(
        help="auto, text, jsonl or csv. auto decides by the ending (.txt .md .jsonl .ndjson .json .csv .tsv); anything "
        "else, and standard input, is JSONL with --field and plain text without it. Parquet and Arrow files are "
        "recognised by their content.",
        rich_help_panel=_INPUT,
    ),
]
TextField = Annotated[
    str | None,
    typer.Option(help="Field of the text. Default: text, answer or a similar name.", rich_help_panel=_INPUT),
]
SkipBadRecords = Annotated[bool, typer.Option("--skip-bad", help="Skip and count bad records.", rich_help_panel=_INPUT)]
TextLanguage = Annotated[
    str | None, typer.Option(help="Language that all texts should be in, e.g. ko.", rich_help_panel=_RULES)
]
LanguageField = Annotated[
    str | None, typer.Option(help="Field of the language. Default: language or lang.", rich_help_panel=_RULES)
]
EnglishInTexts = Annotated[
    str,
    typer.Option(help="neutral: English is never confusion; confusion: it always is.", rich_help_panel=_RULES),
]
Detector = Annotated[
    str, typer.Option(help="language, terms, or the name of another installed detector.", rich_help_panel=_RULES)
]
DetectorSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Setting of the detector, e.g. hanja_in_brackets=exempt, or file=forbidden.txt for terms; repeatable.",
        rich_help_panel=_RULES,
    ),
]
PartsOfTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--segment",
        metavar="PART=LANGUAGE",
        help="How a part of an answer is judged: thoughts, answer, tool_calls or code, = prompt, exempt or a language; "
        "repeatable.",
        rich_help_panel=_RULES,
    ),
]
DetectOutput = Annotated[
    str,
    typer.Option(
        help="marked: the text with marks; table: rates per language; jsonl: one object per finding.",
        rich_help_panel=_OUTPUT,
    ),
]
FailAbove = Annotated[
    float | None,
    typer.Option(
        metavar="RATE", help="Exit with code 1 if a larger share, 0 to 1, is confused.", rich_help_panel=_OUTPUT
    ),
]
