# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A proxy holds back what a call of the admin API has written until nginx has
# lost its connection, and lets it go when another call was answered: it does
# nothing then.  "store_unknown" is the end of a call, and what is called later
# stands.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use Test::More;

redis_start();

my $timeout = 400;
my $margin = $timeout * 9 / 8;

my $other_port = free_port();
my $fake = "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}";
my $behind = "redis://127.0.0.1:$ENV{TEST_NGINX_PROXY_PORT}";

sub nginx {
    my ($redis, %opt) = @_;

    return Agntkey::Nginx->new(
        cached(redis => $redis, cache => 'off',
               http => "agntkey_redis_timeout ${timeout}ms;"),
        %opt)->start;
}


# All that there is but the audit stream, whose ids are times.

sub everything {
    my @all;

    for my $key (sort grep { !/^agntkey:audit/ } @{ redis_cmd('KEYS', '*') }) {
        my $type = redis_cmd('TYPE', $key);
        my %hash = $type eq 'hash' ? @{ redis_cmd('HGETALL', $key) } : ();

        push @all, "$key: " . join ' ',
            $type eq 'hash' ? map { "$_=$hash{$_}" } sort keys %hash
            : $type eq 'zset'
              ? @{ redis_cmd('ZRANGE', $key, 0, -1, 'WITHSCORES') }
            : $type eq 'set' ? sort @{ redis_cmd('SMEMBERS', $key) }
            : redis_cmd('GET', $key);
    }

    return join "\n", @all;
}

