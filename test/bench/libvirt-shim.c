/*
 * A libvirt.so of synthetic guests, for what no real libvirt here can show: a host of 1,000 domains, counters above 2^53,
 * calls that hang for as long as they are told. The addon loads it in libvirt's place.
 *
 *   URI      shim:///<domains>          any other URI is refused
 *   hang     an agent or monitor command "sleep <ms>" comes back after that time
 *   time     the monitor command "shim-time" gives the nanoseconds that the last statistics call took here
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
};

struct _virDomain {
  virConnectPtr connection;
  int number;
  char name[32];
};

static __thread virError last_error;
static long long stats_time_ns;

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

int virConnectGetAllDomainStats(virConnectPtr connection, unsigned int groups, virDomainStatsRecordPtr **records,
                                unsigned int flags) {
  ENTER();
  (void)groups;
  (void)flags;
  const long long start = now_ns();
  *records = calloc(connection->domains + 1, sizeof **records);
  for (int d = 0; d < connection->domains; ++d) {
    virDomainStatsRecordPtr record = (*records)[d] = calloc(1, sizeof *record);
    record->dom = new_domain(connection, d);
    record->nparams = PARAMETERS_PER_DOMAIN;
    record->params = calloc(PARAMETERS_PER_DOMAIN, sizeof *record->params);
    for (int i = 0; i < PARAMETERS_PER_DOMAIN; ++i) fill(&record->params[i], i, d);
  }
  stats_time_ns = now_ns() - start;
  return connection->domains;
}

void virTypedParamsFree(virTypedParameterPtr params, int count) {
  for (int i = 0; i < count; ++i) {
    if (params[i].type == VIR_TYPED_PARAM_STRING) free(params[i].value.s);
  }
  free(params);
}

void virDomainStatsRecordListFree(virDomainStatsRecordPtr *records) {
  for (virDomainStatsRecordPtr *next = records; *next != NULL; ++next) {
    virTypedParamsFree((*next)->params, (*next)->nparams);
    virDomainFree((*next)->dom);
    free(*next);
  }
  free(records);
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
  snprintf(text, sizeof text, "%lld", stats_time_ns);
  *result = strdup(strcmp(command, "shim-time") == 0 ? text : command);
  return 0;
}
