# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# agntkey_last_used: when a key was last used comes to Redis, once for each
# interval, worker and key, whatever happens to Redis or to the worker.
#
# With an interval of an hour nothing is written before a worker ends: what is
# written then, and what is not, does not depend on how fast a machine is.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use IO::Socket::UNIX;
use Test::More;
use Time::HiRes qw(time);

my $server = <<'_EOC_';
location /t { agntkey on; add_header X-Pid $pid;
              add_header X-Cache $agntkey_cache; empty_gif; }
location /need { agntkey on; agntkey_scope admin; empty_gif; }
location /other { agntkey on; agntkey_workspace other; empty_gif; }
location /dry { agntkey on; agntkey_dry_run on; empty_gif; }
location /dry_need { agntkey on; agntkey_dry_run on; agntkey_scope admin;
                     empty_gif; }
location /open { empty_gif; }
_EOC_

# How many keys of a worker can wait to be written.
my $bound = 4096;

redis_start();


# --- nginx, with an interval

sub nginx {
    my ($last_used, %opt) = @_;
    my $port = $opt{redis} // $ENV{TEST_NGINX_REDIS_PORT};
    my $more = delete $opt{http} // '';
    my $cache = delete $opt{cache} // 'off';

    redis_empty();
    redis_cmd('CONFIG', 'RESETSTAT');

    return Agntkey::Nginx->new(
        server => $server, %opt,
        http => "agntkey_redis redis://127.0.0.1:$port;"
                . "agntkey_cache $cache; keepalive_requests 10000; $more"
                . ($last_used ? "agntkey_last_used $last_used;" : ''),
    )->start;
}


sub ends {
    my ($nginx, $title) = @_;

    ok(defined $nginx->quit, "$title - quit");
    ok(!$nginx->lines(qr/open socket|\[(?:alert|emerg)\]/),
       "$title - nothing in the log");
}


# --- keys, and requests with them

# A key of a workspace: its text and its id.

