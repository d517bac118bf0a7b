#pragma once

#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "engine.h"

namespace torchbind::distributed {

std::shared_ptr<Reducer> make_c10d_reducer(const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                                           const ReducerOptions& options);

}  // namespace torchbind::distributed
