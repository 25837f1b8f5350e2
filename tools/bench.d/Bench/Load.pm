# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# One run of wrk, and what nginx and Redis did meanwhile.

package Bench::Load;

use strict;
use warnings;

use Time::HiRes qw(sleep time);


# run($setup, $nginx, path =>, list => file, code => 200, connections =>,
#     seconds =>, unpinned => 1): a hash of figures.

sub run {
    my ($setup, $nginx, %opt) = @_;
    my $redis = $setup->{redis};
    my $core = $opt{unpinned} ? undef : $setup->{cores}{wrk};

    my @command = (
        (defined $core ? ('taskset', '-c', $core) : ()),
        'wrk', '-t', 1, '-c', $opt{connections}, '-d', "$opt{seconds}s",
        '-s', "$setup->{top}/tools/bench.d/wrk.lua",
        $nginx->url($opt{path}), '--', $opt{list},
    );

    my $commands = commands($redis);
    my $cpu = $nginx->cpu;

    open my $out, '-|', @command or die "wrk: $!\n";
    my $said = do { local $/; <$out> } // '';
    close $out or die "wrk failed:\n$said";

    $cpu = $nginx->cpu - $cpu;

    # less the first INFO
    $commands = commands($redis) - $commands - 1;

    my ($result) = $said =~ /^RESULT (.*)/m or die "wrk said:\n$said";
    my %got = $result =~ /(\w+)=(\d+)/g;
    my $n = $got{requests} or die "no request was answered:\n$said";

    my $refused = $opt{code} == 200 ? 0 : $n;
    die "$opt{path}: $got{refused} of $n refused, $got{failed} failed\n",
        $nginx->log if $got{refused} != $refused || $got{failed};

    return {
        rps      => $n / $got{us} * 1e6,
        cpu_us   => $cpu / 1000 / $n,
        busy     => $cpu / 1000 / $got{us},
        p50_us   => $got{p50},
        p99_us   => $got{p99},
        commands => $commands / $n,
        rss_kb   => $nginx->rss,
    };
}


sub commands {
    my ($redis) = @_;
    my ($n) = $redis->cmd('INFO', 'stats')
              =~ /^total_commands_processed:(\d+)/m;
    return $n;
}


# How many commands Redis gets in a second when nobody asks anything.

sub background {
    my ($setup, $seconds) = @_;
    my $before = commands($setup->{redis});

    sleep $seconds;
    return (commands($setup->{redis}) - $before - 1) / $seconds;
}

1;
