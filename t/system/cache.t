# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What a worker remembers: hits cost Redis nothing and are judged like any
# other answer, a write is seen, memory is bounded, and agntkey_stale.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use Test::More;
use Time::HiRes qw(sleep time);

redis_start(tls => 1);

my $other_port = free_port();
my $fake = "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}";
my $long = 'entries=1000 lease=60s';

sub now { return int(1000 * time) }

sub fresh {
    redis_empty();
    seed_key('one', name => 'first', scopes => 'read write');
}

sub quits {
    my ($title, $nginx) = @_;

    ok(!$nginx->lines(qr/\[(?:error|crit|alert|emerg)\]/),
       "$title: no error in the log")
        or diag($nginx->lines(qr/\[(?:error|crit|alert|emerg)\]/));
    ok(defined $nginx->quit, "$title: quit");
}

# How many look-ups it takes.

sub lookups {
    my ($code) = @_;
    my @names = qw(hmget hget hgetall);
    my $before = redis_commands_count(@names);

    $code->();
    return redis_commands_count(@names) - $before;
}

sub becomes {
    my ($want, $title, @args) = @_;
    my $said;

    ok(wait_until(15, sub { $said = asked(@args); $said =~ $want }), $title)
        or diag("$said, not $want");
}


# --- hits

{
    fresh();
    seed_key('expired', expires_at => 1700000000001);
    seed_key('revoked', active => undef, revoked_at => 1700000000001);

    my $nginx = Agntkey::Nginx->new(cached(
        cache => $long,
        server => <<'_EOC_',
location /read { agntkey on; agntkey_scope read; empty_gif; }
location /admin { agntkey on; agntkey_scope admin; empty_gif; }
location /acme { agntkey on; agntkey_workspace acme; empty_gif; }
location /other { agntkey on; agntkey_workspace other; empty_gif; }
location /dry { agntkey on; agntkey_dry_run on; agntkey_scope admin;
                empty_gif; }
location /vars {
    agntkey on;
    add_header X-Vars "$agntkey_id|$agntkey_workspace|$agntkey_name";
    add_header X-Vars "$agntkey_scopes|$agntkey_expires";
    add_header X-Vars "$agntkey_status|$agntkey_cache";
    empty_gif;
}
location /proxied {
    agntkey on;
    proxy_set_header Authorization $http_authorization;
    proxy_pass http://127.0.0.1:$server_port/vars;
}
location /redirect { agntkey on; try_files /none /vars; }
location /named { agntkey on; try_files /none @named; }
location @named { agntkey on; return 200 "named $agntkey_cache"; }
location /page {
    agntkey on;
    agntkey_scope admin;
    error_page 403 @page;
}
location @page { return 200 "page $agntkey_status $agntkey_cache"; }
location /any { satisfy any; deny all; agntkey on; empty_gif; }
location /none { return 200 "[$agntkey_cache]"; }
_EOC_
    ))->start;

    ok(hit('one'), 'a hit in the end');

    # A key that nobody has asked for, in a worker that is trusted.
    seed_key('two');
    is(asked('two'), '200 MISS', 'at first: MISS');
    is(asked('two'), '200 HIT', 'then: HIT');

    is(lookups(sub { asked('two') for 1 .. 50 }), 0,
       'fifty hits cost no look-up');
    is(lookups(sub { asked('nobody') }), 1, 'a miss does');
    is(asked('nobody'), '401 unknown HIT', 'an unknown key: HIT, 401');
    is(lookups(sub { asked('nobody') for 1 .. 50 }), 0,
       'fifty hits of an unknown key cost no look-up');

    my $challenge = ask('nobody')->{headers}{'www-authenticate'};
    like($challenge, qr/error="invalid_token"/, 'with its challenge');

    # A wrong secret says nothing of the record.
    for my $label ('one', 'revoked', 'expired') {
        my $id = key_id(key_for($label));
        my $reason = $label eq 'one' ? '200' : "401 $label";

        asked($label);
        is(asked($label), "$reason HIT", "$label: HIT");
        is(asked('x', id => $id), '401 unknown HIT',
           "$label, a wrong secret: 401 unknown, HIT");

        my $wrong = asked_start('x', id => $id)->response;
        is($wrong->{headers}{'www-authenticate'}, $challenge,
           "$label, a wrong secret: the challenge of an unknown key");
        is($wrong->{body} =~ s/nobody//r, ask('nobody')->{body},
           "$label, a wrong secret: the body of an unknown key");
        is(asked($label), "$reason HIT", "$label: still");
    }

    # The other way about: the wrong one first.
    seed_key('three');
    is(asked('x', id => key_id(key_for('three'))), '401 unknown MISS',
       'a wrong secret first: MISS');
    is(asked('three'), '200 HIT', 'then the right one: HIT');

    # Rules of each location.
    my %rules = (
        '/read' => '200 HIT', '/admin' => '403 insufficient_scope HIT',
        '/acme' => '200 HIT', '/other' => '403 workspace_mismatch HIT',
        '/dry' => '200 HIT', '/any' => '200 HIT',
    );

    for my $path (sort keys %rules) {
        is(asked('one', line => "GET $path"), $rules{$path},
           "$path: its own rules");
    }

    like(asked('two', line => 'GET /read'), qr/^403 insufficient_scope HIT/,
         'another key, the same rules');
    is(asked('nobody', line => 'GET /any'), '401 unknown HIT',
       'satisfy any: 401');

    # Variables.
    my $id = key_id(key_for('one'));
    my $vars = "$id|acme|first, read write|, ok|HIT";

    for my $path ('/vars', '/proxied', '/redirect') {
        my $res = asked_start('one', line => "GET $path")->response;
        is($res->{headers}{'x-vars'}, $vars, "$path: variables on a hit");
    }

    is(asked_start('one', line => 'GET /named')->response->{body},
       'named HIT', 'in a named location');
    is(asked_start('one', line => 'GET /page')->response->{body},
       'page insufficient_scope HIT', 'in an error page');
    is(http('GET /none')->{body}, '[]', 'no decision, no value');
    is(said(http('GET /t')), '401 missing', 'no key: no value');

    # Many at once, on hits.
    my @clients = map { asked_start('one') } 1 .. 100;
    is(scalar(grep { said($_->response) eq '200 HIT' } @clients), 100,
       'a hundred at once');
    quits('hits', $nginx);
}


