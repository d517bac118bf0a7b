// Devices through the accelerator-generic API: no CUDA headers.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "napi_setup.h"

namespace torchbind {

// A device of the accelerator, with its index, ready for use; `cuda` is the current one.
c10::Device to_accelerator(const Napi::Value& value);

// The accelerator's type, `cuda`; an error without one.
std::string accelerator_name();

void init_device(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
