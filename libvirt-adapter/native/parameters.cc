#include "parameters.h"

#include <cstdlib>
#include <new>
#include <type_traits>

namespace foreshade {

Parameters copy_parameters(const virTypedParameter* parameters, int count) {
  Parameters copy;
  copy.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    const virTypedParameter& parameter = parameters[i];
    switch (parameter.type) {
      case VIR_TYPED_PARAM_INT:
        copy.emplace_back(parameter.field, std::int32_t{parameter.value.i});
        break;
      case VIR_TYPED_PARAM_UINT:
        copy.emplace_back(parameter.field, std::uint32_t{parameter.value.ui});
        break;
      case VIR_TYPED_PARAM_LLONG:
        copy.emplace_back(parameter.field, static_cast<std::int64_t>(parameter.value.l));
        break;
      case VIR_TYPED_PARAM_ULLONG:
        copy.emplace_back(parameter.field, static_cast<std::uint64_t>(parameter.value.ul));
        break;
      case VIR_TYPED_PARAM_DOUBLE:
        copy.emplace_back(parameter.field, parameter.value.d);
        break;
      case VIR_TYPED_PARAM_BOOLEAN:
        copy.emplace_back(parameter.field, parameter.value.b != 0);
        break;
      case VIR_TYPED_PARAM_STRING:
        copy.emplace_back(parameter.field,
                          std::string(parameter.value.s == nullptr ? "" : parameter.value.s));
        break;
      default:
        break;
    }
  }
  return copy;
}

ParameterList::ParameterList(const Library& library, int size)
    : library_(library), count_(size), capacity_(size) {
  if (size == 0) return;
  items_ = static_cast<virTypedParameterPtr>(
      std::calloc(static_cast<std::size_t>(size), sizeof(virTypedParameter)));
  if (items_ == nullptr) throw std::bad_alloc();
}

ParameterList::ParameterList(const Library& library, const Parameters& parameters) : library_(library) {
  try {
    for (const auto& [name, value] : parameters) add(name, value);
  } catch (...) {
    library_.virTypedParamsFree(items_, count_);
    throw;
  }
}

ParameterList::~ParameterList() {
  if (items_ != nullptr) library_.virTypedParamsFree(items_, count_);
}

void ParameterList::add(const std::string& name, const TypedValue& value) {
  const char* field = name.c_str();
  const int added = std::visit(
      [&](const auto& v) {
        using Value = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<Value, std::int32_t>) {
          return library_.virTypedParamsAddInt(&items_, &count_, &capacity_, field, v);
        } else if constexpr (std::is_same_v<Value, std::uint32_t>) {
          return library_.virTypedParamsAddUInt(&items_, &count_, &capacity_, field, v);
        } else if constexpr (std::is_same_v<Value, std::int64_t>) {
          return library_.virTypedParamsAddLLong(&items_, &count_, &capacity_, field, v);
        } else if constexpr (std::is_same_v<Value, std::uint64_t>) {
          return library_.virTypedParamsAddULLong(&items_, &count_, &capacity_, field, v);
        } else if constexpr (std::is_same_v<Value, double>) {
          return library_.virTypedParamsAddDouble(&items_, &count_, &capacity_, field, v);
        } else if constexpr (std::is_same_v<Value, bool>) {
          return library_.virTypedParamsAddBoolean(&items_, &count_, &capacity_, field, v ? 1 : 0);
        } else {
          return library_.virTypedParamsAddString(&items_, &count_, &capacity_, field, v.c_str());
        }
      },
      value);
  if (added < 0) throw library_.last_error();
}

}  // namespace foreshade
