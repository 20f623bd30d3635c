// libvirt, found at run time. The addon is not linked against libvirt.so, so that it loads on a machine
// without it; the headers give the types, dlsym the addresses.
#pragma once

#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <string>

namespace foreshade {

/// Codes of ours, below libvirt's. The same numbers as LIBVIRT_ERROR in libvirt.ts.
inline constexpr int kErrorLibrary = -1;
inline constexpr int kErrorDisconnected = -4;

/// A failed call: libvirt's error, copied on the thread that made the call.
struct CallError {
  int code = VIR_ERR_INTERNAL_ERROR;
  int domain = VIR_FROM_NONE;
  int level = VIR_ERR_ERROR;
  std::string message;
};

/// One function of libvirt. Calling it when the installed library lacks it throws CallError.
template <typename Function>
class Symbol;

template <typename Result, typename... Args>
class Symbol<Result (*)(Args...)> {
 public:
  explicit Symbol(const char* name) : name_(name) {}

  void resolve(void* address) { function_ = reinterpret_cast<Result (*)(Args...)>(address); }

  Result operator()(Args... args) const {
    if (function_ == nullptr) {
      throw CallError{kErrorLibrary, VIR_FROM_NONE, VIR_ERR_ERROR,
                      std::string("the installed libvirt has no ") + name_};
    }
    return function_(args...);
  }

 private:
  const char* name_;
  Result (*function_)(Args...) = nullptr;
};

#define FORESHADE_LIBVIRT_SYMBOLS(X)      \
  X(virConnectClose)                      \
  X(virConnectDomainEventDeregisterAny)   \
  X(virConnectDomainEventRegisterAny)     \
  X(virConnectGetAllDomainStats)          \
  X(virConnectGetCapabilities)            \
  X(virConnectGetLibVersion)              \
  X(virConnectGetVersion)                 \
  X(virConnectIsAlive)                    \
  X(virConnectListAllDomains)             \
  X(virConnectOpen)                       \
  X(virConnectRegisterCloseCallback)      \
  X(virConnectSetKeepAlive)               \
  X(virConnectUnregisterCloseCallback)    \
  X(virDomainAttachDeviceFlags)           \
  X(virDomainCreateWithFlags)             \
  X(virDomainCreateXML)                   \
  X(virDomainDefineXMLFlags)              \
  X(virDomainDestroyFlags)                \
  X(virDomainDetachDeviceFlags)           \
  X(virDomainFree)                        \
  X(virDomainGetBlockIoTune)              \
  X(virDomainGetID)                       \
  X(virDomainGetInterfaceParameters)      \
  X(virDomainGetMaxVcpus)                 \
  X(virDomainGetMetadata)                 \
  X(virDomainGetName)                     \
  X(virDomainGetPerfEvents)               \
  X(virDomainGetSchedulerParametersFlags) \
  X(virDomainGetState)                    \
  X(virDomainGetUUIDString)               \
  X(virDomainGetVcpusFlags)               \
  X(virDomainGetXMLDesc)                  \
  X(virDomainListGetStats)                \
  X(virDomainLookupByName)                \
  X(virDomainLookupByUUIDString)          \
  X(virDomainMemoryStats)                 \
  X(virDomainMigrateToURI3)               \
  X(virDomainPinEmulator)                 \
  X(virDomainPinVcpuFlags)                \
  X(virDomainReset)                       \
  X(virDomainResume)                      \
  X(virDomainSetBlockIoTune)              \
  X(virDomainSetInterfaceParameters)      \
  X(virDomainSetMemoryFlags)              \
  X(virDomainSetMemoryStatsPeriod)        \
  X(virDomainSetMetadata)                 \
  X(virDomainSetPerfEvents)               \
  X(virDomainSetSchedulerParametersFlags) \
  X(virDomainSetVcpu)                     \
  X(virDomainSetVcpusFlags)               \
  X(virDomainShutdownFlags)               \
  X(virDomainStatsRecordListFree)         \
  X(virDomainSuspend)                     \
  X(virDomainUndefineFlags)               \
  X(virDomainUpdateDeviceFlags)           \
  X(virEventRegisterDefaultImpl)          \
  X(virEventRunDefaultImpl)               \
  X(virGetLastError)                      \
  X(virInitialize)                        \
  X(virNodeGetCPUStats)                   \
  X(virNodeGetInfo)                       \
  X(virNodeGetMemoryStats)                \
  X(virSetErrorFunc)                      \
  X(virTypedParamsAddBoolean)             \
  X(virTypedParamsAddDouble)              \
  X(virTypedParamsAddInt)                 \
  X(virTypedParamsAddLLong)               \
  X(virTypedParamsAddString)              \
  X(virTypedParamsAddUInt)                \
  X(virTypedParamsAddULLong)              \
  X(virTypedParamsClear)                  \
  X(virTypedParamsFree)

/// libvirt-qemu.so: passthrough to QEMU's monitor and the guest agent; its ABI carries no promise.
#define FORESHADE_LIBVIRT_QEMU_SYMBOLS(X) \
  X(virDomainQemuAgentCommand)            \
  X(virDomainQemuMonitorCommand)

/// The functions of one libvirt.so. Loaded once per path and never unloaded: libvirt keeps threads and
/// thread-local state of its own.
class Library {
 public:
  /// Empty paths mean the system's libraries. With a path of one's own for libvirt and none for
  /// libvirt-qemu, both sets of functions come from that file.
  /// @throws CallError kErrorLibrary when libvirt cannot be loaded or initialised
  static const Library& load(const std::string& libvirt_path, const std::string& qemu_path);

  /// This thread's last error, or a bare one that names nothing when libvirt left none.
  CallError last_error() const;

#define FORESHADE_DECLARE(name) Symbol<decltype(&::name)> name{#name};
  FORESHADE_LIBVIRT_SYMBOLS(FORESHADE_DECLARE)
  FORESHADE_LIBVIRT_QEMU_SYMBOLS(FORESHADE_DECLARE)
#undef FORESHADE_DECLARE

 private:
  Library(const std::string& libvirt_path, const std::string& qemu_path);
  /// One thread per library runs its default event loop: keepalive, close callbacks and events need it.
  void start_event_loop() const;
};

}  // namespace foreshade
