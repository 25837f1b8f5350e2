# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Reloads, shutdowns, and workers that die: no request fails for it, and
# nothing is left behind.
#
# AGNTKEY_RELOADS says how many reloads under load there are to be (20).

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Dns;
use Agntkey::Nginx;
use Test::More;
use Time::HiRes qw(sleep time);

my $server = <<'_EOC_';
location /t { agntkey on; empty_gif; }
location /open { add_header X-Pid $pid; empty_gif; }
location /status { stub_status; }
_EOC_

my $fake_url = "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}; agntkey_cache off;";

sub codes_are {
    my ($want, $title, @clients) = @_;
    my @codes = map { $_->response(20)->{code} } @clients;

    is(scalar(grep { $_ eq $want } @codes), scalar @clients, $title)
        or diag("@codes");
}

sub no_open_socket {
    my ($nginx, $title) = @_;
    my @lines = $nginx->lines(qr/open socket/);

    ok(!@lines, "$title: no open socket") or diag(@lines);
}


# --- a reload with requests waiting

{
    fake_redis(keys => ['one'],
               rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);

    my $nginx = Agntkey::Nginx->new(
        http => "$fake_url agntkey_redis_timeout 20s;", server => $server,
    )->start;

    my ($old) = $nginx->workers;
    my @waiting = map { ask_start('one') } 1 .. 20;
    ok(wait_until(10, sub { active_connections() == 20 }), 'twenty wait');

    ok($nginx->reload, 'a new worker');
    answer_is(ask('one'), 200, 'which answers while the old ones wait');
    ok(Agntkey::Nginx::running($old), 'the old worker stays for them');
    ok(!(grep { $_->started } @waiting), 'none has been sent away');

    fake_release();
    codes_are(200, 'reload with requests waiting: none fails', @waiting);
    ok($nginx->settled, 'then the old worker leaves');
    no_open_socket($nginx, 'reload with requests waiting');
    ok(defined $nginx->quit, 'quit');
}


# --- the same, and Redis never answers, or closes

{
    fake_redis(keys => ['one'],
               rules => [{ match => qr/^HMGET/, nth => 1, do => 'stall' }]);

    my $nginx = Agntkey::Nginx->new(
        http => "$fake_url agntkey_redis_timeout 2s;", server => $server,
    )->start;

    my @waiting = map { ask_start('one') } 1 .. 20;
    ok(wait_until(10, sub { active_connections() == 20 }), 'twenty wait');
    ok($nginx->reload, 'a new worker');

    codes_are(503, 'Redis hangs during a reload: 503 for all', @waiting);
    ok($nginx->settled, 'then the old worker leaves');
    answer_is(ask('one'), 200, 'the new one answers');

    no_open_socket($nginx, 'Redis hangs during a reload');
    ok(defined $nginx->quit, 'quit');

    fake_redis(keys => ['one'],
               rules => [{ match => qr/^HMGET/, nth => 1, do => 'stall' }]);

    $nginx = Agntkey::Nginx->new(
        http => "$fake_url agntkey_redis_timeout 10s;", server => $server,
    )->start;

    @waiting = map { ask_start('one') } 1 .. 20;
    ok(wait_until(10, sub { active_connections() == 20 }), 'twenty wait');
    ok($nginx->reload, 'a new worker');
    fake_close(1, 'rst');

    codes_are(200, 'Redis closes after a reload: asked once more', @waiting);
    ok($nginx->settled, 'then the old worker leaves');
    no_open_socket($nginx, 'Redis closes after a reload');
    ok(defined $nginx->quit, 'quit');
}


# --- many reloads under load

redis_start(tls => 1);
seed_key('one');

# Clients that ask without a pause until they are told to stop, which is no
# signal: that would interrupt a request.  What they got comes back.

sub load_start {
    my ($clients) = @_;
    my @load;

    for (1 .. $clients) {
        pipe(my $read, my $write) or die "pipe: $!\n";
        pipe(my $stop, my $stopper) or die "pipe: $!\n";
        my $pid = fork // die "fork: $!\n";

        if ($pid == 0) {
            my %codes;

            close $_ for $read, $stopper, map { $_->{stopper} } @load;

            for ( ;; ) {
                vec(my $set = '', fileno $stop, 1) = 1;
                last if select $set, undef, undef, 0;

                my $res = eval { ask('one', timeout => 60) };
                my $what = $res ? $res->{code} || "none: $res->{raw}"
                                : "died: $@";
                $codes{ $what =~ s/\s+/ /gr }++;
            }

            print $write join "\n", map { "$_\t$codes{$_}" } keys %codes;
            close $write;
            POSIX::_exit(0);
        }

        close $_ for $write, $stop;
        push @load, { pid => $pid, read => $read, stopper => $stopper };
    }

    return @load;
}

