#include "arguments.h"

#include <cmath>
#include <limits>

namespace foreshade {
namespace {

template <typename T>
bool is_integer_of(const Napi::Value& value) {
  if (!value.IsNumber()) return false;
  const double number = value.As<Napi::Number>().DoubleValue();
  return std::trunc(number) == number && number >= static_cast<double>(std::numeric_limits<T>::min()) &&
         number <= static_cast<double>(std::numeric_limits<T>::max());
}

}  // namespace

Napi::Value Arguments::next() { return values_.Get(position_++); }

void Arguments::refuse(const char* rule) const {
  throw Napi::TypeError::New(values_.Env(),
                             call_ + ": argument " + std::to_string(position_) + " must be " + rule);
}

std::string Arguments::checked_text(const Napi::Value& value) const {
  if (!value.IsString()) refuse("a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) refuse("a string without NUL");
  return text;
}

std::string Arguments::text() { return checked_text(next()); }

std::optional<std::string> Arguments::optional_text() {
  const Napi::Value value = next();
  if (value.IsUndefined()) return std::nullopt;
  return checked_text(value);
}

std::vector<std::string> Arguments::texts() {
  const Napi::Value value = next();
  if (!value.IsArray()) refuse("an array of strings");
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> texts;
  texts.reserve(array.Length());
  for (std::uint32_t i = 0; i < array.Length(); ++i) texts.push_back(checked_text(array.Get(i)));
  return texts;
}

std::int32_t Arguments::integer() {
  const Napi::Value value = next();
  if (!is_integer_of<std::int32_t>(value)) refuse("an integer of 32 bits");
  return value.As<Napi::Number>().Int32Value();
}

std::uint32_t Arguments::count() {
  const Napi::Value value = next();
  if (!is_integer_of<std::uint32_t>(value)) refuse("an integer from 0 to 4294967295");
  return value.As<Napi::Number>().Uint32Value();
}

std::uint64_t Arguments::size() {
  const Napi::Value value = next();
  bool lossless = false;
  const std::uint64_t size = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless) refuse("a bigint from 0 to 2^64 - 1");
  return size;
}

bool Arguments::truth() {
  const Napi::Value value = next();
  if (!value.IsBoolean()) refuse("a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::vector<unsigned char> Arguments::bytes() {
  const Napi::Value value = next();
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    refuse("a Uint8Array");
  }
  const auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

Parameters Arguments::parameters() {
  const Napi::Value value = next();
  if (!value.IsArray()) refuse("an array of [name, type, value]");
  const auto array = value.As<Napi::Array>();
  Parameters parameters;
  parameters.reserve(array.Length());
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value row = array.Get(i);
    if (!row.IsArray() || row.As<Napi::Array>().Length() != 3) refuse("an array of [name, type, value]");
    const auto cells = row.As<Napi::Array>();
    std::string name = checked_text(cells.Get(0U));
    if (name.size() >= VIR_TYPED_PARAM_FIELD_LENGTH) refuse("parameters with names under 80 bytes");
    const Napi::Value type = cells.Get(1U);
    if (!is_integer_of<std::int32_t>(type)) refuse("parameters with a numeric type");
    parameters.emplace_back(std::move(name),
                            typed_value(type.As<Napi::Number>().Int32Value(), cells.Get(2U)));
  }
  return parameters;
}

TypedValue Arguments::typed_value(std::int32_t type, const Napi::Value& value) const {
  bool lossless = false;
  switch (type) {
    case VIR_TYPED_PARAM_INT:
      if (!is_integer_of<std::int32_t>(value)) refuse("parameters whose int is an integer of 32 bits");
      return value.As<Napi::Number>().Int32Value();
    case VIR_TYPED_PARAM_UINT:
      if (!is_integer_of<std::uint32_t>(value))
        refuse("parameters whose uint is an integer from 0 to 4294967295");
      return value.As<Napi::Number>().Uint32Value();
    case VIR_TYPED_PARAM_LLONG: {
      const std::int64_t number = value.IsBigInt() ? value.As<Napi::BigInt>().Int64Value(&lossless) : 0;
      if (!lossless) refuse("parameters whose llong is a bigint of 64 bits");
      return number;
    }
    case VIR_TYPED_PARAM_ULLONG: {
      const std::uint64_t number = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
      if (!lossless) refuse("parameters whose ullong is a bigint from 0 to 2^64 - 1");
      return number;
    }
    case VIR_TYPED_PARAM_DOUBLE:
      if (!value.IsNumber()) refuse("parameters whose double is a number");
      return value.As<Napi::Number>().DoubleValue();
    case VIR_TYPED_PARAM_BOOLEAN:
      if (!value.IsBoolean()) refuse("parameters whose boolean is a boolean");
      return value.As<Napi::Boolean>().Value();
    case VIR_TYPED_PARAM_STRING:
      return checked_text(value);
    default:
      refuse("parameters with a type of virTypedParameterType");
  }
}

}  // namespace foreshade
