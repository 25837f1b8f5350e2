# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A failover can lose what a Redis had acknowledged: a replica that has fallen
# behind takes over, and a revoked key is active again.  The receipt had said
# so, and whoever revokes the key once more has it revoked.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Proxy;
use Agntkey::Workers;
use Test::More;

redis_start(args => ['--repl-diskless-sync-delay', '0']);
redis_empty();
seed_key($_) for 'one', 'two';

# Both ways out: of nginx to who is primary, of the replica to its primary.
my $link = Agntkey::Proxy->new(to => $ENV{TEST_NGINX_REDIS_PORT},
                               port => free_port());
my $replica = redis_server(
    name => 'replica',
    args => ['--replicaof', '127.0.0.1', $link->port,
             '--repl-diskless-sync-delay', '0'],
);

my $before = Agntkey::Proxy->new(to => $ENV{TEST_NGINX_REDIS_PORT},
                                 port => $ENV{TEST_NGINX_PROXY_PORT});

ok(wait_until(20, sub {
    redis_cmd('INFO', 'replication') =~ /slave0:.*state=online/;
}), 'a replica') or diag(redis_cmd('INFO', 'replication'));

# With its first replica a Redis takes another name.
registry_is_old();

my $nginx = Agntkey::Nginx->new(
    workers => 2,
    cached(redis => "redis://127.0.0.1:$ENV{TEST_NGINX_PROXY_PORT}",
           cache => 'entries=100 lease=2s',
           http => 'agntkey_redis_timeout 1s;'),
)->start;
my %worker = worker_clients($nginx);

ok(hit_everywhere(\%worker, 'one', 'two'), 'hits everywhere');

my $res = revoke('one');

is($res->{code}, 200, 'revoked') or diag($res->{raw});

# on a busy machine it may take longer than a revocation waits for it
ok(wait_until(20, sub { revoke('one')->{json}{receipt}{replicas} == 1 }),
   'the replica has it');
ok(wait_until(10, sub {
    !$replica->cmd('HEXISTS', record_of('one'), 'active');
}), 'so has its data');


# --- the replica falls behind, and the receipt says so

$link->pause('down');
$res = revoke('two');

is($res->{code}, 200, 'the replica hangs: revoked') or diag($res->{raw});
is($res->{json}{receipt}{replicas}, 0, 'no replica has that: the receipt');
is($res->{json}{receipt}{acknowledged}, 2, 'all workers do');
is(scalar(grep { said(ask_worker($_, 'two')) =~ /^401 revoked / }
               values %worker), 2, 'and refuse it');


# --- it takes over

redis_stop('KILL');
$link->stop;
$replica->cmd('REPLICAOF', 'NO', 'ONE');
is($replica->cmd('HGET', record_of('two'), 'active'), 1,
   'the replica takes over, and has the key active');

$before->stop;

my $after = Agntkey::Proxy->new(to => $replica->port,
                                port => $ENV{TEST_NGINX_PROXY_PORT});

my $is_said = sub {
    my ($label, $want) = @_;

    return wait_until(20, sub {
        2 == grep { said(ask_worker($_, $label)) =~ $want } values %worker;
    });
};

ok($is_said->('two', qr/^200 /),
   'what it does not know is lost: the key is accepted');
ok($is_said->('one', qr/^401 revoked /), 'what it knows is not');


# --- repeating it works

ok(wait_until(20, sub { ($res = revoke('two'))->{code} eq '200' }),
   'revoked once more') or diag($res->{raw});
is($res->{json}{receipt}{replicas}, 0, 'there is no replica any more');
is(scalar(grep { said(ask_worker($_, 'two')) =~ /^401 revoked / }
               values %worker), 2, 'and refused everywhere');
ok(!$replica->cmd('HEXISTS', record_of('two'), 'active'),
   'the new primary has it revoked');

ok(defined $nginx->quit, 'quit');
$after->stop;
$replica->stop;


