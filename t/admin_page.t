# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Lists of the admin API, page by page: nothing is skipped and nothing comes
# twice, whatever happens meanwhile, and what a page costs does not grow with
# the number of keys.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use IO::Socket::UNIX;
use JSON::PP ();
use Test::Nginx::Socket 'no_plan';

redis_start();

my $utf8 = JSON::PP->new->utf8->canonical;

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
    agntkey_redis_timeout 5s;
_EOC_

our $config = <<'_EOC_';
        location /agntkey/ {
            agntkey_admin on;
            agntkey_admin_token_file off;
        }
_EOC_


# --- asking the API

sub api {
    my ($call, $body, %opt) = @_;
    my ($method, $path) = split / /, $call, 2;
    my $res = http("$method /agntkey/$path", timeout => 30,
                   body => $body && $utf8->encode($body),
                   headers => $body ? 'Content-Type: application/json' : '');

    die "$call:\n$res->{raw}" if $res->{code} !~ /^20[01]$/;

    return $res->{body} if $opt{text};

    my $json = $utf8->decode($res->{body});

    $Agntkey::Key::made{ $json->{key} } = 1 if $json->{key};
    return $json;
}


sub create {
    my ($workspace) = @_;
    return api('POST keys', { workspace => $workspace,
                              name => 'Nightly report' })->{id};
}


# pages('keys?workspace=a', 'id', between => code): what each page has of
# that name; after each page but the last the code runs, with the number of
# the page, the cursor and what the page has.  By pattern: a decoder in Perl
# takes its time over a thousand pages.

sub pages {
    my ($path, $name, %opt) = @_;
    my $and = $path =~ /\?/ ? '&' : '?';
    my ($cursor, @pages) = '';

    for my $n (1 .. $opt{max} // 5000) {
        my $text = api("GET $path$cursor", undef, text => 1);
        my @names = $text =~ /"$name":"([^"]*)"/g;

        push @pages, \@names;

        $text =~ /"next_cursor":(?:null|"([^"]*)")/ or die "$text\n";
        return @pages if !defined $1;

        $cursor = $1;
        $cursor =~ /^[A-Za-z0-9._~-]+\z/ or die "cursor \"$cursor\"\n";
        $opt{between}->($n, $cursor, @names) if $opt{between};
        $cursor = "${and}cursor=$cursor";
    }

    die "$path has no end\n";
}


sub all { return map { @$_ } pages(@_) }


# Compares without showing thousands of them.

sub same {
    my ($got, $want, $title) = @_;
    my ($i, %seen) = 0;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is(scalar @$got, scalar @$want, "$title - so many");
    $i++ while $i < @$got && $i < @$want && $got->[$i] eq $want->[$i];
    is($got->[$i], $want->[$i], "$title - in order");
    is(join(' ', grep { $seen{$_}++ == 1 } @$got), '', "$title - none twice");
}


# --- what Redis holds

sub tagged {
    my ($kind, $workspace) = @_;
    return "agntkey:$kind:{" . workspace_tag($workspace) . "}$workspace";
}


sub in_order {
    return @{ redis_cmd('ZREVRANGE', tagged('index', $_[0]), 0, -1) };
}


# seed('acme', 2500, at => ms of the first one, step => ms, from => number of
# the first one, revoked => every so many, expired => every so many)

my $seed = <<'_EOC_';
local d = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
local ws, tag = ARGV[1], ARGV[2]
local n, from, at = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local step, gone, over = tonumber(ARGV[6]), tonumber(ARGV[7]),
                         tonumber(ARGV[8])
