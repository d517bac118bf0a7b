// Locks on whole files that end with their holder: when they are released, when the environment (the main
// thread or a worker) is torn down, or when the process ends, however it ends. Two locks of one process
// exclude each other too.
#pragma once

#include <napi.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#endif

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <system_error>

namespace torchbind {

// A system call that failed: its name, and errno or what GetLastError() says.
struct SystemFailure {
  const char* call;
  int number;
};

#ifdef _WIN32

using LockedFile = HANDLE;

// The locked byte is far beyond the end, so that others can still read the file.
inline OVERLAPPED locked_byte() {
  OVERLAPPED place{};
  place.OffsetHigh = 0x7fffffff;
  return place;
}

inline std::optional<LockedFile> lock_file(const std::string& path) {
  const int length = MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, nullptr, 0);
  std::wstring wide(static_cast<size_t>(length), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, wide.data(), length);
  const DWORD sharing = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
  // Without security attributes, child processes do not inherit the handle.
  HANDLE file = CreateFileW(wide.c_str(), GENERIC_READ | GENERIC_WRITE, sharing, nullptr, OPEN_ALWAYS,
                            FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) throw SystemFailure{"open", static_cast<int>(GetLastError())};
  OVERLAPPED place = locked_byte();
  if (LockFileEx(file, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &place)) return file;
  const DWORD error = GetLastError();
  CloseHandle(file);
  if (error == ERROR_LOCK_VIOLATION || error == ERROR_IO_PENDING) return std::nullopt;
  throw SystemFailure{"lock", static_cast<int>(error)};
}

inline void unlock_file(LockedFile file) {
  OVERLAPPED place = locked_byte();
  UnlockFileEx(file, 0, 1, 0, &place);
  CloseHandle(file);
}

#else

using LockedFile = int;

// Opens a file; a signal may interrupt that on NFS.
inline int open_file(const char* path, int flags) {
  int file = -1;
  do {
    file = open(path, flags | O_CLOEXEC, 0666);
  } while (file < 0 && errno == EINTR);
  return file;
}

inline int open_to_lock(const char* path) {
  // For writing, because NFS locks no other files.
  const int file = open_file(path, O_RDWR | O_CREAT);
  if (file >= 0 || errno != EACCES) return file;
  // Another user's file can be locked all the same.
  const int readable = open_file(path, O_RDONLY);
  if (readable < 0) errno = EACCES;
  return readable;
}

// Opens the file, which is made if it is not there, and locks it; nullopt if somebody else holds it.
inline std::optional<LockedFile> lock_file(const std::string& path) {
  const int file = open_to_lock(path.c_str());
  if (file < 0) throw SystemFailure{"open", errno};
  int result = 0;
  do {
    result = flock(file, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return file;
  const int error = errno;
  close(file);
  if (error == EWOULDBLOCK) return std::nullopt;
  throw SystemFailure{"lock", error};
}

inline void unlock_file(LockedFile file) {
  // Closing alone would leave the lock to a child process that is between fork and exec.
  flock(file, LOCK_UN);
  close(file);
}

#endif

// The locks of one environment, by number.
class FileLocks {
 public:
  static void expose(Napi::Env env, Napi::Object exports) {
    auto* locks = new FileLocks();
    env.SetInstanceData(locks);
    // Runs when the environment is torn down, after its JavaScript and file requests have ended.
    env.AddCleanupHook([](FileLocks* held) { held->release_all(); }, locks);
    exports.Set("lockFile", Napi::Function::New<lock>(env, "lockFile"));
    exports.Set("unlockFile", Napi::Function::New<unlock>(env, "unlockFile"));
  }

 private:
  void release_all() {
    for (const auto& [number, file] : held_) unlock_file(file);
    held_.clear();
  }

  // lockFile(path): the lock's number, or null if somebody else holds it. Throws an Error with `errno` and
  // `syscall`.
  static Napi::Value lock(const Napi::CallbackInfo& info) {
    if (!info[0].IsString()) throw Napi::TypeError::New(info.Env(), "lockFile() expects a path.");
    try {
      const auto file = lock_file(info[0].As<Napi::String>().Utf8Value());
      if (!file) return info.Env().Null();
      auto* locks = info.Env().GetInstanceData<FileLocks>();
      locks->held_.emplace(++locks->last_, *file);
      return Napi::Number::New(info.Env(), locks->last_);
    } catch (const SystemFailure& failure) {
      Napi::Error error = Napi::Error::New(info.Env(), std::system_category().message(failure.number));
      error.Set("syscall", failure.call);
      error.Set("errno", static_cast<double>(failure.number));
      throw error;
    }
  }

  // unlockFile(number): nothing happens for one that was released.
  static void unlock(const Napi::CallbackInfo& info) {
    if (!info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "unlockFile() expects a lock's number.");
    auto* locks = info.Env().GetInstanceData<FileLocks>();
    const auto found = locks->held_.find(info[0].As<Napi::Number>().Uint32Value());
    if (found == locks->held_.end()) return;
    unlock_file(found->second);
    locks->held_.erase(found);
  }

  std::map<uint32_t, LockedFile> held_;
  uint32_t last_ = 0;
};

}  // namespace torchbind
