#include "calls.h"

#include <cstdlib>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "arguments.h"
#include "encode.h"
#include "stats.h"

namespace foreshade {
namespace {

/// Statistics virDomainMemoryStats may report. Room for those that later versions add.
constexpr std::uint32_t kMemoryStatsMax = 64;

/// Work on one domain; the wrapper reads its UUID, the call's first argument, and finds the handle.
using DomainWork = std::function<Encode(Connection&, virDomainPtr)>;
using Decode = std::function<Work(Arguments&)>;

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};
/// A string that libvirt allocated for the caller.
using OwnedText = std::unique_ptr<char, FreeMemory>;

// --- results ---------------------------------------------------------------------------------------------

Encode nothing() {
  return [](Napi::Env env) { return env.Undefined(); };
}

Encode number(double value) {
  return [value](Napi::Env env) { return Napi::Number::New(env, value); };
}

/// Takes the string over. A null pointer is a failed call.
Encode owned_text(Connection& connection, char* result) {
  const OwnedText text(connection.check(result));
  return [copy = std::string(text.get())](Napi::Env env) { return Napi::String::New(env, copy); };
}

Encode domains(std::vector<DomainName> names) {
  return [names = std::move(names)](Napi::Env env) { return encode_domains(env, names); };
}

/// Takes the handle over. A null pointer is a failed call.
Encode owned_domain(Connection& connection, virDomainPtr result) {
  DomainName name = connection.name(connection.check(result));
  connection.library().virDomainFree(result);
  return domains({std::move(name)});
}

Encode parameters(const virTypedParameter* items, int count) {
  return [copy = copy_parameters(items, count)](Napi::Env env) { return encode_parameters(env, copy); };
}

/// A getter of libvirt's older kind: asked with no room it says how many there are, asked again it fills
/// them.
template <typename Get>
Encode counted_parameters(Connection& connection, Get get) {
  int count = 0;
  connection.check(get(nullptr, &count));
  ParameterList list(connection.library(), count);
  if (count > 0) connection.check(get(list.get(), list.size_address()));
  return parameters(list.get(), list.size());
}

/// The same for the host's statistics, whose rows hold a name and an unsigned 64-bit number.
template <typename Row, typename Get>
Encode counted_statistics(Connection& connection, Get get) {
  int count = 0;
  connection.check(get(nullptr, &count));
  std::vector<Row> rows(static_cast<std::size_t>(count));
  if (count > 0) connection.check(get(rows.data(), &count));
  Parameters copy;
  for (int i = 0; i < count; ++i) copy.emplace_back(rows[i].field, std::uint64_t{rows[i].value});
  return [copy = std::move(copy)](Napi::Env env) { return encode_parameters(env, copy); };
}

// --- shapes of calls -------------------------------------------------------------------------------------

/// Decode reads what follows the UUID.
Decode on_domain(DomainWork (*decode)(Arguments&)) {
  return [decode](Arguments& in) -> Work {
    return [uuid = in.text(), work = decode(in)](Connection& connection) -> Encode {
      try {
        return work(connection, connection.domain(uuid));
      } catch (const CallError& error) {
        if (error.code == VIR_ERR_NO_DOMAIN) connection.forget_domain(uuid);
        throw;
      }
    };
  };
}

/// (uuid, flags)
template <auto Member>
Decode domain_flags() {
  return on_domain([](Arguments& in) -> DomainWork {
    return [flags = in.count()](Connection& c, virDomainPtr domain) {
      c.check((c.library().*Member)(domain, flags));
      return nothing();
    };
  });
}

/// (uuid)
template <auto Member>
Decode domain_only() {
  return on_domain([](Arguments&) -> DomainWork {
    return [](Connection& c, virDomainPtr domain) {
      c.check((c.library().*Member)(domain));
      return nothing();
    };
  });
}

/// (uuid, xml, flags)
template <auto Member>
Decode domain_xml_flags() {
  return on_domain([](Arguments& in) -> DomainWork {
    return [xml = in.text(), flags = in.count()](Connection& c, virDomainPtr domain) {
      c.check((c.library().*Member)(domain, xml.c_str(), flags));
      return nothing();
    };
  });
}

/// (uuid, device, parameters, flags)
template <auto Member>
Decode set_device_parameters() {
  return on_domain([](Arguments& in) -> DomainWork {
    return [device = in.text(), values = in.parameters(), flags = in.count()](Connection& c,
                                                                              virDomainPtr domain) {
      const ParameterList list(c.library(), values);
      c.check((c.library().*Member)(domain, device.c_str(), list.get(), list.size(), flags));
      return nothing();
    };
  });
}

/// (uuid, device, flags)
template <auto Member>
Decode get_device_parameters() {
  return on_domain([](Arguments& in) -> DomainWork {
    return [device = in.text(), flags = in.count()](Connection& c, virDomainPtr domain) {
      return counted_parameters(c, [&](virTypedParameterPtr room, int* count) {
        return (c.library().*Member)(domain, device.c_str(), room, count, flags);
      });
    };
  });
}

/// (uuid, parameters, flags)
template <auto Member>
Decode set_parameters() {
  return on_domain([](Arguments& in) -> DomainWork {
    return [values = in.parameters(), flags = in.count()](Connection& c, virDomainPtr domain) {
      const ParameterList list(c.library(), values);
      c.check((c.library().*Member)(domain, list.get(), list.size(), flags));
      return nothing();
    };
  });
}

/// (text, flags), of the connection; gives a new handle.
template <auto Member>
Decode new_domain() {
  return [](Arguments& in) -> Work {
    return [xml = in.text(), flags = in.count()](Connection& c) {
      return owned_domain(c, (c.library().*Member)(c.get(), xml.c_str(), flags));
    };
  };
}

// --- statistics ------------------------------------------------------------------------------------------

/// The records of one answer, freed with their handles.
class StatsRecords {
 public:
  explicit StatsRecords(const Library& library) : library_(library) {}
  ~StatsRecords() {
    if (records_ != nullptr) library_.virDomainStatsRecordListFree(records_);
  }
  StatsRecords(const StatsRecords&) = delete;
  StatsRecords& operator=(const StatsRecords&) = delete;

