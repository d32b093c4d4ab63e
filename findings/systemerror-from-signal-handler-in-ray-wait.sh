#!/usr/bin/env bash
# Ray 2.60.0: an exception that a Python signal handler raises inside ray.wait or ray.get arrives as a SystemError.
#
# A handler's exception normally surfaces where the main thread is: `except Stopped` around `time.sleep` catches it. Around
# ray.wait it does not, because Ray's compiled code checks for signals during the wait and returns a result although an
# exception is set. Python reports that as a SystemError, with the handler's exception as its cause. One would guess that
# a handler may raise wherever Ctrl-C may; a driver that waits for Ray has to note the signal instead, or catch both.
#
# Output seen (ray 2.60.0, Python 3.11):
#   time.sleep: Stopped
#   ray.wait: SystemError from Stopped
#   ray.get: SystemError from Stopped
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check ray==2.60.0
cat > "$work/look.py" <<'PY'
import os, signal, threading, time
import ray

class Stopped(Exception):
    pass

def handler(number, frame):
    raise Stopped("by a signal")

def outcome(wait):
    signal.signal(signal.SIGUSR1, handler)
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        wait()
    except BaseException as error:
        cause = error.__cause__ or error.__context__
        return type(error).__name__ + (f" from {type(cause).__name__}" if cause else "")
    return "nothing"

@ray.remote(num_cpus=1)
def slow():
    time.sleep(8)

print("time.sleep:", outcome(lambda: time.sleep(6)))
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
reference = slow.remote()
print("ray.wait:", outcome(lambda: ray.wait([reference], timeout=20)))
print("ray.get:", outcome(lambda: ray.get(slow.remote(), timeout=20)))
os._exit(0)
PY
seen=$(RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n') PYTHONUNBUFFERED=1 \
  "$work/venv/bin/python" "$work/look.py" 2> /dev/null)
echo "$seen"
[ "$seen" = "time.sleep: Stopped
ray.wait: SystemError from Stopped
ray.get: SystemError from Stopped" ] && echo "as described"
