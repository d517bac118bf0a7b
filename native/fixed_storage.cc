#include "fixed_storage.h"

#include <c10/core/impl/COW.h>

#include <mutex>
#include <unordered_map>
#include <utility>

namespace torchbind {
namespace {

struct Entry {
  bool was_resizable;
  int holders;
};

// Never destroyed: a thread may still be writing when the process ends.
std::mutex& mutex() {
  static auto& instance = *new std::mutex;
  return instance;
}

std::unordered_map<c10::StorageImpl*, Entry>& entries() {
  static auto& instance = *new std::unordered_map<c10::StorageImpl*, Entry>;
  return instance;
}

// Memory that is copied on write moves at the first write: take the copy now.
void own_memory(c10::StorageImpl& storage) {
  if (c10::impl::cow::is_cow_data_ptr(storage._mutable_data_ptr_no_checks())) storage.mutable_data();
}

}  // namespace

FixedStorage::FixedStorage(c10::Storage storage) : storage_(std::move(storage)) {
  c10::StorageImpl* const key = storage_.unsafeGetStorageImpl();
  own_memory(*key);
  const std::lock_guard<std::mutex> lock(mutex());
  Entry& entry = entries().try_emplace(key, Entry{key->resizable(), 0}).first->second;
  if (entry.holders++ == 0) key->set_resizable(false);
}

FixedStorage::~FixedStorage() {
  c10::StorageImpl* const key = storage_.unsafeGetStorageImpl();
  const std::lock_guard<std::mutex> lock(mutex());
  const auto found = entries().find(key);
  if (--found->second.holders > 0) return;
  key->set_resizable(found->second.was_resizable);
  entries().erase(found);
}

void fix_for_good(const c10::Storage& storage) {
  c10::StorageImpl* const key = storage.unsafeGetStorageImpl();
  own_memory(*key);
  const std::lock_guard<std::mutex> lock(mutex());
  const auto found = entries().find(key);
  if (found != entries().end()) found->second.was_resizable = false;
  key->set_resizable(false);
}

bool is_fixed(const c10::Storage& storage) { return storage && !storage.unsafeGetStorageImpl()->resizable(); }

}  // namespace torchbind
