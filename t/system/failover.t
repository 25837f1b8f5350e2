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
logs_clean();
done_testing();
