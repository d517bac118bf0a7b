// Makes the n-th system call of a kind fail, on files below one directory. Preloaded into node; a program arms it by
// opening a path that no file has: /torchbind-faults/arm/<kind>/<n>/<errno> (errno 0: a write of half the bytes),
// /torchbind-faults/budget/<bytes> for an imagined disk with so much room, /torchbind-faults/off. Opening
// /torchbind-faults/struck fails with EEXIST when the armed call came, else with ENOENT.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char armed_kind[16];
static long countdown, budget = -1;
static int armed_errno;  // 0 for a short write
static const char control[] = "/torchbind-faults/";

static void* next(const char* name) { return dlsym(RTLD_NEXT, name); }

static int is_below(const char* path) {
  const char* root = getenv("TORCHBIND_FAULTS_ROOT");
  return root != NULL && path != NULL && strncmp(path, root, strlen(root)) == 0;
}

static int is_ours(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  // The text in a lock's file is a note for messages, which may be lost.
  if (length >= 6 && strcmp(path + length - 6, "/.lock") == 0) return 0;
  return is_below(path);
}

enum { PASS, FAIL, SHORT };

// Whether this call is the one. A short write is not a failure: the call goes through with half of its bytes.
static int strikes(const char* kind) {
  int result = PASS;
  pthread_mutex_lock(&lock);
  if (strcmp(kind, armed_kind) == 0) {
    if (--countdown == 0) result = armed_errno == 0 ? SHORT : FAIL;
  }
  pthread_mutex_unlock(&lock);
  if (result == FAIL) errno = armed_errno;
  return result;
}

// Room left on an imagined disk; a write that does not fit goes through in part, the next not at all.
static long room_for(long wanted) {
  pthread_mutex_lock(&lock);
  long granted = budget < 0 || budget >= wanted ? wanted : budget;
  if (budget >= 0) budget -= granted;
  pthread_mutex_unlock(&lock);
  return granted;
}

static int obey(const char* command) {
  int error = 0;
  pthread_mutex_lock(&lock);
  if (sscanf(command, "arm/%15[^/]/%ld/%d", armed_kind, &countdown, &armed_errno) == 3) error = ENOENT;
  else if (sscanf(command, "budget/%ld", &budget) == 1) error = ENOENT;
  else if (strcmp(command, "off") == 0) armed_kind[0] = 0, budget = -1, error = ENOENT;
  else if (strcmp(command, "struck") == 0) error = countdown <= 0 ? EEXIST : ENOENT;
  pthread_mutex_unlock(&lock);
  errno = error;
  return -1;
}

