// Copies and comparisons of whole tensors off the main thread.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_tensor_jobs(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
