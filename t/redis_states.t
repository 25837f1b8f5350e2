# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Redis is there, but not in the state one hopes for.  Where it is the primary
# and serves reads, keys are looked up as ever; where it serves none, or may not
# be the primary any more: 503 with one line that says what it said, and 200 by
# itself afterwards.

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

our $other = free_port();
our $to_other = "agntkey_redis redis://127.0.0.1:$other; agntkey_last_used off; agntkey_cache off;\n";

redis_start();

add_block_preprocessor(sub {
    redis_cmd('FLUSHALL');
    seed_key('one');
});

# A replica of the suite's Redis that has all it has.

our $replica;

sub replica {
    my (@args) = @_;

    $replica = redis_server(port => $other, args => [
        '--replicaof', '127.0.0.1', $ENV{TEST_NGINX_REDIS_PORT},
        '--repl-diskless-sync-delay', 0, @args]);

    wait_until(20, sub {
        eval { $replica->cmd('INFO', 'replication') =~
                   /^master_link_status:up/m }
    }) or die "the replica has no link\n";
}

# So much that loading it takes seconds.  Before version 7 a server that loads
# looks up every 2 MB only.

our @slowly = redis_version() >= 7
    ? ('--key-load-delay', 5000,
       '--loading-process-events-interval-bytes', 1024)
    : ('--key-load-delay', 100000);

sub load_fast {
    my ($server) = @_;

    # Before, it takes its seconds.
    $server->cmd('CONFIG', 'SET', 'key-load-delay', '0')
        if redis_version() >= 7;
}

sub populate {
    return redis_cmd('DEBUG', 'POPULATE', 20000) if redis_version() >= 7;

    redis_cmd('CONFIG', 'SET', 'rdbcompression', 'no');
    redis_cmd('DEBUG', 'POPULATE', 80, 'large', 1 << 20);
}

# Reads are served, on the connection that is there and on a new one.

sub reads_go_on {
    my ($server, $what) = @_;
    my $lost = log_lines(qr/was lost/);

    answer_is(ask('one'), 200, "$what: a good key: 200");
    answer_is(ask('two'), '401 unknown', "$what: an unknown key: 401");

    $server->cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    is_true(log_wait(qr/was lost/, $lost + 1), 'a new connection');

    answer_is(ask('one'), 200, "$what: a good key, connected anew: 200");
    answer_is(ask('two'), '401 unknown',
              "$what: an unknown key, connected anew: 401");
}

# It may not be the primary any more: whatever it answers, that is a 503, on the
# connection that is there and on a new one, and never "unknown".

sub is_fenced {
    my ($server, $what) = @_;
    my $lost = log_lines(qr/was lost/);

    # A write that was accepted counts for 250 ms.
    is_true(wait_until(5, sub { ask('one')->{code} eq '503' }),
            "$what: a good key: 503", log_lines(qr/./));
    answer_is(ask('one'), '503 store_unavailable', "$what: and again, $_")
        for 1 .. 3;
    answer_is(ask('two'), '503 store_unavailable', "$what: an unknown key");

    $server->cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    is_true(log_wait(qr/was lost/, $lost + 1), 'a new connection');

    answer_is(ask('one'), '503 store_unavailable',
              "$what: a good key, connected anew");
    answer_is(ask('two'), '503 store_unavailable',
              "$what: an unknown key, connected anew");
    count_is(scalar log_lines(qr/may not be the primary any more/), 1,
             "$what: one line for it", log_lines(qr/./));
}

sub is_open_again {
    my ($what) = @_;

    is_true(wait_until(10, sub { ask('one')->{code} eq '200' }),
            "$what: 200 by itself", log_lines(qr/./));
    answer_is(ask('two'), '401 unknown', "$what: an unknown key: 401");
    count_is(scalar log_lines(qr/Redis takes writes again/), 1,
             "$what: a line says so", log_lines(qr/./));
}

watch_logs();
run_tests();
logs_clean();

__DATA__

=== TEST 1: MISCONF, the last save failed: reads go on
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

# A directory stands where the dump is to go.
mkdir redis()->dir . '/in-the-way';
redis_cmd('CONFIG', 'SET', 'dbfilename', 'in-the-way');
redis_cmd('CONFIG', 'SET', 'save', '3600 1');
redis_cmd('BGSAVE');

