/* SPDX-License-Identifier: Apache-2.0 */
/* Accepts TCP connections and discards what arrives: the other end of the lab's `transfer` workload. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 64, READ_BYTES = 262144 };

static int listen_on(unsigned port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, CONNECTIONS_MAX) == 0) return fd;
  fprintf(stderr, "sink: port %u: %s\n", port, strerror(errno));
  exit(1);
}

/* fds[0] listens; a free slot has fd -1, which poll passes over. */
static void serve(struct pollfd *fds, char *buffer) {
  for (;;) {
    if (poll(fds, CONNECTIONS_MAX, -1) < 0) continue;
    for (int i = 1; i < CONNECTIONS_MAX; ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0 || read(fds[i].fd, buffer, READ_BYTES) > 0) continue;
      close(fds[i].fd);
      fds[i].fd = -1;
    }
    if (fds[0].revents == 0) continue;
    int fd = accept4(fds[0].fd, NULL, NULL, SOCK_CLOEXEC);
    int slot = 1;
    while (slot < CONNECTIONS_MAX && fds[slot].fd >= 0) ++slot;
    if (fd >= 0 && slot < CONNECTIONS_MAX) fds[slot].fd = fd;
    else if (fd >= 0) close(fd);
  }
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: sink PORT\n");
    return 2;
  }
  struct pollfd fds[CONNECTIONS_MAX];
  for (int i = 0; i < CONNECTIONS_MAX; ++i) fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
  fds[0].fd = listen_on((unsigned)atoi(argv[1]));
  serve(fds, malloc(READ_BYTES));
}
