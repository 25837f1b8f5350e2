# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What makes the trust in a cache come and go: the stream of changes, the
# lease, and a Redis that loses one of them or cannot give it.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

redis_start();

my $other_port = free_port();
my $fake = "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}";
my $long = 'entries=100 lease=60s';

sub record_pattern { return qr/^HMGET \Q${\ record_of($_[0])}\E digest / }

sub invalidation {
    my ($payload) = @_;
    return "*3\r\n\$7\r\nmessage\r\n\$20\r\n__redis__:invalidate\r\n$payload";
}

sub message {
    my ($channel, $text) = @_;
    return join "\r\n", '*3', '$7', 'message', '$' . length $channel, $channel,
                        '$' . length $text, $text, '';
}

sub strings {
    return '*' . @_ . "\r\n"
           . join '', map { '$' . length($_) . "\r\n$_\r\n" } @_;
}

sub quits {
    my ($title, @nginx) = @_;
    ok(defined $_->quit, "$title: quit") for @nginx;
}

# Every answer up to the one that is wanted; true if there was one.  "never"
# is what none of them may be.

sub until_said {
    my ($want, $never, $title, $code) = @_;
    my @wrong;

    my $ok = wait_until(20, sub {
        my $said = $code->();
        push @wrong, $said if $said =~ $never;
        return $said =~ $want;
    });

    is(scalar @wrong, 0, "$title: nothing else meanwhile") or diag(@wrong);
    return ok($ok, $title);
}

sub asks { my @args = @_; return sub { asked(@args) } }


# --- a change while a look-up is under way

{
    my $close = sub { fake_close('tracking') };

    # What is held, whether a look-up of the same key went before it, what
    # happens meanwhile, and what is right from then on.
    my @cases = (
        ['nothing', 'key', 0, sub { }, '200'],
        ['another key', 'key', 0,
         sub { fake_invalidate(record_of('two')) }, '200'],
        ['another workspace', 'workspace', 0,
         sub { fake_invalidate(workspace_of('other')) }, '200'],
        ['the key', 'key', 0, sub { fake_invalidate(record_of('one')) },
         '401 revoked'],
        ['the key, and others', 'key', 1,
         sub { fake_invalidate(record_of('two'), record_of('one')) },
         '401 revoked'],
        ['the key, before its workspace is known', 'workspace', 0,
         sub { fake_invalidate(record_of('one')) }, '401 revoked'],
        ['the key, twice', 'key', 0,
         sub { fake_invalidate(record_of('one')) for 1, 2 }, '401 revoked'],
        ['the workspace', 'workspace', 0,
         sub { fake_invalidate(workspace_of('acme')) },
         '403 workspace_disabled'],
        ['the workspace, asked for along with the key', 'key', 1,
         sub { fake_invalidate(workspace_of('acme')) },
         '403 workspace_disabled'],
        ['everything', 'key', 0, sub { fake_invalidate() }, '401 revoked'],
        ['the stream is lost', 'key', 0, $close, '401 revoked'],
        ['the stream is lost, and the workspace', 'workspace', 0, $close,
         '403 workspace_disabled'],
    );

    for my $case (@cases) {
        my ($what, $held, $known, $change, $then) = @$case;
        my $record = record_of('one');
        my $home = workspace_of('acme');
        my $lookup = $held eq 'key' ? record_pattern('one')
                                    : qr/^HGET \Q$home\E active/;

        for my $second (0, 1) {
            my $title = "a look-up, then $what" . ($second ? ', twice' : '');

            # The other key is of another workspace.
            fake_redis(
                keys => ['one', ['two', workspace => 'other']],
                rules => [{ match => $lookup, nth => $known ? 2 : 1,
                            do => 'hold' }]);

            my $nginx = Agntkey::Nginx->new(cached(
                redis => $fake, cache => $long,
                http => 'agntkey_redis_timeout 30s;',
            ))->start;

            ok(hit('two', workspace => 'other'), "$title: trusted");

            if ($known) {
                ok(hit('one'), "$title: known already");
                fake_invalidate($record);
            }

            my $n = $known ? 2 : 1;
            my $waiting = asked_start('one');
            ok(fake_wait($lookup, $n), "$title: asked");

            fake_cmd('HDEL', $then =~ /^401/ ? $record : $home, 'active')
                if $then ne '200';
            $change->();

            my $late;

            # Its bytes are read before those of a stream that is closed,
            # perhaps: what counts is that it was told.
            if ($second) {
                wait_until(5, sub {
                    $nginx->lines(qr/the connection to Redis .* was lost/);
                }) if $what =~ /stream is lost/;

                $late = asked_start('one');

                if ($then eq '200') {
                    ok(wait_until(5, sub { active_connections() == 2 }),
                       "$title: two wait");

                    # The worker has read what came before this.
                    is(asked('two', workspace => 'other'), '200 HIT',
                       "$title: a hit meanwhile") if $what eq 'nothing';

                } elsif ($held eq 'key') {
                    ok(fake_wait($lookup, $n + 1),
                       "$title: who comes later asks anew");

                } else {
                    ok(fake_wait(record_pattern('one'), 2),
                       "$title: who comes later asks anew");
                }
            }

            fake_release();
            is(said($waiting->response), '200 MISS',
               "$title: who came before has the old answer");

            if ($second) {
                is(said($late->response), "$then MISS",
                   "$title: who came later has the new one");
                is(scalar(fake_commands(record_pattern('one'))),
                   $then eq '200' ? 1 : $known + 2, "$title: look-ups");

            } elsif ($then eq '200') {
                is(asked('one'), '200 HIT', "$title: remembered");

            } else {
                is(asked('one'), "$then MISS", "$title: not remembered");
            }

            # In the end it is a hit, of what is right.
            until_said(qr/^\Q$then HIT\E$/, qr/^(?!\Q$then\E )/,
                       "$title: in the end", asks('one'));
            quits($title, $nginx);
        }
    }
}


