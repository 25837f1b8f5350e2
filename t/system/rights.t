# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The users of Redis that docs/keyspace.md names, word for word, on the server
# in PATH: it takes their rules, and they may do all that nginx does.  What is
# tried is the life of a key; Redis writes down each command that it denies.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use Test::More;

my $password = 'pass' . 'word';
my $newer = redis_version() >= 7;


# --- what the document says

# Blocks with ACL SETUSER: the text before each, and its rules.

my @blocks;

{
    open my $in, '<', 'docs/keyspace.md' or die "docs/keyspace.md: $!\n";
    local $/;

    my $before = '';

    for (split /^```/m, scalar <$in>) {
        push @blocks, { before => $before, user => $1,
                        rules => [split ' ', $2] }
            if /\Atext\nACL SETUSER (\S+) (.*)/s;

        $before = (split /\n\n/, s/\s+\z//r)[-1] // '';
    }
}

sub block {
    my ($user, $before) = @_;
    my @found = grep { $_->{user} eq $user && $_->{before} =~ $before }
                     @blocks;

    is(scalar @found, 1, "docs/keyspace.md: $user, $before: one block");
    return @{ $found[0]{rules} // [] };
}

my %rules = (
    'a cache' => [block('agntkey', qr/Redis 7\s.*Valkey:$/s)],
    'a cache, 6.2' => [block('agntkey', qr/Redis 6\.2, [^:]*:$/s)],
    'no cache' => [block('agntkey', qr/`agntkey_cache off`[^:]*enough:$/s)],
    'no cache, 6.2' => [block('agntkey', qr/^\s*On Redis 6\.2:$/s)],
    'the admin API' => [block('agntkey-admin', qr/needs a user that writes,/)],
    'WAITAOF' => [block('agntkey-admin', qr/for the `synced` of receipts:$/)],
);

is(scalar @blocks, scalar keys %rules, 'and there are no others');

for my $name ('a cache', 'no cache') {
    is(join(' ', map { $_ eq 'reset' ? ($_, 'resetchannels') : s/^%[RW]~/~/r }
                 @{ $rules{$name} }),
       join(' ', @{ $rules{"$name, 6.2"} }),
       "$name: the rules for 6.2 are the others, in its words");
}

is($rules{$_}[0], 'reset', "$_: from nothing")
    for grep { $_ ne 'WAITAOF' } sort keys %rules;


# --- the server takes them

sub user {
    my ($name, @rules) = @_;

    eval {
        redis_cmd('ACL', 'SETUSER', $name,
                  map { $_ eq '>password' ? ">$password" : $_ } @rules);
        1;
    } or return $@;

    return 'OK';
}

sub url {
    my ($name) = @_;

    return "agntkey_redis redis://$name:$password\@127.0.0.1:"
           . "$ENV{TEST_NGINX_REDIS_PORT};";
}

# What Redis has denied, to whichever user.

sub denied {
    return map { my %entry = @$_;
                 "$entry{username}: $entry{reason} $entry{object}" }
               @{ redis_cmd('ACL', 'LOG') };
}

my $server = <<'_EOC_';
add_header X-Cache "$agntkey_cache" always;
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
_EOC_

my $api = <<'_EOC_';
location /agntkey/ { agntkey_admin on; agntkey_admin_token_file off; }
_EOC_

my $check = $ENV{TEST_NGINX_PORT};
my $admin = free_port();

redis_start(args => ['--repl-diskless-sync-delay', '0',
                     '--appendonly', 'yes', '--appendfsync', 'always']);

my $replica = redis_server(name => 'replica', args => [
    '--replicaof', '127.0.0.1', $ENV{TEST_NGINX_REDIS_PORT},
    '--repl-diskless-sync-delay', '0']);

ok(wait_until(30, sub {
    $replica->cmd('INFO', 'replication') =~ /master_link_status:up/;
}), 'a replica');

ok(user('older', '%R~x:*') ne 'OK', 'before 7: the other words are refused')
    if !$newer;


# --- the life of a key

sub asks {
    my ($key) = @_;
    return said(http('GET /t', headers => bearer($key)));
}

sub admin_is {
    my ($call, $body, $code, $title, %opt) = @_;
    my $res = api($call, $body, port => $admin, %opt);

    is($res->{code}, $code, "$title: $code") or diag($res->{raw});
    return $res->{json};
}

sub life {
    my ($title, $workers) = @_;
    my @create = ('POST keys', { workspace => 'acme', name => 'one',
                                 scopes => ['a'] });
    my $one = admin_is(@create, 201, "$title: a key");
    my $id = $one->{id};

    like(asks($one->{key}), qr/^200 /, "$title: is accepted");
    is(asks(key_for('another')), '401 unknown MISS',
       "$title: another is unknown");

    ok(wait_until(20, sub { asks($one->{key}) eq '200 HIT' }),
       "$title: is remembered") if $workers;

    my $headers = ['Content-Type: application/json',
                   "Idempotency-Key: one-$workers"];

    admin_is(@create, 201, "$title: with a name of its own",
             headers => $headers);
    admin_is(@create, 409, "$title: and again", headers => $headers);

    admin_is("GET keys/$id", undef, 200, "$title: shown");

    my $page = admin_is('GET keys?workspace=acme&limit=1', undef, 200,
                        "$title: listed");

    my $cursor = $page->{next_cursor};

    $cursor =~ s/([^\w.-])/sprintf '%%%02X', ord $1/ge;

    admin_is("GET keys?workspace=acme&limit=1&cursor=$cursor", undef, 200,
             "$title: the next page");

    admin_is("PATCH keys/$id", { name => 'two', scopes => ['b'] }, 200,
             "$title: changed");
    admin_is("PATCH keys/$id", { expires_at => '2099-01-01T00:00:00Z' }, 200,
             "$title: an expiry");
    admin_is("PATCH keys/$id", { expires_at => undef }, 200,
             "$title: and none");

    my $next = admin_is("POST keys/$id/rotate", { overlap_seconds => 3600 },
                        201, "$title: rotated");

    admin_is('GET workspaces', undef, 200, "$title: workspaces");
    admin_is('GET workspaces/acme', undef, 200, "$title: a workspace");

    my $off = admin_is('PUT workspaces/acme', { status => 'disabled' }, 200,
                       "$title: disabled");
    is($off->{receipt}{acknowledged}, $workers, "$title: all have heard");
    like(asks($one->{key}), qr/^403 workspace_disabled/, "$title: refused");
    admin_is('PUT workspaces/acme', { status => 'active' }, 200,
             "$title: switched on");
    ok(wait_until(10, sub { asks($one->{key}) =~ /^200/ }),
       "$title: is accepted again");

    ok(wait_until(10, sub {
        api("GET keys/$id", undef, port => $admin)->{json}{last_used_at};
    }), "$title: its last use");

    # A replica may need a moment, and says so.
    my $revoked;

    ok(wait_until(20, sub {
        $revoked = api("POST keys/$id/revoke", undef, port => $admin)->{json};
        ($revoked->{receipt}{replicas} // 0) == 1;
    }), "$title: revoked, and the replica has it");
    is($revoked->{receipt}{acknowledged}, $workers, "$title: all have heard");
    like(asks($one->{key}), qr/^401 revoked/, "$title: refused");
    like(asks($next->{key}), qr/^200/, "$title: its successor is accepted");

    return $revoked->{receipt};
}

for my $cache ('a cache', 'no cache') {
    my $name = $newer ? $cache : "$cache, 6.2";
    my $on = $cache eq 'a cache';
    my $directives = ($on ? '' : 'agntkey_cache off;')
                     . ' agntkey_last_used 1s;';

    redis_cmd('FLUSHALL');
    is(user('agntkey', @{ $rules{$name} }), 'OK', "$name: the server takes it");
    is(user('agntkey-admin', @{ $rules{'the admin API'} }), 'OK',
       "$name: and that of the admin API");

    if (redis_version() >= 7.002) {
        is(user('agntkey-admin', @{ $rules{'WAITAOF'} }), 'OK',
           "$name: and WAITAOF");
    }

    redis_cmd('ACL', 'LOG', 'RESET');

    my @nginx = (
        Agntkey::Nginx->new(
            http => url('agntkey') . $directives, server => $server,
            workers => $on ? 2 : 1, log_level => 'notice',
            keep => qr/exited on signal 9/)->start,
        Agntkey::Nginx->new(
            http => url('agntkey-admin') . $directives, port => $admin,
            server => $server . $api, log_level => 'notice')->start,
    );

    life($cache, $on ? 3 : 0);

    # The registry names those that hold a lease; a worker that is killed
    # stays there, and is dropped when it is over.
    if ($on) {
        my $members = sub {
            scalar @{ redis_cmd('ZRANGE', 'agntkey:workers', 0, -1) };
        };

        kill 'KILL', ($nginx[0]->workers)[0];
        ok(wait_until(10, sub { $members->() == 4 }), 'one more worker');
        ok(wait_until(20, sub {
            api('PUT workspaces/acme', { status => 'disabled' },
                port => $admin);
            $members->() == 3;
        }), 'the one that was killed is dropped');

        ok(defined $_->quit, "$name: quit") for @nginx;
        is($members->(), 0, 'those that end leave the registry');

    } else {
        ok(defined $_->quit, "$name: quit") for @nginx;
    }

    for my $nginx (@nginx) {
        my @lines = grep { !/exited on signal 9|have not acknowledged/ }
                    $nginx->lines(qr/\[(?:warn|error|crit|alert|emerg)\]/);

        ok(!@lines, "$name: nothing in the log") or diag(@lines);
    }

    is(join("\n", denied()), '', "$name: Redis has denied nothing");
}


# --- no record can be made

for my $cache ('a cache', 'no cache') {
    my $name = $newer ? $cache : "$cache, 6.2";
    my $key = seed_key('mine');
    my $record = record_of('mine');
    my $new = record_of('made');

    is(user('agntkey', @{ $rules{$name} }), 'OK', "$name: once more");

    my $client = Agntkey::Redis->new(
        dir => redis()->dir, port => $ENV{TEST_NGINX_REDIS_PORT});

    $client->cmd('AUTH', 'agntkey', $password);

    for my $command (['HSET', $record, 'active', 1],
                     ['HSET', $new, 'active', 1],
                     ['EVAL', 'return redis.call("HSET",KEYS[1],"active","1")',
                      1, $new],
                     ['ZADD', $record, 1, 'x'], ['RENAME', $record, $new],
                     ['RESTORE', $new, 0, 'x'], ['COPY', $record, $new],
                     $newer ? (['DEL', $record], ['SET', $record, 1]) : ())
    {
        ok(!eval { $client->cmd(@$command); 1 }, "$name: no $command->[0]");
    }

    is(redis_cmd('HGET', $record, 'active'), 1, "$name: the record is there");
    is(redis_cmd('EXISTS', $new), 0, "$name: and no other");

    # What those of 6.2 can do, the document says.
    is($client->cmd('DEL', $record), 1, "$name: a record can be deleted")
        if !$newer;

    $client->disconnect;
}

$replica->stop;
logs_clean();
done_testing();
