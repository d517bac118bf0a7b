// Process groups of c10d, made with the names and in the order that Python's torch.distributed has, so that
// ranks of both kinds form one group. See docs/decisions/distributed.md.
#include "c10d_groups.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/csrc/distributed/c10d/debug.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupWrapper.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace torchbind::distributed {
namespace {

using c10d::ProcessGroup;
using Milliseconds = std::chrono::milliseconds;
using StorePtr = c10::intrusive_ptr<c10d::Store>;

c10d::ReduceOp reduce_op(const std::string& name) {
  static const std::map<std::string, c10d::ReduceOp::RedOpType> known = {
      {"sum", c10d::ReduceOp::SUM}, {"avg", c10d::ReduceOp::AVG},   {"product", c10d::ReduceOp::PRODUCT},
      {"min", c10d::ReduceOp::MIN}, {"max", c10d::ReduceOp::MAX},   {"band", c10d::ReduceOp::BAND},
      {"bor", c10d::ReduceOp::BOR}, {"bxor", c10d::ReduceOp::BXOR},
  };
  const auto found = known.find(name);
  TORCH_CHECK_VALUE(found != known.end(), "No reduction is named '", name, "'.");
  return found->second;
}

// c10d knows complex numbers as pairs of real ones, which is right where they are added only.
at::Tensor as_real(const at::Tensor& tensor, bool reduces, const c10d::ReduceOp& op) {
  if (!tensor.is_complex()) return tensor;
  TORCH_CHECK_TYPE(!reduces || op.op_ == c10d::ReduceOp::SUM || op.op_ == c10d::ReduceOp::AVG,
                   "Complex numbers are reduced by 'sum' and 'avg' alone.");
  return at::view_as_real(tensor);
}

std::vector<at::Tensor> as_real(const std::vector<at::Tensor>& tensors, bool reduces,
                                const c10d::ReduceOp& op) {
  std::vector<at::Tensor> real;
  real.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) real.push_back(as_real(tensor.detach(), reduces, op));
  return real;
}

// The gpu-check builds against older PyTorch too, where these two have the names that are deprecated now.
template <typename Group>
c10::intrusive_ptr<c10d::Work> reduce_scatter(Group& group, at::Tensor& output, at::Tensor& input,
                                              const c10d::ReduceScatterOptions& options) {
  if constexpr (requires { group.reduce_scatter_single(output, input, options); })
    return group.reduce_scatter_single(output, input, options);
  else
    return group._reduce_scatter_base(output, input, options);
}

template <typename Group>
c10::intrusive_ptr<c10d::Work> all_to_all(Group& group, at::Tensor& output, at::Tensor& input) {
  std::vector<int64_t> equal;
  if constexpr (requires { group.all_to_all_single(output, input, equal, equal); })
    return group.all_to_all_single(output, input, equal, equal);
  else
    return group.alltoall_base(output, input, equal, equal);
}

c10::intrusive_ptr<c10d::Work> issue(ProcessGroup& group, const CollectiveCall& call) {
  const bool reduces = call.kind == Collective::kAllReduce || call.kind == Collective::kReduce ||
                       call.kind == Collective::kReduceScatter;
  const c10d::ReduceOp op = reduces ? reduce_op(call.reduce) : c10d::ReduceOp();
  std::vector<at::Tensor> outputs = as_real(call.outputs, reduces, op);
  std::vector<at::Tensor> inputs = as_real(call.inputs, reduces, op);
  switch (call.kind) {
    case Collective::kAllReduce: {  // outputs: one, in place
      c10d::AllreduceOptions options;
      options.reduceOp = op;
      return group.allreduce(outputs, options);
    }
    case Collective::kBroadcast: {  // outputs: one, in place
      c10d::BroadcastOptions options;
      options.rootRank = call.peer;
      return group.broadcast(outputs, options);
    }
    case Collective::kReduce: {  // outputs: one, in place
      c10d::ReduceOptions options;
      options.reduceOp = op;
      options.rootRank = call.peer;
      return group.reduce(outputs, options);
    }
    case Collective::kAllGather: {  // outputs: one for each rank; inputs: one
      std::vector<std::vector<at::Tensor>> lists = {outputs};
      return group.allgather(lists, inputs);
    }
    case Collective::kReduceScatter: {  // outputs: one; inputs: one, of all ranks' parts one after the other
      c10d::ReduceScatterOptions options;
      options.reduceOp = op;
      return reduce_scatter(group, outputs.at(0), inputs.at(0), options);
    }
    case Collective::kGather: {  // outputs: one for each rank at the root, none elsewhere; inputs: one
      std::vector<std::vector<at::Tensor>> lists;
      if (!outputs.empty()) lists.push_back(outputs);
      c10d::GatherOptions options;
      options.rootRank = call.peer;
      return group.gather(lists, inputs, options);
    }
    case Collective::kScatter: {  // outputs: one; inputs: one for each rank at the root, none elsewhere
      std::vector<std::vector<at::Tensor>> lists;
      if (!inputs.empty()) lists.push_back(inputs);
      c10d::ScatterOptions options;
      options.rootRank = call.peer;
      return group.scatter(outputs, lists, options);
    }
    case Collective::kSend:  // inputs: one
      return group.send(inputs, call.peer, call.tag);
    case Collective::kReceive:  // outputs: one
      return call.peer < 0 ? group.recvAnysource(outputs, call.tag)
                           : group.recv(outputs, call.peer, call.tag);
    case Collective::kBarrier: {
      c10d::BarrierOptions options;
      const auto devices = group.getDeviceTypes();
      if (std::find(devices.begin(), devices.end(), at::Device(at::kCPU)) != devices.end())
        options.device = at::Device(at::kCPU);
      else
        options.device_ids = {at::detail::getCUDAHooks().getCurrentDevice()};
      return group.barrier(options);
    }
    case Collective::kAllToAll:  // outputs: one; inputs: one; both of equal parts for each rank
      return all_to_all(group, outputs.at(0), inputs.at(0));
    case Collective::kCount:
      break;
  }
  TORCH_CHECK(false, "No such collective.");
}