# --- one of the connections is lost

for my $type ('pubsub', 'normal', 'both') {
    redis_empty();
    seed_key($_) for 'one', 'two';

    my $nginx = Agntkey::Nginx->new(workers => 2,
                                    cached(cache => $long))->start;
    my %worker = worker_clients($nginx);
    my @types = $type eq 'both' ? ('normal', 'pubsub') : $type;

    for my $round (1 .. 3) {
        my $title = "$type is killed";

        seed_key('one');
        ok(hit_everywhere(\%worker, 'one', 'two'), "$title: hits before");

        # No tracking is left when the record is written.
        redis()->pipeline((map { ['CLIENT', 'KILL', 'TYPE', $_,
                                  'SKIPME', 'yes'] } @types),
                          ['HDEL', record_of('one'), 'active']);

        # Trusted again, as a key shows that is new: what is asked for
        # before that is forgotten in any case.
        seed_key("new $round");
        ok(hit_everywhere(\%worker, "new $round"), "$title: a new key");

        for my $client (values %worker) {
            until_said(qr/^401 revoked/, qr/^(?!200|401)/,
                       "$title: what was written is seen",
                       sub { said(ask_worker($client, 'one')) });
            is((said(ask_worker($client, 'two')) =~ /^(200) (?:MISS|HIT)$/)[0],
               200, "$title: others work");
        }

        ok(hit_everywhere(\%worker, 'two'), "$title: hits come back");
    }

    # A hit of before does not come back: there is a miss between.
    redis_cmd('CLIENT', 'KILL', 'TYPE', $_, 'SKIPME', 'yes') for @types;

    for my $client (values %worker) {
        until_said(qr/^200 MISS$/, qr/^(?!200)/, "$type is killed: a miss",
                   sub { said(ask_worker($client, 'two')) });
    }

    ok(hit_everywhere(\%worker, 'two'), "$type is killed: then hits");
    ok($nginx->lines(qr/agntkey: the connection to Redis .* was lost/),
       "$type is killed: a line for it");
    ok(!$nginx->lines(qr/\[(?:warn|error|crit|alert|emerg)\]/),
       "$type is killed: nobody is warned")
        or diag($nginx->lines(qr/\[(?:warn|error|crit|alert|emerg)\]/));

    my $res = revoke('two');
    is($res->{json}{receipt}{acknowledged}, 2,
       "$type is killed: both acknowledge a revocation");
    quits("$type is killed", $nginx);
}


# --- what was written to a lost connection is carried out late

# Every command that a worker has ever sent for itself, sent once more by
# somebody else: this is what a connection does that delivers late.

{
    redis_empty();
    seed_key('one');

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=60s'))->start;
    my (%names, @seen);

    my $members = sub { @{ redis_cmd('ZRANGE', 'agntkey:workers', 0, -1) } };

    for my $round (1 .. 4) {
        my $title = "late commands, stream $round";

        ok(hit('one'), "$title: a hit");

        my @now = $members->();
        is(scalar @now, 1, "$title: one member") or diag(@now);
        ok(!$names{ $now[0] }++, "$title: whose name is new");

        redis_cmd('ZREM', 'agntkey:workers', $_) for @seen;
        is(join(' ', $members->()), "@now",
           "$title: what was to leave before has left before");

        my ($id) = $now[0] =~ m{/([0-9a-f]{16})/60000$};
        my @channels = @{ redis_cmd('PUBSUB', 'CHANNELS',
                                    'agntkey:worker:*') };

        is("@channels", "agntkey:worker:$id", "$title: its channel as well");
        push @seen, @now;

        # Both connections at the second time, as in a restart of Redis.
        my @types = $round % 2 ? 'pubsub' : ('normal', 'pubsub');

        redis()->pipeline(map { ['CLIENT', 'KILL', 'TYPE', $_,
                                 'SKIPME', 'yes'] } @types);
        ok(wait_until(20, sub {
            my @then = $members->();
            return @then == 1 && $then[0] ne $now[0];
        }), "$title: the name goes with the stream") or diag($members->());
    }

    ok(hit('one'), 'late commands: a hit');
    is(revoke('one')->{json}{receipt}{acknowledged}, 1,
       'late commands: a revocation is acknowledged');
    quits('late commands', $nginx);
    is(scalar $members->(), 0, 'late commands: the last name is gone, too');
}


# --- cut off, and nobody has noticed

