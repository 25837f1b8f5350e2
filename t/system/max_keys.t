# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# agntkey_admin_max_keys: a workspace has so many keys that are not revoked,
# and not one more; whatever was revoked, by a call or by hand, makes room.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use JSON::PP ();
use Test::More;

redis_start();

my $tag = workspace_tag('acme');
my $live = "agntkey:live:{$tag}acme";

my $nginx = Agntkey::Nginx->new(cached(
    cache => 'off',
    http => 'limit_req_zone $binary_remote_addr zone=admin:1m rate=1r/m;',
    server => <<'_EOC_'
location /slow/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
    limit_req zone=admin burst=2 nodelay;
    limit_req_status 429;
}
location /three/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
    agntkey_admin_max_keys 3;
}
location /within/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
    agntkey_admin_max_keys 3;
    if ($arg_none) { }
    limit_except GET { allow all; }
}
location /400/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
    agntkey_admin_max_keys 400;
}
_EOC_
))->start;

sub call {
    my ($prefix, $call, $body, @headers) = @_;
    my ($method, $path) = split / /, $call, 2;
    my $res = http("$method /$prefix/$path", timeout => 15,
                   headers => ['Content-Type: application/json', @headers],
                   body => JSON::PP->new->encode($body // {}));

    $res->{json} = eval { JSON::PP->new->decode($res->{body}) } // {};
    $res->{is} = join ' ', $res->{code}, $res->{json}{code} // ();

    if (my $key = $res->{json}{key}) {
        $Agntkey::Key::made{$_} = 1 for $key, key_secret($key);
    }

    return $res;
}

sub create {
    my ($prefix, $workspace, @headers) = @_;

    return call($prefix, 'POST keys', { workspace => $workspace // 'acme',
                                        name => 'Report' }, @headers);
}

sub is_answer {
    my ($res, $want, $title) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($res->{is}, $want, $title) || diag($res->{raw});
}

sub made {
    my ($prefix, $n) = @_;

    return map {
        my $res = create($prefix);
        is_answer($res, '201', "/$prefix/: key $_");
        $res->{json}{id};
    } 1 .. $n;
}

sub record { return 'agntkey:key:{' . substr($_[0], 0, 4) . '}'
                    . substr $_[0], 4 }

sub everything {
    return join "\n", map { $_ . ' ' . unpack 'H*', redis_cmd('DUMP', $_) }
                      sort @{ redis_cmd('KEYS', 'agntkey:*') };
}


# --- so many, and not one more

for my $prefix ('three', 'within') {
    redis_empty();

    my @ids = made($prefix, 3);

    is(redis_cmd('SCARD', $live), 3, "/$prefix/: three are counted");

    my $all = everything();

    is_answer(create($prefix), '409 too_many_keys', "/$prefix/: no fourth");
    is_answer(create($prefix, 'acme', 'Idempotency-Key: fourth'),
              '409 too_many_keys', "/$prefix/: nor with a value of its own");
    is_answer(call($prefix, "POST keys/$ids[0]/rotate"),
              '409 too_many_keys', "/$prefix/: nor by rotating");
    is(everything(), $all, "/$prefix/: and nothing was written");

    is_answer(create($prefix, 'other'), '201',
              "/$prefix/: another workspace has room");
    is_answer(create('agntkey'), '201',
              "/$prefix/: a location without the directive allows more");
    is_answer(call($prefix, "PATCH keys/$ids[0]", { name => 'b' }), '200',
              "/$prefix/: others may be changed");

    is_answer(call($prefix, "POST keys/$_/revoke"), '200',
              "/$prefix/: revoked") for @ids[0, 1];
    is(redis_cmd('SCARD', $live), 2, "/$prefix/: two are left");
    is_answer(call($prefix, "POST keys/$ids[0]/revoke"), '200',
              "/$prefix/: and again");
    is_answer(create($prefix, 'acme', 'Idempotency-Key: fourth'), '201',
              "/$prefix/: then one more, by the value that was refused");
    is_answer(create($prefix), '409 too_many_keys', "/$prefix/: and no other");
    is_answer(create($prefix, 'acme', 'Idempotency-Key: fourth'),
              '409 idempotency_conflict', "/$prefix/: a repetition is one");
}


# --- one that has expired, and one that was rotated, count

{
    redis_empty();

    my ($id) = made('three', 1);
    my $res = call('three', "POST keys/$id/rotate", { overlap_seconds => 0 });

    is_answer($res, '201', 'rotated');
    is(redis_cmd('SCARD', $live), 2, 'rotated: both are counted');
    is(call('three', "GET keys/$id")->{json}{status}, 'expired',
       'rotated: the old one has expired');
    is_answer(create('three'), '201', 'a third');
    is_answer(create('three'), '409 too_many_keys', 'no fourth');
    is_answer(call('three', "POST keys/$id/revoke"), '200',
              'the expired one is revoked');
    is_answer(create('three'), '201', 'then there is room');
}


# --- what was revoked by hand, or is gone, makes room when it is needed

{
    redis_empty();

    my @ids = made('three', 3);

    redis_cmd('HDEL', record($ids[0]), 'active');
    is_answer(create('three'), '201', 'revoked by hand: one more');
    is_answer(create('three'), '409 too_many_keys', 'and no other');
    redis_cmd('DEL', record($ids[1]));
    is_answer(create('three'), '201', 'deleted by hand: one more');
    is_answer(create('three'), '409 too_many_keys', 'and no other');
    redis_cmd('DEL', record($ids[2]));
    redis_cmd('SET', record($ids[2]), 'something else');
    is_answer(create('three'), '201', 'something else in its place: one more');
    redis_cmd('HSET', record((@{ redis_cmd('SMEMBERS', $live) })[0]), 'active',
              '0');
    is_answer(create('three'), '201', 'another word than "1": one more');
    redis_cmd('SADD', $live, 'x', '', 'none of ours' x 1000);
    is_answer(create('three'), '409 too_many_keys',
              'what is no id makes no room either');
    is(redis_cmd('SCARD', $live), 3, 'and is not kept');

    # Keys that were written by hand do not count.
    redis_empty();
    seed_key("key $_") for 1 .. 5;
    made('three', 3);
    is_answer(create('three'), '409 too_many_keys',
              'five by hand, three by calls: no other');

    # Many, of which a call looks at some.
    redis_empty();
    seed_workspace('acme');
    redis_cmd('EVAL', q{for i = 1, 400 do
        local random = string.format('%08d', i)
        redis.call('SADD', KEYS[1], ARGV[1] .. random)
        if i % 4 == 0 then redis.call('HSET', 'agntkey:key:{' .. ARGV[1] ..
            '}' .. random, 'active', '1') end
    end}, 1, $live, $tag);

    is_answer(create('400'), '201', '300 of 400 were revoked: one more');
    cmp_ok(redis_cmd('SCARD', $live), '>=', 301,
           'and no more than 100 were looked at');
    made('400', 5);
}


# --- a full Redis, and rights that are missing

{
    redis_empty();

    my @ids = made('three', 3);

    redis_cmd('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    redis_cmd('CONFIG', 'SET', 'maxmemory', '1mb');
    is_answer(call('three', "POST keys/$ids[0]/revoke"), '200',
              'full: revoked');
    is(redis_cmd('SISMEMBER', $live, $ids[0]), 0, 'full: and not counted');
    redis_cmd('CONFIG', 'SET', 'maxmemory', '0');
    is_answer(create('three'), '201', 'full no more: one more');

    for my $right (qw(sadd scard)) {
        redis_empty();
        redis_cmd('ACL', 'SETUSER', 'default', "-$right");

        my $res = create('three');

        like($res->{is}, qr/^503 store_un(?:known|available)$/,
             "without the right to $right: 503") or diag($res->{raw});
        ok($nginx->lines(qr/an admin call with: .*(?:permissions|can't run)/),
           "without the right to $right: a line says so");
        is(scalar @{ redis_cmd('KEYS', 'agntkey:key:*') }, 0,
           "without the right to $right: and no key");
        redis_cmd('ACL', 'SETUSER', 'default', "+$right");
        is_answer(create('three'), '201', "with it: 201");
    }

    for my $right (qw(srandmember srem hget)) {
        redis_empty();
        @ids = made('three', 3);
        redis_cmd('HDEL', record($ids[0]), 'active');
        redis_cmd('ACL', 'SETUSER', 'default', "-$right");

        my $res = create('three');

        like($res->{is}, qr/^503 store_un(?:known|available)$/,
             "too many, without the right to $right: 503")
            or diag($res->{raw});
        is(redis_cmd('SCARD', $live), 3,
           "too many, without the right to $right: none is forgotten");
        redis_cmd('ACL', 'SETUSER', 'default', "+$right");
    }

    redis_empty();
    @ids = made('three', 3);
    redis_cmd('ACL', 'SETUSER', 'default', '-srem');
    is_answer(call('three', "POST keys/$ids[0]/revoke"), '200',
              'without the right to srem: revoked all the same');
    redis_cmd('ACL', 'SETUSER', 'default', '+srem');
    is_answer(create('three'), '201', 'and room is made later');

    redis_empty();
    seed_workspace('acme');
    redis_cmd('SET', $live, 'something else');
    like(create('three')->{is}, qr/^503 /, 'another type there: 503');
    is(scalar @{ redis_cmd('KEYS', 'agntkey:key:*') }, 0, 'and no key');
}


# --- and who makes and revokes them all the time is held up by nginx

{
    redis_empty();

    my @is = map { create('slow')->{is} } 1 .. 5;

    is("@is", '201 201 201 429 429', 'limit_req counts calls');
}

ok(defined $nginx->quit, 'quit');
logs_clean();
done_testing();