# --- the time of a key is over while it is remembered

{
    fresh();

    my $nginx = Agntkey::Nginx->new(cached(cache => $long))->start;
    ok(hit('one'), 'trusted');

    my $end = now() + 1500;
    seed_key('short', expires_at => $end);
    is(asked('short'), '200 MISS', 'before its end: MISS');

    my $before = redis_commands_count('hmget', 'hget');
    my $said;

    ok(wait_until(15, sub { ($said = asked('short')) !~ /^200 HIT/ }),
       'before its end: hits');
    is($said, '401 expired HIT', 'after it: 401 expired, and a hit');
    cmp_ok(now(), '>=', $end, 'not before its end');
    is(redis_commands_count('hmget', 'hget'), $before, 'without a look-up');
    is(asked('x', id => key_id(key_for('short'))), '401 unknown HIT',
       'a wrong secret for it: unknown');
    quits('expiry', $nginx);
}


# --- agntkey_cache off

{
    fresh();

    my $nginx = Agntkey::Nginx->new(cached(cache => 'off'))->start;

    is(join(' ', map { asked('one') } 1 .. 4), join(' ', ('200 MISS') x 4),
       'agntkey_cache off: always MISS');
    is(join(' ', map { asked('nobody') } 1 .. 2),
       '401 unknown MISS 401 unknown MISS',
       'agntkey_cache off: an unknown key');
    is(redis_cmd('EXISTS', 'agntkey:workers'), 0,
       'agntkey_cache off: in no registry');
    unlike(redis_cmd('CLIENT', 'LIST'), qr/ flags=\S*[tB]/,
           'agntkey_cache off: nothing is tracked');
    quits('agntkey_cache off', $nginx);
}


