#pragma once

#include <memory>
#include <optional>

#include "errors.h"
#include "napi_setup.h"

namespace torchbind {

// Work off the main thread with a promise for its result. Subclasses touch no JavaScript in `run`.
class OffLoopWork : public Napi::AsyncWorker {
 public:
  explicit OffLoopWork(Napi::Env env) : Napi::AsyncWorker(env), deferred_(env) {}

  // The work frees itself when it is done; here, where Node-API refuses to queue it.
  static Napi::Promise start(std::unique_ptr<OffLoopWork> work) {
    Napi::Promise promise = work->deferred_.Promise();
    work->Queue();
    work.release();
    return promise;
  }

 protected:
  virtual void run() = 0;
  virtual Napi::Value result(Napi::Env env) = 0;

 private:
  void Execute() final {
    try {
      run();
    } catch (...) {
      failure_ = describe_current_exception();
    }
  }

  void OnOK() final {
    Napi::HandleScope scope(Env());
    if (!failure_) {
      try {
        deferred_.Resolve(result(Env()));
        return;
      } catch (...) {
        failure_ = describe_current_exception();
      }
    }
    deferred_.Reject(make_error(Env(), *failure_));
  }

  void OnError(const Napi::Error& error) final { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  std::optional<Failure> failure_;
};

}  // namespace torchbind