is_true(wait_until(10, sub {
    redis_cmd('INFO', 'persistence') =~ /^rdb_last_bgsave_status:err/m
}), 'the save has failed');
is_true(!eval { redis_cmd('SET', 'x', 1); 1 } && $@ =~ /^MISCONF/,
        'Redis says so', $@);

main::reads_go_on(redis(), 'MISCONF');

redis_cmd('CONFIG', 'SET', 'save', '');
redis_cmd('CONFIG', 'SET', 'dbfilename', 'dump.rdb');
--- request
GET /open
--- no_error_log
[error]



=== TEST 2: a full Redis: reads go on
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

redis_cmd('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
redis_cmd('CONFIG', 'SET', 'maxmemory', '1');
is_true(!eval { redis_cmd('SET', 'x', 1); 1 } && $@ =~ /^OOM/,
        'it is full', $@);

main::reads_go_on(redis(), 'full');

redis_cmd('CONFIG', 'SET', 'maxmemory', '0');
--- request
GET /open
--- no_error_log
[error]



=== TEST 3: NOREPLICAS: 503, since others may have taken over
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

redis_cmd('CONFIG', 'SET', 'min-replicas-to-write', '1');
is_true(!eval { redis_cmd('SET', 'x', 1); 1 } && $@ =~ /^NOREPLICAS/,
        'it takes no writes', $@);

main::is_fenced(redis(), 'NOREPLICAS');

redis_cmd('CONFIG', 'SET', 'min-replicas-to-write', '0');
main::is_open_again('enough replicas');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis may not be the primary any more, .*: NOREPLICAS /



=== TEST 4: READONLY, a replica: 503
--- http_config eval: $::to_other
--- config eval: $::config
--- post_setup_server_root
main::replica();
--- init
is_true(!eval { $::replica->cmd('SET', 'x', 1); 1 } && $@ =~ /^READONLY/,
        'it takes no writes', $@);

main::is_fenced($::replica, 'READONLY');

$::replica->cmd('REPLICAOF', 'NO', 'ONE');
main::is_open_again('promoted');
$::replica->stop;
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis may not be the primary any more, .* replica/



=== TEST 5: a replica that was a primary, and one that takes writes: 503
--- http_config eval: $::to_other
--- config eval: $::config
--- post_setup_server_root
main::replica();
$::replica->cmd('REPLICAOF', 'NO', 'ONE');
--- init
answer_is(ask('one'), 200, 'a primary: 200');

# It serves what it has until it finds its master, which is nothing.
$::replica->cmd('REPLICAOF', '127.0.0.1', $ENV{TEST_NGINX_CLOSED_PORT});
main::is_fenced($::replica, 'demoted, on a connection that stays');

$::replica->cmd('REPLICAOF', 'NO', 'ONE');
$::replica->cmd('FLUSHALL');
$::replica->cmd('REPLICAOF', '127.0.0.1', $ENV{TEST_NGINX_CLOSED_PORT});
answer_is(ask('one'), '503 store_unavailable', "an empty one, $_") for 1 .. 3;

$::replica->cmd('CONFIG', 'SET', 'replica-read-only', 'no');
is_true(eval { $::replica->cmd('SET', 'x', 1) }, 'it takes writes', $@);
answer_is(ask('one'), '503 store_unavailable', 'a replica that takes writes');
answer_is(ask('two'), '503 store_unavailable', 'an unknown key: the same');

$::replica->cmd('REPLICAOF', '127.0.0.1', $ENV{TEST_NGINX_REDIS_PORT});
is_true(wait_until(20, sub {
    $::replica->cmd('INFO', 'replication') =~ /^master_link_status:up/m
}), 'it has all again');
$::replica->cmd('REPLICAOF', 'NO', 'ONE');
is_true(wait_until(10, sub { ask('one')->{code} eq '200' }),
        'promoted: 200', log_lines(qr/./));
$::replica->stop;
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis may not be the primary any more, .* replica/



=== TEST 6: MASTERDOWN, a replica that does not serve stale data: 503
--- http_config eval: $::to_other
--- config eval: $::config
--- post_setup_server_root
main::replica('--replica-serve-stale-data', 'no');
--- init
$::replica->cmd('REPLICAOF', 'NO', 'ONE');
answer_is(ask('one'), 200, 'before: 200');

$::replica->cmd('REPLICAOF', '127.0.0.1', $ENV{TEST_NGINX_CLOSED_PORT});

answer_is(ask('one'), 503, "a good key, time $_: 503") for 1 .. 5;
answer_is(ask('two'), 503, 'an unknown key: 503');
is_true(log_lines(qr/\[error\]/) <= 4, 'one line for each command',
        log_lines(qr/./));

$::replica->cmd('REPLICAOF', 'NO', 'ONE');
is_true(wait_until(5, sub { ask('one')->{code} eq '200' }), 'then: 200');
$::replica->stop;
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis answered HMGET agntkey:key: with: MASTERDOWN /



=== TEST 7: MASTERDOWN when nginx connects: 503 that names the command
--- http_config eval: $::to_other
--- config eval: $::config
--- post_setup_server_root
main::replica('--replica-serve-stale-data', 'no');
$::replica->cmd('REPLICAOF', '127.0.0.1', $ENV{TEST_NGINX_CLOSED_PORT});
--- init
answer_is(ask('one'), 503, "time $_: 503") for 1 .. 5;

# Before version 7 such a server answers PING: a line that nginx has come to a
# replica, one that it leaves it, and one of the answer to HMGET.
is_true(log_lines(qr/\[error\]/) <= (redis_version() >= 7 ? 1 : 3),
        'a line for each thing', log_lines(qr/./));

$::replica->cmd('REPLICAOF', 'NO', 'ONE');
is_true(redis_version() < 7 || log_wait(qr/is back/), 'it is back');
is_true(wait_until(5, sub { ask('one')->{code} eq '200' }), 'asked again');
answer_is(ask('one'), 200, 'then: 200');
$::replica->stop;
--- request
GET /open
--- error_log eval
main::redis_version() >= 7
    ? qr/\[error\] .*agntkey: Redis .* is away: PING: MASTERDOWN /
    : qr/\[error\] .*agntkey: Redis answered HMGET .* with: MASTERDOWN /



=== TEST 8: LOADING when nginx connects: 503 that names the command
--- http_config eval: $::to_other
--- config eval: $::config
--- post_setup_server_root
# A dump with the key, and so many others that it takes a while.
main::populate();
redis_cmd('CONFIG', 'SET', 'dbfilename', 'dump.rdb');
redis_cmd('SAVE');
$::loading = redis_server(port => $::other, may_load => 1, args => [
    '--dir', redis()->dir, '--dbfilename', 'dump.rdb', @::slowly]);
--- init
is_true($::loading->cmd('INFO', 'persistence') =~ /^loading:1/m,
        'Redis is loading');

answer_is(ask('one'), 503, "a good key, time $_: 503") for 1 .. 5;
answer_is(ask('two'), 503, 'an unknown key: 503');
count_is(scalar log_lines(qr/\[error\]/), 1, 'one line', log_lines(qr/./));

main::load_fast($::loading);
is_true(log_wait(qr/is back/, 1, 20), 'it is back');
answer_is(ask('one'), 200, 'then: 200');
$::loading->stop;
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: PING: LOADING /



=== TEST 9: LOADING on an established connection: 503, not "unknown"
--- http_config eval: $::to_other
--- config eval: $::config
--- post_setup_server_root
main::replica('--repl-diskless-load', 'disabled', @::slowly);
--- init
$::replica->cmd('REPLICAOF', 'NO', 'ONE');
answer_is(ask('one'), 200, 'before: 200');

# It takes all from its master again, who now has much more.
main::populate();
$::replica->cmd('SET', 'x', 1);
$::replica->cmd('REPLICAOF', '127.0.0.1', $ENV{TEST_NGINX_REDIS_PORT});

is_true(wait_until(20, sub {
    $::replica->cmd('INFO', 'persistence') =~ /^loading:1/m
}), 'Redis is loading');

answer_is(ask('one'), 503, "a good key, time $_: 503") for 1 .. 5;
answer_is(ask('two'), 503, 'an unknown key: 503');
is_true(log_lines(qr/\[error\]/) <= 4, 'one line for each command',
        log_lines(qr/./));

# It is a replica, and would be one when it has loaded.
main::load_fast($::replica);
is_true(wait_until(20, sub {
    $::replica->cmd('INFO', 'replication') =~ /^master_link_status:up/m
}), 'loaded');
answer_is(ask('one'), 503, 'a replica: 503');

$::replica->cmd('REPLICAOF', 'NO', 'ONE');
is_true(wait_until(20, sub { ask('one')->{code} eq '200' }), 'then: 200');
$::replica->stop;
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis (?:answered HMGET agntkey:key: with:|.* is away: PING:) LOADING /



=== TEST 10: BUSY with a script: 503 that names the command, then 200
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');

redis_cmd('CONFIG', 'SET', 'lua-time-limit', '1');

my $script = IO::Socket::UNIX->new(Peer => redis()->sock);
syswrite $script, "EVAL 'while true do end' 0\r\n";

is_true(wait_until(5, sub {
    !eval { redis_cmd('EXISTS', 'x'); 1 } && $@ =~ /^BUSY/
}), 'Redis is busy');

answer_is(ask('one'), 503, "a good key, time $_: 503") for 1 .. 5;
answer_is(ask('two'), 503, 'an unknown key: 503');
is_true(log_lines(qr/\[error\]/) <= 2, 'one line for each command',
        log_lines(qr/./));

redis_cmd('SCRIPT', 'KILL');
is_true(wait_until(5, sub { ask('one')->{code} eq '200' }), 'then: 200');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis answered HMGET agntkey:key: with: BUSY /



=== TEST 11: no more clients: 503 with the reason, then 200
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
redis_cmd('CONFIG', 'SET', 'maxclients', '1');
--- init
answer_is(ask('one'), 503, "a good key, time $_: 503") for 1 .. 5;
is_true(log_lines(qr/is away/) <= 2, 'few lines', log_lines(qr/./));

redis_cmd('CONFIG', 'SET', 'maxclients', '1000');
is_true(log_wait(qr/is back/), 'it is back', log_lines(qr/./));
answer_is(ask('one'), 200, 'then: 200');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: (?:PING: ERR max number of clients|read failed|closed)/



=== TEST 12: paused for all commands: 503 at the timeout, then 200
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');
# It would not hear an UNPAUSE.
redis_cmd('CLIENT', 'PAUSE', '1500', 'ALL');
answer_is(ask('one'), 503, 'paused: 503');
is_true(log_wait(qr/is back/), 'it is back');
answer_is(ask('one'), 200, 'then: 200');
--- request
GET /open



=== TEST 13: paused for writes, as in a planned failover: 503, then 200
--- http_config eval: $::redis
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'before: 200');
redis_cmd('CLIENT', 'PAUSE', '60000', 'WRITE');
is_true(wait_until(5, sub { ask('one')->{code} eq '503' }),
        'paused: 503', log_lines(qr/./));
