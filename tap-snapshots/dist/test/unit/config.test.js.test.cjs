/* IMPORTANT
 * This snapshot file is auto-generated, but designed for humans.
 * It should be checked into source control and tracked carefully.
 * Re-generate by setting TAP_SNAPSHOT=1 and running tests.
 * Make sure to inspect the output below.  Do not ignore changes!
 */
'use strict'
exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > a guest in two groups 1`] = `
foreshade.toml: 1 problem
  groups: no guest may be in two groups
`

exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > a key of the prototype 1`] = `
foreshade.toml: 2 problems
  host.constructor: unknown key
  __proto__: unknown key
`

exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > a socket beyond the kernel's bound 1`] = `
foreshade.toml: 1 problem
  service.socket: must be an absolute path of at most 97 characters; got "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
`

exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > a token for nobody 1`] = `
foreshade.toml: 1 problem
  scale.webhook_token_file: needs scale.webhook_url: without it there is nobody to send it to; got "/etc/foreshade/token" and nothing
`

exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > a URL that holds a password 1`] = `
foreshade.toml: 1 problem
  scale.webhook_url: must be an http or https URL without user and password; got "https://…@example.org/"
`

exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > groups that cannot be 1`] = `
foreshade.toml: 5 problems
  groups.web.guests: must be a list of 1 to 256 names or UUIDs of guests, none twice; got nothing
  groups.web.spare: must be a whole number from 0 to 256; got -1
  groups.db.guests: must be a list of 1 to 256 names or UUIDs of guests, none twice; got a table, an array or a date
  scale.webhook_url: must be an http or https URL without user and password; got "ftp://example.org"
  scale.webhook_token_file: must be an absolute path of at most 4,096 characters; got "token"
`

exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > many at once 1`] = `
foreshade.toml: 9 problems
  state_dir: must be an absolute path of at most 4,096 characters; got "relative"
  host.mode: must be one of "shadow", "advise", "enforce"; got "fast"
  host.reserved: must be a section ([...]); got 5
  host.mdoe: unknown key; did you mean host.mode?
  service.tcp: must be a loopback address and a port, such as "127.0.0.1:7443" or "[::1]:7443": until callers are authorised, other addresses are refused; got "0.0.0.0:80"
  engine.tick_ms: must be a whole number from 100 to 60,000; got 5
  engine.quantile.normal: must be a number from 0.5 to 0.99; got "x"
  nonsense: unknown key
  engine.deadband_fraction: must be below engine.shrink_step_fraction: else no step ever leaves the dead band; got 0.05 and 0.02
`

exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > not TOML 1`] = `
foreshade.toml: 1 problem
  line 1: Invalid TOML document: invalid value
`

exports[`dist/test/unit/config.test.js > TAP > refusals name every problem with its path and its rule > numbers that are none 1`] = `
foreshade.toml: 3 problems
  engine.deadband_fraction: must be a number from 0 to 0.5; got -0.1
  engine.cooldown_ms: must be a whole number from 0 to 3,600,000; got NaN
  engine.queue_max: must be a whole number from 0 to 100,000; got 1.5
`
