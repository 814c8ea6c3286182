/* What a disk may do to a program, below its code: preloaded into the service by the tests.
 *
 *   SHIM_NO_SYNC=TEXT  a sync of a file with TEXT in its path succeeds without doing anything
 *   SHIM_SHORT=1       every write at a position takes about half of its bytes
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Whether syncs of this file do nothing. */
static int pretends(int fd) {
    char link[64], path[PATH_MAX + 1];
    const char *text = getenv("SHIM_NO_SYNC");
    if (text == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, text) != NULL;
}

int fsync(int fd) { return pretends(fd) ? 0 : NEXT(fsync)(fd); }

int fdatasync(int fd) { return pretends(fd) ? 0 : NEXT(fdatasync)(fd); }

int syncfs(int fd) { return pretends(fd) ? 0 : NEXT(syncfs)(fd); }

int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags) {
    return pretends(fd) ? 0 : NEXT(sync_file_range)(fd, offset, bytes, flags);
}

static size_t some(size_t bytes) {
    return getenv("SHIM_SHORT") != NULL && bytes > 1 ? bytes / 2 + 1 : bytes;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    return NEXT(pwrite64)(fd, bytes, some(count), offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return NEXT(pwrite)(fd, bytes, some(count), offset);
}
