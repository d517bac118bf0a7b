#include "dtype.h"

#include <array>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace torchbind {
namespace {

using c10::Layout;
using c10::ScalarType;

const std::unordered_map<std::string, ScalarType>& dtypes() {
  static const std::unordered_map<std::string, ScalarType> table = {
      {"uint8", ScalarType::Byte},
      {"int8", ScalarType::Char},
      {"int16", ScalarType::Short},
      {"int32", ScalarType::Int},
      {"int64", ScalarType::Long},
      {"float16", ScalarType::Half},
      {"float32", ScalarType::Float},
      {"float64", ScalarType::Double},
      {"complex32", ScalarType::ComplexHalf},
      {"complex64", ScalarType::ComplexFloat},
      {"complex128", ScalarType::ComplexDouble},
      {"bool", ScalarType::Bool},
      {"qint8", ScalarType::QInt8},
      {"quint8", ScalarType::QUInt8},
      {"qint32", ScalarType::QInt32},
      {"bfloat16", ScalarType::BFloat16},
      {"quint4x2", ScalarType::QUInt4x2},
      {"quint2x4", ScalarType::QUInt2x4},
      {"float8_e5m2", ScalarType::Float8_e5m2},
      {"float8_e4m3fn", ScalarType::Float8_e4m3fn},
      {"float8_e5m2fnuz", ScalarType::Float8_e5m2fnuz},
      {"float8_e4m3fnuz", ScalarType::Float8_e4m3fnuz},
      {"uint16", ScalarType::UInt16},
      {"uint32", ScalarType::UInt32},
      {"uint64", ScalarType::UInt64},
      {"bits1x8", ScalarType::Bits1x8},
      {"bits2x4", ScalarType::Bits2x4},
      {"bits4x2", ScalarType::Bits4x2},
      {"bits8", ScalarType::Bits8},
      {"bits16", ScalarType::Bits16},
      {"uint1", ScalarType::UInt1},
      {"uint2", ScalarType::UInt2},
      {"uint3", ScalarType::UInt3},
      {"uint4", ScalarType::UInt4},
      {"uint5", ScalarType::UInt5},
      {"uint6", ScalarType::UInt6},
      {"uint7", ScalarType::UInt7},
      {"int1", ScalarType::Int1},
      {"int2", ScalarType::Int2},
      {"int3", ScalarType::Int3},
      {"int4", ScalarType::Int4},
      {"int5", ScalarType::Int5},
      {"int6", ScalarType::Int6},
      {"int7", ScalarType::Int7},
      {"float8_e8m0fnu", ScalarType::Float8_e8m0fnu},
      {"float4_e2m1fn_x2", ScalarType::Float4_e2m1fn_x2},
  };
  return table;
}

constexpr std::array<std::pair<std::string_view, Layout>, 7> kLayouts = {{
    {"strided", Layout::Strided},
    {"sparse_coo", Layout::Sparse},
    {"sparse_csr", Layout::SparseCsr},
    {"sparse_csc", Layout::SparseCsc},
    {"sparse_bsr", Layout::SparseBsr},
    {"sparse_bsc", Layout::SparseBsc},
    {"mkldnn", Layout::Mkldnn},
}};

}  // namespace

std::optional<ScalarType> dtype_from_name(const std::string& name) {
  const auto found = dtypes().find(name);
  if (found == dtypes().end()) return std::nullopt;
  return found->second;
}

std::optional<Layout> layout_from_name(const std::string& name) {
  for (const auto& [text, layout] : kLayouts) {
    if (text == name) return layout;
  }
  return std::nullopt;
}

const char* layout_name(Layout layout) {
  for (const auto& [text, candidate] : kLayouts) {
    if (candidate == layout) return text.data();
  }
  return "jagged";
}

std::optional<c10::MemoryFormat> memory_format_from_name(const std::string& name) {
  if (name == "contiguous_format") return c10::MemoryFormat::Contiguous;
  if (name == "preserve_format") return c10::MemoryFormat::Preserve;
  if (name == "channels_last") return c10::MemoryFormat::ChannelsLast;
  if (name == "channels_last_3d") return c10::MemoryFormat::ChannelsLast3d;
  return std::nullopt;
}

}  // namespace torchbind
