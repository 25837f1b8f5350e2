# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What comes back from Redis is late, cut, doubled, or no answer at all: a
# request has its own answer, a refusal or 503, and never that of another.

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

our $redis = <<'_EOC_';
agntkey_redis redis://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_cache off; agntkey_last_used off;
_EOC_

our $config = <<'_EOC_';
location /t {
    agntkey on;
    add_header X-Key "$agntkey_id $agntkey_workspace $agntkey_name";
    empty_gif;
}
location /open { empty_gif; }
_EOC_


# The answer to a request with the key "label" speaks of that key.

sub own_answer {
    my ($res, $label, $title, %key) = @_;
    my $id = key_id(key_for($label, %key));
    my $workspace = $key{workspace} // 'acme';
    my $want = "$id $workspace name of $label";
    my $got = "$res->{code} " . ($res->{headers}{'x-key'} // '');

    is_true($got eq "200 $want", $title, "got \"$got\", not \"$want\"");
}

sub named { return map { [$_, name => "name of $_"] } @_ }

# Good answers again, whatever has gone before: a connection that was given
# up is replaced after a pause.

sub recovers {
    my ($title) = @_;
    my $res;

    wait_until(5, sub { ($res = ask('one'))->{code} eq '200' });
    own_answer($res, 'one', $title);
}

# fake(replies => [text, ...], on => qr/^HMGET/): the key "bad-N" has the
# reply N, always; the key "one" has a good record.

sub fake_with_replies {
    my ($command, @replies) = @_;
    my $n = @replies;
    my %replies;

    for my $i (0 .. $#replies) {
        my %key = (workspace => "w$i");
        my $id = key_id(key_for("bad-$i", %key));
        my $tag = workspace_tag("w$i");

        my $record = $command eq 'HGET' ? "agntkey:workspace:{$tag}w$i"
                     : "agntkey:key:{$tag}" . substr $id, 4;
        $replies{$record} = $replies[$i];
    }

    fake_redis(
        keys => [named('one'),
                 map { ["bad-$_", workspace => "w$_"] } 0 .. $#replies],
        rules => [{ match => qr/^$command /, do => sub {
            my ($argv, $usual) = @_;
            my $reply = $replies{ $argv->[1] };

            return ref $reply eq 'CODE' ? { reply => $reply->($usual) }
                                        : { reply => $reply // $usual };
        } }],
    );
}

sub ask_bad {
    my ($n) = @_;
    my $key = key_for("bad-$n", workspace => "w$n");

    return http_start('GET /t', headers => bearer($key));
}

sub record_of { return Agntkey::FakeStore::strings(@_) }

sub printable {
    my ($text) = @_;

    $text = substr($text, 0, 40) . '...' if length $text > 43;
    return $text =~ s/\r\n/ /gr =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;
}

# A shape of the reply to HMGET, made from the good one.
sub elements {
    my ($change) = @_;

    return sub {
        my @elements = $_[0] =~ /(\$-1\r\n|\$\d+\r\n[^\r]*\r\n)/g;

        @elements = $change->(@elements);
        return '*' . @elements . "\r\n" . join '', @elements;
    };
}

our @bad_for_all = (
    ":1\r\n", "+OK\r\n", "+1\r\n", "-ERR no\r\n", "-\r\n",
    "\$536870912\r\n", "*4294967295\r\n", "*2147483647\r\n",
    "*9223372036854775807\r\n", "*99999999999999999999\r\n",
    "*-2\r\n", "\$-2\r\n", "\$9223372036854775807\r\n",
    "\$99999999999999999999\r\n", ":99999999999999999999\r\n",
    "\$1\r\n1XX", "\$1\r\n1\n\n",
    "HTTP/1.1 400 Bad Request\r\n\r\n", "\r\n", "\0" x 64, "\xff" x 64,
    "\x15\x03\x03\x00\x02\x02\x28", "_\r\n", "#t\r\n", ",1.0\r\n", "(1\r\n",
    "~1\r\n\$1\r\n1\r\n", ">1\r\n\$1\r\n1\r\n", "%1\r\n+1\r\n+1\r\n",
    "!5\r\nERR x\r\n", "=5\r\ntxt:1\r\n", "*?\r\n", "\$?\r\n;1\r\n1\r\n;0\r\n",
    "*1\r\n" x 12 . ":1\r\n", "*x\r\n", "*\r\n", "\$\r\n", ":\r\n",
    "*1\r\n-ERR inside\r\n",
);

# Those that promise more than ever comes: 503 when the time is over.
our @endless = (
    "\$1048576\r\nabc", "*8\r\n", "*16384\r\n", "*16385\r\n",
    "*8\r\n\$1\r\n1", "+no end", "*", '$',
);

our @bad_records = (
    "\$1\r\n1\r\n", "\$-1\r\n", "*-1\r\n", "*0\r\n", "*1\r\n\$1\r\n1\r\n",
    elements(sub { @_[0 .. 6] }),
    elements(sub { (@_, "\$-1\r\n") }),
    elements(sub { @_[0 .. 5], "*0\r\n", $_[7] }),
    elements(sub { $_[0], "*1\r\n$_[1]", @_[2 .. 7] }),
    elements(sub { $_[0], "+1\r\n", @_[2 .. 7] }),
    elements(sub { $_[0], ":1\r\n", @_[2 .. 7] }),
    elements(sub { $_[0], "-ERR inside\r\n", @_[2 .. 7] }),
    elements(sub { $_[0], "*-1\r\n*1\r\n:1\r\n", @_[2 .. 7] }),
    elements(sub { @_[0 .. 6], "\$1048577\r\n" }),
    elements(sub { ("*8\r\n" . join '', @_) }),
    elements(sub { @_[0 .. 2], "\$2000000\r\n" . 'x' x 2000000 . "\r\n",
                   @_[4 .. 7] }),
    elements(sub { @_[1 .. 7, 0] }),
);

our @bad_workspaces = (
    "*0\r\n", "*1\r\n\$1\r\n1\r\n", "\$2000000\r\n" . '1' x 2000000 . "\r\n",
);

our @endless_workspaces = ("\$1\r\n", "\$1\r\n1", "\$1\r\n1\r");

# Says no, but without a fault: there is no such word.
our @other_words = map { "\$" . length($_) . "\r\n$_\r\n" }
    ('', '0', '2', '01', '11', ' 1', '1 ', '1.0', 'true', 'yes', 'active',
     "1\0", "\0001", "1\n");

watch_logs();
run_tests();
logs_clean();

__DATA__

=== TEST 1: a reply after the timeout: 503, and the next has its own answer
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one', 'two')],
           rules => [{ match => qr/^HMGET/, nth => 1,
                       do => { delay => 0.7 } }]);
--- init
my $res = ask('one');
answer_is($res, 503, 'the late one: 503');
is_true($res->{time} > 0.4 && $res->{time} < 3, 'at the timeout',
        $res->{time});

is_true(log_wait(qr/is back/), 'connected anew');

# Within the time in which the late reply comes, and after.
for my $n (1 .. 50) {
    my $label = $n % 2 ? 'two' : 'one';
    my $res = ask($label);
    next if $res->{code} eq '200' && $n > 1 && $n < 50;
    main::own_answer($res, $label, "request $n has its own answer");
}
--- request
GET /open
--- error_log
is away: no reply in time



=== TEST 2: requests behind one that is late share its fate, and recover
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one', 'two')],
           rules => [{ match => qr/^HMGET/, nth => 1,
                       do => { delay => 0.8 } }]);
--- init
my $first = ask_start('one');
is_true(fake_wait(qr/^HMGET/), 'the first is on its way');

my $second = ask_start('two');

answer_is($first->response, 503, 'the first: 503');
answer_is($second->response, 503, 'the second, behind it: 503');

is_true(log_wait(qr/is back/), 'connected anew');
main::own_answer(ask('two'), 'two', 'then the second has its own answer');
main::own_answer(ask('one'), 'one', 'and the first has its own');
--- request
GET /open



=== TEST 3: a reply that is late, but in time: each has its own
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one', 'two')],
           rules => [{ match => qr/^HMGET/, nth => 1,
                       do => { delay => 0.2 } }]);
