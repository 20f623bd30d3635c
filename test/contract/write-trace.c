// Preloaded into a process that writes a ledger: appends every write to data.mdb, and every sync of it, to the file that
// WRITE_TRACE names. One record: u32 kind, u32 length, u64 offset, then the bytes of a write. Native byte order.
// Kinds: 1 write; 2 write that is itself synced (O_DSYNC, O_SYNC); 3 sync; 4 truncate, its offset the new size; 5 bytes
// written to stdout: what the process has promised by then.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE = 1, SYNCED_WRITE = 2, SYNC = 3, TRUNCATE = 4, PROMISE = 5 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace_fd = -1;

/* The real call, which this library stands before. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void open_trace(void) {
  const char *path = getenv("WRITE_TRACE");
  if (path != NULL) trace_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_data(int fd) {
  char link[64], path[4096];
  if (trace_fd < 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  const char *name = strrchr(path, '/');
  return name != NULL && strcmp(name, "/data.mdb") == 0;
}

static enum kind write_kind(int fd) {
  return fcntl(fd, F_GETFL) & O_DSYNC ? SYNCED_WRITE : WRITE; /* O_SYNC contains O_DSYNC */
}

/* One record in one write, so that a kill never leaves half of a header behind a whole one. */
static void record(enum kind kind, uint64_t offset, const struct iovec *parts, int count, size_t length) {
  size_t left = length;
  char *bytes = malloc(16 + length), *at = bytes + 16;
  uint32_t head[2] = {kind, (uint32_t)length};
  if (bytes == NULL) abort();
  memcpy(bytes, head, sizeof head);
  memcpy(bytes + 8, &offset, sizeof offset);
  for (int i = 0; i < count && left > 0; i++) {
    size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
    memcpy(at, parts[i].iov_base, part);
    at += part;
    left -= part;
  }
  pthread_mutex_lock(&lock);
  if (REAL(write)(trace_fd, bytes, 16 + length) != (ssize_t)(16 + length)) abort();
  pthread_mutex_unlock(&lock);
  free(bytes);
}

static ssize_t wrote(int fd, uint64_t offset, const struct iovec *parts, int count, ssize_t done) {
  if (done > 0 && is_data(fd)) record(write_kind(fd), offset, parts, count, (size_t)done);
  return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  struct iovec part = {(void *)bytes, length};
  return wrote(fd, (uint64_t)offset, &part, 1, REAL(pwrite)(fd, bytes, length, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
  struct iovec part = {(void *)bytes, length};
  return wrote(fd, (uint64_t)offset, &part, 1, REAL(pwrite64)(fd, bytes, length, offset));
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  return wrote(fd, (uint64_t)offset, parts, count, REAL(pwritev)(fd, parts, count, offset));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
  return wrote(fd, (uint64_t)offset, parts, count, REAL(pwritev64)(fd, parts, count, offset));
}

ssize_t write(int fd, const void *bytes, size_t length) {
  struct iovec part = {(void *)bytes, length};
  off_t at = is_data(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  if (fd == STDOUT_FILENO && trace_fd >= 0) record(PROMISE, 0, &part, 1, length);
  return wrote(fd, (uint64_t)at, &part, 1, REAL(write)(fd, bytes, length));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  off_t at = is_data(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  return wrote(fd, (uint64_t)at, parts, count, REAL(writev)(fd, parts, count));
}

/* What was written before the call began is on the disk when it returns: so the record comes before the call's return. */
static int synced(int is_ours, int result) {
  if (is_ours && result == 0) record(SYNC, 0, NULL, 0, 0);
  return result;
}

int fsync(int fd) { return synced(is_data(fd), REAL(fsync)(fd)); }
int fdatasync(int fd) { return synced(is_data(fd), REAL(fdatasync)(fd)); }
int msync(void *at, size_t length, int flags) { return synced(flags & MS_SYNC, REAL(msync)(at, length, flags)); }

int ftruncate(int fd, off_t size) {
  int result = REAL(ftruncate)(fd, size);
  if (result == 0 && is_data(fd)) record(TRUNCATE, (uint64_t)size, NULL, 0, 0);
  return result;
}

int ftruncate64(int fd, off64_t size) {
  int result = REAL(ftruncate64)(fd, size);
  if (result == 0 && is_data(fd)) record(TRUNCATE, (uint64_t)size, NULL, 0, 0);
  return result;
}
