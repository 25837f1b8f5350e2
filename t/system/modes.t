# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The ways in which nginx may be run, and clients that speak HTTP/2 or TLS.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Test::More;

my $server = <<'_EOC_';
location /t { agntkey on; add_header X-Key "$agntkey_name $pid"; empty_gif; }
location /open { empty_gif; }
location /status { stub_status; }
_EOC_

my $url = "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT}; agntkey_cache off;";
my $fake_url = "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}; agntkey_cache off;";

redis_start(tls => 1);
seed_key('one', name => 'one');

sub have { return !system "command -v $_[0] >/dev/null 2>&1" }

sub nothing_in_the_log {
    my ($nginx, $title) = @_;
    my @lines = $nginx->lines(qr/\[(?:warn|error|crit|alert|emerg)\]/);

    ok(!@lines, "$title: nothing in the log") or diag(@lines);
}

sub works {
    my ($nginx, $title) = @_;

    answer_is(ask('one'), 200, "$title: a good key: 200");
    answer_is(ask('two'), '401 unknown', "$title: an unknown key: 401");
    answer_is(http('GET /t'), '401 missing', "$title: no key: 401");

    my @waiting = map { ask_start('one') } 1 .. 50;
    my @codes = map { $_->response->{code} } @waiting;
    is(scalar(grep { $_ eq '200' } @codes), 50, "$title: many at once")
        or diag("@codes");

    redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    ok(wait_until(10, sub {
        20 == grep { ask('one')->{code} eq '200' } 1 .. 20
    }), "$title: connections to Redis are replaced");
}


# --- processes

my @modes = (
    ['one process', master => 'off'],
    ['one worker', workers => 1],
    ['four workers', workers => 4],
    ['reuseport', workers => 4, listen => 'reuseport'],
    ['a thread pool', http => 'aio threads;'],
    ['multi_accept', events => 'multi_accept on;', workers => 2],
);

