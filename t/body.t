# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Requests with a body: refused before it is read, forwarded as it came.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

my $one = seed_key('one');

# Each look-up waits until it is let go.
fake_redis(keys => ['one'],
           rules => [{ match => qr/^HMGET/, do => 'hold' }]);

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $slow = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_cache off;
    agntkey_redis_timeout 10s;
_EOC_

# The application tells where the body that it got was written.

our $config = <<'_EOC_';
        root html;
        client_body_buffer_size 16k;

        location /v1 { agntkey on; }

        location /app {
            agntkey on;
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/sink;
        }

        location /stream {
            agntkey on;
            proxy_request_buffering off;
            proxy_http_version 1.1;
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/sink;
        }

        location /limit {
            agntkey on;
            client_max_body_size 1k;
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/sink;
        }

        location /sink {
            access_log logs/sink.log;
            client_body_in_file_only on;
            add_header X-File $request_body_file;
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/done;
        }

        location /done { return 200 "done\n"; }
_EOC_

our $user_files = ">>> v1\nhello\n";


my $pattern = join '', map { chr($_ * 7919 % 251) } 1 .. 65_521;

sub body_of {
    my ($size) = @_;
    return substr $pattern x (1 + $size / length $pattern), 0, $size;
}


sub chunked {
    my ($body, $size) = @_;
    my $text = '';

    while ($body ne '') {
        my $chunk = substr $body, 0, $size, '';
        $text .= sprintf("%x\r\n", length $chunk) . "$chunk\r\n";
    }

    return "${text}0\r\n\r\n";
}


sub head {
    my ($line, @headers) = @_;
    return join "\r\n", "$line HTTP/1.1", 'Host: localhost', @headers,
                        '', '';
}