# --- writes from anywhere

{
    fresh();

    my $nginx = Agntkey::Nginx->new(cached(
        cache => $long,
        server => 'location /read { agntkey on; agntkey_scope read;'
                  . ' empty_gif; }'))->start;
    my $record = record_of('one');
    my $home = workspace_of('acme');

    ok(hit('one'), 'a hit before');

    redis_cmd('HDEL', $record, 'active');
    becomes(qr/^401 revoked/, 'HDEL active: revoked', 'one');
    is(asked('one'), '401 revoked HIT', 'HDEL active: remembered');
    redis_cmd('HSET', $record, 'active', '1');
    becomes(qr/^200/, 'HSET active 1: good again', 'one');

    for my $value ('0', '2', '11', '', 'true') {
        ok(hit('one'), 'a hit before');
        redis_cmd('HSET', $record, 'active', $value);
        becomes(qr/^401 revoked/, "HSET active \"$value\": revoked", 'one');
        redis_cmd('HSET', $record, 'active', '1');
        becomes(qr/^200/, 'good again', 'one');
    }

    is(asked('one', line => 'GET /read'), '200 HIT', 'it may read');
    redis_cmd('HSET', $record, 'scopes', 'write');
    becomes(qr/^403 insufficient_scope/, 'HSET scopes: it may not', 'one',
            line => 'GET /read');
    redis_cmd('HSET', $record, 'scopes', 'read');
    becomes(qr/^200/, 'HSET scopes: it may again', 'one',
            line => 'GET /read');

    ok(hit('one'), 'a hit before');
    redis_cmd('HSET', $record, 'expires_at', now() - 1);
    becomes(qr/^401 expired/, 'HSET expires_at: expired', 'one');
    redis_cmd('HDEL', $record, 'expires_at');
    becomes(qr/^200/, 'HDEL expires_at: good again', 'one');

    ok(hit('one'), 'a hit before');
    redis_cmd('HDEL', $home, 'active');
    becomes(qr/^403 workspace_disabled/, 'the workspace, HDEL active', 'one');
    is(asked('one'), '403 workspace_disabled HIT', 'it is remembered');
    redis_cmd('HSET', $home, 'active', '1');
    becomes(qr/^200/, 'the workspace, HSET active', 'one');
    ok(hit('one'), 'a hit before');
    redis_cmd('DEL', $home);
    becomes(qr/^403 workspace_disabled/, 'the workspace, DEL', 'one');
    seed_workspace('acme');
    becomes(qr/^200/, 'the workspace, made again', 'one');

    ok(hit('one'), 'a hit before');
    redis_cmd('DEL', $record);
    becomes(qr/^401 unknown/, 'DEL: unknown', 'one');
    is(asked('one'), '401 unknown HIT', 'DEL: remembered');
    seed_key('one');
    becomes(qr/^200/, 'an unknown key comes into being', 'one');

    ok(hit('one'), 'a hit before');
    redis_cmd('RENAME', $record, 'elsewhere');
    becomes(qr/^401 unknown/, 'RENAME: unknown', 'one');
    redis_cmd('RENAME', 'elsewhere', $record);
    becomes(qr/^200/, 'RENAME, and back', 'one');

    ok(hit('one'), 'a hit before');
    redis_cmd('PEXPIRE', $record, 300);
    becomes(qr/^401 unknown/, 'PEXPIRE: unknown in the end', 'one');
    seed_key('one');

    ok(hit('one'), 'a hit before');
    redis_cmd('EVAL', 'return redis.call("HDEL",KEYS[1],"active")', 1,
              $record);
    becomes(qr/^401 revoked/, 'by a script: revoked', 'one');
    seed_key('one');

    ok(hit('one'), 'a hit before');
    redis()->pipeline(['MULTI'], ['HDEL', $record, 'active'], ['EXEC']);
    becomes(qr/^401 revoked/, 'in a transaction: revoked', 'one');

    # A record that makes no sense is no hit of the one before it.
    seed_key('one');
    ok(hit('one'), 'a hit before');
    redis_cmd('HSET', $record, 'expires_at', 'x');
    becomes(qr/^503/, 'a record that makes no sense: 503', 'one');
    is(asked('one'), '503 store_unavailable MISS', 'it is not remembered');
    redis_cmd('DEL', $record);
    redis_cmd('SET', $record, 'x');
    becomes(qr/^503/, 'a record of the wrong type: 503', 'one');
    seed_key('one');
    ok(hit('one'), 'a good one again');
    ok(defined $nginx->quit, 'quit');
}


