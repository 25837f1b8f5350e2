# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What a client gets for each reason, and what it cannot find out.  That of
# a Redis which does not answer is elsewhere.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use JSON::PP ();
use Test::Nginx::Socket 'no_plan';

redis_start();

seed_key('one', scopes => 'a b');
seed_key('revoked', active => undef, revoked_at => 1700000001000);
seed_key('expired', expires_at => 1700000001000);
seed_key('later', expires_at => 4102444800000);
seed_key('shut', workspace => 'shut');
seed_workspace('shut', active => undef);
seed_key('lost', workspace => 'lost', no_workspace => 1);
seed_key('other', workspace => 'other', scopes => 'a b c');

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $config = <<'_EOC_';
        root html;
        agntkey_workspace acme shut lost;
        agntkey_scope a b;
        add_header X-Status $agntkey_status always;

        location /v1 {
            agntkey on;
        }

        location /all {
            agntkey on;
            agntkey_scope b c;
        }

        location /query {
            agntkey on;
            agntkey_token $arg_key;
        }

        location /app {
            agntkey on;
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/v1;
        }
_EOC_


our $user_files = ">>> v1\nhello\n>>> all\nhello\n";


# The right id, and the secret of another key.

sub stranger { key_for($_[0], secret => key_secret(key_for('else'))) }


# --- problem: the reason, for a block whose body is ours

add_response_body_check(sub {
    my ($block, $body) = @_;
    my $name = $block->name;
    my $reason = $block->problem;

    return if !defined $reason;

    chomp $reason;

    my $status = $block->error_code;
    my $problem = eval { JSON::PP::decode_json($body) };

    chomp $status;

    is(ref $problem, 'HASH', "$name - the body is an object")
        or return diag($body);

    is(join(' ', sort keys %$problem), 'code detail status title type',
       "$name - members");
    is($problem->{code}, $reason, "$name - code is the reason");
    is($problem->{status}, $status, "$name - status");
    like($body, qr/"status":\d/, "$name - status is a number");
    like($problem->{type}, qr/^[a-z][a-z0-9+.-]*:\S*\Q$reason\E$/,
         "$name - type is a URI of the reason");
    like($problem->{$_}, qr/^[A-Z].{5,}/, "$name - $_ is for people")
        for qw(title detail);

    unlike($body, qr/\Q@{[key_secret(key_for($_))]}/,
           "$name - no secret in the body")
        for qw(one revoked expired shut lost other else);
});


# A connection outlives a refusal, and what it is followed by is answered.

sub keepalive {
    my ($name) = @_;
    my $conn = http_start('GET /v1', headers => 'Connection: keep-alive');
    my $first = $conn->response;

    is($first->{code}, 401, "$name - refused");
    is($first->{headers}{connection}, 'keep-alive', "$name - kept alive");

    for my $try ([revoked => 401], [one => 403], [one => 403],
                 [other => 403])
    {
        my $key = key_for($try->[0], $try->[0] eq 'other'
                                     ? (workspace => 'other') : ());

        $conn->write("GET /all HTTP/1.1\r\nHost: localhost\r\n"
                     . "Authorization: Bearer $key\r\n\r\n");
        is($conn->response->{code}, $try->[1], "$name - $try->[0] refused");
    }

    $conn->write("GET /v1 HTTP/1.1\r\nHost: localhost\r\n"
                 . bearer(key_for('one')) . "\r\n\r\n");

    my $last = $conn->response;

    is($last->{code}, 200, "$name - allowed on the same connection");
    is($last->{body}, "hello\n", "$name - the answer of the location");
}


# With the id but not the secret, every key looks like one that never was.

sub alike {
    my ($name) = @_;
    my (%seen, $first);

    for my $label (qw(one revoked expired shut lost other never)) {
        my $key = key_for($label, secret => key_secret(key_for('else')),
                          $label =~ /^(?:shut|lost|other)$/
                          ? (workspace => $label) : ());
        my $res = http('GET /v1', headers => bearer($key));
        my $shown = join "\n", $res->{code}, $res->{body},
                         map { "$_: $res->{headers}{$_}" }
                         grep { $_ ne 'date' } sort keys %{ $res->{headers} };

        $first //= $shown;
        is($shown, $first, "$name - $label looks like any other");
    }

    like($first, qr/"code":"unknown"/, "$name - as unknown");
}


# nginx writes the query into its access log: the place of a key is a header.
watch_logs(strip => qr/"GET \/query\?[^"]*"/);
run_tests();
logs_clean();

__DATA__

=== ok: the location answers, and nothing is added
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- response_headers
!WWW-Authenticate
!Cache-Control
!Retry-After
Content-Type: text/plain
X-Status: ok
--- no_error_log
agntkey: key



=== ok: a key that expires later is a key like any other
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config =~ s/agntkey_scope a b;//r
--- request
GET /v1
--- more_headers eval
bearer(key_for('later'))
--- response_headers
!WWW-Authenticate
X-Status: ok
--- no_error_log
agntkey: key



=== missing: 401 and a bare challenge
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- error_code: 401
--- problem: missing
--- response_headers
WWW-Authenticate: Bearer realm="agntkey"
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: missing
--- error_log eval
qr/\[info\] .* agntkey: key refused: missing, client: /
--- no_error_log
id: 



=== missing: a proxied location is refused alike
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /app
--- error_code: 401
--- problem: missing
--- response_headers
WWW-Authenticate: Bearer realm="agntkey"
Cache-Control: no-store
Content-Type: application/problem+json
!Last-Modified
!ETag
X-Status: missing
--- error_log
agntkey: key refused: missing