{
    redis_empty();
    seed_key('one');

    my $proxy = proxy();
    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=2s',
        redis => "redis://127.0.0.1:$ENV{TEST_NGINX_PROXY_PORT}",
        http => 'agntkey_redis_timeout 1s;',
    ))->start;

    for my $way ('down', 'up', 'both') {
        ok(hit('one'), "cut off, $way: a hit before");

        $proxy->pause($way);

        my $start = time;
        my $last = $start;

        ok(wait_until(20, sub {
            my $said = asked('one');
            $last = time if $said eq '200 HIT';
            $said =~ /^503/;
        }), "cut off, $way: 503 in the end");
        is(asked('one'), '503 store_unavailable',
           "cut off, $way: and nothing else");
        redis_cmd('HDEL', record_of('one'), 'active');
        $proxy->resume;
        until_said(qr/^401 revoked/, qr/^200/, "cut off, $way: then refused",
                   asks('one'));
        seed_key('one');
    }

    quits('cut off', $nginx);
    $proxy->stop;
}


# --- Redis is emptied

for my $how ('FLUSHALL', 'FLUSHDB', 'FLUSHALL ASYNC') {
    redis_empty();
    seed_key('one');

    my $nginx = Agntkey::Nginx->new(workers => 2,
                                    cached(cache => $long))->start;
    my %worker = worker_clients($nginx);

    ok(hit_everywhere(\%worker, 'one'), "$how: hits before");
    redis_cmd(split / /, $how);

    for my $client (values %worker) {
        until_said(qr/^401 unknown/, qr/^(?!200|401)/, "$how: unknown",
                   sub { said(ask_worker($client, 'one')) });
        until_said(qr/^401 unknown HIT$/, qr/^(?!401 unknown)/,
                   "$how: remembered again",
                   sub { said(ask_worker($client, 'one')) });
    }

    is(scalar @{ redis_cmd('ZRANGE', 'agntkey:workers', 0, -1) }, 2,
       "$how: both workers are in the registry again");

    seed_key('one');
    ok(hit_everywhere(\%worker, 'one'), "$how: hits again");
    registry_is_old();
    is(revoke('one')->{json}{receipt}{acknowledged}, 2,
       "$how: a revocation works");
    quits($how, $nginx);
}

{
    redis_empty();
    seed_key('one');

    my $nginx = Agntkey::Nginx->new(cached(cache => $long))->start;

    ok(hit('one'), 'a restart without data: a hit before');
    redis_restart();
    until_said(qr/^401 unknown/, qr/^200/, 'a restart without data: unknown',
               asks('one'));
    seed_key('one');
    ok(hit('one'), 'a restart without data: a hit again');
    registry_is_old();
    is(revoke('one')->{json}{receipt}{acknowledged}, 1,
       'a restart without data: a revocation works');
    quits('a restart without data', $nginx);
}


# --- Redis comes back from disk

sub seed_at {
    my ($redis, @labels) = @_;

    for my $label (@labels) {
        for my $records ((key_records(key_for($label)))[0],
                         (workspace_records('acme'))[0])
        {
            $redis->cmd('HSET', $_, %{ $records->{$_} }) for keys %$records;
        }
    }
}

for my $disk (['AOF', '--appendonly', 'yes', '--appendfsync', 'always'],
              ['RDB', '--dbfilename', 'dump.rdb'])
{
    my ($title, @args) = @$disk;
    my $redis = redis_server(name => "disk-$title", args => \@args);
    my $proxy = proxy(to => $redis->port);

    seed_at($redis, 'one', 'two');

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=5s',
        redis => 'redis://127.0.0.1:' . $redis->port,
    ))->start;
    my $cut_off = Agntkey::Nginx->new(port => $other_port, cached(
        cache => 'entries=100 lease=5s', http => 'agntkey_redis_timeout 9s;',
        redis => "redis://127.0.0.1:$ENV{TEST_NGINX_PROXY_PORT}",
    ))->start;

    ok(hit('one'), "$title: a hit before");
    ok(hit('one', port => $other_port), "$title: a hit of another nginx");

    # The other one is cut off, and the registry that comes back is older.
    my ($member) = grep { m{/${\ ($cut_off->workers)[0]}/} }
                   @{ $redis->cmd('ZRANGE', 'agntkey:workers', 0, -1) };

    $proxy->pause('both');

    # With a lease as fresh as can be, and no renewal that is under way.
    $redis->cmd('ZREM', 'agntkey:workers', $member);
    $redis->cmd('SAVE') if $title eq 'RDB';
    $redis->restart;

    until_said(qr/^200/, qr/^401/, "$title: accepted again", asks('one'));
    ok(hit('one'), "$title: a hit again");

    my $res = revoke('one');
    my $said = ask_start('one', port => $other_port);

    is($res->{code}, 200, "$title: revoked") or diag($res->{raw});
    is($res->{json}{receipt}{acknowledged}, $res->{json}{receipt}{workers},
       "$title: all of the registry have acknowledged") or diag($res->{raw});
    ok(!$said->started(0.2), "$title: who is not in it has no hit left")
        or diag(said($said->response));
    like(asked('one'), qr/^401 revoked/, "$title: refused");

    $proxy->resume;
    ok(hit('two'), "$title: another key is a hit");
    quits($title, $nginx);
    $cut_off->quit;
    $proxy->stop;
    $redis->stop;
}


