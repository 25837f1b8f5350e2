# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# "synced" of a receipt: whether the append-only file of Redis was on disk with
# the change, by WAITAOF.  It says true only where that is so, is left out
# where it cannot be known, and makes no revocation fail.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use POSIX qw(strftime);
use Test::More;

my $long = 'entries=100 lease=60s';
my $fake = "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}";
my $line = qr/\[notice\].*Redis does not say whether a revocation is on its/;

sub synced {
    my ($res) = @_;
    return $res->{body} =~ /"synced":\s*(\w+)/ ? $1 : 'absent';
}

sub synced_is {
    my ($res, $want, $title) = @_;

    is($res->{code}, 200, "$title: 200") or diag($res->{raw});
    is(synced($res), $want, "$title: $want");
}


# --- what Redis may say

my $write = {
    match => qr/^EVAL .*'HDEL',KEYS\[1\],'active'/s,
    do => { instead => "*9\r\n"
            . join '', map { defined ? '$' . length($_) . "\r\n$_\r\n"
                                     : "\$-1\r\n" }
                       '0' x 64, undef, 'acme', 'one', '', '1700000000000',
                       undef, '1700000000001', undef },
};

# The fake's own reply says nothing of the mark.
sub barrier {
    my ($wrote) = @_;

    return {
        match => qr/^EVAL .*'ZRANGE',KEYS\[1\].*PUBLISH/s,
        do => sub { my $reply = $_[1];
                    $reply =~ s/\A\*4/*5/;
                    return { reply => $reply . $wrote } },
    };
}

my $unknown = "-ERR unknown command 'WAITAOF', with args beginning with: \r\n";
my $noperm = "-NOPERM User agntkey has no permissions to run the 'waitaof'"
             . " command\r\n";
my $disabled = '-ERR WAITAOF cannot be used when numlocal is set but'
               . " appendonly is disabled.\r\n";
my ($yes, $no) = ("*2\r\n:1\r\n:0\r\n", "*2\r\n:0\r\n:0\r\n");

# Each: a title, replies with what the receipts are to say, lines, questions.
for my $case (
    ['good', [$yes, 'true', $no, 'false', $yes, 'true'], 0, 3],
    ['no such command', [$unknown, 'absent', $yes, 'absent'], 1, 1],
    ['no right', [$noperm, 'absent', $noperm, 'absent', $yes, 'true',
                  $noperm, 'absent'], 2, 4],
    ['no appendonly', [$disabled, 'false', $disabled, 'false'], 0, 2],
    ['replies of odd shapes',
     [map { $_ => 'absent' } "-ERR\r\n", "-\r\n", ":1\r\n", "+OK\r\n",
          "\$-1\r\n", "*-1\r\n", "*0\r\n", "*1\r\n:1\r\n",
          "*3\r\n:1\r\n:0\r\n:0\r\n", "*2\r\n:2\r\n:0\r\n",
          "*2\r\n:-1\r\n:0\r\n", "*2\r\n+1\r\n:0\r\n",
          "*2\r\n:1\r\n\$-1\r\n", "*2\r\n*1\r\n:1\r\n:0\r\n"], 1, 14],
    ['the connection breaks', ['close', 'absent'], 0, 1],
    ['the connection is reset', [{ reset => 3 }, 'absent'], 0, 1],
    ['no reply in time', ['stall', 'absent'], 0, 1],
) {
    my ($title, $replies, $lines, $questions) = @$case;
    my (@do, @want);

    push @{ $_ % 2 ? \@want : \@do }, $replies->[$_] for 0 .. $#$replies;

    # A match is counted where no rule before it was the one.
    fake_redis(keys => ['one'], rules => [
        $write, barrier(":1\r\n"),
        map { { match => qr/^WAITAOF 1 0 \d+$/, nth => 1, do => $_ } } @do,
    ]);

    my $nginx = Agntkey::Nginx->new(
        cached(redis => $fake, cache => $long), log_level => 'notice')->start;

    ok(hit('one'), "$title: a hit before");
    fake_cmd('HDEL', record_of('one'), 'active');
    fake_invalidate(record_of('one'));

    my $n = 0;

    for my $want (@want) {
        my $res = revoke('one');

        synced_is($res, $want, "$title, " . ++$n);
        cmp_ok($res->{json}{receipt}{took_ms} // 60000, '<', 10000,
               "$title, $n: no lease was waited for");
    }

    is(scalar($nginx->lines($line)), $lines, "$title: lines in the log");
    is(scalar(fake_commands(qr/^WAITAOF /)), $questions,
       "$title: questions");
    ok(defined $nginx->quit, "$title: quit");
}


# --- without a write of its own on the connection the answer says nothing

for my $wrote (":0\r\n", ":2\r\n", "\$-1\r\n", "+1\r\n") {
    my $title = 'the mark: ' . $wrote =~ s/\s+\z//r;

    fake_redis(keys => ['one'], rules => [
        $write, barrier($wrote), { match => qr/^WAITAOF /, do => $yes }]);

    my $nginx = Agntkey::Nginx->new(cached(redis => $fake,
                                           cache => $long))->start;

    ok(hit('one'), "$title: a hit before");
    fake_cmd('HDEL', record_of('one'), 'active');
    fake_invalidate(record_of('one'));
    synced_is(revoke('one'), 'absent', $title);
    is(scalar(fake_commands(qr/^WAITAOF /)), 0, "$title: no question");
    ok(defined $nginx->quit, "$title: quit");
}


# --- a server that has it

SKIP: {
    skip 'the redis-server in PATH has no WAITAOF: it came with 7.2'
        if redis_version() < 7.002;

    my $other_port = free_port();
    my $soon = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time + 60));

    redis_start();

    for my $mode (['appendonly no', 'false', '--appendonly', 'no'],
                  ['appendfsync no', 'false', '--appendonly', 'yes',
                   '--appendfsync', 'no'],
                  ['appendfsync everysec', 'true|false', '--appendonly', 'yes',
                   '--appendfsync', 'everysec'],
                  ['appendfsync always', 'true', '--appendonly', 'yes',
                   '--appendfsync', 'always'])
    {
        my ($title, $want, @args) = @$mode;

        redis_stop();
        redis()->{args} = \@args;
        redis_start();
        redis_empty();
        seed_key($_) for qw(one two three four);

        my @nginx = map {
            Agntkey::Nginx->new(workers => 1, port => $_,
                                cached(cache => $long))->start
        } $ENV{TEST_NGINX_PORT}, $other_port;

        my $id = sub { key_id(key_for($_[0])) };
        my @calls = (
            ['revoke', sub { revoke('one') }],
            # by another, whose connection has not written it
            ['revoke again', sub { revoke('one', port => $other_port) }],
            ['rotate', sub { api('POST keys/' . $id->('two') . '/rotate',
                                 { overlap_seconds => 0 }) }],
            ['an expiry', sub {
                api('PATCH keys/' . $id->('three'),
                    { expires_at => $soon }) }],
            ['a workspace', sub { api('PUT workspaces/acme',
                                      { status => 'disabled' }) }],
        );

        for my $call (@calls) {
            my $res = $call->[1]->();

            like($res->{code}, qr/^20[01]$/, "$title, $call->[0]: done")
                or diag($res->{raw});
            like(synced($res), qr/^(?:$want)$/, "$title, $call->[0]");
        }

        ok(defined $_->quit, "$title: quit") for @nginx;
    }
}

logs_clean();
done_testing();