--- init
my $first = ask_start('one');
is_true(fake_wait(qr/^HMGET/), 'the first is on its way');
my $second = ask_start('two');

main::own_answer($first->response, 'one', 'the first');
main::own_answer($second->response, 'two', 'the second');
--- request
GET /open
--- no_error_log
[error]



=== TEST 4: a reply that never comes holds up no later request for long
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one', 'two')],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'swallow' }]);
--- init
my $first = ask_start('one');
is_true(fake_wait(qr/^HMGET/), 'the first is on its way');
my $second = ask_start('two');
my @codes = map { $_->response } $first, $second;

# The reply to the second is taken for that to the first: a stranger's
# record, which its digest gives away.
is_true(!(grep { $_->{code} !~ /^(?:401|503)$/ } @codes),
        'neither is let in', map { $_->{raw} } @codes);
main::recovers('then: 200');
--- request
GET /open



=== TEST 5: the connection is reset inside a reply: tried once more, 200
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'reset' },
                     { match => qr/^HGET/, nth => 2, do => 'reset' }]);
--- init
main::own_answer(ask('one'), 'one', 'reset in the record: 200');
main::own_answer(ask('one'), 'one', 'reset in the workspace: 200');
count_is(fake_connections(), 3, 'three connections');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: the connection to Redis .* was lost: read failed/



