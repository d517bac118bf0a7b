#include "file_io.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "crc32.h"
#include "errors.h"
#include "fixed_storage.h"
#include "off_loop.h"
#include "steady.h"
#include "storage.h"

namespace torchbind {
namespace {

// Large enough that system calls cost nothing, small enough that the checksum finds the bytes in the cache.
constexpr size_t kChunk = size_t{1} << 18;

[[noreturn]] void fail_errno(const std::string& what) {
  throw Error(kFile, what + ": " + std::strerror(errno));
}

void read_fully(int fd, char* data, size_t size, size_t position) {
  while (size > 0) {
    const ssize_t got = pread(fd, data, size, static_cast<off_t>(position));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno("Reading the file failed");
    if (got == 0) {
      throw Error(kFile, "The file ended at byte " + std::to_string(position) + ", " + std::to_string(size) +
                             " bytes before the record does.");
    }
    data += got;
    size -= static_cast<size_t>(got);
    position += static_cast<size_t>(got);
  }
}

void write_fully(int fd, const char* data, size_t size, size_t position) {
  while (size > 0) {
    const ssize_t put = pwrite(fd, data, size, static_cast<off_t>(position));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_errno("Writing the file failed");
    data += put;
    size -= static_cast<size_t>(put);
    position += static_cast<size_t>(put);
  }
}

// Reads to `data` and gives back the CRC-32 of what was read, or that of no bytes.
uint32_t read_and_check(int fd, char* data, size_t size, size_t position, bool checksum) {
  Crc32 crc;
  for (size_t done = 0; done < size; done += kChunk) {
    const size_t part = std::min(kChunk, size - done);
    read_fully(fd, data + done, part, position + done);
    if (checksum) crc.update(data + done, part);
  }
  return crc.value();
}

// Memory for file bytes. The kernel clears it page by page when it is first written to, which in pages of 4
// KiB costs as much as reading a cached file: large pages are asked for.
at::Tensor allocate(size_t nbytes) {
  at::Tensor target = at::empty({static_cast<int64_t>(nbytes)}, at::kByte);
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
  const auto begin = reinterpret_cast<uintptr_t>(target.mutable_data_ptr());
  const uintptr_t first = (begin + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t last = (begin + nbytes) & ~(kHugePage - 1);
  if (nbytes >= kHugePage && last > first)
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
  return target;
}

class ReadBytes final : public OffLoopWork {
 public:
  ReadBytes(Napi::Env env, int fd, size_t offset, size_t nbytes, bool checksum)
      : OffLoopWork(env), fd_(fd), offset_(offset), nbytes_(nbytes), checksum_(checksum) {}

 private:
  void run() override {
    target_ = allocate(nbytes_);
    crc_ = read_and_check(fd_, static_cast<char*>(target_.mutable_data_ptr()), nbytes_, offset_, checksum_);
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Object object = Napi::Object::New(env);
    object.Set("handle", from_tensor(env, target_));
    object.Set("crc32", static_cast<double>(crc_));
    return object;
  }

  int fd_;
  size_t offset_;
  size_t nbytes_;
  at::Tensor target_;
  bool checksum_;
  uint32_t crc_ = 0;
};

class ReadInto final : public OffLoopWork {
 public:
  ReadInto(Napi::Env env, int fd, size_t position, c10::Storage target, size_t offset, size_t nbytes,
           bool checksum)
      : OffLoopWork(env),
        fd_(fd),
        position_(position),
        target_(std::move(target)),
        fixed_(target_),
        offset_(offset),
        nbytes_(nbytes),
        checksum_(checksum) {}

 private:
  void run() override {
    char* data = static_cast<char*>(target_.mutable_data()) + offset_;
    crc_ = read_and_check(fd_, data, nbytes_, position_, checksum_);
  }

  Napi::Value result(Napi::Env env) override { return Napi::Number::New(env, static_cast<double>(crc_)); }

  int fd_;
  size_t position_;
  c10::Storage target_;
  FixedStorage fixed_;
  size_t offset_;
  size_t nbytes_;
  bool checksum_;
  uint32_t crc_ = 0;
};

class WriteStorage final : public OffLoopWork {
 public:
  WriteStorage(Napi::Env env, int fd, size_t position, const c10::Storage& source, size_t offset,
               size_t nbytes, bool checksum)
      : OffLoopWork(env),
        fd_(fd),
        position_(position),
        source_(source),
        offset_(offset),
        nbytes_(nbytes),
        checksum_(checksum) {}

 private:
  void run() override {
    const bool here = source_.storage().device().is_cpu();
    const at::Tensor copy = here ? at::Tensor() : copy_from_device();
    const char* data = here ? static_cast<const char*>(source_.storage().data()) + offset_
                            : static_cast<const char*>(copy.const_data_ptr());
    if (!checksum_) {
      write_fully(fd_, data, nbytes_, position_);
      return;
    }
    // From a copy, so that the checksum is of the bytes that are written even where the memory changes
    // meanwhile, because it must not move.
    std::vector<char> chunk(std::min(kChunk, nbytes_));
    for (size_t done = 0; done < nbytes_; done += kChunk) {
      const size_t part = std::min(kChunk, nbytes_ - done);
      std::memcpy(chunk.data(), data + done, part);
      crc_.update(chunk.data(), part);
      write_fully(fd_, chunk.data(), part, position_ + done);
    }
  }

  at::Tensor copy_from_device() const {
    const at::NoGradGuard no_grad;
    at::Tensor bytes =
        at::empty({0}, at::TensorOptions().dtype(at::kByte).device(source_.storage().device()));
    bytes.set_(source_.storage(), static_cast<int64_t>(offset_), {static_cast<int64_t>(nbytes_)}, {1});
    return bytes.cpu();
  }

  Napi::Value result(Napi::Env env) override {
    return Napi::Number::New(env, static_cast<double>(crc_.value()));
  }

  int fd_;
  size_t position_;
  SteadyStorage source_;
  size_t offset_;
  size_t nbytes_;
  bool checksum_;
  Crc32 crc_;
};

struct Mapping {
  void* data;
  size_t size;
};

int to_fd(const Napi::Value& value) {
  const int64_t fd = to_int64(value, "fd");
  if (fd < 0 || fd > INT32_MAX) invalid("'fd' is not a file descriptor.");
  return static_cast<int>(fd);
}

size_t file_size(int fd) {
#ifdef __linux__
  // fstat() is a symbol of glibc 2.33; see symbol_versions.h.
  struct statx status;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &status) != 0)
    fail_errno("The file cannot be examined");
  const auto mode = status.stx_mode;
  const auto size = status.stx_size;
#else
  struct stat status;
  if (fstat(fd, &status) != 0) fail_errno("The file cannot be examined");
  const auto mode = status.st_mode;
  const auto size = status.st_size;
#endif
  if (!S_ISREG(mode)) throw Error(kFile, "Not a regular file.");
  return static_cast<size_t>(size);
}

void check_range(int fd, size_t offset, size_t nbytes) {
  const size_t size = file_size(fd);
  if (offset > size || nbytes > size - offset) {
    throw Error(kFile, "Bytes " + std::to_string(offset) + " + " + std::to_string(nbytes) +
                           " are outside a file of " + std::to_string(size) + " bytes.");
  }
}

// Checksums are computed unless `false` is given.
bool wants_checksum(const Napi::Value& value) {
  return !value.IsBoolean() || value.As<Napi::Boolean>().Value();
}

Napi::Value map_file(const Napi::CallbackInfo& info) {
  const int fd = to_fd(info[0]);
  const size_t nbytes = to_size(info[1], "nbytes");
  check_range(fd, 0, nbytes);
  if (nbytes == 0) invalid("An empty file cannot be mapped.");
  // Without a reservation: a file may be larger than the memory, of which a mapping takes only what is
  // written to.
  void* data = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  if (data == MAP_FAILED) fail_errno("Mapping the file failed");
  c10::DataPtr pointer(data, new Mapping{data, nbytes}, unmap, at::kCPU);
  c10::Storage storage(c10::Storage::use_byte_size_t(), nbytes, std::move(pointer), nullptr,
                       /*resizable=*/false);
  at::Tensor tensor = at::empty({0}, at::kByte).set_(storage, 0, {static_cast<int64_t>(nbytes)}, {1});
  return from_tensor(info.Env(), std::move(tensor));
}

Napi::Value read_bytes(const Napi::CallbackInfo& info) {
  const int fd = to_fd(info[0]);
  const size_t offset = to_size(info[1], "offset");
  const size_t nbytes = to_size(info[2], "nbytes");
  check_range(fd, offset, nbytes);  // before anything of that size is allocated
  return OffLoopWork::start(
      std::make_unique<ReadBytes>(info.Env(), fd, offset, nbytes, wants_checksum(info[3])));
}

void check_storage_range(const at::Tensor& tensor, size_t offset, size_t nbytes) {
  const size_t available = storage_with_bytes(tensor).nbytes();
  if (offset > available || nbytes > available - offset) {
    invalid("Bytes " + std::to_string(offset) + " + " + std::to_string(nbytes) +
            " are outside a storage of " + std::to_string(available) + " bytes.");
  }
}

Napi::Value allocate_bytes(const Napi::CallbackInfo& info) {
  return from_tensor(info.Env(), allocate(to_size(info[0], "nbytes")));
}

Napi::Value read_into(const Napi::CallbackInfo& info) {
  const int fd = to_fd(info[0]);
  const size_t position = to_size(info[1], "position");
  const size_t offset = to_size(info[3], "offset");
  const size_t nbytes = to_size(info[4], "nbytes");
  const at::Tensor tensor = to_tensor(info[2], "tensor");
  if (!tensor.device().is_cpu()) invalid("readInto() fills CPU tensors.");
  check_storage_range(tensor, offset, nbytes);
  check_range(fd, position, nbytes);
  return OffLoopWork::start(std::make_unique<ReadInto>(info.Env(), fd, position, tensor.storage(), offset,
                                                       nbytes, wants_checksum(info[5])));
}

Napi::Value write_storage(const Napi::CallbackInfo& info) {
  const int fd = to_fd(info[0]);
  const size_t position = to_size(info[1], "position");
  const size_t offset = to_size(info[3], "offset");
  const size_t nbytes = to_size(info[4], "nbytes");
  const at::Tensor tensor = to_tensor(info[2], "tensor");
  check_storage_range(tensor, offset, nbytes);
  const bool checksum = wants_checksum(info[5]);
  return OffLoopWork::start(
      std::make_unique<WriteStorage>(info.Env(), fd, position, tensor.storage(), offset, nbytes, checksum));
}

}  // namespace

void unmap(void* context) {
  const std::unique_ptr<Mapping> mapping(static_cast<Mapping*>(context));
  munmap(mapping->data, mapping->size);
}

void init_file_io(Napi::Env, Napi::Object& exports) {
  expose<map_file>(exports, "mapFile");
  expose<read_bytes>(exports, "readBytes");
  expose<allocate_bytes>(exports, "allocateBytes");
  expose<read_into>(exports, "readInto");
  expose<write_storage>(exports, "writeStorage");
}

}  // namespace torchbind
