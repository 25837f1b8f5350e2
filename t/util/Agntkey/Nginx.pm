# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# An nginx of a test's own, for what a block of Test::Nginx cannot say: many
# workers, reloads, processes that are killed.
#
#     my $nginx = Agntkey::Nginx->new(workers => 2, http => '...',
#                                     server => '...')->start;
#
# Its files are in a directory of their own; its logs are read for what must
# never be there when it stops, and logs_clean() is the test.

package Agntkey::Nginx;

use strict;
use warnings;

use File::Path qw(make_path);
use POSIX ();
use Time::HiRes qw(sleep time);

my @all;


# new(name =>, workers => 1, master => 'on', connections => 256, port =>,
#     listen => 'reuseport', main =>, events =>, http =>, server =>,
#     log_level => 'info',
#     keep => qr/what the logs may hold/)

sub new {
    my ($class, %opt) = @_;
    my $self = bless {
        owner => $$, workers => 1, master => 'on', connections => 256,
        port => $ENV{TEST_NGINX_PORT}, listen => '', log_level => 'info',
        main => '', events => '', http => '', server => '', name => 'nginx-' . @all, %opt,
    }, $class;

    $self->{root} = Agntkey::test_dir() . "/$self->{name}";
    make_path("$self->{root}/logs", "$self->{root}/conf");

    push @all, $self;
    return $self;
}


sub pid { return $_[0]{pid} }
sub log_file { return "$_[0]{root}/logs/error.log" }

sub lines { return Agntkey::log_lines($_[1], $_[0]->log_file) }

sub log_wait {
    my ($self, $match, $n, $seconds) = @_;
    return Agntkey::log_wait($match, $n, $seconds, $self->log_file);
}


sub write_config {
    my ($self) = @_;
    my $root = $self->{root};
    my $listen = $self->{listen};
    my $http2 = '';

    # From 1.25.1 on, a parameter of "listen" is a warning.
    $http2 = 'http2 on;'
        if version() >= 1.025001 && $listen =~ s/\bhttp2\b//;

    my $modules = join "\n", map { "load_module $_;" }
                             split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';
    my $user = $> == 0 ? 'user root;' : '';
    my $temp = join "\n", map { "${_}_temp_path $root/${_}_temp;" }
                          qw(client_body proxy fastcgi scgi uwsgi);

    open my $out, '>', "$root/conf/nginx.conf"
        or die "$root/conf/nginx.conf: $!\n";

    print $out <<_EOC_;
daemon off;
$user
master_process $self->{master};
worker_processes $self->{workers};
error_log $root/logs/error.log $self->{log_level};
pid $root/logs/nginx.pid;
$modules
$self->{main}

events {
    worker_connections $self->{connections};
    accept_mutex off;
    $self->{events}
}

http {
    access_log $root/logs/access.log;
    $temp
    default_type text/plain;
    $self->{http}

    server {
        listen 127.0.0.1:$self->{port} $listen;
        $http2
        $self->{server}
    }
}
_EOC_
    close $out;
}


sub binary { return $ENV{TEST_NGINX_BINARY} || 'nginx' }


# 1.022001 for 1.22.1

my $version;

sub version {
    return $version //= do {
        my $binary = binary();
        my $said = `$binary -v 2>&1` // '';
        my ($major, $minor, $patch) = $said =~ m{nginx/(\d+)\.(\d+)\.(\d+)}
            or die "nginx -v: $said\n";

        $major + $minor / 1000 + $patch / 1000000;
    };
}


# Returns once it answers.

sub start {
    my ($self) = @_;
    my $root = $self->{root};

    $self->write_config;

    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$root/out";
        open STDERR, '>&', \*STDOUT;

        { exec binary(), '-e', "$root/logs/error.log", '-p', "$root/",
               '-c', "$root/conf/nginx.conf" }
        POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    my $up = Agntkey::wait_until(15, sub {
        die "nginx does not start:\n", $self->lines(qr/./)
            if $self->gone;
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', Proto => 'tcp',
                              PeerPort => $self->{port});
    });

    die "nginx does not listen\n" if !$up;

    # The socket is there before the last worker is.
    Agntkey::wait_until(10, sub { $self->workers == $self->{workers} })
        if $self->{master} eq 'on';

    return $self;
}


# The pids of its workers, old ones included.

sub workers {
    my ($self) = @_;
    my $pid = $self->{pid} // return ();

    open my $in, '<', "/proc/$pid/task/$pid/children" or return ();
    my @pids = grep { running($_) } split ' ', <$in> // '';
    return @pids;
}


sub running {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/stat" or return 0;
    return (<$in> // '') =~ /^\d+ \(.*\) [^ZX]/s;
}


sub gone {
    my ($self) = @_;
    my $pid = $self->{pid} // return 1;

    local $?;
    return 0 if waitpid($pid, POSIX::WNOHANG()) == 0;

    $self->{status} = $?;
    undef $self->{pid};
    return 1;
}


sub signal { return kill $_[1], $_[0]{pid} }


# Sends HUP; true once there are as many new workers as there are to be, and
# the old ones take no more connections.

sub reload {
    my ($self, $seconds) = @_;
    my %old = map { $_ => 1 } $self->workers;

    $self->signal('HUP');

    return Agntkey::wait_until($seconds // 15, sub {
        $self->{workers} == (grep { !$old{$_} } $self->workers)
            && !grep { running($_)
                       && !$self->lines(qr/ $_#\d+: gracefully shutting/) }
               keys %old;
    });
}


# True once none but the workers that are to be there are.

sub settled {
    my ($self, $seconds) = @_;

    return Agntkey::wait_until($seconds // 15,
                               sub { $self->workers == $self->{workers} });
}


# How many seconds it took to leave after QUIT, or undef.

sub quit {
    my ($self, $seconds) = @_;
    my $started = time;

    $self->signal('QUIT');
    Agntkey::wait_until($seconds // 15, sub { $self->gone }) or return undef;

    my $took = time - $started;
    $self->stop;
    return $took;
}


# Reads the logs, and ends whatever is still there.

sub stop {
    my ($self) = @_;

    return if $$ != $self->{owner} || $self->{stopped}++;

    my @workers = $self->workers;

    if (!$self->gone) {
        $self->signal('TERM');

        if (!Agntkey::wait_until(10, sub { $self->gone })) {
            kill 'KILL', grep { running($_) } $self->{pid}, @workers;
            Agntkey::wait_until(5, sub { $self->gone });
        }
    }

    Agntkey::watch(allow => $self->{keep});
    Agntkey::open_logs($self->{name}, $self->{root});
    Agntkey::finish_log();
}


sub stop_all { $_->stop for @all }


# --- of a process

sub fds {
    my ($pid) = @_;
    my @fds = glob "/proc/$pid/fd/*";
    return scalar @fds;
}


# Does its size say what it needs?  A sanitizer, which maps terabytes, and
# valgrind keep for a while what was freed.

sub size_tells {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/status" or return 0;
    my ($size) = map { /^VmSize:\s*(\d+)/ ? $1 : () } <$in>;

    return ($size // 0) < 2 ** 30
           && (readlink("/proc/$pid/exe") // '') !~ /valgrind|memcheck/;
}


# KB

sub rss {
    my ($pid) = @_;

    open my $in, '<', "/proc/$pid/status" or return 0;
    my ($rss) = map { /^VmRSS:\s*(\d+)/ ? $1 : () } <$in>;
    return $rss // 0;
}

1;
