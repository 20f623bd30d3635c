#include "connection.h"

#include <utility>

#include "events.h"

namespace foreshade {
namespace {

/// Domain handles kept per connection; each saves a round trip per call. Past it all are dropped: a host with
/// more guests than this pays one look-up per call.
constexpr std::size_t kDomainsKeptMax = 4'096;

}  // namespace

struct Connection::CloseSink {
  std::shared_ptr<Mailbox> mailbox;
  std::uint32_t generation;
};

/// Runs on the event-loop thread; the connection must not be closed here.
void Connection::on_close(virConnectPtr, int reason, void* opaque) {
  const auto* sink = static_cast<CloseSink*>(opaque);
  const char* text = "the connection failed";
  if (reason == VIR_CONNECT_CLOSE_REASON_EOF) text = "the daemon closed the connection";
  if (reason == VIR_CONNECT_CLOSE_REASON_KEEPALIVE) text = "the daemon did not answer keepalive";
  if (reason == VIR_CONNECT_CLOSE_REASON_CLIENT) text = "closed by us";
  sink->mailbox->post_lost(sink->generation, text);
}

Connection::Connection(const Library& library, std::shared_ptr<Mailbox> mailbox)
    : library_(library), mailbox_(std::move(mailbox)) {}

Connection::~Connection() { close(); }

std::uint32_t Connection::open(const OpenOptions& options) {
  close();
  connection_ = check(library_.virConnectOpen(options.uri.c_str()));
  ++generation_;
  try {
    set_keepalive(options);
    watch_close();
    if (options.events) event_ids_ = register_events(library_, connection_, mailbox_);
  } catch (...) {
    close();
    throw;
  }
  return generation_;
}

void Connection::close() {
  if (connection_ == nullptr) return;
  // Callbacks and handles hold references: with one left, virConnectClose would not close.
  for (const auto& [uuid, domain] : domains_) library_.virDomainFree(domain);
  domains_.clear();
  deregister_events(library_, connection_, event_ids_);
  event_ids_.clear();
  // libvirt holds the callback's lock while it runs: after this it does not run any more.
  if (close_sink_ != nullptr) library_.virConnectUnregisterCloseCallback(connection_, on_close);
  close_sink_ = nullptr;
  library_.virConnectClose(connection_);
  connection_ = nullptr;
}

bool Connection::is_alive() const {
  return connection_ != nullptr && library_.virConnectIsAlive(connection_) != 0;
}

virConnectPtr Connection::get() const {
  if (connection_ == nullptr) {
    throw CallError{kErrorDisconnected, VIR_FROM_NONE, VIR_ERR_ERROR, "there is no connection"};
  }
  return connection_;
}

virDomainPtr Connection::domain(const std::string& uuid) {
  if (const auto kept = domains_.find(uuid); kept != domains_.end()) return kept->second;
  const virDomainPtr found = check(library_.virDomainLookupByUUIDString(get(), uuid.c_str()));
  if (domains_.size() >= kDomainsKeptMax) {
    for (const auto& [other, domain] : domains_) library_.virDomainFree(domain);
    domains_.clear();
  }
  domains_.emplace(uuid, found);
  return found;
}

void Connection::forget_domain(const std::string& uuid) {
  const auto kept = domains_.find(uuid);
  if (kept == domains_.end()) return;
  library_.virDomainFree(kept->second);
  domains_.erase(kept);
}

void Connection::set_keepalive(const OpenOptions& options) const {
  if (options.keepalive_interval_s == 0) return;
  if (library_.virConnectSetKeepAlive(connection_, options.keepalive_interval_s, options.keepalive_count) >=
      0)
    return;
  // A driver inside this process has no daemon to lose.
  const CallError error = library_.last_error();
  if (error.code != VIR_ERR_NO_SUPPORT) throw error;
}

void Connection::watch_close() {
  auto sink = std::make_unique<CloseSink>(CloseSink{mailbox_, generation_});
  if (library_.virConnectRegisterCloseCallback(connection_, on_close, sink.get(), nullptr) >= 0) {
    close_sink_ = std::move(sink);
    return;
  }
  const CallError error = library_.last_error();
  if (error.code != VIR_ERR_NO_SUPPORT) throw error;
}

}  // namespace foreshade