// Messages, and what gloo composes of several collectives, have no future.
c10::intrusive_ptr<c10::ivalue::Future> future_of(c10d::Work& work) {
  try {
    return work.getFuture();
  } catch (const c10::Error&) {
    return nullptr;
  }
}

// NCCL's work has begun, not ended, when its future completes: operators that follow on the current stream
// wait for it. A barrier alone waits on the CPU.
bool is_of_nccl(const ProcessGroup& group, const CollectiveCall& call) {
  const auto is_cuda = [](const at::Tensor& tensor) { return tensor.is_cuda(); };
  const bool on_device = std::any_of(call.outputs.begin(), call.outputs.end(), is_cuda) ||
                         std::any_of(call.inputs.begin(), call.inputs.end(), is_cuda);
  return on_device && group.getBackendType() == ProcessGroup::BackendType::NCCL;
}

// The callback holds the tensors until the work has ended. It does not hold the group, which would then be
// destroyed on one of the group's own threads.
void await(const c10::intrusive_ptr<c10d::Work>& work, std::shared_ptr<CollectiveCall> call, Done done) {
  if (const auto future = future_of(*work)) {
    future->addCallback(
        [call = std::move(call), done = std::move(done)](c10::ivalue::Future& ended) {
          done(ended.hasError() ? ended.exception_ptr() : nullptr, -1);
        },
        false);
    return;
  }
  std::thread([work, call = std::move(call), done = std::move(done)] {
    try {
      work->wait();
      done(nullptr, call->kind == Collective::kReceive ? work->sourceRank() : -1);
    } catch (...) {
      done(std::current_exception(), -1);
    }
  }).detach();
}

// Starts collectives one after the other on a thread of its own.
class Starter {
 public:
  Starter() {
    std::thread([this] { run(); }).detach();
  }

  void add(std::function<void()> start) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(start));
    ++waiting_;
    changed_.notify_all();
  }

  // Until all that was added has been started.
  void drain() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ == 0; });
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return !queue_.empty(); });
      std::function<void()> start = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      start();
      start = nullptr;
      lock.lock();
      --waiting_;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  size_t waiting_ = 0;
};

class C10dGroup final : public Group {
 public:
  // In debug mode starting a collective waits for the other ranks.
  C10dGroup(c10::intrusive_ptr<ProcessGroup> group, bool start_waits)
      : group_(std::move(group)), starter_(start_waits ? new Starter : nullptr) {}

  int rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }

  void start(CollectiveCall call, Done done) override {
    auto shared = std::make_shared<CollectiveCall>(std::move(call));
    if (starter_ == nullptr) {
      const auto work = issue(*group_, *shared);
      if (is_of_nccl(*group_, *shared)) work->wait();
      return await(work, std::move(shared), std::move(done));
    }
    starter_->add([group = group_, shared, done] {
      try {
        const auto work = issue(*group, *shared);
        await(work, shared, done);
      } catch (...) {
        done(std::current_exception(), -1);
      }
    });
  }

  std::shared_ptr<Reducer> make_reducer(const ReducerOptions& options) override {
    if (starter_ != nullptr) starter_->drain();
    return make_c10d_reducer(group_, options);
  }

 private:
  c10::intrusive_ptr<ProcessGroup> group_;
  Starter* const starter_;  // never destroyed: its thread may wait for another rank for ever
};

void add_backend(ProcessGroup& group, const c10::intrusive_ptr<c10d::Backend>& backend, at::DeviceType device,
                 ProcessGroup::BackendType type) {
  group.setBackend(device, type, backend);
}

bool is_checked() { return c10d::debug_level() == c10d::DebugLevel::Detail; }

c10::intrusive_ptr<c10d::Backend> make_gloo(const StorePtr& store, int rank, int size, Milliseconds timeout,
                                            const std::string& name) {
  using c10d::ProcessGroupGloo;
  auto backend = c10::make_intrusive<ProcessGroupGloo>(store, rank, size,
                                                       ProcessGroupGloo::Options::create_default(timeout));
  backend->setSequenceNumberForGroup();
  if (!is_checked()) return backend;
  const StorePtr helper_store = c10::make_intrusive<c10d::PrefixStore>("pg_wrapper:" + name, store);
  auto helper = c10::make_intrusive<ProcessGroupGloo>(helper_store, rank, size,
                                                      ProcessGroupGloo::Options::create_default(timeout));
  return c10::make_intrusive<c10d::ProcessGroupWrapper>(backend, helper);
}

