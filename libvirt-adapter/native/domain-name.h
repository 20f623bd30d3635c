// How a domain is named in answers and events.
#pragma once

#include <cstdint>
#include <string>

#include "library.h"

namespace foreshade {

struct DomainName {
  std::string uuid;
  std::string name;
  /// -1 when shut off.
  std::int32_t id = -1;
};

/// uuid, name and id as the handle holds them; asks nobody.
DomainName domain_name(const Library& library, virDomainPtr domain);

/// Append a row `uuid NUL name NUL id`, with a NUL between rows: libvirt's strings hold none.
void append_domain(std::string& rows, const DomainName& domain);

}  // namespace foreshade
