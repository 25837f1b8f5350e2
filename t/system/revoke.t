# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Once a revocation has been answered no worker accepts the key, whatever the
# workers do meanwhile; and the receipt says who has confirmed it.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use IO::Socket::UNIX;
use Test::More;
use Time::HiRes qw(time);

redis_start();

my $other_port = free_port();

# A lease that is far longer than the suite waits: who has to wait for it to
# be over fails.
my $long = 'entries=100 lease=60s';
my $fake = "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}";

sub receipt_is {
    my ($res, $workers, $acknowledged, $title) = @_;
    my $receipt = $res->{json}{receipt} // {};

    is($res->{code}, 200, "$title: 200") or diag($res->{raw});
    is($receipt->{workers}, $workers, "$title: workers");
    is($receipt->{acknowledged}, $acknowledged, "$title: acknowledged");
    # "synced" is there where the server has WAITAOF: see synced.t.
    is(join(' ', grep { $_ ne 'synced' || redis_version() < 7.002 }
                 sort keys %$receipt),
       'acknowledged replicas took_ms workers', "$title: members");

    return $receipt;
}

sub refused_everywhere {
    my ($worker, $label, $reason, $title) = @_;
    my @said = map { said(ask_worker($_, $label)) } values %$worker;

    is(scalar(grep { /^40[13] \Q$reason\E (?:MISS|HIT)$/ } @said),
       scalar @said, $title) or diag(join ', ', @said);
}

# The workers that the registry names, by pid.

sub registered {
    my $members = redis_cmd('ZRANGE', 'agntkey:workers', 0, -1);
    return join ' ', sort map { (split m{/})[1] } @$members;
}

sub registered_are {
    my ($title, @nginx) = @_;
    my $want = sub { join ' ', sort map { $_->workers } @nginx };

    ok(wait_until(10, sub { registered() eq $want->() }), $title)
        or diag('registered: ', registered(), ', there are: ', $want->());
}


# --- all workers of one nginx, and of two

for my $mode ([1], [2], [4], [2, 3]) {
    my @nginx;
    my @n = @$mode;
    my $title = join ' and ', @n;
    my $workers = 0;
    my %worker;

    redis_empty();
    seed_key($_) for 'one', 'two';

    for my $n (@n) {
        push @nginx, Agntkey::Nginx->new(
            workers => $n, cached(cache => $long),
            port => @nginx ? $other_port : $ENV{TEST_NGINX_PORT},
        )->start;

        $workers += $n;
        %worker = (%worker, worker_clients($nginx[-1]));
    }

    ok(hit_everywhere(\%worker, 'one', 'two'), "$title: hits everywhere");

    my $res = revoke('one');
    my $receipt;

    refused_everywhere(\%worker, 'one', 'revoked',
                       "$title: revoked, and refused everywhere");
    $receipt = receipt_is($res, $workers, $workers, "$title: receipt");
    ok($receipt->{took_ms} >= 0 && $receipt->{took_ms} < 60000,
       "$title: no lease was waited for") or diag($receipt->{took_ms});
    is($receipt->{replicas}, 0, "$title: no replicas");
    is($res->{json}{status}, 'revoked', "$title: the key object");

    refused_everywhere(\%worker, 'one', 'revoked', "$title: and once more");
    ok(hit_everywhere(\%worker, 'two'), "$title: another key is a hit");

    my $again = revoke('one', port => $nginx[-1]{port});

    receipt_is($again, $workers, $workers, "$title: again");
    delete $_->{json}{receipt} for $res, $again;
    is_deeply($again->{json}, $res->{json}, "$title: the same answer");

    # A workspace, the same way.
    $res = api('PUT workspaces/acme', { status => 'disabled' });
    refused_everywhere(\%worker, 'two', 'workspace_disabled',
                       "$title: disabled, and refused everywhere");
    receipt_is($res, $workers, $workers, "$title: disabled");
    is($res->{json}{status}, 'disabled', "$title: the workspace");

    $res = api('PUT workspaces/acme', { status => 'active' });
    is($res->{code}, 200, "$title: active again") or diag($res->{raw});
    is(scalar(grep { wait_until(10, sub {
                         said(ask_worker($_, 'two')) =~ /^200 /;
                     }) } values %worker),
       $workers, "$title: and accepted everywhere");
    ok(hit_everywhere(\%worker, 'two'), "$title: then hits everywhere");
    refused_everywhere(\%worker, 'one', 'revoked',
                       "$title: the revoked key is still refused");

    for my $nginx (@nginx) {
        ok(!$nginx->lines(qr/\[(?:warn|error|crit|alert|emerg)\]/),
           "$title: nothing in the log");
        ok(defined $nginx->quit, "$title: quit");
    }

    is(registered(), '', "$title: no worker is left in the registry");
}