=== TEST 6: the connection ends before the reply: tried once more, 200
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'close' },
                     { match => qr/^HGET/, nth => 2, do => 'close' }]);
--- init
main::own_answer(ask('one'), 'one', 'closed before the record: 200');
main::own_answer(ask('one'), 'one', 'closed before the workspace: 200');
--- request
GET /open
--- error_log eval
qr/\[error\] .*the connection to Redis .* was lost: closed by the other side/



=== TEST 7: reset each time: 503 after the second try
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^HMGET/, times => 2, do => 'reset' }]);
--- init
answer_is(ask('one'), 503, 'reset twice: 503');
count_is(scalar fake_commands(qr/^HMGET/), 2, 'asked twice, not more');
main::recovers('then: 200');
--- request
GET /open



=== TEST 8: ended each time: 503 after the second try
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^HMGET/, times => 2, do => 'close' }]);
--- init
answer_is(ask('one'), 503, 'closed twice: 503');
count_is(scalar fake_commands(qr/^HMGET/), 2, 'asked twice, not more');
main::recovers('then: 200');
--- request
GET /open



=== TEST 9: a byte at a time: the same answer
--- http_config eval: "$::redis agntkey_redis_timeout 5s;"
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/./, do => { bytewise => 0.0005 } }]);
--- init
main::own_answer(ask('one'), 'one', "request $_") for 1 .. 3;
answer_is(ask('two'), '401 unknown', 'an unknown key');
--- request
GET /open
--- no_error_log
[error]



=== TEST 10: in two pieces, wherever the cut is: the same answer
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
my $n = 0;
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^HM?GET/, do => sub {
               return { split => 1 + $n++ % (length($_[1]) - 1),
                        gap => 0.002 };
           } }]);
--- init
my @wrong = grep { $_ ne '200' } map { ask('one')->{code} } 1 .. 300;

count_is(scalar @wrong, 0, 'three hundred requests: 200', "@wrong");
main::own_answer(ask('one'), 'one', 'and the right record');
count_is(fake_connections(), 1, 'on one connection');
--- request
GET /open
--- no_error_log
[error]



=== TEST 11: the greeting in two pieces, wherever the cut is: 200
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
my $n = 0;
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^(?:PING|CLIENT)/, do => sub {
               return { split => 1 + int($n++ / 2) % (length($_[1]) - 1),
                        gap => 0.002 };
           } }]);
