// What the NVIDIA driver says of a device. Its C interface is stable, so that a few declarations stand for
// its header.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_cuda_driver(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
