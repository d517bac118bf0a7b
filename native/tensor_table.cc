#include "tensor_table.h"

#include <ATen/Functions.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "addon.h"
#include "arguments.h"
#include "errors.h"
#include "file_io.h"
#include "storage.h"

namespace torchbind {
namespace {

constexpr int kSlotBits = 24;
constexpr uint64_t kSlotMask = (uint64_t{1} << kSlotBits) - 1;
constexpr uint32_t kLastGeneration = (uint32_t{1} << 29) - 1;  // slot and generation fit in 53 bits

}  // namespace

Handle TensorTable::add(at::Tensor tensor) {
  uint32_t index;
  if (free_.empty()) {
    if (slots_.size() > kSlotMask) throw Error(kUnsupported, "More than 16,777,216 tensors are alive.");
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  slots_[index].tensor = std::move(tensor);
  ++live_;
  return (uint64_t{slots_[index].generation} << kSlotBits) | index;
}

const at::Tensor* TensorTable::find(Handle handle) const {
  const uint64_t index = handle & kSlotMask;
  if (index >= slots_.size()) return nullptr;
  const Slot& slot = slots_[index];
  if (slot.generation != handle >> kSlotBits || !slot.tensor.defined()) return nullptr;
  return &slot.tensor;
}

const at::Tensor& TensorTable::get(Handle handle, const char* what) const {
  const at::Tensor* tensor = find(handle);
  if (tensor == nullptr) {
    throw Error(kDisposed, std::string("The tensor given for '") + what +
                               "' was disposed. Keep it alive with keep(), or return it from tidy().");
  }
  return *tensor;
}

bool TensorTable::release(Handle handle) {
  if (find(handle) == nullptr) return false;
  const uint32_t index = static_cast<uint32_t>(handle & kSlotMask);
  // Destroying a tensor can run arbitrary code (autograd nodes), so the slot is settled first.
  at::Tensor doomed = std::move(slots_[index].tensor);
  slots_[index].tensor = at::Tensor();
  --live_;
  // A slot whose generations are used up is retired, never reused.
  if (slots_[index].generation++ < kLastGeneration) free_.push_back(index);
  return true;
}

size_t TensorTable::bytes() const {
  std::unordered_set<const void*> seen;
  size_t total = 0;
  for (const Slot& slot : slots_) {
    if (slot.tensor.defined() && seen.insert(storage_key(slot.tensor)).second)
      total += storage_bytes(slot.tensor);
  }
  return total;
}

const void* storage_key(const at::Tensor& tensor) {
  if (tensor.has_storage()) return tensor.storage().unsafeGetStorageImpl();
  return tensor.unsafeGetTensorImpl();
}

size_t storage_bytes(const at::Tensor& tensor) {
  if (tensor.has_storage()) return tensor.storage().nbytes();
  if (tensor.is_sparse() || tensor.layout() != at::kStrided) return 0;
  return tensor.nbytes();
}

// Bytes that freeing the tensor releases. Mapped files do not count: the system can drop their pages at any
// time. The device meta has no memory.
static int64_t freeable_bytes(const at::Tensor& tensor) {
  if (tensor.is_meta()) return 0;
  if (tensor.has_storage()) {
    const auto deleter = tensor.storage().data_ptr().get_deleter();
    if (deleter == unmap || deleter == release_slice) return 0;
  }
  return static_cast<int64_t>(storage_bytes(tensor));
}

void ExternalMemory::retain(Napi::BasicEnv env, const at::Tensor& tensor) {
  const int64_t bytes = is_borrowing_ ? 0 : freeable_bytes(tensor);
  Entry& entry = storages_.try_emplace(storage_key(tensor), Entry{bytes, 0}).first->second;
  if (entry.holders++ > 0) return;
  report(env, bytes);
  collect_if_due(env);
}

void ExternalMemory::release(Napi::BasicEnv env, const void* storage) {
  auto found = storages_.find(storage);
  if (found == storages_.end() || --found->second.holders > 0) return;
  const int64_t bytes = found->second.bytes;
  storages_.erase(found);
  report(env, -bytes);
}

void ExternalMemory::report(Napi::BasicEnv env, int64_t bytes) {
  total_ += bytes;
  unreported_ += bytes;
  if (deferrals_ > 0 || unreported_ == 0) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, std::exchange(unreported_, 0));
}

constexpr int64_t kMuchDeferred = int64_t{512} << 20;

// V8 starts to mark when 64 MB came in, but then takes its time, and a loop that makes tensors outruns it.
// Bytes beyond its hard limit make it collect at once, so they are reported for a moment: early where
// collecting is quick, and late where a large JavaScript heap makes it slow, so that it never takes more than
// a tenth of the time.
void ExternalMemory::collect_if_due(Napi::BasicEnv env) {
  if (deferrals_ > 0) return;
  constexpr int64_t kEarly = int64_t{16} << 20;
  constexpr int64_t kLate = int64_t{40} << 20;
  constexpr int64_t kBeyondAnyLimit = int64_t{1} << 46;
  after_last_collection_ = std::min(after_last_collection_, total_);
  deferred_ = std::clamp(deferred_, int64_t{0}, total_ - after_last_collection_);
  // Tensors made while collections were deferred are rarely garbage yet, until many exist.
  const int64_t grown = total_ - after_last_collection_ - (deferred_ < kMuchDeferred ? deferred_ : 0);
  if (grown < kEarly) return;
  const auto start = Clock::now();
  if (grown < kLate && start < next_collection_) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, kBeyondAnyLimit);
  Napi::MemoryManagement::AdjustExternalMemory(env, -kBeyondAnyLimit);
  after_last_collection_ = total_;
  deferred_ = 0;
#ifdef __GLIBC__
  // What was freed stays with malloc, in pieces that the next tensors may not fit.
  constexpr int kCollectionsPerTrim = 2;
  if (++collections_ % kCollectionsPerTrim == 0) malloc_trim(0);
#endif
  const auto end = Clock::now();
  next_collection_ = end + 10 * (end - start);
}

