// The table of calls.
#pragma once

#include <napi.h>

#include <string>

#include "lane.h"

namespace foreshade {

/// Decode the arguments of the libvirt function `name` and give the work that calls it.
/// @throws Napi::TypeError when there is no such call or an argument breaks its rule
Work decode_call(const std::string& name, const Napi::Array& arguments);

}  // namespace foreshade
