// What a tensor is: shape, dtype, device, storage.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_tensor_info(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