  virDomainStatsRecordPtr** address() { return &records_; }
  Encode pack(int count, KeyTable& keys) const {
    auto packed = std::make_shared<PackedStats>(library_, records_, count, keys);
    return [packed](Napi::Env env) { return packed->encode(env); };
  }

 private:
  const Library& library_;
  virDomainStatsRecordPtr* records_ = nullptr;
};

Encode all_domain_stats(Connection& c, std::uint32_t groups, std::uint32_t flags) {
  StatsRecords records(c.library());
  const int count =
      c.check(c.library().virConnectGetAllDomainStats(c.get(), groups, records.address(), flags));
  return records.pack(count, c.keys());
}

/// A domain that is gone is absent from the answer, as it would be if it went a moment later.
Encode some_domain_stats(Connection& c, const std::vector<std::string>& uuids, std::uint32_t groups,
                         std::uint32_t flags) {
  std::vector<virDomainPtr> handles;
  for (const std::string& uuid : uuids) {
    try {
      handles.push_back(c.domain(uuid));
    } catch (const CallError& error) {
      if (error.code != VIR_ERR_NO_DOMAIN) throw;
    }
  }
  StatsRecords records(c.library());
  if (handles.empty()) return records.pack(0, c.keys());
  handles.push_back(nullptr);
  const int count =
      c.check(c.library().virDomainListGetStats(handles.data(), groups, records.address(), flags));
  return records.pack(count, c.keys());
}

Encode list_domains(Connection& c, std::uint32_t flags) {
  virDomainPtr* handles = nullptr;
  const int count = c.check(c.library().virConnectListAllDomains(c.get(), &handles, flags));
  const std::unique_ptr<virDomainPtr, FreeMemory> owned(handles);
  std::vector<DomainName> names;
  names.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    names.push_back(c.name(handles[i]));
    c.library().virDomainFree(handles[i]);
  }
  return domains(std::move(names));
}

/// [tag of virDomainMemoryStatTags, bigint] rows.
Encode memory_stats(Connection& c, virDomainPtr domain) {
  std::vector<virDomainMemoryStatStruct> stats(kMemoryStatsMax);
  const int count = c.check(c.library().virDomainMemoryStats(domain, stats.data(), kMemoryStatsMax, 0));
  stats.resize(static_cast<std::size_t>(count));
  return [stats = std::move(stats)](Napi::Env env) -> Napi::Value {
    Napi::Array rows = Napi::Array::New(env, stats.size());
    for (std::uint32_t i = 0; i < stats.size(); ++i) {
      Napi::Array row = Napi::Array::New(env, 2);
      row[0U] = Napi::Number::New(env, stats[i].tag);
      row[1U] = Napi::BigInt::New(env, std::uint64_t{stats[i].val});
      rows[i] = row;
    }
    return rows;
  };
}

