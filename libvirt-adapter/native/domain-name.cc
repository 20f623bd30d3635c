#include "domain-name.h"

namespace foreshade {

DomainName domain_name(const Library& library, virDomainPtr domain) {
  char uuid[VIR_UUID_STRING_BUFLEN] = "";
  library.virDomainGetUUIDString(domain, uuid);
  const char* name = library.virDomainGetName(domain);
  return {uuid, name == nullptr ? "" : name, static_cast<std::int32_t>(library.virDomainGetID(domain))};
}

void append_domain(std::string& rows, const DomainName& domain) {
  if (!rows.empty()) rows += '\0';
  rows.append(domain.uuid).append(1, '\0').append(domain.name).append(1, '\0');
  rows.append(std::to_string(domain.id));
}

}  // namespace foreshade
