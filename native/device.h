// Devices through the accelerator-generic API: no CUDA headers.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_device(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
