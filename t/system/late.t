# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A change that Redis gets too late is none.  The call that made it has been
# answered by then, and whatever was called later stands.  And what ends a key,
# or takes scopes from it, is waited for as a revocation is.

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


# --- carried out after its time

# What Redis is sent, as MONITOR has it: a list for each command.

my ($monitor, $text);

sub listen_to_redis {
    $monitor = IO::Socket::UNIX->new(Peer => redis()->sock) or die "$!\n";
    $text = '';
    print {$monitor} "MONITOR\r\n";
    readline $monitor;
}

sub heard {
    my ($match) = @_;
    my @found;

    wait_until(5, sub {
        vec(my $set = '', fileno $monitor, 1) = 1;
        sysread $monitor, $text, 65536, length $text
            while select my $ready = $set, undef, undef, 0.05;

        @found = grep { "@$_" =~ $match } map {
            [map { s/\\x(..)|\\(.)/defined $1 ? chr hex $1
                                   : $2 eq 'n' ? "\n" : $2/ger }
             /"((?:[^"\\]|\\.)*)"/g]
        } grep { / lua\] /  ? 0 : 1 } split /\r\n/, $text;
        return @found > 0;
    });

    return @{ $found[-1] };
}

sub state_of {
    my ($key) = @_;
    return join "\n", map { unpack 'H*', redis_cmd('DUMP', $_) // '' }
                      sort @{ redis_cmd('KEYS', 'agntkey:*') };
}

{
    redis_empty();
    seed_key('one', scopes => 'a b');

    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'off', http => 'agntkey_redis_timeout 300ms;'))->start;
    my $id = key_id(key_for('one'));
    my $hour = time + 3600;
    my @time = gmtime $hour;
    my $soon = sprintf '%04d-%02d-%02dT%02d:%02d:%02dZ', $time[5] + 1900,
                       $time[4] + 1, @time[3, 2, 1, 0];

    # A change, and the later one that must stand.
    my @cases = (
        ['PUT active', ['PUT workspaces/acme', { status => 'active' }],
         ['PUT workspaces/acme', { status => 'disabled' }]],
        ['PUT disabled', ['PUT workspaces/acme', { status => 'disabled' }],
         ['PUT workspaces/acme', { status => 'active' }]],
        ['PATCH of the end', ["PATCH keys/$id", { expires_at => undef }],
         ["PATCH keys/$id", { expires_at => $soon }]],
        ['PATCH of scopes', ["PATCH keys/$id", { scopes => ['a', 'b'] }],
         ["PATCH keys/$id", { scopes => [] }]],
        ['PATCH of the name', ["PATCH keys/$id", { name => 'first' }],
         ["PATCH keys/$id", { name => 'second' }]],
        ['rotate', ["POST keys/$id/rotate", { overlap_seconds => 600 }],
         ["PATCH keys/$id", { name => 'third' }]],
        ['create', ['POST keys', { workspace => 'acme', name => 'new' }],
         ["PATCH keys/$id", { name => 'fourth' }]],
    );

    for my $case (@cases) {
        my ($title, $first, $second) = @$case;

        listen_to_redis();
        like(api(@$first)->{code}, qr/^20[01]$/, "$title: made in time");

        my @command = heard(qr/^EVAL local F=/);

        ok(@command > 4, "$title: as one script") or diag(explain(\@command));
        like($command[-1], qr/^\d{15}$/, "$title: that ends with a time");
        cmp_ok($command[-1], '<=', 1000 * time + 300,
               "$title: as long as a command may take");
        is(api(@$second)->{code}, 200, "$title: something else is called");

        ok(wait_until(5, sub { 1000 * time > $command[-1] + 50 }),
           "$title: its time is over");

        my $state = state_of();

        is_deeply(redis_cmd(@command), ['late'], "$title: Redis refuses it");
        is(state_of(), $state, "$title: and nothing has changed");
    }

    # A revocation may come at any time.
    listen_to_redis();
    is(api("POST keys/$id/revoke")->{code}, 200, 'revoke: in time');

    my @command = heard(qr/^EVAL local F=.*'HDEL',KEYS\[1\],'active'/);

    redis_cmd('HSET', record_of('one'), 'active', 1);
    redis_cmd(@command);
    is(redis_cmd('HEXISTS', record_of('one'), 'active'), 0,
       'revoke: and late');
    ok(defined $nginx->quit, 'quit');
}


# --- what was lost is answered when its time is over

