// Typed arrays in and out, and views of storages.
#pragma once

#include <ATen/core/Tensor.h>

#include "napi_setup.h"

namespace torchbind {

// The storage of a tensor whose bytes can be read, or an error where it has none.
const c10::Storage& storage_with_bytes(const at::Tensor& tensor);

// Whether a tensor is a dense view of bytes.
bool is_plain(const at::Tensor& tensor);

// Deleter of storages made by sliceBytes(): frees the parent storage.
void release_slice(void* context);

void init_storage(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
