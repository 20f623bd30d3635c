/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the class of each instruction that stands on standard input, one line of hexadecimal digits each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../libvirt-adapter/icount/insn-class.h"

static const char *const NAMES[] = {"system", "crypto", "vector", "branch", "memory", "other"};

int main(void) {
  char line[80];
  while (fgets(line, sizeof line, stdin) != NULL) {
    size_t length = strcspn(line, "\n") / 2;
    /* Of the exact size, so that a sanitizer sees a read beyond the end. */
    unsigned char *bytes = malloc(length);
    for (size_t i = 0; i < length; ++i) sscanf(line + 2 * i, "%2hhx", &bytes[i]);
    puts(NAMES[insn_class_of(bytes, length)]);
    free(bytes);
  }
}
