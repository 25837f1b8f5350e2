# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Redis by a host name: with "resolver" the name is looked up for each new
# connection, and nothing waits for it; without, once and before the start.

use lib 't/util';
use Agntkey;
use Agntkey::Dns;
use Test::Nginx::Socket 'no_plan';

our $config = <<'_EOC_';
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
_EOC_

our $dns = Agntkey::Dns->new(port => free_port());

# No name server but ours knows the name.
our $http_config = "resolver 127.0.0.1:" . $dns->port . " ipv6=off valid=1s;\n"
                   . "agntkey_redis redis://redis.agntkey.test:"
                   . "$ENV{TEST_NGINX_REDIS_PORT}; agntkey_cache off;\n";

redis_start();

# The same port at another address.
our $second;

add_block_preprocessor(sub {
    redis_cmd('FLUSHALL');
    seed_key('one');
    $dns->set('redis.agntkey.test', '127.0.0.1');
});

sub cut {
    my ($n) = @_;

    redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    is_true(log_wait(qr/was lost/, $n), 'the connection is gone');
}

watch_logs(allow => qr/\[emerg\] .*"agntkey_redis"/);
run_tests();
logs_clean();

__DATA__

=== TEST 1: a name that only the resolver knows: 200
--- http_config eval: $::http_config
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'a good key: 200');
answer_is(ask('two'), '401 unknown', 'an unknown key: 401');
is_true($::dns->asked > 0, 'the name server was asked');
--- request
GET /open
--- no_error_log
[error]



=== TEST 2: a name that is not there: 503 and one line, then 200
--- http_config eval: $::http_config
--- config eval: $::config
--- post_setup_server_root
$::dns->set('redis.agntkey.test', 'NXDOMAIN');
--- init
answer_is(ask('one'), 503, "request $_: 503") for 1 .. 10;
count_is(scalar log_lines(qr/is away/), 1, 'one line', log_lines(qr/./));

$::dns->set('redis.agntkey.test', '127.0.0.1');
is_true(log_wait(qr/is back/), 'it is back', log_lines(qr/./));
answer_is(ask('one'), 200, 'then: 200');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis "redis\.agntkey\.test:\d+" is away: host could not be resolved/



=== TEST 3: a name server that fails: 503, then 200
--- http_config eval: $::http_config
--- config eval: $::config
--- post_setup_server_root
$::dns->set('redis.agntkey.test', 'SERVFAIL');
--- init
my $res = ask('one');
answer_is($res, 503, 'a good key: 503');
is_true($res->{time} < 3, 'in time', $res->{time});

$::dns->set('redis.agntkey.test', '127.0.0.1');
is_true(log_wait(qr/is back/, 1, 20), 'it is back', log_lines(qr/./));
answer_is(ask('one'), 200, 'then: 200');
--- request
GET /open



=== TEST 4: a name server that is silent holds nobody up: 503, then 200
--- http_config eval: $::http_config
--- config eval: $::config
--- post_setup_server_root
$::dns->set('redis.agntkey.test', 'silence');
--- init
my $waiting = ask_start('one');
answer_is(http('GET /open'), 200, 'another location answers meanwhile');
is_true(!$waiting->started, 'while the first still waits');

my $res = $waiting->response;
answer_is($res, 503, 'a good key: 503');
is_true($res->{time} < 3, 'in time', $res->{time});

$::dns->set('redis.agntkey.test', '127.0.0.1');
is_true(log_wait(qr/is back/, 1, 60), 'it is back', log_lines(qr/./));
answer_is(ask('one'), 200, 'then: 200');
--- request
GET /open
--- error_log
is away: no connection in time



=== TEST 5: no name server at all: 503, and nginx starts
--- http_config
resolver 127.0.0.1:$TEST_NGINX_CLOSED_PORT;
agntkey_redis redis://redis.agntkey.test:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
--- config eval: $::config
--- init
my $res = ask('one');
answer_is($res, 503, 'a good key: 503');
is_true($res->{time} < 3, 'in time', $res->{time});
answer_is(ask('one'), 503, "request $_: 503") for 1 .. 5;
count_is(scalar log_lines(qr/agntkey: .* is away/), 1, 'one line',
         log_lines(qr/./));
