#include "js_thread.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/SequenceNumber.h>
#include <ATen/ThreadLocalState.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "errors.h"

namespace torchbind {
namespace {

Error ended() {
  return Error(
      kThread,
      "A hook or custom function was called when its JavaScript thread was not waiting for the backward "
      "pass. Run backward() on the thread that registered it.");
}

}  // namespace

// A call that an engine's thread waits for. While it is made, JavaScript may start another backward pass:
// that one must run on the waiting thread, which is the only one that may work for its device.
struct JsThread::Call {
  const std::function<void()>& work;
  const torch::autograd::Node* node;
  at::ThreadLocalState state;
  std::optional<c10::Stream> stream;
  Call* outer = nullptr;  // the call during which this one was made
  std::condition_variable changed = {};
  std::function<void()> nested = nullptr;
  std::exception_ptr error = nullptr;
  bool done = false;
};

void JsThread::run(const std::function<void()>& work) {
  const auto node = torch::autograd::get_current_node();
  if (is_current()) {
    evaluating_.push_back(node.get());
    try {
      work();
    } catch (...) {
      evaluating_.pop_back();
      throw;
    }
    evaluating_.pop_back();
    return;
  }
  Call call{work, node.get(), at::ThreadLocalState(), std::nullopt};
  if (uses_accelerator) {
    const c10::impl::VirtualGuardImpl device(at::getAccelerator(/*checked=*/true).value());
    call.stream = device.getStream(device.getDevice());
  }
  wait_until_made(call);
  if (call.error != nullptr) std::rethrow_exception(call.error);
}

void JsThread::wait_until_made(Call& call) {
  std::unique_lock lock(mutex_);
  if (closed_ || serving_ == 0) throw ended();
  queue_.push_back(&call);
  changed_.notify_all();
  while (true) {
    call.changed.wait(lock, [&] { return call.done || call.nested != nullptr; });
    if (call.done) return;
    const std::function<void()> nested = std::exchange(call.nested, nullptr);
    lock.unlock();
    nested();
    lock.lock();
  }
}

// On the JavaScript thread, as if on the one that called: with its modes, its device and its stream.
void JsThread::make(Call& call) {
  call.outer = std::exchange(current_, &call);
  evaluating_.push_back(call.node);
  try {
    const at::ThreadLocalStateGuard state(call.state);
    const c10::OptionalStreamGuard stream(call.stream);
    call.work();
  } catch (...) {
    call.error = std::current_exception();
  }
  evaluating_.pop_back();
  current_ = call.outer;
  const std::lock_guard lock(mutex_);
  call.done = true;
  call.changed.notify_all();
}

void JsThread::drive(const std::function<void()>& engine) {
  ++passes_;
  std::exception_ptr error;
  try {
    pass(engine);
  } catch (...) {
    error = std::current_exception();
  }
  if (--passes_ == 0) lent_.clear();
  if (error != nullptr) std::rethrow_exception(error);
}

void JsThread::pass(const std::function<void()>& engine) {
  // From 60 passes inside one another on, the engine goes to a thread of its own.
  constexpr int kDeepest = 50;
  sweep();
  const bool devices = callbacks > 0 && (uses_accelerator || always_beside);
  if (current_ != nullptr || devices || depth_ >= kDeepest) return serve(engine);
  ++depth_;
  try {
    engine();
  } catch (...) {
    --depth_;
    throw;
  }
  --depth_;
}

void JsThread::serve(const std::function<void()>& engine) {
  bool finished = false;
  std::exception_ptr error;
  // What the modes are here holds there too.
  const at::ThreadLocalState state;
  const std::function<void()> job = [&, self = shared_from_this()] {
    try {
      const at::ThreadLocalStateGuard guard(state);
      engine();
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    finished = true;
    changed_.notify_all();
  };

  std::thread helper;
  std::unique_lock lock(mutex_);
  if (serving_++ == 0) serving_since_ = at::sequence_number::peek();
  if (current_ != nullptr) {
    current_->nested = job;
    current_->changed.notify_all();
  } else {
    try {
      helper = std::thread(job);
    } catch (...) {
      --serving_;
      throw;
    }
  }
  while (true) {
    changed_.wait(lock, [&] { return finished || !queue_.empty(); });
    // Calls that are left belong to an outer pass, or to threads that have not yet seen this one fail.
    if (finished) break;
    Call* const call = queue_.front();
    queue_.pop_front();
    lock.unlock();
    make(*call);
    lock.lock();
  }
  if (--serving_ == 0) fail_waiting();
  lock.unlock();
  if (helper.joinable()) helper.join();
  if (error != nullptr) std::rethrow_exception(error);
}

// With the lock held.
void JsThread::fail_waiting() {
  for (Call* call : std::exchange(queue_, {})) {
    call->error = std::make_exception_ptr(ended());
    call->done = true;
    call->changed.notify_all();
  }
}

void JsThread::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  fail_waiting();
  // process.exit() in a callback never returns to make(): let the engine's threads go on.
  for (Call* call = current_; call != nullptr;) {
    Call* const outer = call->outer;
    call->error = std::make_exception_ptr(ended());
    call->done = true;
    call->changed.notify_all();
    call = outer;
  }
}

bool JsThread::is_evaluating(const torch::autograd::Node* node) const {
  if (std::find(evaluating_.begin(), evaluating_.end(), node) != evaluating_.end()) return true;
  return serving_ > 0 && node->sequence_nr() < serving_since_;
}

void JsThread::lend(const at::Tensor& tensor) {
  if (tensor.defined()) lent_.try_emplace(tensor.unsafeGetTensorImpl(), tensor.getIntrusivePtr());
}

bool JsThread::is_lent(const at::Tensor& tensor) const {
  return lent_.count(tensor.unsafeGetTensorImpl()) > 0;
}

void JsThread::release(napi_ref reference) {
  if (reference == nullptr) return;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    if (!is_current()) {
      released_.push_back(reference);
      return;
    }
  }
  napi_delete_reference(env_, reference);
}

