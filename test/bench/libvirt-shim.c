/*
 * A libvirt.so of synthetic guests, for what no real libvirt here can show: a host of 1,000 domains, counters above 2^53,
 * calls that hang for as long as they are told. The addon loads it in libvirt's place.
 *
 *   URI      shim:///<domains>          any other URI is refused; shim:///<domains>/guests has what QEMU guests tell of
 *                                       themselves in place of the edges of every type
 *   hang     an agent or monitor command "sleep <ms>" comes back after that time
 *   time     the monitor command "shim-time" gives the nanoseconds of processor time that the last statistics call took
 *            here, "shim-total" those of all of them, their release included
 *   death    the agent command "die" fails, and its connection is dead from then on
 *   events   the agent command "storm <n>" delivers n lifecycle events to the last connection that subscribed
 */
#include <errno.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PARAMETERS_PER_DOMAIN = 88, DOMAINS_MAX = 100000 };

struct _virConnect {
  int domains;
  int alive;
  int like_guests;
};

struct _virDomain {
  virConnectPtr connection;
  int number;
  char name[32];
};

static __thread virError last_error;
static long long stats_time_ns;
static long long stats_total_ns;

/* The one subscription to lifecycle events. */
static struct {
  pthread_mutex_t lock;
  virConnectPtr connection;
  virConnectDomainEventCallback callback;
  void *opaque;
  virFreeCallback release;
} subscription = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void fail(int code, const char *message) {
  last_error.code = code;
  last_error.domain = VIR_FROM_TEST;
  last_error.level = VIR_ERR_ERROR;
  last_error.message = (char *)message;
}

static long long now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* This thread's own processor time: other programs' turns are not ours. */
static long long thread_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Lanes may ask at once. */
static void add_stats_time(long long ns) {
  stats_time_ns = ns;
  __atomic_fetch_add(&stats_total_ns, ns, __ATOMIC_RELAXED);
}

static void sleep_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) < 0 && errno == EINTR) {
  }
}

/* Every public call resets the error, as libvirt's do. */
#define ENTER() memset(&last_error, 0, sizeof last_error)

int virInitialize(void) { return 0; }
virErrorPtr virGetLastError(void) { return &last_error; }
void virSetErrorFunc(void *data, virErrorFunc function) {
  (void)data;
  (void)function;
}
int virEventRegisterDefaultImpl(void) { return 0; }
int virEventRunDefaultImpl(void) {
  sleep_ms(1000);
  return 0;
}

virConnectPtr virConnectOpen(const char *uri) {
  ENTER();
  int domains = 0;
  if (sscanf(uri, "shim:///%d", &domains) != 1 || domains < 0 || domains > DOMAINS_MAX) {
    fail(VIR_ERR_NO_CONNECT, "the shim knows shim:///<domains> only");
    return NULL;
  }
  virConnectPtr connection = calloc(1, sizeof *connection);
  connection->domains = domains;
  connection->alive = 1;
  connection->like_guests = strstr(uri, "/guests") != NULL;
  return connection;
}

int virConnectClose(virConnectPtr connection) {
  ENTER();
  free(connection);
  return 0;
}

int virConnectIsAlive(virConnectPtr connection) {
  ENTER();
  return connection->alive;
}

int virConnectSetKeepAlive(virConnectPtr connection, int interval, unsigned int count) {
  ENTER();
  (void)connection;
  (void)interval;
  (void)count;
  return 0;
}

int virConnectRegisterCloseCallback(virConnectPtr connection, virConnectCloseFunc callback, void *opaque,
                                    virFreeCallback release) {
  ENTER();
  (void)connection;
  (void)callback;
  (void)opaque;
  (void)release;
  fail(VIR_ERR_NO_SUPPORT, "the shim never closes");
  return -1;
}

