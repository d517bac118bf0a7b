#pragma once

#include "../napi_setup.h"

namespace torchbind {

void init_distributed(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
