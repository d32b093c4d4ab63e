#!/usr/bin/env bash
# transformers 5.19.0: whether `mistral-common` is installed decides which tokenizer a Mistral folder gets.
#
# AutoTokenizer returns a fast tokenizer (TokenizersBackend) for a folder with config.json (model_type mistral),
# tokenizer.json and tekken.json, the layout of Ministral-8B-Instruct-2410. Once mistral-common is installed, which
# vLLM always does, the same call on the same folder returns MistralCommonBackend: a class without `is_fast`,
# `backend_tokenizer` and `added_tokens_decoder`, and without a chat template. `mistral_format=False` restores the fast
# tokenizer.
# One would guess that the files decide, not an unrelated package in the environment.
#
# Output seen (transformers 5.19.0, mistral-common 1.13.1, Python 3.11):
#   without mistral-common: TokenizersBackend is_fast=True
#   with mistral-common: MistralCommonBackend is_fast=missing backend_tokenizer=missing chat_template=None
#   with mistral-common and mistral_format=False: TokenizersBackend is_fast=True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip="$work/venv/bin/python -m pip install -q --disable-pip-version-check"
$pip transformers==5.19.0 tokenizers==0.23.3 jinja2==3.1.6
cat > "$work/look.py" <<'PY'
import sys
from transformers import AutoTokenizer

def look(label, **options):
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], **options)
    names = ["is_fast"] if type(tokenizer).__name__ == "TokenizersBackend" else ["is_fast", "backend_tokenizer", "chat_template"]
    print(f"{label}:", type(tokenizer).__name__, *(f"{name}={getattr(tokenizer, name, 'missing')}" for name in names))

look(sys.argv[2])
if len(sys.argv) > 3:
    look(f"{sys.argv[2]} and mistral_format=False", mistral_format=False)
PY
cat > "$work/make.py" <<'PY'
import json, shutil, sys
from pathlib import Path
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
import mistral_common

folder = Path(sys.argv[1])
data = Path(mistral_common.__file__).parent / "data"
shutil.copy(next(data.glob("tekken*.json")), folder / "tekken.json")
bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
bpe.train_from_iterator(["a real tokenizer.json beside it"], trainers.BpeTrainer(
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>", "</s>"], show_progress=False))
bpe.save(str(folder / "tokenizer.json"))
(folder / "config.json").write_text(json.dumps({"model_type": "mistral", "architectures": ["MistralForCausalLM"]}))
PY
mkdir "$work/model"
$pip --target "$work/common" --no-deps mistral-common==1.13.1
PYTHONPATH="$work/common" "$work/venv/bin/python" - "$work/model" "$work/make.py" <<'PY'
import importlib.util, runpy, sys, types
# Only the package's data folder is needed here; its own dependencies are not installed yet.
spec = importlib.util.find_spec("mistral_common")
module = types.ModuleType("mistral_common"); module.__file__ = spec.origin
sys.modules["mistral_common"] = module
sys.argv = [sys.argv[2], sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
PY
run() { "$work/venv/bin/python" "$work/look.py" "$work/model" "$@" 2> "$work/err" || { cat "$work/err"; exit 1; }; }
seen=$(run "without mistral-common")
$pip mistral-common==1.13.1
seen+=$'\n'$(run "with mistral-common" both)
echo "$seen"
[ "$seen" = "without mistral-common: TokenizersBackend is_fast=True
with mistral-common: MistralCommonBackend is_fast=missing backend_tokenizer=missing chat_template=None
with mistral-common and mistral_format=False: TokenizersBackend is_fast=True" ] && echo "as described"
