#include "streams.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <memory>
#include <string>

#include "arguments.h"
#include "device.h"
#include "errors.h"
#include "external.h"

namespace torchbind {
namespace {

constexpr napi_type_tag kStreamTag = {0x7d1f6a1be2b94c05, 0x91c0ad3f5be74a62};
constexpr napi_type_tag kEventTag = {0x3a86e4c90b5d4f17, 0xb8f2c6d0917e4ad3};

struct Event {
  Event(c10::DeviceType type, bool has_timing)
      : has_timing(has_timing),
        event(type, has_timing ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT) {}
  const bool has_timing;
  c10::Event event;
};

template <typename T>
T& unwrap(const Napi::Value& value, const napi_type_tag& tag, const char* what) {
  if (!value.IsExternal() || !value.As<Napi::External<T>>().CheckTypeTag(&tag))
    invalid(std::string("Expected ") + what + ", got " + type_of(value) + ".");
  return *value.As<Napi::External<T>>().Data();
}

c10::Stream& to_stream(const Napi::Value& value) {
  return unwrap<c10::Stream>(value, kStreamTag, "a stream");
}
Event& to_event(const Napi::Value& value) { return unwrap<Event>(value, kEventTag, "an event"); }

Napi::Value from_stream(Napi::Env env, c10::Stream stream) {
  return make_external(env, std::make_unique<c10::Stream>(stream), kStreamTag);
}

const c10::impl::VirtualGuardImpl guard_of(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type());
}

// newStream(device, priority): one of the pool's streams of this priority; a lower number comes first.
Napi::Value new_stream(const Napi::CallbackInfo& info) {
  const c10::Device device = to_accelerator(info[0]);
  const int64_t priority = to_int64(info[1], "priority");
  if (priority < -100 || priority > 100) invalid("The priority of a stream must be between -100 and 100.");
  return from_stream(info.Env(), guard_of(device).getNewStream(device, static_cast<int>(priority)));
}

Napi::Value current_stream(const Napi::CallbackInfo& info) {
  return from_stream(info.Env(), at::accelerator::getCurrentStream(to_accelerator(info[0]).index()));
}

Napi::Value default_stream(const Napi::CallbackInfo& info) {
  const c10::Device device = to_accelerator(info[0]);
  return from_stream(info.Env(), guard_of(device).getDefaultStream(device));
}

// setCurrentStream(stream): on this thread. Its device becomes the current one too, as in PyTorch.
Napi::Value set_current_stream(const Napi::CallbackInfo& info) {
  at::accelerator::setCurrentStream(to_stream(info[0]));
  return info.Env().Undefined();
}

// streamInfo(stream): [device, id]; equal for the same stream.
Napi::Value stream_info(const Napi::CallbackInfo& info) {
  const c10::Stream& stream = to_stream(info[0]);
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(uint32_t{0}, stream.device().str());
  result.Set(uint32_t{1}, Napi::BigInt::New(info.Env(), stream.id()));
  return result;
}

Napi::Value query_stream(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_stream(info[0]).query());
}

Napi::Value synchronize_stream(const Napi::CallbackInfo& info) {
  to_stream(info[0]).synchronize();
  return info.Env().Undefined();
}

// recordStream(tensor, stream): its memory is not reused before what the stream has to do now is done.
Napi::Value record_stream(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  const c10::Stream& stream = to_stream(info[1]);
  if (tensor.device() != stream.device()) {
    invalid("recordStream(): the tensor is on " + tensor.device().str() + ", and the stream on " +
            stream.device().str() + ".");
  }
  tensor.record_stream(stream);
  return info.Env().Undefined();
}

// newEvent(timing): on no device before it is recorded, so that it can be made without one.
Napi::Value new_event(const Napi::CallbackInfo& info) {
  const bool has_timing = to_bool(info[0], "timing");
  const c10::Device device = to_accelerator(Napi::String::New(info.Env(), accelerator_name()));
  return make_external(info.Env(), std::make_unique<Event>(device.type(), has_timing), kEventTag);
}

Napi::Value record_event(const Napi::CallbackInfo& info) {
  Event& event = to_event(info[0]);
  event.event.record(to_stream(info[1]));
  return info.Env().Undefined();
}

// waitEvent(event, stream): what the stream is given from now on waits for the event.
Napi::Value wait_event(const Napi::CallbackInfo& info) {
  const Event& event = to_event(info[0]);
  event.event.block(to_stream(info[1]));
  return info.Env().Undefined();
}

Napi::Value query_event(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), to_event(info[0]).event.query());
}

Napi::Value synchronize_event(const Napi::CallbackInfo& info) {
  to_event(info[0]).event.synchronize();
  return info.Env().Undefined();
}

// elapsedTime(start, end): milliseconds.
Napi::Value elapsed_time(const Napi::CallbackInfo& info) {
  const Event& start = to_event(info[0]);
  const Event& end = to_event(info[1]);
  if (!start.has_timing || !end.has_timing)
    invalid("elapsedTime(): both events must be made with { enableTiming: true }.");
  if (!start.event.was_marked_for_recording() || !end.event.was_marked_for_recording())
    invalid("elapsedTime(): both events must be recorded before.");
  return Napi::Number::New(info.Env(), start.event.elapsedTime(end.event));
}

}  // namespace

void init_streams(Napi::Env, Napi::Object& exports) {
  expose<new_stream>(exports, "newStream");
  expose<current_stream>(exports, "currentStream");
  expose<default_stream>(exports, "defaultStream");
  expose<set_current_stream>(exports, "setCurrentStream");
  expose<stream_info>(exports, "streamInfo");
  expose<query_stream>(exports, "queryStream");
  expose<synchronize_stream>(exports, "synchronizeStream");
  expose<record_stream>(exports, "recordStream");
  expose<new_event>(exports, "newEvent");
  expose<record_event>(exports, "recordEvent");
  expose<wait_event>(exports, "waitEvent");
  expose<query_event>(exports, "queryEvent");
  expose<synchronize_event>(exports, "synchronizeEvent");
  expose<elapsed_time>(exports, "elapsedTime");
}

}  // namespace torchbind
