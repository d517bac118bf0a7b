// The JavaScript thread of one environment. Autograd calls hooks and custom functions from whatever thread
// runs a node, but JavaScript runs only on its own thread. A call from that thread is made directly. A call
// from an engine thread is queued; the JavaScript thread, which waits in `serve` for the backward pass to
// end, makes it meanwhile.
#pragma once

#include <torch/csrc/autograd/function.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "napi_setup.h"

namespace torchbind {

class JsThread : public std::enable_shared_from_this<JsThread> {
 public:
  explicit JsThread(napi_env env) : env_(env), id_(std::this_thread::get_id()) {}

  bool is_current() const { return std::this_thread::get_id() == id_; }
  napi_env env() const { return env_; }

  // Runs `work` on the JavaScript thread and returns when it is done; exceptions come through.
  void run(const std::function<void()>& work);

  // On the JavaScript thread: runs `engine`, which may call `run` from any thread. Cannot deadlock: if device
  // threads can take part, `engine` runs on another thread while this thread serves the calls.
  void drive(const std::function<void()>& engine);

  // A value that JavaScript no longer needs to keep; from any thread, and inside garbage collection.
  void release(napi_ref reference);
  // Frees what other threads released.
  void sweep();

  // The environment ends: waiting threads get an error, and no function is called any more.
  void close();

  // Whether hooks must not be added to a node: it is being evaluated, and the engine walks through its hooks.
  bool is_evaluating(const torch::autograd::Node* node) const;

  // On the JavaScript thread: the engine works with a tensor that JavaScript knows, until the pass ends.
  void lend(const at::Tensor& tensor);
  bool is_lent(const at::Tensor& tensor) const;

  std::atomic<int> callbacks{0};  // functions that a graph may call
  std::atomic<bool> uses_accelerator{
      false};                  // a tensor of this environment was on a device with threads of its own
  bool always_beside = false;  // for tests: drive the engine from another thread always

 private:
  struct Call;

  void pass(const std::function<void()>& engine);
  void serve(const std::function<void()>& engine);
  void wait_until_made(Call& call);
  void make(Call& call);
  void fail_waiting();

  const napi_env env_;
  const std::thread::id id_;
  std::mutex mutex_;
  std::condition_variable changed_;  // what the JavaScript thread waits for
  std::deque<Call*> queue_;
  std::vector<napi_ref> released_;
  bool closed_ = false;
  int serving_ = 0;
  // Of the JavaScript thread alone: the queued call that it makes now, the nodes that calls came from, and
  // what the next node's number was when it began to serve.
  Call* current_ = nullptr;
  std::vector<const torch::autograd::Node*> evaluating_;
  uint64_t serving_since_ = 0;
  int depth_ = 0;   // of passes that run on this thread, one in a callback of the other
  int passes_ = 0;  // that have begun and not ended, on whatever thread
  // Weak references, so that no other tensor can get the address of one.
  std::unordered_map<const c10::TensorImpl*,
                     c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>>
      lent_;
};

// Keeps a JavaScript value alive. May be destroyed on any thread.
class JsRef {
 public:
  JsRef(std::shared_ptr<JsThread> thread, napi_value value);
  ~JsRef() { thread_->release(reference_); }
  JsRef(const JsRef&) = delete;
  JsRef& operator=(const JsRef&) = delete;

  JsThread& thread() const { return *thread_; }
  // On the JavaScript thread.
  napi_value value() const;

 private:
  std::shared_ptr<JsThread> thread_;
  napi_ref reference_ = nullptr;
};

// A JavaScript function that a graph may call.
class JsCallback {
 public:
  JsCallback(std::shared_ptr<JsThread> thread, const Napi::Function& function);
  ~JsCallback() { --function_.thread().callbacks; }
  JsCallback(const JsCallback&) = delete;
  JsCallback& operator=(const JsCallback&) = delete;

  JsThread& thread() const { return function_.thread(); }
  const std::string& name() const { return name_; }
  // Call on the JavaScript thread, inside a handle scope. Throws JavaScriptError with the value that the
  // function threw.
  Napi::Value call(const std::vector<napi_value>& arguments) const;

 private:
  JsRef function_;
  std::string name_;
};

// What a JavaScript function threw, on its way through C++.
class JavaScriptError : public std::exception {
 public:
  explicit JavaScriptError(std::shared_ptr<JsRef> value) : value_(std::move(value)) {}
  const char* what() const noexcept override { return "A JavaScript function threw."; }
  // Throws the very same value in JavaScript.
  void rethrow(napi_env env) const;

 private:
  std::shared_ptr<JsRef> value_;
};

}  // namespace torchbind