# --- few entries

{
    fresh();
    seed_key("key $_") for 1 .. 3;

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=2 lease=60s negative=1'))->start;

    ok(hit('key 1'), 'trusted');
    asked("key $_") for 2, 3;
    is(asked('key 3'), '200 HIT', 'entries=2: the last one is a hit');
    is(asked('key 1'), '200 HIT', 'entries=2: one that was used is, too');
    is(asked('key 2'), '200 MISS', 'entries=2: the other has made room');

    my @said = map { asked("key $_") } map { (1 .. 3) } 1 .. 20;
    is(scalar(grep { !/^200 (?:HIT|MISS)$/ } @said), 0,
       'entries=2: three keys in turn are accepted');
    cmp_ok(scalar(grep { $_ eq '200 MISS' } @said), '>=', 20,
           'entries=2: not all of them are hits');

    hit('key 1');
    asked('nobody'), asked('nobody else');
    is(asked('nobody else'), '401 unknown HIT', 'negative=1: one');
    is(asked('nobody'), '401 unknown MISS', 'negative=1: no more');
    is(asked('key 1'), '200 HIT', 'negative=1: keys are not touched');
    quits('few entries', $nginx);

    $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=10 lease=60s negative=0'))->start;
    ok(hit('key 1'), 'trusted');
    is(join(' ', map { asked('nobody') } 1 .. 3),
       join(' ', ('401 unknown MISS') x 3), 'negative=0: always MISS');
    quits('negative=0', $nginx);
}


# --- a flood of keys that nobody has

{
    fresh();

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=60s negative=500',
        http => 'agntkey_redis_timeout 20s; access_log off;',
    ), log_level => 'notice')->start;
    my ($pid) = $nginx->workers;
    my %worker = worker_clients($nginx);
    my $client = $worker{$pid};
    my $n = 0;

    # Well formed, and cheap to make: of one id only the last digits differ.
    my $flood = sub {
        my ($rounds) = @_;
        my %codes;

        for (1 .. $rounds) {
            my @keys = map {
                key_for('x', id => 'zzzz' . base62($n++, 8))
            } 1 .. 200;

            $client->write(join '', map {
                "GET /t HTTP/1.1\r\nHost: localhost\r\n" . bearer($_)
                . "\r\n\r\n" } @keys);
            $codes{ said($client->response(20)) }++ for @keys;

            # Nobody logs them, and to remember them takes time.
            delete @Agntkey::Key::made{@keys};
        }

        return join ' ', map { "$_: $codes{$_}" } sort keys %codes;
    };

    ok(hit('one'), 'a good key is a hit');
    is($flood->(20), '401 unknown MISS: 4000', '4,000 keys that nobody has');

    my $rss = Agntkey::Nginx::rss($pid);

    is($flood->(80), '401 unknown MISS: 16000', '16,000 more');
    is(asked('one'), '200 HIT', 'the good key is a hit throughout');

    my $grown = Agntkey::Nginx::rss($pid) - $rss;

    SKIP: {
        skip 'its size does not tell', 1
            if !Agntkey::Nginx::size_tells($pid);

        cmp_ok($grown, '<', 1024, 'the worker has not grown by a megabyte')
            or diag("$grown KB");
    }

    # So many are remembered: the last ones.
    my $last = sub { return said(asked_start('x', id => 'zzzz'
                            . base62($n - $_[0], 8))->response) };

    is($last->(1), '401 unknown HIT', 'negative=500: the last one');
    is($last->(500), '401 unknown HIT', 'negative=500: the 500th');
    is($last->(501), '401 unknown MISS', 'negative=500: the 501st');
    is(join(' ', $nginx->workers), $pid, 'the same worker');
    quits('a flood', $nginx);
}


