// One compiled loop behind Node's C interface: work of a known length that no garbage collector and no compiler of JavaScript touches.
#include <math.h>
#include <node_api.h>
#include <stddef.h>

/** spin(steps): so many square roots that each wait for the one before. */
static napi_value spin(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  double steps = 0, x = 0;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  napi_get_value_double(env, argument, &steps);
  for (double i = 1; i <= steps; i += 1) x += sqrt(i) / (x + 1);
  napi_create_double(env, x, &result);
  return result;
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "spin", NAPI_AUTO_LENGTH, spin, NULL, &function);
  napi_set_named_property(env, exports, "spin", function);
  return exports;
}
