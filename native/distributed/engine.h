// PyTorch's c10d, as the addon sees it. What implements it is a library of its own, torchbind_distributed,
// because a libtorch that was built without c10d or gloo lacks the symbols that it needs: the addon opens it
// when a program asks for a process group.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace torchbind::distributed {

struct GroupOptions {
  std::string backend;
  std::string host;  // of the store
  uint16_t port = 0;
  int rank = 0;
  int size = 1;
  std::chrono::milliseconds timeout{0};
  bool hosts_store = false;
  std::string attempt;       // prefix of the store's keys, for all attempts but the first; may be empty
  std::string nccl_library;  // path of the plug-in; empty without one
};

enum class Collective : uint8_t {
  kAllReduce,
  kBroadcast,
  kReduce,
  kAllGather,
  kReduceScatter,
  kGather,
  kScatter,
  kSend,
  kReceive,
  kBarrier,
  kAllToAll,
  kCount,
};

// Which tensors each collective takes is written at the function that starts it, in c10d_groups.cc.
struct CollectiveCall {
  Collective kind = Collective::kBarrier;
  std::vector<at::Tensor> outputs;  // or the tensors that are changed in place
  std::vector<at::Tensor> inputs;
  std::string reduce;  // sum, avg, product, min, max, band, bor, bxor
  int peer = 0;        // root, destination or source; -1 for any source
  int tag = 0;
};

// Called once, on any thread: with the error, or the rank that a message came from.
using Done = std::function<void(std::exception_ptr error, int source)>;

struct ReducerOptions {
  std::vector<at::Tensor> parameters;  // those that require a gradient, in the order of the module
  std::vector<std::string> names;
  std::vector<at::Tensor> states;  // all parameters and buffers: equal to those of rank 0 afterwards
  int64_t bucket_bytes = 25 * 1024 * 1024;
  int64_t first_bucket_bytes = 1024 * 1024;
  bool find_unused = false;
  bool bucket_views = false;
  bool static_graph = false;
  bool half = false;  // gradients travel as float16
};

// One c10d::Reducer: averages gradients while a backward pass runs.
class Reducer {
 public:
  virtual ~Reducer() = default;
  virtual void prepare_for_forward() = 0;
  virtual void prepare_for_backward(const std::vector<at::Tensor>& outputs) = 0;
  // Gives all ranks the tensors of rank 0.
  virtual void broadcast(const std::vector<at::Tensor>& tensors) = 0;
};

class Group {
 public:
  virtual ~Group() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Starts a collective and returns. `done` is called when it has ended. In debug mode, which first compares
  // every collective with those of the other ranks, a separate thread waits for them.
  virtual void start(CollectiveCall call, Done done) = 0;
  // Waits for all ranks.
  virtual std::shared_ptr<Reducer> make_reducer(const ReducerOptions& options) = 0;
};

// All functions wait for other ranks, and so run on a thread of their own.
class Engine {
 public:
  virtual ~Engine() = default;
  // The default group, "0".
  virtual std::shared_ptr<Group> init(const GroupOptions& options) = 0;
  // A group of some ranks of the default one; each is numbered by its place in the list.
  virtual std::shared_ptr<Group> new_group(const std::string& name, const std::vector<int>& ranks,
                                           std::chrono::milliseconds timeout) = 0;
  // Takes a group's name out of the registry; the last one closes the store.
  virtual void forget(const std::string& name) = 0;
};

using EngineFactory = Engine* (*)();

// The name of the function of torchbind_distributed that gives its engine.
inline constexpr const char* kEngineFactory = "torchbind_distributed_engine";

}  // namespace torchbind::distributed