# --- two at once, and of other workspaces

{
    redis_empty();

    my @labels = map { "key $_" } 1 .. 20;
    seed_key($_) for @labels, 'good';

    my $nginx = Agntkey::Nginx->new(workers => 2,
                                    cached(cache => $long))->start;
    my %worker = worker_clients($nginx);

    ok(hit_everywhere(\%worker, @labels, 'good'), 'twenty keys are hits');

    my @calls = map {
        [$_, api_start('POST keys/' . key_id(key_for($_)) . '/revoke')]
    } @labels;

    my @wrong;

    for my $call (@calls) {
        my ($label, $client) = @$call;
        my $res = $client->response(15);

        push @wrong, "$label: $res->{raw}"
            if $res->{body} !~ /"workers":\s*2,\s*"acknowledged":\s*2\b/;

        for (values %worker) {
            my $said = said(ask_worker($_, $label));
            push @wrong, "$label: $said" if $said !~ /^401 revoked /;
        }
    }

    is(scalar @wrong, 0, 'twenty revocations at once: refused as each is'
                         . ' answered') or diag(@wrong);
    ok(hit_everywhere(\%worker, 'good'), 'another key is a hit');

    # Nobody has waited: a client that leaves does not disturb the others.
    my $leaver = api_start('POST keys/' . key_id(key_for('good'))
                           . '/revoke');
    $leaver->leave;
    receipt_is(revoke('good'), 2, 2, 'a client left, the next call');
    ok(defined $nginx->quit, 'quit');
}


# --- a registry that may lack somebody

{
    my $lease = 2000;

    redis_empty();
    seed_key($_) for 'one', 'two', 'three';

    my $nginx = Agntkey::Nginx->new(workers => 2, cached(
        cache => "entries=100 lease=${lease}ms"))->start;
    my %worker = worker_clients($nginx);
    my $slow = qr/the revocation of "agntkey:[^"]+" waits for a lease to be over/;

    ok(hit_everywhere(\%worker, 'one', 'two'), 'hits everywhere');
    receipt_is(revoke('one'), 2, 2, 'an old registry');
    ok(!$nginx->lines($slow), 'an old registry: nobody waits');

    # That of another Redis, as after a restart or a promotion, which has known
    # leases of a length that is recorded.
    my $other = 'f' x 40;
    my $hour = 3600 * 1000;
    my $count = 0;
    my ($id) = redis_cmd('INFO', 'replication') =~ /master_replid:(\w+)/;

    for my $case (
        ['another Redis', "$other 0 100", $lease],
        ['another Redis, longer leases', "$other 0 3000", 3000],
        ['a mark of the future', "$other " . (int(1000 * time) + $hour)
                                 . ' 2000', $lease],
        ['a record of the future', "$other 0 2000", $lease,
         created_at => int(1000 * time) + $hour],
    ) {
        my ($title, $mark, $wait, %fields) = @$case;

        seed_key('three', %fields);
        ok(hit_everywhere(\%worker, 'three'), "$title: hits everywhere");
        redis_cmd('SET', 'agntkey:registry', $mark);

        my $receipt = receipt_is(revoke('three'), 2, 2, $title);

        cmp_ok($receipt->{took_ms}, '>=', $wait,
               "$title: a lease was waited for");
        is(scalar($nginx->lines($slow)), ++$count, "$title: said so");
        like(redis_cmd('GET', 'agntkey:registry'),
             qr/^$id [1-9]\d{12} (?:2000|3000)$/,
             "$title: and it is marked now");
    }

    # Nobody knows how long the leases are that this Redis may not know of.
    for my $case (
        ['no mark', undef],
        ['a mark that is empty', ''],
        ['a mark without a time', $id],
        ['a mark with a word for a time', "$id soon 2000"],
        ['a mark with one time', "$id 0"],
        ['a mark of ours, of the future', "$id " . (int(1000 * time) + $hour)
                                          . ' 60000'],
        ['a mark of a future that no number holds', "$id " . '9' x 400
                                                    . ' 60000'],
        ['a mark with a lease that no number holds', "$other 0 " . '9' x 400],
    ) {
        my ($title, $mark) = @$case;

        seed_key('three');
        ok(hit_everywhere(\%worker, 'three'), "$title: hits everywhere");

        defined $mark ? redis_cmd('SET', 'agntkey:registry', $mark)
                      : redis_cmd('DEL', 'agntkey:registry');

        my $now = int(1000 * time);
        my $call = api_start('POST keys/' . key_id(key_for('three'))
                             . '/revoke');

        $count++;
        ok(wait_until(10, sub { $count == $nginx->lines($slow) }),
           "$title: a revocation waits");

        my ($until) = redis_cmd('GET', 'agntkey:registry')
            =~ /^$id ([1-9]\d{12}) /;

        cmp_ok($until // 0, '>=', $now + 60000 * 9 / 8,
               "$title: as long as a lease may be");
        ok(!$call->started(0.01), "$title: there is no answer yet");
        $call->leave;
        registry_is_old();
    }

    # The call itself gives such a workspace a time.
    seed_key('three');
    redis_cmd('HDEL', workspace_of('acme'), 'created_at');
    ok(hit_everywhere(\%worker, 'three'), 'a workspace without a time: hits');
    redis_cmd('SET', 'agntkey:registry', "$other 0 2000");
    my $receipt = receipt_is(api('PUT workspaces/acme', { status => 'disabled' }),
                          2, 2, 'a workspace without a time');
    cmp_ok($receipt->{took_ms}, '>=', $lease,
           'a workspace without a time: a lease was waited for');

    ok(defined $nginx->quit, 'quit');
}


