"""A wall clock that jumps, as one that is set by hand or by NTP: a library that is loaded before the C library.

libfaketime 0.9.10 cannot leave the monotonic clock true: then each `clock_nanosleep`, and so `time.sleep`, fails with EINVAL.
"""

import shutil
import subprocess
import sys
from pathlib import Path

COMPILER = shutil.which("cc")

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *seconds;

__attribute__((constructor)) static void open_clock(void) {
  const char *path = getenv("WALL_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
  if (page != MAP_FAILED) seconds = page;
  if (file >= 0) close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && seconds && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *seconds;
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *result) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (result) *result = exact.tv_sec;
  return exact.tv_sec;
}
"""


class Clock:
    """A wall clock that may jump, for processes that begin with ``variables``. Its C code is compiled when one is made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._file, self._library = folder / "seconds", folder / "clock.so"
        source = folder / "clock.c"
        source.write_text(SOURCE)
        subprocess.run([str(COMPILER), "-O1", "-shared", "-fPIC", "-o", self._library, source], check=True)
        self._file.write_bytes(bytes(8))

    def jump(self, hours: float) -> None:
        """Let the clock be so far from the true time."""
        with open(self._file, "r+b") as file:
            file.write(int(hours * 3600).to_bytes(8, sys.byteorder, signed=True))

    def variables(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK": str(self._file)}
