# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Clients that leave while they wait for Redis, and many that stay.

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

our $config = <<'_EOC_';
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
location /status { stub_status; }
_EOC_

our $redis = <<'_EOC_';
agntkey_redis redis://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_cache off; agntkey_last_used off;
agntkey_redis_timeout 30s;
_EOC_

worker_connections(1024);

# Clients come in batches, and each batch is waiting before it leaves.

sub come_and_go {
    my ($how, $batches, $each) = @_;
    my $before = fake_commands(qr/^HMGET/);
    my $waited = 0;

    for my $batch (1 .. $batches) {
        my @clients = map { ask_start('one') } 1 .. $each;

        $waited++ if wait_until(10, sub {
            fake_commands(qr/^HMGET/) - $before == $batch * $each
                || active_connections() == $each
        });

        $_->leave($how) for @clients;
    }

    count_is($waited, $batches, 'all of them were waiting');
    is_true(wait_until(10, sub { active_connections() == 0 }),
            'no connection is left', active_connections());
}

sub nothing_in_the_log {
    my @lines = log_lines(qr/\[(?!notice|info|debug)\w+\]/);
    is_true(!@lines, 'nothing in the log', @lines);
}

watch_logs();
run_tests();
logs_clean();

__DATA__

=== TEST 1: a thousand clients reset while they wait
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
fake_redis(keys => ['one', 'two'],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);
--- init
main::come_and_go('rst', 20, 50);
main::nothing_in_the_log();

fake_release();
answer_is(ask('one'), 200, 'then a good key: 200');
answer_is(ask('two'), 200, 'and another: 200');
answer_is(ask('three'), '401 unknown', 'and an unknown one: 401');
count_is(fake_connections(), 1, 'on the same connection to Redis');
main::nothing_in_the_log();
--- request
GET /open



=== TEST 2: a thousand clients leave in order while they wait
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
fake_redis(keys => ['one', 'two'],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);
--- init
main::come_and_go('fin', 20, 50);
main::nothing_in_the_log();

fake_release();
answer_is(ask('one'), 200, 'then a good key: 200');
answer_is(ask('two'), 200, 'and another: 200');
count_is(fake_connections(), 1, 'on the same connection to Redis');
main::nothing_in_the_log();
--- request
GET /open



=== TEST 3: they leave, then Redis does: nothing is asked again for them
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => ['one'],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);
--- init
main::come_and_go('rst', 1, 50);

my $n = fake_commands(qr/^HMGET/);
fake_close('all', 'rst');

is_true(log_wait(qr/was lost/), 'the connection is gone');
answer_is(ask('one'), 200, 'then a good key: 200');
count_is(scalar fake_commands(qr/^HMGET/), $n + 1, 'one more look-up');
--- request
GET /open



=== TEST 4: they leave between the two trips of a look-up
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [map { "many-$_" } 1 .. 50],
           rules => [{ match => qr/^HGET/, nth => 1, do => 'hold' }]);
--- init
my @clients = map { ask_start("many-$_") } 1 .. 50;
is_true(fake_wait(qr/^HGET/), 'one waits for its workspace');
$_->leave($_ % 2 ? 'rst' : 'fin') for @clients;
is_true(wait_until(10, sub { active_connections() == 0 }),
        'no connection is left');
fake_release();
answer_is(ask("many-$_"), 200, "then key $_: 200") for 1 .. 50;
main::nothing_in_the_log();
--- request
GET /open



=== TEST 5: some leave, the others have their answers
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
fake_redis(keys => ['one'],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);
--- init
my @clients = map { ask_start('one') } 1 .. 200;
is_true(wait_until(10, sub { active_connections() == 200 }), 'all wait');

$clients[$_]->leave($_ % 4 ? 'rst' : 'fin') for grep { $_ % 2 } 0 .. 199;
is_true(wait_until(10, sub { active_connections() == 100 }), 'half left');

fake_release();
my @codes = map { $clients[$_]->response->{code} }
            grep { !($_ % 2) } 0 .. 199;
count_is(scalar(grep { $_ eq '200' } @codes), 100, 'the others: 200',
         "@codes");