--- request
GET /open



=== TEST 6: the address changes: the next connection goes to the new one
--- http_config eval: $::http_config
--- config eval: $::config
--- post_setup_server_root
$::second = redis_server(port => $ENV{TEST_NGINX_REDIS_PORT},
                         args => ['--bind', '127.0.0.2']);
--- init
answer_is(ask('one'), 200, 'the first server knows the key');

$::dns->set('redis.agntkey.test', '127.0.0.2');

# Once what nginx remembers of the name has run out.
my $n = 0;
is_true(wait_until(15, sub {
    redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    log_wait(qr/was lost/, ++$n, 1);
    ask('one')->{code} eq '401';
}), 'then the second is asked, which does not');
is_true($::second->cmd('CLIENT', 'LIST') =~ /name=agntkey/,
        'nginx is connected there', $::second->cmd('CLIENT', 'LIST'));
$::second->stop;
--- request
GET /open



=== TEST 7: of two addresses one is dead: 200 by the other
--- http_config eval: $::http_config
--- config eval: $::config
--- post_setup_server_root
$::dns->set('redis.agntkey.test', '127.0.0.3', '127.0.0.1');
--- init
is_true(wait_until(10, sub { ask('one')->{code} eq '200' }), 'a good key: 200');
--- request
GET /open



=== TEST 8: the name goes while nginx is connected: no harm until it must
--- http_config eval: $::http_config
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

$::dns->set('redis.agntkey.test', 'NXDOMAIN');
answer_is(ask('one'), 200, 'the connection is there: 200');

my $n = 0;
is_true(wait_until(15, sub {
    redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    log_wait(qr/was lost/, ++$n, 1);
    ask('one')->{code} eq '503';
}), 'a new connection: 503');

$::dns->set('redis.agntkey.test', '127.0.0.1');
is_true(log_wait(qr/is back/), 'it is back');
answer_is(ask('one'), 200, 'then: 200');
--- request
GET /open



=== TEST 9: a resolver and an address in the URL: no question is asked
--- http_config eval
"resolver 127.0.0.1:" . $::dns->port . ";\n"
. 'agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;'
--- config eval: $::config
--- post_setup_server_root
$::before = $::dns->asked;
--- init
answer_is(ask('one'), 200, 'a good key: 200');
count_is($::dns->asked, $::before, 'nobody was asked');
--- request
GET /open



=== TEST 10: without a resolver, a name of this host: 200
--- http_config
agntkey_redis redis://localhost:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
--- config eval: $::config
--- init
is_true(wait_until(5, sub { ask('one')->{code} eq '200' }), 'a good key: 200');
--- request
GET /open



=== TEST 11: without a resolver, a name that is not there: nginx -t says so
--- http_config
agntkey_redis redis://redis.agntkey.invalid:6379; agntkey_cache off;
--- config eval: $::config
--- must_die
--- suppress_stderr
--- error_log eval
qr/\[emerg\] .*host not found in "agntkey_redis" "redis\.agntkey\.invalid:6379"/



=== TEST 12: with a resolver, a name that is not there: nginx -t is content
--- http_config eval: $::http_config
--- config eval: $::config
--- post_setup_server_root
$::dns->set('redis.agntkey.test', 'NXDOMAIN');
--- init
my $nginx = "$Test::Nginx::Util::NginxBinary -p $ENV{TEST_NGINX_SERVROOT}/"
            . " -c $ENV{TEST_NGINX_SERVROOT}/conf/nginx.conf";
my $before = $::dns->asked;
my $said = `$nginx -t 2>&1`;

count_is($?, 0, 'nginx -t is content', $said);
--- request
GET /open
