// Seeds and generator states.
#pragma once

#include <ATen/core/Generator.h>

#include "napi_setup.h"

namespace torchbind {

// The generator behind a JavaScript Generator.
at::Generator to_generator(const Napi::Value& value, const char* name);

void init_random(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