=== malformed: 401, invalid_token
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers
Authorization: Bearer garbage
--- error_code: 401
--- problem: malformed
--- response_headers
WWW-Authenticate: Bearer realm="agntkey", error="invalid_token"
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: malformed
--- error_log eval
qr/\[info\] .* agntkey: key refused: malformed, client: /
--- no_error_log eval
qr/\[info\] .*garbage/



=== unknown: 401, invalid_token, and its id in the log
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('never'))
--- error_code: 401
--- problem: unknown
--- response_headers
WWW-Authenticate: Bearer realm="agntkey", error="invalid_token"
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: unknown
--- error_log eval
[qr/\[info\] .* agntkey: key refused: unknown, id: @{[key_id(
    key_for('never'))]}, client: /]



=== unknown: the id of a good key with another secret
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(::stranger('one'))
--- error_code: 401
--- problem: unknown
--- response_headers
WWW-Authenticate: Bearer realm="agntkey", error="invalid_token"
Cache-Control: no-store
Content-Type: application/problem+json
X-Status: unknown
--- error_log
agntkey: key refused: unknown



=== revoked: 401, invalid_token
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('revoked'))
--- error_code: 401
--- problem: revoked
--- response_headers
WWW-Authenticate: Bearer realm="agntkey", error="invalid_token"
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: revoked
--- error_log eval
[qr/\[info\] .* agntkey: key refused: revoked, id: @{[key_id(
    key_for('revoked'))]}, client: /]



=== expired: 401, invalid_token
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('expired'))
--- error_code: 401
--- problem: expired
--- response_headers
WWW-Authenticate: Bearer realm="agntkey", error="invalid_token"
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: expired
--- error_log eval
[qr/\[info\] .* agntkey: key refused: expired, id: @{[key_id(
    key_for('expired'))]}, client: /]



=== whoever has only the id of a key learns nothing of it
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::alike('id only');
--- request
GET /v1
--- more_headers eval
bearer(::stranger('revoked'))
--- error_code: 401
--- problem: unknown
--- error_log
agntkey: key refused: unknown
--- no_error_log
agntkey: key refused: revoked
agntkey: key refused: expired
agntkey: key refused: workspace



=== workspace_disabled: 403, no challenge
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('shut', workspace => 'shut'))
--- error_code: 403
--- problem: workspace_disabled
--- response_headers
!WWW-Authenticate
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: workspace_disabled
--- error_log eval
qr/\[info\] .* agntkey: key refused: workspace_disabled, id: \w{12}, /



=== workspace_disabled: a workspace without a record is one too
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('lost', workspace => 'lost'))
--- error_code: 403
--- problem: workspace_disabled
--- response_headers
!WWW-Authenticate
Cache-Control: no-store
Content-Type: application/problem+json
X-Status: workspace_disabled
--- error_log
agntkey: key refused: workspace_disabled



=== workspace_mismatch: 403, no challenge
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('other', workspace => 'other'))
--- error_code: 403
--- problem: workspace_mismatch
--- response_headers
!WWW-Authenticate
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: workspace_mismatch
--- error_log eval
qr/\[info\] .* agntkey: key refused: workspace_mismatch, id: \w{12}, /



=== insufficient_scope: 403, and all scopes in the challenge
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /all
--- more_headers eval
bearer(key_for('one'))
--- error_code: 403
--- problem: insufficient_scope
--- response_headers eval
'WWW-Authenticate: Bearer realm="agntkey", error="insufficient_scope", '
. 'scope="b c"
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: insufficient_scope
'
--- error_log eval
qr/\[info\] .* agntkey: key refused: insufficient_scope, id: \w{12}, /



=== ambiguous: 400, invalid_request
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request eval
my $key = key_for('one');
"GET /query?key=$key&key=$key"
--- error_code: 400
--- problem: ambiguous
--- response_headers
WWW-Authenticate: Bearer realm="agntkey", error="invalid_request"
Cache-Control: no-store
Content-Type: application/problem+json
!Retry-After
X-Status: ambiguous
--- error_log eval
qr{\[info\] .* agntkey: key refused: ambiguous, .*location: "/query"}



=== HEAD is refused with the same header section and no body
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
HEAD /v1
--- more_headers eval
bearer(key_for('revoked'))
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="agntkey", error="invalid_token"
Cache-Control: no-store
Content-Type: application/problem+json
X-Status: revoked
--- raw_response_headers_like
Content-Length: [1-9]\d+\r
--- response_body:
--- error_log
agntkey: key refused: revoked



=== HEAD with a good key is answered
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
HEAD /v1
--- more_headers eval
bearer(key_for('one'))
--- response_headers
Content-Length: 6
X-Status: ok
!Cache-Control
--- response_body:
--- no_error_log
agntkey: key



=== POST is refused like any method
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
POST /v1
some text
--- error_code: 401
--- problem: missing
--- response_headers
Cache-Control: no-store
--- error_log eval
qr{agntkey: key refused: missing, .*location: "/v1"}



=== HTTP/1.0 is refused with a body of known length
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1 HTTP/1.0
--- error_code: 401
--- problem: missing
--- raw_response_headers_like
Content-Length: [1-9]\d+\r
--- error_log
agntkey: key refused: missing



=== a refusal leaves the connection to the next request
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::keepalive('keepalive');
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- no_error_log
[alert]
