// DistributedDataParallel's engine, used as Python's torch.nn.parallel does: Python ranks may be in the
// group.
#include <algorithm>
#include <limits>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/default_comm_hooks.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <unordered_map>
#include <utility>

#include "c10d_groups.h"

namespace torchbind::distributed {
namespace {

// As Python has it.
constexpr size_t kBroadcastBytes = 250 * 1024 * 1024;

class C10dReducer final : public Reducer {
 public:
  C10dReducer(c10::intrusive_ptr<c10d::ProcessGroup> group, const ReducerOptions& options)
      : group_(std::move(group)) {
    c10d::verify_params_across_processes(group_, options.parameters, std::nullopt);
    broadcast(options.states);
    // One bucket to begin with: after the first backward pass, whose order is then known, they are made anew.
    const bool known_order = options.static_graph || !options.find_unused;
    std::vector<size_t> limits;
    if (known_order) {
      limits = {std::numeric_limits<int64_t>::max()};
    } else if (options.first_bucket_bytes < options.bucket_bytes) {
      limits = {static_cast<size_t>(options.first_bucket_bytes), static_cast<size_t>(options.bucket_bytes)};
    } else {
      limits = {static_cast<size_t>(options.bucket_bytes)};
    }
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(options.parameters, limits));
    std::reverse(buckets.begin(), buckets.end());
    std::unordered_map<size_t, std::string> names;
    for (size_t i = 0; i < options.names.size(); ++i) names.emplace(i, options.names[i]);
    reducer_ = std::make_shared<c10d::Reducer>(
        options.parameters, std::move(buckets), group_, std::vector<bool>(options.parameters.size(), false),
        options.bucket_bytes, options.find_unused, options.bucket_views, std::move(names),
        options.first_bucket_bytes, false, false, std::vector<int64_t>{});
    if (options.static_graph) reducer_->set_static_graph();
    if (options.half) reducer_->register_builtin_comm_hook(c10d::BuiltinCommHookType::FP16_COMPRESS);
  }

  void prepare_for_forward() override {
    reducer_->prepare_for_forward();
    reducer_->rebuild_buckets();
  }

  void prepare_for_backward(const std::vector<at::Tensor>& outputs) override {
    reducer_->prepare_for_backward(outputs);
  }

  void broadcast(const std::vector<at::Tensor>& tensors) override {
    const at::NoGradGuard no_grad;
    if (!tensors.empty()) c10d::broadcast_coalesced(group_, tensors, kBroadcastBytes, 0);
  }

 private:
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  std::shared_ptr<c10d::Reducer> reducer_;
};

}  // namespace

std::shared_ptr<Reducer> make_c10d_reducer(const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                                           const ReducerOptions& options) {
  return std::make_shared<C10dReducer>(group, options);
}

}  // namespace torchbind::distributed