sub json_code { return join ' ', $_[0]{code}, $_[0]{json}{code} // () }

sub scripts_run { return redis_commands_count('eval') }


# --- a call is held on its way, and another one made

my $proxy = proxy();
my $direct = nginx("redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT}");
my $far = nginx($behind, port => $other_port);

my $path = 'keys/' . key_id(key_for('one'));

my @cases = (
    # what it is, before, the call that is held, the one that comes later
    ['switching on', sub { disable() },
     ['PUT workspaces/acme', { status => 'active' }],
     ['PUT workspaces/acme', { status => 'disabled' }],
     '403 workspace_disabled'],
    ['switching off', sub { },
     ['PUT workspaces/acme', { status => 'disabled' }],
     ['PUT workspaces/acme', { status => 'active' }], '200'],
    ['a time', sub { },
     ["PATCH $path", { expires_at => undef }],
     ["PATCH $path", { expires_at => '2101-01-31T12:00:00Z' }], '200'],
    ['scopes', sub { },
     ["PATCH $path", { scopes => ['a', 'b'] }],
     ["PATCH $path", { scopes => ['a'] }], '200'],
    ['a name', sub { },
     ["PATCH $path", { name => 'Old name' }],
     ["PATCH $path", { name => 'New name' }], '200'],
    ['a create', sub { },
     ['POST keys', { workspace => 'acme', name => 'Report' },
      headers => ['Content-Type: application/json', 'Idempotency-Key: once']],
     ['GET keys?workspace=acme', undef], '200'],
    ['a rotation', sub { },
     ["POST $path/rotate", { overlap_seconds => 0 }],
     ["GET $path", undef], '200'],
);

sub disable { api('PUT workspaces/acme', { status => 'disabled' }) }

# Until the admin connection of the nginx behind the proxy is there.

sub connected {
    return wait_until(10, sub {
        api('GET workspaces', undef, port => $other_port)->{code} eq '200';
    });
}

for my $case (@cases) {
    my ($title, $before, $held, $later, $want) = @$case;

    redis_empty();
    seed_key('one', scopes => 'c', expires_at => 4102444800000);
    $before->();
    ok(connected(), "$title: connected");

    my $n = $proxy->gone_on;

    $proxy->hold_next('up', 'EVAL', 3);

    my $res = api(@$held, port => $other_port);

    is($proxy->stayed, $n + 1, "$title: held");
    is(json_code($res), '503 store_unknown', "$title: unknown")
        or diag($res->{raw});
    cmp_ok(1000 * $res->{time}, '>=', $margin,
           "$title: and is not answered before it cannot happen any more");

    # By the same nginx, as soon as it can.
    ok(wait_until(10, sub {
        $res = api(@$later, port => $other_port);
        return $res->{code} eq '200';
    }), "$title: called later: 200") or diag($res->{raw});

    my $all = everything();
    my $run = scripts_run();

    is($proxy->gone_on, $n, "$title: and before the one that is held");
    is(asked('one') =~ s/ MISS$//r, $want, "$title: the later call counts");
    ok(wait_until(10, sub { scripts_run() > $run }),
       "$title: what was held arrives");

    is(everything(), $all, "$title: and changes nothing");
    is(asked('one') =~ s/ MISS$//r, $want, "$title: the later call still counts");
}


# --- a reply that is held: done, and told when the time is over

{
    redis_empty();
    seed_key('one');
    ok(connected(), 'a reply is held: connected');
    $proxy->hold_next('down', 'acme', 2);

    my $res = api("PATCH $path", { name => 'New name' }, port => $other_port);

    is(json_code($res), '503 store_unknown', 'a reply is held: unknown');
    cmp_ok(1000 * $res->{time}, '>=', $margin, 'a reply is held: in the end');
    is(redis_cmd('HGET', record_of('one'), 'name'), 'New name',
       'a reply is held: it was done');
}


# --- a revocation is for good: it may arrive whenever it likes

{
    redis_empty();
    seed_key('one');
    ok(connected(), 'a revocation: connected');

    my $n = $proxy->gone_on;
    $proxy->hold_next('up', 'EVAL', 3);

    my $res = revoke('one', port => $other_port);

    is(json_code($res), '503 store_unknown', 'a revocation: unknown');
    is(asked('one'), '200 MISS', 'a revocation: still under way');
    ok(wait_until(10, sub { $proxy->gone_on > $n }),
       'a revocation: goes on');
    ok(wait_until(5, sub { asked('one') eq '401 revoked MISS' }),
       'a revocation: and counts');
}


# --- Redis answers in time, but the deadline was over: once more, at once

{
    redis_empty();
    seed_key('one');
    ok(connected(), 'late: connected');

    my $run = scripts_run();

    # the time is old when it comes, and the script takes as long again

    $proxy->hold_next('down', "*2\r\n\$10\r\n", $timeout / 1000 * 0.6);
    $proxy->hold_next('up', 'EVAL', $timeout / 1000 * 0.6);

    my $res = api("PATCH $path", { name => 'New name' }, port => $other_port);

    is(json_code($res), '200', 'late: 200') or diag($res->{raw});
    is($res->{json}{name}, 'New name', 'late: the name');
    is(scripts_run() - $run, 2, 'late: sent again');
}


# --- the time is over while the worker is to end, or nobody waits any more

{
    redis_empty();
    seed_key('one');
    ok(connected(), 'the end: connected');
    $proxy->hold_next('up', 'EVAL', 3);

    my $call = api_start("PATCH $path", { name => 'New name' },
                         port => $other_port);

    ok($far->log_wait(qr/is away: no reply in time/), 'the end: lost');
    $far->signal('QUIT');

    my $res = $call->response(10);

    like($res->{raw}, qr/ 503 .*"code":\s*"store_unknown"/s,
         'the end: the answer comes');
    ok(wait_until(10, sub { $far->gone }), 'the end: and the worker goes');
    ok(!$far->lines(qr/open socket/), 'the end: no open socket');

    $far = nginx($behind, port => $other_port);
    ok(connected(), 'a client leaves: connected');
    $proxy->hold_next('up', 'EVAL', 3);

    $call = api_start("PATCH $path", { name => 'New name' },
                      port => $other_port);
    ok($far->log_wait(qr/is away: no reply in time/),
       'a client leaves: lost');
    $call->leave;
    ok(wait_until(10, sub { active_connections(port => $other_port) == 0 }),
       'a client leaves: nobody waits');
    ok(connected(), 'a client leaves: the next call has its answer');

    # in the middle of the wait for the time
    my $n = $proxy->gone_on;

    $proxy->hold_next('up', 'TIME', 3);
    $call = api_start("PATCH $path", { name => 'Never' },
                      port => $other_port);
    ok(wait_until(10, sub {
        active_connections(port => $other_port) == 1;
    }), 'the time is not told: a call waits');
    $call->leave;
    ok(wait_until(10, sub { active_connections(port => $other_port) == 0 }),
       'the time is not told: the client leaves');
    ok(connected(), 'the time is not told: the next call has its answer');

    # the same for one that waits
    $proxy->hold_next('up', 'TIME', 3);
    $res = api("PATCH $path", { name => 'Never' }, port => $other_port);
    is(json_code($res), '503 store_unavailable',
       'the time is not told: nothing was done');
    ok(connected(), 'the time is not told: connected');
    ok(wait_until(10, sub { $proxy->gone_on >= $n + 2 }),
       'the time is not told: all has arrived');
    is(redis_cmd('HGET', record_of('one'), 'name'), 'a key',
       'the time is not told: and nothing was done by it');
}

ok(defined $_->quit, 'quit') for $direct, $far;
$proxy->stop;


# --- what Redis says of the time, and of the script

{
    my $row = join '', "*9\r\n", map { defined ? '$' . length($_) . "\r\n$_\r\n"
                                               : "\$-1\r\n" }
              '0' x 64, 1, 'acme', 'one', '', '1700000000000', undef, undef,
              undef;
    my $late = "*1\r\n\$4\r\nlate\r\n";
    my $error = qr/Redis answered an admin call with: NOPERM/;
    my $odd = qr/Redis did not say what time it is/;

    for my $fault (
        ['nothing is wrong', undef, [$row], '200', 1, 1],
        ['late', undef, [$late, $row], '200', 2, 2],
        ['late twice', undef, [$late, $late], '503 store_unavailable', 2, 2],
        ['a refusal', "-NOPERM this user has no permissions\r\n", [],
         '503 store_unavailable', 1, 0, $error],
        map({ [$_ =~ s/\r\n/ /gr, $_, [], '503 store_unavailable', 1, 0,
               $odd] }
            ":1700000000\r\n", "+OK\r\n", "\$-1\r\n", "*-1\r\n", "*0\r\n",
            "*1\r\n\$1\r\n1\r\n", "*2\r\n:1700000000\r\n:1\r\n",
            "*2\r\n\$1\r\n1\r\n\$-1\r\n", "*2\r\n\$1\r\nx\r\n\$1\r\n0\r\n",
            "*2\r\n\$2\r\n-1\r\n\$1\r\n0\r\n",
            "*2\r\n\$12\r\n100000000000\r\n\$1\r\n0\r\n",
            "*2\r\n\$1\r\n1\r\n\$7\r\n1000000\r\n",
            "*3\r\n\$1\r\n1\r\n\$1\r\n0\r\n\$1\r\n0\r\n"),
    ) {
        my ($title, $time, $replies, $want, $times, $scripts, $line)
            = @$fault;
        my $n = 0;

        fake_redis(keys => ['one'], rules => [
            defined $time ? { match => qr/^TIME/, do => $time } : (),
            { match => qr/^EVAL /,
              do => sub { return { reply => $replies->[$n++] } } },
        ]);

        my $nginx = nginx($fake);
        my $res = api("PATCH $path", { name => 'New name' });

        is(json_code($res), $want, "$title: $want") or diag($res->{raw});
        is(scalar(fake_commands(qr/^TIME/)), $times, "$title: TIME");
        is(scalar(fake_commands(qr/^EVAL/)), $scripts, "$title: scripts");
        ok(!defined $line || $nginx->lines($line), "$title: a line says so");

        # fifteen digits: the time of the fake, and as long as a reply may take

        for my $command (fake_commands(qr/^EVAL/)) {
            my ($deadline) = $command =~ / (\d{15})$/;

            cmp_ok(abs($deadline - 1000 * time - $timeout), '<', 10000,
                   "$title: the deadline") or diag($command);
        }

        ok(defined $nginx->quit, "$title: quit");
    }
}

logs_clean();
done_testing();
