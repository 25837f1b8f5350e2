# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The admin API when Redis or the client fails it: what may have been done is
# called unknown, what was not done is not done, nothing is done twice, and
# repeating a call is safe.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use JSON::PP ();
use Test::Nginx::Socket 'no_plan';

worker_connections(2048);

$ENV{TEST_NGINX_EACH_PORT} = free_port();

# ", two workers:" in the name of a block: so many.
my %number = (one => 1, two => 2, four => 4);

add_block_preprocessor(sub {
    my ($block) = @_;

    my ($many) = $block->name =~ /, (\w+) workers?:/;

    workers($many ? $number{$many} : 1);
    $many ? master_on() : master_off();
    redis_start();
    redis_empty();
    seed_key('one');
});

my $utf8 = JSON::PP->new->utf8->canonical;

our $redis = <<'_EOC_';
agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
agntkey_last_used off;
_EOC_

our $proxied = <<'_EOC_';
agntkey_redis redis://127.0.0.1:$TEST_NGINX_PROXY_PORT; agntkey_cache off;
agntkey_last_used off;
_EOC_

our $fake = <<'_EOC_';
agntkey_redis redis://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_cache off;
agntkey_last_used off;
_EOC_

# The reply may take as long as the suite needs to look into Redis.
our $patient = $proxied . "agntkey_redis_timeout 3s;\n";

our $config = <<'_EOC_';
location /agntkey/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
}
location /t {
    agntkey on;
    add_header X-Pid $pid;
    empty_gif;
}
location /open {
    add_header X-Pid $pid;
    empty_gif;
}
location /status { stub_status; }
_EOC_


# The system spreads the connections to this port over the workers.
our $each = "listen 127.0.0.1:\$TEST_NGINX_EACH_PORT reuseport;\n$config";


# --- asking the API

