#include "lane.h"

#include <exception>
#include <optional>
#include <thread>
#include <utility>

#include "encode.h"

namespace foreshade {

/// The end of a task, on its way to the JavaScript thread.
class Lane::Settlement final : public Message {
 public:
  explicit Settlement(Napi::Promise::Deferred promise) : promise_(promise) {}

  void resolve(Encode encode) { encode_ = std::move(encode); }
  void reject(CallError error, bool connection_lost) {
    error_ = std::move(error);
    connection_lost_ = connection_lost;
  }

  void deliver(Napi::Env env, Napi::Function) override {
    if (error_.has_value()) {
      promise_.Reject(encode_failure(env, *error_, connection_lost_));
      return;
    }
    try {
      promise_.Resolve(encode_(env));
    } catch (const Napi::Error& error) {
      promise_.Reject(error.Value());
    }
  }

 private:
  Napi::Promise::Deferred promise_;
  Encode encode_;
  std::optional<CallError> error_;
  bool connection_lost_ = false;
};

std::shared_ptr<Lane> Lane::start(const Library& library, std::shared_ptr<Mailbox> mailbox) {
  std::shared_ptr<Lane> lane(new Lane(library, std::move(mailbox)));
  // Detached: a thread inside a hung call cannot be joined, and must not hold up whoever lets go of the lane.
  std::thread([lane] { lane->run(); }).detach();
  return lane;
}

Lane::Lane(const Library& library, std::shared_ptr<Mailbox> mailbox)
    : mailbox_(mailbox), connection_(library, std::move(mailbox)) {}

void Lane::submit(Work work, Napi::Promise::Deferred promise) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back({std::move(work), promise});
  }
  wake_.notify_one();
}

void Lane::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
}

void Lane::run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) break;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    run_task(std::move(task));
    lock.lock();
  }
  lock.unlock();
  connection_.close();
}

void Lane::run_task(Task task) {
  auto settlement = std::make_unique<Settlement>(task.promise);
  try {
    settlement->resolve(task.work(connection_));
  } catch (CallError& error) {
    settlement->reject(std::move(error), !connection_.is_alive());
  } catch (const std::exception& error) {
    settlement->reject({VIR_ERR_INTERNAL_ERROR, VIR_FROM_NONE, VIR_ERR_ERROR, error.what()},
                       !connection_.is_alive());
  }
  mailbox_->post(std::move(settlement));
}

}  // namespace foreshade
