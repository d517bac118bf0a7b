#include "hooks.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "errors.h"
#include "external.h"

namespace torchbind {
namespace {

// The hooks of one tensor, in the order of their registration. Changed on the JavaScript thread only.
class HookList {
 public:
  using Hook = std::pair<uint64_t, std::shared_ptr<JsCallback>>;

  explicit HookList(std::shared_ptr<JsThread> thread) : thread_(std::move(thread)) {}

  JsThread& thread() const { return *thread_; }
  uint64_t add(std::shared_ptr<JsCallback> callback) {
    hooks_.emplace_back(++last_id_, std::move(callback));
    return last_id_;
  }
  void remove(uint64_t id) {
    hooks_.erase(
        std::remove_if(hooks_.begin(), hooks_.end(), [id](const Hook& hook) { return hook.first == id; }),
        hooks_.end());
  }
  bool empty() const { return hooks_.empty(); }
  // A copy: hooks may add and remove hooks.
  std::vector<Hook> snapshot() const { return hooks_; }

 private:
  std::shared_ptr<JsThread> thread_;
  std::vector<Hook> hooks_;
  uint64_t last_id_ = 0;
};

// Runs on the JavaScript thread. Gives the function a tensor, and returns the tensor that it returned, if
// any.
at::Tensor call_hook(const JsCallback& hook, const at::Tensor& tensor) {
  const Napi::Env env(hook.thread().env());
  const Napi::HandleScope scope(env);
  const Napi::Value result = hook.call({from_tensor(env, tensor)});
  if (result.IsNull() || result.IsUndefined()) return {};
  return to_tensor(result, "the hook's result");
}

// What is registered with libtorch for a tensor: all its hooks.
struct TensorHook {
  std::shared_ptr<HookList> list;

  at::TensorBase operator()(const at::TensorBase& gradient) const {
    // Where no gradient flows there is nothing to look at. The list is held, because a hook may change what
    // holds it.
    if (!gradient.defined()) return {};
    const std::shared_ptr<HookList> held = list;
    at::Tensor value(gradient);
    held->thread().run([&] {
      for (const auto& [id, hook] : held->snapshot()) {
        held->thread().lend(value);
        at::Tensor result = call_hook(*hook, value);
        if (!result.defined()) continue;
        torch::autograd::check_variable_result(value, result, hook->name());
        value = std::move(result);
      }
      held->thread().lend(value);
    });
    return value;
  }
};

struct PostAccumulateHook : torch::autograd::PostAccumulateGradHook {
  explicit PostAccumulateHook(std::shared_ptr<JsThread> thread)
      : list(std::make_shared<HookList>(std::move(thread))) {}

  void operator()(const torch::autograd::Variable& tensor) override {
    const std::shared_ptr<HookList> held = list;
    const at::Tensor leaf = tensor;
    held->thread().run([&] {
      for (const auto& [id, hook] : held->snapshot()) call_hook(*hook, leaf);
    });
  }

