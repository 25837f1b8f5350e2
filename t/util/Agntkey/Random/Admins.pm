# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The administrators of t/system/random.t, each a process: one kind creates a
# key, lets the clients use it, revokes it and begins again; the other
# switches a workspace off and on.  What they do is logged, a line for each
# call:
#
#     C START END SERIAL WORKSPACE CODE
#     V START END SERIAL CODE RECEIPT
#     P START END WORKSPACE STATUS CODE RECEIPT
#
# START is read before the call is sent and END after the whole answer has
# come, in microseconds of CLOCK_MONOTONIC; CODE 0 is no answer; RECEIPT is
# "workers acknowledged took_ms replicas", or "-" if the answer has none.

package Agntkey::Random::Admins;

use strict;
use warnings;

use Exporter 'import';
use IO::Handle;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime sleep);

use Agntkey::Client;

our @EXPORT_OK = qw(SLOTS micros_down micros_up);

# Places that each administrator has among the clients' keys: one for the key
# that is to be revoked, some for those that are, and the last one for a key
# that stays good.
use constant { SLOTS => 7, STEADY => 6 };

# How often the clients take a key: as it lives, around its revocation, as
# long as it is the last one, and later.
use constant { USUAL => 15, FOCUS => 40, RECENT => 5, OLD => 1 };

# A call that may have left for Redis, or not, can still take effect when a
# process or a connection goes on that a fault holds up.
use constant SETTLE => 4.5;

my $utf8 = JSON::PP->new->utf8;
my @all;


sub micros_down { return int(clock_gettime(CLOCK_MONOTONIC) * 1e6) }
sub micros_up { return micros_down() + 1 }


# new(dir =>, number =>, seed =>, kind => 'keys' or 'workspace',
#     workspaces => [...], ports => [...], loads => [...]): works.

sub new {
    my ($class, %opt) = @_;
    my $self = bless { owner => $$, log => "$opt{dir}/admin-$opt{number}.log",
                       %opt }, $class;

    $self->{pid} = fork // die "fork: $!\n";

    if ($self->{pid} == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP __DIE__ __WARN__);

        eval { $self->work };
        warn "admin $self->{number}: $@" if $@;
        POSIX::_exit($@ ? 1 : 0);
    }

    push @all, $self;
    return $self;
}


# finish(@admins): lets all of them end what they are at; those that did not.

sub finish {
    my (@admins) = @_;

    open my $out, '>', $_->stop_file or die "stop: $!\n" for @admins;

    return grep {
        my $self = $_;
        my $ended = Agntkey::wait_until(30, sub {
            waitpid($self->{pid}, POSIX::WNOHANG()) != 0
        });
        my $well = $ended && $? == 0;

        delete $self->{pid} if $ended;
        !$well;
    } @admins;
}


sub stop {
    my ($self) = @_;

    return if $$ != $self->{owner} || !$self->{pid};

    local ($?, $!);
    kill 'KILL', $self->{pid};
    waitpid delete $self->{pid}, 0;
}

END { $_->stop for @all }


# --- in the process of its own

sub work {
    my ($self) = @_;

    srand $self->{seed};

    open $self->{out}, '>', $self->{log} or die "$self->{log}: $!\n";
    $self->{out}->autoflush(1);

    $self->{base} = $self->{number} * SLOTS;
    $self->{serial} = $self->{number} * 1_000_000;

    return $self->keys_come_and_go if $self->{kind} eq 'keys';

    $self->on_and_off until $self->over;
}


sub stop_file { return "$_[0]{dir}/stop-$_[0]{number}" }

# Nobody goes on when the suite is gone.
sub over { return -e $_[0]->stop_file || getppid() != $_[0]{owner} }


# Until the time is over, or the run.

sub rest {
    my ($self, $seconds) = @_;
    my $end = clock_gettime(CLOCK_MONOTONIC) + $seconds;

    for ( ;; ) {
        my $left = $end - clock_gettime(CLOCK_MONOTONIC);

        return if $left <= 0 || $self->over;
        sleep($left < 0.05 ? $left : 0.05);
    }
}


