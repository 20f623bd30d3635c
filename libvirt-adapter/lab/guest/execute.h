/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FORESHADE_LAB_EXECUTE_H
#define FORESHADE_LAB_EXECUTE_H
#include "plan.h"

/* Carry the plan out in this process. Returns 0, or the errno of the disk or network call that failed. */
int execute(const struct plan *plan);
#endif
