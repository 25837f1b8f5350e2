# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Reads what a randomized run has logged (the lines are described in load.c,
# Admins.pm and Faults.pm) and finds what must not be:
#
#   revoked    a request that began after a revocation had answered 200 was
#              let in
#   off        the same for a workspace that was switched off; until the next
#              call began that was to switch it on
#   gone       the same, when Redis had come back empty and every lease of
#              before was over
#   lost       there was no such key to revoke, and no Redis had lost anything
#   never      a key that was never created was let in
#   refused    a key was called bad (401) and nobody had begun to revoke it
#   forbidden  its workspace was called disabled (403), and was not
#   answer     an answer that is none of 200, 401, 403 and 503
#   cache      let in, and neither as a HIT nor as a MISS
#   receipt    it is not there, or its numbers cannot be true
#   log        the log itself is wrong
#
# A worker may still know of a workspace that was off for as long as its lease
# lasts: switching on does not wait for anybody.
#
# When a primary was cut off from its replica ("split"), what was written before
# that took over, and for a second before, may be lost, or may not.
#
# Nothing here depends on how fast anything was.

package Agntkey::Random::Checker;

use strict;
use warnings;

# What took_ms may exceed the time that the client has seen by: nginx reads
# the clock once in a turn of its event loop.
use constant SLACK_MS => 100;

# How long a call that had no answer may still be carried out, and what the
# clocks of an nginx that is cut off and of the harness may be apart.
use constant UNANSWERED_US => 5_000_000;
use constant GONE_US => 100_000;

# How far a replica may be behind that nothing keeps from its primary.
use constant BEHIND_US => 1_000_000;

# Lines that are shown of each rule.
use constant SHOWN => 8;


# new(lease => seconds, cached => true if nginx remembers keys)

sub new {
    my ($class, %opt) = @_;

    return bless {
        %opt, lease_us => $opt{lease} * 1e6, wrong => {}, shown => {},
        keys => { 0 => { never => 1 } }, workspaces => {}, stops => {},
        codes => {}, cache => {}, pids => {}, calls => {}, faults => {},
        took => [], revoke_us => [],
        map { $_ => 0 } qw(requests after after_1ms after_10ms after_stop
                           after_empty after_split during_off acknowledged
                           waited revoked),
    }, $class;
}


# The calls and the faults come first, in any order.

sub calls {
    my ($self, @lines) = @_;

    for (@lines) {
        my ($type, @words) = split;

        $type eq 'C' ? $self->created(@words)
        : $type eq 'V' ? $self->key_revoked($_, @words)
        : $type eq 'P' ? $self->switched($_, @words)
        : $type eq 'E' ? $self->fault(@words)
        : $self->wrong('log', $_);
    }

    $self->judge_calls;
}


# Then the requests, of which there may be many: a handle, or lines.

sub requests {
    my ($self, @in) = @_;

    for my $in (@in) {
        if (!ref $in) {
            $self->request($in);
            next;
        }

        while (my $line = <$in>) {
            $self->request($line);
        }
    }
}


sub wrong {
    my ($self, $rule, $line, $why) = @_;

    chomp $line;
    push @{ $self->{shown}{$rule} }, "$rule: $line" . ($why ? " ($why)" : '')
        if $self->{wrong}{$rule}++ < SHOWN;
}


# How often which rule was broken, and the first few lines that did.

sub violations { return %{ $_[0]{wrong} } }
sub shown { return map { @$_ } values %{ $_[0]{shown} } }


# --- calls

sub created {
    my ($self, $start, $end, $serial, $workspace, $code) = @_;

    $self->{calls}{"create $code"}++;
    @{ $self->{keys}{$serial} }{qw(workspace made)} = ($workspace, $start)
        if $code == 201;
}


sub key_revoked {
    my ($self, $line, $start, $end, $serial, $code, @receipt) = @_;
    my $key = $self->{keys}{$serial} //= {};

    $self->{calls}{"revoke $code"}++;
    $key->{begun} = $start if !defined $key->{begun}
                              || $start < $key->{begun};
    push @{ $self->{not_found} }, [$line, $end] if $code == 404;
    return if $code != 200;

    $self->{revoked}++;
    push @{ $key->{done} }, [$start, $end];
    push @{ $self->{revoke_us} }, $end - $start;
    push @{ $self->{receipts_seen} }, [$line, $start, $end, 1, @receipt];
}


sub switched {
    my ($self, $line, $start, $end, $workspace, $status, $code, @receipt)
        = @_;

    $self->{calls}{"$status $code"}++;
    push @{ $self->{workspaces}{$workspace}{calls} },
         [$start, $end, $status, $code];
    push @{ $self->{receipts_seen} }, [$line, $start, $end, 0, @receipt]
        if $code == 200;
}


sub fault {
    my ($self, $start, $end, $kind, $pid) = @_;

    $self->{faults}{$kind}++;
    push @{ $self->{stops}{$pid} }, [$start, $end] if $kind eq 'stop';
    push @{ $self->{empty} }, [$start, $end] if $kind eq 'empty';
    push @{ $self->{split} }, [$start - BEHIND_US, $end] if $kind eq 'split';
}