  std::shared_ptr<HookList> list;
};

void check_requires_grad(const at::Tensor& tensor) {
  if (!tensor.requires_grad()) {
    invalid("Cannot register a hook on a tensor that doesn't require gradient.");
  }
}

// The engine walks through a node's hooks while it evaluates the node: adding one then would pull the list
// from under it.
void check_not_evaluating(const JsThread& js, const at::Tensor& tensor, const char* what) {
  if (tensor.is_leaf() || !js.is_evaluating(tensor.grad_fn().get())) return;
  invalid(std::string(what) +
          "(): the tensor takes part in the backward pass that is running. Call it before backward().");
}

// The list of hooks registered so far, or null.
std::shared_ptr<HookList> existing_tensor_hooks(const at::Tensor& tensor) {
  const auto* meta = torch::autograd::impl::get_autograd_meta(tensor);
  if (meta == nullptr || meta->cpp_hooks_list_ == nullptr || meta->cpp_hooks_list_->empty()) return nullptr;
  const TensorHook* ours = meta->cpp_hooks_list_->back().target<TensorHook>();
  return ours == nullptr ? nullptr : ours->list;
}

std::shared_ptr<HookList> tensor_hooks(const std::shared_ptr<JsThread>& js, const at::Tensor& tensor) {
  if (auto list = existing_tensor_hooks(tensor)) return list;
  check_not_evaluating(*js, tensor, "registerHook");
  auto list = std::make_shared<HookList>(js);
  static_cast<const at::TensorBase&>(tensor).register_hook(TensorHook{list});
  return list;
}

std::shared_ptr<HookList> post_accumulate_hooks(const std::shared_ptr<JsThread>& js,
                                                const at::Tensor& tensor) {
  const auto& hook = torch::autograd::impl::post_acc_grad_hooks(tensor);
  if (const auto* ours = dynamic_cast<PostAccumulateHook*>(hook.get())) return ours->list;
  auto fresh = std::make_unique<PostAccumulateHook>(js);
  auto list = fresh->list;
  torch::autograd::impl::set_post_acc_grad_hooks(tensor, std::move(fresh));
  return list;
}

// What remove() needs. It does not keep the hooks alive.
struct HookHandle {
  std::weak_ptr<HookList> list;
  uint64_t id;
};

constexpr napi_type_tag kHookTag = {0x2c7d9e0a41f84b63, 0xb1905c3ed7f628aa};

Napi::Value add_hook(Napi::Env env, const std::shared_ptr<HookList>& list,
                     std::shared_ptr<JsCallback> callback) {
  const uint64_t id = list->add(std::move(callback));
  try {
    return make_external(env, std::make_unique<HookHandle>(HookHandle{list, id}), kHookTag);
  } catch (...) {
    list->remove(id);  // who gets no handle could never take the hook away
    throw;
  }
}

std::shared_ptr<JsCallback> to_callback(const std::shared_ptr<JsThread>& js, const Napi::Value& value) {
  if (!value.IsFunction()) invalid("Expected a function for 'hook', got " + type_of(value) + ".");
  return std::make_shared<JsCallback>(js, value.As<Napi::Function>());
}

Napi::Value register_hook(const Napi::CallbackInfo& info) {
  const auto& js = Addon::of(info.Env()).js;
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  check_requires_grad(tensor);
  auto callback = to_callback(js, info[1]);
  return add_hook(info.Env(), tensor_hooks(js, tensor), std::move(callback));
}

Napi::Value register_post_accumulate_grad_hook(const Napi::CallbackInfo& info) {
  const auto& js = Addon::of(info.Env()).js;
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  check_requires_grad(tensor);
  if (!tensor.is_leaf()) invalid("Post accumulate grad hooks cannot be registered on non-leaf tensors.");
  auto callback = to_callback(js, info[1]);
  return add_hook(info.Env(), post_accumulate_hooks(js, tensor), std::move(callback));
}

Napi::Value remove_hook(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal() || !info[0].As<Napi::External<HookHandle>>().CheckTypeTag(&kHookTag)) {
    invalid("Expected a handle made by registerHook().");
  }
  const HookHandle* handle = info[0].As<Napi::External<HookHandle>>().Data();
  if (const auto list = handle->list.lock()) list->remove(handle->id);
  return info.Env().Undefined();
}

Napi::Value has_hooks(const Napi::CallbackInfo& info) {
  const at::Tensor& tensor = to_tensor(info[0], "tensor");
  const auto list = existing_tensor_hooks(tensor);
  bool found = list != nullptr && !list->empty();
  if (const auto* meta = torch::autograd::impl::get_autograd_meta(tensor); meta != nullptr && !found) {
    const auto* ours = dynamic_cast<PostAccumulateHook*>(meta->post_acc_grad_hooks_.get());
    found = ours != nullptr && !ours->list->empty();
  }
  return Napi::Boolean::New(info.Env(), found);
}

Napi::Value retain_grad(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  check_not_evaluating(*Addon::of(info.Env()).js, tensor, "retainGrad");
  tensor.retain_grad();
  return info.Env().Undefined();
}

Napi::Value retains_grad(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_tensor(info[0], "tensor").retains_grad());
}

}  // namespace

void init_hooks(Napi::Env, Napi::Object& exports) {
  expose<register_hook>(exports, "registerHook");
  expose<register_post_accumulate_grad_hook>(exports, "registerPostAccumulateGradHook");
  expose<remove_hook>(exports, "removeHook");
  expose<has_hooks>(exports, "hasHooks");
  expose<retain_grad>(exports, "retainGrad");
  expose<retains_grad>(exports, "retainsGrad");
}

}  // namespace torchbind