for i = from, from + n - 1 do
    -- a permutation, so that ids are in no order
    local random, r = '', (i * 7919 + 13) % 14776336
    for _ = 1, 8 do
        local x = r % 62 + 1
        random = string.sub(d, x, x) .. random
        r = math.floor(r / 62)
    end
    local t = string.format('%.0f', at + (i - from) * step)
    local key = 'agntkey:key:{' .. tag .. '}' .. random
    redis.call('HSET', key, 'digest', string.rep('0', 64),
               'workspace', ws, 'name', 'Number ' .. i, 'scopes', '',
               'created_at', t)
    if gone > 0 and i % gone == 0 then
        redis.call('HSET', key, 'revoked_at', t)
    else
        redis.call('HSET', key, 'active', '1')
    end
    if over > 0 and i % over == 0 then
        redis.call('HSET', key, 'expires_at', t + 1)
    end
    redis.call('ZADD', 'agntkey:index:{' .. tag .. '}' .. ws, t,
               tag .. random)
end
return n
_EOC_

sub seed {
    my ($workspace, $n, %opt) = @_;
    my $step = $opt{step} // 1;
    my $from = $opt{from} // 1;
    my $at = $opt{at} // 1700000000000;

    seed_workspace($workspace);

    while ($n > 0) {
        my $some = $n > 10000 ? 10000 : $n;

        redis_cmd('EVAL', $seed, 0, $workspace, workspace_tag($workspace),
                  $some, $from, $at, $step, $opt{revoked} // 0,
                  $opt{expired} // 0);
        $from += $some;
        $at += $some * $step;
        $n -= $some;
    }
}


# --- keys

sub order {
    redis_empty();

    my @made;

    # Each in a millisecond of its own.
    for (1 .. 5) {
        unshift @made, create('order');
        select undef, undef, undef, 0.003;
    }

    same([all('keys?workspace=order', 'id')], \@made, 'newest first');

    seed('order', 250);

    my @want = in_order('order');

    is(join(' ', @want[0 .. 4]), "@made", 'the others are older');

    for my $limit (1, 2, 7, 50, 51, 99, 100) {
        my @pages = pages("keys?workspace=order&limit=$limit", 'id');

        same([map { @$_ } @pages], \@want, "limit $limit");
        is(scalar(grep { @$_ != $limit } @pages[0 .. $#pages - 1]), 0,
           "limit $limit - pages are full");
        is(scalar @pages, int((255 + $limit - 1) / $limit),
           "limit $limit - no page too many");
    }

    my @pages = pages('keys?workspace=order', 'id');
    is(scalar @{ $pages[0] }, 50, 'fifty unless said otherwise');

    seed('even', 100);
    @pages = pages('keys?workspace=even&limit=50', 'id');
    is(scalar @pages, 2, 'the last page knows that it is, even if full');

    # Neighbours have nothing to do with it.
    is(scalar(all('keys?workspace=nobody', 'id')), 0, 'nobody has none');
}


sub equal_times {
    redis_empty();
    seed('equal', 250, step => 0);

    my @want = in_order('equal');

    same([all("keys?workspace=equal&limit=$_", 'id')], \@want, "limit $_")
        for 1, 7, 50, 100;

    # Several at a time, and others around them.
    seed('groups', 40, step => 0, at => 1700000000000 + $_, from => $_ * 100)
        for 1 .. 5;
    same([all("keys?workspace=groups&limit=$_", 'id')],
         [in_order('groups')], "groups, limit $_") for 1, 7, 40, 41;
}


# New ones are newer than where the reader is.

sub created_meanwhile {
    redis_empty();
    seed('grows', 120);

    for my $limit (1, 7, 50) {
        my @want = in_order('grows');
        my @got = all("keys?workspace=grows&limit=$limit", 'id',
                      between => sub { create('grows') for 1 .. 2 });

        same(\@got, \@want, "limit $limit, two more for each page");
    }

    # Of the very millisecond of the last one seen, above and below it.
    for my $limit (1, 7) {
        my $workspace = "equal-$limit";
        my $i = 0;

        seed($workspace, 60, step => 0);

        my @want = in_order($workspace);
        my %old = map { $_ => 1 } @want;
        my @got = all("keys?workspace=$workspace&limit=$limit", 'id',
                      between => sub {
                          seed($workspace, 2, step => 0,
                               from => 1000 + 2 * $i) if $i++ < 60;
                      });
        my %seen;

        is(join(' ', grep { $seen{$_}++ == 1 } @got), '',
           "equal times, limit $limit - none twice");
        same([grep { $old{$_} } @got], \@want,
             "equal times, limit $limit - none is skipped");
    }
}


# Two clients create as fast as they can while a third one reads.

sub created_at_once {
    redis_empty();
    seed('busy', 300);

    my @want = in_order('busy');
    my @children = map {
        my $pid = fork // die "fork: $!\n";

        if ($pid == 0) {
            eval { create('busy') for 1 .. 100 };
            require POSIX;
            POSIX::_exit($@ ? 1 : 0);
        }

        $pid;
    } 1, 2;

    my @got = all('keys?workspace=busy&limit=3', 'id');
    my %old = map { $_ => 1 } @want;
    my %seen;

    for my $pid (@children) {
        local $?;
        waitpid $pid, 0;
        is($?, 0, 'keys were made meanwhile');
    }

    is(join(' ', grep { $seen{$_}++ == 1 } @got), '', 'none twice');
    same([grep { $old{$_} } @got], \@want, 'none is skipped');

    # And all of them are there at the end, those of one millisecond too.
    same([all('keys?workspace=busy&limit=7', 'id')], [in_order('busy')],
         'all of them in the end');
    is(scalar(in_order('busy')), 500, 'which are many');
}


sub statuses {
    redis_empty();
    seed('big', 2500, revoked => 1200, expired => 900);

    my @all = in_order('big');
    my %at = map { $all[$_] => $_ } 0 .. $#all;

    # Numbers 1200 and 2400 are revoked, 900 and 1800 expired.
    my %want = (revoked => [@all[100, 1300]], expired => [@all[700, 1600]]);
    my %not = map { $_ => 1 } map { @$_ } values %want;

    $want{active} = [grep { !$not{$_} } @all];

    for my $status (qw(revoked expired active)) {
        for my $limit ($status eq 'active' ? 100 : (1, 2, 50, 100)) {
            my @pages = pages("keys?workspace=big&status=$status"
                              . "&limit=$limit", 'id');
            my $title = "$status, limit $limit";

            same([map { @$_ } @pages], $want{$status}, $title);
            is(scalar(grep { @$_ > $limit } @pages), 0,
               "$title - no page is too long");
            cmp_ok(scalar @pages, '<=', $status eq 'active' ? 25 : 5,
                   "$title - few calls");
        }
    }

    # A rare status costs no more than so many.
    redis_cmd('CONFIG', 'RESETSTAT');
    api('GET keys?workspace=big&status=expired&limit=100');
    cmp_ok(redis_commands_count('hmget'), '<=', 1100,
           'one call looks at 1,000, not at all of them');

    # None at all: an end all the same.
    seed('quiet', 2500);
    my @pages = pages('keys?workspace=quiet&status=revoked', 'id');
    is(scalar(map { @$_ } @pages), 0, 'none at all');
    cmp_ok(scalar @pages, '<=', 3, 'none at all - in three calls');

    # While they are being revoked.
    my @active = all('keys?workspace=quiet&status=active&limit=100', 'id',
                     between => sub {
                         my ($n, $cursor, @ids) = @_;
                         api("POST keys/$_/revoke") for @ids[0, -1];
                     });
    same(\@active, [in_order('quiet')], 'revoked after they were seen');
}


# The cursor's own key may be gone, with its entry in the index.

sub cursor_gone {
    redis_empty();

    for my $limit (1, 7, 50) {
        my $workspace = "gone-$limit";

        seed($workspace, 120);

        my @want = in_order($workspace);
        my @got = all("keys?workspace=$workspace&limit=$limit", 'id',
                      between => sub {
                          my ($id) = split /\./, $_[1];
                          forget($workspace, $id);
                      });

        same(\@got, \@want, "limit $limit");
    }

    # All that were left are gone as well.
    seed('empty', 20);
    my $page = api('GET keys?workspace=empty&limit=5');
    redis_cmd('DEL', tagged('index', 'empty'));
    is_deeply(api("GET keys?workspace=empty&cursor=$page->{next_cursor}"),
              { data => [], next_cursor => undef }, 'nothing is left');

    # An entry without a record is nobody, and hides nobody.
    seed('holes', 60);
    my @ids = in_order('holes');
    my ($tag, $random);

    for my $id (@ids[0, 4, 5, 6, 7, 8, 9, 59]) {
        ($tag, $random) = unpack 'a4 a8', $id;
        redis_cmd('DEL', "agntkey:key:{$tag}$random");
    }

    same([all("keys?workspace=holes&limit=$_", 'id')],
         [@ids[1 .. 3, 10 .. 58]], "holes, limit $_") for 1, 5, 50;

    # Nor does a record that makes no sense.
    ($tag, $random) = unpack 'a4 a8', $ids[20];
    redis_cmd('HSET', "agntkey:key:{$tag}$random", 'created_at', 'never');
    same([all("keys?workspace=holes&limit=$_", 'id')],
         [@ids[1 .. 3, 10 .. 19, 21 .. 58]], "a bad one, limit $_")
        for 1, 5, 50;
}


sub forget {
    my ($workspace, $id) = @_;
    my ($tag, $random) = unpack 'a4 a8', $id;

    redis_cmd('ZREM', tagged('index', $workspace), $id);
    redis_cmd('DEL', "agntkey:key:{$tag}$random");
}


sub cursor_gone_of_equals {
    redis_empty();
    seed('gone', 60, step => 0);

    my @want = in_order('gone');
    my @got = all('keys?workspace=gone&limit=7', 'id', max => 100,
                  between => sub {
                      my ($id) = split /\./, $_[1];
                      forget('gone', $id);
                  });

    same(\@got, \@want, 'equal times');
}


# --- workspaces

sub workspaces {
    redis_empty();

    my @names = sort map { my $n = $_; map { "$_$n" } qw(a B c- d.) }
                         100 .. 129;

    seed_workspace($_) for @names;

    for my $limit (1, 7, 50, 60, 100) {
        my @pages = pages("workspaces?limit=$limit", 'name');

        same([map { @$_ } @pages], \@names, "limit $limit");
        is(scalar @pages, int((120 + $limit - 1) / $limit),
           "limit $limit - no page too many");
    }

    my @pages = pages('workspaces', 'name');
    is(scalar @{ $pages[0] }, 50, 'fifty unless said otherwise');

    # Others come into being, in front and behind.
    my %old = map { $_ => 1 } @names;
    my $i = 100;
    my @got = all('workspaces?limit=7', 'name', between => sub {
        create("A$i");
        create("z$i");
        $i++;
    });
    my %seen;

    is(join(' ', grep { $seen{$_}++ == 1 } @got), '',
       'made meanwhile - none twice');
    same([grep { $old{$_} } @got], \@names, 'made meanwhile');
    is(join(' ', grep { /^A/ } @got), '', 'made meanwhile - not in front');
    ok((grep { $_ eq 'z100' } @got), 'made meanwhile - but behind');

    # Names without a record are nobody, and the last of a page may be one.
    redis_empty();
    seed_workspace($_) for qw(c f z);
    redis_cmd('ZADD', 'agntkey:workspaces', 0, $_) for 'a' .. 'z';
    same([all("workspaces?limit=$_", 'name')], [qw(c f z)],
         "ghosts, limit $_") for 1, 2, 3, 5, 50;

    # The last one seen may go.
    redis_empty();
    seed_workspace($_) for 'a' .. 'z';
    same([all('workspaces?limit=4', 'name', between => sub {
             redis_cmd('ZREM', 'agntkey:workspaces', $_[1]);
         })], ['a' .. 'z'], 'the last one seen is gone');
}


# What is no name of ours does not hide those that are.

sub foreign_names {
    redis_empty();
    seed_workspace($_) for 'a' .. 'c';
    redis_cmd('ZADD', 'agntkey:workspaces', map { (0, "!$_") } 1000 .. 1500);
    redis_cmd('ZADD', 'agntkey:workspaces', 0, 'b b', 0, "\xff",
              0, 'a' . ' x' x 5000);
    redis_cmd('ZADD', 'agntkey:workspaces', map { (0, "b $_") } 1000 .. 1500);

    same([all("workspaces?limit=$_", 'name')], ['a' .. 'c'],
         "foreign names, limit $_") for 1, 2, 50, 100;

    # As a page of its own, and the last one.
    redis_cmd('ZADD', 'agntkey:workspaces', map { (0, "d $_") } 1000 .. 1099);
    same([all("workspaces?limit=$_", 'name')], ['a' .. 'c'],
         "foreign names at the end, limit $_") for 1, 3, 100;

    # So many that a call gives up: that is said, and not taken for the end.
    redis_cmd('EVAL', q{for i = 1, 12000 do
                  redis.call('ZADD', KEYS[1], 0, '!' .. i) end}, 1,
              'agntkey:workspaces');

    my $res = http('GET /agntkey/workspaces', timeout => 30);

    is($res->{code}, 500, 'too many of them - 500');
    like($res->{body}, qr/"code":"internal"/, 'too many of them - a problem');
    is(redis_commands_count('zrangebylex') > 100, 1,
       'too many of them - after some search');
    is(scalar log_lines(qr/Redis holds something odd/), 1,
       'too many of them - a line in the log');
    is(api('GET workspaces?cursor=a')->{data}[0]{name}, 'b',
       'too many of them - others are found from where they are');

    redis_empty();
}


# --- what it costs

# The commands that Redis gets from others while the code runs, without those
# of scripts.

sub commands {
    my ($code) = @_;
    my $sock = IO::Socket::UNIX->new(Peer => $ENV{TEST_NGINX_REDIS_SOCK})
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

    # Ours come by the unix socket; and a connection may be new.
    return grep { !/^(?:PING|CLIENT)$/ }
           map { uc } $text =~ /\[\d+ 127\.0\.0\.1:\d+\] "(\w+)"/g;
}


sub cost {
    redis_empty();
    seed('cost', 1000);
    api('GET workspaces');

    for my $query ('', '&status=active', '&status=revoked') {
        my $page;
        my @got = commands(sub {
            $page = api("GET keys?workspace=cost&limit=100$query");
        });

        is("@got", 'EVAL', "100 keys$query are one command");
    }

    my $first = api('GET keys?workspace=cost&limit=100');
    my @got = commands(sub {
        my $page = api('GET keys?workspace=cost&limit=100'
                       . "&cursor=$first->{next_cursor}");
        is(scalar @{ $page->{data} }, 100, 'the next page');
    });

    is("@got", 'EVAL', 'and so are the next 100');

    seed_workspace("w$_") for 100 .. 199;
    @got = commands(sub { api('GET workspaces?limit=100') });
    is(shift @got, 'ZRANGEBYLEX', '100 workspaces: their names');
    is(scalar(grep { /^(?:HMGET|ZCARD)$/ } @got), 200,
       '100 workspaces: and what is known of each, in one go');
    is(scalar @got, 200, '100 workspaces: nothing else');

    @got = commands(sub { api('GET workspaces/w100') });
    cmp_ok(scalar @got, '<=', 2, 'one workspace');

    # The first one does not wait for its reply: see admin_faults.t, where the
    # replies are held back.
    my $id;

    # A change has to be made in time, by the clock of Redis.
    @got = commands(sub { $id = create('cost') });
    is("@got", 'TIME ZADD EVAL', 'creating is two commands, and the time');

    for my $call (['GET', ''], ['PATCH', '', { name => 'Weekly report' }],
                  ['POST', '/rotate'])
    {
        my ($method, $more, $body) = @$call;

        @got = commands(sub { api("$method keys/$id$more", $body) });
        is("@got", $method eq 'GET' ? 'EVAL' : 'TIME EVAL',
           "$method keys/{id}$more is one");
    }

    # One that writes; then, together, those that ask who has heard of it, and
    # whether it is on the disk.
    my $disk = Agntkey::Redis::version() >= 7.002 ? ' WAITAOF' : '';

    @got = commands(sub { api("POST keys/$id/revoke") });
    is("@got", "EVAL HMGET EVAL$disk", 'revoking is one, and a question');

    @got = commands(sub {
        api('PUT workspaces/cost', { status => 'disabled' });
    });
    is("@got", "TIME EVAL HMGET EVAL$disk",
       'switching a workspace off is one, and a question');

    @got = commands(sub {
        api('PUT workspaces/cost', { status => 'active' });
    });
    is("@got", 'TIME EVAL', 'switching it on is one');
}


# Any number of keys may have one time, and anybody may make a cursor up.

sub made_up {
    redis_empty();
    seed('equal', 100000, step => 0);

    my @want = in_order('equal');
    my $tag = workspace_tag('equal');
    my $at = redis_cmd('ZSCORE', tagged('index', 'equal'), $want[0]);
    my @ids = map { $tag . $_ } '0' x 8, 'zzzzzzzz', 'AAAAAAAA', 'aaaaaaaa',
              map { my $id = substr $want[$_], 4; $id =~ s/.\z/-/; $id }
              (1, 50000, 99999);

    for my $id (map { s/-\z/0/r } @ids, '0' x 12, 'z' x 12) {
        my @rest = grep { $_ lt $id } @want;

        redis_cmd('CONFIG', 'RESETSTAT');

        my $page = api("GET keys?workspace=equal&limit=5&cursor=$id.$at");

        same([map { $_->{id} } @{ $page->{data} }],
             [grep { defined } @rest[0 .. 4]], "made up: $id");

        my %calls = redis_cmd('INFO', 'commandstats')
            =~ /^cmdstat_(\w+):calls=(\d+)/mg;

        ok(!$calls{zrangebyscore} && !$calls{zrange},
           "made up: $id: not one by one");
        cmp_ok($calls{zrevrange}, '<=', 17 + 2,
               "made up: $id: in so many steps");
    }
}


sub many {
    redis_empty();
    seed('many', 100000, revoked => 50000);

    my @want = in_order('many');

    is(scalar @want, 100000, 'there are many');

    # The first page, and one from deep within.
    my $cursor = "$want[70000]."
                 . redis_cmd('ZSCORE', tagged('index', 'many'),
                             $want[70000]);

    for my $more ('', "&cursor=$cursor") {
        redis_cmd('CONFIG', 'RESETSTAT');

        my $page;
        my @got = commands(sub {
            $page = api("GET keys?workspace=many&limit=100$more");
        });
        my $first = $more eq '' ? 0 : 70001;

        is("@got", 'EVAL', "many$more - one command");
        same([map { $_->{id} } @{ $page->{data} }],
             [@want[$first .. $first + 99]], "many$more");
        cmp_ok(redis_commands_count('hmget'), '<=', 101,
               "many$more - only those are read");
    }

    my @pages = pages('keys?workspace=many&status=revoked', 'id');

    same([map { @$_ } @pages], [@want[0, 50000]], 'many, a rare status');
    cmp_ok(scalar @pages, '<=', 101, 'many, a rare status - calls');

    same([all('keys?workspace=many&limit=100', 'id')], \@want,
         'many, all of them');
    is(api('GET workspaces/many')->{keys}, 100000, 'many - counted');
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== the newest key comes first, on pages of any size
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::order();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== keys of one millisecond
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::equal_times();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== keys created between two pages shift nothing
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::created_meanwhile();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== keys created while somebody reads
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::created_at_once();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== keys of one status, however rare
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::statuses();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== the key of a cursor is gone
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::cursor_gone();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== the key of a cursor is gone, others are of its millisecond
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::cursor_gone_of_equals();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== workspaces by name
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::workspaces();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== workspaces among names that are none
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::foreign_names();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== a page is one command
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::cost();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]



=== a page of 100,000 keys is one command, too
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::many();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]
--- skip_eval: 15: $ENV{AGNTKEY_TEST_QUICK}



=== a cursor that was made up costs no more than another
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::made_up();
--- request
GET /agntkey/workspaces
--- response_headers
Content-Type: application/json
--- no_error_log
[alert]
