/* IMPORTANT
 * This snapshot file is auto-generated, but designed for humans.
 * It should be checked into source control and tracked carefully.
 * Re-generate by setting TAP_SNAPSHOT=1 and running tests.
 * Make sure to inspect the output below.  Do not ignore changes!
 */
'use strict'
exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > forecast alpha --workload encode --param level=9 1`] = `
guest          6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001
from           parameters of 14 runs (14 runs)
as of          2023-11-14T22:13:20.000+00:00
would ask for  1.50 cores on 2 vCPU, 256 MiB

PEAK             5 %        50 %        80 %        90 %        95 %        99 %
cpu       0.10 cores  0.60 cores  0.90 cores  1.00 cores  1.10 cores  1.20 cores
run time         1 s         6 s         9 s        10 s        11 s        12 s

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > forecast alpha 1`] = `
guest  6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001
from   parameters of 14 runs (14 runs)
as of  2023-11-14T22:13:20.000+00:00

PEAK             5 %        50 %        80 %        90 %        95 %        99 %
cpu       0.10 cores  0.60 cores  0.90 cores  1.00 cores  1.10 cores  1.20 cores
run time         1 s         6 s         9 s        10 s        11 s        12 s

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > guest adopt alpha --mode advise 1`] = `
guest         alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
state         running
mode          advise
entitled to   1.50 cores on 2 vCPU, 256 MiB
ceiling       4.00 cores on 4 vCPU, 1,024 MiB
uses          0.50 cores, - at 2023-11-14T22:13:20.500+00:00
baseline      1.50 cores on 2 vCPU, 256 MiB, since 2023-11-14T22:13:19.000+00:00
relinquished  net (changed by somebody else)
lead times    memory 0.812 s
can           cpu-quota, vcpu-plug, agent, balloon, disk-limits
leases        lease-id-1, lease-shown

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > guest list 1`] = `
NAME   STATE    MODE     ENTITLED TO                    USES           LEASES
alpha  running  enforce  1.50 cores on 2 vCPU, 256 MiB  0.50 cores, -  3

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > guest mode alpha enforce 1`] = `
guest         alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
state         running
mode          enforce
entitled to   1.50 cores on 2 vCPU, 256 MiB
ceiling       4.00 cores on 4 vCPU, 1,024 MiB
uses          0.50 cores, - at 2023-11-14T22:13:20.500+00:00
baseline      1.50 cores on 2 vCPU, 256 MiB, since 2023-11-14T22:13:19.000+00:00
relinquished  net (changed by somebody else)
lead times    memory 0.812 s
can           cpu-quota, vcpu-plug, agent, balloon, disk-limits
leases        lease-id-1, lease-shown

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > guest release alpha 1`] = `
guest        alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
state        running
mode         not adopted
entitled to  1.50 cores on 2 vCPU, 256 MiB
ceiling      4.00 cores on 4 vCPU, 1,024 MiB
uses         0.50 cores, - at 2023-11-14T22:13:20.500+00:00
can          cpu-quota, vcpu-plug, agent, balloon, disk-limits
leases       lease-id-1, lease-shown

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > guest restore alpha 1`] = `
guest         alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
state         running
mode          enforce
entitled to   1.50 cores on 2 vCPU, 256 MiB
ceiling       4.00 cores on 4 vCPU, 1,024 MiB
uses          0.50 cores, - at 2023-11-14T22:13:20.500+00:00
baseline      1.50 cores on 2 vCPU, 256 MiB, since 2023-11-14T22:13:19.000+00:00
relinquished  net (changed by somebody else)
lead times    memory 0.812 s
can           cpu-quota, vcpu-plug, agent, balloon, disk-limits
leases        lease-id-1, lease-shown

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > guest sampling alpha --full 5s --instructions 1e6 1`] = `
guest         alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
state         running
mode          enforce
entitled to   1.50 cores on 2 vCPU, 256 MiB
ceiling       4.00 cores on 4 vCPU, 1,024 MiB
uses          0.50 cores, - at 2023-11-14T22:13:20.500+00:00
baseline      1.50 cores on 2 vCPU, 256 MiB, since 2023-11-14T22:13:19.000+00:00
relinquished  net (changed by somebody else)
lead times    memory 0.812 s
can           cpu-quota, vcpu-plug, agent, balloon, disk-limits
leases        lease-id-1, lease-shown

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > guest show alpha 1`] = `
guest         alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
state         running
mode          enforce
entitled to   1.50 cores on 2 vCPU, 256 MiB
ceiling       4.00 cores on 4 vCPU, 1,024 MiB
uses          0.50 cores, - at 2023-11-14T22:13:20.500+00:00
baseline      1.50 cores on 2 vCPU, 256 MiB, since 2023-11-14T22:13:19.000+00:00
relinquished  net (changed by somebody else)
lead times    memory 0.812 s
can           cpu-quota, vcpu-plug, agent, balloon, disk-limits
leases        lease-id-1, lease-shown

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > lease explain lease-shown 1`] = `
2023-11-14T22:13:20.000+00:00  Admit by the rule room-for-quantile: granted. Known as well: free cpu millicores 3000, tenant acme.

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > lease list --state ACTIVE --guest alpha 1`] = `
LEASE                                       STATE   GUEST  WORKLOAD  HOLDS                          EXPIRES
lease-shown                                 ACTIVE  alpha  encode    1.50 cores on 2 vCPU, 256 MiB  2023-11-14T22:14:20.100+00:00
  ACTIVE  alpha  encode    1.50 cores on 2 vCPU, 256 MiB  2023-11-14T22:14:20.100+00:00
