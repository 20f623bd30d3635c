// The addon's door: one class, Lane. native.ts is its typed face.
#include <napi.h>

#include <memory>
#include <string>
#include <utility>

#include "arguments.h"
#include "calls.h"
#include "encode.h"
#include "lane.h"
#include "library.h"
#include "mailbox.h"

namespace foreshade {
namespace {

/// new Lane(libraryPath, qemuLibraryPath, listener); empty paths mean the system's libraries.
/// listener('lost', generation, reason) or listener('event', kind, domain, fields).
class LaneObject final : public Napi::ObjectWrap<LaneObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Lane",
                       {
                           InstanceMethod<&LaneObject::open>("open"),
                           InstanceMethod<&LaneObject::call>("call"),
                           InstanceMethod<&LaneObject::close>("close"),
                           InstanceMethod<&LaneObject::let_go>("letGo"),
                       });
  }

  explicit LaneObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LaneObject>(info) {
    const std::string libvirt = info[0].As<Napi::String>();
    const std::string qemu = info[1].As<Napi::String>();
    try {
      const Library& library = Library::load(libvirt, qemu);
      mailbox_ = std::make_shared<Mailbox>(info.Env(), info[2].As<Napi::Function>());
      lane_ = Lane::start(library, mailbox_);
    } catch (const CallError& error) {
      throw Napi::Error(info.Env(), encode_failure(info.Env(), error, false));
    }
  }

  /// A lane that is collected without close() ends by itself.
  ~LaneObject() override {
    if (lane_ != nullptr) lane_->stop();
  }

 private:
  /// open(uri, keepaliveIntervalS, keepaliveCount, events): Promise<generation>; closes what was open before.
  Napi::Value open(const Napi::CallbackInfo& info) {
    Arguments in("virConnectOpen", info[0].As<Napi::Array>());
    OpenOptions options;
    options.uri = in.text();
    options.keepalive_interval_s = in.integer();
    options.keepalive_count = in.count();
    options.events = in.truth();
    return submit(info.Env(), [options](Connection& connection) -> Encode {
      const std::uint32_t generation = connection.open(options);
      return [generation](Napi::Env env) { return Napi::Number::New(env, generation); };
    });
  }

  /// call(name, arguments): Promise<unknown>
  Napi::Value call(const Napi::CallbackInfo& info) {
    return submit(info.Env(), decode_call(info[0].As<Napi::String>(), info[1].As<Napi::Array>()));
  }

  /// close(): Promise<void>, when the calls before it have come back; the thread ends.
  Napi::Value close(const Napi::CallbackInfo& info) {
    const Napi::Value closed = submit(info.Env(), [](Connection& connection) -> Encode {
      connection.close();
      return [](Napi::Env env) { return env.Undefined(); };
    });
    if (lane_ != nullptr) lane_->stop();
    lane_ = nullptr;
    return closed;
  }

  /// letGo(): a lane that does not come back no longer keeps the process alive.
  void let_go(const Napi::CallbackInfo& info) {
    if (mailbox_ != nullptr) mailbox_->let_go(info.Env());
    mailbox_ = nullptr;
  }

  Napi::Value submit(Napi::Env env, Work work) {
    const auto promise = Napi::Promise::Deferred::New(env);
    if (lane_ == nullptr) {
      promise.Reject(encode_failure(
          env, {kErrorDisconnected, VIR_FROM_NONE, VIR_ERR_ERROR, "the lane is closed"}, false));
    } else {
      lane_->submit(std::move(work), promise);
    }
    return promise.Promise();
  }

  std::shared_ptr<Mailbox> mailbox_;
  std::shared_ptr<Lane> lane_;
};

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports["Lane"] = LaneObject::define(env);
  return exports;
}

}  // namespace
}  // namespace foreshade

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) { return foreshade::init(env, exports); }
NODE_API_MODULE(foreshade_libvirt, init_addon)