sub key {
    my ($label, $workspace, %opt) = @_;
    my $key = seed_key($label, workspace => $workspace // 'acme', %opt);

    # Which writes sorted sets, too.
    redis_cmd('CONFIG', 'RESETSTAT');

    return { text => $key, id => key_id($key),
             workspace => $workspace // 'acme' };
}


sub use_key {
    my ($key, $path) = @_;
    return http('GET ' . ($path // '/t'), headers => bearer($key->{text}),
                timeout => 20);
}


sub accepted {
    my ($title, @keys) = @_;
    my @codes = map { use_key($_)->{code} } @keys;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(scalar(grep { $_ eq '200' } @codes), scalar @keys, "$title - accepted")
        or diag("@codes");
}


# On one connection, as one text.

sub accepted_in_a_row {
    my ($title, @keys) = @_;
    my $good = 0;

    while (my @some = splice @keys, 0, 100) {
        my $client = http_start('', raw => join '', map {
            "GET /t HTTP/1.1\r\nHost: a\r\n" . bearer($_->{text})
            . "\r\n\r\n"
        } @some);

        $good += grep { $client->response(20)->{code} eq '200' } @some;
        $client->leave('fin');
    }

    return $good;
}


# --- what is in Redis

sub used_name {
    my ($workspace) = @_;
    return 'agntkey:used:{' . workspace_tag($workspace) . "}$workspace";
}


# When the key was last used, as Redis knows it; 0: never.

sub used {
    my ($key) = @_;
    return redis_cmd('ZSCORE', used_name($key->{workspace}), $key->{id}) // 0;
}


sub written {
    my ($title, $key, $from) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(wait_until(15, sub { used($key) >= ($from // 1) }),
       "$title - written") or diag(used($key));
}


sub redis_now {
    my ($s, $us) = @{ redis_cmd('TIME') };
    return $s * 1000 + int $us / 1000;
}


sub zadds { return redis_commands_count('zadd') }

sub nothing_used {
    my ($title) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(join(' ', @{ redis_cmd('KEYS', 'agntkey:used:*') }), '',
       "$title - nothing is written");
}


# The ZADD that Redis gets from others while the code runs, as texts, with
# what other commands came between.

sub writes {
    my ($code) = @_;
    my $sock = IO::Socket::UNIX->new(Peer => redis()->sock)
        // die "redis: $!\n";
    my $end = "end-$$-" . rand;
    my $text = '';

    syswrite $sock, "MONITOR\r\n";
    sysread $sock, $text, 5;

    $code->();
    redis_cmd('ECHO', $end);

    until ($text =~ /"ECHO" "\Q$end\E"/) {
        vec(my $set = '', fileno $sock, 1) = 1;
        select($set, undef, undef, 5) or die "redis says nothing\n";
        sysread $sock, $text, 65536, length $text or die "redis left\n";
    }

    # Ours come by the unix socket.
    return map { s/"//gr } $text =~ /\[\d+ 127\.0\.0\.1:\d+\] (.*?)\r\n/g;
}


# --- the first use, and the next ones

for my $interval ('', '1ms', '200ms') {
    my $title = $interval || 'unless said otherwise';
    my $nginx = nginx($interval);
    my $key = key('one');
    my $from = redis_now();

    accepted($title, $key);

    my $to = redis_now();

    written($title, $key);

    my $first = used($key);

    ok($first >= $from && $first <= $to, "$title - the time of the request")
        or diag("$from $first $to");
    is(redis_cmd('TTL', used_name('acme')), -1, "$title - for good");

    # Once written it is not written again.
    my $n = zadds();

    is($n, 1, "$title - one write");

    accepted($title, $key);
    written("$title, again", $key, $first + 1);
    is(zadds(), 2, "$title - one more for the next use");
    is(redis_cmd('ZCARD', used_name('acme')), 1, "$title - of the same key");
    ends($nginx, $title);
    is(zadds(), 2, "$title - nothing is left for the end");
}


# --- many uses are one write

{
    my $nginx = nginx('1h');
    my @keys = map { key($_) } qw(one two three);

    is(accepted_in_a_row('an hour', (@keys) x 200), 600,
       'an hour - accepted');
    is(zadds(), 0, 'an hour - nothing is written yet');

    my $before = redis_now();

    accepted('an hour', @keys);
    ends($nginx, 'an hour');
    is(zadds(), 3, 'an hour - one write for each key');
    cmp_ok(used($_), '>=', $before, 'an hour - of the last use') for @keys;
}

{
    my $nginx = nginx('100ms');
    my @keys = map { key($_) } qw(one two);
    my $started = time;
    my $good = 0;
    my $last;

    while (time < $started + 1) {
        $last = redis_now();
        $good += accepted_in_a_row('100ms', (@keys) x 25);
    }

    written('100ms', $_, $last) for @keys;

    # A timer is never early.
    my $most = 2 * (1 + int((time - $started) / 0.1));

    cmp_ok($good, '>', $most, '100ms - many uses');
    cmp_ok(zadds(), '<=', $most, '100ms - two writes for each interval');
    cmp_ok(zadds(), '>=', 4, '100ms - and more than one interval');
    ends($nginx, '100ms');
}


# --- many workspaces in one go

{
    my $nginx = nginx('1h');
    my @keys = map { my $w = $_; map { key($_, $w) } qw(one two three) }
                   qw(acme beta Z.1_-), 'w' x 64;

    accepted('workspaces', @keys);

    my @got = writes(sub { ends($nginx, 'workspaces') });
    my @want = map { 'ZADD ' . used_name($_->{workspace}) . ' GT '
                     . used($_) . " $_->{id}" } @keys;

    # Nothing but these, and so in one turn: all of them with GT.
    is(join("\n", sort @got), join("\n", sort @want),
       'workspaces - one batch, with the key, the time and GT');
    cmp_ok(used($_), '>', 1600000000000, 'workspaces - a time') for @keys;
}


# --- it never goes back

{
    my $nginx = nginx('1ms');
    my ($ahead, $behind) = (key('ahead'), key('behind'));
    my $later = redis_now() + 3600000;

    redis_cmd('ZADD', used_name('acme'), $later, $ahead->{id},
              1, $behind->{id});
    redis_cmd('CONFIG', 'RESETSTAT');
    accepted('a time ahead', $ahead, $behind);
    written('behind', $behind, 2);
    ok(wait_until(10, sub { zadds() >= 2 }), 'a time ahead - two writes');
    is(used($ahead), $later, 'a time ahead - stays');
    ends($nginx, 'a time ahead');
}


# --- off

{
    my $nginx = nginx('off');
    my $key = key('one');

    is(accepted_in_a_row('off', ($key) x 50), 50, 'off - accepted');
    ends($nginx, 'off');
    is(zadds(), 0, 'off - no write');
    nothing_used('off');
}


# --- who is refused has not used a key

{
    my $nginx = nginx('1h');
    my $key = key('good');
    my $other = key('off', 'disabled');
    my %want = (
        '401 missing'            => [undef, '/t'],
        '401 malformed'          => [{ text => "$key->{text}x" }, '/t'],
        '401 unknown'            => [{ text => key_for('nobody') }, '/t'],
        '401 revoked'            => [key('gone', 'acme', active => undef),
                                     '/t'],
        '401 expired'            => [key('late', 'acme',
                                         expires_at => 1700000001000), '/t'],
        '403 insufficient_scope' => [$key, '/need'],
        '403 workspace_mismatch' => [$key, '/other'],
        '403 workspace_disabled' => [$other, '/t'],
    );

    seed_workspace('disabled', active => undef);
    redis_cmd('CONFIG', 'RESETSTAT');

    for my $reason (sort keys %want) {
        my ($who, $path) = @{ $want{$reason} };

        answer_is(http("GET $path", headers => $who
                       ? bearer($who->{text}) : ''), $reason, $reason);
    }

    is(use_key($key, '/dry_need')->{code}, 200,
       'a dry run that finds fault - goes on');
    ends($nginx, 'refused');
    is(zadds(), 0, 'refused - no write');
    nothing_used('refused');

    # In a dry run a key that is good is one that was used.
    $nginx = nginx('1h');
    $key = key('good');
    is(use_key($key, '/dry')->{code}, 200, 'a dry run');
    ends($nginx, 'a dry run');
    written('a dry run', $key);
}


# --- Redis is away meanwhile

{
    my $proxy = proxy();
    my $nginx = nginx('500ms', redis => $ENV{TEST_NGINX_PROXY_PORT},
                      http => 'agntkey_redis_timeout 5s;');
    my @keys = map { key($_) } 1 .. 300;

    accepted('away', $keys[0]);
    written('away', $keys[0]);

    # Those that a slow machine has written already do not count.
    my ($from, $last, @left);

    ok(wait_until(20, sub {
        $from = redis_now();
        accepted_in_a_row('away', @keys);
        $last = redis_now();
        $proxy->refuse;
        @left = grep { used($_) < $from } @keys;
        return 1 if @left;
        $proxy->accept;
        wait_until(10, sub { use_key($keys[0])->{code} eq '200' });
        return 0;
    }), 'away - with uses that are not written');

    ok($nginx->log_wait(qr/is away/), 'away - seen');
    answer_is(use_key($keys[0]), 503, 'away - refused for now');

    $proxy->accept;
    ok($nginx->log_wait(qr/is back/), 'away - and back');
    written('away', $_, $from) for @left;
    cmp_ok((sort { $b <=> $a } map { used($_) } @left)[0], '<=', $last,
           'away - the time is that of the use');
    ok(!$nginx->lines(qr/were not noted/), 'away - none is lost');

    # The write is made and its reply lost: it is repeated, which changes
    # nothing.
    redis_cmd('DEL', used_name('acme'));
    redis_cmd('CONFIG', 'RESETSTAT');

    # As long as the write is to come after it.
    ok(wait_until(20, sub {
        redis_cmd('CONFIG', 'RESETSTAT');
        use_key($keys[0]);
        $proxy->pause('down');
        return 1 if zadds() == 0;
        $proxy->resume;
        return 0;
    }), 'a lost reply - to a write that is still to come');
    ok(wait_until(10, sub { zadds() == 1 }), 'a lost reply - written');

    my $at = used($keys[0]);

    $proxy->cut;
    $proxy->resume;
    ok(wait_until(10, sub { zadds() == 2 }), 'a lost reply - and again');
    is(used($keys[0]), $at, 'a lost reply - the same');

    # A use while the write of the one before is under way.
    wait_until(10, sub { use_key($keys[0])->{code} eq '200' });
    redis_cmd('CONFIG', 'RESETSTAT');
    $proxy->pause('down');

    my $waiting = http_start('GET /t', headers => bearer($keys[0]{text}));

    ok(wait_until(10, sub { zadds() == 1 }), 'under way - a write');
    $from = redis_now();
    $proxy->resume;
    is($waiting->response(10)->{code}, 200, 'under way - a use');
    written('under way', $keys[0], $from);

    ends($nginx, 'away');
    $proxy->stop;
}


# --- Redis does not take it

{
    my $nginx = nginx('20ms');
    my $key = key('one');
    my $other = key('two', 'beta');

    redis_cmd('SET', used_name('acme'), 'no sorted set');
    accepted('not taken', $key, $other);
    written('not taken, another workspace', $other);
    ok(wait_until(10, sub { zadds() > 5 }), 'not taken - tried again');

    for (1 .. 5) {
        my $from = redis_now();

        accepted('not taken', $key, $other);
        written('not taken, another workspace', $other, $from);
    }

    my $line = qr/answered ZADD agntkey:used: with: WRONGTYPE/;

    is(scalar $nginx->lines($line), 1, 'not taken - one line in the log');

    redis_cmd('DEL', used_name('acme'));
    written('not taken', $key);

    # What has gone right and then wrong again is news.
    redis_cmd('DEL', used_name('acme'));
    redis_cmd('SET', used_name('acme'), 'no sorted set');
    accepted('not taken again', $key);
    ok($nginx->log_wait($line, 2), 'not taken again - another line');
    redis_cmd('DEL', used_name('acme'));
    written('not taken again', $key);
    is(redis_cmd('HGET', 'agntkey:key:{' . substr($key->{id}, 0, 4) . '}'
                         . substr($key->{id}, 4), 'active'), 1,
       'not taken - the key itself is as it was');
    ends($nginx, 'not taken');
}


# --- more keys than can wait

{
    my $nginx = nginx('300ms');
    my @keys = map { key($_) } 1 .. $bound + 104;

    # As long as Redis does not take them, they wait.
    redis_cmd('SET', used_name('acme'), 'no sorted set');

    is(accepted_in_a_row('too many', @keys), scalar @keys,
       'too many - all are accepted');
    is(scalar $nginx->lines(qr/were not noted/), 0,
       'too many - nothing to say yet');

    redis_cmd('DEL', used_name('acme'));
    ok($nginx->log_wait(qr/\[warn\].*agntkey: 104 uses of keys were not noted/),
       'too many - those that were missed are counted')
        or diag($nginx->lines(qr/agntkey/));
    ok(wait_until(10, sub {
        redis_cmd('ZCARD', used_name('acme')) == $bound
    }), 'too many - the others are written')
        or diag(redis_cmd('ZCARD', used_name('acme')));

    # There is room again.
    my @missed = grep { !used($_) } @keys;

    is(scalar @missed, 104, 'too many - none but those are missing');
    is(accepted_in_a_row('room again', @missed), 104, 'room again');
    written('room again', $_) for @missed[0, 103];
    ok(wait_until(10, sub {
        redis_cmd('ZCARD', used_name('acme')) == @keys
    }), 'room again - all are there');
    is(scalar $nginx->lines(qr/were not noted/), 1,
       'room again - nothing more to say');
    ends($nginx, 'too many');
}


# --- a worker that ends

for my $interval ('3s', '1h') {
    my $nginx = nginx($interval);
    my ($key, $other) = (key('one'), key('two', 'beta'));

    accepted("$interval, reload", $key, $other);
    ok($nginx->reload, "$interval, reload");
    ok($nginx->settled, "$interval, reload - the old worker has left");
    cmp_ok(used($_), '>', 0, "$interval, reload - written")
        for $key, $other;

    my $from = redis_now();

    accepted("$interval, quit", $key);
    ends($nginx, "$interval, quit");
    cmp_ok(used($key), '>=', $from, "$interval, quit - written");
}


# One with a request under way, which is accepted at the very end.

for my $interval ('3s', '1h') {
    my $proxy = proxy();
    my $nginx = nginx($interval, redis => $ENV{TEST_NGINX_PROXY_PORT},
                      http => 'agntkey_redis_timeout 10s;');
    my ($key, $last) = (key('one'), key('last'));
    my $title = "$interval, a request under way";

    accepted($title, $key);
    redis_cmd('CONFIG', 'RESETSTAT');
    $proxy->pause('down');

    my $waiting = http_start('GET /t', headers => bearer($last->{text}));

    ok(wait_until(10, sub { redis_commands_count() > 0 }),
       "$title - asked");
    $nginx->signal('QUIT');
    ok($nginx->log_wait(qr/gracefully shutting down/), "$title - told");
    $proxy->resume;
    is($waiting->response(10)->{code}, 200, "$title - accepted");
    ok(wait_until(10, sub { $nginx->gone }), "$title - gone");
    cmp_ok(used($_), '>', 0, "$title - written") for $key, $last;
    $nginx->stop;
    $proxy->stop;
}


# One that cannot write does not stay for it.

for my $interval ('3s', '1h') {
    my $proxy = proxy();
    my $nginx = nginx($interval, redis => $ENV{TEST_NGINX_PROXY_PORT});
    my $key = key('one');
    my $title = "$interval, Redis away";

    accepted($title, $key);
    $proxy->refuse;
    answer_is(use_key($key), 503, $title);
    ok($nginx->log_wait(qr/is away/), "$title - seen");

    my $took = $nginx->quit;

    ok(defined $took && $took < 10, "$title - quit") or diag($took // 'no');
    ok(!$nginx->lines(qr/open socket|\[(?:alert|emerg)\]/),
       "$title - nothing in the log");
    $proxy->stop;
}


# --- a record that was deleted

{
    my $nginx = nginx('1h');
    my ($key, $other) = (key('one'), key('two'));
    my $name = sub { 'agntkey:key:{' . substr($_[0]{id}, 0, 4) . '}'
                     . substr $_[0]{id}, 4 };

    accepted('deleted', $key, $other);
    redis_cmd('DEL', $name->($key), 'agntkey:workspaces');
    redis_cmd('DEL', map { tagged($_) } qw(index workspace));
    ends($nginx, 'deleted');
    is(join(' ', sort grep { $_ ne 'agntkey:registry' }
                      @{ redis_cmd('KEYS', '*') }),
       join(' ', sort $name->($other), used_name('acme')),
       'deleted - nothing is brought back');
    is(join(' ', sort @{ redis_cmd('HKEYS', $name->($other)) }),
       'active created_at digest name scopes workspace',
       'deleted - and to others nothing is added');
}

sub tagged { return "agntkey:$_[0]:{" . workspace_tag('acme') . '}acme' }


# --- a key that is remembered

{
    my $nginx = nginx('50ms', cache => 'entries=100');
    my $key = key('one');
    my $res;

    ok(wait_until(20, sub {
        $res = use_key($key);
        return ($res->{headers}{'x-cache'} // '') eq 'HIT';
    }), 'remembered - a hit') or diag($res->{raw});

    my $from = redis_now();

    $res = use_key($key);
    is($res->{headers}{'x-cache'}, 'HIT', 'remembered - another hit');
    written('remembered', $key, $from);
    ends($nginx, 'remembered');
}


# --- several workers

for my $n (1, 2, 4) {
    my $nginx = nginx('1h', workers => $n);
    my $key = key('one');
    my %pids;

    ok(wait_until(20, sub {
        my $res = use_key($key);

        $pids{ $res->{headers}{'x-pid'} // '' }++ if $res->{code} eq '200';
        return keys %pids == $n;
    }), "workers $n - each lets the key in");

    my $from = redis_now();

    accepted("workers $n", $key);
    ends($nginx, "workers $n");
    is(zadds(), $n, "workers $n - one write each");
    cmp_ok(used($key), '>=', $from, "workers $n - the last use counts");
}

for my $n (2, 4) {
    my $nginx = nginx('50ms', workers => $n);
    my @keys = map { key($_, "w$_") } 1 .. 20;
    my $started = time;
    my $last;

    for (1 .. 10) {
        $last = redis_now();
        accepted_in_a_row("workers $n", @keys);
    }

    written("workers $n", $_, $last) for @keys;
    cmp_ok(zadds(), '<=', 20 * $n * (1 + int((time - $started) / 0.05)),
           "workers $n - a write for each key, worker and interval");
    ends($nginx, "workers $n");
}

logs_clean();
done_testing();