# --- a Redis that was empty, and nobody caches

for my $others (0, 1) {
    redis_cmd('FLUSHALL');
    redis_cmd('SET', 'of-another-tenant', 1) if $others;

    my $nginx = Agntkey::Nginx->new(cached(cache => 'off'))->start;
    my $key = api('POST keys', { workspace => 'acme', name => 'first' })
        ->{json};
    my $call = "POST keys/$key->{id}/revoke";

    if ($others) {
        my $client = api_start($call);

        ok($nginx->log_wait(qr/the revocation of "agntkey:[^"]+" waits for a lease to be over/),
           'not empty: nobody knows what was there before');
        $client->leave;

    } else {
        receipt_is(api($call), 0, 0, 'empty: the first key is revoked');
        ok(!$nginx->lines(qr/a revocation waits/), 'empty: nobody waits');
    }

    ok(defined $nginx->quit, 'quit');
}


# --- what cannot be revoked

{
    redis_empty();
    seed_key('one');

    my $nginx = Agntkey::Nginx->new(cached(cache => $long))->start;

    ok(hit('one'), 'a hit');

    my $res = revoke('nobody');
    is($res->{code}, 404, 'an unknown id: 404');
    ok(!exists $res->{json}{receipt}, 'and no receipt');
    is(asked('one'), '200 HIT', 'the other key is a hit still');
    ok(defined $nginx->quit, 'quit');
}


# --- nobody caches

{
    redis_empty();
    seed_key('one');

    my $nginx = Agntkey::Nginx->new(workers => 2,
                                    cached(cache => 'off'))->start;

    is(asked('one'), '200 MISS', 'agntkey_cache off: MISS');
    is(asked('one'), '200 MISS', 'agntkey_cache off: and again');

    my $res = revoke('one');
    is(asked('one'), '401 revoked MISS', 'refused');
    receipt_is($res, 0, 0, 'agntkey_cache off');

    # Another one does.
    seed_key('two');
    my $caches = Agntkey::Nginx->new(
        workers => 2, port => $other_port, cached(cache => $long),
    )->start;
    my %worker = worker_clients($caches);

    ok(hit_everywhere(\%worker, 'two'), 'another nginx caches');
    $res = revoke('two');
    refused_everywhere(\%worker, 'two', 'revoked',
                       'revoked by one that does not cache');
    receipt_is($res, 2, 2, 'which hears the others');
    ok(defined $_->quit, 'quit') for $nginx, $caches;
}


# --- a worker that is stopped

