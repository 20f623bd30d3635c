// One virConnectPtr and what hangs on it. Used by one thread: its lane's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "domain-name.h"
#include "library.h"
#include "mailbox.h"
#include "stats.h"

namespace foreshade {

struct OpenOptions {
  std::string uri;
  /// Seconds between keepalive probes; 0 sends none.
  std::int32_t keepalive_interval_s = 0;
  /// Unanswered probes after which the connection is dead.
  std::uint32_t keepalive_count = 0;
  /// Whether this connection delivers domain events.
  bool events = false;
};

class Connection {
 public:
  Connection(const Library& library, std::shared_ptr<Mailbox> mailbox);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Close what is open and connect anew, with keepalive, close callback and events.
  /// @returns the generation, which names this connection in `lost` messages
  /// @throws CallError
  std::uint32_t open(const OpenOptions& options);
  void close();

  /// False when there is no connection, or libvirt knows that it is dead. Asks nobody.
  bool is_alive() const;

  const Library& library() const { return library_; }
  KeyTable& keys() { return keys_; }
  /// @throws CallError kErrorDisconnected
  virConnectPtr get() const;

  /// The handle of a domain, looked up once per connection. @throws CallError
  virDomainPtr domain(const std::string& uuid);
  /// Forget a handle: the domain is gone.
  void forget_domain(const std::string& uuid);

  /// `result` when it is a success. @throws CallError, copied before anything is freed
  int check(int result) const {
    if (result < 0) throw library_.last_error();
    return result;
  }
  template <typename T>
  T* check(T* result) const {
    if (result == nullptr) throw library_.last_error();
    return result;
  }

  DomainName name(virDomainPtr domain) const { return domain_name(library_, domain); }

 private:
  static void on_close(virConnectPtr connection, int reason, void* opaque);
  void set_keepalive(const OpenOptions& options) const;
  void watch_close();

  const Library& library_;
  std::shared_ptr<Mailbox> mailbox_;
  virConnectPtr connection_ = nullptr;
  std::uint32_t generation_ = 0;
  struct CloseSink;
  /// Ours, and no free callback: a driver that has no close callback accepts one, and forgets it.
  std::unique_ptr<CloseSink> close_sink_;
  std::vector<int> event_ids_;
  std::unordered_map<std::string, virDomainPtr> domains_;
  KeyTable keys_;
};

}  // namespace foreshade
