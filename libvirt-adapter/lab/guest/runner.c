/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workload runner: reads commands from a virtio-serial port, one JSON object a line, and answers with events.
 *
 *   {"cmd":"ping","seq":1}                    -> {"event":"pong","seq":1,"t":T}
 *   {"cmd":"memory","seq":1}                  -> {"event":"memory","seq":1,"used_kib":N}: MemTotal - MemAvailable
 *   {"cmd":"run","id":"a","workload":"encode",
 *    "params":{...},"seed":7,"depart":{...}}  -> accepted | rejected (reason), then started (t), then finished (t,
 *                                                status done|killed|failed, signal, error, cpu_ms, max_rss_kib)
 *   {"cmd":"cancel","id":"a"}                 -> the run finishes as killed by SIGTERM; unknown ids are ignored
 *
 * T is the guest's clock in ms since the epoch. Each run is a child process that the OOM killer prefers, so the
 * runner outlives what it runs. Events wait in a buffer while nobody listens on the host's side.
 */
#define _GNU_SOURCE
#include "execute.h"
#include "json.h"
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  RUNS_MAX = 8,        /* at once; the guest has 4 vCPUs */
  ID_MAX = 48,
  INPUT_BYTES = 4096,  /* the longest line; a run request is under 512 bytes */
  OUTPUT_BYTES = 65536, /* some 400 events: more than RUNS_MAX runs can leave while the host is away */
  HOST_AWAY_MS = 1000, /* between looks for a host, should its SIGIO have come just before the wait */
};

struct run {
  char id[ID_MAX]; /* "" marks a free slot */
  pid_t pid;
  int reports; /* read end; the child writes its start, and its errno when it fails */
};

struct report {
  double started_ms;
  int error;
};

static struct run runs[RUNS_MAX];
static char output[OUTPUT_BYTES];
static size_t output_length;
static int port = -1;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void flush_output(void) {
  while (output_length > 0) {
    ssize_t written = write(port, output, output_length);
    if (written <= 0) return;
    output_length -= (size_t)written;
    memmove(output, output + written, output_length);
  }
}

static void emit(const char *format, ...) {
  char line[512];
  va_list list;
  va_start(list, format);
  int length = vsnprintf(line, sizeof line - 1, format, list);
  va_end(list);
  if (length < 0 || (size_t)length >= sizeof line - 1) return;
  line[length++] = '\n';
  if (output_length + (size_t)length > sizeof output) return;
  memcpy(output + output_length, line, (size_t)length);
  output_length += (size_t)length;
  flush_output();
}

static void set_oom_score(const char *score) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, score, strlen(score)) < 0) dprintf(STDERR_FILENO, "runner: oom_score_adj: %s\n", strerror(errno));
  close(fd);
}

static struct run *find_run(const char *id) {
  for (int i = 0; i < RUNS_MAX; ++i) {
    if (strcmp(runs[i].id, id) == 0) return &runs[i];
  }
  return NULL;
}

static _Noreturn void child(const struct plan *plan, int reports) {
  set_oom_score("1000");
  struct report report = {.started_ms = now_ms()};
  if (write(reports, &report, sizeof report) != sizeof report) _exit(1);
  report.error = execute(plan);
  if (report.error != 0 && write(reports, &report, sizeof report) != sizeof report) _exit(1);
  _exit(report.error == 0 ? 0 : 1);
}

/* An id is echoed inside JSON, so it may hold only what needs no escape. */
static bool is_plain(const char *id) {
  return *id != '\0' && strlen(id) < ID_MAX &&
         id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")] == '\0';
}

static void start_run(const struct json_object *request) {
  static const char rejected[] = "{\"event\":\"rejected\",\"id\":\"%s\",\"reason\":\"%s\"}";
  const char *id = json_text(request, "id");
  if (id == NULL || !is_plain(id)) {
    emit(rejected, "", "id must be 1 to 47 letters, digits or -_.:");
    return;
  }
  struct plan plan;
  const char *broken = plan_make(request, &plan);
  struct run *run = find_run("");
  if (broken == NULL && find_run(id) != NULL) broken = "a run of that id is going on";
  if (broken == NULL && run == NULL) broken = "8 runs are going on; more than that is not allowed";
  int pipe_ends[2];
  if (broken == NULL && pipe2(pipe_ends, O_CLOEXEC) != 0) broken = "no pipe";
  if (broken != NULL) {
    emit(rejected, id, broken);
    return;
  }
  emit("{\"event\":\"accepted\",\"id\":\"%s\"}", id);
  pid_t pid = fork();
  if (pid == 0) child(&plan, pipe_ends[1]);
  close(pipe_ends[1]);
  if (pid < 0) {
    close(pipe_ends[0]);
    emit("{\"event\":\"finished\",\"id\":\"%s\",\"t\":%.3f,\"status\":\"failed\",\"error\":\"fork\"}", id, now_ms());
    return;
  }
  snprintf(run->id, sizeof run->id, "%s", id);
  run->pid = pid;
  run->reports = pipe_ends[0];
}

