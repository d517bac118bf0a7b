// The only place that includes napi.h, so that every file sees the same settings.
#pragma once

// Basic finalizers run inside garbage collection, so that a synchronous loop frees its tensors. Node runs
// them there only for modules of the experimental Node-API version.
#undef NAPI_VERSION
#define NAPI_VERSION 2147483647
#define NAPI_EXPERIMENTAL
#define NODE_API_EXPERIMENTAL_NO_WARNING
#define NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS

#include <napi.h>
