#include "encode.h"

#include <string>
#include <type_traits>

namespace foreshade {

Napi::Value encode_domains(Napi::Env env, const std::vector<DomainName>& domains) {
  std::string rows;
  for (const DomainName& domain : domains) append_domain(rows, domain);
  return Napi::String::New(env, rows);
}

Napi::Value encode_parameters(Napi::Env env, const Parameters& parameters) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, value] : parameters) {
    object[name] = std::visit(
        [env](const auto& v) -> Napi::Value {
          using Value = std::decay_t<decltype(v)>;
          if constexpr (std::is_same_v<Value, std::int64_t> || std::is_same_v<Value, std::uint64_t>) {
            return Napi::BigInt::New(env, v);
          } else if constexpr (std::is_same_v<Value, bool>) {
            return Napi::Boolean::New(env, v);
          } else if constexpr (std::is_same_v<Value, std::string>) {
            return Napi::String::New(env, v);
          } else {
            return Napi::Number::New(env, v);
          }
        },
        value);
  }
  return object;
}

Napi::Value encode_failure(Napi::Env env, const CallError& error, bool connection_lost) {
  Napi::Object failure = Napi::Object::New(env);
  failure["code"] = error.code;
  failure["domain"] = error.domain;
  failure["level"] = error.level;
  failure["message"] = error.message;
  failure["connectionLost"] = connection_lost;
  return failure;
}

}  // namespace foreshade
