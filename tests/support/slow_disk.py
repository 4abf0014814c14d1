"""A file system that answers slowly, as a cold network file system does: a library that delays calls to the C library."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Below SLOW_ROOT each call takes SLOW_US microseconds longer, and adds a byte to the file SLOW_COUNT. */
static void answer_slowly(const char *path) {
    const char *root = getenv("SLOW_ROOT"), *count = getenv("SLOW_COUNT");
    if (!root || !path || strncmp(path, root, strlen(root))) return;
    usleep(atoi(getenv("SLOW_US")));
    int file = open(count, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file >= 0) { ssize_t written = write(file, ".", 1); (void)written; close(file); }
}
/* The same for a path below an open folder. */
static void answer_slowly_at(int folder, const char *path) {
    char link[32], place[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = path && *path == '/' ? 0 : readlink(link, place, sizeof place - 1);
    place[length > 0 ? length : 0] = 0;
    answer_slowly(length > 0 ? place : path);
}
#define CALL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
int stat(const char *path, struct stat *s) { answer_slowly(path); return CALL(stat)(path, s); }
int stat64(const char *path, struct stat64 *s) { answer_slowly(path); return CALL(stat64)(path, s); }
int lstat(const char *path, struct stat *s) { answer_slowly(path); return CALL(lstat)(path, s); }
int lstat64(const char *path, struct stat64 *s) { answer_slowly(path); return CALL(lstat64)(path, s); }
int fstatat(int folder, const char *path, struct stat *s, int flags) {
    answer_slowly_at(folder, path); return CALL(fstatat)(folder, path, s, flags);
}
int fstatat64(int folder, const char *path, struct stat64 *s, int flags) {
    answer_slowly_at(folder, path); return CALL(fstatat64)(folder, path, s, flags);
}
#define MODE va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest)
int open64(const char *path, int flags, ...) { MODE; answer_slowly(path); return CALL(open64)(path, flags, mode); }
DIR *opendir(const char *path) { answer_slowly(path); return CALL(opendir)(path); }
"""


@dataclass(frozen=True)
class SlowDisk:
    """Calls below ``root`` are slow in processes that have ``environment``."""

    library: Path
    root: Path
    call_s: float
    count: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "SLOW_ROOT": str(self.root),
            "SLOW_US": str(int(1e6 * self.call_s)),
            "SLOW_COUNT": str(self.count),
        }

    def calls(self) -> int:
        """How many calls there were since the last question."""
        made = self.count.stat().st_size if self.count.exists() else 0
        self.count.unlink(missing_ok=True)
        return made


def slow_disk(folder: Path, root: Path, call_s: float) -> SlowDisk:
    """Build the library; without a C compiler, skip the test."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the slow file system with")
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return SlowDisk(library, root, call_s, folder / "calls")


def environment_of_rank(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun sets for a rank, on top of the environment of this process."""
    ours = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return os.environ | {name: str(value) for name, value in ours.items()} | {"OMP_NUM_THREADS": "1"}