using NcclFactory = c10d::Backend* (*)(const StorePtr*, int rank, int size, int64_t timeout_ms,
                                       const char* name);

NcclFactory open_nccl(const std::string& library) {
#ifdef _WIN32
  TORCH_CHECK(false, "NCCL is not available on Windows.");
#else
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  TORCH_CHECK(handle != nullptr, "The NCCL plug-in was not loaded: ", dlerror());
  const auto factory = reinterpret_cast<NcclFactory>(dlsym(handle, "torchbind_nccl_backend"));
  TORCH_CHECK(factory != nullptr, "The NCCL plug-in is of another version: ", dlerror());
  return factory;
#endif
}

class C10dEngine final : public Engine {
 public:
  std::shared_ptr<Group> init(const GroupOptions& options) override {
    c10d::setDebugLevelFromEnvironment();
    // Before the other ranks are waited for.
    const NcclFactory nccl = options.backend == "gloo" ? nullptr : open_nccl(options.nccl_library);
    c10d::TCPStoreOptions store_options;
    store_options.port = options.port;
    store_options.isServer = options.hosts_store;
    store_options.multiTenant = options.hosts_store;
    store_options.numWorkers = static_cast<size_t>(options.size);
    store_options.timeout = options.timeout;
    StorePtr store = c10::make_intrusive<c10d::TCPStore>(options.host, store_options);
    store->setTimeout(options.timeout);
    if (!options.attempt.empty()) store = c10::make_intrusive<c10d::PrefixStore>(options.attempt, store);
    store = c10::make_intrusive<c10d::PrefixStore>("default_pg", store);
    const std::lock_guard lock(mutex_);
    // Python keeps the keys of later groups below those of the first.
    store_ = c10::make_intrusive<c10d::PrefixStore>("0/", store);
    backend_ = options.backend;
    nccl_ = nccl;
    rank_ = options.rank;
    return make_group("0", store, options.rank, options.size, options.timeout);
  }

  std::shared_ptr<Group> new_group(const std::string& name, const std::vector<int>& ranks,
                                   Milliseconds timeout) override {
    const std::lock_guard lock(mutex_);
    TORCH_CHECK(store_.defined(), "The default process group does not exist.");
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (ranks[i] == rank_)
        return make_group(name, store_, static_cast<int>(i), static_cast<int>(ranks.size()), timeout);
    }
    return nullptr;
  }

  void forget(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    if (names_.erase(name) > 0) c10d::unregister_process_group(name);
    if (name == "0") store_.reset();
  }

 private:
  // Python's rule: each backend is made once, under the first of its devices, and serves all of them.
  std::shared_ptr<Group> make_group(const std::string& name, const StorePtr& parent, int rank, int size,
                                    Milliseconds timeout) {
    const StorePtr store = c10::make_intrusive<c10d::PrefixStore>(name + "/", parent);
    auto group = c10::make_intrusive<ProcessGroup>(store, rank, size);
    const bool uses_gloo = backend_ != "nccl";
    const bool uses_nccl = backend_ != "gloo";
    group->setDefaultBackend(uses_nccl ? ProcessGroup::BackendType::NCCL : ProcessGroup::BackendType::GLOO);
    if (uses_gloo) {
      const StorePtr own = c10::make_intrusive<c10d::PrefixStore>("cpu/", store);
      const auto backend = make_gloo(own, rank, size, timeout, name);
      add_backend(*group, backend, at::kCPU, ProcessGroup::BackendType::GLOO);
      if (!uses_nccl) add_backend(*group, backend, at::kCUDA, ProcessGroup::BackendType::GLOO);
    }
    if (uses_nccl) {
      const StorePtr own = c10::make_intrusive<c10d::PrefixStore>("cuda/", store);
      const auto backend =
          c10::intrusive_ptr<c10d::Backend>::reclaim(nccl_(&own, rank, size, timeout.count(), name.c_str()));
      add_backend(*group, backend, at::kCUDA, ProcessGroup::BackendType::NCCL);
    }
    group->setGroupName(name);
    c10d::register_process_group(name, group);
    names_.insert(name);
    return std::make_shared<C10dGroup>(std::move(group), is_checked());
  }

  std::mutex mutex_;
  StorePtr store_;
  std::string backend_;
  NcclFactory nccl_ = nullptr;
  int rank_ = 0;
  std::set<std::string> names_;
};

}  // namespace
}  // namespace torchbind::distributed

// The one function that this library exports. The engine is never destroyed: the end of the process must not
// wait for other ranks.
extern "C" __attribute__((visibility("default"))) torchbind::distributed::Engine*
torchbind_distributed_engine() {
  static auto* const engine = new torchbind::distributed::C10dEngine;
  return engine;
}