sub judge_calls {
    my ($self) = @_;

    $self->judge_receipt(@$_)
        for @{ delete $self->{receipts_seen} // [] };

    for my $call (@{ $self->{not_found} // [] }) {
        $self->wrong('lost', $call->[0])
            if !grep { $_->[0] < $call->[1] } map { @{ $self->{$_} // [] } }
                                                  qw(empty split);
    }

    $self->judge_split(@$_) for @{ $self->{split} // [] };

    for my $key (values %{ $self->{keys} }) {
        my @done = sort { $a <=> $b } map { $_->[1] } @{ $key->{done} // [] };

        $key->{revoked} = $done[0] if @done;
    }

    # What there was is gone: keys are unknown, and a workspace that comes into
    # being again is active.
    for my $empty (@{ $self->{empty} // [] }) {
        push @{ $_->{calls} }, [@$empty, 'active', 200]
            for values %{ $self->{workspaces} };

        for my $key (grep { ($_->{made} // 9e18) < $empty->[1] }
                     values %{ $self->{keys} })
        {
            $key->{begun} = $empty->[0] if !defined $key->{begun}
                                           || $empty->[0] < $key->{begun};

            # One that was being made may have come after it.
            next if $key->{made} + UNANSWERED_US > $empty->[0];

            my $gone = $empty->[1] + $self->{lease_us} * 9 / 8 + GONE_US;

            $key->{gone} = $gone if !defined $key->{gone}
                                    || $gone < $key->{gone};
        }
    }

    $self->find_times_of($_) for values %{ $self->{workspaces} };
}


# What was written meanwhile is lost, or is not.

sub judge_split {
    my ($self, $start, $end) = @_;

    for my $key (values %{ $self->{keys} }) {
        @{ $key->{done} } = grep { $_->[1] < $start || $_->[0] > $end }
                            @{ $key->{done} // [] };

        $key->{begun} = $key->{made}
            if defined $key->{made} && $key->{made} > $start
               && $key->{made} < $end;
    }

    push @{ $_->{calls} }, map { [$start, $end, $_, 503] } qw(active disabled)
        for values %{ $self->{workspaces} };
}


sub judge_receipt {
    my ($self, $line, $start, $end, $must, @receipt) = @_;

    if (@receipt == 1 && $receipt[0] eq '-') {
        $self->wrong('receipt', $line, 'none')
            if $must && $self->{cached};
        return;
    }

    return $self->wrong('receipt', $line, 'not four counts')
        if @receipt != 4 || grep { !/^\d+$/ } @receipt;

    my ($workers, $acknowledged, $took) = @receipt;

    $self->wrong('receipt', $line, 'more than there are')
        if $acknowledged > $workers;

    # A worker that was stopped in between knows an old time.
    my $stopped = grep { $_->[0] <= $end && $_->[1] >= $start }
                  map { @$_ } values %{ $self->{stops} };

    $self->wrong('receipt', $line, 'longer than the call')
        if !$stopped && $took > ($end - $start) / 1000 + SLACK_MS;

    $self->{ $acknowledged < $workers ? 'waited' : 'acknowledged' }++;
    push @{ $self->{took} }, $took;
}


# When it was off for certain, and when it may have been.  Several people switch
# it at once: of two calls that overlap, either may have come first.

sub find_times_of {
    my ($self, $workspace) = @_;
    my @calls = sort { $a->[0] <=> $b->[0] } @{ $workspace->{calls} };

    # Without an answer it may be done after its end.
    $_->[3] == 0 and $_->[1] += UNANSWERED_US for @calls;

    my @on = grep { $_->[2] eq 'active' } @calls;
    my @done = grep { $_->[3] == 200 } @on;
    my @latest;

    push @latest, !@latest || $_->[1] > $latest[-1] ? $_->[1] : $latest[-1]
        for @on;

    my (@off, @maybe);

    for my $call (grep { $_->[2] eq 'disabled' } @calls) {
        my ($start, $end, $status, $code) = @$call;
        my $n = count_before(\@on, $end);

        # Nobody was about to switch it on meanwhile.
        push @off, [$end, $n < @on ? $on[$n][0] : 9e18]
            if $code == 200 && (!$n || $latest[$n - 1] < $start);

        $n = count_before(\@done, $end);

        my $until = $n < @done ? $done[$n][1] + $self->{lease_us} : 9e18;

        if (@maybe && $start <= $maybe[-1][1]) {
            $maybe[-1][1] = $until if $until > $maybe[-1][1];

        } else {
            push @maybe, [$start, $until];
        }
    }

    @off = sort { $a->[0] <=> $b->[0] } @off;
    @{$workspace}{qw(off maybe)} = (\@off, \@maybe);
}


# How many of the times, which are in order, begin before then.

sub count_before {
    my ($times, $then) = @_;
    my ($low, $high) = (0, scalar @$times);

    while ($low < $high) {
        my $middle = int(($low + $high) / 2);

        $times->[$middle][0] < $then ? ($low = $middle + 1)
                                     : ($high = $middle);
    }

    return $low;
}


# The last of the times, which are in order, that began before then; what is
# only possible may overlap with the one before, what is certain does not.

sub time_before {
    my ($times, $then) = @_;
    my $n = count_before($times // [], $then);

    return $n ? $times->[$n - 1] : undef;
}


# --- requests

sub request {
    my ($self, $line) = @_;
    my ($type, $start, $end, $serial, $code, $cache, $pid) = split ' ', $line;

    return $self->wrong('log', $line)
        if !defined $pid || $type ne 'R' || $end < $start;

    my $key = $self->{keys}{$serial};

    return $self->wrong('log', $line, 'no such key')
        if !$key || !$key->{never} && !defined $key->{workspace};

    $self->{requests}++;
    $self->{codes}{$code}++;

    return if $code == 0;

    $self->{cache}{$cache}++ if $code == 200;
    $self->{pids}{$pid}++;

    my $revoked = $key->{revoked};

    if (defined $revoked && $start > $revoked) {
        $self->{after}++;
        $self->{after_split}++
            if grep { $revoked > $_->[1] } @{ $self->{split} // [] };
        $self->{after_10ms}++ if $start < $revoked + 10_000;
        $self->{after_1ms}++ if $start < $revoked + 1_000;

        # All that this worker may go by when it wakes up is the time.
        $self->{after_stop}++
            if $self->{stops}{$pid}
               && grep { $_->[0] < $revoked && $start < $_->[1] }
                  @{ $self->{stops}{$pid} };

        $self->wrong('revoked', $line, 'began ' . ($start - $revoked)
                                       . ' us after the answer')
            if $code == 200;
    }

    if (defined $key->{gone} && $start > $key->{gone}) {
        $self->{after_empty}++;
        $self->wrong('gone', $line, 'began ' . ($start - $key->{gone})
                                    . ' us after the last lease')
            if $code == 200;
    }

    my $workspace = $self->{workspaces}{ $key->{workspace} // '' };

    if ($workspace) {
        my $off = time_before($workspace->{off}, $start);

        if ($off && $end < $off->[1]) {
            $self->{during_off}++;
            $self->wrong('off', $line, 'began ' . ($start - $off->[0])
                                       . ' us after the answer')
                if $code == 200;
        }
    }

    if ($code == 200) {
        $self->wrong('never', $line) if $key->{never};
        $self->wrong('cache', $line)
            if $self->{cached} && $cache ne 'HIT' && $cache ne 'MISS';

    } elsif ($code == 401) {
        $self->wrong('refused', $line)
            if !$key->{never}
               && (!defined $key->{begun} || $end < $key->{begun});

    } elsif ($code == 403) {
        my $maybe = time_before($workspace && $workspace->{maybe}, $end);

        $self->wrong('forbidden', $line)
            if !$maybe || $start > $maybe->[1];

    } elsif ($code != 503) {
        $self->wrong('answer', $line);
    }
}


# --- what it was, in words

sub report {
    my ($self, $seconds) = @_;

    my $rate = sub { sprintf '%d (%.1f/s)', $_[0], $_[0] / $seconds };
    my $counts = sub {
        my ($of) = @_;
        return join ', ', map { "$_: $of->{$_}" } sort keys %$of;
    };
    my $spread = sub {
        my @sorted = sort { $a <=> $b } @{ $_[0] };
        return 'none' if !@sorted;
        return join ', ', map {
            sprintf '%s %.1f', $_->[0], $sorted[$#sorted * $_->[1]] / $_[1]
        } ['median', 0.5], ['p90', 0.9], ['max', 1];
    };

    my $allowed = $self->{codes}{200} // 0;
    my $hits = $self->{cache}{HIT} // 0;

    return (
        'requests: ' . $rate->($self->{requests})
            . ', by code: ' . $counts->($self->{codes})
            . ', by ' . keys(%{ $self->{pids} }) . ' workers',
        'let in, by cache: ' . $counts->($self->{cache})
            . sprintf(' (hits: %.1f%%)',
                      $allowed ? 100 * $hits / $allowed : 0),
        'begun after a revocation: ' . $self->{after} . ", within 10 ms: "
            . "$self->{after_10ms}, within 1 ms: $self->{after_1ms}, "
            . "of a worker that was stopped before: $self->{after_stop}; "
            . "while a workspace was off: $self->{during_off}; "
            . "when Redis had come back empty: $self->{after_empty}; "
            . "and when a replica had taken over: $self->{after_split}",
        'calls: ' . $counts->($self->{calls}),
        'revoked: ' . $rate->($self->{revoked}) . ', ms as clients see it: '
            . $spread->($self->{revoke_us}, 1000),
        "receipts: all acknowledged: $self->{acknowledged}, some leases "
            . "waited for: $self->{waited}; took_ms: "
            . $spread->($self->{took}, 1),
        'faults: ' . $counts->($self->{faults}),
    );
}

1;
