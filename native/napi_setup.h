// The only place that includes napi.h, so that every file sees the same settings.
#pragma once

// Basic finalizers run inside garbage collection, so a synchronous loop frees its tensors. They need the
// experimental Node-API version.
#ifndef NAPI_EXPERIMENTAL
#define NAPI_EXPERIMENTAL
#endif
#define NODE_API_EXPERIMENTAL_NO_WARNING
#ifndef NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS
#define NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS
#endif

#include <napi.h>
