// PyTorch's names of dtypes, layouts and memory formats.
#pragma once

#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>

#include <optional>
#include <string>

namespace torchbind {

std::optional<c10::ScalarType> dtype_from_name(const std::string& name);
std::optional<c10::Layout> layout_from_name(const std::string& name);
const char* layout_name(c10::Layout layout);
std::optional<c10::MemoryFormat> memory_format_from_name(const std::string& name);

}  // namespace torchbind
