# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# An nginx for measuring: made from one of the templates beside this
# directory, on a free port, perhaps kept to one core or run by valgrind.

package Bench::Nginx;

use strict;
use warnings;

use File::Path qw(make_path remove_tree);
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(sleep time);

my @all;


# new(dir =>, template =>, core => number or undef, under => [...],
#     vars => { name => value }): nothing runs yet.

sub new {
    my ($class, %opt) = @_;
    my $self = bless { owner => $$, under => [], %opt }, $class;

    $self->{port} = free_port();
    push @all, $self;
    return $self;
}


sub port { return $_[0]{port} }
sub pid { return $_[0]{pid} }
sub url { return "http://127.0.0.1:$_[0]{port}$_[1]" }
sub binary { return $ENV{NGINX_BINARY} || 'nginx' }


sub free_port {
    my $sock = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', Listen => 1, Proto => 'tcp'
    ) or die "no free port: $!\n";

    return $sock->sockport;
}


sub write_config {
    my ($self) = @_;
    my %vars = (
        user    => $> == 0 ? 'user root;' : '',
        dir     => $self->{dir},
        port    => $self->{port},
        master  => 'on',
        workers => 1,
        listen  => '',
        level   => 'error',
        cache   => '',
        %{ $self->{vars} // {} },
    );

    remove_tree($self->{dir});
    make_path("$self->{dir}/temp");

    open my $in, '<', $self->{template} or die "$self->{template}: $!\n";
    my $text = do { local $/; <$in> };
    $text =~ s/\@(\w+)\@/$vars{$1} \/\/ die "no value for $1\n"/ge;

    open my $out, '>', "$self->{dir}/nginx.conf" or die "$self->{dir}: $!\n";
    print $out $text;
    close $out or die "$self->{dir}/nginx.conf: $!\n";
}


sub command {
    my ($self) = @_;
    my @pin = defined $self->{core} ? ('taskset', '-c', $self->{core}) : ();

    return (@pin, @{ $self->{under} }, binary(), '-p', "$self->{dir}/",
            '-c', "$self->{dir}/nginx.conf", '-e', "$self->{dir}/error.log");
}


# What "nginx -t" has to say against the configuration; '' if nothing.

sub complaint {
    my ($self) = @_;

    $self->write_config;

    my $pid = open my $out, '-|';
    die "fork: $!\n" if !defined $pid;

    if ($pid == 0) {
        open STDERR, '>&', \*STDOUT;
        { exec $self->command, '-t' }
        POSIX::_exit(127);
    }

    my $said = do { local $/; <$out> } // '';
    return close $out ? '' : $said || 'nginx cannot be run';
}


# Returns once all workers are there and it listens.

sub start {
    my ($self) = @_;

    $self->write_config;

    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/out";
        open STDERR, '>&', \*STDOUT;
        { exec $self->command }
        POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    my $workers = $self->{vars}{workers} // 1;
    my $single = ($self->{vars}{master} // 'on') eq 'off';

    $self->wait_for(60, sub {
        ($single || $self->workers == $workers)
            && IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{port}");
    }) or die "nginx does not start:\n", $self->log;

    return $self;
}


sub wait_for {
    my ($self, $seconds, $test) = @_;
    my $end = time + $seconds;

    until ($test->()) {
        if ($self->gone) {
            die "nginx has ended:\n", $self->log;
        }
        return 0 if time > $end;
        sleep 0.02;
    }

    return 1;
}


sub log {
    my ($self) = @_;
    my $text = '';

    for my $file (qw(out error.log)) {
        open my $in, '<', "$self->{dir}/$file" or next;
        local $/;
        $text .= <$in> // '';
    }

    return $text;
}


sub gone {
    my ($self) = @_;
    my $pid = $self->{pid} // return 1;

    local $?;
    return 0 if waitpid($pid, POSIX::WNOHANG()) == 0;

    delete $self->{pid};
    return 1;
}


# The first argument is the signal to begin with.

sub stop {
    my ($self, $signal) = @_;

    return if $$ != $self->{owner};

    for my $next ($signal // 'TERM', 'KILL') {
        return if $self->gone;

        my @workers = $next eq 'KILL' ? $self->workers : ();
        kill $next, $self->{pid}, @workers;

        my $end = time + 20;
        sleep 0.01 until $self->gone || time > $end;
    }
}

END { $_->stop for @all }


# --- what it uses

sub workers {
    my ($self) = @_;
    my $pid = $self->{pid} // return ();

    open my $in, '<', "/proc/$pid/task/$pid/children" or return ();
    my @pids = split ' ', <$in> // '';
    return @pids;
}


# Nanoseconds of CPU that the workers had, system calls included.

sub cpu {
    my ($self) = @_;
    my $sum = 0;

    for my $pid ($self->workers) {
        open my $in, '<', "/proc/$pid/schedstat" or next;
        $sum += (split ' ', <$in>)[0];
    }

    return $sum;
}


# KB of memory that one worker has, the largest.

sub rss {
    my ($self) = @_;
    my $most = 0;

    for my $pid ($self->workers) {
        open my $in, '<', "/proc/$pid/status" or next;
        my ($rss) = map { /^VmRSS:\s*(\d+)/ ? $1 : () } <$in>;
        $most = $rss if ($rss // 0) > $most;
    }

    return $most;
}

1;