{
    redis_empty();
    seed_key($_) for 'one', 'two';

    my $lease = 3000;
    my $nginx = Agntkey::Nginx->new(
        workers => 3, cached(cache => "entries=100 lease=${lease}ms"),
    )->start;
    my %worker = worker_clients($nginx);
    my ($stopped, @rest) = sort keys %worker;

    ok(hit_everywhere(\%worker, 'one', 'two'), 'hits everywhere');
    kill 'STOP', $stopped;

    my $res = revoke('one', client => $worker{ $rest[0] });
    my @said = map { said(ask_worker($worker{$_}, 'one')) } @rest;

    # On its way before the worker goes on.
    ask_worker($worker{$stopped}, 'one', start => 1);
    kill 'CONT', $stopped;

    my $first = said($worker{$stopped}->response);

    my $receipt = receipt_is($res, 3, 2, 'one is stopped');
    cmp_ok($receipt->{took_ms}, '>=', $lease, 'its lease was waited for');
    is(scalar(grep { /^401 revoked / } @said), 2, 'the others refuse')
        or diag("@said");
    like($first, qr/^401 revoked MISS$/, 'and it does at its first turn');
    ok($nginx->log_wait(qr/\[warn\].* 1 of 3 workers have not acknowledged the revocation of "agntkey:key:.*: [0-9a-f]{16}\b/),
       'a line in the log');

    ok(hit_everywhere(\%worker, 'two'), 'then all of them cache again');
    receipt_is(revoke('two'), 3, 3, 'and the next revocation is confirmed');

    # The same of a workspace.
    seed_key('three');
    ok(hit_everywhere(\%worker, 'three'), 'hits everywhere');
    kill 'STOP', $stopped;
    $res = api('PUT workspaces/acme', { status => 'disabled' },
               client => $worker{ $rest[0] });
    ask_worker($worker{$stopped}, 'three', start => 1);
    kill 'CONT', $stopped;
    is(said($worker{$stopped}->response), '403 workspace_disabled MISS',
       'a workspace: refused at its first turn');
    $receipt = receipt_is($res, 3, 2, 'a workspace, one is stopped');
    cmp_ok($receipt->{took_ms}, '>=', $lease, 'its lease was waited for');
    api('PUT workspaces/acme', { status => 'active' });

    # Stopped only for a moment: its answer comes late, and counts.
    seed_key('four');
    ok(hit_everywhere(\%worker, 'four'), 'hits everywhere');
    kill 'STOP', $stopped;
    my $call = api_start('POST keys/' . key_id(key_for('four')) . '/revoke',
                         undef, client => $worker{ $rest[0] });
    ok(wait_until(10, sub {
        said(ask_worker($worker{ $rest[1] }, 'four')) =~ /^401 revoked/;
    }), 'the write is done');
    ok(!$call->started(0), 'the answer waits');
    kill 'CONT', $stopped;
    $res = $call->response(15);
    like($res->{body}, qr/"workers":\s*3,\s*"acknowledged":\s*3\b/,
         'stopped for a moment: acknowledged late');
    ok(defined $nginx->quit, 'quit');
}


# --- the worker that is called is stopped in the middle of it

{
    redis_empty();
    seed_key('one');

    my $nginx = Agntkey::Nginx->new(
        workers => 2, cached(cache => 'entries=100 lease=3s'),
    )->start;
    my %worker = worker_clients($nginx);
    my ($called, $silent) = sort keys %worker;

    ok(hit_everywhere(\%worker, 'one'), 'hits everywhere');
    kill 'STOP', $silent;

    my $call = api_start('POST keys/' . key_id(key_for('one')) . '/revoke',
                         undef, client => $worker{$called});
    ok(wait_until(10, sub {
        !redis_cmd('HEXISTS', record_of('one'), 'active');
    }), 'the write is done');
    kill 'STOP', $called;
    ok(wait_until(15, sub {
        my ($score) = @{ redis_cmd('ZREVRANGE', 'agntkey:workers', 0, 0,
                                   'WITHSCORES') }[1];
        $score < 1000 * time;
    }), 'all leases are over');
    kill 'CONT', $called, $silent;

    my $res = $call->response(20);
    like($res->{code}, qr/^(?:200|503)$/, 'it has an answer');
    refused_everywhere(\%worker, 'one', 'revoked', 'and nobody accepts it');
    ok(defined $nginx->quit, 'quit');
}


# --- a worker that is killed

{
    redis_empty();
    seed_key($_) for 'one', 'two', 'three';

    my $nginx = Agntkey::Nginx->new(
        workers => 2, cached(cache => 'entries=100 lease=2s'),
        keep => qr/exited on signal 9/,
    )->start;
    my %worker = worker_clients($nginx);
    my ($killed, $other) = sort keys %worker;

    ok(hit_everywhere(\%worker, 'one', 'two'), 'hits everywhere');

    my ($member) = grep { m{/$killed/} }
                   @{ redis_cmd('ZRANGE', 'agntkey:workers', 0, -1) };

    kill 'KILL', $killed;
    ok(wait_until(10, sub {
        $nginx->workers == 2 && !grep { $_ == $killed } $nginx->workers;
    }), 'another one is started');

    my $res = revoke('one', client => $worker{$other});
    my $receipt = $res->{json}{receipt};

    is($res->{code}, 200, 'one was killed: 200') or diag($res->{raw});
    is($receipt->{workers} - $receipt->{acknowledged}, 1,
       'one has not acknowledged') or diag($res->{raw});
    cmp_ok($receipt->{took_ms}, '>=', 2000, 'its lease was waited for');

    # As soon as its lease is over by as much again.
    ok(wait_until(20, sub {
        my $score = redis_cmd('ZSCORE', 'agntkey:workers', $member);
        !defined $score || $score + 2000 < 1000 * time;
    }), 'some time later');

    %worker = worker_clients($nginx);
    ok(hit_everywhere(\%worker, 'two'), 'hits everywhere');
    receipt_is(revoke('two'), 2, 2, 'then nobody waits for it');
    registered_are('and the registry has forgotten it', $nginx);
    ok(defined $nginx->quit, 'quit');
}


# --- reload, quit, stop and start: a long lease, and nobody waits for it

{
    redis_empty();
    my @labels = map { "key $_" } 1 .. 5;
    seed_key($_) for @labels;

    my $nginx = Agntkey::Nginx->new(workers => 2,
                                    cached(cache => $long))->start;
    my %worker = worker_clients($nginx);

    ok(hit_everywhere(\%worker, @labels), 'hits everywhere');
    registered_are('the registry has both workers', $nginx);
    ok($nginx->reload, 'reload');
    registered_are('the registry has only the new ones', $nginx);
    receipt_is(revoke($labels[0]), 2, 2, 'after a reload');

    # In the middle of things.
    %worker = worker_clients($nginx);
    ok(hit_everywhere(\%worker, @labels[1 .. 4]), 'hits everywhere');
    $nginx->signal('HUP');

    my $res = revoke($labels[1]);
    is($res->{code}, 200, 'during a reload: 200') or diag($res->{raw});
    is($res->{json}{receipt}{workers}, $res->{json}{receipt}{acknowledged},
       'all have acknowledged') or diag($res->{raw});
    is((map { /^401 revoked/ ? 'refused' : $_ } asked($labels[1]))[0],
       'refused', 'and it is refused');
    ok($nginx->settled, 'the old workers leave');
    registered_are('the registry has only the new ones', $nginx);

    ok(defined $nginx->quit, 'quit');
    is(registered(), '', 'quit: nobody is left in the registry');

    for my $signal (qw(QUIT TERM INT)) {
        $nginx = Agntkey::Nginx->new(workers => 2,
                                     cached(cache => $long))->start;
        %worker = worker_clients($nginx);
        ok(hit_everywhere(\%worker, $labels[4]), "$signal: hits everywhere");
        $nginx->signal($signal);
        ok(wait_until(15, sub { $nginx->gone }), "$signal: gone");
        is(registered(), '', "$signal: nobody is left in the registry");
    }

    $nginx = Agntkey::Nginx->new(workers => 2,
                                 cached(cache => $long))->start;
    %worker = worker_clients($nginx);
    ok(hit_everywhere(\%worker, $labels[2]), 'started anew');
    receipt_is(revoke($labels[2]), 2, 2, 'stop and start');
    ok(defined $nginx->quit, 'quit');
}


# --- a reload while a revocation waits

{
    redis_empty();
    seed_key($_) for 'one', 'two';

    my $nginx = Agntkey::Nginx->new(
        workers => 2, cached(cache => 'entries=100 lease=4s'),
    )->start;
    my %worker = worker_clients($nginx);
    my ($called, $stopped) = sort keys %worker;

    ok(hit_everywhere(\%worker, 'one'), 'hits everywhere');
    kill 'STOP', $stopped;

    my $call = api_start('POST keys/' . key_id(key_for('one')) . '/revoke',
                         undef, client => $worker{$called});
    ok(wait_until(10, sub {
        !redis_cmd('HEXISTS', record_of('one'), 'active');
    }), 'the write is done');
    ok(!$call->started(0), 'the answer waits for a stopped worker');

    $nginx->signal('HUP');
    ok(wait_until(15, sub { $nginx->workers == 4 }), 'reload');
    ok($nginx->log_wait(qr/ $called#\d+: gracefully shutting/),
       'the worker that was called is to end');
    is(asked('one', timeout => 15), '401 revoked MISS',
       'a new worker refuses the key');

    my $res = $call->response(20);
    is($res->{code}, 200, 'a reload meanwhile: 200') or diag($res->{raw});
    like($res->{body}, qr/"status":\s*"revoked"/, 'the key object');

    # The stopped one, at its first turn.
    ask_worker($worker{$stopped}, 'one', start => 1);
    kill 'CONT', $stopped;
    my $said = said($worker{$stopped}->response);
    ok($said eq '' || $said =~ /^401 revoked MISS$/,
       'the stopped one refuses it, or is gone') or diag($said);
    ok($nginx->settled, 'the old workers leave');
    registered_are('the registry has only the new ones', $nginx);
    ok(!$nginx->lines(qr/open socket/), 'no open socket');
    ok(defined $nginx->quit, 'quit');
}


# --- a worker whose stream has stopped, and nobody has noticed

{
    redis_empty();
    seed_key($_) for 'one', 'two';

    my $proxy = proxy();
    my $cut_off = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=3s',
        redis => "redis://127.0.0.1:$ENV{TEST_NGINX_PROXY_PORT}",
        http => 'agntkey_redis_timeout 60s;',
    ))->start;
    my $nginx = Agntkey::Nginx->new(
        port => $other_port, cached(cache => 'entries=100 lease=3s'))->start;

    ok(hit('one', port => $other_port), 'a hit, of who is to revoke');
    ok(hit('one'), 'a hit, by the proxy');
    $proxy->pause('down');
    is(asked('one'), '200 HIT', 'cut off, a hit within the lease');

    my $res = revoke('one', port => $other_port);
    my $receipt = receipt_is($res, 2, 1, 'one is cut off');
    cmp_ok($receipt->{took_ms}, '>=', 2000, 'its lease was waited for');

    # Who is cut off has to ask, and gets no answer for now.
    my $waiting = ask_start('one');
    ok(!$waiting->started(0.2), 'no hit after that');
    $proxy->resume;
    is(said($waiting->response), '401 revoked MISS', 'then it is refused');
    ok(hit('two'), 'and hits come back');
    ok(defined $_->quit, 'quit') for $cut_off, $nginx;
    $proxy->stop;
}


