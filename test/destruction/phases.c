// Notes in a file that is mapped, so that it outlives SIGKILL, which kind of call the process made last on the files
// below one directory: 'w' of writing, 'f' of syncing, 'r' of renaming and linking, 'p' of removing. Kills the process before
// the call whose number TORCHBIND_KILL_AT gives. Preloaded into node.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile char* phase;
static const char* root;
static long kill_at;
static long calls;

static void* next(const char* name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
  const char* file = getenv("TORCHBIND_PHASE_FILE");
  root = getenv("TORCHBIND_PHASE_ROOT");
  const char* at = getenv("TORCHBIND_KILL_AT");
  kill_at = at == NULL ? 0 : atol(at);
  int fd = file == NULL ? -1 : ((int (*)(const char*, int, ...))next("open"))(file, O_RDWR);
  if (fd < 0) return;
  void* page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page != MAP_FAILED) phase = page;
  close(fd);
}

static void note_path(const char* path, char kind) {
  if (phase == NULL || root == NULL || path == NULL || strncmp(path, root, strlen(root)) != 0) return;
  *phase = kind;
  if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) == kill_at) kill(getpid(), SIGKILL);
}

static void note_fd(int fd, char kind) {
  if (phase == NULL) return;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return;
  path[length] = 0;
  note_path(path, kind);
}

#define ON_FD(name, kind)                                                    \
  int name(int fd) {                                                         \
    note_fd(fd, kind);                                                       \
    return ((int (*)(int))next(#name))(fd);                                  \
  }
ON_FD(fsync, 'f')
ON_FD(fdatasync, 'f')

#define ON_PATH(name, kind)                                                  \
  int name(const char* path) {                                               \
    note_path(path, kind);                                                   \
    return ((int (*)(const char*))next(#name))(path);                        \
  }
ON_PATH(unlink, 'p')
ON_PATH(rmdir, 'p')

#define ON_PATHS(name, kind)                                                 \
  int name(const char* from, const char* to) {                               \
    note_path(to, kind);                                                     \
    return ((int (*)(const char*, const char*))next(#name))(from, to);       \
  }
ON_PATHS(rename, 'r')
ON_PATHS(link, 'r')

#define ON_WRITE(name, parameters, arguments)                                \
  ssize_t name parameters {                                                  \
    note_fd(fd, 'w');                                                        \
    return ((ssize_t(*) parameters)next(#name))arguments;                    \
  }
ON_WRITE(write, (int fd, const void* data, size_t count), (fd, data, count))
ON_WRITE(pwrite, (int fd, const void* data, size_t count, off_t offset), (fd, data, count, offset))
ON_WRITE(pwrite64, (int fd, const void* data, size_t count, off64_t offset), (fd, data, count, offset))
ON_WRITE(writev, (int fd, const struct iovec* vector, int count), (fd, vector, count))
ON_WRITE(pwritev, (int fd, const struct iovec* vector, int count, off_t offset), (fd, vector, count, offset))
ON_WRITE(pwritev64, (int fd, const struct iovec* vector, int count, off64_t offset), (fd, vector, count, offset))

static void note_open(const char* path, int flags) {
  if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0) note_path(path, 'w');
}

#define ON_OPEN(name)                                                        \
  int name(const char* path, int flags, ...) {                               \
    __builtin_va_list arguments;                                             \
    __builtin_va_start(arguments, flags);                                    \
    mode_t mode = __builtin_va_arg(arguments, mode_t);                       \
    __builtin_va_end(arguments);                                             \
    note_open(path, flags);                                                  \
    return ((int (*)(const char*, int, ...))next(#name))(path, flags, mode); \
  }
ON_OPEN(open)
ON_OPEN(open64)