--- init
for my $n (1 .. 8) {
    main::own_answer(ask('one'), 'one', "connection $n");
    fake_close();
    is_true(log_wait(qr/\[info\] .*was lost/, $n), 'noticed');
}
--- request
GET /open
--- no_error_log
[error]



=== TEST 12: several replies in one segment: each has its own
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
my ($n, $kept) = (0, '');
fake_redis(keys => [main::named('one', 'two')],
           rules => [{ match => qr/^HM?GET/, from => 5, times => 4,
                       do => sub {
               $kept .= $_[1];
               return 'swallow' if ++$n < 4;
               return { reply => $kept };
           } }]);
--- init
main::own_answer(ask($_), $_, "$_, alone") for 'one', 'two';

my @waiting = map { ask_start($_) } 'one', 'two';
main::own_answer($waiting[0]->response, 'one', 'the first');
main::own_answer($waiting[1]->response, 'two', 'the second');
count_is(fake_connections(), 1, 'on one connection');
--- request
GET /open
--- no_error_log
[error]



=== TEST 13: a reply that nobody asked for ends the connection, not more
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one'), ['gone', active => undef]]);
--- init
my ($record) = key_records(key_for('gone'), name => 'x');
my ($fields) = values %$record;
my $forged = main::record_of(@{$fields}{qw(digest active workspace name
                                           scopes created_at expires_at
                                           revoked_at)});
my $n = 0;

for my $text ("+OK\r\n", $forged, "$forged\$1\r\n1\r\n", ":1\r\n:1\r\n") {
    main::own_answer(ask('one'), 'one', 'before: 200');
    fake_send($text);
    is_true(log_wait(qr/\[info\] .*was lost: a reply that nobody asked for/,
                     ++$n), 'noticed: ' . main::printable($text));
    answer_is(ask('gone'), '401 revoked', 'it is not taken for an answer');
}

count_is(fake_connections(), 5, 'a new connection each time');
--- request
GET /open
--- no_error_log
[error]



=== TEST 14: a reply ahead of the right one: never 200, and 200 afterwards
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one', 'two')],
           rules => [{ match => qr/^HMGET/, nth => 1,
                       do => { before => "+OK\r\n" } },
                     { match => qr/^HGET/, nth => 2,
                       do => { before => "+OK\r\n" } }]);
--- init
answer_is(ask('one'), 503, 'ahead of the record: 503');
main::own_answer(ask('one'), 'one', 'then: 200');
answer_is(ask('one'), 503, 'ahead of the workspace: 503');
main::own_answer(ask('two'), 'two', 'then: 200');
--- request
GET /open
--- error_log
agntkey: Redis answered HMGET agntkey:key: with: a reply of the wrong shape



=== TEST 15: a reply twice: the second never answers another question
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one', 'two')],
           rules => [{ match => qr/^HMGET/, nth => 1, do => 'duplicate' },
                     { match => qr/^HGET/, nth => 1, do => 'duplicate' },
                     { match => qr/^HMGET/, nth => 3, do => 'duplicate' }]);
--- init
answer_is(ask('one'), 503, 'the record twice: 503');
main::own_answer(ask('one'), 'one', 'the workspace twice: 200');
is_true(log_wait(qr/was lost: a reply that nobody asked for/, 2), 'noticed');
main::own_answer(ask('two'), 'two', 'another: its own');
answer_is(ask('one'), 503, 'the record twice, both asked for: 503');
main::own_answer(ask('two'), 'two', 'another: its own');
--- request
GET /open



=== TEST 16: no record: 503 whatever it is, and 200 for the next good one
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
main::fake_with_replies('HMGET', @::bad_for_all, @::bad_records);
--- init
my @bad = (@::bad_for_all, @::bad_records);