answer_is(ask('two'), 503, 'an unknown key: 503');
redis_cmd('CLIENT', 'UNPAUSE');
is_true(wait_until(10, sub { ask('one')->{code} eq '200' }),
        'then: 200', log_lines(qr/./));
--- request
GET /open



=== TEST 14: records of another type: 503, not "unknown", and not 200
--- http_config eval: $::redis
--- config eval: $::config
--- init
my ($key) = map { keys %$_ } (key_records(key_for('one')))[0];
my ($workspace) = map { keys %$_ } (workspace_records('acme'))[0];

redis_cmd('DEL', $workspace);
redis_cmd('SET', $workspace, 1);
answer_is(ask('one'), 503, "a text for a workspace, time $_: 503") for 1, 2;

seed_workspace('acme');
answer_is(ask('one'), 200, 'a workspace: 200');

redis_cmd('DEL', $key);
redis_cmd('SET', $key, 1);
answer_is(ask('one'), 503, "a text for a key, time $_: 503") for 1, 2;

seed_key('one');
answer_is(ask('one'), 200, 'a key: 200');
--- request
GET /open
--- error_log eval
[qr/\[error\] .*Redis answered HMGET agntkey:key: with: WRONGTYPE /,
 qr/\[error\] .*Redis answered HGET agntkey:workspace: with: WRONGTYPE /]



=== TEST 15: a failover: the promoted replica is asked by itself
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_PROXY_PORT; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- post_setup_server_root
main::replica();
$::proxy = proxy();
--- init
answer_is(ask('one'), 200, 'before: 200');

# As when an address moves to the other host.
$::proxy->cut;
$::proxy->stop;
answer_is(ask('one'), 503, 'while it moves: 503');

$::replica->cmd('REPLICAOF', 'NO', 'ONE');
$::proxy = proxy(to => $::other);
is_true(log_wait(qr/is back/), 'it is back');
answer_is(ask('one'), 200, 'then: 200');
$::proxy->stop;
$::replica->stop;
--- request
GET /open