# --- a primary that is cut off, with clients on its side

# It has a replica, without which it takes no writes; the replica is promoted,
# and keys are revoked there.  Whoever has stayed with the old primary hears of
# none of that, and must not believe what it goes on saying.

redis_start();
redis_cmd('CONFIG', 'SET', 'min-replicas-to-write', '1');
redis_cmd('CONFIG', 'SET', 'min-replicas-max-lag', '1');

$link = Agntkey::Proxy->new(to => $ENV{TEST_NGINX_REDIS_PORT},
                            port => free_port());
$replica = redis_server(
    name => 'promoted',
    args => ['--replicaof', '127.0.0.1', $link->port,
             '--repl-diskless-sync-delay', '0'],
);

ok(wait_until(20, sub { eval { redis_empty(); 1 } }),
   'cut off: writes are taken with a replica') or diag($@);
seed_key($_) for 'one', 'two';

my %old = map {
    my ($name, $cache, @more) = @$_;

    $name => Agntkey::Nginx->new(name => $name, port => free_port(),
                                 cached(cache => $cache, @more))->start;
} ['cached', 'entries=100 lease=500ms'],
  ['asks', 'off'],
  ['stays', 'entries=100 lease=500ms',
   http => 'agntkey_stale 1h;'];

my $stays = delete $old{stays};

for my $name (sort keys %old) {
    ok(wait_until(20, sub {
        my ($code) = asked('one', port => $old{$name}{port}) =~ /^(\d+)/;
        return $code eq '200';
    }), "cut off, $name: accepted before");
}

ok(hit('two', port => $stays->{port}), 'cut off, agntkey_stale: a hit before');

ok(wait_until(10, sub {
    $replica->cmd('HEXISTS', record_of('one'), 'active')
        && $replica->cmd('HEXISTS', record_of('two'), 'active');
}), 'cut off: the replica has the keys');

$link->pause('both');
ok(wait_until(20, sub {
    !eval { redis_cmd('DEL', 'x'); 1 } && $@ =~ /^NOREPLICAS/
}), 'cut off: the old primary takes no writes');

$replica->cmd('REPLICAOF', 'NO', 'ONE');

my $new = Agntkey::Nginx->new(
    name => 'new', port => free_port(),
    cached(redis => 'redis://127.0.0.1:' . $replica->port,
           cache => 'entries=100 lease=500ms'),
)->start;

ok(wait_until(20, sub {
    ($res = revoke('one', port => $new->{port}))->{code} eq '200'
}), 'cut off: revoked at the new primary') or diag($res->{raw});

my $no_answer = qr/^503 store_unavailable/;

for my $round (1 .. 5) {
    for my $name (sort keys %old) {
        like(asked('one', port => $old{$name}{port}), $no_answer,
             "cut off, $name: not accepted after the receipt, $round");
    }
}

is(redis_cmd('HGET', record_of('one'), 'active'), 1,
   'cut off: though the old primary still says that it is active');

for my $name (sort keys %old) {
    like(asked('two', port => $old{$name}{port}), $no_answer,
         "cut off, $name: neither is any other key");
    like(asked('nobody', port => $old{$name}{port}), $no_answer,
         "cut off, $name: nor is one unknown");
    is(scalar $old{$name}->lines(qr/\[error\] .*may not be the primary/), 1,
       "cut off, $name: one line says why");
}

is(asked('two', port => $stays->{port}), '200 STALE',
   'cut off, agntkey_stale: the operator has chosen this');

# The old one is told.
redis_cmd('CONFIG', 'SET', 'min-replicas-to-write', '0');
ok(wait_until(20, sub { asked('two', port => $old{$_}{port}) =~ /^200/ }),
   "cut off, $_: 200 when it takes writes") for sort keys %old;

ok(defined $_->quit, 'quit') for values %old, $new, $stays;
$link->stop;
$replica->stop;
logs_clean();
done_testing();