lease-id-1                                  ACTIVE  alpha  encode    1.50 cores on 2 vCPU, 256 MiB  2023-11-14T22:18:20.100+00:00

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > lease release lease-shown --failed 1`] = `
lease          lease-shown
state          RELEASED: everything requested is in place
guest          alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
workload       encode, priority normal
params         level=9
requested      1.50 cores on 2 vCPU, 256 MiB
granted        1.50 cores on 2 vCPU, 256 MiB
seen in guest  2 vCPU online
in place       2023-11-14T22:13:20.050+00:00 (0.05 s after the request)
starts         2023-11-14T22:13:20.100+00:00
released       2023-11-14T22:13:29.000+00:00
forecast       parameters of 14 runs
request id     shown

PREDICTED         5 %        50 %        95 %
cpu        0.80 cores  1.00 cores  1.40 cores
run time          1 s         2 s         3 s

ADJUSTED                       RESOURCE        FROM          TO  WHY
2023-11-14T22:13:21.000+00:00  cpu       1.50 cores  1.80 cores  above the forecast

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > lease renew lease-shown --ttl 10s 1`] = `
lease          lease-shown
state          ACTIVE: everything requested is in place
guest          alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
workload       encode, priority normal
params         level=9
requested      1.50 cores on 2 vCPU, 256 MiB
granted        1.50 cores on 2 vCPU, 256 MiB
seen in guest  2 vCPU online
in place       2023-11-14T22:13:20.050+00:00 (0.05 s after the request)
starts         2023-11-14T22:13:20.100+00:00
expires        2023-11-14T22:14:20.100+00:00
forecast       parameters of 14 runs
request id     shown

PREDICTED         5 %        50 %        95 %
cpu        0.80 cores  1.00 cores  1.40 cores
run time          1 s         2 s         3 s

ADJUSTED                       RESOURCE        FROM          TO  WHY
2023-11-14T22:13:21.000+00:00  cpu       1.50 cores  1.80 cores  above the forecast

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > lease show lease-shown 1`] = `
lease          lease-shown
state          ACTIVE: everything requested is in place
guest          alpha (6f1c3a52-0c52-4a1e-9f57-2f1d7f6f0001)
workload       encode, priority normal
params         level=9
requested      1.50 cores on 2 vCPU, 256 MiB
granted        1.50 cores on 2 vCPU, 256 MiB
seen in guest  2 vCPU online
in place       2023-11-14T22:13:20.050+00:00 (0.05 s after the request)
starts         2023-11-14T22:13:20.100+00:00
expires        2023-11-14T22:14:20.100+00:00
forecast       parameters of 14 runs
request id     shown

PREDICTED         5 %        50 %        95 %
cpu        0.80 cores  1.00 cores  1.40 cores
run time          1 s         2 s         3 s

ADJUSTED                       RESOURCE        FROM          TO  WHY
2023-11-14T22:13:21.000+00:00  cpu       1.50 cores  1.80 cores  above the forecast

