#!/usr/bin/env bash
# datasets 5.2.0: which files of a folder belong to which split depends on the capitals in their names, and a file whose
# name holds no split keyword is left out without a word as soon as another one's does.
#
# load_dataset on a folder of two CSV files, one to train on and one to test with. Names in lower case give two splits.
# `TRAIN.csv` beside `TEST.csv` gives one split "train" with the rows of both, so the test rows are trained on; a good
# engineer expects two splits, or an error. `training_set.csv` beside `holdout.csv` gives a split "train", and the rows
# of the second file are nowhere: neither a warning nor a split of their own.
#
# Output seen (datasets 5.2.0, Python 3.11):
#   train.csv test.csv {'train': ['a', 'b'], 'test': ['c']}
#   TRAIN.csv TEST.csv {'train': ['c', 'a', 'b']}
#   training_set.csv holdout.csv {'train': ['a', 'b']}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check datasets==5.2.0 huggingface_hub==2.4.0 pandas==3.1.1 pyarrow==26.0.1
cat > "$work/look.py" <<'PY'
import sys
from pathlib import Path
from datasets import load_dataset

for number, names in enumerate((("train.csv", "test.csv"), ("TRAIN.csv", "TEST.csv"), ("training_set.csv", "holdout.csv"))):
    folder = Path(sys.argv[1]) / f"data-{number}"
    folder.mkdir()
    for name, text in zip(names, ("prompt\na\nb\n", "prompt\nc\n")):
        (folder / name).write_text(text)
    splits = load_dataset(str(folder), cache_dir=sys.argv[1] + "/cache")
    print(*names, {name: list(split["prompt"]) for name, split in splits.items()})
PY
seen=$("$work/venv/bin/python" "$work/look.py" "$work" 2> /dev/null)
echo "$seen"
[ "$seen" = "train.csv test.csv {'train': ['a', 'b'], 'test': ['c']}
TRAIN.csv TEST.csv {'train': ['c', 'a', 'b']}
training_set.csv holdout.csv {'train': ['a', 'b']}" ] && echo "as described"
