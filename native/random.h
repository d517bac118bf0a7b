// Seeds and generator states.
#pragma once

#include "napi_setup.h"

#include <ATen/core/Generator.h>

namespace torchbind {

// The generator behind a JavaScript Generator.
at::Generator to_generator(const Napi::Value& value, const char* name);

void init_random(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
