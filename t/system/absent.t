# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What is not in Redis, or is there and makes no sense, is not taken for the
# better case by a call of the admin API: a workspace whose record is gone does
# not come back with its next key, and a record without a good end gets none.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use Test::More;

redis_start();

my $tag = workspace_tag('acme');
my $record = "agntkey:workspace:{$tag}acme";
my $new = { workspace => 'acme', name => 'Report' };

my $nginx = Agntkey::Nginx->new(cached(cache => 'off'))->start;

sub named { return map { "agntkey:$_:{$tag}acme" } @_ }

sub everything {
    return join "\n", map { $_ . ' ' . unpack 'H*', redis_cmd('DUMP', $_) }
                      sort @{ redis_cmd('KEYS', 'agntkey:*') };
}

sub is_code {
    my ($res, $want, $title) = @_;

    if (my $key = $res->{json}{key}) {
        $Agntkey::Key::made{$_} = 1 for $key, key_secret($key);
    }

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(join(' ', $res->{code}, $res->{json}{code} // ()), $want, $title)
        or diag($res->{raw});
}

sub asks {
    my ($key) = @_;
    return said(http('GET /t', headers => bearer($key)));
}


# --- a workspace without a record

for my $case (
    ['its record', [], 409],
    ['its record and the index', [named('index')], 409],
    ['its record and the set of keys', [named('live')], 409],
    ['its record, index and set', [named(qw(index live))], 409],
    ['its record and the audit stream', [named('audit')], 409],
    ['all but its keys', [named(qw(index live audit))], 201],
) {
    my ($title, $deleted, $want) = @$case;

    redis_empty();

    my $first = api('POST keys', $new);
    my $key = $first->{json}{key};

    is_code($first, '201', "$title: the first key");
    is(asks($key), '200 MISS', "$title: is accepted");
    redis_cmd('DEL', $record, @$deleted);
    is(asks($key), '403 workspace_disabled MISS', "$title: gone, refused");
    is_code(api('PUT workspaces/acme', { status => 'active' }),
            '404 not_found', "$title: cannot be switched on");

    my $all = everything();
    my $res = api('POST keys', $new);

    if ($want == 201) {
        is_code($res, '201', "$title: a new workspace");
        next;
    }

    is_code($res, '409 workspace_deleted', "$title: no other key");
    is(everything(), $all, "$title: nothing was written");
    is(asks($key), '403 workspace_disabled MISS', "$title: still refused");

    # What the document says: written by hand, and then switched on.
    redis_cmd('HSET', $record, 'created_at', 1700000000000);
    is_code(api('POST keys', $new), '201', "$title: there again, a key");
    is(asks($key), '403 workspace_disabled MISS', "$title: there, disabled");
    is_code(api('PUT workspaces/acme', { status => 'active' }), '200',
            "$title: switched on");
    is(asks($key), '200 MISS', "$title: accepted");
}


# --- a record that has only what it needs

{
    redis_empty();

    my $key = seed_key('one');

    redis_cmd('HDEL', $record, 'created_at');
    is(asks($key), '200 MISS', 'only active: accepted');
    redis_cmd('HDEL', $record, 'active');
    is(redis_cmd('EXISTS', $record), 0, 'only active: no field, no record');
    is(asks($key), '403 workspace_disabled MISS', 'only active: refused');
    is_code(api('POST keys', $new), '409 workspace_deleted',
            'only active: a key does not switch it on');
    is(asks($key), '403 workspace_disabled MISS', 'only active: refused');

    # By a call there is something left.
    redis_cmd('HSET', $record, 'active', 1);
    is_code(api('PUT workspaces/acme', { status => 'disabled' }), '200',
            'only active: disabled');
    is(redis_cmd('HEXISTS', $record, 'created_at'), 1,
       'only active: and there');
    is_code(api('POST keys', $new), '201', 'only active: a key');
    is(asks($key), '403 workspace_disabled MISS', 'only active: refused');
}


# --- a record of a key that makes no sense is not made good by rotating it

for my $fields (map({ [expires_at => $_] }
                    '', 'x', 'nan', '-nan', 'inf', '0x7fffffffffff', '1e13',
                    '-1', ' 4102444800000', '4102444800000 ',
                    '4102444800000.5', "4102444800000\0", '253402300800000',
                    '9' x 20),
                [name => undef])
{
    my ($field, $value) = @$fields;
    my $title = "$field " . ($value // 'absent') =~ s/\0/\\0/r;

    redis_empty();

    my $key = seed_key('one');
    my $path = 'keys/' . key_id($key);

    redis_cmd(defined $value ? ('HSET', record_of('one'), $field, $value)
                             : ('HDEL', record_of('one'), $field));
    is(asks($key), '503 store_unavailable MISS', "$title: not accepted");

    my $all = everything();

    for my $body ({ overlap_seconds => 600 }, { overlap_seconds => 0 },
                  { name => 'Report' })
    {
        is_code(api("POST $path/rotate", $body), '500 internal',
                "$title: not rotated");
    }

    is(everything(), $all, "$title: nothing was written");
    is(asks($key), '503 store_unavailable MISS', "$title: not accepted");
}

# What is so by rights.

{
    redis_empty();
    seed_key('one');

    my $path = 'keys/' . key_id(key_for('one'));

    redis_cmd('HDEL', record_of('one'), 'scopes', 'expires_at');

    my $res = api("POST $path/rotate");

    is_code($res, '201', 'no scopes and no end: rotated');
    is_deeply($res->{json}{scopes}, [], 'no scopes and no end: no scopes');
    redis_cmd('HSET', record_of('one'), 'expires_at', 0);
    is_code(api("POST $path/rotate"), '409 key_expired', 'the end is 0');
}

ok(defined $nginx->quit, 'quit');
logs_clean();
done_testing();
