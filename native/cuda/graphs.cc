// torchbind_cuda.so: CUDA graphs, the one feature that libtorch offers only through headers that include
// CUDA's. It is built only with those headers, loaded on first use, and independent of the addon: a graph
// records the work on the thread's current stream.
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <napi.h>

#include <exception>
#include <memory>
#include <string>

namespace {

constexpr napi_type_tag kGraphTag = {0x5e2d9f1c8b7a4360, 0x8c41d7e6a95f02b3};

// Makes an error of JavaScript from any exception: none crosses Node-API.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return Function(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (const c10::Error& error) {
    throw Napi::Error::New(info.Env(), error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  } catch (...) {
    throw Napi::Error::New(info.Env(), "an unknown C++ error");
  }
}

[[noreturn]] void invalid(Napi::Env env, const std::string& message) {
  throw Napi::TypeError::New(env, message);
}

struct Graph {
  at::cuda::CUDAGraph graph;
  bool is_capturing = false;
  bool is_captured = false;
};

Graph& to_graph(const Napi::CallbackInfo& info) {
  const Napi::Value value = info[0];
  if (!value.IsExternal() || !value.As<Napi::External<Graph>>().CheckTypeTag(&kGraphTag))
    invalid(info.Env(), "Expected a graph.");
  return *value.As<Napi::External<Graph>>().Data();
}

Napi::Value new_graph(const Napi::CallbackInfo& info) {
  auto graph = std::make_unique<Graph>();
  // Not a basic finalizer: a graph that is freed calls CUDA, which must not happen inside garbage collection.
  auto external = Napi::External<Graph>::New(info.Env(), graph.get(), [](Napi::Env, Graph* owned) {
    try {
      delete owned;
    } catch (...) {  // at the end of the process, when the driver has gone
    }
  });
  graph.release();
  external.TypeTag(&kGraphTag);
  return external;
}

cudaStreamCaptureMode to_mode(const Napi::CallbackInfo& info, const Napi::Value& value) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "global") return cudaStreamCaptureModeGlobal;
  if (name == "thread_local") return cudaStreamCaptureModeThreadLocal;
  if (name == "relaxed") return cudaStreamCaptureModeRelaxed;
  invalid(info.Env(), "A capture mode is 'global', 'thread_local' or 'relaxed'.");
}

// captureBegin(graph, poolOf, mode): uses the memory pool of the graph `poolOf` if it is given.
Napi::Value capture_begin(const Napi::CallbackInfo& info) {
  Graph& graph = to_graph(info);
  if (graph.is_capturing || graph.is_captured)
    invalid(info.Env(), "The graph has been captured already: reset() it first, or make another.");
  const cudaStreamCaptureMode mode = to_mode(info, info[2]);
  at::cuda::MempoolId_t pool = {0, 0};
  if (info[1].IsExternal()) {
    if (!info[1].As<Napi::External<Graph>>().CheckTypeTag(&kGraphTag))
      invalid(info.Env(), "Expected a graph.");
    const Graph& other = *info[1].As<Napi::External<Graph>>().Data();
    if (!other.is_captured) invalid(info.Env(), "The graph whose pool is to be used has captured nothing.");
    pool = const_cast<at::cuda::CUDAGraph&>(other.graph).pool();
  }
  graph.graph.capture_begin(pool, mode);
  graph.is_capturing = true;
  return info.Env().Undefined();
}

Napi::Value capture_end(const Napi::CallbackInfo& info) {
  Graph& graph = to_graph(info);
  if (!graph.is_capturing) invalid(info.Env(), "The graph is not being captured.");
  graph.is_capturing = false;
  graph.graph.capture_end();
  graph.is_captured = true;
  return info.Env().Undefined();
}

Napi::Value replay(const Napi::CallbackInfo& info) {
  Graph& graph = to_graph(info);
  if (!graph.is_captured) invalid(info.Env(), "The graph has captured nothing: capture() first.");
  graph.graph.replay();
  return info.Env().Undefined();
}

Napi::Value reset(const Napi::CallbackInfo& info) {
  Graph& graph = to_graph(info);
  if (graph.is_capturing) invalid(info.Env(), "The graph is being captured.");
  graph.graph.reset();
  graph.is_captured = false;
  return info.Env().Undefined();
}

Napi::Value is_capturing(const Napi::CallbackInfo& info) {
  const auto status = c10::cuda::currentStreamCaptureStatusMayInitCtx();
  return Napi::Boolean::New(info.Env(), status != c10::cuda::CaptureStatus::None);
}

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
void expose(Napi::Object& exports, const char* name) {
  exports.Set(name, Napi::Function::New<guarded<Function>>(exports.Env(), name));
}

Napi::Object init(Napi::Env, Napi::Object exports) {
  expose<new_graph>(exports, "newGraph");
  expose<capture_begin>(exports, "captureBegin");
  expose<capture_end>(exports, "captureEnd");
  expose<replay>(exports, "replay");
  expose<reset>(exports, "reset");
  expose<is_capturing>(exports, "isCapturing");
  return exports;
}

}  // namespace

NODE_API_MODULE(torchbind_cuda, init)