# --- what Redis makes of a revocation

my $write = fake_revoke();
my $barrier = $FAKE_BARRIER;
my $record = qr/^HMGET \S+ active scopes expires_at$/;

{
    my @faults = (
        ['nothing is wrong', $barrier, undef],
        ['the registry is refused', $barrier, "-ERR no\r\n"],
        ['the registry is a number', $barrier, ":1\r\n"],
        ['the registry is a short list', $barrier, "*1\r\n:1\r\n"],
        ['the registry lacks its members', $barrier,
         "*5\r\n:1\r\n:0\r\n:0\r\n:0\r\n:0\r\n"],
        ['the registry lacks its mark', $barrier,
         "*4\r\n:1\r\n:0\r\n:0\r\n*0\r\n"],
        ['the registry has texts for numbers', $barrier,
         "*5\r\n+1\r\n+0\r\n+0\r\n*0\r\n:0\r\n"],
        ['the registry is nil', $barrier, "*-1\r\n"],
        ['the connection breaks', $barrier, 'close'],
        ['the connection is reset in it', $barrier, { reset => 3 }],
        ['no reply in time', $barrier, 'stall'],
        ['the record is refused', $record, "-ERR no\r\n"],
        ['the record is a text', $record, "+OK\r\n"],
        ['the record is short', $record, "*0\r\n"],
        ['the record is long', $record, '*4' . "\r\n\$-1" x 4 . "\r\n"],
        ['the record is a number', $record,
         "*3\r\n:1\r\n\$-1\r\n\$-1\r\n"],
        ['the record is a list', $record,
         "*3\r\n*1\r\n\$1\r\n1\r\n\$-1\r\n\$-1\r\n"],
        ['the record is active again', $record,
         "*3\r\n\$1\r\n1\r\n\$-1\r\n\$-1\r\n"],
    );

    for my $fault (@faults) {
        my ($title, $match, $do) = @$fault;

        fake_redis(keys => ['one'], rules => [
            $write, { match => $match, nth => 1, do => $do },
        ]);

        my $nginx = Agntkey::Nginx->new(cached(redis => $fake,
                                               cache => $long))->start;

        ok(hit('one'), "$title: a hit before");
        fake_cmd('HDEL', record_of('one'), 'active');
        fake_invalidate(record_of('one'));

        my $res = revoke('one');

        if (defined $do) {
            is($res->{code}, 503, "$title: 503") or diag($res->{raw});
            like($res->{body}, qr/"code":\s*"store_unknown"/,
                 "$title: it was written");
            ok(!exists $res->{json}{receipt}, "$title: no receipt");

            # The connection may have to be made anew.
            wait_until(10, sub {
                $res = revoke('one');
                return $res->{code} ne '503';
            });
        }

        receipt_is($res, 1, 1, "$title: repeated");
        like(asked('one'), qr/^401 revoked/, "$title: refused");
        ok(defined $nginx->quit, "$title: quit");
    }
}