static double cpu_ms(const struct rusage *usage) {
  return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1e3 +
         (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e3;
}

static void finish_run(struct run *run, int error) {
  int status = 0;
  struct rusage usage = {0};
  wait4(run->pid, &status, 0, &usage);
  const char *outcome = WIFSIGNALED(status) ? "killed" : WEXITSTATUS(status) == 0 ? "done" : "failed";
  emit("{\"event\":\"finished\",\"id\":\"%s\",\"t\":%.3f,\"status\":\"%s\",\"signal\":%d,\"error\":\"%s\","
       "\"cpu_ms\":%.1f,\"max_rss_kib\":%ld}",
       run->id, now_ms(), outcome, WIFSIGNALED(status) ? WTERMSIG(status) : 0, error == 0 ? "" : strerror(error),
       cpu_ms(&usage), usage.ru_maxrss);
  close(run->reports);
  *run = (struct run){0};
}

/* A report, or the end of the pipe: every thread of the child is gone. */
static void handle_report(struct run *run) {
  static int errors[RUNS_MAX];
  int *error = &errors[run - runs];
  struct report report;
  ssize_t length = read(run->reports, &report, sizeof report);
  if (length != sizeof report) {
    finish_run(run, *error);
    *error = 0;
  } else if (report.error != 0) {
    *error = report.error;
  } else {
    emit("{\"event\":\"started\",\"id\":\"%s\",\"t\":%.3f}", run->id, report.started_ms);
  }
}

/* MemTotal - MemAvailable of proc(5)'s meminfo, KiB; -1 when it cannot be read. The two stand in its first lines. */
static long memory_used_kib(void) {
  char text[256];
  int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  if (length <= 0) return -1;
  text[length] = '\0';
  const char *total = strstr(text, "MemTotal:"), *available = strstr(text, "MemAvailable:");
  if (total == NULL || available == NULL) return -1;
  return strtol(total + strlen("MemTotal:"), NULL, 10) - strtol(available + strlen("MemAvailable:"), NULL, 10);
}

static void handle_line(const char *line) {
  static struct json_object request;
  if (!json_parse(line, &request)) {
    emit("{\"event\":\"rejected\",\"id\":\"\",\"reason\":\"a command must be one JSON object\"}");
    return;
  }
  const char *command = json_text(&request, "cmd");
  if (command != NULL && strcmp(command, "ping") == 0) {
    emit("{\"event\":\"pong\",\"seq\":%.0f,\"t\":%.3f}", json_number(&request, "seq", 0), now_ms());
  } else if (command != NULL && strcmp(command, "memory") == 0) {
    emit("{\"event\":\"memory\",\"seq\":%.0f,\"used_kib\":%ld}", json_number(&request, "seq", 0), memory_used_kib());
  } else if (command != NULL && strcmp(command, "run") == 0) {
    start_run(&request);
  } else if (command != NULL && strcmp(command, "cancel") == 0) {
    const char *id = json_text(&request, "id");
    struct run *run = id == NULL || *id == '\0' ? NULL : find_run(id);
    if (run != NULL) kill(run->pid, SIGTERM);
  } else {
    emit("{\"event\":\"rejected\",\"id\":\"\",\"reason\":\"cmd must be ping, memory, run or cancel\"}");
  }
}

static void handle_input(void) {
  static char input[INPUT_BYTES];
  static size_t length;
  ssize_t count = read(port, input + length, sizeof input - 1 - length);
  if (count <= 0) return;
  length += (size_t)count;
  input[length] = '\0';
  char *start = input;
  for (char *end; (end = strchr(start, '\n')) != NULL; start = end + 1) {
    *end = '\0';
    if (*start != '\0') handle_line(start);
  }
  length -= (size_t)(start - input);
  memmove(input, start, length);
  if (length == sizeof input - 1) length = 0; /* no command is that long: drop it */
}

static void serve(void) {
  bool host_away = false;
  for (;;) {
    struct pollfd fds[1 + RUNS_MAX];
    fds[0] = (struct pollfd){.fd = host_away ? -1 : port, .events = POLLIN | (output_length > 0 ? POLLOUT : 0)};
    for (int i = 0; i < RUNS_MAX; ++i) {
      fds[1 + i] = (struct pollfd){.fd = runs[i].id[0] == '\0' ? -1 : runs[i].reports, .events = POLLIN};
    }
    if (poll(fds, 1 + RUNS_MAX, host_away ? HOST_AWAY_MS : -1) < 0) {
      host_away = false; /* a signal: look again */
      continue;
    }
    host_away = (fds[0].revents & POLLHUP) != 0;
    if (fds[0].revents & POLLOUT) flush_output();
    if (fds[0].revents & POLLIN) handle_input();
    for (int i = 0; i < RUNS_MAX; ++i) {
      if (fds[1 + i].revents != 0) handle_report(&runs[i]);
    }
  }
}

static void on_port_change(int unused) {
  (void)unused; /* it interrupted poll, and that is all it is for */
}

/* A port whose host is away hangs up at each poll, so it is left out of the wait; the kernel signals its return. */
static void watch_host(void) {
  struct sigaction action = {.sa_handler = on_port_change, .sa_flags = SA_RESTART};
  sigaction(SIGIO, &action, NULL);
  fcntl(port, F_SETOWN, getpid());
  fcntl(port, F_SETFL, O_NONBLOCK | O_ASYNC);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    dprintf(STDERR_FILENO, "usage: runner PORT\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  port = open(argv[1], O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (port < 0) {
    dprintf(STDERR_FILENO, "runner: %s: %s\n", argv[1], strerror(errno));
    return 1;
  }
  set_oom_score("-1000");
  watch_host();
  serve();
}
