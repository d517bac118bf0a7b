// Native objects that JavaScript owns.
#pragma once

#include <memory>
#include <utility>

#include "napi_setup.h"

namespace torchbind {

// An External that owns `data` and frees it inside garbage collection. Where Node-API refuses to make one,
// nothing has been given away: `data` is freed here.
template <typename T>
Napi::External<T> make_external(Napi::Env env, std::unique_ptr<T> data, const napi_type_tag& tag) {
  auto external = Napi::External<T>::New(env, data.get(), [](Napi::BasicEnv, T* owned) { delete owned; });
  data.release();
  external.TypeTag(&tag);
  return external;
}

}  // namespace torchbind