for my $mode (@modes) {
    my ($title, %opt) = @$mode;
    my $http = $url . (delete $opt{http} // '');
    my $nginx = Agntkey::Nginx->new(http => $http, server => $server, %opt);

    $nginx->start;
    works($nginx, $title);
    nothing_in_the_log($nginx, $title);

    my $took = $nginx->quit;
    ok(defined $took && $took < 5, "$title: quit is quick");
    ok(!$nginx->lines(qr/open socket/), "$title: no open socket");
}


# --- one process, which is told to read its configuration again

# After that nginx itself has no place for new clients ("worker_connections are
# not enough"), with or without a module.  Those that are there go on.

{
    my $cached = $url =~ s/ agntkey_cache off;//r;
    my $nginx = Agntkey::Nginx->new(
        master => 'off', http => "$cached keepalive_timeout 60s;",
        server => $server, keep => qr/worker_connections are not enough/,
    )->start;
    my $client = http_start('GET /t', headers => ['Connection: keep-alive',
                                                  bearer(key_for('one'))]);
    my $again = sub {
        $client->write("GET /t HTTP/1.1\r\nHost: localhost\r\n$_[0]\r\n\r\n");
        return $client->response;
    };

    answer_is($client->response, 200, 'one process: a good key: 200');
    ok(wait_until(10, sub { redis_cmd('ZCARD', 'agntkey:workers') == 1 }),
       'one process: it is in the registry');

    for my $n (1, 2) {
        my $lines = $nginx->lines(qr/ reconfiguring$/);

        $nginx->signal('HUP');
        ok($nginx->log_wait(qr/ reconfiguring$/, $lines + 2),
           'one process: reconfigured');
        answer_is($again->(bearer(key_for('one'))), 200,
                  'one process: a good key afterwards: 200');
        answer_is($again->(bearer(key_for('two'))), '401 unknown',
                  'one process: an unknown one: 401');
    }

    $client->leave;

    my $took = $nginx->quit;
    ok(defined $took && $took < 5, 'one process: quit is quick');
    is(redis_cmd('ZCARD', 'agntkey:workers'), 0,
       'one process: it has left the registry');
    ok(!$nginx->lines(qr/open socket/), 'one process: no open socket');
}


# --- every worker has a connection of its own

{
    my $nginx = Agntkey::Nginx->new(workers => 4, http => $url,
                                    server => $server)->start;

    ok(wait_until(10, sub {
        4 == grep { /name=agntkey/ } split /\n/, redis_cmd('CLIENT', 'LIST')
    }), 'four workers, four connections to Redis')
        or diag(redis_cmd('CLIENT', 'LIST'));
    ok(defined $nginx->quit, 'quit');

    my $off = Agntkey::Nginx->new(workers => 4, http => $url,
                                  server => 'location / { empty_gif; }');
    $off->start;
    answer_is(http('GET /'), 200, 'switched off: 200');
    ok(redis_cmd('CLIENT', 'LIST') !~ /name=agntkey/,
       'and no connection to Redis');
    ok(defined $off->quit, 'quit');
}


# --- worker_connections spent

{
    # Before any client comes: a process that is forked later would share
    # its connections, and keep them open.
    my $proxy = proxy();
    $proxy->refuse;

    my $nginx = Agntkey::Nginx->new(
        connections => 16, server => $server,
        http => "agntkey_redis redis://127.0.0.1:"
                . "$ENV{TEST_NGINX_PROXY_PORT}; agntkey_cache off; client_header_timeout 60s;",
        keep => qr/\[alert\] .*worker_connections are not enough/,
    )->start;

    # Redis is away, and clients take every place.
    answer_is(ask('one'), 503, 'no Redis: 503');

    my @slow;

    # An attempt takes a place now and then, and gives it back.
    ok(wait_until(15, sub {
        push @slow, http_start('GET /t', raw => "GET /t HTTP/1.1\r\nHost:")
            if @slow < 300;
        return scalar $nginx->lines(qr/is away: no connection is free/);
    }), 'no connection is free');
    $proxy->accept;

    # One of those who have a place.
    $slow[0]->write(" localhost\r\n" . bearer(key_for('one')) . "\r\n\r\n");
    answer_is($slow[0]->response, 503, 'a good key meanwhile: 503');

    $_->leave for @slow;
    ok($nginx->log_wait(qr/is back/), 'once they have left it is back');
    ok(wait_until(10, sub { ask('one')->{code} eq '200' }), 'then: 200');
    ok(defined $nginx->quit, 'quit');
    $proxy->stop;
}

{
    fake_redis(keys => ['one'],
               rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);

    my $nginx = Agntkey::Nginx->new(
        connections => 16, server => $server,
        http => "$fake_url agntkey_redis_timeout 20s;",
        keep => qr/\[alert\] .*worker_connections are not enough/,
    )->start;

    my @waiting = map { ask_start('one') } 1 .. 40;

    ok($nginx->log_wait(qr/worker_connections are not enough/),
       'all places are taken by those who wait');
    fake_wait(qr/^HMGET/);
    fake_release();

    my @codes = map { $_->response->{code} } @waiting;
    my $good = grep { $_ eq '200' } @codes;

    ok($good > 0, 'who has a place has 200') or diag("@codes");
    ok(!(grep { $_ ne '200' && $_ ne '' } @codes),
       'who has none is turned away by nginx') or diag("@codes");
    answer_is(ask('one'), 200, 'then: 200');
    ok(defined $nginx->quit, 'quit');
}


# --- HTTP/2

# A frame (RFC 9113, section 4.1), and the headers of a request, without
# compression (RFC 7541, section 6.2.2).

sub frame {
    my ($type, $flags, $stream, $payload) = @_;

    return substr(pack('N', length $payload), 1)
           . pack('C C N', $type, $flags, $stream) . $payload;
}

sub h2_headers {
    my ($stream, $key, $path) = @_;
    my $text = defined $key ? "Bearer $key" : '';

    $path //= '/t';

    return frame(1, 0x05, $stream,
                 "\x82\x86\x04" . chr(length $path) . $path
                 . "\x01\x09localhost"
                 . ($text ne '' ? "\x0f\x08" . chr(length $text) . $text
                                : ''));
}

sub h2_connect {
    my ($nginx) = @_;

    return http_start('', raw => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                 . frame(4, 0, 0, ''));
}

# The codes of the responses that came until all of them did, by stream;
# 200 is 8 of the static table, the others stand as text.

sub h2_codes {
    my ($client, $n) = @_;
    my ($in, %codes) = ('');
    my $end = time + 10;

    while (keys %codes < $n && time < $end) {
        vec(my $set = '', fileno $client->{sock}, 1) = 1;
        select($set, undef, undef, 1) or next;
        sysread($client->{sock}, $in, 65536, length $in) or last;

        while (length $in >= 9) {
            my ($length, $type, $flags, $stream)
                = (unpack('N', "\0" . substr $in, 0, 3),
                   unpack 'C C N', substr $in, 3, 6);
            last if length $in < 9 + $length;

            my $payload = substr $in, 9, $length;
            substr $in, 0, 9 + $length, '';

            # After an update of the table's size, if there is one.
            $codes{$stream} = $payload =~ /^[\x20-\x3f]*\x88/ ? 200 : 'other'
                if $type == 1;
        }
    }

    return %codes;
}

{
    fake_redis(keys => ['one'],
               rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);

    my $nginx = Agntkey::Nginx->new(
        listen => 'http2', server => $server,
        http => "$fake_url agntkey_redis_timeout 30s;"
                . "keepalive_requests 10000;",
    )->start;

    my $client = h2_connect($nginx);
    my $stream = 1;
    my $resets = 0;

    for my $batch (1 .. 20) {
        my @streams = map { $stream + 2 * $_ } 0 .. 49;
        $stream += 100;

        $client->write(join '', map { h2_headers($_, key_for('one')) }
                                @streams);

        # The first look-up is held, the others stand behind it unread; so
        # they are known by the answer to a PING behind them.
        $client->write(frame(6, 0, 0, 'x' x 8));
        $resets++ if wait_until(10, sub {
            vec(my $set = '', fileno $client->{sock}, 1) = 1;
            select($set, undef, undef, 0.01) or return 0;
            sysread($client->{sock}, my $in, 65536) or return 1;
            $in =~ /x{8}/;
        });

        $client->write(join '', map { frame(3, 0, $_, pack 'N', 8) }
                                @streams);
    }

    is($resets, 20, 'HTTP/2: a thousand streams reset while they wait');

    my @last = ($stream, $stream + 2);
    $client->write(join '', map { h2_headers($_, key_for('one')) } @last);
    fake_release();

    my %codes = h2_codes($client, 2);
    is(join(' ', map { $codes{$_} // 'none' } @last), '200 200',
       'HTTP/2: streams that stay have their answers');
    is(scalar keys %codes, 2, 'HTTP/2: nobody else has one');

    $client->leave;

    # A whole connection, with streams that wait.
    fake_redis(keys => ['one'],
               rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);

    for my $how ('rst', 'fin') {
        my $other = h2_connect($nginx);
        $other->write(join '', map { h2_headers(2 * $_ + 1, key_for('one')) }
                               0 .. 49);
        fake_wait(qr/^HMGET/);
        $other->leave($how);
    }

    fake_release();

    my $new = h2_connect($nginx);
    $new->write(h2_headers(1, key_for('one')));
    %codes = h2_codes($new, 1);
    is($codes{1} // 'none', 200, 'HTTP/2: a new connection has its answer');
    $new->leave;

    ok(!$nginx->lines(qr/\[(?:alert|emerg|crit)\]/),
       'HTTP/2: no alert in the log');

    my $took = $nginx->quit;
    ok(defined $took && $took < 5, 'HTTP/2: quit is quick: nobody is left')
        or diag($took // 'never');
    ok(!$nginx->lines(qr/open socket/), 'HTTP/2: no open socket');
}

# A key in :path is what the client has sent, whatever an error page makes of
# the arguments.

{
    my $nginx = Agntkey::Nginx->new(
        listen => 'http2', http => $url, log_level => 'crit',
        server => <<_EOC_)->start;
access_log off;
agntkey on;
agntkey_token \$arg_key;
error_page 502 = /page;
location /page { empty_gif; }
location /app {
    proxy_pass http://127.0.0.1:$ENV{TEST_NGINX_CLOSED_PORT};
}
_EOC_

    my $code = sub {
        my ($target) = @_;
        my $client = h2_connect($nginx);

        $client->write(h2_headers(1, undef, $target));
        return { h2_codes($client, 1) }->{1} // 'none';
    };

    my $key = key_for('one');

    is($code->("/page?key=$key"), 200, 'HTTP/2: a key in the query');
    is($code->("/app?key=$key"), 200, 'HTTP/2: and on an error page');
    is($code->('/app?key=x'), 'other', 'HTTP/2: a bad key');
    is($code->('/app'), 'other', 'HTTP/2: no key');

    ok(defined $nginx->quit, 'quit');
}

SKIP: {
    skip 'no h2load', 3 if !have('h2load');

    my $nginx = Agntkey::Nginx->new(listen => 'http2', server => $server,
                                    workers => 2,
                                    http => "$url agntkey_redis_timeout 20s;"
    )->start;
    my $authorization = lc(substr(bearer(key_for('one')), 0, 1))
                        . substr bearer(key_for('one')), 1;

    my $out = `h2load -n 4000 -c 8 -m 20 -H '$authorization' \\
               http://127.0.0.1:$ENV{TEST_NGINX_PORT}/t 2>&1`;

    like($out, qr/4000 succeeded, 0 failed, 0 errored, 0 timeout/,
         'HTTP/2: four thousand requests, on eight connections');
    like($out, qr/status codes: 4000 2xx, 0 3xx, 0 4xx, 0 5xx/,
         'HTTP/2: all of them 200');
    ok(defined $nginx->quit, 'quit');
}


# --- TLS clients that leave while they wait

SKIP: {
    skip 'no curl', 8 if !have('curl');

    my $tls = redis()->certificates;

    for my $protocol ('http1.1', 'http2') {
        fake_redis(keys => ['one'],
                   rules => [{ match => qr/^HMGET/, nth => 1,
                               do => 'hold' }]);

        my $plain = free_port();
        my $nginx = Agntkey::Nginx->new(
            http => "$fake_url agntkey_redis_timeout 30s;"
                    . "ssl_certificate $tls->{cert};"
                    . "ssl_certificate_key $tls->{key};"
                    . "server { listen 127.0.0.1:$plain; $server }",
            listen => 'ssl http2', server => $server,
        )->start;

        my @pids;

        for my $n (1 .. 30) {
            my $pid = fork // die "fork: $!\n";

            if ($pid == 0) {
                open STDIN, '<', '/dev/null';
                open STDOUT, '>', '/dev/null';
                open STDERR, '>', '/dev/null';
                { exec 'curl', '-sk', "--$protocol", '-H',
                       bearer(key_for('one')),
                       "https://127.0.0.1:$ENV{TEST_NGINX_PORT}/t" }
                POSIX::_exit(127);
            }

            push @pids, $pid;
        }

        my $active = sub { active_connections(port => $plain) };

        ok(wait_until(20, sub { $active->() == 30 }),
           "TLS, $protocol: thirty wait");

        # Half go without a word, half have the time for one.
        kill $_ % 2 ? 'KILL' : 'TERM', $pids[$_] for 0 .. $#pids;
        waitpid $_, 0 for @pids;

        ok(wait_until(10, sub { $active->() == 0 }),
           "TLS, $protocol: no connection is left") or diag($active->());
        fake_release();
        answer_is(ask('one', port => $plain), 200,
                  "TLS, $protocol: then a good key: 200");
        nothing_in_the_log($nginx, "TLS, $protocol");
        ok(defined $nginx->quit, "TLS, $protocol: quit");
    }
}

logs_clean();
done_testing();
