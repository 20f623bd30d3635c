/* SPDX-License-Identifier: Apache-2.0 */
/* What one run of a workload will do. Made from its parameters by workloads.c, carried out by execute.c. */
#ifndef FORESHADE_LAB_PLAN_H
#define FORESHADE_LAB_PLAN_H
#include "json.h"

#include <stdint.h>

struct plan {
  unsigned threads;
  uint64_t units; /* of computation, about 5 ms each on the reference host (TCG, one busy core) */
  uint64_t memory_bytes;
  double ramp_fraction; /* of the run over which the memory is touched */
  uint64_t disk_read_bytes;
  uint64_t disk_write_bytes;
  uint64_t net_bytes;
  uint64_t net_file_bytes; /* a new connection after so many bytes */
  /* The run departs from its parameters once this share of its units is done; 1 means it does not. */
  double depart_fraction;
  double depart_memory_factor;
  double depart_cpu_factor; /* on the work that is left, and on the threads, rounded up */
};

/* Units of computation the reference host does in a second on one vCPU. */
enum { PLAN_UNITS_PER_SECOND = 200 };

/*
 * Make the plan of a run request (members workload, params.*, seed, depart.*).
 * Returns NULL, or the rule that the request breaks.
 */
const char *plan_make(const struct json_object *request, struct plan *plan);
#endif
