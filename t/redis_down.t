# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Redis is not there, goes away, hangs, comes back.

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

our $redis = <<'_EOC_';
agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off; agntkey_last_used off;
_EOC_

our $config = <<'_EOC_';
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
_EOC_

# Every block finds it running, with one key in it.
add_block_preprocessor(sub {
    fresh_redis();
});

sub fresh_redis {
    redis_start();
    redis_cmd('FLUSHALL');
    seed_key('one');
}

watch_logs();
run_tests();
logs_clean();

__DATA__

=== TEST 1: never started: nginx starts, 503, and one line for them all
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_CLOSED_PORT; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- init
my @answers = map { ask('one') } 1 .. 20;
my @ok = grep { $_->{code} eq '503' && $_->{time} < 2 } @answers;

count_is(scalar @ok, 20, 'twenty requests: 503 within the time to connect');
count_is(scalar log_lines(qr/agntkey: Redis .* is away/), 1,
         'one line says that Redis is away');
is_true(log_lines(qr/\[(?:warn|error|crit)\]/) <= 2,
        'no line per request', log_lines(qr/./));
answer_is($answers[0], 503, 'the first says so');
answer_is($answers[19], 503, 'the last says so');
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t
--- error_code: 503
--- response_headers
!WWW-Authenticate
--- error_log eval
qr/\[error\] .*agntkey: Redis "127\.0\.0\.1:\d+" is away: connect failed \(111: /



=== TEST 2: never started: what needs no Redis works
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_CLOSED_PORT; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- init
answer_is(ask('one'), 503, 'a good key: 503');
answer_is(http('GET /t'), '401 missing', 'no key: 401');
answer_is(http('GET /t', headers => bearer('agnt_x')), '401 malformed',
          'garbage: 401');
--- request
GET /open
--- no_error_log
[crit]



=== TEST 3: a socket that is not there: 503, and one line
--- http_config
agntkey_redis unix:$TEST_NGINX_SERVROOT/none.sock; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- init
answer_is(ask('one'), 503, "request $_: 503") for 1 .. 3;
count_is(scalar log_lines(qr/agntkey: Redis .* is away/), 1,
         'one line says that Redis is away');
--- request
GET /open
--- error_log eval
[qr/\[error\] .*agntkey: Redis "unix:.*" is away: connect failed \(2: /,
 qr/\[crit\] .*connect\(\) to unix:/]



=== TEST 4: killed and started again: 503, then 200 by itself
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

redis_stop('KILL');

answer_is(ask('one'), 503, "without Redis, request $_: 503") for 1 .. 5;
count_is(scalar log_lines(qr/is away/), 1, 'one line');

redis_start();
seed_key('one');

is_true(log_wait(qr/\[notice\] .*agntkey: Redis .* is back after \d+ ms/),
        'a notice says that it is back', log_lines(qr/./));
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t
--- no_error_log
[alert]



=== TEST 5: comes back empty: 401
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

redis_stop('KILL');
answer_is(ask('one'), 503, 'without Redis: 503');
redis_start();

is_true(log_wait(qr/is back/), 'it is back');
answer_is(ask('one'), '401 unknown', 'an empty Redis: unknown');
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t
--- error_code: 401
--- error_log
key refused: unknown



=== TEST 6: killed while requests wait: each gets its 503, and none a 401
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

redis()->pause;
my @waiting = map { ask_start('one') } 1 .. 20;

# The last has been read once a request behind it has an answer.
answer_is(http('GET /open'), 200, 'nginx is not held up');

# Before redis_stop(), which would let it go on first.
kill 'KILL', redis()->pid;
redis_stop();

my @codes = map { $_->response->{code} } @waiting;
count_is(scalar(grep { $_ eq '503' } @codes), 20, 'all have 503', "@codes");

redis_start();
seed_key('one');
is_true(log_wait(qr/is back/), 'it is back');
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t



=== TEST 7: hung: 503 at the timeout, then at once, and 200 afterwards
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

redis()->pause;

my $res = ask('one');
answer_is($res, 503, 'a stopped Redis: 503');
is_true($res->{time} > 0.4 && $res->{time} < 3, 'at the timeout',
        "after $res->{time} s");

my @answers = map { ask('one') } 1 .. 20;
is_true(!(grep { $_->{code} ne '503' } @answers), 'more requests: 503');
count_is(scalar log_lines(qr/is away/), 1, 'one line says so',
         log_lines(qr/./));

redis()->resume;
is_true(log_wait(qr/is back/), 'it is back', log_lines(qr/./));
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: no reply in time/



=== TEST 8: hung while nginx starts: 503 in time, and 200 afterwards
--- post_setup_server_root
redis()->pause;
--- http_config eval
$::redis . 'agntkey_redis_connect_timeout 300ms;'
--- config eval: $::config
--- init
my $res = ask('one');
answer_is($res, 503, 'a stopped Redis: 503');
is_true($res->{time} < 3, 'in time', "after $res->{time} s");

redis()->resume;
is_true(log_wait(qr/is back/), 'it is back', log_lines(qr/./));
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t
--- error_log
is away: no connection in time



=== TEST 9: hung: many requests have their 503 together, and no backlog later
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

redis()->pause;
my @waiting = map { ask_start('one') } 1 .. 40;
my @codes = map { $_->response->{code} } @waiting;
count_is(scalar(grep { $_ eq '503' } @codes), 40, 'all have 503', "@codes");

redis()->resume;
is_true(log_wait(qr/is back/), 'it is back');

redis_cmd('CONFIG', 'RESETSTAT');
answer_is(ask('one'), 200, 'the next request: 200');
count_is(redis_commands_count(), 2, 'its own two commands, no others');
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t



=== TEST 10: busy with a slow command: 503 at the timeout, and 200 afterwards
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

my $other = IO::Socket::UNIX->new(Peer => redis()->sock);
syswrite $other, "DEBUG SLEEP 1.5\r\n";

# The sleep begins when Redis has read that; until then it answers.
my $res;
wait_until(3, sub { ($res = ask('one'))->{code} ne '200' });

answer_is($res, 503, 'a sleeping Redis: 503');
is_true(log_wait(qr/is back/), 'it is back', log_lines(qr/./));
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t
--- error_log
is away: no reply in time



=== TEST 11: an idle connection that Redis closes is replaced without a word
--- http_config eval: $::redis
--- config eval: $::config
--- init
for my $n (1 .. 3) {
    answer_is(ask('one'), 200, "time $n, before: 200");
    redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    is_true(log_wait(qr/\[info\] .*agntkey: the connection to .* was lost/,
                     $n), 'noticed');
    answer_is(ask('one'), 200, "time $n, the next request: 200");
}
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t
--- no_error_log
[error]
[warn]
is away



=== TEST 12: the network swallows all: 503 at the timeout, 200 afterwards
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_PROXY_PORT; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
answer_is(ask('one'), 200, 'before: 200');

$::proxy->pause;
answer_is(ask('one'), 503, 'no packet passes: 503');

$::proxy->resume;
is_true(log_wait(qr/is back/), 'it is back');
answer_is(ask('one'), 200, 'then: 200');
$::proxy->pause('down');
answer_is(ask('one'), 503, 'no packet comes back: 503');
$::proxy->resume;
is_true(log_wait(qr/is back/, 2), 'it is back again');
answer_is(ask('one'), 200, 'then: 200');
$::proxy->stop;
--- request
GET /open



=== TEST 13: connections accepted and reset: 503, one line, 200 afterwards
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_PROXY_PORT; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
answer_is(ask('one'), 200, 'before: 200');

$::proxy->refuse;
my @codes = map { ask('one')->{code} } 1 .. 20;
count_is(scalar(grep { $_ eq '503' } @codes), 20, 'all have 503', "@codes");
is_true(log_lines(qr/\[(?:warn|error|crit)\]/) <= 6, 'few lines',
        log_lines(qr/./));

$::proxy->accept;
is_true(log_wait(qr/is back/), 'it is back', log_lines(qr/./));
answer_is(ask('one'), 200, 'then: 200');
$::proxy->stop;
--- request
GET /open



=== TEST 14: Redis away for long: the pauses between attempts grow
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => ['one'], accept => 'close');
--- init
answer_is(ask('one'), 503, 'a Redis that closes: 503');

# Whatever asks meanwhile makes no attempt of its own.
my $end = Time::HiRes::time() + 3;
my $n = 0;
while (Time::HiRes::time() < $end) { ask('one'); $n++ }

is_true(fake_connections() <= 15, "few attempts for $n requests",
        fake_connections());
is_true(fake_connections() >= 3, 'but more than one');
count_is(scalar log_lines(qr/\[(?:warn|error|crit)\]/), 1,
         'one line for all of them', log_lines(qr/./));
fake_redis(keys => ['one']);
is_true(log_wait(qr/is back/), 'it is back');
--- more_headers eval: bearer(key_for('one'))
--- request
GET /t