sub refused {
    my ($res, $title, $code) = @_;

    is($res->{code}, $code // 401, $title) or return diag($res->{raw});
    is($res->{headers}{'cache-control'}, 'no-store', "$title - no-store");
    is($res->{headers}{'content-type'}, 'application/problem+json',
       "$title - Content-Type");
}


# What the application got.

sub received {
    my ($res) = @_;
    my $file = $res->{headers}{'x-file'} // return '';

    open my $in, '<', $file or return "$file: $!";
    binmode $in;
    local $/;
    return <$in> // '';
}


sub same {
    my ($got, $want, $title) = @_;

    ok($got eq $want, $title)
        or diag(length($got) . ' bytes in place of ' . length $want);
}


sub nothing_forwarded {
    my $file = server_root() . '/logs/sink.log';

    is(-s $file // 0, 0, 'the application heard of nothing');
}


# --- refused

# None of the body is sent, or a part: the answer comes all the same.

sub early {
    for my $part ('', 'x', 'x' x 100_000) {
        for my $size ('Content-Length: 10000000',
                      'Transfer-Encoding: chunked')
        {
            my $body = $part;

            $body = sprintf("%x\r\n", 1 + length $part) . $part
                if $size =~ /chunked/ && $part ne '';

            my $conn = http_start('', raw => head('POST /app', $size)
                                             . $body);

            refused($conn->response(2), "$size, of which "
                    . length($part) . ' bytes came');
            $conn->leave;
        }
    }

    nothing_forwarded();
}


# All of it is sent, by a client that reads nothing before.

sub whole {
    for my $size (1, 1000, 100_000, 5_000_000) {
        my $body = 'x' x $size;

        refused(http('POST /app', body => $body), "$size bytes");
        refused(http('POST /app', headers => 'Transfer-Encoding: chunked',
                     body => chunked($body, 50_000)),
                "$size bytes in chunks");
        refused(http('POST /stream', body => $body, headers => bearer('x')),
                "$size bytes to be streamed");
    }

    nothing_forwarded();
}


# nginx itself looks at the length first.

sub too_large {
    is(http('POST /limit', body => 'x' x 2000)->{code}, 413,
       'too large, no key');
    is(http('POST /limit', body => 'x' x 2000,
            headers => bearer($one))->{code}, 413, 'too large, a good key');
    refused(http('POST /limit', body => 'x' x 1000), 'not too large');
}


# --- Expect: 100-continue

# A response of one line.

sub told_to_continue {
    my ($conn) = @_;

    while ($conn->{in} !~ /\r\n\r\n/ && $conn->started(5)) {
        sysread $conn->{sock}, $conn->{in}, 4096, length $conn->{in}
            or last;
    }

    return $conn->{in} =~ s{\AHTTP/1\.1 100 Continue\r\n\r\n}{};
}


sub expect {
    my $body = body_of(100_000);
    my @head = ('Expect: 100-continue', 'Content-Length: 100000');

    my $conn = http_start('', raw => head('POST /app', @head));
    my $res = $conn->response;

    refused($res, 'refused without a 100');
    unlike($res->{raw}, qr/^HTTP\S+ 100/, 'no 100 before a refusal');

    for my $path ('/app', '/stream') {
        $conn = http_start('', raw => head("POST $path", @head,
                                           bearer($one),
                                           'Connection: close'));
        ok(told_to_continue($conn), "$path - a good key may continue")
            or diag($conn->{in});

        $conn->write($body);
        $res = $conn->response;
        is($res->{code}, 200, "$path - and is answered");
        same(received($res), $body, "$path - its body arrived");
    }
}


# --- one connection

sub pipeline {
    my $good = head('GET /v1', bearer($one));
    my $bad = head('GET /v1', bearer('x'));
    my $unknown = head('GET /v1', bearer(key_for('never')));
    my $conn = http_start('', raw => $good . $bad . $good . $unknown
                                     . $good . head('GET /v1'));
    my @codes;

    for (1 .. 6) {
        my $res = $conn->response;
        push @codes, $res->{code};
        is($res->{body}, "hello\n", 'the body of the location')
            if $res->{code} == 200;
    }

    is("@codes", '200 401 200 401 200 401', 'each has its own answer');
}


# A body that nobody wanted is not taken for a request.

sub next_request {
    my $smuggled = head('GET /v1', bearer($one));

    for my $post (
        head('POST /app', 'Content-Length: ' . length $smuggled) . $smuggled,
        head('POST /app', 'Transfer-Encoding: chunked')
            . chunked($smuggled, 10),
        head('POST /app', bearer(key_for('never')),
             'Content-Length: ' . length $smuggled) . $smuggled,
    ) {
        my $conn = http_start('', raw => $post . head('GET /v1',
                                                      bearer($one)));

        refused($conn->response, 'a refused POST');

        my $res = $conn->response;
        is("$res->{code} $res->{body}", "200 hello\n", 'the next request');
        is($conn->started(0.05), '', 'and no other answer');
    }
}


# --- forwarded

sub intact {
    for my $path ('/app', '/stream') {
        for my $size (0, 1, 1000, 16_384, 16_385, 3_000_000) {
            my $body = body_of($size);
            my $res = http("POST $path", headers => bearer($one),
                           body => $body);

            is($res->{code}, 200, "$path - $size bytes");
            same(received($res), $body, "$path - $size bytes, intact");

            $res = http("POST $path", body => chunked($body, 4000),
                        headers => [bearer($one),
                                    'Transfer-Encoding: chunked']);

            is($res->{code}, 200, "$path - $size bytes in chunks");
            same(received($res), $body,
                 "$path - $size bytes in chunks, intact");
        }
    }
}


# The body comes while the request waits for Redis.

sub meanwhile {
    my $body = body_of(1_000_000);
    my $n = fake_commands(qr/^HMGET/);

    for my $path ('/app', '/stream') {
        my $conn = http_start('', raw => head("POST $path", bearer($one),
                                              'Content-Length: 1000000',
                                              'Connection: close')
                                         . substr $body, 0, 300);

        ok(fake_wait(qr/^HMGET/, ++$n), "$path - asked");
        $conn->write(substr $body, 300, 20_000);
        is($conn->started(0.05), '', "$path - it waits");

        fake_release();
        $conn->write(substr $body, 20_300);

        my $res = $conn->response;

        is($res->{code}, 200, "$path - allowed");
        same(received($res), $body, "$path - the body is intact");
    }
}


# So does the next request.

sub pipelined_meanwhile {
    my $n = fake_commands(qr/^HMGET/);
    my $conn = http_start('', raw => head('GET /v1', bearer($one)));

    ok(fake_wait(qr/^HMGET/, ++$n), 'the first is asked about');
    $conn->write(head('GET /v1', bearer('x')) . head('GET /v1',
                                                     bearer($one)));
    is($conn->started(0.05), '', 'a second one does not overtake it');

    fake_release();
    is($conn->response->{code}, 200, 'the first');
    is($conn->response->{code}, 401, 'the second');

    ok(fake_wait(qr/^HMGET/, ++$n), 'the third is asked about');
    fake_release();
    is($conn->response->{code}, 200, 'the third');
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== a refusal does not wait for the body
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::early();
--- request
GET /v1
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== a body that is sent in full is thrown away
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::whole();
--- request
GET /v1
--- error_code: 401
--- error_log
agntkey: key refused: missing
agntkey: key refused: malformed



=== client_max_body_size goes first, as ever
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::too_large();
--- request
GET /v1
--- error_code: 401
--- error_log
client intended to send too large body
agntkey: key refused: missing



=== Expect: 100-continue: only a good key is told to go on
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::expect();
--- request
GET /v1
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== pipelined requests have each its own answer, in their order
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::pipeline();
--- pipelined_requests eval
['GET /v1', 'GET /v1', 'GET /v1']
--- more_headers eval
[bearer(key_for('one')), bearer('x'), bearer(key_for('one'))]
--- error_code eval
[200, 401, 200]
--- response_body_like eval
['^hello\n$', '"code":"malformed"', '^hello\n$']



=== a refused body is not taken for the next request
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::next_request();
--- request
GET /v1
--- error_code: 401
--- error_log
agntkey: key refused: missing
agntkey: key refused: unknown



=== an allowed body arrives as it was sent
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::intact();
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- no_error_log
agntkey: key



=== a body that comes during the look-up is not lost
--- http_config eval: $::slow
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::meanwhile();
--- request
GET /v1
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== a request that comes during the look-up waits for its turn
--- http_config eval: $::slow
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::pipelined_meanwhile();
--- request
GET /v1
--- error_code: 401
--- error_log
agntkey: key refused: malformed