int virConnectDomainEventRegisterAny(virConnectPtr connection, virDomainPtr domain, int event,
                                     virConnectDomainEventGenericCallback callback, void *opaque,
                                     virFreeCallback release) {
  ENTER();
  (void)domain;
  if (event != VIR_DOMAIN_EVENT_ID_LIFECYCLE) {
    fail(VIR_ERR_NO_SUPPORT, "the shim has lifecycle events only");
    return -1;
  }
  pthread_mutex_lock(&subscription.lock);
  subscription.connection = connection;
  subscription.callback = (virConnectDomainEventCallback)(void *)callback;
  subscription.opaque = opaque;
  subscription.release = release;
  pthread_mutex_unlock(&subscription.lock);
  return 0;
}

int virConnectDomainEventDeregisterAny(virConnectPtr connection, int id) {
  ENTER();
  (void)id;
  pthread_mutex_lock(&subscription.lock);
  if (subscription.connection == connection) {
    subscription.release(subscription.opaque);
    subscription.callback = NULL;
  }
  pthread_mutex_unlock(&subscription.lock);
  return 0;
}

static virDomainPtr new_domain(virConnectPtr connection, int number) {
  virDomainPtr domain = calloc(1, sizeof *domain);
  domain->connection = connection;
  domain->number = number;
  snprintf(domain->name, sizeof domain->name, "guest-%d", number);
  return domain;
}

virDomainPtr virDomainLookupByName(virConnectPtr connection, const char *name) {
  ENTER();
  int number = -1;
  if (sscanf(name, "guest-%d", &number) != 1 || number < 0 || number >= connection->domains) {
    fail(VIR_ERR_NO_DOMAIN, "no such guest");
    return NULL;
  }
  return new_domain(connection, number);
}

virDomainPtr virDomainLookupByUUIDString(virConnectPtr connection, const char *uuid) {
  ENTER();
  int number = -1;
  if (sscanf(uuid, "00000000-0000-0000-0000-%d", &number) != 1 || number < 0 || number >= connection->domains) {
    fail(VIR_ERR_NO_DOMAIN, "no such guest");
    return NULL;
  }
  return new_domain(connection, number);
}

int virDomainFree(virDomainPtr domain) {
  free(domain);
  return 0;
}

const char *virDomainGetName(virDomainPtr domain) { return domain->name; }
unsigned int virDomainGetID(virDomainPtr domain) { return domain->number + 1; }
int virDomainGetUUIDString(virDomainPtr domain, char *buffer) {
  snprintf(buffer, VIR_UUID_STRING_BUFLEN, "00000000-0000-0000-0000-%012d", domain->number);
  return 0;
}

int virConnectListAllDomains(virConnectPtr connection, virDomainPtr **domains, unsigned int flags) {
  ENTER();
  (void)flags;
  *domains = calloc(connection->domains + 1, sizeof **domains);
  for (int i = 0; i < connection->domains; ++i) (*domains)[i] = new_domain(connection, i);
  return connection->domains;
}

/* The edges of every type first, then two strings, then counters that differ by domain. */
static void fill(virTypedParameterPtr p, int index, int domain) {
  snprintf(p->field, sizeof p->field, "shim.%d", index);
  p->type = VIR_TYPED_PARAM_ULLONG;
  switch (index) {
    case 0: p->value.ul = 18446744073709551615ULL; return;
    case 1: p->value.ul = 9007199254740993ULL; return; /* 2^53 + 1 */
    case 2: p->type = VIR_TYPED_PARAM_LLONG; p->value.l = -9223372036854775807LL - 1; return;
    case 3: p->type = VIR_TYPED_PARAM_INT; p->value.i = -2147483647 - 1; return;
    case 4: p->type = VIR_TYPED_PARAM_UINT; p->value.ui = 4294967295U; return;
    case 5: p->type = VIR_TYPED_PARAM_DOUBLE; p->value.d = 0.1; return;
    case 6: p->type = VIR_TYPED_PARAM_BOOLEAN; p->value.b = 1; return;
    case 7: p->type = VIR_TYPED_PARAM_STRING; p->value.s = strdup("vda"); return;
    case 8: {
      char path[64];
      snprintf(path, sizeof path, "/images/guest-%d.qcow2", domain);
      p->type = VIR_TYPED_PARAM_STRING;
      p->value.s = strdup(path);
      return;
    }
    default: p->value.ul = (unsigned long long)domain * 1000 + index; return;
  }
}