# --- what a worker has not heard of itself it does not acknowledge

for my $lost ('echo', 'ack') {
    my $publish = qr/^PUBLISH agntkey:worker:\S+ $lost /;

    fake_redis(keys => ['one'], rules => [
        $write,
        { match => $publish, nth => 1, do => { instead => ":1\r\n" } },
    ]);

    my $nginx = Agntkey::Nginx->new(cached(
        redis => $fake, cache => 'entries=100 lease=1s'))->start;

    ok(hit('one'), "no $lost comes: a hit before");
    fake_cmd('HDEL', record_of('one'), 'active');
    fake_invalidate(record_of('one'));

    my $receipt = receipt_is(revoke('one'), 1, 0, "no $lost comes");

    cmp_ok($receipt->{took_ms}, '>=', 1000, "no $lost comes: the lease was"
           . ' waited for');
    is(scalar(fake_commands(qr/^PUBLISH agntkey:worker:\S+ ack\\x20/)),
       $lost eq 'ack' ? 1 : 0, "no $lost comes: acknowledgements");
    receipt_is(revoke('one'), 1, 1, "then one comes: acknowledged");
    ok(defined $nginx->quit, 'quit');
}


# --- members that nobody has written

{
    for my $member ('x', '', '/', '/500', 'a/b/c/d', 'a/1/short/500',
                    'a/1/0123456789abcdef/0', 'a/1/0123456789abcdef/-5',
                    'a/1/0123456789abcdef/99999999999999999999', "\0\xff/1")
    {
        my $shown = $member =~ s/([^!-~])/sprintf '\\x%02x', ord $1/ger;
        my $bulk = '$' . length($member) . "\r\n$member\r\n";

        # A match is counted where no rule before it was the one.
        fake_redis(keys => ['one'], rules => [
            $write,
            { match => $barrier, nth => 1,
              do => { instead => "*5\r\n:1\r\n:0\r\n:0\r\n*1\r\n$bulk"
                                 . ":0\r\n" } },
            { match => $barrier, nth => 1,
              do => { instead => "*5\r\n:1\r\n:0\r\n:0\r\n*2\r\n:5\r\n*-1"
                                 . "\r\n:0\r\n" } },
        ]);

        my $nginx = Agntkey::Nginx->new(cached(
            redis => $fake, cache => 'entries=100 lease=300ms'))->start;

        ok(hit('one'), "member \"$shown\": a hit before");
        fake_cmd('HDEL', record_of('one'), 'active');
        fake_invalidate(record_of('one'));

        my $receipt = receipt_is(revoke('one'), 1, 0, "member \"$shown\"");
        cmp_ok($receipt->{took_ms}, '>=', 300,
               "member \"$shown\": a lease was waited for");
        receipt_is(revoke('one'), 2, 0, 'members that are no texts');
        ok(defined $nginx->quit, 'quit');
    }
}


