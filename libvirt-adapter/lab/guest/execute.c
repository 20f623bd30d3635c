/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries a plan out. Threads take units of work from one counter and never wait for each other, so a vCPU that is
 * plugged in mid-run is used at once. Each unit computes, and then brings memory, disk and network up to the share of
 * the plan that is due.
 */
#define _GNU_SOURCE
#include "execute.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  PAGE_BYTES = 4096,
  TOUCH_PAGES = 64,         /* claimed at once: small enough to share a ramp among threads */
  DISK_BLOCK_BYTES = 262144, /* one request; O_DIRECT, so that the page cache does not count as the guest's memory */
  SEND_BYTES = 65536,
  THREADS_MAX = 16,
  UNIT_ROUNDS = 390000,
};
/* Share of the run, after a departure, over which the additional memory is touched. */
static const double DEPART_RAMP_FRACTION = 0.5;static struct {
  const struct plan *plan;
  atomic_uint_fast64_t next_unit, total_units;
  atomic_uint_fast64_t next_page;
  atomic_uint_fast64_t departed_at; /* unit; 0 before */
  unsigned char *memory;
  atomic_int failure; /* first errno */
  pthread_t threads[THREADS_MAX];
  atomic_uint thread_count;
  pthread_mutex_t io_mutex;
  int disk, socket;
  uint64_t disk_read, disk_written, net_sent, net_file_sent;
  unsigned char *block;
  atomic_uint_fast64_t digest; /* keeps the computation from being removed */
} state;

static void fail(int error) {
  int none = 0;
  atomic_compare_exchange_strong(&state.failure, &none, error);
}

/* Integer mixing in straight runs: bound by instructions, not by memory. */
static uint64_t compute(uint64_t seed) {
  uint64_t a = seed | 1, b = ~seed, c = seed * 0x9e3779b97f4a7c15u, d = seed + 77;
  for (int i = 0; i < UNIT_ROUNDS; ++i) {
#define MIX(p, q, r) (p += q, r ^= p, r = (r << r##_shift) | (r >> (64 - r##_shift)))
    enum { a_shift = 7, b_shift = 13, c_shift = 29, d_shift = 41 };
    MIX(a, b, d), MIX(c, d, b), MIX(a, c, b), MIX(b, d, a);
    MIX(d, a, c), MIX(b, c, a), MIX(c, a, d), MIX(d, b, c);
    MIX(a, d, b), MIX(b, a, c), MIX(c, b, d), MIX(d, c, a);
#undef MIX
  }
  return a ^ b ^ c ^ d;
}

static void touch_memory(uint64_t target_bytes) {
  uint64_t pages = target_bytes / PAGE_BYTES;
  uint_fast64_t first = atomic_load(&state.next_page);
  while (first < pages) {
    uint64_t end = first + TOUCH_PAGES < pages ? first + TOUCH_PAGES : pages;
    if (!atomic_compare_exchange_weak(&state.next_page, &first, end)) continue;
    for (uint64_t page = first; page < end; ++page) state.memory[page * PAGE_BYTES] = (unsigned char)(page | 1);
    first = atomic_load(&state.next_page);
  }
}

static bool disk_transfer(uint64_t *done, uint64_t due, bool is_write) {
  while (*done + DISK_BLOCK_BYTES <= due) {
    off_t size = lseek(state.disk, 0, SEEK_END);
    off_t offset = (off_t)(*done % (uint64_t)(size - size % DISK_BLOCK_BYTES));
    ssize_t moved = is_write ? pwrite(state.disk, state.block, DISK_BLOCK_BYTES, offset)
                             : pread(state.disk, state.block, DISK_BLOCK_BYTES, offset);
    if (moved != DISK_BLOCK_BYTES) {
      fail(moved < 0 ? errno : EIO);
      return false;
    }
    *done += DISK_BLOCK_BYTES;
  }
  return true;
}

/* The kernel command line's lab.sink=ADDRESS:PORT. */
static bool sink_address(struct sockaddr_in *address) {
  char line[2048] = "", host[32];
  FILE *file = fopen("/proc/cmdline", "re");
  if (file == NULL || fgets(line, sizeof line, file) == NULL) return false;
  fclose(file);
  const char *at = strstr(line, "lab.sink=");
  unsigned port;
  *address = (struct sockaddr_in){.sin_family = AF_INET};
  if (at == NULL || sscanf(at, "lab.sink=%31[0-9.]:%u", host, &port) != 2) return false;
  address->sin_port = htons((uint16_t)port);
  return inet_pton(AF_INET, host, &address->sin_addr) == 1;
}

static bool net_connect(void) {
  struct sockaddr_in address;
  if (!sink_address(&address)) {
    fail(EDESTADDRREQ);
    return false;
  }
  state.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (state.socket >= 0 && connect(state.socket, (struct sockaddr *)&address, sizeof address) == 0) return true;
  fail(errno);
  return false;
}