/* What libvirt 9 tells of a running guest of four vCPUs, two disks and two interfaces, its counters rising with time. */
static int fill_like_guest(virTypedParameterPtr params, int domain) {
  const unsigned long long ms = (unsigned long long)(now_ns() / 1000000);
  int n = 0;
#define NUMBER(number, ...)                                          \
  do {                                                               \
    snprintf(params[n].field, sizeof params[n].field, __VA_ARGS__);  \
    params[n].type = VIR_TYPED_PARAM_ULLONG;                         \
    params[n++].value.ul = (number);                                 \
  } while (0)
#define TEXT(text, ...)                                              \
  do {                                                               \
    snprintf(params[n].field, sizeof params[n].field, __VA_ARGS__);  \
    params[n].type = VIR_TYPED_PARAM_STRING;                         \
    params[n++].value.s = strdup(text);                              \
  } while (0)
  NUMBER(VIR_DOMAIN_RUNNING, "state.state");
  NUMBER(1, "state.reason");
  NUMBER(ms * 300000, "cpu.time"); /* 0.3 of a core */
  NUMBER(ms * 200000, "cpu.user");
  NUMBER(ms * 100000, "cpu.system");
  static const char *const BALLOON[] = {"maximum", "swap_in", "swap_out", "minor_fault", "unused", "available", "rss",
                                        "disk_caches"};
  NUMBER(1048576, "balloon.current");
  NUMBER(500000 + ms % 100000, "balloon.usable");
  NUMBER((unsigned long long)time(NULL), "balloon.last-update");
  NUMBER(ms / 1000, "balloon.major_fault");
  for (unsigned i = 0; i < sizeof BALLOON / sizeof *BALLOON; ++i) NUMBER(900000 + i, "balloon.%s", BALLOON[i]);
  NUMBER(4, "vcpu.current");
  NUMBER(4, "vcpu.maximum");
  static const char *const VCPU[] = {"state", "time", "wait", "delay"};
  for (int v = 0; v < 4; ++v)
    for (int i = 0; i < 4; ++i) NUMBER(ms * 1000, "vcpu.%d.%s", v, VCPU[i]);
  static const char *const NET[] = {"rx.bytes", "rx.pkts", "rx.errs", "rx.drop",
                                    "tx.bytes", "tx.pkts", "tx.errs", "tx.drop"};
  NUMBER(2, "net.count");
  for (int d = 0; d < 2; ++d) {
    TEXT("vnet0", "net.%d.name", d);
    for (int i = 0; i < 8; ++i) NUMBER(ms * 100 + domain, "net.%d.%s", d, NET[i]);
  }
  static const char *const BLOCK[] = {"rd.reqs", "rd.bytes", "rd.times", "wr.reqs",    "wr.bytes",
                                      "wr.times", "fl.reqs",  "fl.times", "allocation", "capacity", "physical"};
  NUMBER(2, "block.count");
  for (int d = 0; d < 2; ++d) {
    TEXT("vda", "block.%d.name", d);
    TEXT("/images/guest.qcow2", "block.%d.path", d);
    for (int i = 0; i < 11; ++i) NUMBER(ms * 200 + domain, "block.%d.%s", d, BLOCK[i]);
  }
  while (n < PARAMETERS_PER_DOMAIN) NUMBER(ms, "iothread.%d.poll-max-ns", n);
#undef NUMBER
#undef TEXT
  return n;
}

static virDomainStatsRecordPtr record_of(virConnectPtr connection, int number) {
  virDomainStatsRecordPtr record = calloc(1, sizeof *record);
  record->dom = new_domain(connection, number);
  record->nparams = PARAMETERS_PER_DOMAIN;
  record->params = calloc(PARAMETERS_PER_DOMAIN, sizeof *record->params);
  if (connection->like_guests) {
    fill_like_guest(record->params, number);
  } else {
    for (int i = 0; i < PARAMETERS_PER_DOMAIN; ++i) fill(&record->params[i], i, number);
  }
  return record;
}

