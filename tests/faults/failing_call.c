/* Lets one system call on what lies in a folder fail; see io_errors.py.
 *
 * Loaded before the C library (LD_PRELOAD), so calls that libraries make in C++
 * count too. It reads the environment variables FAULT_FOLDER, FAULT_AT (which
 * call fails, from 1), FAULT_NUMBER (errno) and FAULT_LOG, a file that gets a
 * line for each call.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int calls;

/* Whether this call on a path must fail; errno is then set. */
static int path_fails(const char *call, const char *path) {
  const char *folder = getenv("FAULT_FOLDER");
  if (!folder || !path) return 0;
  size_t n = strlen(folder);
  if (strncmp(path, folder, n) || (path[n] && path[n] != '/')) return 0;
  int before = errno;
  int count = __sync_add_and_fetch(&calls, 1);
  int hit = count == atoi(getenv("FAULT_AT"));
  int log = syscall(SYS_openat, AT_FDCWD, getenv("FAULT_LOG"),
                    O_WRONLY | O_APPEND | O_CREAT, 0666);
  char line[5000];
  int size = snprintf(line, sizeof line, "%s%s %s\n", hit ? "FAILS " : "",
                      call, path);
  syscall(SYS_write, log, line, size);
  syscall(SYS_close, log);
  errno = hit ? atoi(getenv("FAULT_NUMBER")) : before;
  return hit;
}

static int file_fails(const char *call, int file) {
  char link[64], path[4096];
  if (!getenv("FAULT_FOLDER")) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return path_fails(call, path);
}

/* A path relative to an open folder. */
static int at_fails(const char *call, int folder, const char *name) {
  char link[64], path[9000];
  if (name[0] == '/' || folder == AT_FDCWD) return path_fails(call, name);
  snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t n = readlink(link, path, 4095);
  if (n < 0) return 0;
  snprintf(path + n, sizeof path - n, "/%s", name);
  return path_fails(call, path);
}

#define CALL(type, name, failed, fails, parameters, arguments) \
  type name parameters {                                       \
    static type(*real) parameters;                             \
    if (!real) real = dlsym(RTLD_NEXT, #name);                 \
    return fails ? failed : real arguments;                    \
  }
#define ON_PATH(name, parameters, arguments) \
  CALL(int, name, -1, path_fails(#name, path), parameters, arguments)
#define ON_FILE(type, name, parameters, arguments) \
  CALL(type, name, -1, file_fails(#name, file), parameters, arguments)
#define IN_FOLDER(name, parameters, arguments) \
  CALL(int, name, -1, at_fails(#name, folder, path), parameters, arguments)
#define OPEN(name, fails, parameters, arguments)  \
  int name parameters {                           \
    static int (*real)();                         \
    if (!real) real = dlsym(RTLD_NEXT, #name);    \
    va_list rest;                                 \
    va_start(rest, flags);                        \
    mode_t mode = va_arg(rest, mode_t);           \
    va_end(rest);                                 \
    return fails ? -1 : real arguments;           \
  }
#define OPENS(name)                                                     \
  OPEN(name, path_fails(#name, path), (const char *path, int flags, ...), \
       (path, flags, mode))
#define OPENS_AT(name)                          \
  OPEN(name, at_fails(#name, folder, path),     \
       (int folder, const char *path, int flags, ...), \
       (folder, path, flags, mode))

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(rmdir, (const char *path), (path))
ON_PATH(unlink, (const char *path), (path))
ON_PATH(rename, (const char *path, const char *to), (path, to))
ON_PATH(chmod, (const char *path, mode_t mode), (path, mode))
ON_PATH(stat, (const char *path, struct stat *to), (path, to))
ON_PATH(lstat, (const char *path, struct stat *to), (path, to))
ON_PATH(stat64, (const char *path, struct stat64 *to), (path, to))
ON_PATH(lstat64, (const char *path, struct stat64 *to), (path, to))
IN_FOLDER(mkdirat, (int folder, const char *path, mode_t mode),
          (folder, path, mode))
IN_FOLDER(unlinkat, (int folder, const char *path, int flags),
          (folder, path, flags))
IN_FOLDER(renameat,
          (int folder, const char *path, int to_folder, const char *to),
          (folder, path, to_folder, to))
CALL(DIR *, opendir, NULL, path_fails("opendir", path), (const char *path),
     (path))
CALL(DIR *, fdopendir, NULL, file_fails("fdopendir", file), (int file), (file))
ON_FILE(int, fsync, (int file), (file))
ON_FILE(int, fdatasync, (int file), (file))
ON_FILE(int, flock, (int file, int how), (file, how))
ON_FILE(int, ftruncate, (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, (int file, off64_t size), (file, size))
ON_FILE(ssize_t, read, (int file, void *to, size_t size), (file, to, size))
ON_FILE(ssize_t, pread, (int file, void *to, size_t size, off_t at),
        (file, to, size, at))
ON_FILE(ssize_t, pread64, (int file, void *to, size_t size, off64_t at),
        (file, to, size, at))
ON_FILE(ssize_t, write, (int file, const void *from, size_t size),
        (file, from, size))
ON_FILE(ssize_t, pwrite, (int file, const void *from, size_t size, off_t at),
        (file, from, size, at))
ON_FILE(ssize_t, pwrite64,
        (int file, const void *from, size_t size, off64_t at),
        (file, from, size, at))
ON_FILE(ssize_t, writev, (int file, const struct iovec *from, int count),
        (file, from, count))
