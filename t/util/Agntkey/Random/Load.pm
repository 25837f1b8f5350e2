# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The clients of t/system/random.t: t/util/load.c, built and run.

package Agntkey::Random::Load;

use strict;
use warnings;

use File::Basename qw(dirname);
use POSIX ();

my $source = dirname(__FILE__) . '/../../load.c';
my @all;


# build($dir): what the compiler has to say, nothing when all is well.

sub build {
    my ($dir) = @_;
    my $cc = $ENV{CC} || 'cc';

    return qx{$cc -O2 -Wall -Wextra -Werror -o '$dir/load' '$source' -lm 2>&1}
           . ($? == 0 ? '' : "status $?\n");
}


# new(dir =>, name =>, seed =>, rate =>, busy =>, lazy =>, ports => [...]):
# runs, and has no keys yet.

sub new {
    my ($class, %opt) = @_;
    my $self = bless { owner => $$, log => "$opt{dir}/$opt{name}.log", %opt },
               $class;

    pipe my $orders, my $out or die "pipe: $!\n";

    $self->{pid} = fork // die "fork: $!\n";

    if ($self->{pid} == 0) {
        open STDIN, '<&', $orders;
        open STDOUT, '>', $self->{log};
        open STDERR, '>', "$self->{log}.err";

        { exec "$opt{dir}/load", @{$self}{qw(seed rate busy lazy)},
               @{ $self->{ports} } }
        POSIX::_exit(127);
    }

    $self->{orders} = $out;

    push @all, $self;
    return $self;
}


# Any process may give orders: a line this short is written whole or not at
# all.

sub order {
    my ($self, @words) = @_;

    local $SIG{PIPE} = 'IGNORE';
    return syswrite $self->{orders}, "@words\n";
}


# Returns the exit status, once all answers are there or given up, and what
# has gone wrong.

sub finish {
    my ($self) = @_;
    my $pid = $self->{pid} or return (undef, '');

    $self->order('Q');

    Agntkey::wait_until(20, sub { waitpid($pid, POSIX::WNOHANG()) != 0 })
        or return (undef, 'does not end');

    my $status = $?;
    delete $self->{pid};

    open my $in, '<', "$self->{log}.err" or return ($status, '');
    return ($status, join '', <$in>);
}


sub stop {
    my ($self) = @_;

    return if $$ != $self->{owner} || !$self->{pid};

    local ($?, $!);
    kill 'KILL', $self->{pid};
    waitpid delete $self->{pid}, 0;
}

END { $_->stop for @all }

1;
