# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# agntkey_prefix: the only one that a key may begin with.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

our $long = 'l' . '0' x 30 . 'g';
our @prefixes = ('agnt', 'acme', 'a', '0', 'acme_live', 'acme-live',
                 'ac_', 'ACME', $long);

sub key { key_for("of $_[0]", prefix => $_[0]) }

seed_key("of $_", prefix => $_) for @prefixes;

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $config = <<'_EOC_';
        root html;
        add_header X-Status $agntkey_status always;

        location /v1 {
            agntkey on;
        }
_EOC_

our $user_files = ">>> v1\nhello\n";


# Every other prefix is malformed here, and costs no question.

sub others {
    my ($prefix) = @_;
    my $before = redis_commands_count();

    for my $other (grep { $_ ne $prefix } @prefixes,
                   "${prefix}x", "x$prefix", "${prefix}_", uc "q$prefix")
    {
        my $res = http('GET /v1', headers => bearer(key($other)));

        is("$res->{code} $res->{headers}{'x-status'}", '401 malformed',
           "$other is not $prefix");
        like($res->{body}, qr/begins with \Q$prefix\E_|has \d+ characters/,
             "$other - the detail says what is accepted");
    }

    is(redis_commands_count(), $before, "$prefix - no command");
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== agnt is the prefix when nothing else is said
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::others('agnt');
--- request
GET /v1
--- more_headers eval
bearer(::key('agnt'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== a prefix of one's own replaces it
--- http_config eval: $::http_config . 'agntkey_prefix acme;'
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::others('acme');
--- request
GET /v1
--- more_headers eval
bearer(::key('acme'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== the detail names the prefix
--- http_config eval: $::http_config . 'agntkey_prefix acme;'
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(::key('agnt'))
--- error_code: 401
--- response_headers
X-Status: malformed
--- response_body_like: A key of this API begins with acme_\.
--- error_log
agntkey: key refused: malformed



=== the detail tells how long a key is
--- http_config eval: $::http_config . 'agntkey_prefix acme;'
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(substr ::key('acme'), 0, -1)
--- error_code: 401
--- response_headers
X-Status: malformed
--- response_body_like: A key of this API has 55 characters
--- error_log
agntkey: key refused: malformed



=== a prefix of one character
--- http_config eval: $::http_config . 'agntkey_prefix a;'
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::others('a');
--- request
GET /v1
--- more_headers eval
bearer(::key('a'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== a prefix of one digit
--- http_config eval: $::http_config . 'agntkey_prefix 0;'
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::others('0');
--- request
GET /v1
--- more_headers eval
bearer(::key('0'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== a prefix with "_" in it
--- http_config eval: $::http_config . 'agntkey_prefix acme_live;'
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::others('acme_live');
--- request
GET /v1
--- more_headers eval
bearer(::key('acme_live'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== a prefix with "-" in it
--- http_config eval: $::http_config . 'agntkey_prefix acme-live;'
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::others('acme-live');
--- request
GET /v1
--- more_headers eval
bearer(::key('acme-live'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== a prefix in capitals
--- http_config eval: $::http_config . 'agntkey_prefix ACME;'
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::others('ACME');
--- request
GET /v1
--- more_headers eval
bearer(::key('ACME'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== a prefix of 32 characters
--- http_config eval: $::http_config . "agntkey_prefix $::long;"
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::others($::long);
--- request
GET /v1
--- more_headers eval
bearer(::key($::long))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== the digest is that of the whole key: another prefix is another key
--- http_config eval: $::http_config . 'agntkey_prefix acme;'
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('of agnt', prefix => 'acme'))
--- error_code: 401
--- response_headers
X-Status: unknown
--- error_log
agntkey: key refused: unknown