for my $i (0 .. $#bad) {
    my $what = ref $bad[$i] ? "shape $i" : main::printable($bad[$i]);
    my $key = key_for("bad-$i", workspace => "w$i");

    answer_is(http('GET /t', headers => bearer($key)), 503, "503: $what");
    main::recovers("then 200: $what");
}
--- request
GET /open



=== TEST 17: no word for a workspace: 503 whatever it is, then 200
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
main::fake_with_replies('HGET', @::bad_for_all, @::bad_workspaces);
--- init
my @bad = (@::bad_for_all, @::bad_workspaces);

for my $i (0 .. $#bad) {
    my $what = main::printable($bad[$i]);
    my $key = key_for("bad-$i", workspace => "w$i");

    # The first time it is asked for alone, then together with the key.
    for my $time (1, 2) {
        answer_is(http('GET /t', headers => bearer($key)), 503,
                  "503, time $time: $what");
        main::recovers("then 200: $what");
    }
}
--- request
GET /open



=== TEST 18: a reply without an end: 503 at the timeout, then 200
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
main::fake_with_replies('HMGET', @::endless);
--- init
for my $i (0 .. $#::endless) {
    my $what = main::printable($::endless[$i]);
    my $key = key_for("bad-$i", workspace => "w$i");
    my $res = http('GET /t', headers => bearer($key));

    answer_is($res, 503, "503: $what");
    is_true($res->{time} < 3, "in time: $what", $res->{time});
    main::recovers("then 200: $what");
}
--- request
GET /open



=== TEST 19: half a word for a workspace: 503 at the timeout, then 200
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
main::fake_with_replies('HGET', @::endless_workspaces);
--- init
for my $i (0 .. $#::endless_workspaces) {
    my $what = main::printable($::endless_workspaces[$i]);
    my $key = key_for("bad-$i", workspace => "w$i");

    for my $time (1, 2) {
        answer_is(http('GET /t', headers => bearer($key)), 503,
                  "503, time $time: $what");
        main::recovers("then 200: $what");
    }
}
--- request
GET /open



=== TEST 20: a word that is not "1" for a workspace: it is disabled
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
main::fake_with_replies('HGET', @::other_words, "\$-1\r\n");
--- init
my @words = (@::other_words, "\$-1\r\n");

for my $i (0 .. $#words) {
    my $what = main::printable($words[$i]);
    my $key = key_for("bad-$i", workspace => "w$i");

    answer_is(http('GET /t', headers => bearer($key)),
              '403 workspace_disabled', "time $_: $what") for 1, 2;
}
--- request
GET /open
--- no_error_log
[error]



=== TEST 21: a flood without an end of line is cut off
--- http_config eval
$::redis . 'agntkey_redis_timeout 10s;'
--- config eval: $::config
--- post_setup_server_root
main::fake_with_replies('HMGET', '+' . 'x' x 8_000_000);
--- init
my $res = http('GET /t', timeout => 15,
               headers => bearer(key_for('bad-0', workspace => 'w0')));

answer_is($res, 503, 'eight megabytes: 503');
is_true($res->{time} < 9, 'before the timeout', $res->{time});
main::recovers('then: 200');
--- request
GET /open
--- error_log
was lost: reply too long



