#include "channel.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <unordered_map>
#include <utility>

#ifdef __GLIBC__
#include <unistd.h>
#endif

#include "../errors.h"

namespace torchbind::distributed {
namespace {

using Work = std::function<void(Napi::Env)>;

struct Channels {
  std::mutex mutex;
  std::unordered_map<napi_env, std::shared_ptr<Channel>> all;
};

// Never destroyed: threads may use it while the process ends.
Channels& channels() {
  static auto& instance = *new Channels;
  return instance;
}

std::atomic<int> running_threads{0};

// A thread of `on_thread`, which may wait for another rank for minutes, or compute. Node does not know of it:
// when the process ends, libtorch's static objects must not be destroyed while the thread uses them.
struct Running {
  Running() {
#ifdef __GLIBC__
    static const int registered = on_exit(
        [](int status, void*) {
          if (running_threads == 0) return;
          std::fflush(nullptr);
          _exit(status);
        },
        nullptr);
    static_cast<void>(registered);
#endif
    ++running_threads;
  }
  ~Running() { --running_threads; }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
};

}  // namespace

std::shared_ptr<Channel> Channel::of(Napi::Env env) {
  const std::lock_guard lock(channels().mutex);
  std::shared_ptr<Channel>& channel = channels().all[env];
  if (channel == nullptr) {
    channel.reset(new Channel(env));
    channel->open();
  }
  return channel;
}

void Channel::open() {
  Napi::Env env(env_);
  const auto finalize = [](napi_env ended, void*, void* context) {
    auto* const self = static_cast<Channel*>(context);
    std::shared_ptr<Channel> last;
    const std::lock_guard lock(channels().mutex);
    {
      const std::lock_guard own(self->mutex_);
      self->function_ = nullptr;
    }
    const auto found = channels().all.find(ended);
    if (found != channels().all.end()) {
      last = std::move(found->second);
      channels().all.erase(found);
    }
  };
  if (napi_create_threadsafe_function(env_, nullptr, nullptr, Napi::String::New(env, "torchbind distributed"),
                                      0, 1, nullptr, finalize, this, &Channel::call, &function_) != napi_ok) {
    throw Error(kThread, "The JavaScript thread is being terminated.");
  }
  napi_unref_threadsafe_function(env_, function_);
}

void Channel::call(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<Work> work(static_cast<Work*>(data));
  if (env == nullptr) return;  // the environment ends
  Napi::HandleScope scope(env);
  (*work)(env);
}

void Channel::post(Work work) {
  auto owned = std::make_unique<Work>(std::move(work));
  const std::lock_guard lock(mutex_);
  if (function_ == nullptr) return;
  if (napi_call_threadsafe_function(function_, owned.get(), napi_tsfn_nonblocking) == napi_ok)
    owned.release();
}

void Channel::hold() {
  if (holders_++ == 0 && function_ != nullptr) napi_ref_threadsafe_function(env_, function_);
}

void Channel::release() {
  if (--holders_ == 0 && function_ != nullptr) napi_unref_threadsafe_function(env_, function_);
}

Settler::Settler(Napi::Env env)
    : channel_(Channel::of(env)), deferred_(std::make_shared<Napi::Promise::Deferred>(env)) {
  channel_->hold();
}

std::shared_ptr<Settler> Settler::make(Napi::Env env) { return std::shared_ptr<Settler>(new Settler(env)); }

void Settler::settle(std::function<void(Napi::Env, Napi::Promise::Deferred&)> with) {
  channel_->post([channel = channel_, deferred = deferred_, with = std::move(with)](Napi::Env env) {
    channel->release();
    with(env, *deferred);
  });
}

void Settler::resolve(Result result) {
  settle([result = std::move(result)](Napi::Env env, Napi::Promise::Deferred& deferred) {
    try {
      deferred.Resolve(result(env));
    } catch (...) {
      deferred.Reject(make_error(env, describe_current_exception()));
    }
  });
}

void Settler::reject(const std::exception_ptr& error) {
  Failure failure;
  try {
    std::rethrow_exception(error);
  } catch (...) {
    failure = describe_current_exception();
  }
  settle([failure = std::move(failure)](Napi::Env env, Napi::Promise::Deferred& deferred) {
    deferred.Reject(make_error(env, failure));
  });
}

Napi::Promise on_thread(Napi::Env env, std::function<Settler::Result()> work) {
  const std::shared_ptr<Settler> settler = Settler::make(env);
  std::thread([running = std::make_unique<Running>(), settler, work = std::move(work)]() mutable {
    try {
      settler->resolve(work());
    } catch (...) {
      settler->reject(std::current_exception());
    }
    work = nullptr;
  }).detach();
  return settler->promise();
}

}  // namespace torchbind::distributed
