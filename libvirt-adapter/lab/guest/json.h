/* SPDX-License-Identifier: Apache-2.0 */
/* One JSON object, flattened: {"a":{"b":1}} becomes the member "a.b". Enough for a line protocol with no arrays. */
#ifndef FORESHADE_LAB_JSON_H
#define FORESHADE_LAB_JSON_H
#include <stdbool.h>
#include <stddef.h>

/* Members of one object. A run has 14 at most; twice that leaves room and keeps the parser off the heap. */
enum { JSON_MEMBERS_MAX = 32, JSON_NAME_MAX = 64, JSON_TEXT_MAX = 96 };

struct json_member {
  char name[JSON_NAME_MAX];
  char text[JSON_TEXT_MAX]; /* the string, or the number as it was written */
  double number;            /* NaN for a string */
};

struct json_object {
  size_t count;
  struct json_member members[JSON_MEMBERS_MAX];
};

/* Parse one object. False when the text is not JSON, holds an array, nests deeper than 4, or passes a bound above. */
bool json_parse(const char *text, struct json_object *object);

/* The member's string, or NULL when it is absent or a number. */
const char *json_text(const struct json_object *object, const char *name);

/* The member's number, or `absent` when it is absent or a string. */
double json_number(const struct json_object *object, const char *name, double absent);
#endif
