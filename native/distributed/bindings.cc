// The functions by which TypeScript uses process groups. Groups are known by their names, for the process.
#include "bindings.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include "../addon.h"
#include "../arguments.h"
#include "../errors.h"
#include "../external.h"
#include "../fixed_storage.h"
#include "../storage.h"
#include "channel.h"
#include "engine.h"

namespace torchbind {
namespace {

using namespace distributed;

// Of the process, and never destroyed: the end of the process must not wait for other ranks.
struct World {
  std::mutex mutex;
  Engine* engine = nullptr;
  std::map<std::string, std::shared_ptr<Group>> groups;
};

World& world() {
  static auto& instance = *new World;
  return instance;
}

constexpr napi_type_tag kReducerTag = {0x7e1f3d5b0b1a4c6e, 0x9a3c5e7f1b2d4f68};

Engine& engine() {
  const std::lock_guard lock(world().mutex);
  if (world().engine == nullptr) throw Error(kUnsupported, "openDistributed() was not called.");
  return *world().engine;
}

std::shared_ptr<Group> group_named(const std::string& name) {
  const std::lock_guard lock(world().mutex);
  const auto found = world().groups.find(name);
  if (found == world().groups.end())
    throw Error("ERR_TORCHBIND_NO_PROCESS_GROUP", "The process group '" + name + "' does not exist.");
  return found->second;
}

void add_group(const std::string& name, std::shared_ptr<Group> group) {
  const std::lock_guard lock(world().mutex);
  world().groups[name] = std::move(group);
}

Napi::Value open_distributed(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
#ifdef _WIN32
  throw Error(kUnsupported, "Process groups are not available on Windows.");
#else
  const std::lock_guard lock(world().mutex);
  if (world().engine != nullptr) return info.Env().Undefined();
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Error(kFile, dlerror());
  const auto factory = reinterpret_cast<EngineFactory>(dlsym(library, kEngineFactory));
  if (factory == nullptr) throw Error(kFile, dlerror());
  world().engine = factory();
  return info.Env().Undefined();
#endif
}

int to_int(const Napi::Value& value, const char* name) {
  const int64_t number = to_int64(value, name);
  if (number < -1 || number > (1 << 24)) invalid(std::string(name) + " is out of range.");
  return static_cast<int>(number);
}

std::chrono::milliseconds to_timeout(const Napi::Value& value) {
  const int64_t milliseconds = to_int64(value, "timeout");
  // 10,000 days: c10d adds it to the time of day.
  if (milliseconds < 1 || milliseconds > 864'000'000'000) invalid("timeout is out of range.");
  return std::chrono::milliseconds(milliseconds);
}

// initGroup(backend, host, port, rank, size, timeout, hostsStore, attempt, ncclLibrary)
Napi::Value init_group(const Napi::CallbackInfo& info) {
  GroupOptions options;
  options.backend = to_string(info[0], "backend");
  options.host = to_string(info[1], "host");
  const int64_t port = to_int64(info[2], "port");
  if (port < 0 || port > 65535) invalid("port is out of range.");
  options.port = static_cast<uint16_t>(port);
  options.rank = to_int(info[3], "rank");
  options.size = to_int(info[4], "size");
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) invalid("rank is out of range.");
  options.timeout = to_timeout(info[5]);
  options.hosts_store = to_bool(info[6], "hostsStore");
  options.attempt = to_string(info[7], "attempt");
  options.nccl_library = to_string(info[8], "ncclLibrary");
  Engine& used = engine();
  return on_thread(info.Env(), [&used, options]() -> Settler::Result {
    add_group("0", used.init(options));
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

// newGroup(name, ranks, timeout): whether this rank is a member
Napi::Value new_group(const Napi::CallbackInfo& info) {
  const std::string name = to_string(info[0], "name");
  std::vector<int> ranks;
  for (const int64_t rank : to_int64s(info[1], "ranks")) {
    if (rank < 0 || rank > (1 << 24)) invalid("A rank is out of range.");
    ranks.push_back(static_cast<int>(rank));
  }
  const auto timeout = to_timeout(info[2]);
  Engine& used = engine();
  return on_thread(info.Env(), [&used, name, ranks, timeout]() -> Settler::Result {
    std::shared_ptr<Group> group = used.new_group(name, ranks, timeout);
    const bool is_member = group != nullptr;
    if (is_member) add_group(name, std::move(group));
    return [is_member](Napi::Env env) { return Napi::Boolean::New(env, is_member); };
  });
}

// destroyGroup(name): resolves when what was under way in it has ended
Napi::Value destroy_group(const Napi::CallbackInfo& info) {
  const std::string name = to_string(info[0], "name");
  Engine& used = engine();
  auto group = std::make_shared<std::shared_ptr<Group>>(group_named(name));
  {
    const std::lock_guard lock(world().mutex);
    world().groups.erase(name);
  }
  return on_thread(info.Env(), [&used, name, group]() -> Settler::Result {
    used.forget(name);
    group->reset();
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

// Gloo takes tensors as plain arrays of their elements.
void check_whole(const std::vector<at::Tensor>& tensors) {
  for (const at::Tensor& tensor : tensors) {
    storage_with_bytes(tensor);
    if (!tensor.is_contiguous()) invalid("Tensors of a collective must be contiguous.");
    if (tensor.is_neg() || tensor.is_conj()) invalid("Tensors of a collective must be resolved.");
  }
}

// collective(group, kind, outputs, inputs, reduce, peer, tag): the rank that a message came from, or
// undefined
Napi::Value collective(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Group> group = group_named(to_string(info[0], "group"));
  CollectiveCall call;
  const int64_t kind = to_int64(info[1], "kind");
  if (kind < 0 || kind >= static_cast<int64_t>(Collective::kCount)) invalid("No such collective.");
  call.kind = static_cast<Collective>(kind);
  call.outputs = to_tensors(info[2], "outputs");
  call.inputs = to_tensors(info[3], "inputs");
  call.reduce = to_string(info[4], "reduce");
  call.peer = to_int(info[5], "peer");
  call.tag = to_int(info[6], "tag");
  check_whole(call.outputs);
  check_whole(call.inputs);
  auto fixed = std::make_shared<std::deque<FixedStorage>>();
  for (const at::Tensor& tensor : call.outputs) fixed->emplace_back(tensor.storage());
  for (const at::Tensor& tensor : call.inputs) fixed->emplace_back(tensor.storage());
  const std::shared_ptr<Settler> settler = Settler::make(info.Env());
  const Napi::Promise promise = settler->promise();
  const Done done = [settler, fixed](const std::exception_ptr& error, int source) {
    fixed->clear();
    if (error != nullptr) return settler->reject(error);
    settler->resolve([source](Napi::Env env) { return Napi::Number::New(env, source); });
  };
  try {
    group->start(std::move(call), done);
  } catch (...) {
    settler->reject(std::current_exception());
  }
  return promise;
}

struct OwnedReducer {
  std::shared_ptr<Reducer> reducer;
};

std::shared_ptr<Reducer>& owned_reducer(const Napi::Value& value) {
  if (!value.IsExternal() || !value.As<Napi::External<OwnedReducer>>().CheckTypeTag(&kReducerTag))
    invalid("Expected what makeReducer() gave.");
  return value.As<Napi::External<OwnedReducer>>().Data()->reducer;
}

std::shared_ptr<Reducer> reducer_of(const Napi::Value& value) {
  const std::shared_ptr<Reducer> reducer = owned_reducer(value);
  if (reducer == nullptr) invalid("freeReducer() has freed it.");
  return reducer;
}

ReducerOptions reducer_options(const Napi::CallbackInfo& info) {
  ReducerOptions options;
  options.parameters = to_tensors(info[1], "parameters");
  if (options.parameters.empty()) invalid("No parameter requires a gradient.");
  for (const at::Tensor& tensor : options.parameters) {
    storage_with_bytes(tensor);
    if (!tensor.is_leaf() || !tensor.requires_grad())
      invalid("A parameter must be a leaf that requires a gradient.");
  }
  if (!info[2].IsArray()) invalid("Expected names of parameters.");
  const Napi::Array names = info[2].As<Napi::Array>();
  for (uint32_t i = 0; i < names.Length(); ++i) options.names.push_back(to_string(names.Get(i), "name"));
  if (options.names.size() != options.parameters.size()) invalid("Expected a name for each parameter.");
  options.states = to_tensors(info[3], "states");
  for (const at::Tensor& tensor : options.states) storage_with_bytes(tensor);
  options.bucket_bytes = to_int64(info[4], "bucketBytes");
  options.first_bucket_bytes = to_int64(info[5], "firstBucketBytes");
  if (options.bucket_bytes < 1 || options.first_bucket_bytes < 1)
    invalid("A bucket holds at least one byte.");
  options.find_unused = to_bool(info[6], "findUnused");
  options.bucket_views = to_bool(info[7], "bucketViews");
  options.static_graph = to_bool(info[8], "staticGraph");
  options.half = to_bool(info[9], "half");
  return options;
}

Napi::Value own_reducer(Napi::Env env, std::shared_ptr<Reducer> reducer) {
  auto owned = std::make_unique<OwnedReducer>();
  owned->reducer = std::move(reducer);
  return make_external(env, std::move(owned), kReducerTag);
}

// makeReducer(group, parameters, names, states, bucketBytes, firstBucketBytes, findUnused, bucketViews,
// staticGraph, half): waits for the other ranks
Napi::Value make_reducer(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Group> group = group_named(to_string(info[0], "group"));
  return own_reducer(info.Env(), group->make_reducer(reducer_options(info)));
}

// The same, with a promise.
Napi::Value make_reducer_off_loop(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Group> group = group_named(to_string(info[0], "group"));
  const ReducerOptions options = reducer_options(info);
  auto fixed = std::make_shared<std::deque<FixedStorage>>();
  for (const at::Tensor& tensor : options.states) fixed->emplace_back(tensor.storage());
  return on_thread(info.Env(), [group, options, fixed]() -> Settler::Result {
    auto reducer = group->make_reducer(options);
    fixed->clear();
    return [reducer](Napi::Env env) { return own_reducer(env, reducer); };
  });
}

Napi::Value prepare_for_forward(const Napi::CallbackInfo& info) {
  reducer_of(info[0])->prepare_for_forward();
  return info.Env().Undefined();
}

Napi::Value prepare_for_backward(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Reducer> reducer = reducer_of(info[0]);
  reducer->prepare_for_backward(to_tensors(info[1], "outputs"));
  return info.Env().Undefined();
}

Napi::Value broadcast_states(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Reducer> reducer = reducer_of(info[0]);
  const std::vector<at::Tensor> tensors = to_tensors(info[1], "tensors");
  for (const at::Tensor& tensor : tensors) storage_with_bytes(tensor);
  reducer->broadcast(tensors);
  return info.Env().Undefined();
}

// backwardOffLoop(reducer, loss): a backward pass whose gradients are averaged, with a promise. It calls no
// JavaScript, and nobody may use the tensors of the graph, or the reducer, until it has ended.
Napi::Value backward_off_loop(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Reducer> reducer = reducer_of(info[0]);
  const at::Tensor loss = to_tensor(info[1], "loss");
  if (loss.numel() != 1 || !loss.requires_grad()) invalid("Expected a loss of one element with a graph.");
  // As on this thread: modes, threads of kernels, device and stream.
  const at::ThreadLocalState state;
  const int threads = at::get_num_threads();
  std::optional<c10::Stream> stream;
  if (!loss.is_cpu()) stream = c10::impl::VirtualGuardImpl(loss.device().type()).getStream(loss.device());
  return on_thread(info.Env(), [reducer, loss, state, threads, stream]() -> Settler::Result {
    const at::ThreadLocalStateGuard modes(state);
    const c10::OptionalStreamGuard on_stream(stream);
    if (at::get_num_threads() != threads) at::set_num_threads(threads);
    reducer->prepare_for_forward();
    reducer->prepare_for_backward({});
    torch::autograd::backward({loss}, {});
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

// Takes its hooks off the parameters now: garbage collection might do it during a backward pass.
Napi::Value free_reducer(const Napi::CallbackInfo& info) {
  owned_reducer(info[0]).reset();
  return info.Env().Undefined();
}

}  // namespace

void init_distributed(Napi::Env, Napi::Object& exports) {
  expose<open_distributed>(exports, "openDistributed");
  expose<init_group>(exports, "initGroup");
  expose<new_group>(exports, "newGroup");
  expose<destroy_group>(exports, "destroyGroup");
  expose<collective>(exports, "collective");
  expose<make_reducer>(exports, "makeReducer");
  expose<make_reducer_off_loop>(exports, "makeReducerOffLoop");
  expose<prepare_for_forward>(exports, "prepareForForward");
  expose<prepare_for_backward>(exports, "prepareForBackward");
  expose<broadcast_states>(exports, "broadcastStates");
  expose<backward_off_loop>(exports, "backwardOffLoop");
  expose<free_reducer>(exports, "freeReducer");
}

}  // namespace torchbind
