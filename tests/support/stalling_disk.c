/* Preloaded into a gateway: while the file named by STALLED_WHILE exists, nothing reaches the disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int when_it_moves(const char *call, int fd) {
    const char *path = getenv("STALLED_WHILE");
    while (path && access(path, F_OK) == 0)
        usleep(10000);
    return ((int (*)(int))dlsym(RTLD_NEXT, call))(fd);
}

int fsync(int fd) { return when_it_moves("fsync", fd); }
int fdatasync(int fd) { return when_it_moves("fdatasync", fd); }
