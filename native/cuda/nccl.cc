// torchbind_nccl.so: process groups between GPUs. It is built where CUDA's headers and nccl.h are, and opened
// by torchbind_distributed when a program asks for the backend `nccl`. It exports one function.
#include <chrono>
#include <cstdint>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

// The caller owns what it returns.
extern "C" __attribute__((visibility("default"))) c10d::Backend* torchbind_nccl_backend(
    const c10::intrusive_ptr<c10d::Store>* store, int rank, int size, int64_t timeout_ms, const char* name) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(timeout_ms);
  options->group_name = name;
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(*store, rank, size, std::move(options));
  backend->setSequenceNumberForGroup();
  return backend.release();
}
