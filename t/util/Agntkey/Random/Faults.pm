# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What goes wrong in t/system/random.t, by chance: workers stopped and
# killed, reloads, connections to Redis killed, cut and stalled, a Redis that
# is busy.  Each is logged when it is over:
#
#     E START END KIND DETAIL

package Agntkey::Random::Faults;

use strict;
use warnings;

use File::Path qw(remove_tree);
use IO::Handle;
use IO::Socket::UNIX;
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime sleep);

use Agntkey::Key;
use Agntkey::Nginx;
use Agntkey::Random::Admins qw(micros_down micros_up);

# No fault is longer than this, in seconds: an administrator relies on it
# (SETTLE), and so does the patience of the clients.
use constant LONGEST => 2.5;

# Workers that are stopped at once, at most: the others have to show that
# they do without.
use constant STOPPED => 2;

# What is done to a record by hand: nothing to one that is off or not there.  It
# does not come into being this way, and its last field is the end of it, which
# is another matter.
use constant BY_HAND => "if redis.call('HEXISTS',KEYS[1],'active')==1 then "
                        . 'return redis.call(unpack(ARGV)) end';

# name => how often
my %kinds = (
    stop        => 14,
    kill        => 2,
    reload      => 2,
    kill_normal => 2,
    kill_pubsub => 3,
    stall       => 8,
    stall_all   => 2,
    blind       => 6,
    cut         => 3,
    cut_all     => 1,
    refuse      => 1,
    sleep       => 2,
    late_change => 5,
    late_leave  => 2,
    late_any    => 4,
    restart     => 5,
    empty       => 2,
    by_hand     => 5,
);

my @all;


# new(dir =>, seed =>, nginx => [...], redis =>, proxy =>, only => [...]): the
# first nginx is the one behind the proxy; of the kinds of faults only those.

