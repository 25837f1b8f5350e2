# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# However much there is in Redis, and whatever a call of the admin API says,
# each command that it makes Redis carry out has a bound, and so has their
# number: a call that makes Redis stand still is felt by every request.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use IO::Socket::UNIX;
use List::Util qw(max);
use Test::More;

my $many = 300000;

redis_start();


# --- what Redis is made to do

# How many elements a command looks at, at the most, where that is more than
# one; whatever is not named here has no bound that this suite knows of.

my $one = sub { 1 };
my $between = sub { $_[1] >= 0 && $_[2] >= 0 ? $_[2] - $_[1] + 1 : undef };

my %bound = (
    (map { $_ => $one } qw(
        DBSIZE ECHO EVAL EXISTS GET HDEL HELLO HGET HMGET HSET HSETNX INFO
        PUBLISH SADD SCARD SET SREM TIME WAIT WAITAOF ZADD ZCARD ZCOUNT ZREM
        ZREVRANK ZSCORE
    )),
    ZREVRANGE   => $between,
    ZRANGE      => $between,
    ZRANGEBYLEX => sub { $_[3] eq 'LIMIT' ? $_[5] : undef },
    SRANDMEMBER => sub { $_[1] },
    XADD        => sub { "@_" =~ / MAXLEN ~ 10000 / ? 1 : undef },
);

# The commands that are carried out while the code runs, those of scripts
# included: a list for each.

sub commands {
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

    return grep { $_->[0] !~ /^(?:PING|CLIENT)$/ }
           map { [/"((?:[^"\\]|\\.)*)"/g] }
           grep { /\[\d+ (?:lua|127\.0\.0\.1:\d+)\]/ } split /\r\n/, $text;
}

sub is_bounded {
    my ($title, $code, $commands, $elements) = @_;
    my @commands = commands($code);
    my $most = 0;
    my @bad;

    for my $command (@commands) {
        my ($name, @args) = @$command;
        my $bound = $bound{ uc $name };
        my $n = $bound ? $bound->(@args) : undef;

        push @bad, join ' ', map { substr $_, 0, 80 } @$command
            if !defined $n || $n > $elements;
        $most = max($most, $n // 0);
    }

    is(scalar @bad, 0, "$title: each command has a bound") or diag($bad[0]);
    cmp_ok(scalar @commands, '<=', $commands, "$title: and their number");
}

sub ok_api {
    my ($want, @call) = @_;

    return sub {
        my $res = api(@call);
        is($res->{code}, $want, "$call[0]: $want") or diag($res->{raw});
    };
}


# --- far more than any of these calls may look at

my $tag = workspace_tag('acme');
my $index = "agntkey:index:{$tag}acme";
my $at = 1700000000000;

sub fill {
    my ($key, $prefix, $score, $n) = @_;

    for (my $from = 0; $from < $n; $from += 50000) {
        redis_cmd('EVAL', 'for i=ARGV[3],ARGV[4] do redis.call("ZADD",KEYS[1],'
            . 'ARGV[1],ARGV[2]..string.format("%08d",i)) end return 1', 1,
            $key, $score, $prefix, $from, $from + 49999);
    }
}

seed_key($_) for 'one', 'two';

fill($index, $tag, $at, $many);
fill('agntkey:index:{' . workspace_tag('many') . '}many',
     workspace_tag('many'), $at, $many);
fill("agntkey:used:{$tag}acme", $tag, $at, $many);
fill('agntkey:workspaces', '!', 0, $many);
redis_cmd('ZADD', 'agntkey:workspaces', 0, 'acme');
redis_cmd('EVAL', 'for i=1,30000 do redis.call("XADD",KEYS[1],"*","a","b") '
          . 'end return 1', 1, "agntkey:audit:{$tag}acme");

my $nginx = Agntkey::Nginx->new(cached(
    cache => 'off', http => 'agntkey_redis_timeout 20s;'))->start;

api('GET workspaces/acme');


# --- a page behind a cursor that nobody has given out

# By their places from the newest: ids go down there.

my $all = sub { sprintf '%s%08d', workspace_tag('many'), $many - 1 - $_[0] };

for my $case (['the least', '000000000000', $at, undef],
              ['the greatest', 'zzzzzzzzzzzz', $at, 0],
              ['the first', $all->(0), $at, 1],
              ['in the middle', $all->(12345) =~ s/.$/z/r, $at,
               12340],
              ['a capital', $all->(250) =~ s/.$/Z/r, $at, 250],
              ['later than all', '000000000000', $at + 1, 0],
              ['earlier than all', 'zzzzzzzzzzzz', $at - 1, undef],
              ['the time 0', '000000000000', 0, undef],
              ['a time far ahead', '000000000000', 999999999999999, 0])
{
    my ($title, $id, $time, $place) = @$case;
    my $cursor = "$id.$time";
    my $json;

    # entries without a record are nobody: the page ends after a thousand

    is_bounded("a cursor, $title", sub {
        $json = api("GET keys?workspace=many&limit=1&cursor=$cursor")->{json};
    }, 3100, 1);

    my ($next) = split /\./, $json->{next_cursor} // 'none.';

    is($next, defined $place ? $all->($place + 999) : 'none',
       "a cursor, $title: from there on");
}


# --- all calls

my $path = 'keys/' . key_id(key_for('one'));
my $json = ['Content-Type: application/json', 'Idempotency-Key: once'];

for my $call (
    [200, 'GET keys?workspace=acme&limit=100'],
    [200, 'GET keys?workspace=acme&limit=1&status=expired'],
    [200, "GET $path"],
    [201, 'POST keys', { workspace => 'acme', name => 'a' }],
    [201, 'POST keys', { workspace => 'acme', name => 'a' },
     headers => $json],
    [200, "PATCH $path", { name => 'b', scopes => [map { "s$_" } 1 .. 32],
                           expires_at => '2101-01-31T12:00:00Z' }],
    [201, "POST $path/rotate"],
    [201, "POST $path/rotate", { overlap_seconds => 0 },
     headers => ['Content-Type: application/json', 'Idempotency-Key: turn']],
    [200, "POST $path/revoke"],
    [200, 'GET workspaces/acme'],
    [200, 'PUT workspaces/acme', { status => 'disabled' }],
    [200, 'PUT workspaces/acme', { status => 'active' }],
) {
    is_bounded("$call->[1]", ok_api(@$call), 3300, 8192);
}

# As many keys in force as a workspace may have, and far more.

redis_cmd('EVAL', 'for i=1,300000 do redis.call("SADD",KEYS[1],ARGV[1]..'
          . 'string.format("%08d",i)) end return 1', 1,
          "agntkey:live:{$tag}acme", $tag);

for my $call ([409, 'POST keys', { workspace => 'acme', name => 'a' }],
              [409, 'POST keys/' . key_id(key_for('two')) . '/rotate'])
{
    is_bounded("$call->[1], too many keys", ok_api(@$call), 300, 100);
}

# Names that are none hide all others, after so many questions.

is_bounded('GET workspaces', ok_api(500, 'GET workspaces'), 100, 101);

ok(defined $nginx->quit, 'quit');
logs_clean();
done_testing();