sub load_stop {
    my (@load) = @_;
    my %codes;

    close $_->{stopper} for @load;

    for my $client (@load) {
        my $in = $client->{read};

        while (my $line = <$in>) {
            chomp $line;
            my ($code, $n) = split /\t/, $line;
            $codes{$code} += $n if defined $n;
        }

        waitpid $client->{pid}, 0;
    }

    return %codes;
}

my $count = $ENV{AGNTKEY_RELOADS} || 20;

for my $url ("redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT}",
             "rediss://127.0.0.1:$ENV{TEST_NGINX_REDIS_TLS_PORT}")
{
    my ($scheme) = $url =~ /^(\w+)/;

    my $nginx = Agntkey::Nginx->new(
        workers => 2, connections => 512, server => $server,
        http => "agntkey_redis $url; agntkey_cache off;\n"
                . "agntkey_redis_timeout 10s;\n"
                . "agntkey_redis_connect_timeout 10s;\n"
                . "agntkey_redis_ssl_trusted_certificate"
                . " $ENV{TEST_NGINX_REDIS_CA};",
    )->start;

    my @load = load_start(3);
    my ($done, @early) = (0);

    for my $n (1 .. $count) {
        $done++ if $nginx->reload && $nginx->settled;

        # The first reloads find a heap that has not settled yet.
        if ($n == 5 || $n == $count) {
            push @early, [Agntkey::Nginx::fds($nginx->pid),
                          Agntkey::Nginx::rss($nginx->pid)];
        }
    }

    my %codes = load_stop(@load);
    my $good = delete $codes{200} // 0;

    is($done, $count, "$scheme: $count reloads, no old worker left");
    ok($good > $count, "$scheme: requests all the while") or diag($good);
    is(join(', ', map { "$_: $codes{$_}" } sort keys %codes), '',
       "$scheme: none of $good requests failed");

    my ($first, $last) = @early[0, -1];

    # Channels to workers that have left go with their SIGCHLD.
    ok(wait_until(5, sub {
        Agntkey::Nginx::fds($nginx->pid) <= $first->[0]
    }), "$scheme: the master has no more files open")
        or diag("$first->[0], then $last->[0]");

    SKIP: {
        skip 'its size does not tell', 1
            if !Agntkey::Nginx::size_tells($nginx->pid);

        ok($last->[1] - $first->[1] < 4096 + 8 * $count,
           "$scheme: the master does not grow")
            or diag("$first->[1] KB, then $last->[1] KB");
    }

    # One connection to Redis for each worker, and that of the suite.
    ok(wait_until(10, sub {
        2 == grep { /name=agntkey/ } split /\n/, redis_cmd('CLIENT', 'LIST')
    }), "$scheme: no connection to Redis is left over")
        or diag(redis_cmd('CLIENT', 'LIST'));

    no_open_socket($nginx, $scheme);
    is(scalar(my @e = $nginx->lines(qr/\[(?:error|crit)\]/)), 0,
       "$scheme: no error") or diag($nginx->lines(qr/\[(?:error|crit)\]/));

    my $took = $nginx->quit;
    ok(defined $took && $took < 5, "$scheme: quit with idle connections");
}


# --- a worker does not grow

{
    my $nginx = Agntkey::Nginx->new(
        server => $server,
        http => "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT};",
    )->start;

    my ($worker) = $nginx->workers;
    my @seen;

    for my $round (1 .. 6) {
        for my $n (1 .. 300) {
            my $label = $n % 3 ? 'one' : "nobody-$n";
            my $client = ask_start($label);
            $n % 5 ? $client->response : $client->leave;
        }

        # A connection that breaks is a part of it.
        redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
        ok(wait_until(10, sub { active_connections() == 0 }),
           "round $round: no connection is left");
        ok(wait_until(10, sub { ask('one')->{code} eq '200' }),
           "round $round: a good key: 200");

        push @seen, [Agntkey::Nginx::fds($worker),
                     Agntkey::Nginx::rss($worker)];
    }

    ok(wait_until(5, sub { Agntkey::Nginx::fds($worker) <= $seen[1][0] }),
       'the worker has no more files open')
        or diag(join ', ', map { $_->[0] } @seen);

    SKIP: {
        skip 'its size does not tell', 1
            if !Agntkey::Nginx::size_tells($worker);

        ok($seen[-1][1] - $seen[1][1] < 1024, 'the worker does not grow')
            or diag(join ' KB, ', map { $_->[1] } @seen);
    }

    ok(defined $nginx->quit, 'quit');
}


# --- quit, in whatever state the connection is

my $dns = Agntkey::Dns->new(port => free_port());
$dns->set('redis.agntkey.test', 'silence');

my $slow = "agntkey_redis_timeout 60s; agntkey_redis_connect_timeout 60s;";