/* Close after the sink has read everything: it answers our end of stream with its own. */
static void net_close(void) {
  if (state.socket < 0) return;
  char byte;
  shutdown(state.socket, SHUT_WR);
  while (read(state.socket, &byte, 1) > 0) continue;
  close(state.socket);
  state.socket = -1;
  state.net_file_sent = 0;
}

static bool net_transfer(uint64_t due) {
  while (state.net_sent < due) {
    if (state.socket < 0 && !net_connect()) return false;
    uint64_t left = state.plan->net_file_bytes - state.net_file_sent;
    uint64_t length = due - state.net_sent;
    if (length > left) length = left;
    if (length > SEND_BYTES) length = SEND_BYTES;
    ssize_t sent = send(state.socket, state.block, length, MSG_NOSIGNAL);
    if (sent < 0) {
      fail(errno);
      return false;
    }
    state.net_sent += (uint64_t)sent;
    state.net_file_sent += (uint64_t)sent;
    if (state.net_file_sent >= state.plan->net_file_bytes) net_close();
  }
  return true;
}

static void transfer(double fraction) {
  const struct plan *plan = state.plan;
  if (plan->disk_read_bytes + plan->disk_write_bytes + plan->net_bytes == 0) return;
  pthread_mutex_lock(&state.io_mutex);
  if (disk_transfer(&state.disk_read, (uint64_t)((double)plan->disk_read_bytes * fraction), false) &&
      disk_transfer(&state.disk_written, (uint64_t)((double)plan->disk_write_bytes * fraction), true)) {
    net_transfer((uint64_t)((double)plan->net_bytes * fraction));
  }
  pthread_mutex_unlock(&state.io_mutex);
}

static double share(double done, double whole) {
  return done >= whole ? 1 : done / whole;
}

static uint64_t memory_due(uint64_t unit) {
  const struct plan *plan = state.plan;
  double units = (double)plan->units;
  double bytes = (double)plan->memory_bytes * share((double)unit, units * plan->ramp_fraction);
  uint64_t departed_at = atomic_load(&state.departed_at);
  if (departed_at != 0 && unit > departed_at) {
    double after = share((double)(unit - departed_at), units * DEPART_RAMP_FRACTION);
    bytes += (double)plan->memory_bytes * (plan->depart_memory_factor - 1) * after;
  }
  return (uint64_t)bytes;
}

static void *work(void *unused);

static void start_threads(unsigned count) {
  for (; count > 0; --count) {
    unsigned index = atomic_load(&state.thread_count);
    if (index >= THREADS_MAX) return;
    int error = pthread_create(&state.threads[index], NULL, work, NULL);
    if (error != 0) {
      fail(error);
      return;
    }
    atomic_store(&state.thread_count, index + 1);
  }
}

/* The first thread past the departure point changes the plan for all. */
static void maybe_depart(uint64_t unit) {
  const struct plan *plan = state.plan;
  uint64_t at = (uint64_t)((double)plan->units * plan->depart_fraction);
  if (plan->depart_fraction >= 1 || unit < at) return;
  uint_fast64_t before = 0;
  if (!atomic_compare_exchange_strong(&state.departed_at, &before, unit + 1)) return;
  atomic_store(&state.total_units, unit + (uint64_t)((double)(plan->units - unit) * plan->depart_cpu_factor));
  double threads = plan->threads * plan->depart_cpu_factor;
  unsigned whole = (unsigned)threads + (threads > (unsigned)threads);
  start_threads(whole - plan->threads);
}

static void *work(void *unused) {
  uint64_t digest = 0;
  while (atomic_load(&state.failure) == 0) {
    uint64_t unit = atomic_fetch_add(&state.next_unit, 1);
    uint64_t total = atomic_load(&state.total_units);
    if (unit >= total) break;
    maybe_depart(unit);
    digest ^= compute(unit + digest);
    touch_memory(memory_due(unit + 1));
    transfer(share((double)(unit + 1), (double)total));
  }
  atomic_fetch_xor(&state.digest, digest);
  return unused;
}

static bool open_all(const struct plan *plan) {
  size_t bytes = (size_t)((double)plan->memory_bytes * plan->depart_memory_factor) + PAGE_BYTES;
  state.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (state.memory == MAP_FAILED) return false;
  madvise(state.memory, bytes, MADV_NOHUGEPAGE); /* what is touched is what is used */
  state.disk = state.socket = -1;
  if (plan->disk_read_bytes + plan->disk_write_bytes > 0) {
    state.disk = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (state.disk < 0) return false;
  }
  state.block = aligned_alloc(PAGE_BYTES, DISK_BLOCK_BYTES);
  if (state.block == NULL) return false;
  memset(state.block, 0x5a, DISK_BLOCK_BYTES);
  return pthread_mutex_init(&state.io_mutex, NULL) == 0;
}

int execute(const struct plan *plan) {
  state.plan = plan;
  atomic_store(&state.total_units, plan->units);
  if (!open_all(plan)) return errno;
  start_threads(plan->threads);
  for (unsigned joined = 0; joined < atomic_load(&state.thread_count); ++joined) {
    pthread_join(state.threads[joined], NULL);
  }
  net_close();
  return atomic_load(&state.failure);
}
