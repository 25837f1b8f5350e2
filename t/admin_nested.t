# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Blocks inside an admin location, and what stands beside it.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Digest::SHA qw(sha256_hex);
use Test::Nginx::Socket 'no_plan';

redis_start();

# made anew for each run, so that no token stands in a file of ours
our $token = sha256_hex("admin token $$ " . rand);

our $tokens = sub {
    my $name = test_dir() . '/tokens';
    open my $fh, '>', $name or die "$name: $!";
    print $fh sha256_hex($token), "\n";
    close $fh;
    return $name;
}->();

our $redis = 'agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;';

our $config = <<"_EOC_";
location /open/ {
    agntkey_admin on;
    agntkey_admin_token_file $tokens;

    if (\$arg_limit = 7) {
        set \$seven 1;
    }
}

location /pinned/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
    agntkey_admin_workspace mine;

    if (\$arg_limit = 7) {
        set \$seven 1;
    }
}

location /limited/ {
    agntkey_admin on;
    agntkey_admin_token_file $tokens;

    limit_except GET {
        deny 192.0.2.1;
    }
}

location /open/inner/ {
    empty_gif;
}
_EOC_

seed_key('mine', workspace => 'mine');
seed_key('other', workspace => 'other');
watch_logs();
run_tests();
logs_clean();

__DATA__

=== TEST 1: an "if" keeps the tokens: without one, 401
--- http_config eval: $::redis
--- config eval: $::config
--- request
GET /open/keys?workspace=mine&limit=7
--- error_code: 401
--- response_body_like: token_missing
--- error_log
agntkey: admin call refused: no token



=== TEST 2: an "if" keeps the tokens: with an unknown one, 401
--- http_config eval: $::redis
--- config eval: $::config
--- request
GET /open/keys?workspace=mine&limit=7
--- more_headers
Authorization: Bearer nobody
--- error_code: 401
--- response_body_like: token_unknown
--- error_log
agntkey: admin call refused: unknown token



=== TEST 3: an "if" keeps the tokens: with a good one, 200
--- http_config eval: $::redis
--- config eval: $::config
--- request
GET /open/keys?workspace=mine&limit=7
--- more_headers eval
bearer($::token)
--- error_code: 200
--- response_body_like: "workspace":"mine"



=== TEST 4: an "if" keeps the pin: another workspace is not there
--- http_config eval: $::redis
--- config eval: $::config
--- request
GET /pinned/keys?workspace=other&limit=7
--- error_code: 404
--- response_body_like: not_found



=== TEST 5: an "if" keeps the pin: its own workspace is
--- http_config eval: $::redis
--- config eval: $::config
--- request
GET /pinned/keys?limit=7
--- error_code: 200
--- response_body_like: "workspace":"mine"



=== TEST 6: limit_except keeps the API: other methods need a token too
--- http_config eval: $::redis
--- config eval: $::config
--- request
POST /limited/keys
--- error_code: 401
--- response_body_like: token_missing
--- error_log
agntkey: admin call refused: no token



=== TEST 7: limit_except keeps the API: and work with one
--- http_config eval: $::redis
--- config eval: $::config
--- request
POST /limited/keys
{"workspace":"mine","name":"Production API Server"}
--- more_headers eval
bearer($::token) . "\nContent-Type: application/json"
--- error_code: 201
--- response_body_like: "name":"Production API Server"



=== TEST 8: a location inside of it is one of its own
--- http_config eval: $::redis
--- config eval: $::config
--- request
GET /open/inner/
--- error_code: 200
--- response_headers
Content-Type: image/gif



=== TEST 9: a client that is served slowly gets all of a long answer
--- http_config eval: $::redis
--- config
location /slow/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
    limit_rate 40k;
}
--- request
GET /slow/openapi.json
--- timeout: 10
--- error_code: 200
--- response_body_like eval: qr/\A\{.*\}\s*\z/s
