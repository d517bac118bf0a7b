#include "custom_function.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <utility>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "errors.h"

namespace torchbind {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// One application of a custom function: its forward, which runs at once, and its backward, which the graph
// keeps.
struct Application {
  std::string name;
  Napi::Function forward;
  std::shared_ptr<JsCallback> backward;
  variable_list inputs;
};

// libtorch's context, with what backward needs.
struct Context : torch::autograd::AutogradContext {
  std::string name;
  std::shared_ptr<JsCallback> backward;
  variable_list to_save;
  bool materialize_grads = true;
};

// libtorch's recipe for custom functions: it wraps what forward returns, and makes the node.
struct ScriptFunction : torch::autograd::Function<ScriptFunction> {
  static variable_list forward(Context* context, const at::TensorList& inputs,
                               const Application& application);
};

}  // namespace
}  // namespace torchbind

template <>
struct torch::autograd::CppNode<torchbind::ScriptFunction>;

namespace torchbind {
namespace {

// Nodes whose backward is running, so that their saved tensors can be read. One list per thread.
class Running {
 public:
  using Node = torch::autograd::CppNode<ScriptFunction>;

  explicit Running(Node* node) : id_(++last_id_) { nodes().emplace_back(id_, node); }
  ~Running() { nodes().pop_back(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  double id() const { return static_cast<double>(id_); }
  static Node* find(int64_t id) {
    for (const auto& [known, node] : nodes()) {
      if (known == id) return node;
    }
    return nullptr;
  }

 private:
  static std::vector<std::pair<int64_t, Node*>>& nodes() {
    thread_local std::vector<std::pair<int64_t, Node*>> nodes;
    return nodes;
  }

  static thread_local int64_t last_id_;
  const int64_t id_;
};

thread_local int64_t Running::last_id_ = 0;

}  // namespace
}  // namespace torchbind

// The node itself. libtorch's own template calls a C++ backward with the node locked; this one calls
// JavaScript, which may come back to the graph.
template <>
struct torch::autograd::CppNode<torchbind::ScriptFunction> : public Node {
  torchbind::Context ctx_;
  std::vector<bool> is_variable_input_;
  std::vector<VariableInfo> input_info_;
  std::vector<VariableInfo> output_info_;

  std::string name() const override { return ctx_.name + "Backward"; }

  variable_list apply(variable_list&& gradients) override {
    at::OptionalDeviceGuard device_guard;
    for (size_t i = 0; ctx_.materialize_grads && i < gradients.size(); ++i) {
      if (!gradients[i].defined()) gradients[i] = output_info_[i].zeros(device_guard);
    }
    variable_list results;
    const std::shared_ptr<torchbind::JsCallback> backward = ctx_.backward;
    backward->thread().run([&] { results = call(*backward, gradients); });
    return results;
  }

  // On the JavaScript thread. Checks that the tensors are still what they were.
  variable_list saved_tensors() {
    const std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(!released_, ERR_BACKWARD_TWICE);
    variable_list tensors;
    for (const SavedVariable& variable : saved_) tensors.push_back(variable.unpack(getptr()));
    return tensors;
  }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    saved_.clear();
    released_ = true;
  }

  // The node knows itself: a reference in its context would keep it alive.
  template <typename Pointer>
  void set_ctx_grad_fn(const Pointer&) {}

  void save_variables_to_ctx() {
    for (const Variable& variable : ctx_.to_save) {
      if (!variable.defined()) saved_.emplace_back();
      // An output saved as such would hold the node that saves it.
      else
        saved_.emplace_back(variable, variable.grad_fn().get() == this);
    }
    ctx_.to_save.clear();
  }

 private:
  variable_list call(const torchbind::JsCallback& backward, const variable_list& gradients) {
    const Napi::Env env(backward.thread().env());
    const Napi::HandleScope scope(env);
    const torchbind::Running running(this);
    Napi::Array handles = Napi::Array::New(env, gradients.size());
    for (size_t i = 0; i < gradients.size(); ++i) {
      backward.thread().lend(gradients[i]);
      handles.Set(static_cast<uint32_t>(i), torchbind::from_tensor(env, gradients[i]));
    }
    const Napi::Value result = backward.call({Napi::Number::New(env, running.id()), handles});
    variable_list results = torchbind::to_tensors(result, "gradients", true);
    if (results.size() != num_outputs()) torchbind::invalid("backward() must give one gradient an input.");
    for (const at::Tensor& gradient : results) backward.thread().lend(gradient);
    return results;
  }

  std::vector<SavedVariable> saved_;
  bool released_ = false;
};

namespace torchbind {
namespace {

variable_list ScriptFunction::forward(Context* context, const at::TensorList&,
                                      const Application& application) {
  const JsCallback forward(application.backward->thread().shared_from_this(), application.forward);
  const Napi::Value value = forward.call({});
  if (!value.IsArray()) invalid("forward must give [outputs, saved, dirty, nonDifferentiable, materialize].");
  const Napi::Array result = value.As<Napi::Array>();
  const variable_list outputs = to_tensors(result.Get(uint32_t{0}), "outputs");
  context->to_save = to_tensors(result.Get(uint32_t{1}), "saved", true);
  context->mark_dirty(to_tensors(result.Get(uint32_t{2}), "dirty"));
  context->mark_non_differentiable(to_tensors(result.Get(uint32_t{3}), "nonDifferentiable"));
  context->materialize_grads = to_bool(result.Get(uint32_t{4}), "materialize");
  context->name = application.name;
  context->backward = application.backward;
  return outputs;
}

// applyFunction(name, inputs, forward, backward): the outputs, null for one that is an input changed in
// place.
Napi::Value apply_function(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[2].IsFunction() || !info[3].IsFunction()) invalid("Expected functions for forward and backward.");
  const Application application{to_string(info[0], "name"), info[2].As<Napi::Function>(),
                                std::make_shared<JsCallback>(Addon::of(env).js, info[3].As<Napi::Function>()),
                                to_tensors(info[1], "inputs")};
  const at::TensorList inputs(application.inputs);
  const variable_list outputs = ScriptFunction::apply(inputs, application);
  Napi::Array result = Napi::Array::New(env, outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    bool is_input = false;
    for (const at::Tensor& input : inputs) is_input = is_input || input.is_same(outputs[i]);
    result.Set(static_cast<uint32_t>(i), is_input ? env.Null() : from_tensor(env, outputs[i]));
  }
  return result;
}

Napi::Value saved_tensors(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Running::Node* node = Running::find(to_int64(info[0], "call"));
  if (node == nullptr) invalid("ctx.savedTensors can be read in backward() only.");
  const variable_list tensors = node->saved_tensors();
  Napi::Array result = Napi::Array::New(env, tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    result.Set(static_cast<uint32_t>(i), from_tensor(env, tensors[i]));
  }
  return result;
}

}  // namespace

void init_custom_function(Napi::Env, Napi::Object& exports) {
  expose<apply_function>(exports, "applyFunction");
  expose<saved_tensors>(exports, "savedTensors");
}

}  // namespace torchbind
