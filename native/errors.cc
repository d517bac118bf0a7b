#include "errors.h"

#include <c10/util/Exception.h>

#include <new>

#include "addon.h"
#include "js_thread.h"

namespace torchbind {
namespace {

constexpr const char* kDistributed = "ERR_TORCHBIND_DISTRIBUTED";

// Gloo's errors are known by the source file that they begin with.
bool is_of_gloo(const std::string& text) { return text.find("gloo/") != std::string::npos; }

const char* code_of(const c10::Error& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return "ERR_TORCHBIND_OUT_OF_MEMORY";
  if (dynamic_cast<const c10::IndexError*>(&error) != nullptr) return "ERR_TORCHBIND_INDEX";
  if (dynamic_cast<const c10::ValueError*>(&error) != nullptr) return "ERR_TORCHBIND_VALUE";
  if (dynamic_cast<const c10::TypeError*>(&error) != nullptr) return "ERR_TORCHBIND_TYPE";
  if (dynamic_cast<const c10::NotImplementedError*>(&error) != nullptr)
    return "ERR_TORCHBIND_NOT_IMPLEMENTED";
  if (dynamic_cast<const c10::DistError*>(&error) != nullptr) return kDistributed;
  if (dynamic_cast<const c10::LinAlgError*>(&error) != nullptr) return "ERR_TORCHBIND_LINALG";
  // A failed CPU allocation is a plain c10::Error; only its text tells.
  const std::string text = error.what_without_backtrace();
  if (text.find("can't allocate memory") != std::string::npos) return "ERR_TORCHBIND_OUT_OF_MEMORY";
  if (is_of_gloo(text)) return kDistributed;
  return "ERR_TORCHBIND_TORCH";
}

}  // namespace

Failure describe_current_exception() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const c10::Error& error) {
    // what() would symbolise the backtrace, which takes milliseconds.
    return {code_of(error), error.what_without_backtrace()};
  } catch (const std::bad_alloc&) {
    return {"ERR_TORCHBIND_OUT_OF_MEMORY", "Out of memory."};
  } catch (const std::exception& error) {
    return {is_of_gloo(error.what()) ? kDistributed : "ERR_TORCHBIND_NATIVE", error.what()};
  } catch (...) {
    return {"ERR_TORCHBIND_NATIVE", "Unknown native error."};
  }
}

Napi::Value make_error(Napi::Env env, const Failure& failure) {
  Addon* addon = env.GetInstanceData<Addon>();
  if (addon != nullptr && !addon->error_class.IsEmpty()) {
    return addon->error_class.New(
        {Napi::String::New(env, failure.message), Napi::String::New(env, failure.code)});
  }
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", Napi::String::New(env, failure.code));
  return error.Value();
}

void throw_to_js(Napi::Env env, const Failure& failure) { throw Napi::Error(env, make_error(env, failure)); }

void rethrow_to_js(Napi::Env env) {
  try {
    throw;
  } catch (const JavaScriptError& error) {
    error.rethrow(env);
  } catch (...) {
    throw_to_js(env, describe_current_exception());
  }
}

}  // namespace torchbind
