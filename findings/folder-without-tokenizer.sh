#!/usr/bin/env bash
# transformers 5.19.0: a model folder without any tokenizer file yields a working tokenizer with a handful of tokens.
#
# AutoTokenizer.from_pretrained on a folder that holds nothing but a config.json raises no error: for some model types (gemma3_text,
# qwen3) it returns a fast tokenizer of a few special tokens, which
# encodes every text to nothing or to one unknown token. For others (llama) the same call raises a ValueError, which is
# what one would guess for all of them.
#
# Output seen (transformers 5.19.0, tokenizers 0.23.3, Python 3.11):
#   gemma3_text GemmaTokenizer 5 tokens, encodes a sentence as [3]
#   llama ValueError
#   qwen3 Qwen2Tokenizer 1 tokens, encodes a sentence as []
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check transformers==5.19.0 tokenizers==0.23.3
cat > "$work/look.py" <<'PY'
import json, sys
from pathlib import Path
from transformers import AutoTokenizer

for kind in ("gemma3_text", "llama", "qwen3"):
    folder = Path(sys.argv[1]) / kind
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        print(kind, type(tokenizer).__name__, f"{len(tokenizer)} tokens,", "encodes a sentence as", tokenizer("The capital of Korea is Seoul.")["input_ids"])
    except Exception as error:
        print(kind, type(error).__name__)
PY
seen=$("$work/venv/bin/python" "$work/look.py" "$work" 2> /dev/null)
echo "$seen"
[ "$seen" = "gemma3_text GemmaTokenizer 5 tokens, encodes a sentence as [3]
llama ValueError
qwen3 Qwen2Tokenizer 1 tokens, encodes a sentence as []" ] && echo "as described"