=== TEST 22: records with something missing or odd: 503, or a refusal
--- http_config eval: $::redis
--- config eval: $::config
--- timeout: 20
--- post_setup_server_root
our @odd = (
    (map { ['401 revoked', active => $_] }
         undef, '', '0', '2', '01', ' 1', '1 ', '11', 'true', 'yes',
         'active', 'revoked', "1\0", "1\n", "\xd9\xa1"),
    (map { ['503', digest => $_] }
         undef, '', 'x' x 64, '0' x 63, '0' x 65, 'F' x 64),
    (map { ['401 unknown', digest => $_] } '0' x 64, 'f' x 64),
    (map { ['503', workspace => $_] }
         undef, '', 'a b', 'x' x 65, '/x', ".x", "acme\0", "acme\r\nX: 1",
         "acm\xc3\xa9", '{acme}'),
    ['403 workspace_disabled', workspace => 'other'],
    (map { ['503', name => $_] }
         undef, '', "a\nb", "a\0b", "\x7f", 'x' x 101, "\xff", "\xc0\x80",
         "\xed\xa0\x80", "\xc2\x85", "\xf4\x90\x80\x80", "\xc3"),
    (map { ['503', scopes => $_] }
         'a  b', 'a,b', ' a', 'a ', ' ', "a\tb", "a\0", 'x' x 65,
         join(' ', map { "s$_" } 1 .. 33)),
    (map { ['200', scopes => $_] }
         undef, '', 'a', join(' ', map { "s$_" } 1 .. 32)),
    (map { ['503', created_at => $_] }
         undef, '', 'x', '-1', '1.5', ' 1', '1 ', '0x10', '253402300800000',
         '99999999999999999999'),
    (map { ['503', expires_at => $_] }
         '', 'never', '-1', '1e3', ' 1', '253402300800000',
         '9223372036854775808'),
    (map { ['401 expired', expires_at => $_] } '0', '1', '1700000000000'),
    ['200', expires_at => '253402300799999'],
    (map { ['503', revoked_at => $_] } '', 'x', '-1'),
);
fake_redis(keys => [main::named('one'),
                    map { my (undef, @field) = @{ $odd[$_] };
                          ["odd-$_", fields => { @field }] } 0 .. $#odd]);
--- init
for my $i (0 .. $#Test::Nginx::Util::odd) {
    my ($want, $field, $value) = @{ $Test::Nginx::Util::odd[$i] };
    my $what = defined $value ? '"' . main::printable($value) . '"' : 'absent';

    answer_is(ask("odd-$i"), $want, "$field $what: $want");
}

main::own_answer(ask('one'), 'one', 'a good record: 200');
count_is(fake_connections(), 1, 'all on one connection');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: the record of key "\w{12}" in Redis has a bad field "/



=== TEST 23: a bad record is said once, not once for each request
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [['odd', fields => { digest => 'x' }]]);
--- init
answer_is(ask('odd'), 503, "request $_: 503") for 1 .. 10;
count_is(scalar log_lines(qr/\[(?:error|warn|alert)\]/), 1, 'one line',
         log_lines(qr/./));
--- request
GET /open
--- error_log
in Redis has a bad field "digest"



=== TEST 24: nothing in the record at all: unknown
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
my %none = map { $_ => undef } qw(digest active workspace name scopes
                                  created_at);
fake_redis(keys => [['none', fields => \%none]]);
--- init
answer_is(ask('none'), '401 unknown', 'no field: unknown');
answer_is(ask('nobody'), '401 unknown', 'no record: unknown');
--- request
GET /open



=== TEST 25: a greeting that is none: 503 with the reason, then 200
--- http_config eval
$::redis . 'agntkey_redis_connect_timeout 300ms;'
--- config eval: $::config
--- post_setup_server_root
fake_redis(accept => "SSH-2.0-OpenSSH_9.2\r\n");
--- init
my @bad = (
    [{ accept => "SSH-2.0-OpenSSH_9.2\r\n" }, 'Protocol error'],
    [{ accept => "-ERR max number of clients reached\r\n" },
     'PING: ERR max number of clients reached'],
    [{ rules => [{ match => qr/^PING/, do => "+NOPE\r\n" }] },
     'PING: unexpected reply'],
    [{ rules => [{ match => qr/^PING/, do => "\$4\r\nPONG\r\n" }] },
     'PING: unexpected reply'],
    [{ rules => [{ match => qr/^PING/, do => ":1\r\n" }] },
     'PING: unexpected reply'],
    [{ rules => [{ match => qr/^PING/, do => "*1\r\n+PONG\r\n" }] },
     'PING: unexpected reply'],
    [{ rules => [{ match => qr/^PING/, do => 'swallow' }] },
     'PING: unexpected reply'],
    [{ rules => [{ match => qr/^PING/, do => 'stall' }] },
     'no connection in time'],
    [{ rules => [{ match => qr/^PING/, do => 'close' }] },
     'closed by the other side'],
    [{ rules => [{ match => qr/^PING/, do => 'reset' }] }, 'read failed'],
    [{ accept => 'reset' }, '(?:read|connect|write) failed'],
    [{ accept => 'close' }, 'closed by the other side'],
    [{ accept => 'stall' }, 'no connection in time'],
);
my $back = 0;

for my $bad (@bad) {
    my ($fake, $why) = @$bad;

    fake_redis(keys => [main::named('one')], %$fake);

    is_true(wait_until(8, sub {
        ask('one')->{code} eq '503'
            && log_lines(qr/is away: (?:.*: )?$why/)
    }), "503, because of: $why", log_lines(qr/away|back/));

    fake_redis(keys => [main::named('one')]);
    is_true(log_wait(qr/is back/, ++$back), 'then it is back');
    main::own_answer(ask('one'), 'one', 'and 200');
}
--- request
GET /open



=== TEST 26: a server that has no CLIENT SETNAME will do
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^CLIENT/,
                       do => "-ERR unknown command 'CLIENT'\r\n" }]);
