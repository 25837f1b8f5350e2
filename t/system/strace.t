# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What a worker asks of the kernel while it works: nothing that could make
# it wait anywhere but in epoll_wait().

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Dns;
use Agntkey::Nginx;
use Test::More;

my $probe = `strace -o /dev/null -f true 2>&1`;
plan skip_all => "strace cannot be used here: $probe" if $? != 0;

my $server = <<'_EOC_';
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
_EOC_

redis_start(tls => 1);
seed_key('one');

my $dns = Agntkey::Dns->new(port => free_port());
$dns->set('redis.agntkey.test', '127.0.0.1');

# Follows the worker while the function runs; the lines that it wrote.

sub traced {
    my ($nginx, $code) = @_;
    my ($worker) = $nginx->workers;
    my $file = test_dir() . '/strace.out';
    my $errors = test_dir() . '/strace.err';

    unlink $file;

    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $errors;
        open STDERR, '>&', \*STDOUT;
        { exec 'strace', '-f', '-T', '-o', $file, '-p', $worker }
        POSIX::_exit(127);
    }

    my $attached = wait_until(10, sub {
        open my $in, '<', $errors or return 0;
        return scalar grep { /attached/ } <$in>;
    });

    $code->() if $attached;

    kill 'INT', $pid;
    waitpid $pid, 0;

    return () if !$attached;

    open my $in, '<', $file or return ();
    return <$in>;
}

my @cases = (
    ['TCP', "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT};"],
    ['unix socket', "agntkey_redis unix:$ENV{TEST_NGINX_REDIS_SOCK};"],
    ['TLS', "agntkey_redis rediss://127.0.0.1:$ENV{TEST_NGINX_REDIS_TLS_PORT};"
            . "agntkey_redis_ssl_trusted_certificate"
            . " $ENV{TEST_NGINX_REDIS_CA};"],
    ['resolver', 'resolver 127.0.0.1:' . $dns->port . ' valid=1s;'
                 . "agntkey_redis redis://redis.agntkey.test:"
                 . "$ENV{TEST_NGINX_REDIS_PORT};"],
    ['host name', "agntkey_redis redis://localhost:"
                  . "$ENV{TEST_NGINX_REDIS_PORT};"],
);

for my $case (@cases) {
    my ($title, $http) = @$case;
    my $nginx = Agntkey::Nginx->new(http => $http, server => $server)->start;

    my %codes;
    my @lines = traced($nginx, sub {
        for my $round (1 .. 5) {
            my @waiting = map { ask_start($_ % 3 ? 'one' : "nobody-$_") }
                          1 .. 20;
            $_ % 7 ? $codes{ $waiting[$_]->response(20)->{code} }++
                   : $waiting[$_]->leave for 0 .. 19;

            # It has to connect again, and once it must wait for it.
            redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
            next if $round != 3;

            redis_stop();
            ask('one', timeout => 20) for 1 .. 5;
            redis_start();
            seed_key('one');
            $nginx->log_wait(qr/is back/, 1, 20);
        }
    });

    if (!@lines) {
        $nginx->stop;
        plan skip_all => 'strace cannot attach to a process here'
            if !Test::More->builder->current_test;
        fail("$title: strace follows the worker");
        next;
    }

    ok($codes{200}, "$title: good keys: 200")
        or diag(map { "$_: $codes{$_}\n" } keys %codes);

    my @waits = grep { /\b(?:poll|ppoll|select|pselect6|nanosleep|flock
                        |clock_nanosleep|fsync|fdatasync|wait4|pause)\(/x }
                @lines;
    ok(!@waits, "$title: nothing that waits") or diag(@waits[0 .. 5]);

    my @files = grep { /\bopen(?:at)?\(/ } @lines;
    my @names = grep { m{/etc/|nss|/dev/u?random} } @files;
    ok(!@names, "$title: no file of the system is opened") or diag(@names);

    # socket() ... = N, then what is done with N until it is closed.
    my (%nonblocking, @wrong);
    my $connects = 0;

    for my $line (@lines) {
        if ($line =~ /\b(?:socket|accept4)\(.*\) = (\d+)/) {
            $nonblocking{$1} = index($line, 'SOCK_NONBLOCK') >= 0;

        } elsif ($line =~ /\bioctl\((\d+), FIONBIO, \[1\]/) {
            $nonblocking{$1} = 1;

        } elsif ($line =~ /\bfcntl\((\d+), F_SETFL, [^)]*O_NONBLOCK/) {
            $nonblocking{$1} = 1;

        } elsif ($line =~ /\bclose\((\d+)\)/) {
            delete $nonblocking{$1};

        } elsif ($line =~ /\b(?:connect|sendto|sendmsg|send|writev?|readv?
                            |recvfrom|recvmsg|recv)\((\d+)/x
                 && exists $nonblocking{$1} && !$nonblocking{$1})
        {
            push @wrong, $line;
        }

        $connects++ if $line =~ /\bconnect\(\d+, \{sa_family=AF_(?:INET|UNIX)/;
    }

    ok($connects >= 4, "$title: connections were made") or diag($connects);
    ok(!@wrong, "$title: only on sockets that do not block") or diag(@wrong);

    # How long a call took, less what another process took from it.
    my @slow = grep { !/epoll_wait|epoll_pwait|resumed|strace/
                      && /<(\d+\.\d+)>$/ && $1 > 0.3 } @lines;
    ok(!@slow, "$title: no call but epoll_wait() takes long") or diag(@slow);

    ok(defined $nginx->quit, "$title: quit");
}

logs_clean();
done_testing();