Encode node_info(Connection& c) {
  virNodeInfo info{};
  c.check(c.library().virNodeGetInfo(c.get(), &info));
  return [info](Napi::Env env) -> Napi::Value {
    Napi::Object object = Napi::Object::New(env);
    object["model"] = Napi::String::New(env, info.model);
    object["memoryKib"] = Napi::BigInt::New(env, std::uint64_t{info.memory});
    object["cpus"] = info.cpus;
    object["mhz"] = info.mhz;
    object["nodes"] = info.nodes;
    object["sockets"] = info.sockets;
    object["cores"] = info.cores;
    object["threads"] = info.threads;
    return object;
  };
}

/// [libvirt, hypervisor], each as major * 1,000,000 + minor * 1,000 + release.
Encode versions(Connection& c) {
  unsigned long libvirt = 0;
  unsigned long hypervisor = 0;
  c.check(c.library().virConnectGetLibVersion(c.get(), &libvirt));
  c.check(c.library().virConnectGetVersion(c.get(), &hypervisor));
  return [libvirt, hypervisor](Napi::Env env) -> Napi::Value {
    Napi::Array pair = Napi::Array::New(env, 2);
    pair[0U] = Napi::Number::New(env, static_cast<double>(libvirt));
    pair[1U] = Napi::Number::New(env, static_cast<double>(hypervisor));
    return pair;
  };
}

const char* pointer_or_null(const std::optional<std::string>& text) { return text ? text->c_str() : nullptr; }

unsigned char* map_of(const std::vector<unsigned char>& cpus) {
  return const_cast<unsigned char*>(cpus.data());  // libvirt reads it only
}

// --- the table -------------------------------------------------------------------------------------------

