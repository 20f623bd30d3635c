// The way from native threads to the JavaScript thread.
#pragma once

#include <napi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "domain-name.h"
#include "parameters.h"

namespace foreshade {

/// Something for the JavaScript thread to do. Deleted undelivered when the environment is going away.
class Message {
 public:
  virtual ~Message() = default;
  /// On the JavaScript thread. `listener` is the lane's event function.
  virtual void deliver(Napi::Env env, Napi::Function listener) = 0;
};

/// A lane's mailbox: any thread posts, the JavaScript thread takes out in order. It keeps the process alive
/// until it is destroyed or let go.
class Mailbox {
 public:
  Mailbox(Napi::Env env, Napi::Function listener);
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  /// Never blocks; drops the message once the environment is going away.
  void post(std::unique_ptr<Message> message);

  /// Post an event, or, with kEventsPendingMax of them waiting, drop it and post one `lost` in its stead.
  void post_event(std::string kind, DomainName domain, Parameters fields);
  /// Post that the connection of this generation is gone.
  void post_lost(std::uint32_t generation, std::string reason);

  /// On the JavaScript thread: stop keeping the process alive.
  void let_go(Napi::Env env);

 private:
  static void call_js(Napi::Env env, Napi::Function listener, Mailbox* mailbox, Message* message);
  using Function = Napi::TypedThreadSafeFunction<Mailbox, Message, &Mailbox::call_js>;

  /// Whether the function may still be used. Shared with its finalizer: an environment that ends takes its
  /// functions along, whoever holds them.
  struct Gate {
    std::mutex mutex;
    bool is_open = true;
  };

  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  Function function_;
  /// Shared with the events in flight, which may outlive the mailbox.
  std::shared_ptr<std::atomic<std::uint32_t>> events_pending_ =
      std::make_shared<std::atomic<std::uint32_t>>(0);
  std::atomic<bool> events_lost_{false};
};

}  // namespace foreshade