--- init
main::own_answer(ask('one'), 'one', 'its keys are good');
--- request
GET /open
--- no_error_log
[error]



=== TEST 27: an error reply: 503, one line that names the command
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^HMGET/, from => 2, times => 10,
                       do => "-ERR odd \x01\xff, with args beginning with:"
                             . " 'secret'\r\n" }]);
--- init
main::own_answer(ask('one'), 'one', 'before: 200');
answer_is(ask('one'), 503, "request $_: 503") for 1 .. 10;
count_is(scalar log_lines(qr/\[error\]/), 1, 'one line', log_lines(qr/./));
main::own_answer(ask('one'), 'one', 'afterwards: 200');
count_is(fake_connections(), 1, 'on one connection');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis answered HMGET agntkey:key: with: ERR odd \?\?$/
--- no_error_log
secret



=== TEST 28: many at once: few writes, and each has its own answer
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [map { ["many-$_", name => "name of many-$_",
                           workspace => 'w' . $_ % 3] } 1 .. 30]);
--- init
my $send = sub {
    open my $in, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/error.log" or die $!;
    return scalar grep { /\[debug\] .*: send: fd:\d+ \d+ of \d+/ } <$in>;
};
my $pid = Test::Nginx::Util::get_pid_from_pidfile('many');
my %spec = map { $_ => { workspace => 'w' . $_ % 3 } } 1 .. 30;

# nginx accepts one connection in each turn of its loop; so they are there
# before, and all requests when it looks.
my %waiting = map {
    $_ => http_start('GET /open', headers => 'Connection: keep-alive')
} keys %spec;

$_->response for values %waiting;

for my $round (1, 2) {
    my $before = $send->();

    kill 'STOP', $pid;
    $waiting{$_}->write("GET /t HTTP/1.1\r\nHost: localhost\r\n"
                        . bearer(key_for("many-$_", %{ $spec{$_} }))
                        . "\r\n\r\n") for keys %spec;
    kill 'CONT', $pid;

    for my $n (sort { $a <=> $b } keys %waiting) {
        main::own_answer($waiting{$n}->response, "many-$n",
                         "round $round, request $n", %{ $spec{$n} });
    }

    my $writes = $send->() - $before;

    # The first time the workspaces are asked for as the records come in,
    # the second time all at once.  An nginx without --with-debug says
    # nothing of its writes.
    next if $round == 1 || !$writes;
    is_true($writes <= 3, 'sixty commands in few writes', $writes);
}

count_is(fake_connections(), 1, 'on one connection');
--- request
GET /open
--- no_error_log
[error]



