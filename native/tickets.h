// Tensors on their way from one environment (thread) to another.
#pragma once

#include <cstdint>
#include <vector>

#include "napi_setup.h"

namespace torchbind {

// The workers that an environment has started. When the environment ends they have ended too, and nobody
// receives the tensors that they shared.
class Workers {
 public:
  Workers() = default;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers();

  std::vector<int64_t> threads;
};

void init_tickets(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