# --- replicas

{
    redis_empty();
    seed_key($_) for 'one', 'two', 'three';

    my $replica = redis_server(
        name => 'replica',
        args => ['--replicaof', '127.0.0.1', $ENV{TEST_NGINX_REDIS_PORT},
                 '--repl-diskless-sync-delay', '0']);

    ok(wait_until(30, sub {
        redis_cmd('INFO', 'replication') =~ /slave0:.*state=online/;
    }), 'a replica') or diag(redis_cmd('INFO', 'replication'));

    # With its first replica a Redis takes another name.
    registry_is_old();

    my $nginx = Agntkey::Nginx->new(workers => 2,
                                    cached(cache => $long))->start;
    my %worker = worker_clients($nginx);

    ok(hit_everywhere(\%worker, 'one'), 'hits everywhere');
    receipt_is(revoke('one'), 2, 2, 'a replica');

    # on a busy machine it may take longer than a revocation waits for it

    ok(wait_until(20, sub { revoke('one')->{json}{receipt}{replicas} == 1 }),
       'it confirms');

    $replica->pause;
    my $receipt = receipt_is(revoke('two'), 2, 2, 'a stopped replica');
    is($receipt->{replicas}, 0, 'it has not confirmed');
    is(asked('two'), '401 revoked MISS', 'the key is refused all the same');
    $replica->resume;
    ok(wait_until(10, sub {
        revoke('three')->{json}{receipt}{replicas} == 1;
    }), 'it goes on: confirmed');
    ok(defined $nginx->quit, 'quit');
    $replica->stop;
}


