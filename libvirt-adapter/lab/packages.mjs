/**
 * Debian packages that the lab and the bindings need on the host; the names are the same on Debian 12 and 13. Plain
 * JavaScript, so that the setup script can import it before node_modules exists. The guest's kernel and
 * qemu-guest-agent are not here: the lab downloads and unpacks them into its cache, and never installs them.
 */
export const LAB_PACKAGES = Object.freeze([
  'busybox-static', //               the guest's shell and tools
  'g++', //                          the bindings
  'gcc', //                          the guest's init and runner, the sink, the counter plugin
  'iproute2', //                     taps and their limits
  'libc6-dev', //                    static linking of what runs in the guest
  'libvirt-clients', //              virsh
  'libvirt-daemon', //               libvirtd
  'libvirt-daemon-driver-qemu',
  'libvirt-dev', //                  the bindings
  'lz4', //                          the kernel image of Debian 12
  'openssl', //                      certificates of servers that tests play
  'qemu-system-x86',
  'util-linux', //                   unshare, nsenter
  'xz-utils', //                     the kernel modules of Debian 13
  'zstd', //                         kernels packed with zstd
]);
