/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lab guest's PID 1: mounts, loads the virtio modules, configures the NIC, starts the guest agent and the
 * workload runner, and then brings every hot-plugged vCPU online on its uevent. In C and not a shell script because
 * a fork under TCG costs about 20 ms, and because a guest that polls would not be idle.
 *
 * Kernel command line: lab.address=A lab.netmask=M configure eth0; without them the guest has no network.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/reboot.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNNER_PORT "org.foreshade.runner"
#define AGENT_PORT "org.qemu.guest_agent.0"

enum {
  PORT_WAIT_MS = 5000,  /* ports appear some tens of ms after virtio_console; a guest without them is still useful */
  PORT_STEP_MS = 10,
  RESTARTS_MAX = 20,    /* a daemon that dies this often will not get better by being started again */
  UEVENT_BYTES = 8192,  /* the kernel's own limit is 2048 + environment */
};

static void say(const char *format, ...) {
  va_list list;
  va_start(list, format);
  dprintf(STDOUT_FILENO, "lab: ");
  vdprintf(STDOUT_FILENO, format, list);
  dprintf(STDOUT_FILENO, "\n");
  va_end(list);
}

static void sleep_ms(long ms) {
  nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static bool write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  close(fd);
  return ok;
}

static bool read_line(const char *path, char *line, int size) {
  FILE *file = fopen(path, "re");
  if (file == NULL) return false;
  bool ok = fgets(line, size, file) != NULL;
  fclose(file);
  if (ok) line[strcspn(line, "\n")] = '\0';
  return ok;
}

static void mount_all(void) {
  mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV, NULL);
  mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NODEV, NULL);
  mount("dev", "/dev", "devtmpfs", MS_NOSUID, NULL);
}

/* The kernel opens no console when devtmpfs is empty at its start; open one ourselves. */
static void open_console(void) {
  int fd = open("/dev/console", O_RDWR | O_NOCTTY);
  if (fd < 0) return;
  for (int target = 0; target <= 2; ++target) dup2(fd, target);
  if (fd > 2) close(fd);
}

/* Load what /modules/order names, in that order, and drop the files: the initramfs is memory. */
static void load_modules(void) {
  FILE *order = fopen("/modules/order", "re");
  if (order == NULL) return;
  char name[128];
  while (fgets(name, sizeof name, order) != NULL) {
    name[strcspn(name, "\n")] = '\0';
    char path[160];
    snprintf(path, sizeof path, "/modules/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) {
      say("module %s: %s", name, strerror(errno));
    }
    if (fd >= 0) close(fd);
    unlink(path);
  }
  fclose(order);
}

/* Link each virtio-serial port under its name; true when both are there. */
static bool link_ports(void) {
  DIR *ports = opendir("/sys/class/virtio-ports");
  if (ports == NULL) return false;
  mkdir("/dev/virtio-ports", 0755);
  for (struct dirent *entry; (entry = readdir(ports)) != NULL;) {
    char path[320], name[64], target[280], link[128];
    snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
    if (entry->d_name[0] == '.' || !read_line(path, name, sizeof name)) continue;
    snprintf(target, sizeof target, "/dev/%s", entry->d_name);
    snprintf(link, sizeof link, "/dev/virtio-ports/%s", name);
    symlink(target, link);
  }
  closedir(ports);
  return access("/dev/virtio-ports/" RUNNER_PORT, F_OK) == 0 &&
         access("/dev/virtio-ports/" AGENT_PORT, F_OK) == 0;
}

static pid_t start(char *const argv[]) {
  pid_t pid = fork();
  if (pid == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(argv[0], argv);
    _exit(127);
  }
  return pid;
}

static void run(char *const argv[]) {
  pid_t pid = start(argv);
  if (pid > 0) waitpid(pid, NULL, 0);
}

/* The value of `key=` on the kernel command line, or NULL. */
static const char *kernel_argument(const char *key) {
  static char line[2048];
  if (line[0] == '\0' && !read_line("/proc/cmdline", line, sizeof line)) return NULL;
  static char value[64];
  for (const char *at = line; (at = strstr(at, key)) != NULL; at += strlen(key)) {
    if ((at != line && at[-1] != ' ') || at[strlen(key)] != '=') continue;
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at + strlen(key) + 1, " "), at + strlen(key) + 1);
    return value;
  }
  return NULL;
}

static void configure_network(void) {
  run((char *[]){"/bin/ifconfig", "lo", "up", NULL});
  char address[64], netmask[64];
  const char *found = kernel_argument("lab.address");
  if (found == NULL) return;
  snprintf(address, sizeof address, "%s", found);
  found = kernel_argument("lab.netmask");
  snprintf(netmask, sizeof netmask, "%s", found == NULL ? "255.255.255.0" : found);
  run((char *[]){"/bin/ifconfig", "eth0", address, "netmask", netmask, "up", NULL});
}