int virConnectGetAllDomainStats(virConnectPtr connection, unsigned int groups, virDomainStatsRecordPtr **records,
                                unsigned int flags) {
  ENTER();
  (void)groups;
  (void)flags;
  const long long start = thread_ns();
  *records = calloc(connection->domains + 1, sizeof **records);
  for (int d = 0; d < connection->domains; ++d) (*records)[d] = record_of(connection, d);
  add_stats_time(thread_ns() - start);
  return connection->domains;
}

int virDomainListGetStats(virDomainPtr *domains, unsigned int groups, virDomainStatsRecordPtr **records,
                          unsigned int flags) {
  ENTER();
  (void)groups;
  (void)flags;
  const long long start = thread_ns();
  int count = 0;
  while (domains[count] != NULL) ++count;
  *records = calloc(count + 1, sizeof **records);
  for (int d = 0; d < count; ++d) (*records)[d] = record_of(domains[d]->connection, domains[d]->number);
  add_stats_time(thread_ns() - start);
  return count;
}

char *virDomainGetXMLDesc(virDomainPtr domain, unsigned int flags) {
  ENTER();
  (void)flags;
  char xml[1024];
  snprintf(xml, sizeof xml,
           "<domain type='kvm' id='%d'><name>%s</name><uuid>00000000-0000-0000-0000-%012d</uuid>"
           "<memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>1048576</currentMemory><vcpu>4</vcpu>"
           "<devices><memballoon model='virtio'/></devices></domain>",
           domain->number + 1, domain->name, domain->number);
  return strdup(xml);
}

int virDomainSetMemoryStatsPeriod(virDomainPtr domain, int period, unsigned int flags) {
  ENTER();
  (void)domain;
  (void)period;
  (void)flags;
  return 0;
}

void virTypedParamsFree(virTypedParameterPtr params, int count) {
  for (int i = 0; i < count; ++i) {
    if (params[i].type == VIR_TYPED_PARAM_STRING) free(params[i].value.s);
  }
  free(params);
}

void virDomainStatsRecordListFree(virDomainStatsRecordPtr *records) {
  const long long start = thread_ns();
  for (virDomainStatsRecordPtr *next = records; *next != NULL; ++next) {
    virTypedParamsFree((*next)->params, (*next)->nparams);
    virDomainFree((*next)->dom);
    free(*next);
  }
  free(records);
  __atomic_fetch_add(&stats_total_ns, thread_ns() - start, __ATOMIC_RELAXED);
}

int virDomainGetVcpusFlags(virDomainPtr domain, unsigned int flags) {
  ENTER();
  (void)flags;
  return domain->number + 1;
}

static void obey_sleep(const char *command) {
  long ms = 0;
  if (sscanf(command, "sleep %ld", &ms) == 1) sleep_ms(ms);
}

static void obey_storm(virDomainPtr domain, const char *command) {
  int count = 0;
  if (sscanf(command, "storm %d", &count) != 1) return;
  pthread_mutex_lock(&subscription.lock);
  for (int i = 0; i < count && subscription.callback != NULL; ++i) {
    subscription.callback(subscription.connection, domain, VIR_DOMAIN_EVENT_RESUMED, i, subscription.opaque);
  }
  pthread_mutex_unlock(&subscription.lock);
}

char *virDomainQemuAgentCommand(virDomainPtr domain, const char *command, int timeout, unsigned int flags) {
  ENTER();
  (void)timeout;
  (void)flags;
  obey_sleep(command);
  obey_storm(domain, command);
  if (strcmp(command, "die") == 0) {
    domain->connection->alive = 0;
    fail(VIR_ERR_RPC, "the shim was told to die");
    return NULL;
  }
  return strdup(command);
}

int virDomainQemuMonitorCommand(virDomainPtr domain, const char *command, char **result, unsigned int flags) {
  ENTER();
  (void)domain;
  (void)flags;
  obey_sleep(command);
  char text[32];
  const int asks_total = strcmp(command, "shim-total") == 0;
  snprintf(text, sizeof text, "%lld", asks_total ? stats_total_ns : stats_time_ns);
  *result = strdup(asks_total || strcmp(command, "shim-time") == 0 ? text : command);
  return 0;
}
