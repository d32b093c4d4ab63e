"""Storage that takes only so many bytes a second, for all processes that inherit an environment.

A library between a program and the C library delays `write` to files of a folder: what the program calls is real, in
whatever language it is written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "write");
    ssize_t written = next(file, bytes, count);
    const char *folder = getenv("SLOW_FOLDER"), *rate = getenv("SLOW_BYTES_PER_SECOND");
    if (written > 0 && folder != NULL && rate != NULL) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = '\0';
            if (strncmp(path, folder, strlen(folder)) == 0) {
                double seconds = written / atof(rate);
                struct timespec pause = {(time_t)seconds, (long)(1e9 * (seconds - (time_t)seconds))};
                nanosleep(&pause, NULL);
            }
        }
    }
    return written;
}
"""


def has_compiler() -> bool:
    """Return whether there is what the library is made with."""
    return shutil.which("cc") is not None


def slow_storage(into: Path, folder: Path, bytes_per_second: float) -> dict[str, str]:
    """Return environment variables with which processes write slowly to a folder.

    Args:
        into: Folder for the library.
        folder: What is written below it is slow.
        bytes_per_second: How fast.
    """
    source, library = into / "slow_storage.c", into / "slow_storage.so"
    source.write_text(SOURCE, encoding="utf-8")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    preloaded = os.environ.get("LD_PRELOAD", "").split(":")
    return {
        "LD_PRELOAD": ":".join([str(library), *filter(None, preloaded)]),
        "SLOW_FOLDER": str(folder.resolve()),
        "SLOW_BYTES_PER_SECOND": str(bytes_per_second),
    }