# --- a great many changes at once

{
    redis_empty();
    seed_key($_) for 'one', 'two';

    my $nginx = Agntkey::Nginx->new(workers => 2, cached(
        cache => $long, http => 'agntkey_redis_timeout 20s;'))->start;
    my %worker = worker_clients($nginx);
    my $others = "agntkey:key:{zzzz}";

    my %storms = (
        'one script' => sub {
            my ($redis) = @_;
            $redis->cmd('EVAL', 'for i=1,100000 do redis.call("HSET",'
                        . 'KEYS[1]..string.format("%08d",i),"active","1")'
                        . ' end', 1, $others);
        },
        'small ones' => sub {
            my ($redis) = @_;
            $redis->pipeline(map { ['HSET', sprintf('%s%08d', $others, $_),
                                    'active', 1] } $_ * 500 .. $_ * 500 + 499)
                for 0 .. 199;
        },
    );

    for my $title (sort keys %storms) {
        ok(hit_everywhere(\%worker, 'one', 'two'), "$title: hits before");

        my $pid = fork // die "fork: $!\n";

        if ($pid == 0) {
            my $ok = eval { $storms{$title}->(redis()); 1 };
            POSIX::_exit($ok ? 0 : 1);
        }

        my (%said, $n);
        local $?;

        until (waitpid $pid, POSIX::WNOHANG()) {
            $said{ said(ask_worker($_, 'one', timeout => 20)) }++
                for values %worker;
        }

        is($?, 0, "$title: 100,000 written");
        is(join(' ', grep { !/^200 (?:HIT|MISS)$/ } keys %said), '',
           "$title: the key is accepted throughout");
        ok(hit_everywhere(\%worker, 'one', 'two'), "$title: hits after it");
        is(join(' ', sort keys %worker), join(' ', sort $nginx->workers),
           "$title: the same workers");
    }

    # The key itself is one of them.
    redis_cmd('EVAL', 'for i=1,100000 do redis.call("HSET",KEYS[1]..string'
              . '.format("%08d",i),"active","2") if i==50000 then '
              . 'redis.call("HDEL",KEYS[2],"active") end end',
              2, $others, record_of('one'));

    for my $client (values %worker) {
        until_said(qr/^401 revoked/, qr/^(?!200|401)/,
                   'one script: the change among them is seen',
                   sub { said(ask_worker($client, 'one', timeout => 20)) });
    }

    ok(hit_everywhere(\%worker, 'two'), 'another key is a hit');
    is(revoke('two')->{json}{receipt}{acknowledged}, 2,
       'a revocation works after it');
    quits('many changes', $nginx);
    redis_empty();
}


# --- a Redis that does not let us