void ExternalMemory::defer_collections(Napi::BasicEnv env, bool on) {
  if (on) {
    if (deferrals_ == 0 && deferred_ >= kMuchDeferred) collect_if_due(env);
    ++deferrals_;
    return;
  }
  if (deferrals_ == 0 || --deferrals_ > 0) return;
  deferred_ += unreported_;
  report(env, 0);
}

void ExternalMemory::set_borrowing(bool on) { is_borrowing_ = on; }

namespace {

// What a token holds: handles, and the storage that was reported to V8 for it, if one was.
struct TokenData {
  std::shared_ptr<TensorStore> store;
  std::vector<Handle> handles;
  const void* reported = nullptr;
};

constexpr napi_type_tag kTokenTag = {0x5f3a1c70b6d94e21, 0x9c1de80f42a7b365};

// Runs inside garbage collection: no JavaScript here.
void finalize_token(Napi::BasicEnv env, TokenData* token) {
  if (token->reported != nullptr) token->store->external.release(env, token->reported);
  for (Handle handle : token->handles) token->store->table.release(handle);
  delete token;
}

// Where Node-API refuses, `data` is freed and the tensors stay as they were.
Napi::External<TokenData> make_token(Napi::Env env, std::unique_ptr<TokenData> data) {
  Napi::External<TokenData> token = Napi::External<TokenData>::New(env, data.get(), finalize_token);
  data.release();
  token.TypeTag(&kTokenTag);
  return token;
}

Napi::Value own_token(const Napi::CallbackInfo& info) {
  Addon& addon = Addon::of(info.Env());
  const Handle handle = to_handle(info[0], "tensor");
  const at::Tensor& tensor = addon.store->table.get(handle, "tensor");
  // Reporting may collect garbage, so the storage is held for the while.
  const at::Tensor held = tensor;
  const Napi::External<TokenData> token =
      make_token(info.Env(), std::make_unique<TokenData>(TokenData{addon.store, {handle}, nullptr}));
  addon.store->external.retain(info.Env(), held);
  token.Data()->reported = storage_key(held);
  return token;
}

Napi::Value new_token(const Napi::CallbackInfo& info) {
  return make_token(info.Env(),
                    std::make_unique<TokenData>(TokenData{Addon::of(info.Env()).store, {}, nullptr}));
}

const double* to_handles(const Napi::Value& array, const Napi::Value& count, size_t* n) {
  if (!array.IsTypedArray() || array.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    invalid("Expected a Float64Array of tensor handles.");
  }
  auto handles = array.As<Napi::Float64Array>();
  const int64_t wanted = to_int64(count, "count");
  if (wanted < 0 || static_cast<size_t>(wanted) > handles.ElementLength())
    invalid("'count' is outside the array.");
  *n = static_cast<size_t>(wanted);
  return handles.Data();
}

TokenData* to_token(const Napi::Value& value) {
  if (!value.IsExternal() || !value.As<Napi::External<TokenData>>().CheckTypeTag(&kTokenTag)) {
    invalid("Expected a token made by newToken() or ownToken().");
  }
  return value.As<Napi::External<TokenData>>().Data();
}

Napi::Value fill_token(const Napi::CallbackInfo& info) {
  TokenData* token = to_token(info[0]);
  size_t count = 0;
  const double* handles = to_handles(info[1], info[2], &count);
  for (size_t i = 0; i < count; ++i) token->handles.push_back(handle_from_double(handles[i]));
  return info.Env().Undefined();
}

// dispose(handle, token?): with its token, so that the bytes reported for it are taken back now.
Napi::Value dispose(const Napi::CallbackInfo& info) {
  const Handle handle = to_handle(info[0], "tensor");
  if (info.Length() > 1 && !info[1].IsUndefined()) {
    TokenData* token = to_token(info[1]);
    if (token->handles.size() == 1 && token->handles[0] == handle && token->reported != nullptr) {
      token->store->external.release(info.Env(), token->reported);
      token->reported = nullptr;
    }
  }
  return Napi::Boolean::New(info.Env(), Addon::of(info.Env()).store->table.release(handle));
}

Napi::Value dispose_many(const Napi::CallbackInfo& info) {
  size_t count = 0;
  const double* handles = to_handles(info[0], info[1], &count);
  TensorTable& table = Addon::of(info.Env()).store->table;
  size_t released = 0;
  for (size_t i = 0; i < count; ++i) released += table.release(handle_from_double(handles[i])) ? 1 : 0;
  return Napi::Number::New(info.Env(), static_cast<double>(released));
}

// Another handle of the same tensor.
Napi::Value alias(const Napi::CallbackInfo& info) {
  return from_tensor(info.Env(), to_tensor(info[0], "tensor"));
}

Napi::Value is_alive(const Napi::CallbackInfo& info) {
  const Handle handle = to_handle(info[0], "tensor");
  return Napi::Boolean::New(info.Env(), Addon::of(info.Env()).store->table.find(handle) != nullptr);
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  const TensorStore& store = *Addon::of(info.Env()).store;
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("tensors", static_cast<double>(store.table.live()));
  result.Set("bytes", static_cast<double>(store.table.bytes()));
  result.Set("reported", static_cast<double>(store.external.reported()));
  return result;
}

Napi::Value defer_collections(const Napi::CallbackInfo& info) {
  Addon::of(info.Env()).store->external.defer_collections(info.Env(), to_bool(info[0], "on"));
  return info.Env().Undefined();
}

Napi::Value set_borrowing(const Napi::CallbackInfo& info) {
  Addon::of(info.Env()).store->external.set_borrowing(to_bool(info[0], "on"));
  return info.Env().Undefined();
}

}  // namespace

void init_tensor_table(Napi::Env, Napi::Object& exports) {
  expose<own_token>(exports, "ownToken");
  expose<new_token>(exports, "newToken");
  expose<fill_token>(exports, "fillToken");
  expose<dispose>(exports, "dispose");
  expose<dispose_many>(exports, "disposeMany");
  expose<alias>(exports, "alias");
  expose<is_alive>(exports, "isAlive");
  expose<memory>(exports, "memory");
  expose<defer_collections>(exports, "deferCollections");
  expose<set_borrowing>(exports, "setBorrowing");
}

}  // namespace torchbind
