// Native values as JavaScript ones. On the JavaScript thread only.
#pragma once

#include <napi.h>

#include <vector>

#include "mailbox.h"
#include "parameters.h"

namespace foreshade {

/// Domains as one string, `uuid NUL name NUL id` NUL between rows: one JavaScript string instead of
/// thousands.
Napi::Value encode_domains(Napi::Env env, const std::vector<DomainName>& domains);

/// Parameters as an object: 64-bit integers are bigint, the rest number, boolean or string.
Napi::Value encode_parameters(Napi::Env env, const Parameters& parameters);

/// A failed call as `{code, domain, level, message, connectionLost}`.
Napi::Value encode_failure(Napi::Env env, const CallError& error, bool connection_lost);

}  // namespace foreshade
