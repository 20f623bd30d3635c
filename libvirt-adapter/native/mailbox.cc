#include "mailbox.h"

#include <utility>

#include "encode.h"

namespace foreshade {
namespace {

/// Events that may wait for the JavaScript thread: a minute of a storm of 1,000 a second. Beyond it the
/// connection counts as lost, so that whoever follows the events looks at everything afresh.
constexpr std::uint32_t kEventsPendingMax = 65'536;

/// No generation: the event connection of any generation has lost events.
constexpr std::uint32_t kAnyGeneration = 0;

class LostMessage final : public Message {
 public:
  LostMessage(std::uint32_t generation, std::string reason)
      : generation_(generation), reason_(std::move(reason)) {}
  void deliver(Napi::Env env, Napi::Function listener) override {
    listener.Call({Napi::String::New(env, "lost"), Napi::Number::New(env, generation_),
                   Napi::String::New(env, reason_)});
  }

 private:
  std::uint32_t generation_;
  std::string reason_;
};

class EventMessage final : public Message {
 public:
  EventMessage(std::shared_ptr<std::atomic<std::uint32_t>> pending, std::string kind, DomainName domain,
               Parameters fields)
      : pending_(std::move(pending)),
        kind_(std::move(kind)),
        domain_(std::move(domain)),
        fields_(std::move(fields)) {}
  void deliver(Napi::Env env, Napi::Function listener) override {
    pending_->fetch_sub(1);
    listener.Call({Napi::String::New(env, "event"), Napi::String::New(env, kind_),
                   encode_domains(env, {domain_}), encode_parameters(env, fields_)});
  }

 private:
  std::shared_ptr<std::atomic<std::uint32_t>> pending_;
  std::string kind_;
  DomainName domain_;
  Parameters fields_;
};

}  // namespace

Mailbox::Mailbox(Napi::Env env, Napi::Function listener) {
  const auto shut = [](Napi::Env, std::shared_ptr<Gate>* gate, Mailbox*) {
    {
      const std::lock_guard<std::mutex> lock((*gate)->mutex);
      (*gate)->is_open = false;
    }
    delete gate;
  };
  function_ = Function::New(env, listener, Napi::Object::New(env), "foreshade_libvirt", 0, 1, this, shut,
                            new std::shared_ptr<Gate>(gate_));
}

Mailbox::~Mailbox() {
  const std::lock_guard<std::mutex> lock(gate_->mutex);
  if (gate_->is_open) function_.Release();
}

void Mailbox::post(std::unique_ptr<Message> message) {
  const std::lock_guard<std::mutex> lock(gate_->mutex);
  if (!gate_->is_open) return;
  const napi_status status = function_.NonBlockingCall(message.get());
  if (status == napi_ok) {
    message.release();
  } else if (status == napi_closing) {
    gate_->is_open = false;  // this answer has taken our claim away: to release it again is an error
  }
}

void Mailbox::post_event(std::string kind, DomainName domain, Parameters fields) {
  if (events_pending_->load() >= kEventsPendingMax) {
    if (!events_lost_.exchange(true)) post_lost(kAnyGeneration, "events came faster than they were taken");
    return;
  }
  events_lost_ = false;
  events_pending_->fetch_add(1);
  post(
      std::make_unique<EventMessage>(events_pending_, std::move(kind), std::move(domain), std::move(fields)));
}

void Mailbox::post_lost(std::uint32_t generation, std::string reason) {
  post(std::make_unique<LostMessage>(generation, std::move(reason)));
}

void Mailbox::let_go(Napi::Env env) {
  const std::lock_guard<std::mutex> lock(gate_->mutex);
  if (gate_->is_open) function_.Unref(env);
}

void Mailbox::call_js(Napi::Env env, Napi::Function listener, Mailbox*, Message* message) {
  const std::unique_ptr<Message> owned(message);
  if (env == nullptr || listener == nullptr) return;
  try {
    owned->deliver(env, listener);
  } catch (const Napi::Error& error) {
    // A listener has thrown, which Node reports as an uncaught exception; or the environment is ending and
    // runs no JavaScript any more, and then this does nothing.
    napi_fatal_exception(env, error.IsEmpty() ? static_cast<napi_value>(env.Undefined()) : error.Value());
  }
}

}  // namespace foreshade
