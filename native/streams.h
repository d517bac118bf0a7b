// Streams and events of the accelerator, through c10's device guards: no CUDA headers.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_streams(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