{
    redis_empty();
    seed_key('one');

    my $proxy = proxy();
    my $nginx = Agntkey::Nginx->new(cached(
        cache => 'off', http => 'agntkey_redis_timeout 700ms;',
        redis => "redis://127.0.0.1:$ENV{TEST_NGINX_PROXY_PORT}"))->start;
    my $id = key_id(key_for('one'));

    for my $call (['PUT workspaces/acme', { status => 'active' }],
                  ["PATCH keys/$id", { name => 'other' }],
                  ['POST keys', { workspace => 'acme', name => 'new' }],
                  ["POST keys/$id/rotate"])
    {
        ok(wait_until(10, sub { api('GET workspaces')->{code} eq '200' }),
           "$call->[0], lost: before");

        $proxy->pause_after('up', 'EVAL');

        my $client = api_start(@$call);

        ok(wait_until(5, sub { $proxy->held }), "$call->[0], lost: sent");

        my $now = time;

        $proxy->cut;
        $proxy->resume;

        my $res = $client->response(5);

        like($res->{body}, qr/"code":"store_unknown"/,
             "$call->[0], lost: unknown") or diag($res->{raw});
        cmp_ok(time - $now, '>=', 0.5, "$call->[0], lost: and over");
    }

    # One that has not left is not waited for.
    $proxy->refuse;
    $proxy->cut;

    my $res = api('PUT workspaces/acme', { status => 'active' });

    is($res->{json}{code}, 'store_unavailable', 'not sent: unavailable');
    $proxy->accept;

    # Who has asked may go, and the worker may end, while it is waited.
    ok(wait_until(10, sub { api('GET workspaces')->{code} eq '200' }),
       'a client that leaves: before');
    $proxy->pause_after('up', 'EVAL');

    my $client = api_start('PUT workspaces/acme', { status => 'active' });

    ok(wait_until(5, sub { $proxy->held }), 'a client that leaves: sent');
    $proxy->cut;
    $proxy->resume;
    $client->leave;
    is(asked('one'), '200 MISS', 'a client that leaves: nginx goes on');
    ok(defined $nginx->quit, 'quit');
    $proxy->stop;
}


# --- what ends a key is waited for

{
    my $other = free_port();
    my $lease = 1000;
    my $now = 0;
    my $at = sub {
        my @time = gmtime(time + $_[0]);

        return sprintf '%04d-%02d-%02dT%02d:%02d:%02dZ', $time[5] + 1900,
                       $time[4] + 1, @time[3, 2, 1, 0];
    };

    # A call, and whether a worker that is cut off may go on by what it has.
    my @cases = (
        ['rotate, no overlap', 'POST keys/%s/rotate',
         sub { +{ overlap_seconds => 0 } }, 1],
        ['rotate, a short overlap', 'POST keys/%s/rotate',
         sub { +{ overlap_seconds => 1 } }, 1],
        ['rotate, a long overlap', 'POST keys/%s/rotate',
         sub { +{ overlap_seconds => 3600 } }, 0],
        ['an end that is near', 'PATCH keys/%s',
         sub { +{ expires_at => $at->(3) } }, 1],
        ['an end that is far', 'PATCH keys/%s',
         sub { +{ expires_at => $at->(3600) } }, 0],
        ['no end', 'PATCH keys/%s', sub { +{ expires_at => undef } }, 0],
        ['fewer scopes', 'PATCH keys/%s', sub { +{ scopes => [] } }, 1],
        ['another name', 'PATCH keys/%s', sub { +{ name => 'other' } }, 0],
    );

    for my $case (@cases) {
        my ($title, $call, $body, $waits) = @$case;

        redis_empty();
        seed_key('one', scopes => 'a b');

        my $proxy = proxy();
        my %common = (cache => "entries=100 lease=${lease}ms",
                      server => 'location /a { agntkey on; agntkey_scope a;
                                               empty_gif; }');
        my $nginx = Agntkey::Nginx->new(cached(%common))->start;
        my $cut_off = Agntkey::Nginx->new(port => $other, cached(%common,
            redis => "redis://127.0.0.1:$ENV{TEST_NGINX_PROXY_PORT}",
            http => 'agntkey_redis_timeout 20s;'))->start;

        ok(hit('one'), "$title: a hit");
        ok(hit('one', port => $other), "$title: a hit of another host");
        $proxy->pause('both');

        my $id = key_id(key_for('one'));
        my $res = api(sprintf($call, $id), $body->());
        my $receipt = $res->{json}{receipt};

        like($res->{code}, qr/^20[01]$/, "$title: done") or diag($res->{raw});

        if ($waits) {
            is($receipt->{workers}, 2, "$title: both are asked");
            is($receipt->{acknowledged}, 1, "$title: one answers");
            cmp_ok($receipt->{took_ms}, '>=', $lease / 2,
                   "$title: the lease of the other was waited for");

            # It has no lease left, and gets nothing from Redis.
            my $client = asked_start('one', line => 'GET /a', port => $other);

            ok(!$client->started(0.3), "$title: no hit of the other host")
                or diag(said($client->response));
            $client->leave;

        } else {
            is($receipt, undef, "$title: nobody is waited for");
        }

        $proxy->cut;
        $proxy->resume;
        ok(defined $nginx->quit && defined $cut_off->quit, "$title: quit");
        $proxy->stop;
    }
}


