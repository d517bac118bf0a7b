// JavaScript functions that see gradients as the backward pass computes them.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_hooks(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