void JsThread::sweep() {
  std::vector<napi_ref> released;
  {
    const std::lock_guard lock(mutex_);
    released = std::exchange(released_, {});
  }
  for (napi_ref reference : released) napi_delete_reference(env_, reference);
}

JsRef::JsRef(std::shared_ptr<JsThread> thread, napi_value value) : thread_(std::move(thread)) {
  thread_->sweep();
  if (napi_create_reference(thread_->env(), value, 1, &reference_) != napi_ok) {
    throw Error(kThread, "The JavaScript thread is being terminated.");
  }
}

napi_value JsRef::value() const {
  napi_value value = nullptr;
  napi_get_reference_value(thread_->env(), reference_, &value);
  return value;
}

JsCallback::JsCallback(std::shared_ptr<JsThread> thread, const Napi::Function& function)
    : function_(std::move(thread), function) {
  const Napi::Value name = function.Get("name");
  name_ = name.IsString() ? name.As<Napi::String>().Utf8Value() : "";
  ++function_.thread().callbacks;
}

Napi::Value JsCallback::call(const std::vector<napi_value>& arguments) const {
  const napi_env env = thread().env();
  napi_value undefined = nullptr;
  napi_value result = nullptr;
  if (napi_get_undefined(env, &undefined) == napi_ok &&
      napi_call_function(env, undefined, function_.value(), arguments.size(), arguments.data(), &result) ==
          napi_ok) {
    return Napi::Value(env, result);
  }
  bool pending = false;
  napi_value error = nullptr;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok && error != nullptr) {
    throw JavaScriptError(std::make_shared<JsRef>(thread().shared_from_this(), error));
  }
  throw Error(kThread, "The JavaScript thread is being terminated.");
}

void JavaScriptError::rethrow(napi_env env) const {
  // Thrown only in its own environment; its value means nothing in another.
  if (value_->thread().is_current())
    napi_throw(env, value_->value());
  else
    throw_to_js(env, {kThread, what()});
}

}  // namespace torchbind
