/* Stands between the addon and three functions of Node-API, which it refuses where TORCHBIND_TEST_REFUSE names them.
   The addon's own copy asks for these names instead of Node's: see refusals.test.ts. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef void (*finalizer)(void *env, void *data, void *hint);
enum { GENERIC_FAILURE = 9 };

static int refuses(const char *what) {
  const char *asked = getenv("TORCHBIND_TEST_REFUSE");
  return asked != NULL && strcmp(asked, what) == 0;
}

int nope_create_external(void *env, void *data, finalizer finalize, void *hint, void **result) {
  int (*real)(void *, void *, finalizer, void *, void **);
  if (refuses("external")) return GENERIC_FAILURE;
  *(void **)&real = dlsym(RTLD_DEFAULT, "napi_create_external");
  return real(env, data, finalize, hint, result);
}

int nope_create_external_arraybuffer(void *env, void *data, size_t size, finalizer finalize, void *hint, void **result) {
  int (*real)(void *, void *, size_t, finalizer, void *, void **);
  if (refuses("buffer")) return GENERIC_FAILURE;
  if (refuses("finalized buffer")) { /* as Node 20 does where the buffer is too large */
    finalize(env, data, hint);
    return GENERIC_FAILURE;
  }
  *(void **)&real = dlsym(RTLD_DEFAULT, "napi_create_external_arraybuffer");
  return real(env, data, size, finalize, hint, result);
}

int nope_queue_async_work(void *env, void *work) {
  int (*real)(void *, void *);
  if (refuses("work")) return GENERIC_FAILURE;
  *(void **)&real = dlsym(RTLD_DEFAULT, "napi_queue_async_work");
  return real(env, work);
}
