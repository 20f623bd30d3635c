#include "library.h"

#include <dlfcn.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace foreshade {
namespace {

constexpr const char* kLibvirt = "libvirt.so.0";
constexpr const char* kLibvirtQemu = "libvirt-qemu.so.0";

/// Rest after a failed turn of the event loop, so that a broken loop does not spin.
constexpr std::chrono::milliseconds kEventLoopRest{100};

/// libvirt prints every error to stderr unless it is given a function; ours travel as values.
void ignore_error(void*, virErrorPtr) {}

}  // namespace

Library::Library(const std::string& libvirt_path, const std::string& qemu_path) {
  const std::string path = libvirt_path.empty() ? kLibvirt : libvirt_path;
  void* libvirt = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (libvirt == nullptr) {
    const char* reason = dlerror();
    throw CallError{kErrorLibrary, VIR_FROM_NONE, VIR_ERR_ERROR,
                    "libvirt cannot be loaded (" + std::string(reason == nullptr ? path : reason) +
                        "); install libvirt's client library (Debian: libvirt0)"};
  }
  void* qemu = libvirt;
  if (!qemu_path.empty()) {
    qemu = dlopen(qemu_path.c_str(), RTLD_NOW | RTLD_LOCAL);
  } else if (libvirt_path.empty()) {
    qemu = dlopen(kLibvirtQemu, RTLD_NOW | RTLD_LOCAL);
  }

#define FORESHADE_RESOLVE(symbol) symbol.resolve(dlsym(libvirt, #symbol));
  FORESHADE_LIBVIRT_SYMBOLS(FORESHADE_RESOLVE)
#undef FORESHADE_RESOLVE
#define FORESHADE_RESOLVE(symbol) symbol.resolve(qemu == nullptr ? nullptr : dlsym(qemu, #symbol));
  FORESHADE_LIBVIRT_QEMU_SYMBOLS(FORESHADE_RESOLVE)
#undef FORESHADE_RESOLVE

  if (virInitialize() < 0) throw last_error();
  virSetErrorFunc(nullptr, ignore_error);
  start_event_loop();
}

const Library& Library::load(const std::string& libvirt_path, const std::string& qemu_path) {
  // Never destroyed: detached threads may still be inside libvirt while the process exits.
  static auto* const mutex = new std::mutex;
  static auto* const loaded = new std::map<std::pair<std::string, std::string>, std::unique_ptr<Library>>;

  const std::lock_guard<std::mutex> lock(*mutex);
  auto& slot = (*loaded)[{libvirt_path, qemu_path}];
  if (slot == nullptr) slot.reset(new Library(libvirt_path, qemu_path));
  return *slot;
}

CallError Library::last_error() const {
  const virError* error = virGetLastError();
  if (error == nullptr || error->code == VIR_ERR_OK) {
    return CallError{VIR_ERR_INTERNAL_ERROR, VIR_FROM_NONE, VIR_ERR_ERROR,
                     "the call failed and libvirt gave no reason"};
  }
  return CallError{error->code, error->domain, static_cast<int>(error->level),
                   error->message == nullptr ? "(no message)" : error->message};
}

void Library::start_event_loop() const {
  if (virEventRegisterDefaultImpl() < 0) throw last_error();
  std::thread([this] {
    for (;;) {
      if (virEventRunDefaultImpl() < 0) std::this_thread::sleep_for(kEventLoopRest);
    }
  }).detach();
}

}  // namespace foreshade
