// Promises that threads of c10d settle. Node's own thread pool is never used: a thread that waits for another
// rank would take one of its four threads, and Node waits for all of them when the process ends.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "../napi_setup.h"

namespace torchbind::distributed {

// The way from any thread to the JavaScript thread of one environment.
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  // On the JavaScript thread.
  static std::shared_ptr<Channel> of(Napi::Env env);

  // Runs `work` on the JavaScript thread; not at all when the environment has ended. From any thread.
  void post(std::function<void(Napi::Env)> work);

  // On the JavaScript thread only: sets whether the event loop waits for this channel. Calls are counted.
  void hold();
  void release();

 private:
  explicit Channel(Napi::Env env) : env_(env) {}
  void open();
  static void call(napi_env env, napi_value function, void* context, void* data);

  const napi_env env_;
  std::mutex mutex_;
  napi_threadsafe_function function_ = nullptr;  // null when the environment has ended
  int holders_ = 0;
};

// A promise that any thread settles, once.
class Settler {
 public:
  // Makes the value that the promise is resolved with.
  using Result = std::function<Napi::Value(Napi::Env)>;

  // On the JavaScript thread.
  static std::shared_ptr<Settler> make(Napi::Env env);
  Napi::Promise promise() const { return deferred_->Promise(); }

  void resolve(Result result);
  void reject(const std::exception_ptr& error);

 private:
  explicit Settler(Napi::Env env);
  void settle(std::function<void(Napi::Env, Napi::Promise::Deferred&)> with);

  std::shared_ptr<Channel> channel_;
  std::shared_ptr<Napi::Promise::Deferred> deferred_;
};

// Runs `work` on a separate thread, and settles the promise with its result.
Napi::Promise on_thread(Napi::Env env, std::function<Settler::Result()> work);

}  // namespace torchbind::distributed