# --- many at once for one key that is not remembered

{
    fake_redis(keys => ['one', 'two'], rules => [
        { match => qr/^HMGET \Q${\ record_of('one')}\E digest/, nth => 1,
          do => 'hold' }]);

    my $nginx = Agntkey::Nginx->new(
        workers => 2, connections => 1024,
        cached(redis => $fake, cache => $long,
               http => 'agntkey_redis_timeout 30s;'))->start;
    my %worker = worker_clients($nginx);
    my $lookup = qr/^HMGET \Q${\ record_of('one')}\E digest/;

    ok(hit_everywhere(\%worker, 'two'), 'trusted everywhere');

    my $first = asked_start('one');
    ok(fake_wait($lookup), 'a look-up that is held');

    my @waiting = map { asked_start('one') } 1 .. 200;
    my %said;

    fake_wait($lookup, 2);
    fake_release();
    $said{ said($_->response(20)) }++ for $first, @waiting;

    is(join(' ', map { s/ (?:HIT|MISS)$//r } sort keys %said), '200 200',
       'two hundred at once: all accepted') or diag(explain(\%said));
    is(scalar(fake_commands($lookup)), 2,
       'two hundred at once: one look-up for each worker');
    ok(hit_everywhere(\%worker, 'one'), 'then hits');
    quits('many at once', $nginx);
}

{
    my $rule = { match => qr/^HMGET \Q${\ record_of('one')}\E digest/,
                 nth => 1, do => { delay => 0.5 } };

    fake_redis(keys => ['one', 'two', 'three'], rules => [
        $rule,
        { match => qr/^HMGET \Q${\ record_of('three')}\E digest/, nth => 1,
          do => 'hold' },
    ]);

    my $nginx = Agntkey::Nginx->new(connections => 1024, cached(
        redis => $fake, cache => $long,
        http => 'agntkey_redis_timeout 30s;'))->start;

    ok(hit('two'), 'trusted');

    my @waiting = map { asked_start('one') } 1 .. 200;
    my @said = map { said($_->response(20)) } @waiting;

    is(scalar(grep { /^200 (?:HIT|MISS)$/ } @said), 200,
       'a slow Redis: all accepted');
    is(scalar(fake_commands($rule->{match})), 1, 'a slow Redis: one look-up');

    # Some leave before the answer is there.
    @waiting = map { asked_start('three') } 1 .. 50;
    ok(wait_until(10, sub { active_connections() == 50 }), 'fifty wait');
    $_->leave for splice @waiting, 0, 25;
    ok(wait_until(10, sub { active_connections() == 25 }), 'half of them go');
    fake_release();
    is(scalar(grep { said($_->response) eq '200 MISS' } @waiting), 25,
       'the others have their answer');
    is(asked('three'), '200 HIT', 'and it is remembered');
    quits('a slow Redis', $nginx);
}


# --- agntkey_stale

{
    my $locations = <<'_EOC_';
location /stale { agntkey on; agntkey_stale 60s; empty_gif; }
location /short { agntkey on; agntkey_stale 2s; empty_gif; }
location /scoped { agntkey on; agntkey_stale 60s; agntkey_scope admin;
                   empty_gif; }
location /vars {
    agntkey on;
    agntkey_stale 60s;
    add_header X-Vars "$agntkey_workspace $agntkey_name";
    add_header X-Vars "$agntkey_status $agntkey_cache";
    empty_gif;
}
_EOC_

    my @stale = (line => 'GET /stale');
    my $line = qr/\[warn\].*agntkey: Redis cannot be asked: keys that were/;

    fresh();
    seed_key($_) for 'two', 'revoked', 'never';
    seed_key('disabled', workspace => 'other');
    seed_key('wrong');

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=1s', server => $locations))->start;

    ok(hit($_), "$_: a hit") for 'one', 'two', 'revoked', 'wrong';
    ok(hit('disabled', workspace => 'other'), 'disabled: a hit');

    my $end = now() + 4000;
    seed_key('short', expires_at => $end);
    ok(wait_until(10, sub { asked('short') eq '200 HIT' }), 'short: a hit');
    asked('nobody');

    # Heard of, and not asked for again.
    redis_cmd('HDEL', record_of('revoked'), 'active');
    redis_cmd('HDEL', workspace_of('other'), 'active');

    # It has come as far as that.
    redis_cmd('HSET', record_of('two'), 'name', 'second');
    becomes(qr/^200 MISS/, 'two: changed', 'two');
    ok(hit('two'), 'two: a hit');

    ok(!$nginx->lines($line), 'no line yet');
    redis_stop();

    my $start = time;

    becomes(qr/^200 STALE$/, 'Redis is away: STALE', 'one', @stale);
    is(asked('one'), '503 store_unavailable', 'agntkey_stale 0: 503');
    answer_is(ask('one'), 503, 'agntkey_stale 0: as it should be');
    is(asked('two', @stale), '200 STALE', 'another key: STALE');
    is(asked('revoked', @stale), '503 store_unavailable',
       'seen revoked: 503');
    is(asked('disabled', workspace => 'other', @stale),
       '503 store_unavailable', 'its workspace seen disabled: 503');
    is(asked('never', @stale), '503 store_unavailable',
       'never verified: 503');
    is(asked('nobody', @stale), '503 store_unavailable', 'unknown: 503');
    is(asked('x', id => key_id(key_for('wrong')), @stale),
       '503 store_unavailable', 'a wrong secret: 503');
    is(asked('wrong', @stale), '200 STALE', 'the right one: STALE');
    is(asked('one', line => 'GET /scoped'), '403 insufficient_scope STALE',
       'the rules hold all the same');
    is(asked_start('one', line => 'GET /vars')
       ->response->{headers}{'x-vars'}, 'acme first, ok STALE', 'variables');

    my $said;
    ok(wait_until(15, sub {
        ($said = asked('short', @stale)) ne '200 STALE';
    }), 'a key that expires meanwhile');
    is($said, '503 store_unavailable', 'expired: 503');
    cmp_ok(now(), '>=', $end, 'not before its end');

    ok(wait_until(15, sub {
        asked('one', line => 'GET /short') eq '503 store_unavailable';
    }), 'agntkey_stale 2s: 503 after it');
    cmp_ok(time - $start, '>=', 1.5, 'agntkey_stale 2s: not before it');
    is(asked('one', @stale), '200 STALE', 'agntkey_stale 60s: still');
    is(scalar($nginx->lines($line)), 1, 'one line for it')
        or diag($nginx->lines($line));

    # It comes back, and is empty.
    redis_start();
    becomes(qr/^401 unknown/, 'Redis is back, and empty: unknown', 'one',
            @stale);
    seed_key('one');
    ok(hit('one'), 'a hit again');

    # The second outage has a line of its own.
    redis_stop();
    becomes(qr/^200 STALE$/, 'another outage: STALE', 'one', @stale);
    is(scalar($nginx->lines($line)), 2, 'another line');

    # FLUSHALL that was heard.
    redis_start();
    seed_key($_) for 'one', 'two';
    ok(hit($_), "$_: a hit") for 'one', 'two';
    redis_cmd('FLUSHALL');
    seed_key('two');
    becomes(qr/^200 MISS/, 'two: asked for again', 'two');
    ok(hit('two'), 'two: a hit');
    redis_stop();
    becomes(qr/^200 STALE$/, 'two: STALE', 'two', @stale);
    is(asked('one', @stale), '503 store_unavailable',
       'of before FLUSHALL: 503');

    redis_start();
    ok(defined $nginx->quit, 'quit');
}

{
    # Redis hangs.
    fresh();

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'entries=100 lease=1s',
        http => 'agntkey_redis_timeout 300ms; agntkey_stale 60s;'))->start;

    ok(hit('one'), 'a hit before');
    redis()->pause;
    becomes(qr/^200 STALE$/, 'Redis hangs: STALE', 'one');
    is(asked('never'), '503 store_unavailable',
       'Redis hangs, never verified: 503');
    redis()->resume;
    becomes(qr/^200 (?:MISS|HIT)$/, 'it goes on: no longer STALE', 'one');
    ok(hit('one'), 'it goes on: a hit');

    # Errors are outages too; a refusal of Redis is none of the key.
    redis_cmd('CONFIG', 'SET', 'requirepass', 'x' . $$);
    redis_cmd('AUTH', 'x' . $$);
    redis_cmd('CLIENT', 'KILL', 'TYPE', $_, 'SKIPME', 'yes')
        for 'normal', 'pubsub';
    becomes(qr/^200 STALE$/, 'NOAUTH: STALE', 'one');
    redis_cmd('CONFIG', 'SET', 'requirepass', '');
    ok(hit('one'), 'no password: a hit again');

    # Nothing else is: a revoked key is not accepted for want of a reply.
    redis_cmd('HDEL', record_of('one'), 'active');
    becomes(qr/^401 revoked/, 'revoked', 'one');
    redis()->pause;
    becomes(qr/^503/, 'Redis hangs, revoked: 503', 'one');
    redis()->resume;
    ok(defined $nginx->quit, 'quit');
}

