/* Adds SLOW_SYNC_MS milliseconds to each fsync and fdatasync of a process: a disk slower than the one at hand.
   cc -shared -fPIC -O2 -o slow_sync.so slow_sync.c -ldl; then LD_PRELOAD. Used by bench/spool_commit.py --slow-sync. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_more(void) {
    const char *text = getenv("SLOW_SYNC_MS");
    long microseconds = text ? (long)(atof(text) * 1000) : 0;
    struct timespec span = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&span, NULL);
}

int fsync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_more();
    return real(descriptor);
}

int fdatasync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_more();
    return real(descriptor);
}
