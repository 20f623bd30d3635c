#include "stats.h"

#include <bit>

#include "domain-name.h"
namespace foreshade {
namespace {

/// Distinct keys of one lane: 88 of a common guest, about 20 more per further vCPU, disk or NIC. The bound
/// stands for a hypervisor that invents keys without end.
constexpr std::size_t kKeysMax = 1'048'576;

/// The value's 64 bits. Strings are numbered in `strings`.
std::int64_t packed_value(const virTypedParameter& parameter, KeyTable& strings) {
  switch (parameter.type) {
    case VIR_TYPED_PARAM_INT:
      return parameter.value.i;
    case VIR_TYPED_PARAM_UINT:
      return parameter.value.ui;
    case VIR_TYPED_PARAM_LLONG:
      return parameter.value.l;
    case VIR_TYPED_PARAM_ULLONG:
      return std::bit_cast<std::int64_t>(parameter.value.ul);
    case VIR_TYPED_PARAM_DOUBLE:
      return std::bit_cast<std::int64_t>(parameter.value.d);
    case VIR_TYPED_PARAM_BOOLEAN:
      return parameter.value.b != 0 ? 1 : 0;
    case VIR_TYPED_PARAM_STRING:
      return strings.intern(parameter.value.s == nullptr ? std::string_view() : parameter.value.s);
    default:
      return 0;
  }
}

}  // namespace

std::uint32_t KeyTable::intern(std::string_view text) {
  if (const auto known = ids_.find(text); known != ids_.end()) return known->second;
  const auto id = static_cast<std::uint32_t>(texts_.size());
  texts_.emplace_back(text);
  ids_.emplace(texts_.back(), id);
  return id;
}

std::string KeyTable::joined_from(std::size_t first) const {
  std::string joined;
  for (std::size_t i = first; i < texts_.size(); ++i) {
    if (i > first) joined += '\0';
    joined += texts_[i];
  }
  return joined;
}

PackedStats::PackedStats(const Library& library, const virDomainStatsRecordPtr* records, int count,
                         KeyTable& keys)
    : domain_count_(static_cast<std::uint32_t>(count)) {
  for (int d = 0; d < count; ++d) record_count_ += static_cast<std::uint32_t>(records[d]->nparams);

  // values | keyIds | offsets | types: each starts at a multiple of its element.
  const std::size_t offset_count = std::size_t{domain_count_} + 1;
  buffer_ = std::make_unique_for_overwrite<std::byte[]>(record_count_ * 13 + offset_count * 4);
  auto* const values = reinterpret_cast<std::int64_t*>(buffer_.get());
  auto* const key_ids = reinterpret_cast<std::uint32_t*>(values + record_count_);
  std::uint32_t* const offsets = key_ids + record_count_;
  auto* const types = reinterpret_cast<std::uint8_t*>(offsets + offset_count);

  const std::size_t known_keys = keys.size();
  KeyTable strings;
  std::uint32_t record = 0;
  for (int d = 0; d < count; ++d) {
    append_domain(domains_, domain_name(library, records[d]->dom));
    offsets[d] = record;
    for (int p = 0; p < records[d]->nparams; ++p, ++record) {
      const virTypedParameter& parameter = records[d]->params[p];
      key_ids[record] = keys.intern(parameter.field);
      types[record] = static_cast<std::uint8_t>(parameter.type);
      values[record] = packed_value(parameter, strings);
    }
  }
  offsets[domain_count_] = record;
  if (keys.size() > kKeysMax) {
    throw CallError{VIR_ERR_INTERNAL_ERROR, VIR_FROM_NONE, VIR_ERR_ERROR,
                    "the statistics have more distinct keys than " + std::to_string(kKeysMax)};
  }
  new_keys_ = keys.joined_from(known_keys);
  new_key_count_ = static_cast<std::uint32_t>(keys.size() - known_keys);
  strings_ = strings.joined_from(0);
  string_count_ = static_cast<std::uint32_t>(strings.size());
}

Napi::Value PackedStats::encode(Napi::Env env) {
  const std::size_t size = record_count_ * 13 + (std::size_t{domain_count_} + 1) * 4;
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
      env, buffer_.release(), size, [](Napi::Env, void* data) { delete[] static_cast<std::byte*>(data); });

  std::size_t at = 0;
  Napi::Object packed = Napi::Object::New(env);
  packed["values"] = Napi::BigInt64Array::New(env, record_count_, buffer, at, napi_bigint64_array);
  at += std::size_t{record_count_} * 8;
  packed["keyIds"] = Napi::Uint32Array::New(env, record_count_, buffer, at, napi_uint32_array);
  at += std::size_t{record_count_} * 4;
  packed["offsets"] = Napi::Uint32Array::New(env, domain_count_ + 1, buffer, at, napi_uint32_array);
  at += (std::size_t{domain_count_} + 1) * 4;
  packed["types"] = Napi::Uint8Array::New(env, record_count_, buffer, at, napi_uint8_array);

  packed["domains"] = Napi::String::New(env, domains_);
  packed["newKeys"] = Napi::String::New(env, new_keys_);
  packed["newKeyCount"] = new_key_count_;
  packed["strings"] = Napi::String::New(env, strings_);
  packed["stringCount"] = string_count_;
  return packed;
}

}  // namespace foreshade