=== TEST 29: many at once, replies in pieces: each has its own answer
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
srand 1;
fake_redis(keys => [map { ["many-$_", name => "name of many-$_"] } 1 .. 30],
           rules => [{ match => qr/^HM?GET/, do => sub {
               return { split => 1 + int rand(length($_[1]) - 1),
                        gap => 0.002 };
           } }]);
--- init
for my $round (1 .. 5) {
    my @waiting = map { ask_start("many-$_") } 1 .. 30;
    my $good = grep {
        my $res = $waiting[$_ - 1]->response;
        $res->{code} eq '200'
            && ($res->{headers}{'x-key'} // '') =~ / name of many-$_$/
    } 1 .. 30;

    count_is($good, 30, "round $round");
}
--- request
GET /open
--- no_error_log
[error]



=== TEST 30: a reply that is too large fails its own look-up, and no other
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
main::fake_with_replies(
    'HMGET', main::elements(sub {
        @_[0 .. 2], "\$2000000\r\n" . 'x' x 2000000 . "\r\n", @_[4 .. 7]
    }),
    "\$1100000\r\n" . 'x' x 1100000 . "\r\n",
    "*20000\r\n" . "\$1\r\nx\r\n" x 20000,
    main::elements(sub { @_[0 .. 6], "*16380\r\n" . ":1\r\n" x 16380 }),
    main::elements(sub { map { "\$200000\r\n" . 'x' x 200000 . "\r\n" }
                         @_ }),
);
--- init
main::own_answer(ask('one'), 'one', 'before');

for my $round (1 .. 3) {
    my @all = map { (ask_start('one'), main::ask_bad($_), ask_start('one')) }
                  0 .. 4;

    for my $i (0 .. 4) {
        main::own_answer($all[3 * $i]->response, 'one', "$round: ahead of $i");
        answer_is($all[3 * $i + 1]->response, 503, "$round: $i");
        main::own_answer($all[3 * $i + 2]->response, 'one',
                         "$round: behind $i");
    }
}

count_is(fake_connections(), 1, 'one connection');

count_is(scalar(log_lines(qr/the record of key "\w+" in Redis is too large/))
         > 0, 1, 'a line names a key');
is_true(!log_lines(qr/was lost|is away/), 'and the connection is kept');
--- request
GET /open



=== TEST 31: so does one of a workspace
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
main::fake_with_replies('HGET', "\$2000000\r\n" . '1' x 2000000 . "\r\n");
--- init
main::own_answer(ask('one'), 'one', 'before');

for my $round (1 .. 3) {
    my @all = (ask_start('one'), main::ask_bad(0), ask_start('one'));

    main::own_answer($all[0]->response, 'one', "$round: ahead of it");
    answer_is($all[1]->response, 503, "$round: a workspace too large: 503");
    main::own_answer($all[2]->response, 'one', "$round: behind it");
}

count_is(fake_connections(), 1, 'one connection');
is_true(!log_lines(qr/was lost|is away/), 'and the connection is kept');
--- request
GET /open
--- error_log
Redis answered HGET agntkey:workspace: with: reply too large



=== TEST 32: cut off in what is too large: tried once more, then 503
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^HMGET/, times => 2, do => {
               reply => "\$2000000\r\n" . 'x' x 2000000 . "\r\n",
               close => 1500000 } }]);
--- init
answer_is(ask('one'), 503, 'cut off twice: 503');
count_is(scalar fake_commands(qr/^HMGET/), 2, 'asked twice, not more');
main::recovers('then: 200');
--- request
GET /open



=== TEST 33: too large, and then nothing more: 503 when the time is over
--- http_config eval: $::redis
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => [main::named('one')],
           rules => [{ match => qr/^HMGET/, times => 1, do => sub {
               return { reply => "\$2000000\r\n" . 'x' x 1500000 };
           } }]);
--- init
my $res = ask('one');
answer_is($res, 503, 'it never ends: 503');
is_true($res->{time} > 0.4 && $res->{time} < 3, 'at the timeout',
        $res->{time});
main::recovers('then: 200');
--- request
GET /open
--- error_log
is away: no reply in time
