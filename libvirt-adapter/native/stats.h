// virConnectGetAllDomainStats packed into flat arrays off the JavaScript thread.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "library.h"

namespace foreshade {

/// Strings numbered in the order of their first appearance.
class KeyTable {
 public:
  std::uint32_t intern(std::string_view text);
  std::size_t size() const { return texts_.size(); }
  /// Texts from `first` on, NUL between them.
  std::string joined_from(std::size_t first) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, std::uint32_t, Hash, std::equal_to<>> ids_;
  std::vector<std::string> texts_;
};

/// One answer, laid out as DomainStats of libvirt.ts says.
class PackedStats {
 public:
  /// @param keys the lane's table, which grows by the keys not seen before
  /// @throws CallError when the keys pass their bound
  PackedStats(const Library& library, const virDomainStatsRecordPtr* records, int count, KeyTable& keys);

  /// `{domains, offsets, keyIds, types, values, newKeys, newKeyCount, strings, stringCount}`, the arrays over
  /// one buffer that is handed over without a copy. Call once.
  Napi::Value encode(Napi::Env env);

 private:
  std::string domains_;
  std::uint32_t domain_count_ = 0;
  std::uint32_t record_count_ = 0;
  std::unique_ptr<std::byte[]> buffer_;
  std::string new_keys_;
  std::uint32_t new_key_count_ = 0;
  std::string strings_;
  std::uint32_t string_count_ = 0;
};

}  // namespace foreshade
