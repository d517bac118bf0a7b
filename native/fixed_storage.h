// Storages whose memory cannot move: a thread, a JavaScript array or another storage uses it by address.
#pragma once

#include <c10/core/Storage.h>

namespace torchbind {

// While it lives, neither `resize_` nor copy-on-write can take the storage's memory away.
class FixedStorage {
 public:
  explicit FixedStorage(c10::Storage storage);
  ~FixedStorage();
  FixedStorage(const FixedStorage&) = delete;
  FixedStorage& operator=(const FixedStorage&) = delete;

 private:
  c10::Storage storage_;
};

// The same until the storage is freed.
void fix_for_good(const c10::Storage& storage);

// Whether someone uses the storage's memory by its address.
bool is_fixed(const c10::Storage& storage);

}  // namespace torchbind