sub keys_come_and_go {
    my ($self) = @_;
    my $workspaces = $self->{workspaces};
    my $slot = 0;
    my ($last, $steady);

    until ($self->over) {
        if (!$steady && ($steady = $self->create($workspaces->[0]))) {
            $self->give($self->{base} + STEADY, USUAL, $steady);
        }

        my $key = $self->create($workspaces->[rand @$workspaces]);

        if (!$key) {
            $self->rest(0.05);
            next;
        }

        $self->give($self->{base}, USUAL, $key);

        # long enough to be remembered everywhere, or hardly at all
        $self->rest(rand() < 0.3 ? rand 0.05 : rand 0.6);

        $self->give($self->{base}, FOCUS, $key);
        $self->revoke($key);

        # The moment after is the one that counts.
        $self->rest(0.02 + rand 0.05);
        $self->give($self->{base}, OLD, $key);
        $self->give($self->{base} + 1 + $slot, OLD, $last) if $last;

        $slot = int rand(STEADY - 1);
        $last = $key;
        $self->give($self->{base} + 1 + $slot, RECENT, $last);
    }
}


# Until the workspace is gone, or the run.

sub on_and_off {
    my ($self) = @_;
    my ($workspace) = @{ $self->{workspaces} };
    my @keys;

    until (@keys == 2 || $self->over) {
        my $key = $self->create($workspace);

        # Others may have switched it off; and Redis may be away.
        if (!$key) {
            $self->rest(0.05);
            next;
        }

        $self->give($self->{base} + @keys, USUAL, $key);
        push @keys, $key;
    }

    until ($self->over) {
        $self->rest(rand 0.5);
        $self->give($self->{base}, FOCUS, $keys[0]);
        $self->switch($workspace, 'disabled') or last;
        $self->rest(0.05);
        $self->give($self->{base}, USUAL, $keys[0]);
        $self->rest(rand() < 0.3 ? rand 2 : rand 0.3);
        $self->switch($workspace, 'active') or last;
    }
}


sub give {
    my ($self, $slot, $weight, $key) = @_;

    $_->order('K', $slot, $weight, $key->{serial}, $key->{key})
        for @{ $self->{loads} };
}


# --- calls

sub create {
    my ($self, $workspace) = @_;
    my $serial = ++$self->{serial};
    my $res = $self->call('POST keys', { workspace => $workspace,
                                         name => "key $serial" });

    $self->note('C', $res, $serial, $workspace, $res->{code});
    return undef if $res->{code} != 201;

    return { serial => $serial, id => $res->{json}{id},
             key => $res->{json}{key} };
}


# Again and again until it is answered: that is what the answer is for.  There
# may be no such key any more, after Redis has come back empty.

sub revoke {
    my ($self, $key) = @_;

    for ( ;; ) {
        my $res = $self->call("POST keys/$key->{id}/revoke");

        $self->note('V', $res, $key->{serial}, $res->{code}, receipt($res));
        return if $res->{code} =~ /^(?:200|404)$/ || $self->over;

        $self->rest(0.05);
    }
}


# True once it is so, and false when there is no such workspace.

sub switch {
    my ($self, $workspace, $status) = @_;

    for ( ;; ) {
        my $res = $self->call("PUT workspaces/$workspace",
                              { status => $status });

        $self->note('P', $res, $workspace, $status, $res->{code},
                    receipt($res));
        return 1 if $res->{code} == 200;
        return 0 if $res->{code} == 404;

        # It may have been done, and will not be done later: what comes next
        # has to stand all the same.
        return 1 if $status eq 'active' && $res->{code} == 503
                    && rand() < 0.7;
        return 0 if $self->over;

        $self->rest(($res->{json}{code} // '') eq 'store_unavailable'
                    ? 0.05 : SETTLE);
    }
}


sub call {
    my ($self, $call, $body) = @_;
    my ($method, $path) = split / /, $call, 2;
    my $ports = $self->{ports};
    my $port = $ports->[rand @$ports];
    my $start = micros_down();

    my $res = eval {
        http("$method /agntkey/$path", port => $port, timeout => 15,
             headers => defined $body ? 'Content-Type: application/json' : '',
             body => defined $body ? $utf8->encode($body) : undef);
    } // { code => 0, body => '' };

    my $json = eval { $utf8->decode($res->{body}) };

    # Without the end of the body it is no answer.
    return {
        start => $start,
        end   => micros_up(),
        code  => ref $json eq 'HASH' ? $res->{code} || 0 : 0,
        json  => ref $json eq 'HASH' ? $json : {},
    };
}


sub receipt {
    my ($res) = @_;
    my $receipt = $res->{json}{receipt};

    return '-' if ref $receipt ne 'HASH';
    return map { $_ // 'none' }
           @{$receipt}{qw(workers acknowledged took_ms replicas)};
}


sub note {
    my ($self, $type, $res, @words) = @_;

    print { $self->{out} } join(' ', $type, @{$res}{qw(start end)}, @words),
                           "\n";
}

1;
