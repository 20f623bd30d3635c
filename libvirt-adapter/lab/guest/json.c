/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 4 };

static const char *skip_space(const char *at) {
  return at + strspn(at, " \t\r\n");
}

/* Read a string without escapes beyond \" and \\ ; returns the first byte after it, or NULL. */
static const char *read_string(const char *at, char *out, size_t size) {
  if (*at++ != '"') return NULL;
  size_t length = 0;
  while (*at != '"') {
    if (*at == '\\' && (at[1] == '"' || at[1] == '\\')) ++at;
    else if (*at == '\\' || (unsigned char)*at < ' ') return NULL; /* also the end of the text */
    if (length + 1 >= size) return NULL;
    out[length++] = *at++;
  }
  out[length] = '\0';
  return at + 1;
}

static const char *read_scalar(const char *at, struct json_member *member) {
  if (*at == '"') {
    member->number = NAN;
    return read_string(at, member->text, sizeof member->text);
  }
  static const struct {
    const char *word;
    double number;
  } words[] = {{"true", 1}, {"false", 0}, {"null", 0}};
  for (size_t i = 0; i < sizeof words / sizeof *words; ++i) {
    size_t length = strlen(words[i].word);
    if (strncmp(at, words[i].word, length) != 0) continue;
    snprintf(member->text, sizeof member->text, "%s", words[i].word);
    member->number = words[i].number;
    return at + length;
  }
  size_t length = strspn(at, "+-.0123456789eE");
  if (length == 0 || length >= sizeof member->text) return NULL;
  memcpy(member->text, at, length);
  member->text[length] = '\0';
  char *end = NULL;
  member->number = strtod(member->text, &end);
  return *end == '\0' && isfinite(member->number) ? at + length : NULL;
}

static const char *read_object(const char *at, const char *prefix, int depth, struct json_object *object) {
  if (*at != '{' || depth > DEPTH_MAX) return NULL;
  at = skip_space(at + 1);
  if (*at == '}') return at + 1;
  for (;;) {
    char key[JSON_NAME_MAX / 2];
    char name[JSON_NAME_MAX];
    at = read_string(at, key, sizeof key);
    if (at == NULL) return NULL;
    int length = snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", key);
    if (length < 0 || (size_t)length >= sizeof name) return NULL;
    at = skip_space(at);
    if (*at != ':') return NULL;
    at = skip_space(at + 1);
    if (*at == '{') {
      at = read_object(at, name, depth + 1, object);
    } else {
      if (object->count >= JSON_MEMBERS_MAX) return NULL;
      struct json_member *member = &object->members[object->count++];
      memcpy(member->name, name, sizeof name);
      at = read_scalar(at, member);
    }
    if (at == NULL) return NULL;
    at = skip_space(at);
    if (*at == '}') return at + 1;
    if (*at != ',') return NULL;
    at = skip_space(at + 1);
  }
}

bool json_parse(const char *text, struct json_object *object) {
  object->count = 0;
  const char *end = read_object(skip_space(text), "", 0, object);
  return end != NULL && *skip_space(end) == '\0';
}

static const struct json_member *find(const struct json_object *object, const char *name) {
  for (size_t i = 0; i < object->count; ++i) {
    if (strcmp(object->members[i].name, name) == 0) return &object->members[i];
  }
  return NULL;
}

const char *json_text(const struct json_object *object, const char *name) {
  const struct json_member *member = find(object, name);
  return member != NULL && isnan(member->number) ? member->text : NULL;
}

double json_number(const struct json_object *object, const char *name, double absent) {
  const struct json_member *member = find(object, name);
  return member != NULL && !isnan(member->number) ? member->number : absent;
}