{
    my $password = 'pass' . 'word';

    # Before version 7 nobody could lose a part of a command.
    my $tracking = Agntkey::Redis::version() >= 7 ? '-client|tracking'
                                                  : '-client';

    # The words of a script that lacks a right differ by version.
    my $refused = qr/Redis grants no lease: (?:ERR|\@user_script)/;

    my %users = (
        tracking  => [[$tracking], qr/CLIENT TRACKING: NOPERM/],
        subscribe => [['-subscribe'], qr/SUBSCRIBE: NOPERM/],
        channels  => [['resetchannels'], qr/SUBSCRIBE: NOPERM/],
        eval      => [['-eval'], qr/Redis grants no lease: NOPERM/],
        (map { $_ => [["-$_"], $refused] } qw(set publish info zadd)),
        keys      => [['resetkeys', '~agntkey:key:*',
                       '~agntkey:workspace:*'],
                      qr/Redis grants no lease: (?:ERR|NOPERM)/],
    );

    redis_empty();
    seed_key($_) for 'one', 'two', keys %users;

    my $admin = Agntkey::Nginx->new(cached(cache => $long))->start;
    my @started;

    for my $name (sort keys %users) {
        my ($rules, $line) = @{ $users{$name} };

        redis_cmd('ACL', 'SETUSER', $name, 'on', ">$password", '~*', '&*',
                  '+@all', @$rules);

        my $nginx = Agntkey::Nginx->new(
            port => free_port(), log_level => 'notice',
            cached(cache => 'entries=100 lease=1s',
                   redis => "redis://$name:$password\@127.0.0.1:"
                            . $ENV{TEST_NGINX_REDIS_PORT}))->start;

        push @started, [$name, $nginx, $line];
    }

    ok(hit('one'), 'who may is not disturbed');

    for (@started) {
        my ($name, $nginx, $line) = @$_;
        my $title = "a user without $name";

        ok($nginx->log_wait(qr/\[warn\].*keys are not cached: /, 1, 20),
           "$title: a warning");
        like((not_cached_lines($nginx))[0] // '', $line, "$title: says why");

        is(join(' ', map { asked('one', port => $nginx->{port}) } 1 .. 5),
           join(' ', ('200 MISS') x 5), "$title: every request asks");

        my $res = revoke($name);

        is($res->{code}, 200, "$title: another nginx revokes");
        is(asked($name, port => $nginx->{port}), '401 revoked MISS',
           "$title: it refuses the key");
        is(scalar(not_cached_lines($nginx)), 1, "$title: said once")
            or diag(not_cached_lines($nginx));
    }

    # They may, from now on.
    redis_cmd('ACL', 'SETUSER', $_->[0], '~*', '&*', '+@all') for @started;

    for (@started) {
        my ($name, $nginx) = @$_;
        my $title = "a user with $name again";

        ok($nginx->log_wait(qr/\[notice\].*agntkey: keys are cached again/,
                            1, 40), "$title: cached again");
        ok(hit('one', port => $nginx->{port}), "$title: a hit");
    }

    my $res = revoke('one');

    is($res->{json}{receipt}{workers}, 1 + @started, 'all of them count');
    is($res->{json}{receipt}{acknowledged}, 1 + @started,
       'and acknowledge') or diag($res->{raw});

    # Taken away again.
    seed_key('one');
    ok(hit('one', port => $_->[1]{port}), "$_->[0]: a hit") for @started;
    redis_cmd('ACL', 'SETUSER', $_->[0], '-eval') for @started;

    for (@started) {
        my ($name, $nginx) = @$_;

        until_said(qr/^200 MISS$/, qr/^(?!200)/,
                   "$name, no more leases: no hits", asks('one',
                   port => $nginx->{port}));
        ok($nginx->log_wait(qr/keys are not cached: .*NOPERM/, 1, 20),
           "$name, no more leases: a warning");
    }

    quits('users', $admin, map { $_->[1] } @started);
    redis_cmd('ACL', 'DELUSER', map { $_->[0] } @started);
}

{
    redis_empty();
    seed_key($_) for 'one', 'two', 'three';

    my $replica = redis_server(
        name => 'replica',
        args => ['--replicaof', '127.0.0.1', $ENV{TEST_NGINX_REDIS_PORT},
                 '--repl-diskless-sync-delay', '0']);

    ok(wait_until(30, sub {
        $replica->cmd('INFO', 'replication') =~ /master_link_status:up/;
    }), 'a replica');

    my $nginx = Agntkey::Nginx->new(port => $other_port, cached(
        cache => 'entries=100 lease=1s',
        redis => 'redis://127.0.0.1:' . $replica->port))->start;
    my $primary = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=1s'))->start;

    ok(hit('one'), 'a hit at the primary');
    ok($nginx->log_wait(qr/\[warn\].*keys are not cached: Redis is a replica/),
       'a warning at the replica');
    is(join(', ', map { asked('one', port => $other_port) } 1 .. 3),
       join(', ', ('503 store_unavailable MISS') x 3),
       'what a replica says does not count');
    is(revoke('two')->{json}{receipt}{workers}, 1,
       'a revocation waits for nobody there');
    is(revoke('one', port => $other_port)->{code}, 503,
       'there it cannot be revoked');

    # Promoted: it is a primary of its own.
    $replica->cmd('REPLICAOF', 'NO', 'ONE');
    ok($nginx->log_wait(qr/keys are cached again/, 1, 40),
       'promoted: cached again');
    ok(hit('three', port => $other_port), 'promoted: a hit');

    # The workers of the old one are waited for: they may have come along.
    my $res = revoke('three', port => $other_port);
    is($res->{json}{receipt}{acknowledged}, 1, 'promoted: acknowledged')
        or diag($res->{raw});
    like(asked('three', port => $other_port), qr/^401 revoked/,
         'promoted: refused');

    # And the other way about, while it caches.
    ok(hit('one', port => $other_port), 'a hit of a primary');
    $replica->cmd('REPLICAOF', '127.0.0.1', $ENV{TEST_NGINX_REDIS_PORT});
    until_said(qr/^503 store_unavailable MISS$/, qr/^(?!200|503)/,
               'made a replica: hits end',
               asks('one', port => $other_port));
    ok($nginx->log_wait(qr/keys are not cached: /, 2, 30),
       'made a replica: a warning');
    quits('a replica', $nginx, $primary);
    $replica->stop;
}

{
    redis_empty();
    seed_key($_) for 'one', 'two', 'three';
    redis_cmd('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    redis_cmd('CONFIG', 'SET', 'maxmemory', '1');

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=1s'))->start;

    ok($nginx->log_wait(qr/\[warn\].*keys are not cached: Redis grants/
                        . qr/ no lease: .*OOM/), 'full: a warning')
        or diag($nginx->lines(qr/agntkey/));
    is(join(' ', map { asked('one') } 1 .. 3), '200 MISS 200 MISS 200 MISS',
       'full: every request asks');

    my $res = revoke('two');
    is($res->{code}, 200, 'full: revoked') or diag($res->{raw});
    is(asked('two'), '401 revoked MISS', 'full: refused');

    redis_cmd('CONFIG', 'SET', 'maxmemory', '0');
    ok($nginx->log_wait(qr/\[notice\].*keys are cached again/, 1, 30),
       'room again: cached again');
    ok(hit('one'), 'room again: a hit');

    # Full while it caches: the lease is not prolonged.
    redis_cmd('CONFIG', 'SET', 'maxmemory', '1');
    until_said(qr/^200 MISS$/, qr/^(?!200)/, 'full later: no more hits',
               asks('one'));
    ok($nginx->log_wait(qr/keys are not cached: Redis grants no lease: .*OOM/),
       'full later: a warning');
    $res = revoke('one');
    is($res->{code}, 200, 'full later: revoked') or diag($res->{raw});
    is(asked('one'), '401 revoked MISS', 'full later: refused');
    redis_cmd('CONFIG', 'SET', 'maxmemory', '0');
    ok(hit('three'), 'room again: a hit');
    quits('full', $nginx);
}


# --- a Redis that says it can, and cannot

my $canary = qr/^EVAL .*'PX','10000'/s;
my $proof = qr/^EVAL .*'ZADD',KEYS\[1\].*PUBLISH/s;

{
    my $half = sub {
        my ($n) = @_;
        return { instead => sub {
            return { reply => ":2\r\n", invalidate => [$_[0][3 + $n]] };
        } };
    };

    my $subscribed = sub {
        my ($channel, $n) = @_;
        return "*3\r\n" . '$9' . "\r\nsubscribe\r\n"
               . '$' . length($channel) . "\r\n$channel\r\n:$n\r\n";
    };

    my @liars = (
        ['HELLO is unknown', qr/^HELLO/, "-ERR unknown command\r\n",
         qr/HELLO: ERR unknown command/],
        ['HELLO is a text', qr/^HELLO/, "+OK\r\n", qr/HELLO/],
        ['HELLO is empty', qr/^HELLO/, "*0\r\n", qr/HELLO/],
        ['HELLO has no role', qr/^HELLO/, "*2\r\n\$2\r\nid\r\n:5\r\n",
         qr/HELLO/],
        ['HELLO has an odd end', qr/^HELLO/,
         "*3\r\n\$2\r\nid\r\n:5\r\n\$4\r\nrole\r\n", qr/HELLO/],
        ['the id is a text', qr/^HELLO/,
         "*4\r\n\$2\r\nid\r\n\$1\r\n5\r\n\$4\r\nrole\r\n\$6\r\nmaster\r\n",
         qr/HELLO/],
        ['it is a replica', qr/^HELLO/,
         "*4\r\n\$2\r\nid\r\n:5\r\n\$4\r\nrole\r\n\$7\r\nreplica\r\n",
         qr/Redis is a replica/],
        ['CLIENT TRACKING is unknown', qr/^CLIENT TRACKING/,
         "-ERR unknown subcommand\r\n", qr/CLIENT TRACKING: ERR unknown/],
        ['CLIENT TRACKING is a number', qr/^CLIENT TRACKING/, ":1\r\n",
         qr/CLIENT TRACKING: a reply of the wrong shape/],
        ['SUBSCRIBE is refused', qr/^SUBSCRIBE/, "-ERR no\r\n",
         qr/SUBSCRIBE: ERR no/],
        ['SUBSCRIBE is a text', qr/^SUBSCRIBE/, "+OK\r\n", qr/SUBSCRIBE/],
        ['one channel of three', qr/^SUBSCRIBE/,
         $subscribed->('__redis__:invalidate', 1),
         qr/no connection for invalidations/],
        ['no invalidation comes', $canary, { instead => ":2\r\n" },
         qr/no invalidation comes for what is written/],
        ['none for keys', $canary, $half->(1),
         qr/no invalidation comes for what is written/],
        ['none for workspaces', $canary, $half->(0),
         qr/no invalidation comes for what is written/],
        ['the canary is refused', $canary, { instead => "-ERR no\r\n" },
         qr/Redis grants no lease: ERR no/],
        ['no message comes back', $proof, { instead => ":1\r\n" },
         qr/what is published does not come back/],
        ['no lease is granted', $proof, { instead => "-ERR no\r\n" },
         qr/Redis grants no lease: ERR no/],
    );

    for my $liar (@liars) {
        my ($title, $match, $do, $line) = @$liar;

        fake_redis(keys => ['one'], rules => [
            { match => $match, do => ref $do ? $do : { instead => $do } },
        ]);

        my $nginx = Agntkey::Nginx->new(cached(
            redis => $fake, cache => 'entries=100 lease=400ms'))->start;

        my $want = $title eq 'it is a replica' ? '503 store_unavailable MISS'
                                               : '200 MISS';

        ok(fake_wait($match), "$title: asked");
        is(asked('one'), $want, "$title: a miss");

        if ($line) {
            # Not before the other connection is there: perhaps at the second
            # attempt.
            ok($nginx->log_wait(qr/\[warn\].*keys are not cached: /, 1, 40),
               "$title: a warning");
            like((not_cached_lines($nginx))[0] // '', $line,
                 "$title: says why");
        }

        is(join(' ', map { asked('one') } 1 .. 5),
           join(' ', ($want) x 5), "$title: never a hit");
        is(scalar(not_cached_lines($nginx)), $line ? 1 : 0,
           "$title: said once");
        quits($title, $nginx);
    }
}


# --- what a stream may say

{
    fake_redis(keys => ['one', 'two']);

    my $nginx = Agntkey::Nginx->new(cached(redis => $fake,
                                           cache => $long))->start;
    my ($worker) = $nginx->workers;

    my $channel = sub {
        my ($line) = (fake_commands(qr/^SUBSCRIBE/))[-1];
        return $line =~ /(agntkey:worker:\S+)/ ? $1 : die "no channel\n";
    };

    # A miss between two hits: all that was known went with it.
    my @forgets = (
        ['nil', invalidation("*-1\r\n")],
        ['a nil text', invalidation("\$-1\r\n")],
        ['a number', invalidation(":5\r\n")],
        ['a text', invalidation("\$5\r\nhello\r\n")],
        ['a status', invalidation("+OK\r\n")],
        ['a list of nothing', invalidation("*1\r\n\$-1\r\n")],
        ['a list of a number', invalidation("*1\r\n:1\r\n")],
        ['a list of a list', invalidation("*1\r\n*1\r\n\$1\r\nx\r\n")],
        ['the key', invalidation(strings(record_of('one')))],
        ['the key among others',
         invalidation(strings((map { "agntkey:key:{zzzz}" . sprintf '%08d', $_
                              } 1 .. 5000), record_of('one')))],
        ['the workspace', invalidation(strings(workspace_of('acme')))],
        ['20,000 others',
         invalidation(strings(map { "agntkey:key:{zzzz}" . sprintf '%08d', $_
                              } 1 .. 20000))],
        ['a status', "+OK\r\n"],
        ['an error', "-ERR no\r\n"],
        ['a number', ":1\r\n"],
        ['nil', "\$-1\r\n"],
        ['an empty list', "*0\r\n"],
        ['a list of two', strings('message', 'agntkey:barrier')],
        ['a list of four', strings('message', 'agntkey:barrier', 'x', 'y')],
        ['a list of numbers', "*3\r\n:1\r\n:2\r\n:3\r\n"],
        ['another kind', strings('pmessage', 'agntkey:barrier', 'x')],
        ['a number for a channel',
         "*3\r\n\$7\r\nmessage\r\n:1\r\n\$1\r\nx\r\n"],
        ['a number for a text',
         "*3\r\n\$7\r\nmessage\r\n\$15\r\nagntkey:barrier\r\n:1\r\n"],
        ['a subscription',
         "*3\r\n\$9\r\nsubscribe\r\n\$1\r\nx\r\n:1\r\n"],
        ['no protocol', "hello\r\n"],
        ['RESP3', ">2\r\n\$10\r\ninvalidate\r\n*1\r\n\$1\r\nx\r\n"],
        ['a giant list', "*2147483647\r\n"],
        ['the head of a key of 2 MB', invalidation("*1\r\n\$2000000\r\n")],
        ['the head of 20,000 others', invalidation("*20000\r\n")],
        ['lists in lists', "*1\r\n" x 20],
    );

    for (@forgets) {
        my ($title, $bytes) = @$_;

        ok(hit('one'), "$title: a hit before");
        is(fake_send($bytes, 'tracking'), 1, "$title: sent");
        until_said(qr/^200 MISS$/, qr/^(?!200)/, "$title: a miss",
                   asks('one'));
        ok(hit('one'), "$title: a hit again");
    }

    # These mean nothing: what is known stays known.  What comes after it on
    # the stream shows that it was read.
    my $ids = sub { return map { invalidation(strings($_)) } @_ };
    my ($tag, $random) = record_of('one') =~ /\{(....)\}(.*)/;

    my @nothing = (
        ['an empty list', invalidation("*0\r\n")],
        ['an empty name', $ids->('')],
        ['another name', $ids->('x')],
        ['the prefix', $ids->('agntkey:key:')],
        ['a short id', $ids->("agntkey:key:{$tag}" . substr $random, 1)],
        ['a long id', $ids->("agntkey:key:{$tag}${random}x")],
        ['the prefix of workspaces', $ids->('agntkey:workspace:')],
        ['a workspace without a name', $ids->("agntkey:workspace:{$tag}")],
        ['a workspace of a long name',
         $ids->("agntkey:workspace:{$tag}" . 'x' x 10000)],
        ['another channel', message('somewhere', 'hello')],
        map({ ["barrier \"" . substr($_, 0, 40) . '"',
               message('agntkey:barrier', $_)] }
            '', ' ', 'x', '1', 'agntkey:worker: 1', 'x' x 10000,
            'agntkey:worker:0123456789abcdef', "\0\0\0\0",
            'agntkey:worker:0123456789abcdef ',
            'agntkey:worker:0123456789abcdef 1',
            'agntkey:worker:0123456789abcdef 18446744073709551616',
            'agntkey:barrier                 1',
            '%s%n%V%*s'),
        map({ ["letter \"" . substr($_, 0, 40) . '"', $_] }
            '', 'proof', 'proof ', 'proof 0', 'proof 1', 'proof -1',
            'proof 99999999999999999999', 'proof 12345', 'proof x',
            'ack', 'ack ', 'ack 1', 'ack 1 ', 'ack 1 0123456789abcdef',
            'ack x 0123456789abcdef', 'ack  0123456789abcdef',
            'ack 99999999999999999999 0123456789abcdef',
            'ack 1 0123456789abcdef0', 'ack ' . '1' x 10000,
            'echo', 'echo ', 'echo 1', 'echo agntkey:worker: 1',
            'echo agntkey:worker:0123456789abcdef',
            'echo agntkey:worker:0123456789abcdef ',
            'echo agntkey:worker:0123456789abcdef 1',
            'echo agntkey:barrier0123456789abcdef 1',
            'echo ' . 'x' x 10000, 'hello'),
    );

    ok(hit('one'), 'a hit before');

    for (@nothing) {
        my ($title, $bytes) = @$_;

        $bytes = message($channel->(), $bytes) if $title =~ /^letter/;

        ok(hit('two'), "$title: another key is a hit");
        is(fake_send($bytes . invalidation(strings(record_of('two'))),
                     'tracking'), 1, "$title: sent");
        until_said(qr/^200 MISS$/, qr/^(?!200)/, "$title: read", asks('two'));
        is(asked('one'), '200 HIT', "$title: means nothing");
    }

    is(join(' ', $nginx->workers), $worker, 'the same worker all the time');
    ok(!fake_commands(qr/^PUBLISH agntkey:barrier/),
       'nobody was made to say something on the channel of all');
    quits('garbage', $nginx);
}


# --- a text that does not end: what comes after it is not heard

{
    fake_redis(keys => ['one']);

    my $nginx = Agntkey::Nginx->new(cached(
        redis => $fake, cache => 'entries=100 lease=1s'))->start;

    for my $bytes ("\$2147483647\r\n", "*3\r\n\$7\r\nmessage\r\n") {
        ok(hit('one'), 'a message that does not end: a hit before');
        fake_send($bytes, 'tracking');
        fake_cmd('HDEL', record_of('one'), 'active');
        fake_invalidate(record_of('one'));
        until_said(qr/^401 revoked/, qr/^(?!200|401)/,
                   'a message that does not end: no hit after the lease',
                   asks('one'));
        fake_cmd('HSET', record_of('one'), 'active', 1);
        until_said(qr/^401 revoked HIT|^200/, qr/^(?!200|401)/,
                   'a message that does not end: remembered again',
                   asks('one'));
        fake_invalidate(record_of('one'));
    }

    quits('a message that does not end', $nginx);
}


# --- a stream of a worker that remembers nothing

{
    fake_redis(keys => ['one']);

    my $nginx = Agntkey::Nginx->new(cached(redis => $fake,
                                           cache => 'off'))->start;
    my ($worker) = $nginx->workers;

    for my $bytes (map({ invalidation($_) } "*-1\r\n", "*0\r\n",
                       strings(record_of('one')), ":1\r\n", "+OK\r\n"),
                   message('agntkey:barrier', 'x'))
    {
        ok(wait_until(10, sub { fake_send($bytes, 'tracking') }),
           'agntkey_cache off: it listens');
        is(asked('one'), '200 MISS', 'agntkey_cache off: a miss');
    }

    ok(!$nginx->lines(qr/exited on signal/), 'agntkey_cache off: no crash')
        or diag($nginx->lines(qr/exited on/));
    is(join(' ', $nginx->workers), $worker, 'agntkey_cache off: the worker');
    quits('agntkey_cache off', $nginx);
}


# --- a proof is one of its own time

# No message comes but those that are sent by hand.
my $mute = { match => $proof, do => { instead => ":1\r\n" } };

sub last_proof {
    my ($channel) = (fake_commands(qr/^SUBSCRIBE/))[-1]
                    =~ /(agntkey:worker:\S+)/;
    my ($n) = (fake_commands($proof))[-1] =~ /proof\\x20(\d+)$/;

    return ($channel, $n);
}

{
    fake_redis(keys => ['one'], rules => [$mute]);

    my $nginx = Agntkey::Nginx->new(cached(
        redis => $fake, cache => $long,
        http => 'agntkey_redis_timeout 30s;'))->start;

    ok(fake_wait($proof), 'a proof is begun');
    my ($channel, $old) = last_proof();

    fake_close('tracking', 'rst');
    ok(fake_wait($proof, 2), 'the stream is lost, and another one is begun');
    my (undef, $new) = last_proof();
    isnt($new, $old, 'of another number');

    for my $n ($old, $new + 1, "$new.", " $new", "0x$new") {
        fake_send(message($channel, "proof $n"), 'tracking');
        is(asked('one'), '200 MISS', "proof \"$n\": not trusted");
        is(asked('one'), '200 MISS', "proof \"$n\": not at all");
    }

    fake_send(message($channel, "proof $new"), 'tracking');
    ok(hit('one'), 'the right number: trusted');
    quits('an old proof', $nginx);
}


# --- a lease counts from before it was asked for

{
    my $lease = 5;

    fake_redis(keys => ['one'], rules => [$mute]);

    my $nginx = Agntkey::Nginx->new(cached(
        redis => $fake, cache => "entries=100 lease=${lease}s",
        http => 'agntkey_redis_timeout 30s;'))->start;

    ok(fake_wait($proof), 'a proof is begun');
    my $begun = time;
    my ($channel, $n) = last_proof();

    ok(wait_until(10, sub { time - $begun > 2 }), 'it comes back late');
    fake_send(message($channel, "proof $n"), 'tracking');
    ok(hit('one'), 'a hit');

    my $last = 0;

    ok(wait_until(20, sub {
        my $asked = time;
        return 1 if asked('one') ne '200 HIT';
        $last = $asked;
        return 0;
    }), 'the lease is over in the end');
    cmp_ok($last - $begun, '<', $lease, 'and its time began with the proof');
    quits('a late proof', $nginx);
}

logs_clean();
done_testing();
