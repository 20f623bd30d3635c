/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workloads, and the only place that knows what their parameters cost. Need grows non-linearly and differently
 * with each parameter, so that nobody outside can guess it: it has to be learned from what runs used.
 */
#include "plan.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MIB (1024.0 * 1024.0)

/* Standard deviation of the noise on work and memory, as a factor. A real encoder's content varies about this much. */
static const double NOISE_SIGMA = 0.03;

static uint64_t splitmix(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* A factor around 1, its logarithm near normal (a sum of four uniforms), bounded to about +-3.4 sigma. */
static double noise(uint64_t *state) {
  double sum = 0;
  for (int i = 0; i < 4; ++i) sum += (double)(splitmix(state) >> 11) / 9007199254740992.0 - 0.5;
  return exp(NOISE_SIGMA * sum * 1.7320508);
}

/* Parameter `name` as a number in [low, high]; false when absent, not a number or out of range. */
static bool parameter(const struct json_object *request, const char *name, double low, double high, double *value) {
  *value = json_number(request, name, NAN);
  return *value >= low && *value <= high;
}

static void set_work(struct plan *plan, double seconds, double memory_mib, uint64_t *random) {
  plan->units = (uint64_t)ceil(seconds * noise(random) * PLAN_UNITS_PER_SECOND);
  plan->memory_bytes = (uint64_t)(memory_mib * noise(random) * MIB);
}

static const char *plan_encode(const struct json_object *request, struct plan *plan, uint64_t *random) {
  static const struct {
    const char *name;
    double work, memory, two_threads_from_mib;
  } modes[] = {
      {"fast", 0.100, 1.2, INFINITY},
      {"balanced", 0.130, 1.8, 96},
      {"best", 0.158, 2.6, 24},
  };
  double input, level;
  if (!parameter(request, "params.input_mib", 1, 512, &input)) return "params.input_mib must be in [1, 512]";
  if (!parameter(request, "params.level", 1, 9, &level)) return "params.level must be in [1, 9]";
  const char *mode = json_text(request, "params.mode");
  for (size_t i = 0; mode != NULL && i < sizeof modes / sizeof *modes; ++i) {
    if (strcmp(mode, modes[i].name) != 0) continue;
    plan->threads = input >= modes[i].two_threads_from_mib ? 2 : 1;
    double search = 0.6 + 0.045 * pow(level, 1.3);
    double seconds = 1.2 * plan->threads + modes[i].work * pow(input, 0.55) * search;
    double memory = 18 + modes[i].memory * pow(input, 0.75) * (0.55 + 0.05 * level);
    set_work(plan, seconds, memory, random);
    return NULL;
  }
  return "params.mode must be fast, balanced or best";
}

static const char *plan_query(const struct json_object *request, struct plan *plan, uint64_t *random) {
  double rows, joins;
  if (!parameter(request, "params.rows", 1e3, 2e6, &rows)) return "params.rows must be in [1000, 2000000]";
  if (!parameter(request, "params.joins", 0, 5, &joins)) return "params.joins must be in [0, 5]";
  double millions = rows / 1e6;
  set_work(plan, 1.2 + 0.9 * pow(millions, 0.8) * (1 + 0.25 * joins),
           10 + 26 * pow(millions, 0.7) * (1 + 0.45 * joins), random);
  plan->disk_read_bytes = (uint64_t)((8 + 48 * pow(millions, 0.9) * (1 + 0.3 * joins)) * noise(random) * MIB);
  if (joins >= 2) { /* more than one hash table no longer fits: it spills */
    plan->disk_write_bytes = (uint64_t)(12 * (joins - 1) * pow(millions, 0.8) * noise(random) * MIB);
  }
  return NULL;
}

static const char *plan_transfer(const struct json_object *request, struct plan *plan, uint64_t *random) {
  double files, size;
  if (!parameter(request, "params.files", 1, 400, &files)) return "params.files must be in [1, 400]";
  if (!parameter(request, "params.size_kib", 1, 4096, &size)) return "params.size_kib must be in [1, 4096]";
  double mib = files * size / 1024;
  double compressed = 0.35 + 0.4 * exp(-size / 256); /* small files compress badly */
  set_work(plan, 1.0 + 0.002 * pow(files, 1.1) + 0.05 * pow(mib, 0.6), 6 + 1.5 * pow(size, 0.4), random);
  plan->net_bytes = (uint64_t)(mib * compressed * noise(random) * MIB);
  plan->net_file_bytes = (uint64_t)(size * compressed * 1024) + 1;
  return NULL;
}

static const char *plan_departure(const struct json_object *request, struct plan *plan) {
  plan->depart_fraction = json_number(request, "depart.at_fraction", 1);
  plan->depart_memory_factor = json_number(request, "depart.memory_factor", 1);
  plan->depart_cpu_factor = json_number(request, "depart.cpu_factor", 1);
  if (!(plan->depart_fraction > 0 && plan->depart_fraction <= 1)) return "depart.at_fraction must be in (0, 1]";
  if (!(plan->depart_memory_factor >= 1 && plan->depart_memory_factor <= 4)) {
    return "depart.memory_factor must be in [1, 4]";
  }
  if (!(plan->depart_cpu_factor >= 1 && plan->depart_cpu_factor <= 4)) return "depart.cpu_factor must be in [1, 4]";
  return NULL;
}

const char *plan_make(const struct json_object *request, struct plan *plan) {
  static const struct {
    const char *name;
    const char *(*make)(const struct json_object *, struct plan *, uint64_t *);
  } workloads[] = {{"encode", plan_encode}, {"query", plan_query}, {"transfer", plan_transfer}};
  *plan = (struct plan){.threads = 1, .ramp_fraction = 0.35};
  double seed;
  if (!parameter(request, "seed", 0, 9007199254740991.0, &seed)) return "seed must be an integer in [0, 2^53)";
  uint64_t random = (uint64_t)seed;
  const char *name = json_text(request, "workload");
  for (size_t i = 0; name != NULL && i < sizeof workloads / sizeof *workloads; ++i) {
    if (strcmp(name, workloads[i].name) != 0) continue;
    const char *broken = workloads[i].make(request, plan, &random);
    return broken != NULL ? broken : plan_departure(request, plan);
  }
  return "workload must be encode, query or transfer";
}