is_true(wait_until(10, sub { active_connections() == 0 }),
        'no connection is left');
main::nothing_in_the_log();
--- request
GET /open



=== TEST 6: a client that leaves while Redis is being connected
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_cache off; agntkey_last_used off;
agntkey_redis_timeout 20s;
agntkey_redis_connect_timeout 20s;
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => ['one'],
           rules => [{ match => qr/^PING/, nth => 1, do => 'hold' }]);
--- init
my @clients = map { ask_start('one') } 1 .. 50;
is_true(wait_until(10, sub { active_connections() == 50 }), 'all wait');
$_->leave for @clients;
is_true(wait_until(10, sub { active_connections() == 0 }),
        'no connection is left');

my $waiting = ask_start('one');
fake_release();
answer_is($waiting->response, 200, 'one who stayed: 200');
main::nothing_in_the_log();
--- request
GET /open



=== TEST 7: a client that leaves at the moment of the answer
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
fake_redis(keys => ['one']);
--- init
for my $n (1 .. 1000) {
    my $client = ask_start('one');

    # Sooner or later, so that it meets every step of the look-up.
    select undef, undef, undef, $n % 40 / 40000;
    $client->leave($n % 3 ? 'rst' : 'fin');
}

is_true(wait_until(10, sub { active_connections() == 0 }),
        'no connection is left');
answer_is(ask('one'), 200, 'then a good key: 200');
main::nothing_in_the_log();
--- request
GET /open



=== TEST 8: a client that closes its half after the request is gone
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => ['one'],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);
--- init
my $client = ask_start('one');
is_true(fake_wait(qr/^HMGET/), 'it waits');
shutdown $client->{sock}, 1;
is_true(wait_until(10, sub { active_connections() == 0 }),
        'nginx closes, as ever');
fake_release();
answer_is(ask('one'), 200, 'then a good key: 200');
main::nothing_in_the_log();
--- request
GET /open



=== TEST 9: many wait for a slow Redis, and each has its answer
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
fake_redis(keys => [map { "many-$_" } 1 .. 20],
           rules => [{ match => qr/^HMGET/, nth => 21, do => 'hold' }]);
--- init
answer_is(ask("many-$_"), 200, "key $_ alone: 200") for 1 .. 20;

my @clients = map { ask_start('many-' . (1 + $_ % 20)) } 1 .. 500;
is_true(wait_until(10, sub { active_connections() == 500 }), 'all wait');
answer_is(http('GET /open'), 200, 'other locations answer meanwhile');

fake_release();
my @codes = map { $_->response->{code} } @clients;
count_is(scalar(grep { $_ eq '200' } @codes), 500, 'all have 200');
main::nothing_in_the_log();
--- request
GET /open



=== TEST 10: many wait for a Redis that never answers: 503 in time for all
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_cache off; agntkey_last_used off;
agntkey_redis_timeout 4s;
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
fake_redis(keys => ['one'],
           rules => [{ match => qr/^HMGET/, do => 'stall' }]);
--- init
my @clients = map { ask_start('one') } 1 .. 500;
my @answers = map { $_->response(20) } @clients;
count_is(scalar(grep { $_->{code} eq '503' } @answers), 500, 'all have 503');
count_is(scalar log_lines(qr/\[error\]/), 1, 'one line', log_lines(qr/./));
is_true(wait_until(10, sub { active_connections() == 0 }),
        'no connection is left');
--- request
GET /open



=== TEST 11: a second request behind one that waits
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => ['one', 'two'],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'hold' }]);
--- init
my $text = join '', map {
    "GET /t HTTP/1.1\r\nHost: localhost\r\n" . bearer(key_for($_))
    . "\r\n\r\n"
} 'one', 'two', 'three';

my $client = http_start('GET /t', raw => $text);
is_true(fake_wait(qr/^HMGET/), 'the first waits');
fake_release();
answer_is($client->response, 200, 'the first: 200');
answer_is($client->response, 200, 'the second: 200');
answer_is($client->response, '401 unknown', 'the third: 401');
--- request
GET /open
