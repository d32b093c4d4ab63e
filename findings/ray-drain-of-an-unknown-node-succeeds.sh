#!/usr/bin/env bash
# ray 2.60.0: draining a node that the cluster does not have succeeds.
#
# `ray drain-node` is what a script calls when a spot node gets its notice. For an id that no node of the cluster has
# (an id of yesterday's cluster, or one that was asked from another Ray on the same machine) it prints nothing and exits
# with 0, as it does for the id of a node: whoever relies on the exit code believes that the processes are being moved.
# A good engineer expects the error that `ray drain-node` gives for the nil id.
#
# Output seen (ray 2.60.0, Python 3.11), in a cluster of one node:
#   another cluster's id: exit 0, output ''
#   the nil id: exit 2, Invalid hex ID of a Ray node
set -euo pipefail
work=$(mktemp -d)
head=
trap '[ -z "$head" ] || { kill "$head"; wait "$head" || true; } 2> /dev/null; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check 'ray[default]==2.60.0'
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled
port=$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/venv/bin/ray" start --head --block --port="$port" --num-cpus=1 --object-store-memory=100000000 \
  --include-dashboard=false --temp-dir="$work/ray" > "$work/log" 2>&1 &
head=$!
for _ in $(seq 60); do grep -q "Ray runtime started" "$work/log" && break; sleep 1; done
cat > "$work/look.py" <<'PY'
import subprocess, sys
import ray

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
ids = [node["NodeID"] for node in ray.nodes()]
other = "ab" * (len(ids[0]) // 2)
assert len(ids) == 1 and other not in ids
for name, node in (("another cluster's id", other), ("the nil id", "f" * len(other))):
    command = [
        sys.argv[2], "drain-node", "--address", sys.argv[1], "--node-id", node, "--reason",
        "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "notice", "--deadline-remaining-seconds", "600",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout + done.stderr
    said = "Invalid hex ID of a Ray node" if "Invalid hex ID of a Ray node" in output else f"output {output!r}"
    print(f"{name}: exit {done.returncode}, {said}")
PY
seen=$("$work/venv/bin/python" "$work/look.py" "127.0.0.1:$port" "$work/venv/bin/ray" 2> /dev/null)
echo "$seen"
[ "$seen" = "another cluster's id: exit 0, output ''
the nil id: exit 2, Invalid hex ID of a Ray node" ] && echo "as described"