`

exports[`dist/test/unit/cli.test.js > TAP > every command that answers: text for people, one document for programs > status 1`] = `
host        host-a (Foreshade 9.9.9)
mode        enforce
hypervisor  available
total       4.00 cores, 8,192 MiB
capacity    10.50 cores, 7,168 MiB
committed   2.50 cores, 512 MiB
guests      2, 1 adopted
leases      3 ACTIVE

`

exports[`dist/test/unit/cli.test.js > TAP > failures are 1: the message, its reason and what to do; with --json still one document > capacity 1`] = `
The host has no room. (CAPACITY_EXHAUSTED)
Wait for leases to end, or leave --no-queue away to wait in the queue.
Worth repeating after 5 s.

`

exports[`dist/test/unit/cli.test.js > TAP > failures are 1: the message, its reason and what to do; with --json still one document > no server 1`] = `
No server answers on /nonexistent/s: there is no such socket. (SERVICE_UNREACHABLE)
Start it with: foreshade serve; or name its socket with --socket or FORESHADE_SOCKET.

`

exports[`dist/test/unit/cli.test.js > TAP > help > allocate --help 1`] = `
Usage: foreshade allocate [options] <guest>

Put resources in place on a guest before its work starts

Arguments:
  guest                  UUID or name

Options:
  --param <name=value>   a parameter of the work; repeatable. Typed:
                         name:size=64MiB, name:text=…, name:time=…,
                         name:category=…
  --priority <priority>  how sure the allocation is to be (choices: "low",
                         "normal", "high", "critical", default: "normal")
  --tenant <name>        who asks
  --duration <duration>  your own estimate of the run time
  --workload <name>      what kind of work: requests of one workload learn from
                         each other
  --ttl <duration>       time to live after the start; renew to keep it
                         (default: the service's, 60s)
  --start <time>         when the work starts: ISO 8601, or +30s from now
                         (default: now)
  --latest-start <time>  give up when it still waits for room then: ISO 8601, or
                         +5m from now
  --no-queue             fail when there is no room now
  --request-id <id>      key for a safe repeat (default: a new one)
  --validate-only        do everything but change anything
  --socket <path>        the service's unix socket (default: $FORESHADE_SOCKET,
                         then the configuration's)
  --timeout <duration>   longest wait for the answer (default: 30s)
  --json                 print exactly one JSON document on stdout
  -h, --help             display help for command

Examples:
  $ foreshade allocate web-1 --workload encode --param input_mib=64 --param level=9 --param mode=fast
  $ foreshade allocate db-1 --workload query --param rows=2e6 --priority high --ttl 5m
  $ foreshade allocate db-1 --workload backup --start 2026-01-31T18:00:00Z --param dump:size=12GiB
  $ foreshade allocate web-1 --workload encode --param input_mib=64 --validate-only --json

`

exports[`dist/test/unit/cli.test.js > TAP > help > config --help 1`] = `
Usage: foreshade config [options] [command]

Check and print the configuration

Options:
  -h, --help              display help for command

Commands:
  check [options] [file]  Read a configuration and report everything that is
                          wrong with it
  print [options] [file]  Print the whole configuration as the service would use
                          it, as JSON
  default                 Print a configuration file with every key at its
                          default, explained
  help [command]          display help for command

Examples:
  $ foreshade config default > /etc/foreshade/foreshade.toml
  $ foreshade config check ./foreshade.toml

`

exports[`dist/test/unit/cli.test.js > TAP > help > doctor --help 1`] = `
Usage: foreshade doctor [options]

Check what Foreshade needs on this host, and say what to do; changes nothing

Options:
  --config <file>  TOML file to check with
  --socket <path>  the service's unix socket
  --json           print exactly one JSON document on stdout
  -h, --help       display help for command

`

exports[`dist/test/unit/cli.test.js > TAP > help > forecast --help 1`] = `
Usage: foreshade forecast [options] <guest>

Show what a request would need; changes nothing

Arguments:
  guest                  UUID or name

Options:
  --param <name=value>   a parameter of the work; repeatable. Typed:
                         name:size=64MiB, name:text=…, name:time=…,
                         name:category=…
  --priority <priority>  how sure the allocation is to be (choices: "low",
                         "normal", "high", "critical", default: "normal")
  --tenant <name>        who asks
  --duration <duration>  your own estimate of the run time
  --workload <name>      what kind of work (absent: the guest's own course)
  --axis <axis>          what lies ahead is counted in (choices: "seconds",
                         "instructions", default: "seconds")
  --track <track>        how far ahead, and how finely: by seconds for minutes,
                         or by five minutes for days (choices: "short", "long",
                         default: "short")
  --horizon <number>     how far ahead, on that axis (absent: as far as is
                         forecast)
  --socket <path>        the service's unix socket (default: $FORESHADE_SOCKET,
                         then the configuration's)
  --timeout <duration>   longest wait for the answer (default: 30s)
  --json                 print exactly one JSON document on stdout
  -h, --help             display help for command

Examples:
  $ foreshade forecast web-1 --workload encode --param input_mib=64 --param level=9
  $ foreshade forecast web-1
  $ foreshade forecast web-1 --track long
  $ foreshade forecast web-1 --axis instructions --horizon 5e9

`

exports[`dist/test/unit/cli.test.js > TAP > help > guest --help 1`] = `
Usage: foreshade guest [options] [command]

See and manage guests

Options:
  -h, --help                     display help for command

Commands:
  list [options]                 List the guests of this host
  show [options] <guest>         Show one guest: sizes, abilities, baseline and
                                 leases
  watch [options] <guest>        Follow the samples of a guest, beside what was
                                 foreseen of each; Ctrl-C stops
  adopt [options] <guest>        Record the sizes of a guest as its baseline and
                                 manage it from now on
  release [options] <guest>      End a guest's leases, put its baseline back and
                                 stop managing it
  restore [options] <guest>      Put the baseline back; the guest stays adopted
  mode [options] <guest> <mode>  Set what may be done to a guest
  sampling [options] <guest>     Set how finely a guest is sampled; what is left
                                 out is as the host has it
  help [command]                 display help for command

Examples:
  $ foreshade guest list
  $ foreshade guest adopt web-1 --mode advise
  $ foreshade guest watch web-1
  $ foreshade guest mode web-1 enforce
  $ foreshade guest sampling web-1 --full 5s --instructions 1e6
  $ foreshade guest release web-1

`

exports[`dist/test/unit/cli.test.js > TAP > help > hook --help 1`] = `
Usage: foreshade hook [options] [command]

Let guests ask for room in their definitions: libvirt's hook on this host

Options:
  -h, --help           display help for command

Commands:
  install [options]    Put the hook and its settings where libvirt looks;
                       settings that are there stay, unless an option says
                       otherwise
  status [options]     Say what stands where the hook belongs; 1 unless it is
                       this version, and runnable
  uninstall [options]  Take the hook and its settings away
  help [command]       display help for command

libvirt looks for hooks when it starts: after the first installation restart libvirtd (or virtqemud). Running guests go on.

Examples:
  $ foreshade hook install
  $ foreshade hook install --policy require --wait 5000     no start without an answer
  $ foreshade hook status

`

exports[`dist/test/unit/cli.test.js > TAP > help > lease --help 1`] = `
Usage: foreshade lease [options] [command]

See, renew and give back leases

Options:
  -h, --help                 display help for command

Commands:
  list [options]             List leases, newest first
  show [options] <lease>     Show one lease
  renew [options] <lease>    Move a lease's expiry to now and its time to live,
                             and enlarge it where its work needs more
  release [options] <lease>  Give a lease back; what it used is learned from
  watch [options] <lease>    Follow a lease until it has ended; Ctrl-C stops
  explain [options] <lease>  Tell every decision about a lease, oldest first
  help [command]             display help for command

Examples:
  $ foreshade lease list --state ACTIVE --state DEGRADED
  $ foreshade lease renew LEASE --ttl 5m
  $ foreshade lease renew LEASE --memory 2GiB
  $ foreshade lease release LEASE
  $ foreshade lease explain LEASE

`

exports[`dist/test/unit/cli.test.js > TAP > help > run --help 1`] = `
Usage: foreshade run <guest> --workload <name> [options] -- <command> [args...]

Run a command with a lease: allocate, run, keep it alive, release

Arguments:
  guest                  UUID or name
  command                what to run; everything after -- is its own
  args                   its arguments

Options:
  --param <name=value>   a parameter of the work; repeatable. Typed:
                         name:size=64MiB, name:text=…, name:time=…,
                         name:category=…
  --priority <priority>  how sure the allocation is to be (choices: "low",
                         "normal", "high", "critical", default: "normal")
  --tenant <name>        who asks
  --duration <duration>  your own estimate of the run time
  --workload <name>      what kind of work: requests of one workload learn from
                         each other
  --ttl <duration>       time to live after the start; renew to keep it
                         (default: the service's, 60s)
  --start <time>         when the work starts: ISO 8601, or +30s from now
                         (default: now)
  --latest-start <time>  give up when it still waits for room then: ISO 8601, or
                         +5m from now
  --no-queue             fail when there is no room now
  --request-id <id>      key for a safe repeat (default: a new one)
  --socket <path>        the service's unix socket (default: $FORESHADE_SOCKET,
                         then the configuration's)
  --timeout <duration>   longest wait for the answer (default: 30s)
  -h, --help             display help for command

The command has the lease's figures in its environment: FORESHADE_LEASE_ID, FORESHADE_GUEST, FORESHADE_LEASE_STATE,
FORESHADE_CPU_MILLICORES, FORESHADE_VCPUS, FORESHADE_MEMORY_BYTES, FORESHADE_SOCKET. SIGINT, SIGTERM and SIGHUP are passed
on to it. It goes on when the lease is lost.

Exit code: the command's, 128 + N after signal N; 125 without a lease, 126 or 127 when the command cannot be run.

Examples:
  $ foreshade run web-1 --workload encode --param input_mib=64 -- ssh web-1 encode film.mkv
  $ foreshade run db-1 --workload backup --latest-start +10m -- sh -c 'echo $FORESHADE_LEASE_ID; exec backup'

`

exports[`dist/test/unit/cli.test.js > TAP > help > serve --help 1`] = `
Usage: foreshade serve [options]

Run the service until SIGTERM or Ctrl-C; guests keep what they have. SIGHUP:
read the configuration again

Options:
  --config <file>  TOML file (default: /etc/foreshade/foreshade.toml, or
                   defaults without one)
  -h, --help       display help for command

Examples:
  $ foreshade serve
  $ foreshade serve --config ./foreshade.toml

`

exports[`dist/test/unit/cli.test.js > TAP > help > shadow --help 1`] = `
Usage: foreshade shadow [options] [command]

Question and keep the record of what guests used

Options:
  -h, --help                    display help for command

Commands:
  query [options] <sql>         Answer one SELECT over the views shadow,
                                shadow_minute, shadow_hour and inputs
  stats [options]               Show what the store holds, tier by tier, and
                                what of it could not be read
  export [options] [sql]        Write the answer of one SELECT to a file
  import [options] <folder...>  Take in recorded series sets and request sets,
                                each once
  tail [options]                Show the latest samples of the log, as they were
                                written
  replay [options]              Play a stretch of the record into an engine that
                                touches nothing, as if live
  erase [options] <tenant>      Remove everything of one tenant from every tier
                                and the log; backups are not touched
  backup [options] <folder>     Copy the store into a new folder; the service
                                may go on writing
  help [command]                display help for command

Views: shadow (every sample), shadow_minute and shadow_hour (min, mean, max, p95 and count), inputs (production inputs, by
request_id). Times are UTC.

Examples:
  $ foreshade shadow query "SELECT guest, max(memory_bytes) FROM shadow WHERE time > now() - INTERVAL 1 DAY GROUP BY guest"
  $ foreshade shadow query "SELECT request_id FROM inputs WHERE name = 'rows' AND number = 2e6"
  $ foreshade shadow export "FROM shadow" --format parquet --out shadow.parquet
  $ foreshade shadow tail --follow

`

exports[`dist/test/unit/cli.test.js > TAP > help > status --help 1`] = `
Usage: foreshade status [options]

Show the host: mode, room, guests and leases

Options:
  --socket <path>       the service's unix socket (default: $FORESHADE_SOCKET,
                        then the configuration's)
  --timeout <duration>  longest wait for the answer (default: 30s)
  --json                print exactly one JSON document on stdout
  -h, --help            display help for command

`
