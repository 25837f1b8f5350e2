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

my $write = fake_revoke();

# The fake's own reply ends with a mark that was not written.
sub barrier {
    my ($wrote) = @_;

    return {
        match => $FAKE_BARRIER,
        do => sub { return { reply => $_[1] =~ s/:0\r\n\z/$wrote/r } },
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


# --- nor does another connection than the write's

{
    my $title = 'another connection';
    my $marked = barrier(":1\r\n")->{do};

    # Two go the same steps, and the first has to wait before its first and its
    # last: so they have the replies of the last together.  The second then waits
    # for the question of the first, with which the connection breaks.
    fake_redis(keys => ['one', 'two'], rules => [
        { match => $write->{match}, nth => 1,
          do => { instead => sub { return { reply => $write->{do}{instead},
                                            delay => 1 } } } },
        $write,
        { match => $FAKE_BARRIER, nth => 1,
          do => sub { return { %{ $marked->(@_) }, delay => 1 } } },
        barrier(":1\r\n"),
        { match => qr/^WAITAOF /, nth => 1, do => 'close' },
        { match => qr/^WAITAOF /, do => $yes },
    ]);

    my $nginx = Agntkey::Nginx->new(
        cached(redis => $fake, cache => $long,
               http => 'agntkey_redis_timeout 10s;'), workers => 1)->start;

    ok(hit($_), "$title: a hit before, $_") for 'one', 'two';

    my @calls;

    for my $label ('one', 'two') {
        my $id = key_id(key_for($label));

        fake_cmd('HDEL', record_of($label), 'active');
        fake_invalidate(record_of($label));
        push @calls, api_start("POST keys/$id/revoke");
        ok(fake_wait($write->{match}, scalar @calls, 10),
           "$title: $label begins");
    }

    ok(fake_wait($FAKE_BARRIER, 2, 10), "$title: both are asked about");
    synced_is($_->response(15), 'absent', $title) for @calls;
    is(scalar(fake_commands(qr/^WAITAOF /)), 1, "$title: one question");
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

        # Without room for the mark of the barrier there is nothing to ask about;
        # the revocation itself is taken.
        redis_cmd('CONFIG', 'SET', 'maxmemory', '1mb');

        my $res = revoke('four');

        is($res->{code}, 200, "$title, full: revoked") or diag($res->{raw});
        is(synced($res), 'absent', "$title, full: not known");
        redis_cmd('CONFIG', 'SET', 'maxmemory', '0');

        ok(defined $_->quit, "$title: quit") for @nginx;
    }
}

logs_clean();
done_testing();
