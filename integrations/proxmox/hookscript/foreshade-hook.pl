#!/usr/bin/perl
# Proxmox VE's hookscript: tells the Foreshade service on this host that a guest starts or has stopped.
#
#   foreshade-hook.pl VMID pre-start|post-start|pre-stop|post-stop
#
# Proxmox VE waits for it with the lock of the guest's configuration held. So it changes nothing, and asks for nothing that
# changes this guest before it has returned: pre-start asks whether there is room, and can only say no; what is to change on
# the guest is handed over in post-start, by a child that Proxmox VE does not wait for. Whatever else goes wrong, the guest
# starts. A guest whose notes do not name us is none of its business.
use strict;
use warnings;
use Errno qw(EAGAIN EINPROGRESS EINTR);
use IO::Select;
use IO::Socket::UNIX;
use POSIX qw(setsid);
use Sys::Syslog qw(openlog syslog);
use Time::HiRes qw(sleep time);

my $SETTINGS = '/etc/foreshade/proxmox-hook.conf';
my $CONFIGS  = '/etc/pve/qemu-server';

# What a line of a guest's notes begins with that asks something of us.
my $MARK = qr/^#\s*foreshade(?::|%3A)/m;
# Longest configuration passed on; a guest's has 1 to 4 KiB, its snapshots as much again each.
my $CONFIG_BYTES_MAX = 256 * 1024;
# Longest answer: a verdict with its reason takes less than 4 KiB.
my $ANSWER_BYTES_MAX = 64 * 1024;
# Longest reason repeated: it ends up in one line of the task's log.
my $REASON_CHARS_MAX = 512;
# Longest that the settings may have a start wait: Proxmox VE gives up on the lock after 10 s.
my $WAIT_MS_MAX = 8_000;
# The child is waited for by nobody; it gives up all the same.
my $DETACHED_MS = 5_000;

my %OPERATION = ('pre-start' => 'prepare', 'post-start' => 'started', 'post-stop' => 'release');

my ($vmid, $phase) = @ARGV;
exit 0 if !defined($phase) || $vmid !~ /^\d{3,9}$/ || !$OPERATION{$phase};

openlog('foreshade-hook', 'pid', 'daemon');
my $settings   = settings();
my $definition = definition($vmid);
exit 0 if !defined($definition);

if ($phase ne 'pre-start') {
    # The lock is let go of when we have returned.
    my $child = fork();
    exit 0 if !defined($child) || $child > 0;
    setsid();
    open($_, '+<', '/dev/null') for \*STDIN, \*STDOUT, \*STDERR;
    report($settings->{socket}, $OPERATION{$phase}, $DETACHED_MS);
    exit 0;
}

my $requires = $settings->{policy} eq 'require';
my $wait_ms  = $requires ? $settings->{require_wait_ms} : $settings->{deadline_ms};
my $answer   = report($settings->{socket}, $OPERATION{$phase}, $wait_ms);
my ($is_veto, $reason) = (0, '');
if (defined($answer)) {
    $is_veto = $answer =~ /"verdict"\s*:\s*"VERDICT_VETO"/;
    $reason  = $1 if $answer =~ /"reason"\s*:\s*"((?:[^"\\]|\\.)*)"/;
} elsif ($requires) {
    ($is_veto, $reason) = (1, 'Foreshade does not answer, and this host requires it');
}
exit 0 if !$is_veto;
$reason =~ s/\\(.)/$1/g;
$reason =~ s/[^\x20-\x7e]/?/g;
print STDERR substr($reason, 0, $REASON_CHARS_MAX), "\n";
exit 1;

# Lines of KEY = VALUE; what is missing or wrong is at its default.
sub settings {
    my %found = (
        socket          => '/run/foreshade/foreshade.http.sock',
        deadline_ms     => 200,
        policy          => 'prefer',
        require_wait_ms => 2_000,
    );
    open(my $file, '<', $SETTINGS) or return \%found;
    while (my $line = <$file>) {
        next if $line !~ /^\s*([a-z_]+)\s*=\s*(\S+)\s*$/ || !exists($found{$1});
        my ($key, $value) = ($1, $2);
        if    ($key =~ /_ms$/)     { $found{$key} = $value if $value =~ /^\d{1,5}$/ && $value <= $WAIT_MS_MAX }
        elsif ($key eq 'policy')   { $found{$key} = $value if $value =~ /^(?:prefer|require)$/ }
        else                       { $found{$key} = $value if $value =~ m{^/} && length($value) < 108 }
    }
    close($file);
    return \%found;
}

# The guest's configuration, its VMID before it; undefined where it asks nothing of us.
sub definition {
    my ($vmid) = @_;
    open(my $file, '<', "$CONFIGS/$vmid.conf") or return undef;
    my $read = read($file, my $text, $CONFIG_BYTES_MAX);
    close($file);
    return undef if !$read;
    $text =~ s/^\[.*//ms;    # snapshots, and what waits for a reboot and is in force by now
    return $text =~ $MARK ? "vmid: $vmid\n$text" : undef;
}

# Ask the service. Gives the body of its answer; undefined where there was none in time.
sub report {
    my ($path, $operation, $wait_ms) = @_;
    my $until = time() + $wait_ms / 1_000;
    my $body  = '{"guest":"' . $vmid . '","operation":"' . $operation . '","definition":"' . escaped($definition) . '"}';
    my $request = "POST /foreshade.v1.HookService/Report HTTP/1.1\r\nHost: localhost\r\n"
        . "Content-Type: application/json\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
    local $SIG{PIPE} = 'IGNORE';
    my $socket = connected($path, $until) or return unanswered('cannot be reached');
    my $ready  = IO::Select->new($socket);
    while (length($request) > 0) {
        return unanswered('does not listen') if !$ready->can_write(left($until));
        my $sent = syswrite($socket, $request);
        return unanswered('hung up') if !defined($sent) && $! != EAGAIN && $! != EINTR;
        substr($request, 0, $sent // 0, '');
    }
    my $text = '';
    while (1) {
        return unanswered('does not answer in time') if !$ready->can_read(left($until));
        my $read = sysread($socket, $text, 16_384, length($text));
        next if !defined($read) && ($! == EAGAIN || $! == EINTR);
        last if !$read;
        return unanswered('answers too much') if length($text) > $ANSWER_BYTES_MAX;
    }
    return $1 if $text =~ m{\AHTTP/1\.[01] 200 .*?\r\n\r\n(\{.*\})\s*\z}s;
    return unanswered('answers something else');
}

# A service whose queue of connections is full gets another attempt, until it is too late.
sub connected {
    my ($path, $until) = @_;
    while (1) {
        my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path, Blocking => 0);
        return $socket if $socket;
        return undef if ($! != EAGAIN && $! != EINPROGRESS) || left($until) <= 0;
        sleep(0.005);
    }
}

sub left {
    my ($until) = @_;
    my $left = $until - time();
    return $left > 0 ? $left : 0;
}

# A file of bytes as JSON's text: what JSON cannot hold is escaped, everything else is UTF-8 or refused by the service.
sub escaped {
    my ($text) = @_;
    $text =~ s/(["\\])/\\$1/g;
    $text =~ s/([\x00-\x1f])/sprintf('\\u%04x', ord($1))/ge;
    return $text;
}

sub unanswered {
    my ($why) = @_;
    syslog('warning', '%s', "the service $why: VM $vmid goes on without it");
    return undef;
}
