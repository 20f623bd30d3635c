// Domain events: libvirt's callbacks, which run on the event-loop thread, turned into messages.
#pragma once

#include <memory>
#include <vector>

#include "library.h"
#include "mailbox.h"

namespace foreshade {

/// Register every event kind of libvirt.ts for all domains. A kind that this libvirt or driver does not know
/// is left out. @returns the callback ids, to be deregistered before the connection is closed
/// @throws CallError, with nothing left registered
std::vector<int> register_events(const Library& library, virConnectPtr connection,
                                 const std::shared_ptr<Mailbox>& mailbox);

void deregister_events(const Library& library, virConnectPtr connection, const std::vector<int>& ids);

}  // namespace foreshade
