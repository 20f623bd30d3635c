// A lane: one native thread, one connection, one call in flight. libvirt crashes when a connection with two
// calls in flight dies, and a hung call on libuv's pool would hold up every file read of the process.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "connection.h"
#include "library.h"
#include "mailbox.h"

namespace foreshade {

/// Turns a result into a JavaScript value, on the JavaScript thread.
using Encode = std::function<Napi::Value(Napi::Env)>;
/// Makes a call, on the lane's thread. @throws CallError
using Work = std::function<Encode(Connection&)>;

class Lane {
 public:
  /// Start the thread. It owns the lane, and ends after `stop`, when its calls have come back.
  static std::shared_ptr<Lane> start(const Library& library, std::shared_ptr<Mailbox> mailbox);

  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  /// Queue `work`; the promise is settled on the JavaScript thread with what its encoder makes, or rejected
  /// with
  /// `{code, domain, level, message, connectionLost}`.
  void submit(Work work, Napi::Promise::Deferred promise);

  /// Take no more work; what is queued is still done, and then the connection is closed.
  void stop();

 private:
  struct Task {
    Work work;
    Napi::Promise::Deferred promise;
  };
  class Settlement;

  Lane(const Library& library, std::shared_ptr<Mailbox> mailbox);
  void run();
  void run_task(Task task);

  std::shared_ptr<Mailbox> mailbox_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  bool stopping_ = false;
  /// The thread's own.
  Connection connection_;
};

}  // namespace foreshade