{
    # Off, and the default.
    fresh();

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'off', http => 'agntkey_stale 60s;'))->start;

    is(asked('one'), '200 MISS', 'agntkey_cache off: MISS');
    redis_stop();
    becomes(qr/^503/, 'agntkey_cache off, agntkey_stale: 503', 'one');
    redis_start();
    ok(defined $nginx->quit, 'quit');
}


# --- what a reply says counts for both records, and for all that know them

{
    my $fake = "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}";
    my @stale = (line => 'GET /stale');
    my $key = record_of('one');
    my $home = workspace_of('acme');

    # What is written where nobody is told of it, what becomes of the replies
    # to the question of the first key, and what "agntkey_stale" makes of that
    # key and of the other one of its workspace when Redis is away.
    my @cases = (
        ['nothing', undef, undef, '200 STALE', '200 STALE'],
        ['nothing, the workspace is lost', undef, [qr/^HGET/, 'close'],
         '200 STALE', '200 STALE'],
        ['the workspace is disabled', [HDEL => $home, 'active'], undef,
         '503 store_unavailable', '503 store_unavailable'],
        ['the workspace is gone', [DEL => $home], undef,
         '503 store_unavailable', '503 store_unavailable'],
        ['the workspace is disabled, the key is an error',
         [HDEL => $home, 'active'], [qr/^HMGET/, "-ERR no\r\n"],
         '503 store_unavailable', '503 store_unavailable'],
        ['an error for the workspace', undef, [qr/^HGET/, "-ERR no\r\n"],
         '200 STALE', '200 STALE'],
        ['the key is revoked', [HDEL => $key, 'active'], undef,
         '503 store_unavailable', '200 STALE'],
        ['the key is revoked, the workspace is lost',
         [HDEL => $key, 'active'], [qr/^HGET/, 'close'],
         '503 store_unavailable', '200 STALE'],
        ['the key is gone, the workspace is lost', [DEL => $key],
         [qr/^HGET/, 'close'], '503 store_unavailable', '200 STALE'],
        ['the key expires sooner, the workspace is lost',
         [HSET => $key, 'expires_at', '4102444800000'],
         [qr/^HGET/, 'close'], '503 store_unavailable', '200 STALE'],
        ['the key has other scopes, the workspace is lost',
         [HSET => $key, 'scopes', 'a b'],
         [qr/^HGET/, 'close'], '503 store_unavailable', '200 STALE'],
        ['the key is malformed, the workspace is lost',
         [HSET => $key, 'created_at', 'x'],
         [qr/^HGET/, 'close'], '503 store_unavailable', '200 STALE'],
    );

    for my $case (@cases) {
        my ($title, $write, $reply, $one, $two) = @$case;
        my $switch = test_dir() . '/switch';

        unlink $switch;

        # The stream is let in once.
        fake_redis(keys => ['one', 'two'], rules => [
            { match => qr/^SUBSCRIBE/, from => 2, do => "-ERR no\r\n" },
            $reply ? { match => $reply->[0],
                       do => sub { -e $switch ? $reply->[1] : {} } } : (),
        ]);

        my $nginx = Agntkey::Nginx->new(cached(
            redis => $fake, cache => 'entries=100 lease=1s',
            server => 'location /stale { agntkey on; agntkey_stale 1h;
                                         empty_gif; }',
        ))->start;

        ok(hit('one') && hit('two'), "$title: hits");
        fake_close('tracking');
        ok($nginx->log_wait(qr/keys are not cached: /), "$title: no trust");
        fake_cmd(@$write) if $write;

        open my $on, '>', $switch or die "$switch: $!\n";
        my $before = fake_commands(qr{^HMGET \Q$key\E });

        asked('one');
        ok(fake_commands(qr{^HMGET \Q$key\E }) > $before,
           "$title: asked for");
        fake_stop();
        is(asked('one', @stale) =~ s/ MISS$//r, $one, "$title: this key");
        is(asked('two', @stale) =~ s/ MISS$//r, $two, "$title: the other");
        ok(defined $nginx->quit, "$title: quit");
    }
}


# --- other ways to Redis

{
    my %urls = (
        'TLS' => ["rediss://127.0.0.1:$ENV{TEST_NGINX_REDIS_TLS_PORT}",
                  'agntkey_redis_ssl_trusted_certificate '
                  . "$ENV{TEST_NGINX_REDIS_CA};", 0],
        'a unix socket' => ["unix:$ENV{TEST_NGINX_REDIS_SOCK}", '', 0],
        'database 3' => ["redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT}/3",
                         '', 3],
        'a unix socket, database 3'
            => ["unix:$ENV{TEST_NGINX_REDIS_SOCK}?db=3", '', 3],
        'a name' => ["redis://localhost:$ENV{TEST_NGINX_REDIS_PORT}", '', 0],
    );

    for my $title (sort keys %urls) {
        my ($url, $http, $db) = @{ $urls{$title} };

        redis_empty();
        redis_cmd('SELECT', $db);
        registry_is_old();
        seed_key($_) for 'one', 'two';

        my $nginx = Agntkey::Nginx->new(workers => 2, cached(
            redis => $url, cache => $long, http => $http))->start;
        my %worker = worker_clients($nginx);

        ok(hit_everywhere(\%worker, 'one', 'two'), "$title: hits");
        redis_cmd('HDEL', record_of('one'), 'active');

        ok(wait_until(10, sub {
            2 == grep { said(ask_worker($_, 'one')) =~ /^401 revoked/ }
                 values %worker;
        }), "$title: a write is seen");

        my $receipt = revoke('two')->{json}{receipt};

        is($receipt->{acknowledged}, 2, "$title: acknowledged");
        is(scalar(grep { said(ask_worker($_, 'two')) =~ /^401 revoked/ }
                  values %worker), 2, "$title: revoked");
        redis_cmd('SELECT', 0);
        quits($title, $nginx);
    }
}

logs_clean();
done_testing();
