// Backward, gradients, grad mode and inference mode.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_autograd(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
