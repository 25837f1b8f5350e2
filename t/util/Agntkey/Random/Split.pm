# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The last fault of t/system/random.t: a primary that is cut off from its
# replica, which takes over, with clients on both sides.  It is logged as the
# others are,
#
#     E START END split -
#
# and whatever was acknowledged between START and END may be lost: it was
# written on the one side and is looked for on the other.

package Agntkey::Random::Split;

use strict;
use warnings;

use Time::HiRes qw(sleep);

use Agntkey;
use Agntkey::Proxy;
use Agntkey::Random::Admins qw(micros_down micros_up);

# How long a replica may say nothing before its primary refuses to write, s.
# Replicas say something every second.
use constant MAX_LAG => 2;

# What there may be between two clocks, s.
use constant MARGIN => 0.1;


# new(dir =>, redis => the primary, lease => seconds, link => the path by which
# the clients of the one side find their Redis, proxy => that of the clients on
# the other side, seconds => that there are two sides): a replica joins.

sub new {
    my ($class, %opt) = @_;
    my $self = bless { log => "$opt{dir}/split.log", %opt }, $class;

    link_to($self->{link}, $self->{redis});
    return $self;
}


# The name is never without a file.

sub link_to {
    my ($link, $redis) = @_;

    symlink $redis->sock, "$link.new" or die "$link.new: $!\n";
    rename "$link.new", $link or die "$link: $!\n";
}


# Returns the new primary, which all clients have in the end.

sub run {
    my ($self) = @_;
    my $old = $self->{redis};
    my $between = Agntkey::Proxy->new(to => $old->port, port => free_port());

    my $new = redis_server(
        name => 'replica',
        args => ['--replicaof', '127.0.0.1', $between->port,
                 '--repl-diskless-sync-delay', '0'],
    );

    wait_until(20, sub {
        $old->cmd('INFO', 'replication') =~ /slave0:.*state=online/;
    }) or die "no replica\n";

    $old->cmd('CONFIG', 'SET', 'min-replicas-max-lag', MAX_LAG);
    $old->cmd('CONFIG', 'SET', 'min-replicas-to-write', 1);
    sleep MAX_LAG;

    my $start = micros_down();

    $between->pause('both');
    wait_until(20, sub { !eval { $old->cmd('SET', 'agntkey-split', 1) } })
        or die "a primary without a replica takes writes\n";

    # Who takes over waits until nobody can have a lease of the old one.
    sleep $self->{lease} * 9 / 8 + MARGIN;
    $new->cmd('REPLICAOF', 'NO', 'ONE');

    link_to($self->{link}, $new);
    kill_unix_clients($old);

    open my $out, '>', $self->{log} or die "$self->{log}: $!\n";
    print $out join(' ', 'E', $start, micros_up(), 'split', '-'), "\n";
    close $out;

    sleep $self->{seconds};

    my $port = $self->{proxy}->port;

    $self->{proxy}->stop;
    $self->{proxy} = Agntkey::Proxy->new(to => $new->port, port => $port);
    $_->stop for $between, $old;

    return $new;
}


sub kill_unix_clients {
    my ($redis) = @_;

    for (split /\n/, $redis->cmd('CLIENT', 'LIST')) {
        my ($id, $path) = /^id=(\d+) addr=(\S+)/ or next;
        $redis->cmd('CLIENT', 'KILL', 'ID', $id) if $path =~ m{^/};
    }
}

1;