sub api_start {
    my ($call, $body, %opt) = @_;
    my ($method, $path) = split / /, $call, 2;
    my @headers = @{ delete $opt{headers} // [] };

    push @headers, 'Content-Type: application/json' if defined $body;
    $body = $utf8->encode($body) if ref $body;

    return http_start("$method /agntkey/$path", headers => \@headers,
                      body => $body, %opt);
}


# The answer, with its body as "json" and what there is to compare as "is":
# "201", "503 store_unknown".

sub answer_of {
    my ($client, $seconds) = @_;
    my $res = $client->response($seconds);
    my $json = eval { $utf8->decode($res->{body}) };

    $res->{json} = ref $json eq 'HASH' ? $json : {};
    $res->{is} = join ' ', $res->{code}, $res->{json}{code} // ();

    if (my $key = $res->{json}{key}) {
        $Agntkey::Key::made{$_} = 1 for $key, key_secret($key);
    }

    return $res;
}


sub api { return answer_of(api_start(@_)) }

sub new_key { return { workspace => 'acme', name => 'Nightly report', @_ } }

# What has failed before may still be mended: a connection of its own carries
# what administrators do.

sub create {
    my @args = @_;
    my $res;

    wait_until(10, sub {
        $res = api('POST keys', new_key(@args));
        return $res->{is} eq '201';
    }) or die "no key:\n$res->{raw}";

    return $res->{json};
}

sub is_answer {
    my ($res, $want, $title) = @_;
    my @wrong = $res->{is} ne $want ? "\"$res->{is}\", not \"$want\"" : ();

    push @wrong, 'no Retry-After'
        if $res->{code} eq '503' && ($res->{headers}{'retry-after'} // '')
                                    !~ /^[1-9]\d*$/;
    push @wrong, 'not problem+json'
        if $res->{code} =~ /^[45]/ && ($res->{headers}{'content-type'} // '')
                                      ne 'application/problem+json';

    is_true(!@wrong, $title, join "\n", @wrong, $res->{raw});
}

sub works {
    my ($key, $want, $title) = @_;

    answer_is(http('GET /t', headers => bearer($key)), $want, $title);
}


# --- what is in Redis

sub everything {
    my @all;

    for my $key (sort @{ redis_cmd('KEYS', '*') }) {
        my $type = redis_cmd('TYPE', $key);
        my $value = $type eq 'hash' ? { @{ redis_cmd('HGETALL', $key) } }
                    : $type eq 'zset'
                      ? redis_cmd('ZRANGE', $key, 0, -1, 'WITHSCORES')
                    : $type eq 'set'
                      ? [sort @{ redis_cmd('SMEMBERS', $key) }]
                    : $type eq 'stream' ? redis_cmd('XRANGE', $key, '-', '+')
                    : redis_cmd('GET', $key);
        push @all, [$key, $value];
    }

    return $utf8->encode(\@all);
}

sub audit {
    my ($action) = @_;
    my $stream = 'agntkey:audit:{' . workspace_tag('acme') . '}acme';
    my @entries = map { +{ @{ $_->[1] } } }
                  @{ redis_cmd('XRANGE', $stream, '-', '+') };

    return grep { $_->{action} eq $action } @entries;
}

sub index_of {
    my ($workspace) = @_;
    my $tag = workspace_tag($workspace);

    return @{ redis_cmd('ZRANGE', "agntkey:index:{$tag}$workspace", 0, -1) };
}

sub record_of {
    my ($id) = @_;
    return 'agntkey:key:{' . substr($id, 0, 4) . '}' . substr $id, 4;
}

# How many scripts of the module Redis has run.
sub scripts_run { return redis_commands_count('eval') }


# Lost in the middle: the call is sent, Redis has executed it ($done), and
# the reply stays in the proxy, which then cuts the connection.

sub lose_reply {
    my ($call, $body, %opt) = @_;

    # nginx may still be greeting Redis, by either connection
    works(key_for('one'), 200, "$call - before: 200");
    is_answer(api('GET workspaces'), '200', "$call - before: 200");

    my $run = scripts_run();

    # A change asks for the time first.
    $::proxy->pause_after('down', 'EVAL');

    my $client = api_start($call, $body, %opt);

    is_true(wait_until(5, sub { scripts_run() > $run }),
            "$call - Redis has done it");
    $::proxy->cut;
    $::proxy->resume;

    my $res = answer_of($client);

    is_answer($res, '503 store_unknown', "$call - 503, unknown");

    # Time enough for a second try, if there were one.
    is_true(wait_until(5, sub { http('GET /t',
                headers => bearer(key_for('one')))->{code} eq '200' }),
            "$call - connected anew");
    count_is(scripts_run() - $run, 1, "$call - sent once");
    return $res;
}


sub workers_by_pid {
    my ($n) = @_;
    my %clients;

    wait_until(10, sub {
        my $client = http_start('GET /open',
                                port => $ENV{TEST_NGINX_EACH_PORT},
                                headers => 'Connection: keep-alive');
        my $pid = $client->response->{headers}{'x-pid'} // 'none';

        return 0 if $clients{$pid};
        $clients{$pid} = $client;

        return keys %clients >= $n;
    });

    return \%clients;
}


# What each worker answers to a request with the key: "200 200".

sub on_each {
    my ($clients, $key) = @_;

    return join ' ', map {
        $clients->{$_}->write("GET /t HTTP/1.1\r\nHost: localhost\r\n"
                              . bearer($key) . "\r\n\r\n");
        my $res = $clients->{$_}->response;

        # $pid is only in answers that are no refusals
        $res->{code} eq '200' && $res->{headers}{'x-pid'} ne $_
            ? 'another worker' : $res->{code};
    } sort keys %$clients;
}

sub try_workers {
    my ($n) = @_;
    my $clients = workers_by_pid($n);
    my $yes = join ' ', (200) x $n;
    my $no = join ' ', (401) x $n;
    my (@created, @rotated, @revoked);

    count_is(scalar keys %$clients, $n, 'a connection to each worker');

    for (1 .. 20) {
        my $key = create();
        push @created, on_each($clients, $key->{key});

        my $next = api("POST keys/$key->{id}/rotate",
                       { overlap_seconds => 0 })->{json};
        push @rotated, on_each($clients, $next->{key} // 'none');
        push @revoked, on_each($clients, $key->{key});

        api("POST keys/$next->{id}/revoke");
        push @revoked, on_each($clients, $next->{key} // 'none');
    }

    for (['created: works at once on each', $yes, @created],
         ['rotated: the new one works at once on each', $yes, @rotated],
         ['revoked or expired: refused at once on each', $no, @revoked])
    {
        my ($title, $want, @got) = @$_;
        is_true(!(grep { $_ ne $want } @got), $title, "@got");
    }

    my $key = create();

    api('PUT workspaces/acme', { status => 'disabled' });
    my $disabled = on_each($clients, $key->{key}) =~ s/40[13]/no/gr;
    is_true($disabled eq join(' ', ('no') x $n),
            'a disabled workspace: refused at once on each', $disabled);

    api('PUT workspaces/acme', { status => 'active' });
    is_true(on_each($clients, $key->{key}) eq $yes,
            'active again: works at once on each');
}


# --- replies that are none

our @errors = map { "-$_\r\n" } (
    'ERR', 'ERR no', 'LOADING Redis is loading the dataset in memory',
    "READONLY You can't write against a read only replica.",
    'MISCONF Redis is configured to save RDB snapshots, but cannot.',
    'MASTERDOWN Link with MASTER is down', 'NOAUTH Authentication required.',
    "NOPERM this user has no permissions to run the 'eval' command",
    'OOM command not allowed when used memory > maxmemory.',
    'BUSY Redis is busy running a script. Wait.', 'MOVED 1 127.0.0.1:1',
    'CLUSTERDOWN Hash slot not served', 'NOREPLICAS Not enough good replicas',
    'WRONGTYPE Operation against a key', 'NOSCRIPT No matching script.',
    "ERR unknown command 'EVAL'", 'x' x 5000, "\xff\xfe\"\\",
);

# Of a script that may have begun.
our @script_errors = map { "-$_ script: 0123456789abcdef, on @"
                           . "user_script:1.\r\n" } (
    'WRONGTYPE Operation against a key holding the wrong kind of value',
    'ERR user_script:1: attempt to compare nil with number',
    'ERR Error running', "ERR This Redis command can't be run",
);

# Stopped before its first write.
our @early_errors = map { "-$_ script: 0123456789abcdef, on @"
                          . "user_script:1.\r\n" } (
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    'MISCONF Redis is configured to save RDB snapshots, but cannot.',
    'NOREPLICAS Not enough good replicas to write.',
);

sub bulk { return Agntkey::FakeStore::bulk(@_) }
sub array { return Agntkey::FakeStore::array(@_) }

our $row = array(bulk('0' x 64), bulk(1), bulk('acme'), bulk('a name'),
                 bulk(''), bulk(1700000000000), bulk(undef), bulk(undef),
                 bulk(undef));

sub odd_row { return $row =~ s/\Q$_[0]/$_[1]/r }

our @odd = (
    ":1\r\n", ":-1\r\n", ":9223372036854775807\r\n", "+OK\r\n", "+\r\n",
    bulk(''), bulk('ok'), bulk("\0" x 12), "*0\r\n", "*-1\r\n",
    array(bulk(undef)), array("*0\r\n"), array(":1\r\n", ":2\r\n", ":3\r\n"),
    array(bulk('ok')), array(bulk('ok'), bulk(undef)),
    array(bulk('ok'), ":1\r\n"), array(bulk('ok'), "*0\r\n"),
    array(bulk('ok'), bulk('x')), array(bulk('ok'), $row, $row),
    array(bulk('repeat')), array(bulk('repeat'), bulk(undef)),
    array(bulk('repeat'), bulk("\xff\xfe")), array(bulk('repeat'), $row),
    array(bulk('repeat'), bulk('x' x 100000)), array(bulk('who knows')),
    array(bulk("ok\0"), $row), array("-ERR inside\r\n"),
    array(bulk('ok'), "-ERR inside\r\n"),
    array((bulk('')) x 8), array((bulk('')) x 9), array((bulk('')) x 10),
    array((bulk(undef)) x 9), array((":1\r\n") x 9), array(("*0\r\n") x 9),
    (map { $_, array(bulk('ok'), $_), array(bulk(''), bulk(''),
                                            array(bulk('0' x 12), $_)) }
        odd_row(bulk('0' x 64), bulk('0' x 63)),
        odd_row(bulk('a name'), bulk("\xff\xfe")),
        odd_row(bulk('a name'), bulk("\xed\xa0\x80")),
        odd_row(bulk('a name'), bulk("a\0b")),
        odd_row(bulk('a name'), bulk('x' x 60000)),
        odd_row(bulk('a name'), ":1\r\n"),
        odd_row(bulk('a name'), bulk(undef)),
        odd_row(bulk('acme'), bulk('{x}')),
        odd_row(bulk('acme'), bulk('../..')),
        odd_row(bulk(1700000000000), bulk('x')),
        odd_row(bulk(1700000000000), bulk('-1')),
        odd_row(bulk(1700000000000), bulk('999999999999999')),
        odd_row(bulk(1700000000000), bulk('9' x 40))),
    array(bulk(''), bulk(''), ":1\r\n"), array(bulk(''), bulk('')),
    array(bulk(''), bulk(''), array(bulk('x'))),
    array(bulk(''), bulk(''), array(bulk('x'), $row)),
    array(bulk(''), bulk(''), array(bulk("\xff" x 12), $row)),
    array(bulk(''), bulk(''), array($row, bulk('x'))),
    array(bulk(''), bulk(''), array(bulk('0' x 12), array($row))),
    array(bulk("\xff" x 12), bulk('1'), "*0\r\n"),
    array(bulk('x' x 13), bulk('1'), "*0\r\n"),
    array(bulk('x' x 12), bulk('1' x 21), "*0\r\n"),
    array(bulk('x' x 12), bulk(undef), "*0\r\n"),
    array(bulk('x' x 12), ":1\r\n", "*0\r\n"),
    array(bulk(1), bulk(1), bulk(1)), array(bulk(1), bulk(1)),
    array(bulk(1), bulk('x'), ":-5\r\n"), array(":1\r\n", ":1\r\n", ":1\r\n"),
    array((bulk('acme')) x 16000), array(("*0\r\n") x 101),
    array((bulk("\xff")) x 101), array((bulk('acme')) x 101),
);

# The calls, and the command of each that has the odd reply.
my $id = workspace_tag('acme') . '00000000';

our @calls = (
    ['POST keys', new_key(), qr/^EVAL /],
    ['POST keys', new_key(), qr/^ZADD /],
    ["GET keys?workspace=acme", undef, qr/^EVAL /],
    ["GET keys/$id", undef, qr/^EVAL /],
    ["PATCH keys/$id", { name => 'x y' }, qr/^EVAL /],
    ["POST keys/$id/revoke", undef, qr/^EVAL /],
    ["POST keys/$id/rotate", undef, qr/^EVAL /],
    ['PUT workspaces/acme', { status => 'active' }, qr/^EVAL /],
    ['GET workspaces', undef, qr/^ZRANGEBYLEX /],
    ['GET workspaces', undef, qr/^HMGET /],
    ['GET workspaces/acme', undef, qr/^HMGET /],
    ['GET workspaces/acme', undef, qr/^ZCARD /],
);

# Replies in turn to the commands that match; good ones to the others.

sub fake_replies {
    my ($match, @replies) = @_;
    my $n = 0;

    fake_redis(
        keys  => ['one'],
        rules => [
            { match => $match,
              do => sub { return { reply => $replies[$n++ % @replies] } } },
            { match => qr/^EVAL /, do => array(bulk('ok'), $row) },
            { match => qr/^ZRANGEBYLEX /, do => array(bulk('acme')) },
        ],
    );
}


# Each of the replies to each of the calls: what the answers are, as a hash
# of their counts, and whether all are complete.

sub answers_to {
    my ($call, @replies) = @_;
    my ($text, $body, $match) = @$call;
    my (%codes, @bad);

    fake_replies($match, @replies);
    wait_until(5, sub { http('GET /t',
                        headers => bearer(key_for('one')))->{code} eq '200' });

    for my $reply (@replies) {
        my $res = api($text, $body);
        my $shown = substr $reply =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger,
                           0, 60;

        $codes{ $res->{is} }++;
        push @bad, "$shown: $res->{raw}"
            if $res->{code} eq '' || $res->{timeout}
               || ($res->{code} =~ /^[45]/
                   ? ($res->{headers}{'content-type'} // '')
                     ne 'application/problem+json'
                   : ref $res->{json} ne 'HASH' || !%{ $res->{json} });
    }

    return (\%codes, @bad);
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== TEST 1: the reply to a create is lost: unknown, complete, once
--- http_config eval: $::patient
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
main::lose_reply('POST keys', main::new_key());

my ($id) = grep { $_ ne key_id(key_for('one')) } main::index_of('acme');
my %record = @{ redis_cmd('HGETALL', main::record_of($id // 'none')) };
my ($entry) = main::audit('created');

is_true(($record{active} // '') eq '1' && ($record{name} // '') eq
        'Nightly report' && $record{created_at} && $record{digest},
        'the record is complete');
is_true(($entry->{id} // '') eq $id, 'and in the audit stream');
count_is(scalar main::index_of('acme'), 2, 'one key more');

my $res = main::api('GET keys?workspace=acme');
is_true($res->{json}{data}[0]{id} eq $id, 'the list shows it', $res->{raw});
main::is_answer(main::api("POST keys/$id/revoke"), '200', 'it can be revoked');
$::proxy->stop;
--- request
GET /open



=== TEST 2: the same, with an Idempotency-Key: a repeat makes no second one
--- http_config eval: $::patient
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
my @headers = (headers => ['Idempotency-Key: nightly-1']);

main::lose_reply('POST keys', main::new_key(), @headers);

my ($id) = grep { $_ ne key_id(key_for('one')) } main::index_of('acme');

for my $n (1 .. 3) {
    my $res = main::api('POST keys', main::new_key(), @headers);

    main::is_answer($res, '409 idempotency_conflict', "repeat $n: 409");
    is_true(($res->{json}{id} // '') eq $id, 'with the id', $res->{raw});
}

count_is(scalar main::index_of('acme'), 2, 'one key more');
count_is(scalar main::audit('created'), 1, 'one entry');
$::proxy->stop;
--- request
GET /open



=== TEST 3: the reply to a revoke is lost: refused, and a repeat says 200
--- http_config eval: $::patient
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
my $key = main::create();

main::works($key->{key}, 200, 'before: 200');
main::lose_reply("POST keys/$key->{id}/revoke");
main::works($key->{key}, 401, 'the key is refused');

my @times = map {
    my $res = main::api("POST keys/$key->{id}/revoke");
    main::is_answer($res, '200', "repeat $_: 200");
    $res->{json}{revoked_at} // 'none';
} 1, 2;

is_true($times[0] eq $times[1] && $times[0] ne 'none', 'of the same time',
        "@times");
count_is(scalar main::audit('revoked'), 1, 'one entry');
$::proxy->stop;
--- request
GET /open



=== TEST 4: the reply to a rotate is lost: both keys are as they should be
--- http_config eval: $::patient
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
my $key = main::create();
my $now = time;

main::lose_reply("POST keys/$key->{id}/rotate", { overlap_seconds => 600 });

my $old = redis_cmd('HGET', main::record_of($key->{id}), 'expires_at') // 0;
my ($new) = map { $_->{new} } main::audit('rotated');

is_true(abs($old / 1000 - $now - 600) < 30, 'the old one ends with the overlap',
        $old);
is_true(redis_cmd('HGET', main::record_of($new // 'none'), 'active'),
        'the new one is there');
main::works($key->{key}, 200, 'the old one works for now');

my $res = main::api("POST keys/$key->{id}/rotate", { overlap_seconds => 900 });
main::is_answer($res, '201', 'again: 201');
main::works($res->{json}{key}, 200, 'with a key that works');
count_is(redis_cmd('HGET', main::record_of($key->{id}), 'expires_at'), $old,
         'the old one is not prolonged');
$::proxy->stop;
--- request
GET /open



=== TEST 5: the reply to other changes is lost: done once, and can be repeated
--- http_config eval: $::patient
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
my $key = main::create();
my @change = ("PATCH keys/$key->{id}",
              { name => 'Hourly report', scopes => ['a:b'] });
my @disable = ('PUT workspaces/acme', { status => 'disabled' });

main::lose_reply(@change);

my $res = main::api("GET keys/$key->{id}");
is_true("$res->{json}{name} @{ $res->{json}{scopes} }" eq 'Hourly report a:b',
        'a key: changed as a whole', $res->{raw});
main::is_answer(main::api(@change), '200', 'again: 200');

# The location that tells when nginx has connected anew is of that workspace.
my $run = main::scripts_run();
$::proxy->pause_after('down', 'EVAL');
my $client = main::api_start(@disable);
is_true(wait_until(5, sub { main::scripts_run() > $run }), 'disabled');
$::proxy->cut;
$::proxy->resume;
main::is_answer(main::answer_of($client), '503 store_unknown',
                'a workspace: unknown');
is_true(wait_until(5, sub { ($res = main::api(@disable))->{is} eq '200' }),
        'again: 200', $res->{raw});
is_true($res->{json}{status} eq 'disabled', 'disabled', $res->{raw});
count_is(scalar(grep { defined $_->{workspace} } main::audit('changed')), 1,
         'one entry of the workspace');
$::proxy->stop;
--- request
GET /open



=== TEST 6: the reply to a read is lost: not called unknown
--- http_config eval: $::patient
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
my $id = key_id(key_for('one'));

main::works(key_for('one'), 200, 'before: 200');
main::is_answer(main::api('GET workspaces'), '200', 'before: 200');

for my $call ("GET keys/$id", 'GET keys?workspace=acme', 'GET workspaces',
              'GET workspaces/acme', "HEAD keys/$id")
{
    my $n = redis_commands_count(qw(eval zrangebylex hmget));

    $::proxy->pause('down');
    my $client = main::api_start($call);
    is_true(wait_until(5, sub {
        redis_commands_count(qw(eval zrangebylex hmget)) > $n }), $call);
    $::proxy->cut;
    $::proxy->resume;

    my $res = main::answer_of($client);
    is_true($res->{is} eq ($call =~ /^HEAD/ ? '503'
                                            : '503 store_unavailable'),
            "$call - 503", $res->{raw});
    is_true(wait_until(5, sub {
        main::api("GET keys/$id")->{is} eq '200' }), "$call - connected anew");
}
$::proxy->stop;
--- request
GET /open



=== TEST 7: the commands are lost: unknown, nothing done, never sent again
--- http_config eval: $::proxied
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
my $key = main::create();
my $before = main::everything();
my $run = main::scripts_run();

for (['POST keys', main::new_key()], ["POST keys/$key->{id}/revoke"],
     ["POST keys/$key->{id}/rotate"],
     ["PATCH keys/$key->{id}", { name => 'Hourly report' }],
     ['PUT workspaces/acme', { status => 'disabled' }])
{
    my @call = @$_;

    main::works($key->{key}, 200, "$call[0] - before: 200");
    is_true(wait_until(5, sub { main::api('GET workspaces')->{is} eq '200' }),
            "$call[0] - before: 200");
    $::proxy->pause_after('up', 'EVAL');

    my $client = main::api_start(@call);
    answer_is(http('GET /open'), 200, "$call[0] - nginx is not held up");
    answer_is(http('GET /t', headers => bearer($key->{key})), 200,
              "$call[0] - nor is another request");
    main::is_answer(main::answer_of($client), '503 store_unknown',
                    "$call[0] - unknown");

    # What nginx had written goes with its connection.
    $::proxy->cut;
    $::proxy->resume;
    is_true(wait_until(10, sub { http('GET /t',
        headers => bearer($key->{key}))->{code} eq '200' }),
        "$call[0] - back");
}

count_is(main::scripts_run() - $run, 0, 'Redis has run nothing');
is_true(main::everything() eq $before, 'nothing has changed');
$::proxy->stop;
--- request
GET /open



=== TEST 8: Redis hangs: 503 at the timeout, then at once
--- http_config eval: $::redis
--- config eval: $::config
--- init
my $key = main::create();
my $run = main::scripts_run();

redis()->pause;

# It has not even told the time, so that nothing was sent to be done.
my $res = main::api('POST keys', main::new_key());
main::is_answer($res, '503 store_unavailable', 'the first: unavailable');
is_true($res->{time} > 0.4 && $res->{time} < 3, 'at the timeout',
        $res->{time});

for (1 .. 5) {
    $res = main::api("POST keys/$key->{id}/revoke");
    main::is_answer($res, '503 store_unavailable', "then, $_: unavailable");
}

is_true($res->{time} < 0.3, 'at once', $res->{time});

redis()->resume;
is_true(log_wait(qr/is back/), 'it is back');
main::works($key->{key}, 200, 'what was not sent was not done');
is_true(main::scripts_run() == $run, 'and neither was the first');
main::is_answer(main::api("POST keys/$key->{id}/revoke"), '200',
                'again: 200');
main::works($key->{key}, 401, 'and refused');
--- request
GET /open
--- error_log
is away: no reply in time



=== TEST 9: Redis is down: unavailable, for every call, and nothing later
--- http_config eval: $::redis
--- config eval: $::config
--- init
my $key = main::create();

redis_stop('KILL');

for (['POST keys', main::new_key()], ['GET keys?workspace=acme'],
     ["GET keys/$key->{id}"], ["PATCH keys/$key->{id}", { name => 'x y' }],
     ["POST keys/$key->{id}/revoke"], ["POST keys/$key->{id}/rotate"],
     ['GET workspaces'], ['GET workspaces/acme'],
     ['PUT workspaces/acme', { status => 'disabled' }])
{
    my $res = main::api(@$_);

    main::is_answer($res, '503 store_unavailable', "$_->[0] - unavailable");
    is_true($res->{time} < 2, 'soon', $res->{time});
}

main::is_answer(main::api('GET openapi.json'), '200',
                'what needs no Redis: 200');
main::is_answer(main::api('POST keys', '{'), '400 invalid_json',
                'a bad body is a bad body');
is_true(log_lines(qr/\[(?:warn|error|crit)\]/) <= 4, 'no line per call',
        log_lines(qr/./));

redis_start();
is_true(log_wait(qr/is back/), 'it is back');
count_is(main::scripts_run(), 0, 'nothing is done belatedly');
count_is(redis_cmd('DBSIZE'), 0, 'nothing is written belatedly');
main::create();
--- request
GET /open



=== TEST 10: never started: unavailable
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_CLOSED_PORT; agntkey_cache off;
--- config eval: $::config
--- init
for (1 .. 3) {
    main::is_answer(main::api('POST keys', main::new_key()),
                    '503 store_unavailable', "create $_: unavailable");
}
main::is_answer(main::api('GET workspaces'), '503 store_unavailable',
                'a list: unavailable');
--- request
GET /open



=== TEST 11: cut again and again under load: each write is run at most once
--- http_config eval: $::proxied
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy();
--- init
my (%count, @shown, $sent);

for my $round (1 .. 20) {
    my @waiting = map { main::api_start('POST keys', main::new_key()) }
                      1 .. 10;
    select undef, undef, undef, rand 0.01;
    $::proxy->cut;

    for my $client (@waiting) {
        my $res = main::answer_of($client);

        $sent++;
        $count{ $res->{is} }++;
        push @shown, $res->{json}{id} if $res->{is} eq '201';
    }
}

my %index = map { $_ => 1 } main::index_of('acme');
my $made = keys(%index) - 1;
my $known = $count{201} // 0;
my $unknown = $count{'503 store_unknown'} // 0;
my $none = $count{'503 store_unavailable'} // 0;
my $all = join ', ', map { "$_: $count{$_}" } sort keys %count;

count_is($known + $unknown + $none, $sent, 'no other answers', $all);
is_true(!(grep { !$index{$_} } @shown), 'each 201 is there', $all);
is_true($made >= $known && $made <= $known + $unknown,
        "$made keys made, of $known known and $unknown unknown");
count_is(scalar main::audit('created'), $made, 'and as many entries');
$::proxy->stop;
--- request
GET /open



=== TEST 12: a full Redis: no create; lists, revoke and disable work
--- http_config eval: $::redis
--- config eval: $::config
--- init
my @keys = map { main::create() } 1 .. 3;
my ($key, $other, $third) = @keys;
my @no = (
    ['POST keys', main::new_key()],
    ['POST keys', main::new_key(workspace => 'another')],
    ['POST keys', main::new_key(), headers => ['Idempotency-Key: full']],
    ["POST keys/$other->{id}/rotate"],
    ["PATCH keys/$other->{id}", { name => 'Hourly report' }],
);

redis_cmd('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
redis_cmd('CONFIG', 'SET', 'maxmemory', '1mb');

my $before = main::everything();

for my $call (@no) {
    main::is_answer(main::api(@$call), '503 store_unavailable',
                    "$call->[0] - unavailable");
}
is_true(main::everything() eq $before, 'nothing is half done');

main::works($other->{key}, 200, 'keys work');
main::is_answer(main::api($_), '200', "$_ - 200")
    for 'GET keys?workspace=acme', 'GET keys?workspace=acme&status=active',
        "GET keys/$other->{id}", 'GET workspaces', 'GET workspaces/acme';

for my $n (1 .. 3) {
    my $res = main::api("POST keys/$key->{id}/revoke");
    main::is_answer($res, '200', "revoke, $n: 200");
    is_true($res->{json}{status} eq 'revoked' && $res->{json}{revoked_at},
            'revoked', $res->{raw});
}
main::works($key->{key}, 401, 'the revoked one is refused');
count_is(scalar main::audit('revoked'), 1, 'one entry');
main::works($other->{key}, 200, 'the other is not');

main::is_answer(main::api('PUT workspaces/acme', { status => 'disabled' }),
                '200', 'a workspace can be disabled');
is_true(http('GET /t', headers => bearer($other->{key}))->{code} =~ /^4/,
        'and its keys are refused');

redis_cmd('CONFIG', 'SET', 'maxmemory', '0');
main::is_answer(main::api('PUT workspaces/acme', { status => 'active' }),
                '200', 'with room again: active');
main::works($other->{key}, 200, 'keys work');
main::works($key->{key}, 401, 'the revoked one is refused for good');
main::is_answer(main::api('POST keys', main::new_key(),
                          headers => ['Idempotency-Key: full']),
                '201', 'the create that had failed can be repeated');
--- request
GET /open



=== TEST 13: what stands in the way in Redis: nothing is called undone that is done
--- http_config eval: $::redis
--- config eval: $::config
--- init
my $tag = workspace_tag('acme');

for my $name ('workspaces', "index:{$tag}acme", "live:{$tag}acme", "audit:{$tag}acme",
              "used:{$tag}acme", "workspace:{$tag}acme")
{
    redis_empty();
    seed_workspace('acme') if $name !~ /^workspace:/;
    redis_cmd('SET', "agntkey:$name", 'of the wrong type');

    my $res = main::api('POST keys', main::new_key());
    my ($record) = @{ redis_cmd('KEYS', 'agntkey:key:*') };
    my $n = $record ? 1 : 0;

    is_true($res->{is} =~ /^(?:201|503 store_un(?:known|available)|500.*)$/,
            "$name - an answer", $res->{raw});
    count_is($n, $res->{is} eq '201' ? 1 : 0,
             "$name - a key if and only if it was shown", $res->{raw});
}
--- request
GET /open



=== TEST 14: a record that makes no sense hides no other, and can be revoked
--- http_config eval: $::redis
--- config eval: $::config
--- init
my $good = main::create();
my $n = 0;

for my $fields ([expires_at => 'x'], [expires_at => ''], [created_at => 'x'],
                [name => "\xff\xfe"], [digest => 'x'], [scopes => '  '],
                [expires_at => '0x10'], [expires_at => 'nan'])
{
    my $bad = main::create();

    $n++;
    redis_cmd('HSET', main::record_of($bad->{id}), @$fields);

    for my $status ('', '&status=active') {
        my $res = main::api("GET keys?workspace=acme$status");
        my @ids = map { $_->{id} } @{ $res->{json}{data} // [] };

        main::is_answer($res, '200', "$fields->[0]$status - 200");
        is_true((grep { $_ eq $good->{id} } @ids), 'with the others',
                "@ids");
    }

    main::api("POST keys/$bad->{id}/revoke");
    is_true(!redis_cmd('HEXISTS', main::record_of($bad->{id}), 'active'),
            "$fields->[0] - revoked");
    is_true(http('GET /t', headers => bearer($bad->{key}))->{code}
            =~ /^(?:401|503)$/, 'and refused');
}
--- request
GET /open



=== TEST 15: error replies: 503, and unknown only where it is
--- http_config eval: $::fake
--- config eval: $::config
--- init
for my $call (@main::calls) {
    my ($codes, @bad) = main::answers_to($call, @main::errors);
    my $other = join ', ', grep { $_ ne '503 store_unavailable' }
                           sort keys %$codes;

    is_true(!@bad, "$call->[0] - complete answers", @bad);
    # The names of workspaces are beside a script that has answered well.
    is_true($other eq '' || "$call->[2]" =~ /ZADD/,
            "$call->[0] - unavailable", $other);

    next if "$call->[2]" !~ /EVAL/;

    my $writes = $call->[0] !~ /^GET/;

    ($codes) = main::answers_to($call, @main::script_errors);
    is_true(join('', keys %$codes)
            eq ($writes ? '503 store_unknown' : '503 store_unavailable'),
            "$call->[0] - a script that fails", join ', ', keys %$codes);

    ($codes) = main::answers_to($call, @main::early_errors);
    is_true(join('', keys %$codes) eq '503 store_unavailable',
            "$call->[0] - a script that does not begin",
            join ', ', keys %$codes);
}
--- request
GET /open



=== TEST 16: replies of odd shapes: an answer, never a crash
--- http_config eval: $::fake
--- config eval: $::config
--- init
for my $call (@main::calls) {
    my ($codes, @bad) = main::answers_to($call, @main::odd);
    my $all = join ', ', map { "$_: $codes->{$_}" } sort keys %$codes;

    is_true(!@bad, "$call->[0], $call->[2] - complete answers", @bad);
    is_true(!(grep { !/^(?:200|201|404|409|500|503)\b/ } keys %$codes),
            "$call->[0] - no other codes", $all);
}

count_is(scalar log_lines(qr/exited on signal/), 0, 'no worker has crashed');
--- request
GET /open



=== TEST 17: a reply in pieces, or a byte at a time: the same answer
--- http_config eval: $::fake
--- config eval: $::config
--- post_setup_server_root
my ($n, $reply) = (0, main::array(main::bulk('ok'), $main::row));
fake_redis(keys => ['one'],
           rules => [{ match => qr/^EVAL /, do => sub {
    return { reply => $reply, bytewise => 0.0002 } if $n++ % 40 == 0;
    return { reply => $reply, split => $n % length $reply, gap => 0.002 };
} }]);
--- init
my @is = map { main::api('POST keys', main::new_key())->{is} } 1 .. 240;

count_is(scalar(grep { $_ eq '201' } @is), 240, 'all made');
--- request
GET /open
--- no_error_log
[error]



=== TEST 18: replies that never end, or come from nobody: 503, then as before
--- http_config eval
$::fake . 'agntkey_redis_timeout 200ms;'
--- config eval: $::config
--- post_setup_server_root
--- init
my @replies = ("*2\r\n", "\$536870912\r\n", "*16384\r\n", "+no end", '*',
               "*4294967295\r\n", "*99999999999999999999\r\n",
               "\$99999999999999999999\r\n", "HTTP/1.1 400 Bad\r\n\r\n",
               "*1\r\n" x 12 . ":1\r\n", "\0" x 64, "%1\r\n+1\r\n+1\r\n");

for my $reply (@replies) {
    my $shown = substr $reply =~ s/\r\n/ /gr =~ s/\0/0/gr, 0, 30;

    fake_redis(keys => ['one'],
               rules => [{ match => qr/^EVAL /, nth => 1, do =>
                           { reply => $reply } },
                         { match => qr/^EVAL /, do => main::array(
                           main::bulk('ok'), $main::row) }]);
    wait_until(5, sub { http('GET /t',
                        headers => bearer(key_for('one')))->{code} eq '200' });

    main::is_answer(main::api('POST keys', main::new_key()),
                    '503 store_unknown', "$shown - unknown");
    count_is(scalar fake_commands(qr/^EVAL /), 1, 'and sent once');

    my $res;
    is_true(wait_until(5, sub {
        ($res = main::api('POST keys', main::new_key()))->{is} eq '201';
    }), 'then: 201', $res->{raw});
}
--- request
GET /open



=== TEST 19: clients leave while their calls wait
--- http_config eval
$::fake . 'agntkey_redis_timeout 20s;'
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => ['one'],
           rules => [{ match => qr/^(?:EVAL|ZRANGEBYLEX|ZCARD) /, times => 1,
                       do => 'hold' },
                     { match => qr/^EVAL /,
                       do => main::array(main::bulk('ok'), $main::row) },
                     { match => qr/^ZRANGEBYLEX /,
                       do => main::array(main::bulk('acme')) }]);
--- init
my @waiting = map { my $call = $_; map { main::api_start(@$call) } 1 .. 30 }
    ['POST keys', main::new_key()], ['GET workspaces'],
    ['GET workspaces/acme'], ['GET keys?workspace=acme'],
    ['POST keys/' . key_id(key_for('one')) . '/revoke'];

is_true(fake_wait(qr/^(?:TIME|EVAL|ZRANGEBYLEX|ZCARD)/, 150),
        'all commands are under way');
count_is(active_connections(), 150, 'all wait');

my $connections = fake_connections();
my $n = 0;
$_->leave($n++ % 2 ? 'rst' : 'fin') for @waiting;

is_true(wait_until(5, sub { active_connections() == 0 }),
        'they are given up before the replies come',
        active_connections());
is_true(fake_release() > 0, 'the replies come');
main::is_answer(main::api('POST keys', main::new_key()), '201',
                'the next call has its own reply');
count_is(fake_connections(), $connections, 'on the same connection');
--- request
GET /open
--- no_error_log
[error]



=== TEST 20: clients leave inside the body, or with more than they said
--- http_config eval: $::redis
--- config eval: $::config
--- init
my $before = main::everything();
my $head = "POST /agntkey/keys HTTP/1.1\r\nHost: localhost\r\n"
           . "Content-Type: application/json\r\n";

for my $rest ("Content-Length: 100\r\n\r\n", "Content-Length: 100\r\n\r\n{\"n",
              "Transfer-Encoding: chunked\r\n\r\n",
              "Transfer-Encoding: chunked\r\n\r\n4\r\n{\"na",
              "Transfer-Encoding: chunked\r\n\r\n4\r\n{\"na\r\n",
              "Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
{
    for my $how ('rst', 'fin') {
        my @clients = map { http_start('', raw => $head . $rest) } 1 .. 10;

        http('GET /open');
        $_->leave($how) for @clients;
    }
}

is_true(wait_until(5, sub { active_connections() == 0 }), 'all are gone');
is_true(main::everything() eq $before, 'nothing has changed');

my $body = '{"workspace":"acme","name":"Nightly report"}';
my $chunks = join '', map { "1\r\n$_\r\n" } split //, $body;
my $res = main::answer_of(http_start('', raw => $head
    . "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    . "${chunks}0\r\n\r\n"));

main::is_answer($res, '201', 'a body in chunks of a byte: 201');
main::works($res->{json}{key}, 200, 'and the key works');
--- request
GET /open



=== TEST 21: a storm of creates with one name, while requests are answered
--- http_config eval
$::redis . 'agntkey_redis_timeout 10s;'
--- config eval: $::config
--- init
my @waiting = map { main::api_start('POST keys', main::new_key()) } 1 .. 300;
my @others = map { ask('one') } 1 .. 50;
my @made = map { main::answer_of($_, 20) } @waiting;
my ($slowest) = sort { $b <=> $a } map { $_->{time} } @others;

count_is(scalar(grep { $_->{code} eq '200' } @others), 50,
         'requests meanwhile: 200');
is_true($slowest < 1, 'in time', $slowest);
count_is(scalar(grep { $_->{is} eq '201' } @made), 300, 'all are made');

my %ids = map { ($_->{json}{id} // 'none') => 1 } @made;
count_is(scalar keys %ids, 300, 'each with an id of its own');

my ($cursor, $pages, %listed) = ('', 0);

while (defined $cursor && $pages++ < 20) {
    my $res = main::api('GET keys?workspace=acme&limit=100'
                        . ($cursor && "&cursor=$cursor"));

    $listed{ $_->{id} }++ for @{ $res->{json}{data} };
    $cursor = $res->{json}{next_cursor};
}

count_is(scalar(grep { ($listed{$_} // 0) == 1 } keys %ids), 300,
         'each is in the list once');
count_is(scalar(grep { http('GET /t', headers => bearer($_->{json}{key}))
                       ->{code} eq '200' } @made), 300, 'each works');
count_is(scalar main::audit('created'), 300, 'as many entries');
--- request
GET /open
--- no_error_log
[error]



=== TEST 22: a storm of creates with one Idempotency-Key: one is made
--- http_config eval
$::redis . 'agntkey_redis_timeout 10s;'
--- config eval: $::config
--- init
my @waiting = map { main::api_start('POST keys', main::new_key(),
                                    headers => ['Idempotency-Key: storm']) }
                  1 .. 100;
my @answers = map { main::answer_of($_, 20) } @waiting;
my ($made) = grep { $_->{is} eq '201' } @answers;

count_is(scalar(grep { $_->{is} eq '201' } @answers), 1, 'one: 201');
count_is(scalar(grep { $_->{is} eq '409 idempotency_conflict'
                       && $_->{json}{id} eq $made->{json}{id} } @answers), 99,
         'the others: 409 with its id');
count_is(scalar main::index_of('acme'), 2, 'one key more');
--- request
GET /open



=== TEST 23: a storm of revokes and rotates of one key: all agree
--- http_config eval
$::redis . 'agntkey_redis_timeout 10s;'
--- config eval: $::config
--- init
my $key = main::create();
my @waiting = map { main::api_start($_ % 2 ? "POST keys/$key->{id}/revoke"
                                           : "POST keys/$key->{id}/rotate") }
                  1 .. 100;
my @answers = map { main::answer_of($_, 20) } @waiting;
my %times = map { $_->{json}{revoked_at} => 1 }
            grep { $_->{is} eq '200' } @answers;

count_is(scalar(grep { $_->{is} eq '200' } @answers), 50, 'each revoke: 200');
count_is(scalar keys %times, 1, 'of the same time');
count_is(scalar main::audit('revoked'), 1, 'one entry');
is_true(!(grep { $_->{is} !~ /^(?:200|201|409 key_revoked)$/ } @answers),
        'each rotate: 201 or 409');
main::works($key->{key}, 401, 'refused');
--- request
GET /open



=== TEST 24, one worker: created, rotated, revoked, disabled: seen at once
--- http_config eval: $::redis
--- config eval: $::each
--- init
main::try_workers(1);
--- request
GET /open



=== TEST 25, two workers: created, rotated, revoked, disabled: seen at once
--- http_config eval: $::redis
--- config eval: $::each
--- init
main::try_workers(2);
--- request
GET /open



=== TEST 26, four workers: created, rotated, revoked, disabled: seen at once
--- http_config eval: $::redis
--- config eval: $::each
--- init
main::try_workers(4);
--- request
GET /open
