// libvirt's typed parameters, copied out of its memory and built for it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "library.h"

namespace foreshade {

using TypedValue =
    std::variant<std::int32_t, std::uint32_t, std::int64_t, std::uint64_t, double, bool, std::string>;
using Parameters = std::vector<std::pair<std::string, TypedValue>>;

/// Copy of `count` parameters; one of a type this version does not know is left out.
Parameters copy_parameters(const virTypedParameter* parameters, int count);

/// An array of parameters in libvirt's memory, freed with its strings.
class ParameterList {
 public:
  explicit ParameterList(const Library& library) : library_(library) {}
  /// An empty array of `size` slots for a getter to fill.
  ParameterList(const Library& library, int size);
  /// An array that holds `parameters`. @throws CallError
  ParameterList(const Library& library, const Parameters& parameters);
  ~ParameterList();
  ParameterList(const ParameterList&) = delete;
  ParameterList& operator=(const ParameterList&) = delete;

  virTypedParameterPtr get() const { return items_; }
  int size() const { return count_; }
  /// Where a getter writes the array it allocates, and its length.
  virTypedParameterPtr* address() { return &items_; }
  int* size_address() { return &count_; }

 private:
  void add(const std::string& name, const TypedValue& value);

  const Library& library_;
  virTypedParameterPtr items_ = nullptr;
  int count_ = 0;
  int capacity_ = 0;
};

}  // namespace foreshade
