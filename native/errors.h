// The one boundary between C++ and JavaScript: every exported function runs inside `guarded`, which turns any
// C++ exception into a TorchBindError with a code. No exception crosses Node-API.
#pragma once

#include <stdexcept>
#include <string>

#include "napi_setup.h"

namespace torchbind {

// An error with a stable code, for what torchbind itself refuses.
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;
};

inline constexpr const char* kInvalidArgument = "ERR_TORCHBIND_INVALID_ARGUMENT";
inline constexpr const char* kDisposed = "ERR_TORCHBIND_DISPOSED";
inline constexpr const char* kUnknownOperator = "ERR_TORCHBIND_UNKNOWN_OPERATOR";
inline constexpr const char* kUnsupported = "ERR_TORCHBIND_UNSUPPORTED";
inline constexpr const char* kThread = "ERR_TORCHBIND_THREAD";
inline constexpr const char* kFile = "ERR_TORCHBIND_FILE";

[[noreturn]] inline void invalid(const std::string& message) { throw Error(kInvalidArgument, message); }

// What an exception says to JavaScript.
struct Failure {
  std::string code;
  std::string message;
};

// Describes the exception in flight. Call it only from a catch block.
Failure describe_current_exception();

// Makes the TorchBindError (or, before setup, a plain Error with a code).
Napi::Value make_error(Napi::Env env, const Failure& failure);

[[noreturn]] void throw_to_js(Napi::Env env, const Failure& failure);

// Converts the current exception into a JavaScript error. A value that JavaScript threw is passed on
// unchanged.
void rethrow_to_js(Napi::Env env);

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return Function(info);
  } catch (const Napi::Error&) {
    throw;  // already a JavaScript error: thrown by user code that we called, or by Node-API itself
  } catch (...) {
    rethrow_to_js(info.Env());
    return Napi::Value();
  }
}

// Exports a function under `name`, inside the boundary.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
void expose(Napi::Object& exports, const char* name) {
  exports.Set(name, Napi::Function::New<guarded<Function>>(exports.Env(), name));
}

}  // namespace torchbind