# --- and must still be there

{
    my $fake = "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}";
    my $string = sub { defined $_[0] ? '$' . length($_[0]) . "\r\n$_[0]\r\n"
                                     : "\$-1\r\n" };
    my $row = sub {
        my ($scopes, $end) = @_;
        return "*9\r\n" . join '', map { $string->($_) }
               '0' x 64, 1, 'acme', 'one', $scopes, '1700000000000', $end,
               undef, undef;
    };
    my $end = 1000 * int(time + 30);

    for my $case (
        ['scopes: there', { scopes => ['a'] }, ['a', undef],
         [1, 'a', undef], 200],
        ['scopes: others', { scopes => ['a'] }, ['a', undef],
         [1, 'a b', undef], 503],
        ['scopes: none were to be', { scopes => [] }, ['', undef],
         [1, 'a b', undef], 503],
        ['scopes: gone, as they were to be', { scopes => [] }, ['', undef],
         [1, undef, undef], 200],
        ['the end: there', { expires_at => 'end' }, ['', $end],
         [1, '', $end], 200],
        ['the end: gone', { expires_at => 'end' }, ['', $end],
         [1, '', undef], 503],
        ['the end: later', { expires_at => 'end' }, ['', $end],
         [1, '', $end + 1000], 503],
        ['revoked meanwhile', { expires_at => 'end' }, ['', $end],
         [undef, '', undef], 200],
    ) {
        my ($title, $body, $written, $read, $want) = @$case;
        my @time = gmtime($end / 1000);

        $body->{expires_at} = sprintf '%04d-%02d-%02dT%02d:%02d:%02dZ',
            $time[5] + 1900, $time[4] + 1, @time[3, 2, 1, 0]
            if $body->{expires_at};

        fake_redis(keys => ['one'], rules => [
            { match => qr/^EVAL local F=/, do => $row->(@$written) },
            { match => qr/^HMGET \S+ active scopes expires_at$/,
              do => "*3\r\n" . join '', map { $string->($_) } @$read },
        ]);

        my $nginx = Agntkey::Nginx->new(cached(redis => $fake,
                                               cache => 'off'))->start;
        my $res = api('PATCH keys/' . key_id(key_for('one')), $body);

        is($res->{code}, $want, "$title: $want") or diag($res->{raw});
        is($res->{json}{code}, 'store_unknown', "$title: unknown")
            if $want == 503;
        ok(defined $nginx->quit, "$title: quit");
    }
}


# A new key that nobody will see is named.

{
    my $string = sub { '$' . length($_[0]) . "\r\n$_[0]\r\n" };
    my $row = "*9\r\n" . join '', map { defined ? $string->($_) : "\$-1\r\n" }
              '0' x 64, 1, 'acme', 'one', '', '1700000000000', undef, undef,
              undef;
    my $end = 1000 * time;

    fake_redis(keys => ['one'], rules => [
        { match => qr/^EVAL local F=/,
          do => "*3\r\n" . $string->('ok') . $row . $string->($end) },
        { match => qr/^HMGET \S+ active scopes expires_at$/,
          do => "*3\r\n" . $string->(1) . $string->('') . "\$-1\r\n" },
    ]);

    my $nginx = Agntkey::Nginx->new(cached(
        redis => "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}",
        cache => 'off'))->start;
    my $old = key_id(key_for('one'));
    my $res = api("POST keys/$old/rotate", { overlap_seconds => 0 });
    my ($command) = fake_commands(qr/^EVAL local\\x20F=.*$old/);
    my ($tag, $random) = $command =~ /\{(....)\}(\w{8}) $old/;

    is($res->{json}{code}, 'store_unknown', 'rotate, the end is gone: unknown')
        or diag($res->{raw});
    is($res->{json}{id}, "$tag$random",
       'rotate, the end is gone: which key is new');
    ok(!exists $res->{json}{key}, 'rotate, the end is gone: and not shown');
    ok(defined $nginx->quit, 'quit');
}

logs_clean();
done_testing();
