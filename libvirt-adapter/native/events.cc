#include "events.h"

#include <utility>

namespace foreshade {
namespace {

/// What a callback needs; one per registration, freed by libvirt through free_sink.
struct Sink {
  const Library& library;
  std::shared_ptr<Mailbox> mailbox;
};

void free_sink(void* opaque) { delete static_cast<Sink*>(opaque); }

void post(void* opaque, const char* kind, virDomainPtr domain, Parameters fields) {
  const auto* sink = static_cast<Sink*>(opaque);
  sink->mailbox->post_event(kind, domain_name(sink->library, domain), std::move(fields));
}

std::string text(const char* value) { return value == nullptr ? "" : value; }

int on_lifecycle(virConnectPtr, virDomainPtr domain, int event, int detail, void* opaque) {
  post(opaque, "lifecycle", domain, {{"event", event}, {"detail", detail}});
  return 0;
}

void on_balloon_change(virConnectPtr, virDomainPtr domain, unsigned long long actual_kib, void* opaque) {
  post(opaque, "balloon-change", domain, {{"actualKib", std::uint64_t{actual_kib}}});
}

void on_device_added(virConnectPtr, virDomainPtr domain, const char* alias, void* opaque) {
  post(opaque, "device-added", domain, {{"device", text(alias)}});
}

void on_device_removed(virConnectPtr, virDomainPtr domain, const char* alias, void* opaque) {
  post(opaque, "device-removed", domain, {{"device", text(alias)}});
}

void on_tunable(virConnectPtr, virDomainPtr domain, virTypedParameterPtr parameters, int count,
                void* opaque) {
  post(opaque, "tunable", domain, copy_parameters(parameters, count));
}

void on_agent_lifecycle(virConnectPtr, virDomainPtr domain, int state, int reason, void* opaque) {
  const bool connected = state == VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;
  post(opaque, "agent-lifecycle", domain, {{"connected", connected}, {"reason", reason}});
}

void on_memory_device_size_change(virConnectPtr, virDomainPtr domain, const char* alias,
                                  unsigned long long size_kib, void* opaque) {
  post(opaque, "memory-device-size-change", domain,
       {{"alias", text(alias)}, {"sizeKib", std::uint64_t{size_kib}}});
}

void on_job_completed(virConnectPtr, virDomainPtr domain, virTypedParameterPtr parameters, int count,
                      void* opaque) {
  post(opaque, "job-completed", domain, copy_parameters(parameters, count));
}

struct Kind {
  int id;
  virConnectDomainEventGenericCallback callback;
};

const Kind kKinds[] = {
    {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
    {VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_balloon_change)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device_added)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device_removed)},
    {VIR_DOMAIN_EVENT_ID_TUNABLE, VIR_DOMAIN_EVENT_CALLBACK(on_tunable)},
    {VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_agent_lifecycle)},
    {VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_memory_device_size_change)},
    {VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed)},
};

/// An older library refuses an id it does not know as an invalid argument, a driver without events as
/// unsupported.
bool is_unknown_kind(int code) { return code == VIR_ERR_INVALID_ARG || code == VIR_ERR_NO_SUPPORT; }

}  // namespace

std::vector<int> register_events(const Library& library, virConnectPtr connection,
                                 const std::shared_ptr<Mailbox>& mailbox) {
  std::vector<int> ids;
  for (const Kind& kind : kKinds) {
    auto sink = std::make_unique<Sink>(Sink{library, mailbox});
    const int id = library.virConnectDomainEventRegisterAny(connection, nullptr, kind.id, kind.callback,
                                                            sink.get(), free_sink);
    if (id >= 0) {
      sink.release();
      ids.push_back(id);
      continue;
    }
    const CallError error = library.last_error();
    if (!is_unknown_kind(error.code)) {
      deregister_events(library, connection, ids);
      throw error;
    }
  }
  return ids;
}

void deregister_events(const Library& library, virConnectPtr connection, const std::vector<int>& ids) {
  // On a dead connection the daemon cannot be told; libvirt still drops its own part and frees the sink.
  for (const int id : ids) library.virConnectDomainEventDeregisterAny(connection, id);
}

}  // namespace foreshade
