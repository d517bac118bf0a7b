#include "tickets.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "errors.h"
#include "external.h"
#include "fixed_storage.h"

namespace torchbind {
namespace {

constexpr const char* kTicket = "ERR_TORCHBIND_TICKET";

// All tensors that were shared and not yet received, of all threads.
class Registry {
 public:
  int64_t add(at::Tensor tensor, bool requires_grad, int64_t thread) {
    const std::lock_guard lock(mutex_);
    waiting_.emplace(++last_, Entry{std::move(tensor), requires_grad, thread});
    return last_;
  }

  std::optional<at::Tensor> take(int64_t ticket) {
    const std::lock_guard lock(mutex_);
    auto node = waiting_.extract(ticket);
    if (node.empty()) return std::nullopt;
    if (node.mapped().requires_grad) node.mapped().tensor.set_requires_grad(true);
    return std::move(node.mapped().tensor);
  }

  bool was_issued(int64_t ticket) {
    const std::lock_guard lock(mutex_);
    return ticket > 0 && ticket <= last_;
  }

  // Frees what the thread has shared and nobody received.
  void end(int64_t thread) {
    std::vector<at::Tensor> doomed;  // destroyed after the lock is given back
    const std::lock_guard lock(mutex_);
    for (auto entry = waiting_.begin(); entry != waiting_.end();) {
      if (entry->second.thread != thread) {
        ++entry;
        continue;
      }
      doomed.push_back(std::move(entry->second.tensor));
      entry = waiting_.erase(entry);
    }
  }

  size_t size() {
    const std::lock_guard lock(mutex_);
    return waiting_.size();
  }

 private:
  struct Entry {
    at::Tensor tensor;
    bool requires_grad;
    int64_t thread;
  };

  std::mutex mutex_;
  int64_t last_ = 0;
  std::unordered_map<int64_t, Entry> waiting_;
};

// Never destroyed: threads may outlive the statics of the process.
Registry& registry() {
  static Registry* instance = new Registry();
  return *instance;
}

void check_has_no_graph(const at::Tensor& tensor) {
  if (tensor.requires_grad() && !tensor.is_leaf()) {
    throw Error(kTicket,
                "A tensor that requires a gradient and was computed from others cannot go to another thread: "
                "the graph "
                "behind it stays here. Share tensor.detach().");
  }
}

// A ticket for another tensor over the same storage, with a version of its own: a change that one thread
// makes in place does not invalidate the graphs of the other.
int64_t issue_ticket(const at::Tensor& tensor, int64_t thread) {
  return registry().add(tensor.variable_data(), tensor.requires_grad(), thread);
}

Napi::Value share_tensor(const Napi::CallbackInfo& info) {
  const at::Tensor& tensor = to_tensor(info[0], "tensor");
  const int64_t thread = to_int64(info[1], "thread");
  check_has_no_graph(tensor);
  // Two threads will use this memory: neither may move it while the other uses it.
  if (tensor.has_storage()) fix_for_good(tensor.storage());
  return from_int64(info.Env(), issue_ticket(tensor, thread));
}

// Storages that stay where they are until JavaScript ends the loan.
using Loan = std::deque<FixedStorage>;
constexpr napi_type_tag kLoanTag = {0x6b1f8c52d07e4a39, 0x94e3a7105cd86f2b};

// As share_tensor for many tensors, which may move again when the loan ends.
Napi::Value lend_tensors(const Napi::CallbackInfo& info) {
  const std::vector<at::Tensor> tensors = to_tensors(info[0], "tensors");
  const int64_t thread = to_int64(info[1], "thread");
  auto loan = std::make_unique<Loan>();
  for (const at::Tensor& tensor : tensors) check_has_no_graph(tensor);
  Napi::Array tickets = Napi::Array::New(info.Env(), tensors.size());
  for (uint32_t i = 0; i < tensors.size(); i++) {
    if (tensors[i].has_storage()) loan->emplace_back(tensors[i].storage());
    tickets.Set(i, from_int64(info.Env(), issue_ticket(tensors[i], thread)));
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("tickets", tickets);
  result.Set("loan", make_external(info.Env(), std::move(loan), kLoanTag));
  return result;
}

Napi::Value end_loan(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal() || !info[0].As<Napi::External<Loan>>().CheckTypeTag(&kLoanTag)) {
    throw Error(kTicket, "Expected a loan as lendTensors() gives it.");
  }
  info[0].As<Napi::External<Loan>>().Data()->clear();
  return info.Env().Undefined();
}

Napi::Value receive_tensor(const Napi::CallbackInfo& info) {
  const int64_t ticket = to_int64(info[0], "ticket");
  std::optional<at::Tensor> tensor = registry().take(ticket);
  if (tensor) return from_tensor(info.Env(), std::move(*tensor));
  if (!registry().was_issued(ticket)) throw Error(kTicket, "No tensor was ever shared under this ticket.");
  throw Error(
      kTicket,
      "The tensor of this ticket is gone: it was received or discarded before, or its sender was "
      "terminated or failed more than a minute ago. A ticket is received once: to give a tensor to several "
      "threads, share it once for each.");
}

Napi::Value discard_tensor(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), registry().take(to_int64(info[0], "ticket")).has_value());
}

Napi::Value worker_started(const Napi::CallbackInfo& info) {
  const int64_t thread = to_int64(info[0], "thread");
  Addon::of(info.Env()).workers.threads.push_back(thread);
  return info.Env().Undefined();
}

Napi::Value worker_ended(const Napi::CallbackInfo& info) {
  const int64_t thread = to_int64(info[0], "thread");
  const bool is_lost = to_bool(info[1], "isLost");
  std::erase(Addon::of(info.Env()).workers.threads, thread);
  if (is_lost) registry().end(thread);
  return info.Env().Undefined();
}

Napi::Value waiting_tickets(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(registry().size()));
}

}  // namespace

Workers::~Workers() {
  for (const int64_t thread : threads) registry().end(thread);
}

void init_tickets(Napi::Env, Napi::Object& exports) {
  expose<share_tensor>(exports, "shareTensor");
  expose<lend_tensors>(exports, "lendTensors");
  expose<end_loan>(exports, "endLoan");
  expose<receive_tensor>(exports, "receiveTensor");
  expose<discard_tensor>(exports, "discardTensor");
  expose<worker_started>(exports, "workerStarted");
  expose<worker_ended>(exports, "workerEnded");
  expose<waiting_tickets>(exports, "waitingTickets");
}

}  // namespace torchbind