#define OPEN(name)                                                              \
  int name(const char* path, int flags, ...) {                                  \
    va_list arguments;                                                          \
    va_start(arguments, flags);                                                 \
    mode_t mode = va_arg(arguments, mode_t);                                    \
    va_end(arguments);                                                          \
    if (strncmp(path, control, sizeof control - 1) == 0) return obey(path + sizeof control - 1); \
    if (is_below(path) && strikes("open") == FAIL) return -1;                   \
    return ((int (*)(const char*, int, ...))next(#name))(path, flags, mode);    \
  }
OPEN(open)
OPEN(open64)

static ssize_t limited(int fd, size_t count, int* result) {
  if (!is_ours(fd)) return *result = PASS, (ssize_t)count;
  *result = strikes("write");
  if (*result == FAIL) return -1;
  if (*result == SHORT && count > 1) return (ssize_t)(count / 2);
  long room = room_for((long)count);
  if (room == 0 && count > 0) return errno = ENOSPC, *result = FAIL, -1;
  return room;
}

ssize_t write(int fd, const void* data, size_t count) {
  int result;
  ssize_t granted = limited(fd, count, &result);
  if (result == FAIL) return -1;
  return ((ssize_t(*)(int, const void*, size_t))next("write"))(fd, data, (size_t)granted);
}

#define PWRITE(name, type)                                                                        \
  ssize_t name(int fd, const void* data, size_t count, type offset) {                             \
    int result;                                                                                   \
    ssize_t granted = limited(fd, count, &result);                                                \
    if (result == FAIL) return -1;                                                                \
    return ((ssize_t(*)(int, const void*, size_t, type))next(#name))(fd, data, (size_t)granted, offset); \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

// Vectors are written piece by piece, so that one place decides.
static ssize_t write_vector(int fd, const struct iovec* vector, int count, off64_t offset) {
  ssize_t total = 0;
  for (int i = 0; i < count; ++i) {
    ssize_t written = offset < 0 ? write(fd, vector[i].iov_base, vector[i].iov_len)
                                 : pwrite64(fd, vector[i].iov_base, vector[i].iov_len, offset + total);
    if (written < 0) return total > 0 ? total : -1;
    total += written;
    if ((size_t)written < vector[i].iov_len) break;
  }
  return total;
}
ssize_t writev(int fd, const struct iovec* vector, int count) { return write_vector(fd, vector, count, -1); }
ssize_t pwritev(int fd, const struct iovec* vector, int count, off_t offset) {
  return write_vector(fd, vector, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec* vector, int count, off64_t offset) {
  return write_vector(fd, vector, count, offset);
}

#define ON_FD(name, kind)                                                  \
  int name(int fd) {                                                       \
    if (is_ours(fd) && strikes(kind) == FAIL) return -1;                   \
    return ((int (*)(int))next(#name))(fd);                                \
  }
ON_FD(fsync, "fsync")
ON_FD(fdatasync, "fsync")

// A close that fails has closed the file all the same, as Linux does.
int close(int fd) {
  int result = is_ours(fd) ? strikes("close") : PASS;
  int error = errno;
  int closed = ((int (*)(int))next("close"))(fd);
  if (result != FAIL) return closed;
  errno = error;
  return -1;
}

// How a file is copied: its blocks are shared if the file system can (a failure of that is none: the bytes are copied then),
// else copied within the kernel.
int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  if (request == FICLONE && is_ours(fd) && strikes("clone") == FAIL) return -1;
  return ((int (*)(int, unsigned long, void*))next("ioctl"))(fd, request, argument);
}

static ssize_t limited_copy(int to, size_t count, int* result) {
  if (!is_ours(to)) return *result = PASS, (ssize_t)count;
  *result = strikes("copy");
  if (*result == FAIL) return -1;
  if (*result == SHORT && count > 1) return (ssize_t)(count / 2);
  // The caller asks for more than the file holds: what is copied is charged when it is known.
  pthread_mutex_lock(&lock);
  long room = budget;
  pthread_mutex_unlock(&lock);
  if (room == 0 && count > 0) return errno = ENOSPC, *result = FAIL, -1;
  return room < 0 || (size_t)room > count ? (ssize_t)count : room;
}

static ssize_t charged(int to, ssize_t copied) {
  if (copied > 0 && is_ours(to)) room_for(copied);
  return copied;
}

ssize_t copy_file_range(int from, off64_t* from_offset, int to, off64_t* to_offset, size_t count, unsigned flags) {
  int result;
  ssize_t granted = limited_copy(to, count, &result);
  if (result == FAIL) return -1;
  long (*call)(long, ...) = (long (*)(long, ...))next("syscall");
  return charged(to, call(SYS_copy_file_range, from, from_offset, to, to_offset, (size_t)granted, flags));
}

#define SENDFILE(name, type)                                                                        \
  ssize_t name(int to, int from, type* offset, size_t count) {                                      \
    int result;                                                                                     \
    ssize_t granted = limited_copy(to, count, &result);                                             \
    if (result == FAIL) return -1;                                                                  \
    return charged(to, ((ssize_t(*)(int, int, type*, size_t))next(#name))(to, from, offset, (size_t)granted)); \
  }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

// libuv closes files, and copies them, by bare system calls.
long syscall(long number, ...) {
  long a[6];
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 6; ++i) a[i] = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_close) return close((int)a[0]);
  if (number == SYS_copy_file_range)
    return copy_file_range((int)a[0], (off64_t*)a[1], (int)a[2], (off64_t*)a[3], (size_t)a[4], (unsigned)a[5]);
  return ((long (*)(long, ...))next("syscall"))(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#define ON_PATH(name, kind)                                                \
  int name(const char* path) {                                             \
    if (is_below(path) && strikes(kind) == FAIL) return -1;                \
    return ((int (*)(const char*))next(#name))(path);                      \
  }
ON_PATH(unlink, "unlink")
ON_PATH(rmdir, "unlink")

int unlinkat(int fd, const char* path, int flags) {
  if ((is_below(path) || is_ours(fd)) && strikes("unlink") == FAIL) return -1;
  return ((int (*)(int, const char*, int))next("unlinkat"))(fd, path, flags);
}

#define ON_PATHS(name, kind)                                               \
  int name(const char* from, const char* to) {                             \
    if (is_below(to) && strikes(kind) == FAIL) return -1;                  \
    return ((int (*)(const char*, const char*))next(#name))(from, to);     \
  }
ON_PATHS(rename, "rename")
ON_PATHS(link, "link")

int fchmod(int fd, mode_t mode) {
  if (is_ours(fd) && strikes("chmod") == FAIL) return -1;
  return ((int (*)(int, mode_t))next("fchmod"))(fd, mode);
}

int mkdir(const char* path, mode_t mode) {
  if (is_below(path) && strikes("mkdir") == FAIL) return -1;
  return ((int (*)(const char*, mode_t))next("mkdir"))(path, mode);
}
