/* A disk that fails, for one process: preloaded (LD_PRELOAD), it lets calls on paths
   that contain $FAILING_PATH end with the error number $FAILING_ERRNO, the first
   $FAILING_TIMES times after $FAILING_AFTER that go well.  $FAILING_CALLS says which:
   any of open, stat, read, list. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int met;

static int fails(const char *call, const char *path) {
    const char *wanted = getenv("FAILING_PATH"), *calls = getenv("FAILING_CALLS");
    if (!wanted || !calls || !path || !strstr(calls, call) || !strstr(path, wanted))
        return 0;
    int number = atomic_fetch_add(&met, 1) - atoi(getenv("FAILING_AFTER"));
    if (number < 0 || number >= atoi(getenv("FAILING_TIMES")))
        return 0;
    errno = atoi(getenv("FAILING_ERRNO"));
    return 1;
}

static int fails_at(const char *call, int descriptor) {
    char link[64], path[4096];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = va_arg(rest, mode_t);                                          \
        va_end(rest);                                                                \
        return fails("open", path) ? -1 : REAL(name)(path, flags, mode);             \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                 \
    int name(int folder, const char *path, int flags, ...) {                         \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = va_arg(rest, mode_t);                                          \
        va_end(rest);                                                                \
        return fails("open", path) ? -1 : REAL(name)(folder, path, flags, mode);     \
    }
OPENAT(openat)
OPENAT(openat64)

#define STAT(name, kind)                                                             \
    int name(const char *restrict path, struct kind *restrict found) {               \
        return fails("stat", path) ? -1 : REAL(name)(path, found);                   \
    }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)

#define STATAT(name, kind)                                                           \
    int name(int folder, const char *restrict path, struct kind *restrict found,     \
             int flags) {                                                            \
        return fails("stat", path) ? -1 : REAL(name)(folder, path, found, flags);    \
    }
STATAT(fstatat, stat)
STATAT(fstatat64, stat64)

ssize_t read(int descriptor, void *buffer, size_t size) {
    return fails_at("read", descriptor) ? -1 : REAL(read)(descriptor, buffer, size);
}

DIR *opendir(const char *path) {
    return fails("list", path) ? NULL : REAL(opendir)(path);
}
