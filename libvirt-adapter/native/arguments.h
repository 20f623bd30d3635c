// A call's arguments, read in order and checked. On the JavaScript thread only.
#pragma once

#include <napi.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parameters.h"

namespace foreshade {

/// Every reader takes the next argument, and throws Napi::TypeError, which names the call and the position,
/// when it breaks the rule.
class Arguments {
 public:
  Arguments(std::string call, Napi::Array values) : call_(std::move(call)), values_(values) {}

  /// A string without NUL.
  std::string text();
  /// The same, or undefined.
  std::optional<std::string> optional_text();
  std::vector<std::string> texts();
  /// An integer of 32 bits, signed.
  std::int32_t integer();
  /// An integer of 32 bits, unsigned: counts and flags.
  std::uint32_t count();
  /// A bigint of 64 bits, unsigned.
  std::uint64_t size();
  bool truth();
  std::vector<unsigned char> bytes();
  /// An array of [name, libvirt type, value].
  Parameters parameters();

 private:
  Napi::Value next();
  [[noreturn]] void refuse(const char* rule) const;
  std::string checked_text(const Napi::Value& value) const;
  TypedValue typed_value(std::int32_t type, const Napi::Value& value) const;

  std::string call_;
  Napi::Array values_;
  std::uint32_t position_ = 0;
};

}  // namespace foreshade