my @states = (
    ['idle', "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT};",
     200],
    ['idle, TLS', "agntkey_redis rediss://127.0.0.1:"
                  . "$ENV{TEST_NGINX_REDIS_TLS_PORT};"
                  . "agntkey_redis_ssl_trusted_certificate"
                  . " $ENV{TEST_NGINX_REDIS_CA};", 200],
    ['away', "agntkey_redis redis://127.0.0.1:"
             . "$ENV{TEST_NGINX_CLOSED_PORT};", 503],
    ['greeting', "$fake_url $slow"],
    ['TLS handshake', "agntkey_redis rediss://127.0.0.1:"
                      . "$ENV{TEST_NGINX_FAKE_PORT}; $slow"],
    ['resolving', 'resolver 127.0.0.1:' . $dns->port . ';'
                  . "agntkey_redis redis://redis.agntkey.test; $slow"],
);

fake_redis(accept => 'stall');

for my $state (@states) {
    my ($what, $http, $code) = @$state;

    my $nginx = Agntkey::Nginx->new(http => $http, server => $server)->start;

    answer_is(ask('one'), $code, "$what: $code") if $code;

    my $took = $nginx->quit;
    ok(defined $took && $took < 5, "$what: quit is quick")
        or diag($took // 'never');
    no_open_socket($nginx, $what);

    # With a client that waits for it, and leaves.
    next if $code;

    $nginx = Agntkey::Nginx->new(http => $http, server => $server)->start;

    my $client = ask_start('one');
    ok(wait_until(10, sub { active_connections() == 1 }), "$what: one waits");
    $client->leave;
    ok(wait_until(10, sub { active_connections() == 0 }), "$what: it leaves");

    $nginx->signal('TERM');
    ok(wait_until(10, sub { $nginx->gone }), "$what: TERM is quick");
    no_open_socket($nginx, $what);
    $nginx->stop;
}


# --- worker_shutdown_timeout, and Redis hangs

my @hung = (
    ['in a reply', { keys => ['one'],
                     rules => [{ match => qr/^HMGET/, do => 'stall' }] }],
    ['in the greeting', { accept => 'stall' }],
);

for my $hung (@hung) {
    my ($what, $fake) = @$hung;

    for my $how ('QUIT', 'HUP') {
        fake_redis(%$fake);

        my $nginx = Agntkey::Nginx->new(
            main => 'worker_shutdown_timeout 1s;',
            http => "$fake_url $slow", server => $server,
        )->start;

        my ($old) = $nginx->workers;
        my @waiting = map { ask_start('one') } 1 .. 5;
        ok(wait_until(10, sub { active_connections() == 5 }),
           "$what, $how: five wait");

        $nginx->signal($how);
        ok(wait_until(10, sub { !Agntkey::Nginx::running($old) }),
           "$what, $how: the worker is gone in time")
            or diag($nginx->lines(qr/./));
        no_open_socket($nginx, "$what, $how");
        $nginx->stop;
    }
}


# --- a worker is killed

{
    fake_redis(keys => ['one'], rules => [{ match => qr/^HMGET/,
                                            do => 'hold' }]);

    my $nginx = Agntkey::Nginx->new(
        workers => 2, server => $server,
        http => "$fake_url agntkey_redis_timeout 20s;",
        keep => qr/worker process \d+ exited on signal 9/,
    )->start;

    my (%of, $n);

    # Until both have some; who gets a connection is the kernel's choice.
    while (++$n < 500 && 2 != grep { @$_ >= 5 } values %of) {
        my $client = http_start('GET /open',
                                headers => 'Connection: keep-alive');
        my $pid = $client->response->{headers}{'x-pid'};
        push @{ $of{$pid} }, $client if @{ $of{$pid} // [] } < 5;
    }

    is(scalar keys %of, 2, 'both workers have clients');
    $_->write("GET /t HTTP/1.1\r\nHost: localhost\r\n"
              . bearer(key_for('one')) . "\r\n\r\n")
        for map { @$_ } values %of;
    ok(fake_wait(qr/^HMGET/, 10), 'all of them wait');

    my ($victim, $other) = sort keys %of;
    kill 'KILL', $victim;
    ok(wait_until(10, sub { !Agntkey::Nginx::running($victim) }),
       'one worker is killed');
    ok($nginx->settled, 'another takes its place');

    fake_release();
    codes_are(200, 'the clients of the other have their answers',
              @{ $of{$other} });
    ok(Agntkey::Nginx::running($other), 'the other still runs');

    fake_redis(keys => ['one']);
    ok(wait_until(10, sub {
        20 == grep { ask('one')->{code} eq '200' } 1 .. 20
    }), 'then all is well');
    ok(defined $nginx->quit, 'quit');
}

logs_clean();
done_testing();