/// By the name of the libvirt function, which is also the `call` of its errors. GCC and Clang initialise
/// captures in the order they are written, so they read as the order of the arguments.
const std::unordered_map<std::string_view, Decode>& table() {
  static const auto* const calls = new std::unordered_map<std::string_view, Decode>{
      // Domains.
      {"virConnectListAllDomains",
       [](Arguments& in) -> Work {
         return [flags = in.count()](Connection& c) { return list_domains(c, flags); };
       }},
      {"virDomainLookupByName",
       [](Arguments& in) -> Work {
         return [name = in.text()](Connection& c) {
           return owned_domain(c, c.library().virDomainLookupByName(c.get(), name.c_str()));
         };
       }},
      {"virDomainGetState", on_domain([](Arguments&) -> DomainWork {
         return [](Connection& c, virDomainPtr domain) -> Encode {
           int state = 0;
           int reason = 0;
           c.check(c.library().virDomainGetState(domain, &state, &reason, 0));
           return [state, reason](Napi::Env env) -> Napi::Value {
             Napi::Array pair = Napi::Array::New(env, 2);
             pair[0U] = Napi::Number::New(env, state);
             pair[1U] = Napi::Number::New(env, reason);
             return pair;
           };
         };
       })},
      {"virDomainGetXMLDesc", on_domain([](Arguments& in) -> DomainWork {
         return [flags = in.count()](Connection& c, virDomainPtr domain) {
           return owned_text(c, c.library().virDomainGetXMLDesc(domain, flags));
         };
       })},
      {"virDomainDefineXMLFlags", new_domain<&Library::virDomainDefineXMLFlags>()},
      {"virDomainCreateXML", new_domain<&Library::virDomainCreateXML>()},
      {"virDomainCreateWithFlags", domain_flags<&Library::virDomainCreateWithFlags>()},
      {"virDomainDestroyFlags", domain_flags<&Library::virDomainDestroyFlags>()},
      {"virDomainShutdownFlags", domain_flags<&Library::virDomainShutdownFlags>()},
      {"virDomainUndefineFlags", domain_flags<&Library::virDomainUndefineFlags>()},
      {"virDomainReset", domain_flags<&Library::virDomainReset>()},
      {"virDomainSuspend", domain_only<&Library::virDomainSuspend>()},
      {"virDomainResume", domain_only<&Library::virDomainResume>()},
      {"virDomainGetMetadata", on_domain([](Arguments& in) -> DomainWork {
         return [uri = in.text(), flags = in.count()](Connection& c, virDomainPtr domain) {
           return owned_text(
               c, c.library().virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, uri.c_str(), flags));
         };
       })},
      {"virDomainSetMetadata", on_domain([](Arguments& in) -> DomainWork {
         return [uri = in.text(), key = in.text(), xml = in.optional_text(), flags = in.count()](
                    Connection& c, virDomainPtr domain) {
           c.check(c.library().virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, pointer_or_null(xml),
                                                    key.c_str(), uri.c_str(), flags));
           return nothing();
         };
       })},
      {"virDomainMigrateToURI3", on_domain([](Arguments& in) -> DomainWork {
         return [uri = in.optional_text(), values = in.parameters(), flags = in.count()](
                    Connection& c, virDomainPtr domain) {
           const ParameterList list(c.library(), values);
           c.check(c.library().virDomainMigrateToURI3(domain, pointer_or_null(uri), list.get(),
                                                      static_cast<unsigned int>(list.size()), flags));
           return nothing();
         };
       })},

      // Statistics.
      {"virConnectGetAllDomainStats",
       [](Arguments& in) -> Work {
         return [groups = in.count(), flags = in.count()](Connection& c) {
           return all_domain_stats(c, groups, flags);
         };
       }},
      {"virDomainListGetStats",
       [](Arguments& in) -> Work {
         return [uuids = in.texts(), groups = in.count(), flags = in.count()](Connection& c) {
           return some_domain_stats(c, uuids, groups, flags);
         };
       }},
      {"virDomainMemoryStats", on_domain([](Arguments&) -> DomainWork { return memory_stats; })},
      {"virDomainSetMemoryStatsPeriod", on_domain([](Arguments& in) -> DomainWork {
         return [period_s = in.integer(), flags = in.count()](Connection& c, virDomainPtr domain) {
           c.check(c.library().virDomainSetMemoryStatsPeriod(domain, period_s, flags));
           return nothing();
         };
       })},

      // vCPUs and memory.
      {"virDomainSetVcpusFlags", on_domain([](Arguments& in) -> DomainWork {
         return [count = in.count(), flags = in.count()](Connection& c, virDomainPtr domain) {
           c.check(c.library().virDomainSetVcpusFlags(domain, count, flags));
           return nothing();
         };
       })},
      {"virDomainGetVcpusFlags", on_domain([](Arguments& in) -> DomainWork {
         return [flags = in.count()](Connection& c, virDomainPtr domain) {
           return number(c.check(c.library().virDomainGetVcpusFlags(domain, flags)));
         };
       })},
      {"virDomainGetMaxVcpus", on_domain([](Arguments&) -> DomainWork {
         return [](Connection& c, virDomainPtr domain) {
           return number(c.check(c.library().virDomainGetMaxVcpus(domain)));
         };
       })},
      {"virDomainSetVcpu", on_domain([](Arguments& in) -> DomainWork {
         return
             [map = in.text(), online = in.truth(), flags = in.count()](Connection& c, virDomainPtr domain) {
               c.check(c.library().virDomainSetVcpu(domain, map.c_str(), online ? 1 : 0, flags));
               return nothing();
             };
       })},
      {"virDomainSetMemoryFlags", on_domain([](Arguments& in) -> DomainWork {
         return [kib = in.size(), flags = in.count()](Connection& c, virDomainPtr domain) {
           c.check(c.library().virDomainSetMemoryFlags(domain, kib, flags));
           return nothing();
         };
       })},
      {"virDomainPinVcpuFlags", on_domain([](Arguments& in) -> DomainWork {
         return
             [vcpu = in.count(), cpus = in.bytes(), flags = in.count()](Connection& c, virDomainPtr domain) {
               c.check(c.library().virDomainPinVcpuFlags(domain, vcpu, map_of(cpus),
                                                         static_cast<int>(cpus.size()), flags));
               return nothing();
             };
       })},
      {"virDomainPinEmulator", on_domain([](Arguments& in) -> DomainWork {
         return [cpus = in.bytes(), flags = in.count()](Connection& c, virDomainPtr domain) {
           c.check(
               c.library().virDomainPinEmulator(domain, map_of(cpus), static_cast<int>(cpus.size()), flags));
           return nothing();
         };
       })},

      // Devices.
      {"virDomainAttachDeviceFlags", domain_xml_flags<&Library::virDomainAttachDeviceFlags>()},
      {"virDomainDetachDeviceFlags", domain_xml_flags<&Library::virDomainDetachDeviceFlags>()},
      {"virDomainUpdateDeviceFlags", domain_xml_flags<&Library::virDomainUpdateDeviceFlags>()},

      // Tuning.
      {"virDomainSetBlockIoTune", set_device_parameters<&Library::virDomainSetBlockIoTune>()},
      {"virDomainGetBlockIoTune", get_device_parameters<&Library::virDomainGetBlockIoTune>()},
      {"virDomainSetInterfaceParameters", set_device_parameters<&Library::virDomainSetInterfaceParameters>()},
      {"virDomainGetInterfaceParameters", get_device_parameters<&Library::virDomainGetInterfaceParameters>()},
      {"virDomainSetSchedulerParametersFlags",
       set_parameters<&Library::virDomainSetSchedulerParametersFlags>()},
      {"virDomainGetSchedulerParametersFlags", on_domain([](Arguments& in) -> DomainWork {
         return [room = in.count(), flags = in.count()](Connection& c, virDomainPtr domain) {
           ParameterList list(c.library(), static_cast<int>(room));
           c.check(c.library().virDomainGetSchedulerParametersFlags(domain, list.get(), list.size_address(),
                                                                    flags));
           return parameters(list.get(), list.size());
         };
       })},
      {"virDomainSetPerfEvents", set_parameters<&Library::virDomainSetPerfEvents>()},
      {"virDomainGetPerfEvents", on_domain([](Arguments& in) -> DomainWork {
         return [flags = in.count()](Connection& c, virDomainPtr domain) {
           ParameterList list(c.library());
           c.check(c.library().virDomainGetPerfEvents(domain, list.address(), list.size_address(), flags));
           return parameters(list.get(), list.size());
         };
       })},

      // Passthrough.
      {"virDomainQemuMonitorCommand", on_domain([](Arguments& in) -> DomainWork {
         return [command = in.text(), flags = in.count()](Connection& c, virDomainPtr domain) {
           char* answer = nullptr;
           c.check(c.library().virDomainQemuMonitorCommand(domain, command.c_str(), &answer, flags));
           return owned_text(c, answer);
         };
       })},
      {"virDomainQemuAgentCommand", on_domain([](Arguments& in) -> DomainWork {
         return [command = in.text(), timeout_s = in.integer()](Connection& c, virDomainPtr domain) {
           return owned_text(c, c.library().virDomainQemuAgentCommand(domain, command.c_str(), timeout_s, 0));
         };
       })},

      // The host.
      {"virNodeGetInfo", [](Arguments&) -> Work { return node_info; }},
      {"virNodeGetCPUStats",
       [](Arguments& in) -> Work {
         return [cpu = in.integer()](Connection& c) {
           return counted_statistics<virNodeCPUStats>(c, [&](virNodeCPUStatsPtr room, int* count) {
             return c.library().virNodeGetCPUStats(c.get(), cpu, room, count, 0);
           });
         };
       }},
      {"virNodeGetMemoryStats",
       [](Arguments& in) -> Work {
         return [cell = in.integer()](Connection& c) {
           return counted_statistics<virNodeMemoryStats>(c, [&](virNodeMemoryStatsPtr room, int* count) {
             return c.library().virNodeGetMemoryStats(c.get(), cell, room, count, 0);
           });
         };
       }},
      {"virConnectGetCapabilities",
       [](Arguments&) -> Work {
         return [](Connection& c) { return owned_text(c, c.library().virConnectGetCapabilities(c.get())); };
       }},
      {"virConnectGetVersion", [](Arguments&) -> Work { return versions; }},
  };
  return *calls;
}

}  // namespace

Work decode_call(const std::string& name, const Napi::Array& arguments) {
  const auto entry = table().find(name);
  if (entry == table().end()) throw Napi::TypeError::New(arguments.Env(), name + ": there is no such call");
  Arguments in(name, arguments);
  return entry->second(in);
}

}  // namespace foreshade