sub new {
    my ($class, %opt) = @_;
    my $self = bless {
        owner => $$, log => "$opt{dir}/faults.log", queue => [],
        stopped => {}, count => {}, quiet => {}, %opt,
    }, $class;
    my @kinds = @{ $opt{only} // [] } ? @{ $opt{only} } : sort keys %kinds;

    $self->{names} = [map { ($_) x ($kinds{$_} // die "no fault $_\n") }
                      @kinds];

    open $self->{out}, '>', $self->{log} or die "$self->{log}: $!\n";
    $self->{out}->autoflush(1);

    push @all, $self;
    return $self;
}


sub clock { return clock_gettime(CLOCK_MONOTONIC) }


# Goes on for so many seconds, and then sets everything right again.

sub run {
    my ($self, $seconds) = @_;
    my $end = clock() + $seconds;

    srand $self->{seed};
    $self->later(0, sub { $self->next_one });

    while ((my $now = clock()) < $end) {
        my $queue = $self->{queue};

        if (@$queue && $queue->[0]{at} <= $now) {
            (shift @$queue)->{code}->();
            next;
        }

        my $next = @$queue && $queue->[0]{at} < $end ? $queue->[0]{at} : $end;
        sleep $next - $now;
    }

    $self->relieve;
}


sub later {
    my ($self, $seconds, $code, $must) = @_;

    @{ $self->{queue} } = sort { $a->{at} <=> $b->{at} }
                          @{ $self->{queue} },
                          { at => clock() + $seconds, code => $code,
                            must => $must };
}


# The ends of what has begun come at once, the rest not at all.

sub relieve {
    my ($self) = @_;

    while (my $event = shift @{ $self->{queue} }) {
        $event->{code}->() if $event->{must};
    }
}


# Workers that were stopped would stay for ever.

END {
    for my $self (grep { $_->{owner} == $$ } @all) {
        kill 'CONT', grep { $self->{stopped}{$_} }
                     map { $_->workers } @{ $self->{nginx} };
    }
}


# How long: less than a lease, or more.

sub duration {
    my $r = rand;

    return $r < 0.25 ? 0.005 + rand 0.1
         : $r < 0.5 ? 0.1 + rand 0.9
         : 1 + rand(LONGEST - 1);
}


# The random numbers of one fault come from a seed of its own: what there is
# to choose from depends on the moment, the schedule does not.

sub next_one {
    my ($self) = @_;
    my $seed = int rand 2 ** 31;
    my $gap = -log(1 - rand) * 0.2;

    # long enough at times that everything is as it should be
    $gap += 1 + rand 1.5 if rand() < 0.12;

    my $name = $self->{names}[rand @{ $self->{names} }];

    srand $seed;
    $self->can("do_$name")->($self);
    srand $seed + 1;

    $self->later($gap, sub { $self->next_one });
}


sub begin {
    my ($self, $kind, $detail, $seconds, $end, $started) = @_;

    $started //= micros_down();
    $self->{count}{$kind}++;

    $self->later($seconds, sub {
        $end->() if $end;
        print { $self->{out} } join(' ', 'E', $started, micros_up(), $kind,
                                    $detail), "\n";
    }, 1);
}


# --- processes

sub do_stop {
    my ($self) = @_;
    my $seconds = duration();

    return if keys %{ $self->{stopped} } >= STOPPED;

    $self->stop_worker($self->{nginx}[rand @{ $self->{nginx} }], $seconds);
}


sub stop_worker {
    my ($self, $nginx, $seconds) = @_;
    my @pids = grep { !$self->{stopped}{$_} } $nginx->workers or return;
    my $pid = $pids[rand @pids];

    $self->{stopped}{$pid} = 1;
    kill 'STOP', $pid;

    $self->begin('stop', $pid, $seconds, sub {
        delete $self->{stopped}{$pid};
        kill 'CONT', grep { $_ == $pid } $nginx->workers;
    });
}


sub do_kill {
    my ($self) = @_;
    my @pids = $self->{nginx}[rand @{ $self->{nginx} }]->workers or return;
    my $pid = $pids[rand @pids];

    kill 'KILL', $pid;
    $self->begin('kill', $pid, 0);
}


# Old workers need a moment to go.

sub do_reload {
    my ($self) = @_;
    my $i = int rand @{ $self->{nginx} };

    return if clock() < ($self->{quiet}{"reload $i"} // 0);

    $self->{quiet}{"reload $i"} = clock() + 2;
    $self->{nginx}[$i]->signal('HUP');
    $self->begin('reload', $self->{nginx}[$i]->pid, 0);
}


# --- Redis

# Does not wait for the answer, which a busy Redis gives late.

sub send_redis {
    my ($self, $kind, $command, $seconds) = @_;
    my $sock = IO::Socket::UNIX->new(Peer => $self->{redis}->sock) or return;

    $sock->blocking(0);
    syswrite $sock, "$command\r\n";
    $self->begin($kind, '-', $seconds, sub { close $sock });
}


sub do_kill_normal {
    my ($self) = @_;

    $self->send_redis('kill_normal', 'CLIENT KILL TYPE normal SKIPME yes',
                      0.1);
}


sub do_kill_pubsub {
    my ($self) = @_;

    $self->send_redis('kill_pubsub', 'CLIENT KILL TYPE pubsub', 0.1);
}


sub do_sleep {
    my ($self) = @_;
    my $seconds = sprintf '%.3f', 0.02 + rand 0.8;

    $self->send_redis('sleep', "DEBUG SLEEP $seconds", $seconds);
}


# --- the connections between one nginx and Redis

# One at a time, and the bytes that it has held up get through before the
# next one.

sub proxied {
    my ($self, $kind, $detail, $seconds, $code, $end) = @_;

    return if clock() < ($self->{quiet}{proxy} // 0);

    my $started = micros_down();

    $self->{quiet}{proxy} = clock() + LONGEST + 1;
    $code->();

    $self->begin($kind, $detail, $seconds, sub {
        $end->() if $end;
        $self->{quiet}{proxy} = clock() + 0.2;
    }, $started);
}


sub way { return (qw(up down down both))[rand 4] }


sub do_stall {
    my ($self) = @_;
    my ($way, $n, $seconds) = (way(), int rand 1000, duration());
    my $proxy = $self->{proxy};

    # Some are cut in the end, with what was under way.
    my $cut = rand() < 0.3;

    $self->proxied('stall', $way, $seconds,
                   sub { $proxy->pause_one($way, $n) },
                   sub { $proxy->cut if $cut; $proxy->resume });
}


sub do_stall_all {
    my ($self) = @_;
    my ($way, $seconds) = (way(), duration());
    my $proxy = $self->{proxy};

    $self->proxied('stall_all', $way, $seconds,
                   sub { $proxy->pause($way) }, sub { $proxy->resume });
}


# A worker is stopped, and while it is, what Redis sends gets stuck behind
# what has come already.  When it wakes up nothing but the time tells it that
# its lease is over.

sub do_blind {
    my ($self) = @_;
    my $seconds = 1 + rand(LONGEST - 1);
    my ($stopped, $after) = (0.2 + rand($seconds - 0.2), rand 0.2);
    my $proxy = $self->{proxy};

    return if keys %{ $self->{stopped} } >= STOPPED;

    $self->proxied('blind', 'down', $seconds, sub {
        $self->stop_worker($self->{nginx}[0], $stopped);
        $self->later($after, sub { $proxy->pause('down') });
    }, sub { $proxy->resume });
}


# What a connection has taken is delivered when nginx has long given it up:
# that a workspace is active again, after which it has been switched off ...

use constant LATE => 3.2;

sub do_late_change {
    my ($self) = @_;
    my $proxy = $self->{proxy};
    my $workspace = 'restless-' . (11 + int rand 2);

    # ARGV[5] and ARGV[6] of the script.
    my $text = "\r\n$workspace\r\n\$1\r\n1\r\n";

    $self->proxied('late_change', $workspace, LATE, sub {
        $proxy->hold_next('up', $text, LATE);
    });
}


# ... and that workers leave, which have lost that connection and are back by
# then.  Cut off at that very moment they hear nothing any more.  One that is
# still in the registry would be waited for, as long as all of their leases last.

sub do_late_leave {
    my ($self) = @_;
    my $proxy = $self->{proxy};

    $self->proxied('late_leave', '-', LATE + 1.5, sub {
        $proxy->hold_next('up', 'ZREM', LATE,
                          scalar $self->{nginx}[0]->workers);
        $self->send_redis('kill_pubsub', 'CLIENT KILL TYPE pubsub', 0.1);
        $self->later(0.2, sub { $proxy->cut });
        $self->later(LATE + 0.01, sub { $proxy->pause('both') });
    }, sub { $proxy->resume });
}


# ... and whatever comes next on any connection, either way; some are cut off
# meanwhile.

sub do_late_any {
    my ($self) = @_;
    my ($way, $cut) = (rand() < 0.5 ? 'up' : 'down', rand() < 0.3);
    my $proxy = $self->{proxy};

    $self->proxied('late_any', $way, LATE, sub {
        $proxy->hold_next($way, '', LATE);
        $self->later(rand 2, sub { $proxy->cut }) if $cut;
    });
}


# A Redis that is killed, and comes back with all records and without its last
# workers, as from a disk that is a moment older; one nginx is cut off.  In some
# it has no mark either, as if nobody had ever had a lease, or workspaces have
# no time.

sub do_restart {
    my ($self) = @_;
    my ($proxy, $redis) = @{$self}{qw(proxy redis)};
    my @gone = ('agntkey:workers', rand() < 0.3 ? 'agntkey:registry' : ());
    my $timeless = rand() < 0.6;

    $self->proxied('restart', '-', 1.5, sub {
        $proxy->pause('both');
        $redis->restart('KILL');
        $redis->cmd('DEL', @gone);

        if ($timeless) {
            $redis->cmd('EVAL', BY_HAND, 1, $_, 'HDEL', $_, 'created_at')
                for map { workspace_key($_) } 11, 12;
        }

        $redis->disconnect;
    }, sub { $proxy->resume });
}


# A Redis that is killed, and whose disk is empty; one nginx is cut off, and may
# accept what it remembers as long as it has a lease.

sub do_empty {
    my ($self) = @_;
    my ($proxy, $redis) = @{$self}{qw(proxy redis)};

    $self->proxied('empty', '-', 1.5, sub {
        $proxy->pause('both');
        $redis->stop('KILL');
        remove_tree($redis->dir . '/appendonlydir');
        unlink glob $redis->dir . '/*.{aof,rdb}';
        $redis->start;
        $redis->disconnect;
    }, sub { $proxy->resume });
}


sub workspace_key {
    my $workspace = "restless-$_[0]";

    return 'agntkey:workspace:{' . Agntkey::Key::workspace_tag($workspace)
           . "}$workspace";
}


# Somebody writes records without what is only for people, or by a clock of
# another host.

sub do_by_hand {
    my ($self) = @_;
    my $key = workspace_key(11 + int rand 2);
    my $at = int(1000 * (Time::HiRes::time() + 3600 * (rand(48) - 24)));
    my $change = rand() < 0.5 ? "HDEL $key created_at"
                              : "HSET $key created_at $at";

    $self->send_redis('by_hand', 'EVAL "' . BY_HAND . qq{" 1 $key $change},
                      0.1);
}


sub do_cut {
    my ($self) = @_;
    my $n = int rand 1000;

    $self->proxied('cut', '-', 0, sub { $self->{proxy}->cut_one($n) });
}


sub do_cut_all {
    my ($self) = @_;

    $self->proxied('cut_all', '-', 0, sub { $self->{proxy}->cut });
}


sub do_refuse {
    my ($self) = @_;
    my $seconds = duration() / 2;
    my $proxy = $self->{proxy};

    $self->proxied('refuse', '-', $seconds, sub { $proxy->refuse },
                   sub { $proxy->accept });
}

1;
