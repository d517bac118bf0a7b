// Switches of libtorch's backends: which kernels and which precision it may use.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_backends(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
