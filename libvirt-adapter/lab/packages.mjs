/**
 * Debian packages that the lab needs on the host. Plain JavaScript, so that the setup script can import it before
 * node_modules exists. The kernel and qemu-guest-agent are not here: the lab downloads and unpacks them into its
 * cache, and never installs them.
 */
export const LAB_PACKAGES = Object.freeze([
  'busybox-static', //               the guest's shell and tools
  'gcc', //                          the guest's init and runner, the sink, the counter plugin
  'iproute2', //                     taps and their limits
  'libc6-dev', //                    static linking of what runs in the guest
  'libvirt-clients', //              virsh
  'libvirt-daemon', //               libvirtd
  'libvirt-daemon-driver-qemu',
  'lz4', //                          the kernel image of Debian 12
  'qemu-system-x86',
  'qemu-utils',
  'util-linux', //                   unshare, nsenter
  'xz-utils', //                     the kernel modules of Debian 13
  'zstd', //                         kernels packed with zstd
]);