# --- a worker that has lost its stream has nothing to be waited for

{
    redis_empty();
    seed_key('one');

    my $nginx = Agntkey::Nginx->new(workers => 1,
                                    cached(cache => $long))->start;

    ok(wait_until(20, sub { asked('one') =~ /HIT$/ }), 'no stream: a hit');
    is(redis_cmd('ZCARD', 'agntkey:workers'), 1, 'no stream: registered');

    redis_cmd('ACL', 'SETUSER', 'default', '-subscribe');
    redis_cmd('CLIENT', 'KILL', 'TYPE', 'pubsub');
    ok(wait_until(5, sub { redis_cmd('ZCARD', 'agntkey:workers') == 0 }),
       'no stream: it has left the registry');
    is(asked('one'), '200 MISS', 'no stream: it asks Redis');

    redis_cmd('ACL', 'SETUSER', 'default', '+subscribe');
    ok(defined $nginx->quit, 'quit');
}


# --- what Redis tells of, and what not: the receipt relies on the former

{
    redis_empty();
    seed_key('one');

    my $sock = IO::Socket::UNIX->new(Peer => redis()->sock) or die "$!\n";
    my ($text, $n) = ('', 0);

    print {$sock} "HELLO 3\r\nCLIENT TRACKING ON BCAST PREFIX agntkey:key:"
                  . "\r\n";

    # The next write, to a record of its own, is told behind all that was.
    my $told = sub {
        my ($code) = @_;
        my $mark = 'agntkey:key:mark-' . ++$n;

        $code->();
        redis_cmd('SET', $mark, 1);

        while ($text !~ /\Q$mark\E\r\n/) {
            vec(my $set = '', fileno $sock, 1) = 1;
            select($set, undef, undef, 5) or die "Redis tells nothing\n";
            sysread $sock, $text, 65536, length $text or die "Redis left\n";
        }

        my ($before) = $text =~ /\A(.*?)\Q$mark\E/s;
        $text =~ s/\A.*?\Q$mark\E\r\n//s;

        return $before =~ /\Q@{[ record_of('one') ]}\E\r\n/ ? 1 : 0;
    };

    is($told->(sub { redis_cmd('HSET', record_of('one'), 'name', 'a key') }),
       1, 'an HSET that changes nothing is told');
    is($told->(sub { redis_cmd('HDEL', record_of('one'), 'active') }), 1,
       'an HDEL is told');
    is($told->(sub { redis_cmd('HDEL', record_of('one'), 'active') }), 0,
       'an HDEL of a field that is not there is told to nobody');

    # So is a revocation that is repeated, and it is confirmed all the same.
    my $nginx = Agntkey::Nginx->new(workers => 2,
                                    cached(cache => $long))->start;
    my %worker = worker_clients($nginx);
    my @receipts;

    ok(wait_until(10, sub { redis_cmd('ZCARD', 'agntkey:workers') == 2 }),
       'two workers');
    is($told->(sub { push @receipts, revoke('one') }), 1,
       'a revocation of what was revoked by hand sets its time: told');
    is($told->(sub { push @receipts, revoke('one') }), 0,
       'a revocation again is told to nobody');
    receipt_is($_, 2, 2, 'and has its receipt') for @receipts;
    ok(defined $nginx->quit, 'quit');
}

logs_clean();
done_testing();