struct service {
  char *const *argv;
  pid_t pid;
  int restarts;
};

static char *const AGENT[] = {"/bin/qemu-ga",  "-m", "virtio-serial", "-p",          "/dev/virtio-ports/" AGENT_PORT,
                              "-t",            "/run", "-l",          "/var/log/ga.log", NULL};
static char *const RUNNER[] = {"/bin/runner", "/dev/virtio-ports/" RUNNER_PORT, NULL};
static struct service services[] = {{.argv = AGENT}, {.argv = RUNNER}};
enum { SERVICES = sizeof services / sizeof *services };

static void start_service(struct service *service) {
  if (access(service->argv[0], X_OK) != 0) return;
  service->pid = start(service->argv);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/oom_score_adj", service->pid);
  write_file(path, "-1000");
}

static void reap(void) {
  for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;) {
    for (int i = 0; i < SERVICES; ++i) {
      if (services[i].pid != pid) continue;
      say("%s ended", services[i].argv[0]);
      if (services[i].restarts++ < RESTARTS_MAX) start_service(&services[i]);
    }
  }
}

/* "add@/devices/system/cpu/cpuN": the kernel knows the vCPU; nobody else will bring it online. */
static void handle_uevent(const char *event) {
  static const char prefix[] = "add@/devices/system/cpu/cpu";
  if (strncmp(event, prefix, sizeof prefix - 1) != 0) return;
  char path[64];
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%.10s/online", event + sizeof prefix - 1);
  if (!write_file(path, "1") && errno != EINVAL) say("%s: %s", path, strerror(errno));
}

/* vCPUs that were plugged before anybody listened: as udev's coldplug does. */
static void bring_cpus_online(void) {
  DIR *cpus = opendir("/sys/devices/system/cpu");
  if (cpus == NULL) return;
  for (struct dirent *entry; (entry = readdir(cpus)) != NULL;) {
    char path[320], state[8];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/%s/online", entry->d_name);
    if (strncmp(entry->d_name, "cpu", 3) != 0 || !read_line(path, state, sizeof state)) continue;
    if (state[0] == '0' && !write_file(path, "1")) say("%s: %s", path, strerror(errno));
  }
  closedir(cpus);
}

static int open_uevents(void) {
  int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
  if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  say("uevents: %s", strerror(errno));
  return -1;
}

static int open_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGUSR1); /* busybox halt */
  sigaddset(&set, SIGUSR2); /* busybox poweroff */
  sigaddset(&set, SIGTERM); /* busybox reboot */
  sigprocmask(SIG_BLOCK, &set, NULL);
  return signalfd(-1, &set, SFD_CLOEXEC);
}

static void handle_signal(int fd) {
  struct signalfd_siginfo info;
  if (read(fd, &info, sizeof info) != sizeof info) return;
  if (info.ssi_signo == SIGCHLD) {
    reap();
    return;
  }
  sync();
  reboot(info.ssi_signo == SIGTERM ? RB_AUTOBOOT : RB_POWER_OFF);
}

static void serve(int uevents, int signals) {
  for (;;) {
    struct pollfd fds[] = {{.fd = signals, .events = POLLIN}, {.fd = uevents, .events = POLLIN}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[0].revents & POLLIN) handle_signal(signals);
    if (fds[1].revents & POLLIN) {
      char event[UEVENT_BYTES];
      ssize_t length = recv(uevents, event, sizeof event - 1, 0);
      if (length <= 0) continue;
      event[length] = '\0';
      handle_uevent(event);
    }
  }
}

int main(void) {
  mount_all();
  open_console();
  setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
  int signals = open_signals();
  int uevents = open_uevents();
  bring_cpus_online();
  load_modules();
  /* Hot-added memory stays removable, so that virtio-mem can shrink again. */
  write_file("/sys/devices/system/memory/auto_online_blocks", "online_movable");
  configure_network();
  for (int waited = 0; !link_ports() && waited < PORT_WAIT_MS; waited += PORT_STEP_MS) sleep_ms(PORT_STEP_MS);
  for (int i = 0; i < SERVICES; ++i) start_service(&services[i]);
  struct sysinfo info;
  sysinfo(&info);
  say("ready uptime=%ld vcpus=%ld mem_total_mib=%lu", info.uptime, sysconf(_SC_NPROCESSORS_ONLN),
      info.totalram * info.mem_unit >> 20);
  serve(uevents, signals);
}
