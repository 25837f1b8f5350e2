# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# agntkey_realm: what the challenge says, escaped as RFC 9110 wants it.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();
seed_key('one');

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $config = <<'_EOC_';
        root html;
        agntkey on;

        location /default { }
        location /own { agntkey_realm "My API"; }
        location /empty { agntkey_realm ""; }
        location /quote { agntkey_realm 'say "hello"'; }
        location /slash { agntkey_realm 'C:\\keys\\'; }
        location /both { agntkey_realm '\\"'; }
        location /comma { agntkey_realm 'a, error="x"'; }
        location /utf8 { agntkey_realm 'Schlüssel'; }
        location /long { agntkey_realm REALM; }

        location /outer {
            agntkey_realm outer;
            location /outer/inner { }
            location /outer/own { agntkey_realm own; }
        }

        location /scope {
            agntkey_realm 'a "realm"';
            agntkey_scope read;
        }
_EOC_

our $long = 'realm ' x 100 . '"';
$config =~ s/REALM/'$long'/;

my %realms = (
    default     => 'agntkey',
    own         => 'My API',
    empty       => '',
    quote       => 'say \"hello\"',
    slash       => 'C:\\\\keys\\\\',
    both        => '\\\\\"',
    comma       => 'a, error=\"x\"',
    utf8        => "Schl\xc3\xbcssel",
    long        => 'realm ' x 100 . '\"',
    'outer/inner' => 'outer',
    'outer/own' => 'own',
);


sub realms {
    for my $path (sort keys %realms) {
        my $bare = http("GET /$path");
        my $bad = http("GET /$path", headers => bearer('x'));

        is("$bare->{code} $bare->{headers}{'www-authenticate'}",
           "401 Bearer realm=\"$realms{$path}\"", "/$path - missing");
        is("$bad->{code} $bad->{headers}{'www-authenticate'}",
           "401 Bearer realm=\"$realms{$path}\", error=\"invalid_token\"",
           "/$path - malformed");
        is($bad->{headers}{'cache-control'}, 'no-store',
           "/$path - no-store");
    }
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== the realm is a quoted string, with its quotes and backslashes escaped
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::realms();
--- request
GET /quote
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="say \"hello\""
--- error_log
agntkey: key refused: malformed
agntkey: key refused: missing



=== an insufficient scope has the realm in front of it
--- http_config eval: $::http_config
--- config eval: $::config
--- request
GET /scope
--- more_headers eval
bearer(key_for('one'))
--- error_code: 403
--- response_headers eval
'WWW-Authenticate: Bearer realm="a \"realm\"", '
. 'error="insufficient_scope", scope="read"'
--- error_log
agntkey: key refused: insufficient_scope



=== a realm at http level is that of every location
--- http_config eval: $::http_config . 'agntkey_realm everywhere;'
--- config eval: $::config
--- request
GET /default
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="everywhere"
--- error_log
agntkey: key refused: missing



=== a location's realm goes before that of its server
--- http_config eval: $::http_config . 'agntkey_realm everywhere;'
--- config eval: 'agntkey_realm here;' . $::config
--- request
GET /own
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="My API"
--- error_log
agntkey: key refused: missing
